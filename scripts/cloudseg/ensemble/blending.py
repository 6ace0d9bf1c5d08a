"""Blend probability stores into one, with one rounding at the end."""

import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numba
import numpy as np

from cloudseg.ensemble.parts import Part, parts_of, refuse_squeezed, require_grid, require_levels
from cloudseg.errors import ConfigError
from cloudseg.postprocess import blend
from cloudseg.runtime.job_progress import counting
from cloudseg.storage import files, stores
from cloudseg.storage.per_image import Ids

if TYPE_CHECKING:  # it brings OpenCV and pandas, which few blends need
    from cloudseg.dataset.black import Black

# Raw bytes of member probabilities held at once, whatever the number of images and members.
BLOCK_BYTES = 128 * 2**20


@dataclasses.dataclass(frozen=True)
class StoreBlend:
    """The blend of some stores, made when it is asked for, some images at a time.

    Parameters
    ----------
    parts : the images, and the stores that each is blended from.
    classes : their names.
    size : (height, width) of a plane; empty where a store has one value per class.
    sharpen : the power that values are raised to before the mean is taken; None for the plain mean.
    black : where images are black, and the blend is 0; None is nowhere.
    threads : stores are read and blended by so many threads; the result does not depend on it.
    scratch : a folder on a disk where the values of the stores wait if those of one image take more than
        `BLOCK_BYTES`; None keeps them in memory.
    """

    parts: list[Part]
    classes: list[str]
    size: tuple[int, ...]
    sharpen: float | None = None
    black: "Black | None" = None
    threads: int = 1
    scratch: Path | None = None

    @classmethod
    def of(
        cls,
        paths: Sequence[str | Path],
        members: Sequence[Mapping[str, Any]],
        *,
        folds: Sequence[int] | None,
        classes: Sequence[str],
        size: tuple[int, ...],
        sharpen: float | None = None,
        levels: Sequence[Sequence[int]] | None = None,
        black: "Black | None" = None,
        threads: int = 1,
        scratch: Path | None = None,
    ) -> Self:
        """Return the blend of stores that are of the same images and classes, and of a size; all as `blend_stores`.

        Raises
        ------
        ConfigError : when votes are to be sharpened.
        StoreError : when stores hold other images, classes or sizes.
        """
        if levels is not None:
            require_levels(levels, len(paths), len(classes))
            if sharpen is not None:
                raise ConfigError(f"sharpen: expected none beside `blend: vote`, got {sharpen}; a vote has no power")
        parts = parts_of(paths, members, folds, levels)
        for path in paths:
            require_grid(path, classes, size)
        return cls(parts, list(classes), tuple(size), sharpen, black, threads, scratch)

    @functools.cached_property
    def ids(self) -> Ids:
        """The names of the images."""
        return Ids.joined(part.ids for part in self.parts)

    @property
    def folds(self) -> list[int | None]:
        """The fold of each image; None for test images."""
        return [part.fold for part in self.parts for _ in range(len(part.ids))]

    @property
    def spec(self) -> stores.Spec:
        """The array that the images make in a store."""
        dims = ("image", "class", "y", "x")[: 2 + len(self.size)]
        return stores.Spec((len(self.ids), len(self.classes), *self.size), "uint8", dims)

    def attributes(self, run: str) -> dict[str, Any]:
        """Return the attributes of a store of the images; `run` is a digest of what they are made of."""
        return {"ids": self.ids, "classes": self.classes, "fold": self.folds, "run": run}

    def images(self, rows: slice) -> np.ndarray:
        """Return a range of images, uint8 (N, C, *size)."""
        block = np.empty((rows.stop - rows.start, len(self.classes), *self.size), np.uint8)
        first = 0
        for part in self.parts:
            self._fill(part, first, rows, block)
            first += len(part.ids)
        if self.black is not None:
            self.black.clear(block, self.ids[rows])
        return block

    @functools.cached_property
    def _pool(self) -> Executor:
        """The threads that read: the same ones for all images, since new ones do not reuse the memory of the old."""
        return ThreadPoolExecutor(self.threads)

    def _fill(self, part: Part, first: int, rows: slice, block: np.ndarray) -> None:
        """Fill the rows of `block` that belong to `part`, whose images begin at row `first` of the whole blend."""
        start, stop = max(rows.start, first), min(rows.stop, first + len(part.ids))
        step = BLOCK_BYTES // (len(part.arrays) * len(self.classes) * math.prod(self.size))
        is_too_large = step == 0 and self.scratch is not None
        for row in range(start, stop, max(1, step)):
            wanted = slice(row - first, min(row + max(1, step), stop) - first)
            target = block[row - rows.start : row - rows.start + wanted.stop - wanted.start]
            if is_too_large:
                self._blend_from_disk(part, wanted, target)
            else:
                read = list(_read(part, wanted, self._pool.map))
                blend(read, weights=part.weights, sharpen=self.sharpen, out=target, threads=self.threads)

    def _blend_from_disk(self, part: Part, row: slice, target: np.ndarray) -> None:
        """Blend one image in stretches of its values, since a store can only be read an image at a time."""
        flat = target.reshape(-1)
        with tempfile.TemporaryFile(dir=self.scratch) as waiting:
            for values in _read(part, row, map):
                waiting.write(values.data)
            stretch = max(1, BLOCK_BYTES // len(part.arrays))
            for first in range(0, flat.size, stretch):
                out = flat[first : first + stretch]
                members = np.empty((len(part.arrays), out.size), np.uint8)
                for number, member in enumerate(members):
                    waiting.seek(number * flat.size + first)
                    waiting.readinto(member.data)
                blend(members, weights=part.weights, sharpen=self.sharpen, out=out, threads=self.threads)


def _read(part: Part, rows: slice, in_turn: Callable[..., Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    if part.levels is None:
        return in_turn(lambda array: stores.read_images(array, rows), part.arrays)
    return in_turn(lambda array, levels: votes(stores.read_images(array, rows), levels), part.arrays, part.levels)


def votes(probabilities: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Return the votes of a member: 255 where a pixel's value is at least the level of its class, else 0.

    The weighted mean of the votes of members is 255 times the share of weight that is for a pixel, rounded half up, so
    that level 128 is the majority. Half of the weight is enough for it.

    Parameters
    ----------
    probabilities : uint8 (N, C, H, W).
    levels : one per class, 0 to 256; 256 votes for no pixel.

    Examples
    --------
    >>> member, other = np.array([[[[127, 128]], [[9, 10]]]], np.uint8), np.array([[[[0, 99]], [[99, 0]]]], np.uint8)
    >>> blend([votes(member, [128, 10]), votes(other, [50, 50])]).tolist()
    [[[[0, 255]], [[128, 128]]]]
    """
    out = np.empty_like(probabilities)
    for number, level in enumerate(levels):
        np.multiply(probabilities[:, number] >= level, np.uint8(255), out=out[:, number])
    return out


def blend_stores(
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    out: str | Path,
    *,
    folds: Sequence[int] | None,
    classes: Sequence[str],
    size: tuple[int, int],
    sharpen: float | None = None,
    levels: Sequence[Sequence[int]] | None = None,
    black: "Black | None" = None,
    allow_squeezed: bool = False,
    threads: int = 1,
    code: int = 0,
) -> None:
    """Write the weighted mean of probability stores, or the vote of their masks, as a store of the same kind.

    Parameters
    ----------
    paths : one probability store (image, class, y, x) uint8 per member.
    members : per store its name (`store`), the fold of its run (`fold`) and its `weight`, not yet normalised.
    out : the store to write; its attributes hold `ids`, `classes`, `fold` (per image, or None) and `run`.
    folds : None blends all stores over the same (test) images; a list of folds blends, fold after fold,
        the stores of that fold over their (validation) images. An empty list makes an empty store.
    classes, size : names of the classes and (height, width) of the submission grid, which every store must have.
    sharpen : the power that probabilities are raised to before the mean is taken; None for the plain mean.
    levels : per store the level of each class that makes a vote of a probability (`votes`), where votes are blended;
        None blends probabilities.
    black : where images are black, and the blend is 0; None is nowhere.
    allow_squeezed : blend stores too whose values look like a sigmoid of a sigmoid.
    threads : stores are read and blended by so many threads; the result does not depend on it.
    code : the number of this code, so that what other code began is not gone on with.

    Raises
    ------
    ConfigError : when votes are to be sharpened.
    StoreError : when stores hold different images, classes or sizes, one is damaged, or 99.9 %
        of the values of one lie in 127..187. Nothing is written then.
    """
    how = {"folds": folds, "classes": classes, "size": size, "sharpen": sharpen, "levels": levels}
    made = StoreBlend.of(paths, members, **how, black=black, threads=threads, scratch=Path(out).parent)
    if not allow_squeezed:
        refuse_squeezed(paths, threads)
    attrs = made.attributes(blend_digest(paths, members, sharpen, levels, black and black.grey))
    writer = stores.Writer(out, {"": made.spec}, attrs, made_with=stores.made_with(code, np, numba))
    fill(writer, made.images)
    writer.finish()


def fill(writer: stores.Writer, make: Callable[[slice], np.ndarray], name: str = "") -> None:
    """Write the shards that an array of a store lacks; `make` returns the values of a range of images."""
    missing = writer.missing(name)
    with counting(sum(rows.stop - rows.start for rows in missing), "images") as done:
        for rows in missing:
            writer.write(rows, make(rows), name)
            done(rows.stop - rows.start)


def blend_digest(
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    sharpen: float | None = None,
    levels: Sequence[Sequence[int]] | None = None,
    grey: int | None = None,
) -> str:
    """Return the attribute `run` of a blend: of its members, their checkpoints and how they are blended."""
    made_of: list[Any] = [[dict(member) for member in members], sharpen]
    made_of.append([stores.read(path).attrs["run"] for path in paths])
    # What is not asked for is no part of it: a store of before is known by its digest of before
    made_of += [] if levels is None else [[[int(level) for level in each] for each in levels]]
    made_of += [] if grey is None else [{"black": grey}]
    return files.digest(made_of)
