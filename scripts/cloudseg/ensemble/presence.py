"""Whether an image is said to have a class at all: the confusion, and what the minimum size does to it."""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd


def largest_component(mask: np.ndarray) -> int:
    """Return the pixels of the largest 8-connected component of a mask, uint8 (H, W) of 0 and 1; 0 where there is none.

    A mask is empty from the first minimum size on that is more than that.

    Examples
    --------
    >>> largest_component(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], np.uint8))
    3
    """
    if not mask.any():
        return 0
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return int(stats[1:, cv2.CC_STAT_AREA].max())


def confusion(images: pd.DataFrame) -> pd.DataFrame:
    """Count, per class, images that have it and images that are said to have it.

    Parameters
    ----------
    images : what `cloudseg.ensemble.scores.image_scores` returns.

    Returns
    -------
    DataFrame : class, found (has it, and a mask), missed, added (a mask where nothing is), empty (rightly), precision
        and recall, NaN where there is nothing to divide by.

    Examples
    --------
    >>> rows = [("a", "Fish", 9, 9), ("b", "Fish", 9, 0), ("c", "Fish", 0, 4), ("d", "Fish", 0, 0)]
    >>> confusion(pd.DataFrame(rows, columns=["image", "class", "truth", "kept"])).values.tolist()
    [['Fish', 1, 1, 1, 1, 0.5, 0.5]]
    """
    has, called = images["truth"] > 0, images["kept"] > 0
    kinds = {"found": has & called, "missed": has & ~called, "added": ~has & called, "empty": ~has & ~called}
    counts = pd.DataFrame({"class": images["class"], **kinds}).groupby("class", sort=False).sum().reset_index()
    return counts.assign(
        precision=counts["found"] / (counts["found"] + counts["added"]),
        recall=counts["found"] / (counts["found"] + counts["missed"]),
    )


def presence_curve(scores: np.ndarray, has: np.ndarray, thresholds: Sequence[float]) -> pd.DataFrame:
    """Return precision and recall of presence for each threshold of a score of the planes.

    Parameters
    ----------
    scores : (N,) a number of each image, such as the pixels of its largest component, or a score of presence.
    has : (N,) whether the image has the class.
    thresholds : an image counts from this score on; one without a pixel does not at 0.

    Returns
    -------
    DataFrame : threshold, precision, recall; NaN where there is nothing to divide by.

    Examples
    --------
    >>> presence_curve(np.array([5, 3, 0]), np.array([True, False, True]), [0, 4, 6]).values.tolist()
    [[0.0, 0.5, 0.5], [4.0, 1.0, 0.5], [6.0, nan, 0.0]]
    """
    called = (scores >= np.asarray(thresholds)[:, None]) & (scores > 0)
    found = (called & has).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "threshold": list(thresholds),
                "precision": found / called.sum(axis=1),
                "recall": found / np.full(len(found), has.sum()),
            }
        )
