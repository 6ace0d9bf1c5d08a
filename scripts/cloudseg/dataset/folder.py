"""The images of any folder, with or without a table beside them."""

import os
from pathlib import Path

from cloudseg.dataset.contest import is_image
from cloudseg.errors import DatasetError


def list_images(folder: str | Path) -> list[str]:
    """List the image files of a folder by name, sorted as text, as a contest's folders are listed.

    Raises
    ------
    DatasetError : if there is no such folder, no image in it, or one whose name no CSV file can hold.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("b.jpg", "a.PNG", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     list_images(folder)
    ['a.PNG', 'b.jpg']
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if is_image(entry))
    except OSError as error:
        raise DatasetError(f"{folder}: {error.strerror}; expected a folder of images") from None
    if not names:
        raise DatasetError(f"{folder}: no image in it; expected files that end in .jpg, .jpeg or .png")
    if odd := [name for name in names if not name.isprintable()]:
        raise DatasetError(
            f"{folder}: {odd[0]!r} has a character in its name that is no letter, digit or mark; rename it"
        )
    return names
