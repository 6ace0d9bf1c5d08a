"""Score a blend image by image, the way the contest counted, and take the score apart to see where it comes from."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cloudseg.ensemble.blended import Blended, OutOfFold
from cloudseg.ensemble.decision import Decision
from cloudseg.errors import ConfigError, DamagedFileError
from cloudseg.postprocess.arguments import in_order
from cloudseg.runtime.job_progress import counting
from cloudseg.storage.some_images import pieces

IMAGE_COLUMNS = ["image", "fold", "class", "truth", "kept", "dice"]
PART_COLUMNS = ["dice", "dice_nonempty", "empty_kept", "precision", "recall", "rate"]
INTERVAL = (2.5, 97.5)  # percentiles of the bootstrap: 95 of 100 draws lie between


def image_scores(
    blend: str | Path,
    truth: str | Path,
    decision: Decision,
    *,
    whether: str | Path | None = None,
    folds: Sequence[int] | None = None,
    threads: int = 1,
) -> pd.DataFrame:
    """Score the masks that a decision makes of a blend, per image and class.

    Where the decision was chosen on these very images, each is scored by what was chosen on the other folds.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 of out-of-fold probabilities with the attributes `ids`, `classes`, `fold`.
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
    decision : how the blend becomes masks.
    whether : what tells whether a class is there, as :class:`cloudseg.ensemble.blended.Blended` reads it.
    folds : those whose images are scored; None is all.
    threads : images are read and scored by so many threads; the result does not depend on it.

    Returns
    -------
    DataFrame : image, fold, class, truth (pixels), kept (pixels of the mask), dice (1 where both are empty), in the
        order of the blend. The mean of `dice` over images, then classes, then folds is the score.

    Raises
    ------
    StoreError : when an image of the blend has no truth.
    """
    blended = Blended(blend, whether)
    images = OutOfFold(blended, truth)

    wanted = np.array([folds is None or fold in folds for fold in blended.fold_of], bool)

    def count(rows: slice) -> np.ndarray:
        planes, truth, evidence = blended.planes(rows), images.truths(rows), blended.evidence(rows)
        chosen = np.flatnonzero(wanted[rows])
        counts = np.zeros((len(chosen), len(blended.classes), 3), np.int64)
        for number, place in enumerate(chosen.tolist()):
            rule = decision.rule_for(blended.fold_of[rows.start + place])
            masks = rule.masks(planes[place], evidence and evidence.of_image(place))
            counts[number] = list(_counts(masks, truth[place]))
        return counts

    parts = [np.zeros((0, len(blended.classes), 3), np.int64)]
    some = [rows for rows in pieces(blended.store) if wanted[rows].any()]
    with counting(int(wanted.sum()), "images") as done:
        for counts in in_order(count, some, threads):
            parts.append(counts)
            done(len(counts))
    return _table(blended, np.flatnonzero(wanted).tolist(), np.concatenate(parts))


def _table(blended: Blended, rows: Sequence[int], counts: np.ndarray) -> pd.DataFrame:
    """Return the table of `image_scores` of the images in some rows, from the counts of each: (N, C, 3)."""
    if not rows:
        return pd.DataFrame([], columns=IMAGE_COLUMNS)
    covered, kept, both = counts.reshape(-1, 3).T
    total, each = covered + kept, range(len(blended.classes))
    columns = [
        [name for row in rows for name in itertools.repeat(blended.ids[row], len(each))],
        [blended.fold_of[row] for row in rows for _ in each],
        blended.classes * len(rows),
        covered,
        kept,
        np.divide(2 * both, total, out=np.ones(len(total)), where=total > 0),
    ]
    return pd.DataFrame(dict(zip(IMAGE_COLUMNS, columns, strict=True)))


def class_dice(images: pd.DataFrame) -> dict[str, float]:
    """Return the Dice of each class, mean over images, then folds: folds are not of one size.

    Examples
    --------
    >>> rows = [("a", 0, "Fish", 9, 9, 1.0), ("b", 0, "Fish", 9, 0, 0.0), ("c", 1, "Fish", 0, 0, 1.0)]
    >>> class_dice(pd.DataFrame(rows, columns=IMAGE_COLUMNS))
    {'Fish': 0.75}
    """
    return images.groupby(["fold", "class"], sort=False)["dice"].mean().groupby("class", sort=False).mean().to_dict()


def mean_of_images(images: pd.DataFrame) -> float:
    """Return the mean Dice over images, then classes, then folds; NaN of none."""
    return float(images.groupby(["fold", "class"])["dice"].mean().groupby("fold").mean().mean())


def _counts(masks: np.ndarray, truth: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield per class the pixels of the truth, of the mask, and of both."""
    for mask, wanted in zip(masks, truth, strict=True):
        yield np.count_nonzero(wanted), np.count_nonzero(mask), np.count_nonzero(mask & (wanted != 0))


