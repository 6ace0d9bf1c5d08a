"""What labels are to the rest: for an image, by class, encodings that can be digested and drawn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np

from cloudseg.errors import DatasetError
from cloudseg.storage.files import digest

Shape = tuple[int, int]  # (height, width) in pixels


class LabelError(DatasetError):
    """A file of labels that cannot be read, and why."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


class OtherSizeError(ValueError):
    """A mask of another size than its image."""


class Encoding(NamedTuple):
    """One encoding of a mask; a mask may have several, which are united.

    Parameters
    ----------
    text : what changes with the mask, for digests.
    draw : returns the mask for the size of the image, uint8 (height, width) of 0 and 1; raises ValueError with what is
        wrong with it, OtherSizeError if it is of another size.
    file : the file that it is in, below the root.
    line : its line there, from 1, if it has one.
    """

    text: str
    draw: Callable[[Shape], np.ndarray]
    file: str
    line: int | None = None


class LabelIndex(Protocol):
    """Where the labels of which images and classes are, in a file or a folder.

    `word` is what an image or a class that lacks is said to have none of. `any_empty` says whether empty masks are
    written, too, so that one that lacks may have been forgotten.
    """

    classes: list[str]
    word: str

    @property
    def any_empty(self) -> bool: ...  # noqa: D102

    def __len__(self) -> int: ...

    def lacking(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each image that lacks labels, and the classes that it lacks."""

    def without(self, left_out: Iterable[str]) -> Self:
        """Return those of the other images."""


class Labels(ABC):
    """The labels of the training images. Safe in threads.

    `pixel_bytes` is the memory that it takes to read and draw one, in bytes per pixel of the image.
    """

    pixel_bytes = 2  # a mask and a second one to unite with it

    @abstractmethod
    def read(self, image: str) -> dict[str, list[Encoding]]:
        """Read the encodings of one image by class, sorted by class; classes without a pixel are left out."""

    def texts(self, image: str) -> dict[str, list[str]]:
        """Read the texts of one image: class to texts, each once, in order, classes without a pixel left out."""
        return texts_of(self.read(image))


def texts_of(encodings: Mapping[str, Iterable[Encoding]]) -> dict[str, list[str]]:
    """Return class to texts, each once, in order."""
    return {label: sorted({encoding.text for encoding in each}) for label, each in encodings.items()}


def digest_labels(texts: Mapping[str, Sequence[str]]) -> str:
    """Return 16 hexadecimal digits that change with the labels of an image.

    Parameters
    ----------
    texts : class to texts, as :meth:`Labels.texts` returns them.
    """
    return digest(texts)[:16]


def draw_mask(encodings: Sequence[Encoding], shape: Shape) -> np.ndarray:
    """Draw the union of the masks of one image and class.

    Parameters
    ----------
    encodings : at least one.
    shape : (height, width) of the image.

    Returns
    -------
    uint8 (height, width) of 0 and 1.

    Examples
    --------
    >>> from functools import partial
    >>> from cloudseg.postprocess import decode_rle
    >>> draw_mask([Encoding(text, partial(decode_rle, text), "train.csv") for text in ("1 1", "1 2")], (2, 2))
    array([[1, 0],
           [1, 0]], dtype=uint8)
    """
    first, *others = {encoding.text: encoding for encoding in encodings}.values()
    mask = first.draw(shape)
    for encoding in others:
        mask = mask | encoding.draw(shape)
    return mask
