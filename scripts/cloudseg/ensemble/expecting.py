"""Choose the mask of a plane by the Dice to be expected of it, from one number of the plane.

x is the score of a plane, binned. P(x) is the probability that the class is there, and E(x, t) the mean Dice of planes
that have it, cut at level t. A mask at the best t wins P E, none wins 1 - P: there is a mask where that is more. Both
are learnt out of fold, and compiled to steps of whole numbers: nothing learnt is needed to apply them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cloudseg.ensemble.blended import Block
from cloudseg.ensemble.choosing import (
    LEVELS,
    Blocks,
    Chosen,
    choices,
    chosen_of,
    dice_of_class,
    is_open,
    parts,
    without_presence,
)
from cloudseg.ensemble.deciding import NEAR_LEVELS
from cloudseg.ensemble.gates import THRESHOLDS, thresholds
from cloudseg.ensemble.masking import ImageRule, PlaneRule, Presence
from cloudseg.ensemble.neighbourhood import box_mean
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.postprocess import NOTHING

# Of the splines over the bins of x: on 4,000 simulated planes 4 lose 0.0003 of the best Dice, 7 and isotonic regression
# 0.0010 of it
KNOTS = 4
# Ridge: as if each spline had seen so many planes of the mean Dice. Logistic regression: the variance of its weights
PLANES_OF_MEAN, VARIANCE = 1.0, 10.0


def expect(blocks: Blocks, rule: ImageRule, score: PlaneScore, folds: Sequence[int], *, threads: int = 1) -> Chosen:
    """Choose, for each class, the level of a plane by its score, or no mask at all.

    Parameters
    ----------
    blocks : gives the images, block by block.
    rule : what is held: minimum size, high level, top level and its area. Its presence, levels and `best` are not.
    score : of a plane, x.
    folds : those of the blocks. All images count alike, whatever the sizes of their folds.
    threads : the result does not depend on it.

    Returns
    -------
    Chosen : rules with `steps`.

    Raises
    ------
    ValueError : when there is no image to choose on.
    """
    held = without_presence(rule)
    seen = _Seen.of(blocks, held, score, folds, threads)
    if not seen.pixels:
        raise ValueError("blocks: expected images to choose on, got none")
    at_least = thresholds(score, seen.pixels)
    rules = []
    for rows in choices(folds):
        planes, dice = seen.planes[rows].sum(axis=0), seen.dice[rows].sum(axis=0)
        classes = {
            name: _with_steps(each, score, steps(at_least, best_levels(planes[number], dice[number])), seen.pixels)
            for number, (name, each) in enumerate(held.classes.items())
        }
        rules.append(ImageRule(classes))
    return chosen_of(rules, folds)


def best_levels(planes: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Return the best level of each bin: int (256,), `NOTHING` where no mask is expected to win more.

    Parameters
    ----------
    planes : int (256, 2), planes of each bin without and with the class.
    dice : float64 (256, 256), the sum of Dice of the planes of each bin with the class at each level.
    """
    if not planes[:, 1].any():
        return np.full(THRESHOLDS, NOTHING)
    presence = _presence(planes)
    means = _expected_dice(planes[:, 1], dice)
    levels = np.argmax(np.round(box_mean(means, NEAR_LEVELS, axis=1), 12), axis=1)
    wins = presence * means[np.arange(THRESHOLDS), levels]
    return np.where(wins > 1 - presence, levels, NOTHING)


