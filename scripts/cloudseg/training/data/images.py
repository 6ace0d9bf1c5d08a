"""Images of pixel stores with their masks, as they are stored: those of the labels, or what is bright in them."""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cloudseg.errors import StoreError
from cloudseg.models.preprocessing import LUMA
from cloudseg.storage import per_image, stores

BRIGHTNESS = "brightness"  # the one class of a training on brightness
# LUMA has three decimals, so the grey value of three bytes is a whole number of thousandths
THOUSANDTHS = np.array([round(1000 * share) for share in LUMA], np.uint32)


class _StoredImages:
    """Some images of a pixel store, read when asked: nothing is kept in memory.

    Parameters
    ----------
    store : a pixel store.
    positions : of the images in it.

    Attributes
    ----------
    is_soft : whether its masks are how much each class covers, in 255ths, and not bits.
    """

    is_soft = False

    def __init__(self, store: str | Path, positions: Sequence[int]) -> None:
        self.store, self._group = store, stores.read(store)
        self._names, self._image = per_image.ids(self._group), self._group["image"]
        self._positions = list(positions)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._positions)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._image.shape[1:3]

    def name(self, index: int) -> str:
        """Return the store and the name of the image at an index, for messages."""
        return f"{self.store}, image {self._names[self._positions[index]]}"

    def image(self, index: int) -> np.ndarray:
        """Return the image at an index, (H, W, 3) uint8."""
        return stores.read_images(self._image, self._rows(index))[0]

    def _rows(self, index: int) -> slice:
        return slice(self._positions[index], self._positions[index] + 1)


class LabelledImages(_StoredImages):
    """Training images of a pixel store, and the masks of their labels.

    Parameters
    ----------
    store : a pixel store of training images.
    positions : of the images in it.

    Examples
    --------
    ``images[index]`` is an image (H, W, 3) and its mask (H, W, B), both uint8; bit ``c % 8`` of byte ``c // 8`` of a
    mask pixel says whether class ``c`` covers it.
    """

    def __init__(self, store: str | Path, positions: Sequence[int]) -> None:
        super().__init__(store, positions)
        self._mask = self._group["mask"]

    @property
    def mask_bytes(self) -> int:
        """The bytes of a mask pixel."""
        return self._mask.dtype.itemsize

    def mask(self, index: int) -> np.ndarray:
        """Return the mask at an index, (H, W, B) uint8."""
        packed = stores.read_images(self._mask, self._rows(index))[0]
        return packed.view(np.uint8).reshape(*packed.shape, -1)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image and mask at an index."""
        return self.image(index), self.mask(index)


class BrightImages(_StoredImages):
    """Images of a pixel store, labelled or not, and masks of what is bright in them: one class, as bit 0 of a byte.

    Parameters
    ----------
    store : a pixel store of training or test images.
    positions : of the images in it.
    level : grey value, 0 to 254, above which a pixel is in (:func:`bright_mask`).
    """

    mask_bytes = 1

    def __init__(self, store: str | Path, positions: Sequence[int], level: int) -> None:
        super().__init__(store, positions)
        self._level = level

    def mask(self, index: int) -> np.ndarray:
        """Return the mask at an index, (H, W, 1) uint8."""
        return bright_mask(self.image(index), self._level)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image and mask at an index."""
        image = self.image(index)
        return image, bright_mask(image, self._level)


class PseudoImages(_StoredImages):
    """Test images of a pixel store, and the labels that networks made of them: masks or, if soft, probabilities.

    Parameters
    ----------
    store : a pixel store of test images.
    labels : of some of them, as :func:`cloudseg.ensemble.pseudo_labels.write_pseudo_labels` writes them at this size.

    Raises
    ------
    StoreError : for labels of images that the store has not, or of another size.
    """

    def __init__(self, store: str | Path, labels: str | Path) -> None:
        group, known = stores.read(labels), stores.read(store)
        names = per_image.ids(group)
        rows = per_image.ids(known).rows_of(names)
        if (rows < 0).any():
            missing = names[int(np.argmax(rows < 0))]
            raise StoreError(f"{labels}: labels of {missing}, which {store} has not; remove the older of the two")
        super().__init__(store, rows.tolist())
        self._mask = group["mask"]
        self.is_soft = self._mask.ndim == 4
        if self._mask.shape[1:3] != self.size:
            sizes = "x".join(map(str, self._mask.shape[1:3])), "x".join(map(str, self.size))
            raise StoreError(f"{labels}: labels at {sizes[0]}, images at {sizes[1]}; remove the older of the two")

    @property
    def mask_bytes(self) -> int:
        """The bytes of a mask pixel."""
        return self._mask.shape[3] if self.is_soft else self._mask.dtype.itemsize

    def mask(self, index: int) -> np.ndarray:
        """Return the mask at an index, (H, W, B) uint8, as of :class:`LabelledImages` or :class:`SoftImages`."""
        packed = stores.read_images(self._mask, slice(index, index + 1))[0]
        return packed if self.is_soft else packed.view(np.uint8).reshape(*packed.shape, -1)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image and mask at an index."""
        return self.image(index), self.mask(index)


class SoftImages:
    """Images whose masks are not bits but how much each class covers, in 255ths.

    Parameters
    ----------
    images : with masks of bits.
    classes : number of classes.
    """

    is_soft = True

    def __init__(self, images: LabelledImages, classes: int) -> None:
        self._images, self.mask_bytes = images, classes
        self.size, self.store, self.name = images.size, images.store, images.name

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def mask(self, index: int) -> np.ndarray:
        """Return the mask at an index, (H, W, classes) uint8, 0 or 255."""
        return bits_to_soft(self._images.mask(index), self.mask_bytes)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image and mask at an index."""
        return self._images.image(index), self.mask(index)


