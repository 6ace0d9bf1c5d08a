"""Where the truth of predicted images lies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cloudseg.errors import StoreError
from cloudseg.storage.per_image import Ids


def truth_rows(ids: Sequence[str], truth_ids: Sequence[str], *, of: str | Path, truth: str | Path) -> np.ndarray:
    """Return the row of the truth for each predicted image, int64.

    Parameters
    ----------
    ids, truth_ids : names of the predicted images and of those of the truth, in their orders.
    of : the store of the predictions, or another word for the images; for the message.
    truth : its store; for the message.

    Raises
    ------
    StoreError : when an image has no truth.

    Examples
    --------
    >>> truth_rows(["c.jpg", "a.jpg"], ["a.jpg", "b.jpg", "c.jpg"], of="valid.zarr", truth="truth.zarr")
    array([2, 0])
    """
    rows = Ids.of(truth_ids).rows_of(ids)
    if len(unknown := np.flatnonzero(rows < 0)):
        raise StoreError(
            f"{truth}: has no truth for {ids[unknown[0]]} ({len(unknown)} of {len(ids)} images of {of}): "
            "the dataset changed; run the workflow again"
        )
    return rows
