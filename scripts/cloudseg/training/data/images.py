"""Images of pixel stores with their masks, as they are stored: those of the labels, or what is bright in them."""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cloudseg.errors import StoreError
from cloudseg.models.preprocessing import LUMA
from cloudseg.storage import stores

BRIGHTNESS = "brightness"  # the one class of a training on brightness
# LUMA has three decimals, so the grey value of three bytes is a whole number of thousandths
THOUSANDTHS = np.array([round(1000 * share) for share in LUMA], np.uint32)


class _StoredImages:
    """Some images of a pixel store, read when asked: nothing is kept in memory.

    Parameters
    ----------
    store : a pixel store.
    positions : of the images in it.
    """

    def __init__(self, store: str | Path, positions: Sequence[int]) -> None:
        self.store, self._group = store, stores.read(store)
        self._names, self._image = self._group.attrs.asdict()["ids"], self._group["image"]
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


class JoinedImages:
    """Images of one kind out of several stores, one store after the other.

    Parameters
    ----------
    parts : such as :class:`LabelledImages`, of one size and as many bytes in a mask pixel.

    Raises
    ------
    StoreError : for parts of different sizes.
    """

    def __init__(self, parts: Sequence[LabelledImages | BrightImages]) -> None:
        self._parts, self._starts = parts, [0, *itertools.accumulate(map(len, parts))]
        self.size, self.mask_bytes = parts[0].size, parts[0].mask_bytes
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

    def _part(self, index: int) -> tuple[LabelledImages | BrightImages, int]:
        number = bisect.bisect_right(self._starts, index) - 1
        return self._parts[number], index - self._starts[number]


Images = LabelledImages | BrightImages | JoinedImages


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