def steps(at_least: np.ndarray, levels: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return the steps (numerator, level) of levels per bin, equal neighbours as one.

    Examples
    --------
    >>> steps(np.array([0, 10, 10, 20, 30]), np.array([256, 256, 90, 90, 120]))
    ((10, 90), (30, 120))
    """
    of_numerator = dict(zip(at_least.tolist(), levels.tolist(), strict=True))  # of equal numerators the last bin
    before, kept = NOTHING, []
    for numerator, level in of_numerator.items():
        if level != before:
            kept.append((numerator, level))
        before = level
    return tuple(kept)


def _with_steps(rule: PlaneRule, score: PlaneScore, found: tuple[tuple[int, int], ...], pixels: int) -> PlaneRule:
    """Return a rule with steps; without any, no plane counts: its numerator would have to be above the scale.

    Its cut has the level of the planes that surely have the class, for those who want one number.
    """
    least = found[0][0] if found else score.scale(pixels) + 1
    surest = [level for _, level in found if level != NOTHING][-1:]
    cut = replace(rule.cut, level=surest[0]) if surest else rule.cut
    return replace(rule, cut=cut, presence=Presence(score, least), steps=found)


def _splines() -> Any:
    """Return what turns bins (N, 1) into splines: their knots are fixed, so that no data is too little."""
    from sklearn.preprocessing import SplineTransformer

    knots = np.linspace(0, THRESHOLDS - 1, KNOTS)[:, None]
    return SplineTransformer(knots=knots, extrapolation="constant").fit(knots)


def _presence(planes: np.ndarray) -> np.ndarray:
    """Return the probability that the class is there: float64 (256,) per bin."""
    from sklearn.linear_model import LogisticRegression

    if not planes[:, 0].any():
        return np.ones(THRESHOLDS)
    splines = _splines()
    bins, has = np.nonzero(planes)
    model = LogisticRegression(C=VARIANCE, max_iter=1000)
    model.fit(splines.transform(bins[:, None]), has, sample_weight=planes[bins, has])
    return model.predict_proba(splines.transform(np.arange(THRESHOLDS)[:, None]))[:, 1]


def _expected_dice(planes: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Return the Dice to be expected of a plane with the class: float64 (256, 256) per bin and level."""
    from sklearn.linear_model import Ridge

    splines = _splines()
    bins = np.flatnonzero(planes)
    model = Ridge(alpha=PLANES_OF_MEAN)
    model.fit(splines.transform(bins[:, None]), dice[bins] / planes[bins, None], sample_weight=planes[bins])
    return model.predict(splines.transform(np.arange(THRESHOLDS)[:, None]))


@dataclass
class _Seen:
    """What was seen of each fold and class, by bin of x."""

    planes: np.ndarray  # int64 (fold, class, bin, 2), without and with the class
    dice: np.ndarray  # float64 (fold, class, bin, level), sums over planes with the class
    pixels: int = 0  # of a plane

    @classmethod
    def of(cls, blocks: Blocks, held: ImageRule, score: PlaneScore, folds: Sequence[int], threads: int) -> "_Seen":
        shape = len(folds), len(held.classes), THRESHOLDS
        seen = cls(np.zeros((*shape, 2), np.int64), np.zeros((*shape, LEVELS)))
        for block in blocks():
            for part in parts(block, LEVELS):
                seen._add(folds.index(part.fold), part, held, score, threads)
        return seen

    def _add(self, fold: int, part: Block, held: ImageRule, score: PlaneScore, threads: int) -> None:
        planes, truth, evidence = part.planes, part.truth, part.evidence
        self.pixels = evidence.pixels
        at_least, asked = thresholds(score, self.pixels), is_open(held, planes, evidence)
        for number, rule in enumerate(held.classes.values()):
            bins = np.searchsorted(at_least, evidence.numerators(score, number), side="right") - 1
            has = truth[:, number].any(axis=(1, 2))
            # A plane without enough pixels of the top level has no mask whatever is expected of one
            np.add.at(self.planes[fold, number], (bins[asked[:, number]], has[asked[:, number]].astype(int)), 1)
            if (some := has & asked[:, number]).any():
                args = rule, planes[some, number], truth[some, number], [rule.cut.min_size]
                np.add.at(self.dice[fold, number], bins[some], dice_of_class(*args, threads=threads)[:, :, 0, 0])
