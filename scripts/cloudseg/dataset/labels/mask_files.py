"""Which mask files a data set has, and of which image and class each one is."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Self

from cloudseg.config.labels import LabelsEntry

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")
"""Of files that keep values as they are, which JPEG does not."""


def list_files(folder: Path) -> tuple[list[str], list[str]]:
    """List the files below a folder by their paths in it, sorted as text: masks, and others; hidden ones left out."""
    masks: list[str] = []
    others: list[str] = []
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        within = PurePath(path).relative_to(folder)
        for name in names:
            if not name.startswith("."):
                (masks if name.lower().endswith(MASK_SUFFIXES) else others).append((within / name).as_posix())
    return sorted(masks), sorted(others)


class MaskFiles:
    """The mask files of images and classes.

    Parameters
    ----------
    entry : how they are named.
    images : names of the images.
    classes : names of the classes.
    files : paths of masks below their folder.

    Examples
    --------
    >>> entry = LabelsEntry(format="masks", files="{class}/{image}_mask")
    >>> found = MaskFiles(entry, ["a.jpg"], ["Fish", "Sugar"], ["Fish/a_mask.png", "Fish/b_mask.png"])
    >>> found.of("a.jpg"), list(found.lacking()), found.strangers
    ({'Fish': ['Fish/a_mask.png']}, [('a.jpg', ['Sugar'])], ['Fish/b_mask.png'])
    """

    word = "mask"

    def __init__(self, entry: LabelsEntry, images: Iterable[str], classes: Sequence[str], files: Iterable[str]) -> None:
        self.entry, self.images, self.classes = entry, list(images), list(classes)
        self._files: dict[str, list[str]] = {}
        for file in files:
            self._files.setdefault(str(PurePath(file).with_suffix("")), []).append(file)
        self.has_class_files = "{class}" in entry.files

    def __len__(self) -> int:
        return sum(bool(self.of(image)) for image in self.images)

    def of(self, image: str) -> dict[str, list[str]]:
        """Return the files of an image by class; one that has all classes stands under no name."""
        labels = self.classes if self.has_class_files else [""]
        found = {label: self._files.get(self.key(image, label), []) for label in labels}
        return {label: files for label, files in found.items() if files}

    def key(self, image: str, label: str) -> str:
        """Return the path of the mask of an image and class, without its suffix."""
        name = self.entry.files.replace("{class}", label).replace("{image}", PurePath(image).stem)
        return str(PurePath(name))

    @property
    def any_empty(self) -> bool:
        """Whether a mask that is not there says that something lacks: files of a class may be left out if it is not."""
        return not self.has_class_files

    @property
    def strangers(self) -> list[str]:
        """The files that are of no image and class, sorted."""
        return sorted(
            set(self._all(self._files)) - {file for image in self.images for file in self._all(self.of(image))}
        )

    @staticmethod
    def _all(files: dict[str, list[str]]) -> list[str]:
        return [file for several in files.values() for file in several]

    def several(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each image of which a mask has several files, and these."""
        for image in self.images:
            yield from ((image, files) for files in self.of(image).values() if len(files) > 1)

    def lacking(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each image that lacks a file, and the classes that it lacks."""
        for image in self.images:
            files = self.of(image)
            missing = [label for label in self.classes if (label if self.has_class_files else "") not in files]
            if missing:
                yield image, missing

    def without(self, left_out: Iterable[str]) -> Self:
        """Return those of the other images."""
        out = set(left_out)
        names = [image for image in self.images if image not in out]
        kept = [file for image in names for file in self._all(self.of(image))]
        return type(self)(self.entry, names, self.classes, kept)
