"""Decide on a blend, whatever the rule, and score what comes of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cloudseg.ensemble.blended import Blended, Block, OutOfFold
from cloudseg.ensemble.choosing import Chosen, with_cuts
from cloudseg.ensemble.deciding import ALL, decide, with_means
from cloudseg.ensemble.decision import TUNE, Decision, DecisionRule
from cloudseg.ensemble.expecting import expect
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.rating import rate
from cloudseg.ensemble.scores import image_scores
from cloudseg.ensemble.searching import Space, search
from cloudseg.ensemble.surface import SurfaceSums

# Bytes that `how: tune` may choose as a top level, and as a high level, of which 0 is no condition
TOP_LEVELS = range(8, 256, 8)
HIGHS = range(0, 256, 4)


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
    decision = _of_surface(tuned, rule) or _chosen(stores, rule, folds, threads)
    images = scored(decision)
    if rule.how == "fixed":
        return Decided(decision, _replaced(scores, fixed=images), images)
    kinds = {"fixed": scored(Decision("fixed", 0, rule.fixed(classes))), "tuned": scored(decision.everywhere)}
    return Decided(decision, _replaced(scores, **kinds, **({"nested": images} if decision.nested else {})), images)


def decision_of(
    stores: Stores, rule: DecisionRule, *, classes: Sequence[str], surface: SurfaceSums, threads: int = 1
) -> Decision:
    """Return the decision alone, as :func:`decide_blend` does."""
    tuned, _ = decide(*surface, classes=classes, rule=rule)
    if rule.is_of_surface or not surface[-1]:
        return tuned
    return _of_surface(tuned, rule) or _chosen(stores, rule, surface[-1], threads)


def _of_surface(decision: Decision, rule: DecisionRule) -> Decision | None:
    """Return what was decided on the surface, if that is all that is chosen; None if images have to be looked at."""
    if rule.how != "grid":
        return decision if rule.how == "fixed" else None
    # A grid goes with full holes alone, which have no part in the choice
    nested = {fold: with_cuts(each, fill_holes=rule.fill_holes) for fold, each in decision.nested.items()}
    return replace(decision, rule=with_cuts(decision.rule, fill_holes=rule.fill_holes), nested=nested)


def _chosen(stores: Stores, rule: DecisionRule, folds: Sequence[int], threads: int) -> Decision:
    images = OutOfFold(Blended(stores.blend, stores.whether), stores.truth)
    chosen = _choose(images, rule, folds, threads)
    count = sum(len(images.blended.rows_of(fold)) for fold in folds)
    return Decision(rule.how, count, chosen.rule, chosen.nested, rule.sharpen)


def _choose(images: OutOfFold, rule: DecisionRule, folds: Sequence[int], threads: int) -> Chosen:
    """Return what the rule chooses on all folds and without each."""
    classes = images.blended.classes
    held = rule.fixed(classes)

    def blocks() -> Iterator[Block]:
        return images.blocks(folds)

    if rule.how == "rate":
        rates = None if rule.rates == "training" else dict(zip(classes, rule.rates, strict=True))
        return rate(blocks, held, folds, rates=rates, share=rule.rate_of, threads=threads)
    if rule.how == "expected":
        [score] = rule.scores
        return expect(blocks, held, score, folds, threads=threads)
    return search(blocks, space_of(rule, held), folds, threads=threads)


def space_of(rule: DecisionRule, held: ImageRule) -> Space:
    """Return what `how: tune` may choose.

    Parameters
    ----------
    rule : says what is open; level and minimum size always are.
    held : the numbers that the config gives, of which those that are not open stay.
    """
    sizes = sorted(rule.tune_min_sizes)
    is_open = rule.presence is not None and rule.presence["thresholds"] is None
    areas = rule.plane_min == TUNE
    return Space(
        replace(held, best=rule.best),
        sizes,
        scores=rule.scores if is_open else (),
        top_levels=TOP_LEVELS if areas else (),
        top_areas=sizes if areas else (),
        highs=HIGHS if rule.high == TUNE else (),
    )


def _replaced(scores: pd.DataFrame, **images: pd.DataFrame) -> pd.DataFrame:
    """Return a table of scores with some of its kinds as tables of images say."""
    parts = scores[(scores["class"] != ALL) & scores["fold"].notna()]
    for kind, table in images.items():
        means = table.groupby(["class", "fold"])["dice"].mean()
        parts = parts.assign(**{kind: means.loc[list(zip(parts["class"], parts["fold"], strict=True))].to_numpy()})
    return with_means(parts)
