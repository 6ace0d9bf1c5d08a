"""Write files so that a kill never leaves half of one, notice one that is cut short, and name content by a digest."""

import contextlib
import errno
import glob
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cloudseg.commands import command
from cloudseg.errors import DamagedFileError, DiskFullError, UserError

if TYPE_CHECKING:  # only tables need pandas, and not every importer of this module writes one
    import pandas as pd


Damaged = TypeVar("Damaged", bound=DamagedFileError)

FULL = 2**20
"""Free bytes below which a disk counts as full: a writer may fail before it fills the last blocks."""


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and put it in place when the block ends without an error.

    The bytes are on the disk before they get their name, and the name is on the disk before this returns: after a power
    cut ``path`` holds the old content or the new one, and is not an empty file. The file has the mode that the umask
    gives, whatever mode its writer chose.

    Parameters
    ----------
    path : the file to write; its folder is made when missing, an existing file is replaced.

    Yields
    ------
    Path : a hidden sibling with the same suffix, so that writers that look at the suffix behave alike.
        It is removed when the block raises, and ``path`` is then as it was.

    Raises
    ------
    DiskFullError : if the block raises anything but a UserError while the disk is full, whatever its error says:
        PyTorch's is about an unexpected position. Any other error gets a note with the name of the file.

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
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        mode = _mode_of_a_new_file(temporary)
        yield temporary
        temporary.chmod(mode)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except UserError:  # names the problem already
        raise
    except Exception as error:
        no_space = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if no_space or shutil.disk_usage(path.parent).free < FULL:
            raise DiskFullError(
                f"{path}: {os.strerror(errno.ENOSPC)}; make room and run the same command again"
            ) from error
        error.add_note(f"while writing {path}")
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _mode_of_a_new_file(path: Path) -> int:
    """Return the mode by making a file: the umask can only be read by setting it, for all threads."""
    path.touch(exist_ok=False)
    mode = path.stat().st_mode
    path.unlink()
    return mode


def sync(path: str | Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on the disk.

    Parameters
    ----------
    path : a file, whoever wrote it, or a folder. File systems that cannot do this for folders are left alone.

    Raises
    ------
    OSError : if the disk did not take the bytes, or there is no such file.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not Path(path).is_dir():
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: str | Path) -> None:
    """Make a folder and those above it, where they are missing, so that a power cut does not lose them.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     make_folder(f"{folder}/a/b")
    ...     Path(folder, "a/b").is_dir()
    True
    """
    folder = Path(folder)
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in new:
        sync(each.parent)


def sync_tree(folder: str | Path) -> None:
    """Wait until everything in a folder, files and names, is on the disk.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     make_folder(f"{folder}/a")
    ...     sync_tree(folder)
    """
    for each, _, names in os.walk(folder):
        for name in names:
            sync(Path(each, name))
        sync(each)


def remove_leftovers(path: str | Path) -> None:
    """Remove the temporary files that killed writers of a file left; no writer may be at work on it.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, f".a.{uuid.uuid4().hex}.txt").write_text("ha")
    ...     remove_leftovers(f"{folder}/a.txt")
    ...     list(Path(folder).iterdir())
    []
    """
    path = Path(path)
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.{'[0-9a-f]' * 32}{glob.escape(path.suffix)}"):
        leftover.unlink(missing_ok=True)


def remove(path: str | Path) -> None:
    """Remove a file, a folder and all in it, or a link to one; nothing happens if it is not there.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     make_folder(f"{folder}/a/b")
    ...     remove(f"{folder}/a")
    ...     list(Path(folder).iterdir())
    []
    """
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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


def read_text(path: str | Path) -> str:
    r"""Read a text file that ends with a line break, as all text files of jobs do.

    Parameters
    ----------
    path : a file in UTF-8.

    Raises
    ------
    DamagedFileError : if the file is empty, breaks off within a line, or is no such text.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(f"{folder}/a.txt", "one\ntwo\n")
    ...     read_text(f"{folder}/a.txt")
    'one\ntwo\n'
    """
    try:
        text = Path(path).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise damaged(path, f"not a text ({error})") from error
    if not text.endswith("\n"):
        raise damaged(path, "its last line does not end" if text else "an empty file")
    return text


def read_table(path: str | Path, **options: Any) -> "pd.DataFrame":
    r"""Read a table that :func:`write_table` wrote.

    Parameters
    ----------
    path : the ``.tsv`` file.
    options : of ``pandas.read_csv``, such as ``dtype``. An empty cell is a missing value, and no word is one: a class
        may be called NA. ``keep_default_na=False`` keeps empty cells as text.

    Raises
    ------
    DamagedFileError : if the file is empty, breaks off within a line, or does not hold what ``options`` ask for. A
        table that breaks off between two lines looks whole: a reader who knows how many there must be counts them.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(f"{folder}/t.tsv", "image\tfold\na.jpg\t0\n")
    ...     read_table(f"{folder}/t.tsv").to_dict("list")
    {'image': ['a.jpg'], 'fold': [0]}
    """
    import pandas as pd

    text = read_text(path).encode()  # pandas takes four bytes for each letter of a text
    if "keep_default_na" not in options:
        options |= {"keep_default_na": False, "na_values": [""]}
    try:
        return pd.read_csv(io.BytesIO(text), sep="\t", **options)
    except ValueError as error:
        raise damaged(path, f"not the table that was written ({error})") from error


def read_json(path: str | Path) -> Any:
    r"""Read a JSON file that ends with a line break, as all JSON files of jobs do.

    Parameters
    ----------
    path : the file.

    Raises
    ------
    DamagedFileError : if it is cut short or no JSON.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(f"{folder}/run.json", '{"seed": 1}\n')
    ...     read_json(f"{folder}/run.json")
    {'seed': 1}
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, a number without end, a nest without end
        raise damaged(path, f"not whole JSON ({error})") from error


def damaged(path: str | Path, reason: str, kind: type[Damaged] = DamagedFileError) -> Damaged:
    """Return the error for a file that is not as a job wrote it.

    Parameters
    ----------
    path : the file.
    reason : what is wrong with it.
    kind : class of the error.

    Examples
    --------
    >>> str(damaged("results/demo/dataset/folds.tsv", "an empty file"))
    'results/demo/dataset/folds.tsv: an empty file; to have it made again, type: snakemake verify --config remove=true'
    """
    return kind(f"{path}: {reason}; {advice()}")


def advice() -> str:
    """Return what to do about a damaged file."""
    return f"to have it made again, type: {command('verify', settings=['remove=true'])}"


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
    return hashlib.sha256(_json(value)).hexdigest()


def digest_of_items(items: Iterable[Any]) -> str:
    """Return :func:`digest` of a list of plain values that are asked for one by one, and not kept.

    Examples
    --------
    >>> digest_of_items(iter([1, ["a"]])) == digest([1, ["a"]]), digest_of_items([]) == digest([])
    (True, True)
    """
    hashed = hashlib.sha256(b"[")
    for number, item in enumerate(items):
        hashed.update((b"," if number else b"") + _json(item))
    hashed.update(b"]")
    return hashed.hexdigest()


def _json(value: Any) -> bytes:
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
