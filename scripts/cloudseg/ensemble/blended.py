"""A blend beside its truth, read a few images at a time, with what tells whether a class is there.

Whatever chooses, scores or shows a decision reads images here.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloudseg.ensemble.masking import Evidence
from cloudseg.ensemble.truth import truth_rows
from cloudseg.errors import StoreError
from cloudseg.storage import per_image, stores
from cloudseg.storage.some_images import read_rows

# Images in memory at once, and bytes of their probabilities and truth; one image at least. By these alone, and not by
# what memory a job has, since the last bits of a sum depend on what is added up first.
BLOCK, BLOCK_BYTES = 32, 256 * 2**20


class Blended:
    """The planes of a blend, and the evidence of other members, if these say whether a class is there.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 with the attributes `ids`, `classes` and `fold`.
    whether : group with `histogram` (image, class, 256) and, where classifiers take part, `value` (image, class) of
        the same images; None where the planes themselves tell.

    Raises
    ------
    StoreError : when the two hold other images or classes.
    """

    def __init__(self, blend: str | Path, whether: str | Path | None = None) -> None:
        self.path = blend
        self.store = stores.read(blend)
        self.ids = per_image.ids(self.store)
        self.classes: list[str] = list(self.store.attrs["classes"])
        self.fold_of = per_image.folds(self.store)
        self._whether = None if whether is None else stores.read(whether)
        if self._whether is not None:
            classes = list(self._whether.attrs["classes"])
            if classes != self.classes or not per_image.same_ids(self._whether, self.store):
                raise StoreError(f"{whether}: holds other images or classes than {blend}; delete both and run again")

    def planes(self, rows: slice) -> np.ndarray:
        """Return the probabilities of some images, uint8 (N, C, H, W)."""
        return stores.read_images(self.store, rows)

    def evidence(self, rows: slice) -> Evidence | None:
        """Return what tells whether the classes of some images are there; None where their planes do."""
        if self._whether is None:
            return None
        read = {name: stores.read_images(self._whether[name], rows) for name in self._whether.array_keys()}
        return Evidence(read["histogram"], read.get("value"))

    @property
    def image_bytes(self) -> int:
        """The bytes of the probabilities of an image."""
        return math.prod(self.store.shape[1:])

    def rows_of(self, fold: int) -> range:
        """Return the rows of the images of a fold, which lie together."""
        first = self.fold_of.index(fold) if fold in self.fold_of else 0
        return range(first, first + self.fold_of.count(fold))


@dataclass(frozen=True)
class Block:
    """Some images of a fold: planes and truth uint8 (N, C, H, W), and the evidence of other members, if there are."""

    fold: int
    planes: np.ndarray
    truth: np.ndarray
    evidence: Evidence | None


class OutOfFold:
    """A blend and its truth.

    Parameters
    ----------
    blended : the blend.
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.

    Raises
    ------
    StoreError : when an image of the blend has no truth.
    """

    def __init__(self, blended: Blended, truth: str | Path) -> None:
        self.blended = blended
        self._truth = stores.read(truth)
        self._row_of = truth_rows(blended.ids, per_image.ids(self._truth), of=blended.path, truth=truth)

    def truth(self, row: int) -> np.ndarray:
        """Return the truth of the image in a row of the blend, uint8 (C, H, W)."""
        return self.truths(slice(row, row + 1))[0]

    def truths(self, rows: slice) -> np.ndarray:
        """Return the truth of the images in some rows of the blend, uint8 (N, C, H, W)."""
        return read_rows(self._truth, self._row_of[rows])

    def blocks(self, folds: Sequence[int]) -> Iterator[Block]:
        """Yield the images of some folds, fold after fold."""
        step = max(1, min(BLOCK, BLOCK_BYTES // (2 * self.blended.image_bytes)))
        for fold in folds:
            own = self.blended.rows_of(fold)
            for start in range(own.start, own.stop, step):
                rows = slice(start, min(start + step, own.stop))
                yield Block(fold, self.blended.planes(rows), self.truths(rows), self.blended.evidence(rows))