class JoinedImages:
    """Images of one kind out of several stores, one store after the other.

    Parameters
    ----------
    parts : such as :class:`LabelledImages`, of one size and as many bytes in a mask pixel.

    Raises
    ------
    StoreError : for parts of different sizes.
    """

    def __init__(self, parts: Sequence["LabelledImages | BrightImages | PseudoImages | SoftImages"]) -> None:
        self._parts, self._starts = parts, [0, *itertools.accumulate(map(len, parts))]
        self.size, self.mask_bytes, self.is_soft = parts[0].size, parts[0].mask_bytes, parts[0].is_soft
        for part in parts[1:]:
            if part.size != self.size:
                (height, width), (other_height, other_width) = self.size, part.size
                raise StoreError(
                    f"{part.store}: images of {other_height}x{other_width}, those of {parts[0].store} have "
                    f"{height}x{width}; remove the older of the two, so that it is made anew"
                )

    def __len__(self) -> int:
        """Return the number of images."""
        return self._starts[-1]

    def name(self, index: int) -> str:
        """Return the store and the name of the image at an index, for messages."""
        part, own_index = self._part(index)
        return part.name(own_index)

    def mask(self, index: int) -> np.ndarray:
        """Return the mask at an index, (H, W, B) uint8."""
        part, own_index = self._part(index)
        return part.mask(own_index)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image and mask at an index."""
        part, own_index = self._part(index)
        return part[own_index]

    def _part(self, index: int) -> tuple[Any, int]:
        number = bisect.bisect_right(self._starts, index) - 1
        return self._parts[number], index - self._starts[number]


Images = LabelledImages | BrightImages | PseudoImages | SoftImages | JoinedImages


def bits_to_soft(mask: np.ndarray, classes: int) -> np.ndarray:
    """Spread the bits of a mask over bytes: how much each class covers, in 255ths.

    Parameters
    ----------
    mask : (H, W, B) uint8, bit ``c % 8`` of byte ``c // 8`` for class ``c``.
    classes : at most 8 B.

    Returns
    -------
    ndarray : (H, W, classes) uint8, 0 or 255.

    Examples
    --------
    >>> bits_to_soft(np.array([[[5]]], np.uint8), classes=4)
    array([[[255,   0, 255,   0]]], dtype=uint8)
    """
    soft = np.empty((*mask.shape[:2], classes), np.uint8)
    for number in range(classes):  # np.unpackbits takes five times as long
        np.negative(mask[..., number // 8] >> number % 8 & 1, out=soft[..., number])
    return soft


def images_of(store: str | Path, positions: Sequence[int], brightness: int | None) -> LabelledImages | BrightImages:
    """Return images of a pixel store with the masks that a recipe learns: by its ``brightness``, or of their labels."""
    return LabelledImages(store, positions) if brightness is None else BrightImages(store, positions, brightness)


def classes_of(labelled: Sequence[str], brightness: int | None) -> list[str]:
    """Return the names of the classes that a recipe learns, ``labelled`` being those of the labels."""
    return list(labelled) if brightness is None else [BRIGHTNESS]


def bright_mask(image: np.ndarray, level: int) -> np.ndarray:
    """Return where an image is brighter than a level, by its grey value 0.299 R + 0.587 G + 0.114 B (``LUMA``).

    No float decides: in float32 some grey pixels come out brighter than their three equal bytes.

    Parameters
    ----------
    image : (H, W, 3) uint8, RGB.
    level : grey value, 0 to 254; a pixel of exactly this value is out.

    Returns
    -------
    ndarray : (H, W, 1) uint8 of 0 and 1.

    Examples
    --------
    >>> bright_mask(np.array([[[115, 115, 115], [115, 116, 115], [0, 255, 0]]], np.uint8), 115).ravel()
    array([0, 1, 1], dtype=uint8)
    """
    red, green, blue = (image[..., band] * weight for band, weight in enumerate(THOUSANDTHS))
    return (red + green + blue > 1000 * level).astype(np.uint8)[..., None]
