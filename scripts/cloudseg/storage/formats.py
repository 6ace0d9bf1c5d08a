"""Check a file without a recorded digest: whether it can be read as the format of its suffix."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cloudseg.storage import files

Check = Callable[[Path], Any]
"""Raises DamagedFileError for a file that cannot be what its name says."""


def check_format(path: Path, formats: Mapping[str, Check]) -> None:
    """Raise unless a file can be what its suffix says.

    Parameters
    ----------
    path : the file.
    formats : suffix to check; a file with another suffix must hold something.

    Raises
    ------
    DamagedFileError : with the reason.
    """
    formats.get(path.suffix, check_not_empty)(path)


def check_not_empty(path: Path) -> None:
    """Raise DamagedFileError for an empty file."""
    if not path.stat().st_size:
        raise files.damaged(path, "an empty file")


def check_archive(path: Path) -> None:
    """Raise DamagedFileError unless a ZIP archive, such as torch writes, passes its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise files.damaged(path, f"not a whole state ({error})") from error
    if broken:
        raise files.damaged(path, f"{broken} fails its checksum")


def _check_yaml(path: Path) -> None:
    import yaml

    try:
        yaml.safe_load(files.read_text(path))
    except yaml.YAMLError as error:
        raise files.damaged(path, f"not whole YAML ({error})") from error


def _check_table(path: Path) -> None:
    files.read_table(path, dtype=str)


FORMATS: dict[str, Check] = {
    ".tsv": _check_table,
    ".json": files.read_json,
    ".yaml": _check_yaml,
    ".csv": files.read_text,
    ".md": files.read_text,
    ".html": files.read_text,
    ".svg": files.read_text,
}
