"""Decide on a blend, whatever the rule, and score what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cloudseg.ensemble.blended import Blended, OutOfFold
from cloudseg.ensemble.choosing import choose
from cloudseg.ensemble.deciding import ALL, decide, with_means
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.scores import image_scores
from cloudseg.ensemble.surface import SurfaceSums


@dataclass(frozen=True)
class Stores:
    """What a decision is made on.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 of out-of-fold probabilities with the attributes `ids`, `classes`, `fold`.
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
    whether : what tells whether a class is there, as :class:`cloudseg.ensemble.blended.Blended` reads it, or None.
    """

    blend: str | Path
    truth: str | Path
    whether: str | Path | None = None


class Decided(NamedTuple):
    """A decision, what it scores per class and fold, and per image: `scores.tsv` and `images.tsv`."""

    decision: Decision
    scores: pd.DataFrame
    images: pd.DataFrame


def decide_blend(
    stores: Stores, rule: DecisionRule, *, classes: Sequence[str], surface: SurfaceSums, threads: int = 1
) -> Decided:
    """Decide how a blend becomes masks and score the decision on its out-of-fold images.

    Where the surface does not hold all that a decision may be, its scores are those of masks that are made of the
    images; else they come from the surface, as :func:`cloudseg.ensemble.deciding.decide` says.

    Parameters
    ----------
    stores : the blend, its truth, and what tells of presence.
    rule : how to decide.
    classes : names.
    surface : the sums of Dice of the blend, as :func:`cloudseg.ensemble.surface.measure` returns them; its folds count.
    threads : the result does not depend on it.
    """
    tuned, scores = decide(*surface, classes=classes, rule=rule)
    folds = surface[-1]

    def scored(decision: Decision) -> pd.DataFrame:
        return image_scores(stores.blend, stores.truth, decision, whether=stores.whether, folds=folds, threads=threads)

    if rule.is_of_surface or not folds:
        return Decided(tuned, scores, scored(tuned))
    decision = tuned if rule.how == "fixed" else _chosen(stores, rule, folds, threads)
    images = scored(decision)
    if rule.how == "fixed":
        return Decided(decision, _replaced(scores, fixed=images), images)
    kinds = {"fixed": scored(Decision("fixed", 0, rule.fixed(classes))), "tuned": scored(decision.everywhere)}
    return Decided(decision, _replaced(scores, **kinds, **({"nested": images} if decision.nested else {})), images)


def decision_of(
    stores: Stores, rule: DecisionRule, *, classes: Sequence[str], surface: SurfaceSums, threads: int = 1
) -> Decision:
    """Return the decision alone, as :func:`decide_blend` does."""
    if rule.is_of_surface or rule.how == "fixed" or not surface[-1]:
        return decide(*surface, classes=classes, rule=rule)[0]
    return _chosen(stores, rule, surface[-1], threads)


def _chosen(stores: Stores, rule: DecisionRule, folds: Sequence[int], threads: int) -> Decision:
    images = OutOfFold(Blended(stores.blend, stores.whether), stores.truth)
    chosen = choose(images, rule, folds=folds, threads=threads)
    count = sum(len(images.blended.rows_of(fold)) for fold in folds)
    return Decision(rule.how, count, chosen.rule, chosen.nested, rule.sharpen)


def _replaced(scores: pd.DataFrame, **images: pd.DataFrame) -> pd.DataFrame:
    """Return a table of scores with some of its kinds as tables of images say."""
    parts = scores[(scores["class"] != ALL) & scores["fold"].notna()]
    for kind, table in images.items():
        means = table.groupby(["class", "fold"])["dice"].mean()
        parts = parts.assign(**{kind: means.loc[list(zip(parts["class"], parts["fold"], strict=True))].to_numpy()})
    return with_means(parts)
