"""The out-of-fold planes of many members in a bounded memory, for a search that blends them again and again."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from cloudseg.ensemble.parts import require_images
from cloudseg.ensemble.truth import truth_rows
from cloudseg.errors import ConfigError, StoreError
from cloudseg.postprocess.additions import PARTS, dice_of_additions
from cloudseg.postprocess.cells import cell_areas, cell_means, cell_sums, grid_of
from cloudseg.runtime.job_progress import counting
from cloudseg.storage import per_image, stores

MEMORY = 2**30  # bytes that planes and truth may take together
READ_AT_ONCE = 16  # images of a store, by each thread: 4 classes at 350x525 take 12 MB
LARGEST_CELL = 255  # pixels of a side: the area of a cell fits 16 bits


@dataclass(frozen=True)
class Candidates:
    """Members that may be blended, and the truth, on the images of the folds that all of them trained.

    Parameters
    ----------
    names : of the members, in the order in which they were given.
    folds : the folds, ascending.
    reduce : side in pixels of the cells whose means `planes` holds; 1 is every pixel.
    planes : per fold uint8 (N, C, K, P), see `cloudseg.postprocess.additions`.
    covered : per fold uint16 (N, C, P), pixels of each cell that are in the truth.
    areas : int64 (P,), pixels of each cell.
    threads : that count; the result does not depend on it.
    """

    names: list[str]
    folds: list[int]
    reduce: int
    planes: list[np.ndarray]
    covered: list[np.ndarray]
    areas: np.ndarray
    threads: int = 1

    @property
    def images(self) -> int:
        """How many images there are, in all folds."""
        return sum(map(len, self.covered))

    def dice(self, counts: Sequence[int], power: float | None, added: Sequence[int]) -> np.ndarray:
        """Return the Dice of a blend with one more member.

        Parameters
        ----------
        counts : how often each member is in the blend already.
        power : to which probabilities are raised before the mean; None for the plain mean.
        added : A members, by number; each is added by itself.

        Returns
        -------
        float64 (A, F, C, 256) : the mean over the images of a fold, at every level.
        """
        means = [
            dice_of_additions(planes, covered, self.areas, counts, added, power, self.threads) / len(planes)
            for planes, covered in zip(self.planes, self.covered, strict=True)
        ]
        return np.stack(means, axis=1)

    @classmethod
    def read(
        cls,
        paths: Sequence[str | Path],
        members: Sequence[Mapping[str, Any]],
        truth: str | Path,
        *,
        reduce: int | None = None,
        memory: int = MEMORY,
        threads: int = 1,
    ) -> Self:
        """Read the stores of candidates, and shrink their planes by area mean until they fit in the memory.

        Parameters
        ----------
        paths : one out-of-fold store (image, class, y, x) uint8 per candidate and fold.
        members : per store the name of its `candidate`, and the `fold` of its run.
        truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
        reduce : side in pixels of the cells that are averaged; None for the least that fits.
        memory : bytes that planes and truth may take together, where `reduce` is None.
        threads : stores are read, and later blended, by so many threads.

        Raises
        ------
        ConfigError : when no fold was trained by all candidates, one has two stores of a fold, or nothing fits.
        StoreError : when stores differ in their images, classes or sizes, or one is damaged.
        """
        table = _by_fold(paths, members)
        arrays = {fold: [stores.read(path) for path in chosen] for fold, chosen in table.items()}
        wanted = stores.read(truth)
        for fold, chosen in table.items():
            _refuse_different(chosen, arrays[fold], wanted, truth)
        names = list(dict.fromkeys(member["candidate"] for member in members))
        counts = [group[0].shape[0] for group in arrays.values()]
        side = _least_reduce(sum(counts), len(names), wanted.shape[1:], memory) if reduce is None else reduce
        if not 1 <= side <= LARGEST_CELL:
            raise ConfigError(f"search: expected reduce from 1 to {LARGEST_CELL} pixels, got {side}")
        areas = _padded(cell_areas(*wanted.shape[2:], side).reshape(-1))
        classes, cells = wanted.shape[1], len(areas)
        read = cls(
            names,
            list(table),
            side,
            [np.empty((count, classes, len(names), cells), np.uint8) for count in counts],
            [np.empty((count, classes, cells), np.uint16) for count in counts],
            areas,
            threads,
        )
        read._fill(table, arrays, wanted, truth)
        return read

    def _fill(
        self, table: Mapping[int, Sequence[str | Path]], arrays: Mapping[int, Sequence[Any]], wanted: Any, truth: Any
    ) -> None:
        work = [
            (number, candidate, slice(first, min(first + READ_AT_ONCE, len(self.planes[number]))))
            for number in range(len(self.folds))
            for candidate in range(-1, len(self.names))  # -1 is the truth
            for first in range(0, len(self.planes[number]), READ_AT_ONCE)
        ]
        rows = {
            fold: truth_rows(per_image.ids(group[0]), per_image.ids(wanted), of=table[fold][0], truth=truth)
            for fold, group in arrays.items()
        }

        def fill(number: int, candidate: int, images: slice) -> int:
            fold = self.folds[number]
            if candidate < 0:
                block = np.concatenate([stores.read_images(wanted, slice(row, row + 1)) for row in rows[fold][images]])
                sums = cell_sums((block != 0).view(np.uint8), self.reduce)
                self.covered[number][images] = _padded(sums.reshape(*sums.shape[:2], -1))
            else:
                block = stores.read_images(arrays[fold][candidate], images)
                means = block if self.reduce == 1 else cell_means(block, self.reduce)
                self.planes[number][images, :, candidate] = _padded(means.reshape(*means.shape[:2], -1))
            return len(block)

        total = self.images * (1 + len(self.names))
        with ThreadPoolExecutor(self.threads) as pool, counting(total, "images") as done:
            for images in pool.map(fill, *zip(*work, strict=True)):
                done(images)


def _by_fold(paths: Sequence[str | Path], members: Sequence[Mapping[str, Any]]) -> dict[int, list[str | Path]]:
    """Return per fold that all candidates trained their stores, in the order of the candidates."""
    of: dict[str, dict[int, str | Path]] = {}
    for path, member in zip(paths, members, strict=True):
        folds, fold = of.setdefault(member["candidate"], {}), member["fold"]
        if fold in folds:
            raise ConfigError(
                f"search: expected one store per candidate and fold, got {folds[fold]} and {path} for fold {fold} of "
                f"{member['candidate']}; make the queries exclude each other"
            )
        folds[fold] = path
    common = sorted(set.intersection(*map(set, of.values()))) if of else []
    if not common:
        each = "; ".join(f"{name}: {', '.join(map(str, folds))}" for name, folds in list(of.items())[:5])
        raise ConfigError(
            f"search: expected folds that all candidates trained, got none in common ({each or 'no candidate'}); train "
            "more folds, or name fewer candidates"
        )
    return {fold: [folds[fold] for folds in of.values()] for fold in common}


def _refuse_different(paths: Sequence[str | Path], arrays: Sequence[Any], wanted: Any, truth: str | Path) -> None:
    classes = list(arrays[0].attrs["classes"])
    for path, array in zip(paths, arrays, strict=True):
        require_images(path, array, arrays[0], of=paths[0])
        if list(array.attrs["classes"]) != classes or array.shape[1:] != wanted.shape[1:]:
            raise StoreError(
                f"{path}: expected the classes {classes} of {paths[0]} and the shape {wanted.shape[1:]} of {truth}, "
                f"got {list(array.attrs['classes'])} and {array.shape[1:]}; delete it and run again"
            )


def _least_reduce(images: int, candidates: int, plane: tuple[int, int, int], memory: int) -> int:
    """Return the least side of cells at which planes and truth fit in the memory.

    Examples
    --------
    >>> _least_reduce(100, 4, (4, 350, 525), MEMORY), _least_reduce(5546, 24, (4, 350, 525), MEMORY)
    (1, 10)
    """
    classes, height, width = plane
    per_cell = images * classes * (candidates + np.dtype(np.uint16).itemsize)
    for side in range(1, LARGEST_CELL + 1):
        rows, columns = grid_of(height, width, side)
        if per_cell * (rows * columns + PARTS - 1) <= memory:
            return side
    raise ConfigError(
        f"search: expected the planes of {candidates} candidates on {images} images to fit in {memory:,} bytes, got "
        f"more even in cells of {LARGEST_CELL} pixels a side; give it more memory, or name fewer candidates"
    )


def _padded(cells: np.ndarray) -> np.ndarray:
    """Return cells (..., P) with as many more of 0 as make their number a multiple of what is counted at once."""
    more = -cells.shape[-1] % PARTS
    return np.pad(cells, [(0, 0)] * (cells.ndim - 1) + [(0, more)]) if more else cells