def score_parts(images: pd.DataFrame, rates: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Take the score apart, per class and fold.

    With r the share of images that have the class, Dice is (1 - r) * empty_kept + r * dice_nonempty.

    Parameters
    ----------
    images : what `image_scores` returns.
    rates : per class the share of images, 0 to 1, that have it where masks will be scored, such as the contest's test
        images; None where it is not known.

    Returns
    -------
    DataFrame : class, fold, then shares from 0 to 1, empty where there is nothing to divide by: dice; dice_nonempty (of
        images that have the class); empty_kept (images without the class that got no mask, of those without it);
        precision and recall of presence (an image with a mask is called to have the class); rate (r); expected (Dice
        where the class has the rate of `rates`); last images, how many. In a row without a fold, shares are means
        over the folds that have one, and in a row with the class `all`, over the classes that have one; `expected` is
        of these means and, over classes, empty when one class has none.

    Raises
    ------
    ConfigError : when `rates` names other classes than `images`, or one outside of 0..1.

    Examples
    --------
    >>> rows = [("a", 0, "Fish", 9, 9, 1.0), ("b", 0, "Fish", 0, 0, 1.0), ("c", 0, "Fish", 0, 4, 0.0)]
    >>> score_parts(pd.DataFrame(rows, columns=IMAGE_COLUMNS), {"Fish": 0.5}).round(3).T[0].to_dict()
    ... # doctest: +NORMALIZE_WHITESPACE
    {'class': 'Fish', 'fold': 0, 'dice': 0.667, 'dice_nonempty': 1.0, 'empty_kept': 0.5, 'precision': 0.5,
     'recall': 1.0, 'rate': 0.333, 'expected': 0.75, 'images': 3}
    """
    if rates is not None:
        _refuse_rates(rates, list(images["class"].unique()))
    parts = pd.DataFrame(
        [
            {"class": name, "fold": fold, **_parts_of(group), "images": len(group)}
            for (fold, name), group in images.groupby(["fold", "class"], sort=False)
        ],
        columns=["class", "fold", *PART_COLUMNS, "images"],
    ).astype({"fold": "Int64"})
    classes = parts.groupby("class", sort=False)
    per_class = classes[PART_COLUMNS].mean().assign(images=classes["images"].sum(), fold=pd.NA).reset_index()
    whole = pd.concat([parts, per_class.astype({"fold": "Int64"})], ignore_index=True) if len(parts) else parts
    given = whole["class"].map(rates or {}).astype(float)
    whole.insert(len(whole.columns) - 1, "expected", mixed(given, whole["empty_kept"], whole["dice_nonempty"]))
    folds = whole.groupby("fold", sort=False, dropna=False)
    over_classes = (
        folds[PART_COLUMNS]
        .mean()
        .assign(
            expected=folds["expected"].agg(lambda column: column.mean(skipna=False)), images=folds["images"].first()
        )
    )
    return pd.concat([whole, over_classes.reset_index().assign(**{"class": "all"})[whole.columns]], ignore_index=True)


def _parts_of(group: pd.DataFrame) -> dict[str, float]:
    has, called, dice = group["truth"] > 0, group["kept"] > 0, group["dice"]
    return {
        "dice": dice.mean(),
        "dice_nonempty": dice[has].mean(),
        "empty_kept": dice[~has].mean(),  # Dice of an image without the class is 1 without a mask, else 0
        "precision": has[called].mean(),
        "recall": called[has].mean(),
        "rate": has.mean(),
    }


def mixed(rate: pd.Series, empty_kept: pd.Series, dice_nonempty: pd.Series) -> np.ndarray:
    """Return (1 - rate) * empty_kept + rate * dice_nonempty; a part whose share is 0 counts 0 even where it is NaN.

    Examples
    --------
    >>> mixed(pd.Series([0.25, 1.0]), pd.Series([0.8, np.nan]), pd.Series([0.4, 0.6]))
    array([0.7, 0.6])
    """
    empty = np.where(rate == 1, 0, (1 - rate) * empty_kept)
    return empty + np.where(rate == 0, 0, rate * dice_nonempty)


def expected_score(parts: pd.DataFrame, rates: Mapping[str, float] | None = None) -> float:
    """Return the score that is expected where classes are as frequent as `rates` say.

    It is the "frog's metric" of the contest's forum: the mean over classes of (1 - r) * share of empties kept empty
    + r * Dice of non-empty truth. It holds as far as images differ in how frequent classes are, and in nothing else.

    Parameters
    ----------
    parts : what `score_parts` returns.
    rates : per class the share of images, 0 to 1, that have it. The parts are then means over the folds that have
        them. None: the rates of each fold, of which the mean over folds is the plain score.

    Returns
    -------
    float : NaN when a class has no image of a kind that counts, or there are no images.

    Raises
    ------
    ConfigError : when `rates` names other classes than `parts`, or one outside of 0..1.

    Examples
    --------
    >>> columns = ["class", "fold", "dice_nonempty", "empty_kept", "rate"]
    >>> rows = [("Fish", 0, 0.5, 0.9, 0.5), ("Fish", None, 0.5, 0.9, 0.5)]
    >>> parts = pd.DataFrame(rows, columns=columns)
    >>> round(expected_score(parts), 3), round(expected_score(parts, {"Fish": 0.25}), 3)
    (0.7, 0.8)
    """
    per_class = parts[parts["class"] != "all"]
    if rates is None:
        own = per_class[per_class["fold"].notna()]
        scores = own.assign(score=mixed(own["rate"], own["empty_kept"], own["dice_nonempty"]))
        per_fold = scores.groupby("fold")["score"].agg(lambda column: column.mean(skipna=False))
        return float(per_fold.mean(skipna=False))
    _refuse_rates(rates, list(per_class["class"].unique()))
    means = per_class[per_class["fold"].isna()]
    given = means["class"].map(rates).astype(float)
    scores = mixed(given, means["empty_kept"], means["dice_nonempty"])
    return float(scores.mean()) if len(scores) else float("nan")


def _refuse_rates(rates: Mapping[str, float], classes: Sequence[str]) -> None:
    if classes and set(rates) != set(classes):
        raise ConfigError(f"class_rates: expected one rate for each of {sorted(classes)}, got {sorted(rates)}")
    if wrong := {name: rate for name, rate in rates.items() if not 0 <= rate <= 1}:
        raise ConfigError(f"class_rates: expected shares of images from 0 to 1, got {wrong}")


def paired_bootstrap(a: pd.DataFrame, b: pd.DataFrame, *, seed: int, draws: int = 2000) -> tuple[float, float, float]:
    """Return how much more `a` scores than `b` on the images that both have, and how sure that is.

    The difference of an image is drawn as a whole, its classes together, since they share what makes an image hard; and
    within its fold, so that every draw is the same mean as the score: over images, classes and folds. The interval
    is the percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
    It tells about other images, not about other training runs.

    Parameters
    ----------
    a, b : what `image_scores` returns.
    seed : of the draws.
    draws : times that the images of all folds are drawn, with replacement.

    Returns
    -------
    gain, low, high : mean of Dice of `a` minus Dice of `b`, and the interval that 95 % of the draws lie in; all NaN
        when there is no common image. With one image in each fold the interval has no width.

    Raises
    ------
    DamagedFileError : when an image has another fold or other classes in `b` than in `a`.

    Examples
    --------
    >>> a = pd.DataFrame({"image": list("wxyz"), "fold": 0, "class": "Fish", "dice": [0.5, 0.7, 0.9, 1.0]})
    >>> gain, low, high = paired_bootstrap(a, a.assign(dice=[0.4, 0.7, 0.7, 1.0]), seed=1)
    >>> round(gain, 3), 0 <= low < gain < high <= 0.2
    (0.075, True)
    """
    common = a[a["image"].isin(b["image"])]
    pairs = common.merge(b, on=["image", "class"], how="outer", suffixes=("", "_b"), indicator="found")
    pairs = pairs[pairs["image"].isin(common["image"])]
    if len(strange := pairs[(pairs["found"] != "both") | (pairs["fold"] != pairs["fold_b"])]):
        raise DamagedFileError(
            f"{strange['image'].iloc[0]}: has another fold or other classes in the two tables ({len(strange)} rows of "
            f"{len(pairs)}); both must come from the same folds.tsv: delete the older one and run again"
        )
    if pairs.empty:
        return float("nan"), float("nan"), float("nan")
    pairs["gain"] = pairs["dice"] - pairs["dice_b"]
    per_image = pairs.groupby(["fold", "image"])["gain"].mean()
    random = np.random.default_rng(seed)
    gains, drawn = [], []
    for _, fold in per_image.groupby("fold"):
        values = fold.to_numpy()
        gains.append(values.mean())
        drawn.append(values[random.integers(len(values), size=(draws, len(values)), dtype=np.int32)].mean(axis=1))
    low, high = np.percentile(np.mean(drawn, axis=0), INTERVAL)
    return float(np.mean(gains)), float(low), float(high)
