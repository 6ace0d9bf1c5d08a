"""Where the truth of predicted images lies."""

from collections.abc import Sequence
from pathlib import Path

from cloudseg.errors import StoreError


def truth_rows(ids: Sequence[str], truth_ids: Sequence[str], *, of: str | Path, truth: str | Path) -> list[int]:
    """Return the row of the truth for each predicted image.

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
    [2, 0]
    """
    row_of = {image: row for row, image in enumerate(truth_ids)}
    if unknown := [image for image in ids if image not in row_of]:
        raise StoreError(
            f"{truth}: has no truth for {unknown[0]} ({len(unknown)} of {len(ids)} images of {of}): "
            "the dataset changed; run the workflow again"
        )
    return [row_of[image] for image in ids]
