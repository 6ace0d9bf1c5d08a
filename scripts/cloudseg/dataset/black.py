"""Store where the images of a split are black, and have no probability of a cloud there.

Between two passes of the satellite lies a swath that neither has seen, and which is black in the image. A pixel is
black when all three bands are at most a level of grey. The brightest band decides, not the luma of ``channels: gray``:
luma weighs blue by 0.114, so that dark blue sea of (0, 0, 21) has a luma of 2, and is no swath. It is a whole number,
too, so that no rounding decides. A JPEG leaves noise of a level or two in a swath, so the level is more than 0.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import PIL

from cloudseg.dataset.contest import ContestFolder, Root, Split
from cloudseg.dataset.decoding import decoding_bytes
from cloudseg.dataset.pixels import decode_checked, fill
from cloudseg.dataset.resizing import resize_mask
from cloudseg.errors import ConfigError, StoreError
from cloudseg.runtime.memory import MemoryBudget
from cloudseg.storage import per_image, stores
from cloudseg.storage.files import digest

WHITE = 255


def find_black(image: np.ndarray, grey: int, size: tuple[int, int]) -> np.ndarray:
    """Return where an image is black, on another grid: a new pixel is where at least half of what it covers is.

    Parameters
    ----------
    image : uint8 (H, W, 3), under 2**31 pixels.
    grey : a pixel is black when all its bands are at most this, 0 to 254.
    size : (height, width) of the grid, in pixels; any ratio to (H, W), growing included.

    Returns
    -------
    uint8 (height, width) of 0 and 1, exactly by area as :func:`~cloudseg.dataset.resizing.resize_mask` says.

    Examples
    --------
    >>> image = np.full((2, 4, 3), 90, np.uint8)
    >>> image[:, 0], image[0, 2] = 2, (2, 1, 3)
    >>> find_black(image, 2, (1, 2)), find_black(image, 3, (2, 4))[0]
    (array([[1, 0]], dtype=uint8), array([1, 0, 1, 0], dtype=uint8))
    """
    black = cv2.inRange(image, (0, 0, 0), (grey, grey, grey))  # 255 where it is: 30 times as fast as a maximum
    return resize_mask(black & 1, size)


def build_black(
    images: pd.DataFrame,
    root: Root,
    out: str | Path,
    *,
    split: Split,
    grey: int,
    size: tuple[int, int],
    threads: int = 1,
    code: int = 0,
    memory: int | None = None,
) -> None:
    """Make the store of where a split's images are black on a grid; go on where a killed run stopped.

    Parameters
    ----------
    images : the images table of the dataset check: the rows of ``split`` are stored.
    root : the data set that was checked.
    out : the store to make, one array: uint8 (image, y, x) of 0 and 1, 1 where the image is black. Attributes: ``ids``
        (names, in the order of the rows), ``grey`` and ``data``, a digest of all that was read.
    split : whose images, ``"train"`` or ``"test"``.
    grey : the level of :func:`find_black`, 0 to 254.
    size : (height, width) of the submission, in pixels. Images may have any sizes.
    threads : images that are decoded at the same time, at most. It does not change a byte of the result.
    code : number in ``CODE``; an unfinished store of other code is started over.
    memory : bytes that the process may take, or None. An image that takes more than all of it is decoded alone.

    Raises
    ------
    ConfigError : if the level is out of its range.
    DatasetError : if an image is not the one that was checked.
    """
    if not 0 <= grey < WHITE:
        raise ConfigError(f"black: expected a level of grey from 0 to {WHITE - 1}, got {grey}; at {WHITE} all is black")
    images = images[images["split"] == split]
    folder, rows = ContestFolder.of(root).images(split), images[["image", "digest"]].to_numpy(str).tolist()
    budget = MemoryBudget(memory)

    def black(row: int) -> np.ndarray:
        name, known = rows[row]
        with budget.take(decoding_bytes(folder / name)):
            return find_black(decode_checked(folder / name, known), grey, size)

    spec = stores.Spec((len(rows), *size), "uint8", ("image", "y", "x"))
    attrs = {"ids": images["image"].tolist(), "grey": grey, "data": digest([split, rows])}
    writer = stores.Writer(out, {"": spec}, attrs, made_with=stores.made_with(code, np, cv2, PIL), threads=threads)
    fill(writer, {"": spec}, {"": black}, threads)
    writer.finish()


class Black:
    """Where the images of a split are black, as :func:`build_black` has stored it.

    Parameters
    ----------
    path : the store.

    Raises
    ------
    StoreError : if there is no whole store.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._array = stores.read(path)
        self._rows = {image: row for row, image in enumerate(per_image.ids(self._array))}

    @property
    def grey(self) -> int:
        """The level of grey up to which a pixel is black."""
        return int(self._array.attrs["grey"])

    def of(self, image: str) -> np.ndarray:
        """Return where an image is black: uint8 (height, width) of 0 and 1.

        Raises
        ------
        StoreError : if the image is not in the store, or its chunk is damaged.
        """
        if image not in self._rows:
            raise StoreError(
                f"{self.path}: does not hold {image} (it holds {len(self._rows)} images); "
                "the dataset changed: delete it and run again"
            )
        row = self._rows[image]
        return stores.read_images(self._array, slice(row, row + 1))[0]

    def clear(self, planes: np.ndarray, ids: Sequence[str]) -> None:
        """Set planes to 0, in place, where their images are black. Memory is that of one image.

        Parameters
        ----------
        planes : (N, C, H, W) of the N images, on the grid of the store, such as probabilities in bytes.
        ids : their names, in any order: what was not stored in the order of this store may be cleared, too.

        Raises
        ------
        StoreError : if an image is not in the store, or the store has another grid.
        """
        if planes.shape[2:] != self._array.shape[1:]:
            raise StoreError(
                f"{self.path}: expected the grid {planes.shape[2:]}, got {self._array.shape[1:]}; "
                "delete it and run again"
            )
        for image, own in zip(ids, planes, strict=True):
            own *= 1 - self.of(image)
