"""A blend beside its truth, read a few images at a time, with what tells whether a class is there.

Whatever chooses, scores or shows a decision reads images here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloudseg.ensemble.masking import Evidence
from cloudseg.ensemble.truth import truth_rows
from cloudseg.errors import StoreError
from cloudseg.storage import stores

# Images in memory at once: probabilities and truth of 4 classes at 350x525 take 1.5 MB an image.
BLOCK = 32


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
        self.ids: list[str] = list(self.store.attrs["ids"])
        self.classes: list[str] = list(self.store.attrs["classes"])
        self.fold_of: list[int | None] = list(self.store.attrs.get("fold", [None] * len(self.ids)))
        self._whether = None if whether is None else stores.read(whether)
        if self._whether is not None:
            found = [list(self._whether.attrs[name]) for name in ("ids", "classes")]
            if found != [self.ids, self.classes]:
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

    def rows_of(self, fold: int) -> list[int]:
        """Return the rows of the images of a fold, which lie together."""
        return [row for row, owner in enumerate(self.fold_of) if owner == fold]


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
        self._row_of = truth_rows(blended.ids, self._truth.attrs["ids"], of=blended.path, truth=truth)

    def truth(self, row: int) -> np.ndarray:
        """Return the truth of the image in a row of the blend, uint8 (C, H, W)."""
        wanted = self._row_of[row]
        return stores.read_images(self._truth, slice(wanted, wanted + 1))[0]

    def blocks(self, folds: Sequence[int]) -> Iterator[Block]:
        """Yield the images of some folds, fold after fold."""
        for fold in folds:
            rows = self.blended.rows_of(fold)
            for start in range(0, len(rows), BLOCK):
                chosen = rows[start : start + BLOCK]
                together = slice(chosen[0], chosen[-1] + 1)
                truth = np.stack([self.truth(row) for row in chosen])
                yield Block(fold, self.blended.planes(together), truth, self.blended.evidence(together))
