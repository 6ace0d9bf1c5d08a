"""Make the pixel stores: images and masks at one size, and the truth that scores are held against."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import PIL

from cloudseg.config.size import Size
from cloudseg.dataset.contest import ContestFolder, Root, Split
from cloudseg.dataset.decoding import decode_image, decoding_bytes
from cloudseg.dataset.labels.interface import digest_labels, draw_mask, texts_of
from cloudseg.dataset.labels.opening import open_labels
from cloudseg.dataset.resizing import resize_image, resize_mask
from cloudseg.errors import DatasetError
from cloudseg.runtime.job_progress import counting
from cloudseg.runtime.memory import MemoryBudget
from cloudseg.storage.files import digest_of_items
from cloudseg.storage.stores import Spec, Writer, made_with


def common_size(images: pd.DataFrame) -> tuple[int, int] | None:
    """Return the (height, width) that all images of the images table have, or None if they differ."""
    sizes = set(zip(images["height"].tolist(), images["width"].tolist(), strict=True))
    return sizes.pop() if len(sizes) == 1 else None


def build_pixels(
    images: pd.DataFrame,
    root: Root,
    out: str | Path,
    *,
    split: Split,
    size: str,
    classes: Sequence[str],
    threads: int = 1,
    code: int = 0,
    memory: int | None = None,
) -> None:
    """Make the store of a split's images, and of their masks, at one size; go on where a killed run stopped.

    Memory is that of one shard (32 MiB of pixels) and of one image per thread, whatever the number of images; where
    that is more than ``memory``, fewer images are decoded at the same time.

    Parameters
    ----------
    images : images tables of the dataset check, one or both: the rows of ``split`` are stored.
    root : the data set that was checked; a :class:`ContestFolder` where its layout is not the clouds'.
    out : the store to make, a group: ``image`` uint8 (image, y, x, band), RGB; for training images ``mask``
        (image, y, x), the smallest unsigned integer with a bit for each class, bit c for class c.
        Attributes: ``ids`` (names, in the order of the rows), ``classes``, ``size`` ("HxW") and ``data``, a digest
        of all that was read.
    split : whose images, ``"train"`` or ``"test"``.
    size : ``"HxW"`` or ``"xN"``, as :class:`~cloudseg.config.size.Size` reads it; the original size is that of all
        rows of ``images``.
    classes : names of the classes, 1 to 64.
    threads : images that are decoded at the same time, at most. It does not change a byte of the result.
    memory : bytes that the process may take, or None. An image that takes more than all of it is decoded alone.
    code : number in ``CODE``; an unfinished store of other code is started over.

    Raises
    ------
    ConfigError : if the size does not fit.
    DatasetError : if an image or a label is not the one that was checked.
    """
    height, width = Size.parse(size).of(common_size(images))
    source = _Source(images, root, split, classes, memory)
    dtype = np.min_scalar_type(2 ** len(classes) - 1)
    dims = ("image", "y", "x")
    shape = (len(source.ids), height, width)
    arrays = {"image": Spec((*shape, 3), "uint8", (*dims, "band"), compressed=False)}
    if split == "train":
        arrays["mask"] = Spec(shape, str(dtype), dims)

    def packed_mask(row: int) -> np.ndarray:
        planes = source.masks(row, (height, width))
        mask = np.zeros((height, width), dtype)
        for bit, plane in enumerate(planes):
            mask |= plane.astype(dtype) << dtype.type(bit)
        return mask

    attrs = {"ids": source.ids, "classes": list(classes), "size": f"{height}x{width}", "data": source.digest}
    writer = Writer(out, arrays, attrs, made_with=made_with(code, np, cv2, PIL), threads=threads)
    makers = {"image": lambda row: source.image(row, (height, width)), "mask": packed_mask}
    with _one_opencv_thread():
        fill(writer, arrays, {name: makers[name] for name in arrays}, threads)
    writer.finish()


def build_truth(
    images: pd.DataFrame,
    root: Root,
    out: str | Path,
    *,
    classes: Sequence[str],
    size: tuple[int, int],
    threads: int = 1,
    code: int = 0,
    memory: int | None = None,
) -> None:
    """Make the store of the true masks at the size of the submission, from the original labels in one step.

    Parameters
    ----------
    images : the images table of the dataset check.
    root : the data set that was checked; a :class:`ContestFolder` where its layout is not the clouds'.
    out : the store to make, one array: uint8 (image, class, y, x) of 0 and 1, for the training images.
        Attributes: ``ids`` (names, in the order of the rows), ``classes`` and ``data``, a digest of all that
        was read.
    classes : names of the classes, 1 to 64.
    size : (height, width) of the submission, in pixels.
    threads : images whose masks are drawn at the same time, at most. It does not change a byte of the result.
    memory : bytes that the process may take, as of :func:`build_pixels`.
    code : as of :func:`build_pixels`.

    Raises
    ------
    DatasetError : if a label is not the one that was checked.
    """
    source = _Source(images, root, "train", classes, memory)
    arrays = {"": Spec((len(source.ids), len(classes), *size), "uint8", ("image", "class", "y", "x"))}
    attrs = {"ids": source.ids, "classes": list(classes), "data": source.digest}
    writer = Writer(out, arrays, attrs, made_with=made_with(code, np, cv2, PIL), threads=threads)
    with _one_opencv_thread():
        fill(writer, arrays, {"": lambda row: np.stack(source.masks(row, size))}, threads)
    writer.finish()


class _Source:
    """Read the images and labels of a split of a checked data set, and make sure that they are the ones checked."""

    def __init__(
        self,
        images: pd.DataFrame,
        root: Root,
        split: Split,
        classes: Sequence[str],
        memory: int | None,
    ) -> None:
        self._folder = ContestFolder.of(root)
        self._split = split
        images = images[images["split"] == split]
        self._heights, self._widths = (images[name].to_numpy(np.int64) for name in ("height", "width"))
        self._digests, self._label_digests = images["digest"].tolist(), images["labels"].tolist()
        self._classes = list(classes)
        self._memory = MemoryBudget(memory)
        self.ids: list[str] = images["image"].tolist()
        if split == "train":
            self._labels = open_labels(self._folder, set(self.ids), self._classes)
        rows = zip(self.ids, itertools.repeat(split), self._digests, self._label_digests, strict=False)
        self.digest = digest_of_items(list(map(str, row)) for row in rows)

    def image(self, row: int, size: tuple[int, int]) -> np.ndarray:
        """Return one image at ``size``, uint8 (height, width, 3)."""
        path = self._folder.images(self._split) / self.ids[row]
        with self._memory.take(decoding_bytes(path)):
            return resize_image(decode_checked(path, self._digests[row]), size)

    def masks(self, row: int, size: tuple[int, int]) -> list[np.ndarray]:
        """Return the masks of one training image at ``size``, uint8 (height, width) per class."""
        shape = int(self._heights[row]), int(self._widths[row])
        with self._memory.take(self._labels.pixel_bytes * shape[0] * shape[1]):
            return self._masks(row, shape, size)

    def _masks(self, row: int, shape: tuple[int, int], size: tuple[int, int]) -> list[np.ndarray]:
        encodings = self._labels.read(self.ids[row])
        if digest_labels(texts_of(encodings)) != self._label_digests[row]:
            raise DatasetError(
                f"{self._folder.labels}: the labels of {self.ids[row]!r} are not those that were checked; "
                "run the dataset check again"
            )
        nothing = np.zeros(size, np.uint8)
        return [
            resize_mask(draw_mask(encodings[label], shape), size) if label in encodings else nothing
            for label in self._classes
        ]


def decode_checked(path: Path, known: str) -> np.ndarray:
    """Return the pixels of an image file, uint8 (height, width, 3), after making sure that it is the one checked.

    Parameters
    ----------
    path : the file.
    known : its SHA-256, as the dataset check took it.

    Raises
    ------
    DatasetError : if it is another file.
    """
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != known:
        raise DatasetError(f"{path}: not the file that was checked; run the dataset check again")
    return decode_image(data)[0]


def fill(
    writer: Writer, arrays: Mapping[str, Spec], makers: Mapping[str, Callable[[int], np.ndarray]], threads: int
) -> None:
    """Write what is missing, a shard at a time; the maker of an array returns the values of the image of a row."""
    missing = {name: writer.missing(name) for name in arrays}
    total = sum(rows.stop - rows.start for ranges in missing.values() for rows in ranges)
    with ThreadPoolExecutor(threads) as pool, counting(total, "images") as done:
        for name, spec in arrays.items():
            _fill_array(writer, name, spec, missing[name], makers[name], pool, done)


def _fill_array(
    writer: Writer,
    name: str,
    spec: Spec,
    missing: Sequence[slice],
    make: Callable[[int], np.ndarray],
    pool: ThreadPoolExecutor,
    done: Callable[[int], None],
) -> None:
    block = np.empty((spec.shard, *spec.shape[1:]), spec.dtype)  # reused for all shards, so that memory stays flat
    for rows in missing:

        def make_into(row: int, first: int = rows.start) -> None:
            block[row - first] = make(row)

        for _ in pool.map(make_into, range(rows.start, rows.stop)):
            done(1)
        writer.write(rows, block[: rows.stop - rows.start], name)


@contextlib.contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own inside ours."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
