"""Decide on a blend, whatever the rule, and score what comes of it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cloudseg.ensemble.blended import Blended, OutOfFold
from cloudseg.ensemble.choosing import choose
from cloudseg.ensemble.deciding import KINDS, decide, with_means
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.scores import image_scores
from cloudseg.ensemble.surface import SurfaceSums, measure


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


def decide_blend(
    stores: Stores,
    rule: DecisionRule,
    *,
    classes: Sequence[str],
    folds: Sequence[int],
    surface: SurfaceSums | None = None,
    threads: int = 1,
) -> tuple[Decision, pd.DataFrame]:
    """Decide how a blend becomes masks and score the decision on its out-of-fold images.

    Parameters
    ----------
    stores : the blend, its truth, and what tells of presence.
    rule : how to decide.
    classes, folds : names, and numbers of the folds whose images count.
    surface : the sums of Dice of the blend, as :func:`cloudseg.ensemble.surface.measure` returns them; None measures it
        where the rule needs it.
    threads : the result does not depend on it.

    Returns
    -------
    decision, scores : as of :func:`cloudseg.ensemble.deciding.decide`. Where the surface does not hold all that a
        decision may be, scores are of masks that are made of the images.
    """
    if surface is None and (rule.is_of_surface or rule.how == "fixed"):
        surface = measure(stores.blend, stores.truth, folds=folds, min_sizes=rule.surface_min_sizes, threads=threads)
    if rule.is_of_surface:
        return decide(*surface, classes=classes, rule=rule)
    if rule.how == "fixed":
        return _decide_fixed(stores, rule, surface, classes, folds, threads)
    found = choose(OutOfFold(Blended(stores.blend, stores.whether), stores.truth), rule, folds=folds, threads=threads)
    decision = Decision(rule.how, found.images, found.rule, found.nested, rule.sharpen)
    fixed, tuned = Decision("fixed", 0, rule.fixed(classes)), Decision(rule.how, 0, found.rule)
    scored = {"fixed": fixed, "tuned": tuned, **({"nested": decision} if found.nested else {})}
    return decision, _scores_of(scored, stores, folds, threads)


def _decide_fixed(
    stores: Stores,
    rule: DecisionRule,
    surface: SurfaceSums,
    classes: Sequence[str],
    folds: Sequence[int],
    threads: int,
) -> tuple[Decision, pd.DataFrame]:
    """Return the fixed decision, scored by its masks, beside what tuning a level and a minimum size would score."""
    tuned, scores = decide(*surface, classes=classes, rule=rule)
    decision = dataclasses.replace(tuned, rule=rule.fixed(classes))
    own = _scores_of({"fixed": decision}, stores, folds, threads)
    return decision, scores.assign(fixed=own["fixed"])


def _scores_of(scored: Mapping[str, Decision], stores: Stores, folds: Sequence[int], threads: int) -> pd.DataFrame:
    """Return the table of scores of some decisions, from the masks that they make."""
    by_kind = {
        kind: image_scores(stores.blend, stores.truth, decision, whether=stores.whether, folds=folds, threads=threads)
        for kind, decision in scored.items()
    }
    first = next(iter(by_kind.values()))
    keys = ["fold", "class"]
    means = first.groupby(keys, sort=False).size().to_frame("images")
    for kind in KINDS:
        means[kind] = by_kind[kind].groupby(keys, sort=False)["dice"].mean() if kind in by_kind else math.nan
    return with_means(means.reset_index().assign(what="dice")[["what", "class", "fold", *KINDS, "images"]])
