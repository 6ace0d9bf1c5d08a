"""What the user's own tables say of training images, as digests: neither their form nor their times count."""

from collections.abc import Mapping
from typing import Any

from cloudseg.config.image_tables import read_column, read_names, read_split
from cloudseg.storage import files


def table_digests(dataset: Mapping[str, Any], folds: Mapping[str, Any]) -> dict[str, str]:
    r"""Return a digest of what each table says that decides which images train, by its key; of none, nothing.

    Parameters
    ----------
    dataset, folds : these sections of a config: `exclude` of the one, `groups`, `table`, `file` and `count` of the
        other.

    Raises
    ------
    ConfigError : for a file that is no such table.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     digests = []
    ...     for text in ("a.jpg\nb.jpg\n", "# doubtful\nb.jpg\na.jpg\n", "a.jpg\n"):
    ...         _ = Path(folder, "out.txt").write_text(text)
    ...         digests.append(table_digests({"exclude": f"{folder}/out.txt"}, {"count": 5})["exclude"])
    >>> digests[0] == digests[1], digests[0] == digests[2]
    (True, False)
    """
    said: dict[str, Any] = {}
    if (exclude := dataset.get("exclude")) is not None:
        said["exclude"] = sorted(read_names(exclude))
    if (table := folds.get("table")) is not None:
        said["table"] = read_column(table, folds["groups"])
    if (own := folds.get("file")) is not None:
        said["file"] = read_split(own, folds["count"])
    return {name: files.digest(each) for name, each in said.items()}
