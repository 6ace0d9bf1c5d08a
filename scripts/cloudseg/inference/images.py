"""Images of a pixel store, in the order in which they are predicted."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from cloudseg.runtime.background import with_context
from cloudseg.storage import per_image, stores
from cloudseg.storage.per_image import Ids
from cloudseg.storage.some_images import read_rows
from cloudseg.training.data.dataset import fold_images


@dataclasses.dataclass(frozen=True)
class StoredImages:
    """Some images of a pixel store, read on demand.

    Parameters
    ----------
    path : the pixel store.
    array : its images, (n, H, W, 3) uint8.
    names : of all images of the store.
    attributes : of the store, which say what it was made from.
    positions : indices of the chosen images in ``array``, in their order.
    """

    path: str | Path
    array: Any = dataclasses.field(repr=False)
    names: Ids = dataclasses.field(repr=False)
    attributes: dict[str, Any] = dataclasses.field(repr=False)
    positions: Sequence[int] = dataclasses.field(repr=False)

    @classmethod
    def of_fold(cls, path: str | Path, folds: str | Path | None = None, fold: int = 0) -> Self:
        """Return the images of a fold, in the order of its table.

        Parameters
        ----------
        path : pixel store.
        folds : table with the columns ``image`` and ``fold``; None takes all images of the store, in its order.
        fold : from 0.
        """
        group = stores.read(path)
        names, array = per_image.ids(group), group["image"]
        chosen = range(array.shape[0]) if folds is None else fold_images(folds, fold, names)[1]
        return cls(path, array, names, group.attrs.asdict(), chosen)

    def __len__(self) -> int:
        """Return the number of chosen images."""
        return len(self.positions)

    @property
    def ids(self) -> Ids:
        """The names of the chosen images."""
        return Ids(self.names.array[np.asarray(self.positions, int)])

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self.attributes["classes"]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.array.shape[1:3]

    def read(self, numbers: Iterable[int]) -> np.ndarray:
        """Return some of the chosen images, (N, H, W, 3) uint8.

        Parameters
        ----------
        numbers : indices among the chosen images.

        Raises
        ------
        ValueError : naming the image that cannot be read.
        """
        positions = [self.positions[number] for number in numbers]
        try:
            return read_rows(self.array, positions)
        except ValueError:
            for position in positions:
                self._require(position)
            raise

    def _require(self, position: int) -> None:
        try:
            stores.read_images(self.array, slice(position, position + 1))
        except ValueError as error:
            raise with_context(f"{self.path}, image {self.names[position]}", error) from error
