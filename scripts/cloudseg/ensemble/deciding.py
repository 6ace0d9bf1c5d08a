"""Choose a level and a minimum size per class, and say honestly what the choice scores."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.neighbourhood import best_neighbourhood
from cloudseg.errors import StoreError
from cloudseg.postprocess import Cut, level

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
    (chosen_level, size), _ = best_neighbourhood(dice, (NEAR_LEVELS, NEAR_SIZES))
    return chosen_level, size


def grid(dice: np.ndarray, thresholds: Sequence[float], min_sizes: Sequence[int]) -> tuple[int, int]:
    """Choose the level and the index of the minimum size that score best of those a grid holds.

    What contest notebooks do: every threshold with every minimum size, and the first of the best, threshold by
    threshold. A lone spike may win.

    Parameters
    ----------
    dice : (256, min_size) mean Dice of one class.
    thresholds : in [0, 1].
    min_sizes : indices of the second axis that may be chosen.

    Returns
    -------
    (int, int) : level(threshold), and one of `min_sizes`.

    Examples
    --------
    >>> dice = np.zeros((256, 5)); dice[100, 2] = 1.0; dice[128, [1, 4]] = 0.9
    >>> grid(dice, [0, 0.25, 0.5, 0.75], [0, 2, 4])
    (128, 4)
    """
    levels = [level(threshold) for threshold in thresholds]
    scored = dice[np.ix_(levels, min_sizes)]
    # Pairs that make the same masks must count as equal, whatever the order their Dice was summed in
    row, column = np.unravel_index(np.argmax(np.round(scored, 12)), scored.shape)
    return levels[row], min_sizes[column]


def decide(
    sums: np.ndarray,
    counts: np.ndarray,
    min_sizes: Sequence[int],
    folds: Sequence[int],
    *,
    classes: Sequence[str],
    rule: DecisionRule,
) -> tuple[Decision, pd.DataFrame]:
    """Decide how a blend becomes masks and score the decision on its out-of-fold images.

    Parameters
    ----------
    sums : (fold, class, 256, min_size) sums of Dice over the images of each fold.
    counts : (fold,) images per fold.
    min_sizes, folds : what the last and the first axis count.
    classes : names of the second axis.
    rule : how to decide.

    Returns
    -------
    decision : the fixed one, or the chosen one and, with two folds or more, per fold what the others choose. No folds:
        nothing can be chosen, and it is the fixed one.
    scores : columns what, class, fold, fixed, tuned, nested, images; in rows of means the class is `all` and the fold
        empty. fixed: the fixed decision; tuned: chosen on the very images that it is scored on (optimistic); nested:
        chosen on the other folds, empty with fewer than two. Both are chosen by `grid` where the rule says so, else
        by `tune`.

    Raises
    ------
    StoreError : when the surface lacks a minimum size of the rule.
    """
    mean = sums / np.maximum(counts, 1)[:, None, None, None]
    fixed = list(zip(map(level, rule.thresholds), _columns(min_sizes, rule.min_sizes), strict=True))
    choose = _chooser(rule, min_sizes)
    tuned = [choose(mean[:, c].mean(axis=0)) for c in range(len(classes))] if len(folds) else fixed
    rows, nested = [], {}
    for f, fold in enumerate(folds):
        others = [other for other in range(len(folds)) if other != f]
        if others:
            nested[int(fold)] = [choose(mean[others, c].mean(axis=0)) for c in range(len(classes))]
        for c, name in enumerate(classes):
            scores = {"fixed": mean[f, c][fixed[c]], "tuned": mean[f, c][tuned[c]]}
            scores["nested"] = mean[f, c][nested[fold][c]] if others else np.nan
            rows.append({"what": "dice", "class": name, "fold": fold, **scores, "images": int(counts[f])})

    def image_rule(chosen: Sequence[tuple[int, int]]) -> ImageRule:
        cuts = [Cut(lev, int(min_sizes[size]), fill_holes=rule.fill_holes) for lev, size in chosen]
        return ImageRule.of_cuts(dict(zip(classes, cuts, strict=True)))

    is_fixed = rule.how == "fixed"
    decision = Decision(
        rule.how,
        int(counts.sum()),
        rule.fixed(classes) if is_fixed or not len(folds) else image_rule(tuned),
        {} if is_fixed else {fold: image_rule(chosen) for fold, chosen in nested.items()},
        rule.sharpen,
    )
    return decision, with_means(pd.DataFrame(rows, columns=["what", "class", "fold", *KINDS, "images"]))


KINDS = ["fixed", "tuned", "nested"]
ALL = "all"  # in place of a class, in rows of means over classes


def _chooser(rule: DecisionRule, min_sizes: Sequence[int]) -> Callable[[np.ndarray], tuple[int, int]]:
    """Return what chooses a level and a column of a class's mean Dice (256, min_size)."""
    if rule.grid is not None and rule.how == "grid":
        thresholds, columns = rule.grid["thresholds"], _columns(min_sizes, rule.grid["min_sizes"])
        return lambda dice: grid(dice, thresholds, columns)
    columns = _columns(min_sizes, rule.tune_min_sizes)

    def tune_among_columns(dice: np.ndarray) -> tuple[int, int]:
        chosen_level, size = tune(dice[:, columns])
        return chosen_level, columns[size]

    return tune_among_columns


def _columns(min_sizes: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Return where the wanted minimum sizes lie in the surface."""
    if lacking := [size for size in wanted if size not in min_sizes]:
        raise StoreError(
            f"the decision expected the minimum sizes {lacking} in the surface, got {list(min_sizes)}; "
            "delete surface.zarr and run again"
        )
    return [min_sizes.index(size) for size in wanted]


def with_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Append the means: over folds per class, over classes per fold, and over both."""
    scores = scores.astype({"fold": "Int64"})
    if scores.empty:
        return scores
    per_class = scores.groupby("class", sort=False)[KINDS].mean().reset_index().assign(fold=pd.NA)
    per_fold = scores.groupby("fold", sort=False)[KINDS].mean().reset_index().assign(**{"class": ALL})
    images = scores.drop_duplicates("fold").set_index("fold")["images"]
    per_class["images"], per_fold["images"] = images.sum(), per_fold["fold"].map(images)
    both = per_fold[KINDS].mean().to_frame().T.assign(**{"class": ALL, "fold": pd.NA}, images=images.sum())
    means = pd.concat([each.astype({"fold": "Int64"}) for each in (per_class, per_fold, both)], ignore_index=True)
    return pd.concat([scores, means.assign(what="dice")[scores.columns]], ignore_index=True)
