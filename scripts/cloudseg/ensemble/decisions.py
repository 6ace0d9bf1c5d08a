"""Choose a level and a minimum size per class, and say honestly what the choice scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cloudseg.postprocess import level

# A tuned decision is the best of the mean over its neighbourhood: so many levels and min sizes to each side.
NEAR_LEVELS, NEAR_SIZES = 8, 1


def tune(dice: np.ndarray) -> tuple[int, int]:
    """Choose the level and the index of the minimum size in the middle of the best neighbourhood.

    A lone spike is chance: the choice is the maximum of the mean over 17 levels and 3 minimum sizes (fewer at
    the edges), the first one where several are equal.

    Parameters
    ----------
    dice : (256, min_size) mean Dice of one class.

    Examples
    --------
    >>> dice = np.zeros((256, 5)); dice[100, 2] = 1.0; dice[150:181, 1:4] = 0.9
    >>> tune(dice)
    (158, 2)
    """
    smooth = _box_mean(_box_mean(dice, NEAR_LEVELS, axis=0), NEAR_SIZES, axis=1)
    chosen_level, size = np.unravel_index(np.argmax(np.round(smooth, 12)), dice.shape)
    return int(chosen_level), int(size)


def _box_mean(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    sums = np.cumsum(np.insert(values, 0, 0, axis=axis), axis=axis)
    count = values.shape[axis]
    high = np.minimum(np.arange(count) + reach + 1, count)
    low = np.maximum(np.arange(count) - reach, 0)
    widths = np.expand_dims(high - low, 1 - axis)
    return (np.take(sums, high, axis=axis) - np.take(sums, low, axis=axis)) / widths


def decide(
    sums: np.ndarray,
    counts: np.ndarray,
    min_sizes: Sequence[int],
    folds: Sequence[int],
    *,
    classes: Sequence[str],
    decision: Mapping[str, Any],
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Decide how a blend becomes masks and score the decision on its out-of-fold images.

    Parameters
    ----------
    sums : (fold, class, 256, min_size) sums of Dice over the images of each fold.
    counts : (fold,) images per fold.
    min_sizes, folds : what the last and the first axis count.
    classes : names of the second axis.
    decision : `how` (fixed or tune), `thresholds` and `min_sizes` (one per class) of the fixed decision, and
        `tune_min_sizes`, those that tuning may choose from.

    Returns
    -------
    decision : `how`, `images` and per class `level` (the authority), `threshold` (level / 255), `min_size`.
    scores : columns what, class, fold, fixed, tuned, nested, images; class and fold are `all` in rows of means.
        fixed: the fixed decision; tuned: chosen on the very images that it is scored on (optimistic); nested:
        chosen on the other folds, empty with fewer than two.
    """
    mean = sums / np.maximum(counts, 1)[:, None, None, None]
    tunable = [min_sizes.index(size) for size in decision["tune_min_sizes"]]
    fixed = [
        (level(threshold), min_sizes.index(size))
        for threshold, size in zip(decision["thresholds"], decision["min_sizes"], strict=True)
    ]
    tuned = [_tune_on(mean[:, c], tunable) for c in range(len(classes))] if len(folds) else fixed
    rows = []
    for f, fold in enumerate(folds):
        others = [other for other in range(len(folds)) if other != f]
        for c, name in enumerate(classes):
            nested = mean[f, c][_tune_on(mean[others, c], tunable)] if others else np.nan
            scores = {"fixed": mean[f, c][fixed[c]], "tuned": mean[f, c][tuned[c]], "nested": nested}
            rows.append({"what": "dice", "class": name, "fold": fold, **scores, "images": int(counts[f])})
    chosen = tuned if decision["how"] == "tune" else fixed
    settled = {
        name: {"level": lev, "threshold": round(lev / 255, 4), "min_size": int(min_sizes[size])}
        for name, (lev, size) in zip(classes, chosen, strict=True)
    }
    plain = {"how": decision["how"], "images": int(counts.sum()), "classes": settled}
    return plain, _with_means(pd.DataFrame(rows, columns=["what", "class", "fold", *KINDS, "images"]))


KINDS = ["fixed", "tuned", "nested"]


def _tune_on(dice: np.ndarray, tunable: Sequence[int]) -> tuple[int, int]:
    """Tune on the mean over folds (first axis), with the minimum sizes `tunable` alone."""
    chosen_level, size = tune(dice.mean(axis=0)[:, tunable])
    return chosen_level, tunable[size]


def _with_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Append the means: over folds per class, over classes per fold, and over both."""
    if scores.empty:
        return scores
    scores = scores.astype({"fold": object})
    per_class = scores.groupby("class", sort=False)[KINDS].mean().reset_index().assign(fold="all")
    per_fold = scores.groupby("fold", sort=False)[KINDS].mean().reset_index().assign(**{"class": "all"})
    images = scores.drop_duplicates("fold").set_index("fold")["images"]
    per_class["images"], per_fold["images"] = images.sum(), per_fold["fold"].map(images)
    both = per_fold[KINDS].mean().to_frame().T.assign(**{"class": "all", "fold": "all"}, images=images.sum())
    means = pd.concat([per_class, per_fold, both], ignore_index=True).assign(what="dice")
    return pd.concat([scores, means[scores.columns]], ignore_index=True)
