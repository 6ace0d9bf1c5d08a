"""Write files so that a kill never leaves half of one, and name what is in them by a digest."""

import contextlib
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # only tables need pandas, and not every importer of this module writes one
    import pandas as pd


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and put it in place when the block ends without an error.

    Parameters
    ----------
    path : the file to write; its folder is made when missing, an existing file is replaced.

    Yields
    ------
    Path : a hidden sibling with the same suffix, so that writers that look at the suffix behave alike.
        It is removed when the block raises, and ``path`` is then as it was.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic(f"{folder}/a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     print([file.name for file in Path(folder).iterdir()])
    ['a.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    r"""Write ``text`` to ``path`` atomically, as UTF-8 and with its line ends as they are.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(f"{folder}/a/b.txt", "one\ntwo\n")
    ...     Path(folder, "a/b.txt").read_bytes()
    b'one\ntwo\n'
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_table(frame: "pd.DataFrame", path: str | Path) -> None:
    r"""Write a table to ``path`` atomically: tab separated, no index, ``\n`` line ends, floats in full.

    Parameters
    ----------
    frame : any table; floats are written with the fewest digits that read back to the same number,
        missing values as empty cells.
    path : the ``.tsv`` file to write.

    Examples
    --------
    >>> import pandas as pd
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_table(pd.DataFrame({"image": ["a.jpg"], "dice": [0.1 + 0.2]}), f"{folder}/t.tsv")
    ...     Path(folder, "t.tsv").read_text()
    'image\tdice\na.jpg\t0.30000000000000004\n'
    """
    with atomic(path) as temporary:
        frame.to_csv(temporary, sep="\t", index=False, lineterminator="\n", encoding="utf-8")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(f"{folder}/empty", "")
    ...     sha256(f"{folder}/empty")[:16]
    'e3b0c44298fc1c14'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Return the SHA-256 of a plain value's canonical JSON: the same for values that mean the same.

    Parameters
    ----------
    value : nested mappings, lists, tuples, text, numbers, booleans and None. The order of keys does not
        count, nor whether a whole number is written as an integer or as a float.

    Returns
    -------
    str : 64 hexadecimal digits.

    Raises
    ------
    TypeError : for anything that is not plain.
    ValueError : for NaN and infinities, which JSON cannot hold.

    Examples
    --------
    >>> digest({"batch": 8, "rate": 1.0}) == digest({"rate": 1, "batch": 8.0})
    True
    """
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
