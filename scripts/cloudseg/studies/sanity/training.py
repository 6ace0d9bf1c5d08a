"""What the masks of training are like: how many images have each class, how large they are, in how many pieces."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cloudseg.dataset.images_table import read_images
from cloudseg.storage import stores
from cloudseg.studies.sanity.measuring import measure_mask

SAMPLE = 300
"""Training images whose masks are measured; of all others only presence and area are known."""


@dataclass(frozen=True)
class Training:
    """The masks of the training images.

    Parameters
    ----------
    classes : names of the classes.
    names : of the images.
    present : bool (image, class), whether an image has the class.
    shares : float (image, class), the share of the image that the mask covers.
    masks : of a sample, a row per mask: class (number), components, small (components below the minimum size) and
        same (whether another one of the sample is equal).
    """

    classes: Sequence[str]
    names: Sequence[str]
    present: np.ndarray
    shares: np.ndarray
    masks: pd.DataFrame

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.present)

    def shares_of(self, number: int) -> np.ndarray:
        """Return the shares that the masks of a class cover, of the images that have it."""
        return self.shares[self.present[:, number], number]


def read_training(
    images: str | Path, truth: str | Path, classes: Sequence[str], min_sizes: Sequence[int], sample: int = SAMPLE
) -> Training:
    """Read what the masks of training are like.

    Parameters
    ----------
    images : the table of the training images that the dataset check wrote.
    truth : store (image, class, y, x) uint8 0/1.
    classes : names of the classes.
    min_sizes : per class, in pixels of the grid.
    sample : images of the store that are measured, evenly spread.
    """
    table = read_images(images)
    table = table[table["split"] == "train"]
    areas = table[list(classes)].astype("float64").fillna(0).to_numpy()
    pixels = (table["height"] * table["width"]).to_numpy(float)
    return Training(
        list(classes), table["image"].tolist(), areas > 0, areas / pixels[:, None], _masks(truth, min_sizes, sample)
    )


def _masks(truth: str | Path, min_sizes: Sequence[int], sample: int) -> pd.DataFrame:
    store = stores.read(truth)
    rows, digests = [], []
    for row in np.unique(np.linspace(0, store.shape[0] - 1, min(sample, store.shape[0])).astype(int)):
        planes = stores.read_images(store, slice(row, row + 1))[0]
        for number, plane in enumerate(planes):
            mask = measure_mask(plane, min_sizes[number])
            if mask.area:
                rows.append((number, mask.components, mask.small))
                digests.append(hash(plane.tobytes()))
    masks = pd.DataFrame(rows, columns=["class", "components", "small"])
    return masks.assign(same=pd.Series(digests, dtype="int64").duplicated(keep=False))
