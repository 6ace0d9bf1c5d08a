"""Where the truth of a blend's images lies."""

from collections.abc import Sequence
from pathlib import Path

from cloudseg.errors import StoreError


def truth_rows(ids: Sequence[str], truth_ids: Sequence[str], *, blend: str | Path, truth: str | Path) -> list[int]:
    """Return the row of the truth for each image of a blend.

    Parameters
    ----------
    ids, truth_ids : names of the images of the blend and of the truth, in their orders.
    blend, truth : their stores, for the message.

    Raises
    ------
    StoreError : when an image of the blend has no truth.

    Examples
    --------
    >>> truth_rows(["c.jpg", "a.jpg"], ["a.jpg", "b.jpg", "c.jpg"], blend="valid.zarr", truth="truth.zarr")
    [2, 0]
    """
    row_of = {image: row for row, image in enumerate(truth_ids)}
    if unknown := [image for image in ids if image not in row_of]:
        raise StoreError(
            f"{truth}: has no truth for {unknown[0]} ({len(unknown)} of {len(ids)} images of {blend}): "
            "the dataset changed; run the workflow again"
        )
    return [row_of[image] for image in ids]
