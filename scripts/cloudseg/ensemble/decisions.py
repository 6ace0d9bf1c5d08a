"""Choose a level and a minimum size per class, and say honestly what the choice scores."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from cloudseg.errors import StoreError
from cloudseg.postprocess import level
from cloudseg.storage.files import damaged, read_text

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
    decision : `how` (fixed, tune or grid), `thresholds` of the blend and `min_sizes` (one per class) of the fixed
        decision, `tune_min_sizes`, those that tuning may choose from, where `how` is grid, `grid`: its `thresholds`
        and its `min_sizes`, and where the blend is of p to a power, `sharpen`: that power.

    Returns
    -------
    decision : `how`, `images` and as `classes`, per class, `level` (the authority), `threshold` (the probability that
        it stands for), of a sharpened blend also `sharpened` (level / 255), and `min_size`; where it was chosen and
        there are two folds or more, as `nested`, per fold what the others choose; `sharpen` of a sharpened blend.
    scores : columns what, class, fold, fixed, tuned, nested, images; class and fold are `all` in rows of means.
        fixed: the fixed decision; tuned: chosen on the very images that it is scored on (optimistic); nested:
        chosen on the other folds, empty with fewer than two. Both are chosen by `grid` where that is `how`, else
        by `tune`. No folds: nothing can be chosen, and the decision is the fixed one.

    Raises
    ------
    StoreError : when the surface lacks a minimum size of the decision.
    """
    sharpen = decision.get("sharpen")
    mean = sums / np.maximum(counts, 1)[:, None, None, None]
    fixed = list(zip(map(level, decision["thresholds"]), _columns(min_sizes, decision["min_sizes"]), strict=True))
    choose = _chooser(decision, min_sizes)
    tuned = [choose(mean[:, c].mean(axis=0)) for c in range(len(classes))] if len(folds) else fixed
    rows, nested = [], {}
    for f, fold in enumerate(folds):
        others = [other for other in range(len(folds)) if other != f]
        if others:
            nested[fold] = [choose(mean[others, c].mean(axis=0)) for c in range(len(classes))]
        for c, name in enumerate(classes):
            scores = {"fixed": mean[f, c][fixed[c]], "tuned": mean[f, c][tuned[c]]}
            scores["nested"] = mean[f, c][nested[fold][c]] if others else np.nan
            rows.append({"what": "dice", "class": name, "fold": fold, **scores, "images": int(counts[f])})

    def settled(chosen: Sequence[tuple[int, int]]) -> dict[str, dict[str, Any]]:
        return {
            name: {**_thresholds(lev, sharpen), "min_size": int(min_sizes[size])}
            for name, (lev, size) in zip(classes, chosen, strict=True)
        }

    plain: dict[str, Any] = {"how": decision["how"], "images": int(counts.sum())}
    plain |= {} if sharpen is None else {"sharpen": sharpen}
    plain["classes"] = settled(fixed if decision["how"] == "fixed" else tuned)
    if decision["how"] != "fixed" and nested:
        plain["nested"] = {int(fold): settled(chosen) for fold, chosen in nested.items()}
    return plain, _with_means(pd.DataFrame(rows, columns=["what", "class", "fold", *KINDS, "images"]))


def _thresholds(level: int, sharpen: float | None) -> dict[str, Any]:
    """Write a level of a blend as the probability that it stands for, and as the blend has it where that differs."""
    if sharpen is None:
        return {"level": level, "threshold": round(level / 255, 4)}
    return {"level": level, "threshold": round((level / 255) ** (1 / sharpen), 4), "sharpened": round(level / 255, 4)}


def read_decision(path: str | Path, classes: Sequence[str]) -> dict[str, Any]:
    r"""Read the decision of an ensemble.

    Parameters
    ----------
    path : ``decision.yaml``, as :func:`decide` returns it.
    classes : names of the classes that it must decide on.

    Raises
    ------
    DamagedFileError : if the file is cut short, or does not give each class a ``level`` and a ``min_size``.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> text = "how: fixed\nimages: 2\nclasses:\n  Fish: {level: 128, threshold: 0.502, min_size: 0}\n"
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "decision.yaml").write_text(text)
    ...     read_decision(f"{folder}/decision.yaml", ["Fish"])["classes"]["Fish"]["level"]
    128
    """
    text = read_text(path)
    try:
        decision = yaml.safe_load(text)
        decided = [decision["classes"], *decision.get("nested", {}).values()]
        whole = all(_decides_on(classes, one) for one in decided)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"not a whole decision ({error!r})") from error
    if not whole:
        raise damaged(path, f"each of {', '.join(classes)} needs a whole level and min_size, {decided} came")
    return decision


def _decides_on(classes: Sequence[str], decided: Mapping[str, Mapping[str, Any]]) -> bool:
    keys = ("level", "min_size")
    return decided.keys() == set(classes) and all(isinstance(one[key], int) for one in decided.values() for key in keys)


KINDS = ["fixed", "tuned", "nested"]


def _chooser(decision: Mapping[str, Any], min_sizes: Sequence[int]) -> Callable[[np.ndarray], tuple[int, int]]:
    """Return what chooses a level and a column of a class's mean Dice (256, min_size)."""
    if decision["how"] == "grid":
        columns = _columns(min_sizes, decision["grid"]["min_sizes"])
        return lambda dice: grid(dice, decision["grid"]["thresholds"], columns)
    columns = _columns(min_sizes, decision["tune_min_sizes"])

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
