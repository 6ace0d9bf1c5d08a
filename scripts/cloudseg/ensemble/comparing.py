"""Compare an ensemble with its members, each decided by the ensemble's own procedure on the same images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cloudseg.ensemble.decide_blend import Stores, decide_blend
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.scores import image_scores, mean_of_images, paired_bootstrap
from cloudseg.ensemble.surface import measure


def compare(
    images: pd.DataFrame,
    members: Mapping[str, str | Path],
    truth: str | Path,
    *,
    folds: Sequence[int],
    classes: Sequence[str],
    rule: DecisionRule,
    seed: int,
    voters: Mapping[str, Decision] | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Find the best member of an ensemble, and how much more than it the ensemble scores.

    Parameters
    ----------
    images : the ensemble's scores per image, as :func:`cloudseg.ensemble.scores.image_scores` returns them.
    members : per member its out-of-fold probabilities, a store as `image_scores` reads it; without those that say
        where a class is and not whether, whose masks of their own are no measure.
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
    folds : those of the ensemble; members may have more.
    classes : names, in the order of the stores.
    rule : how the ensemble is decided, with thresholds for a blend that is not sharpened. A member is decided likewise:
        by the same numbers, or by its own choice on the other folds.
    seed : of the bootstrap.
    voters : where members vote, the own decision of each, by which it is scored: the rule's numbers are of votes.
    threads : the result does not depend on it.

    Returns
    -------
    dict : `best_member`, its Dice `best_member_dice`, `gain` over it (may be negative) and the interval `gain_low`,
        `gain_high`; empty where the ensemble has no honest score: no images, or a choice on a single fold; or
        where no member is compared.
    """
    if not members or images.empty or (rule.how != "fixed" and len(folds) < 2):
        return {}
    best_dice, best, best_scores = -1.0, "", images
    for name, blend in sorted(members.items()):
        if voters:
            scores = image_scores(blend, truth, voters[name], folds=folds, threads=threads)
        else:
            scores = member_scores(blend, truth, folds=folds, classes=classes, rule=rule, threads=threads)
        dice = mean_of_images(scores)
        if dice >= best_dice:  # of equals the last, which is a `last` rather than a `best`
            best_dice, best, best_scores = dice, name, scores
    gain, low, high = paired_bootstrap(images, best_scores, seed=seed)
    return {"best_member": best, "best_member_dice": best_dice, "gain": gain, "gain_low": low, "gain_high": high}


def member_scores(
    blend: str | Path,
    truth: str | Path,
    *,
    folds: Sequence[int],
    classes: Sequence[str],
    rule: DecisionRule,
    threads: int = 1,
) -> pd.DataFrame:
    """Score a member image by image, decided as `rule` says; a choice is made on the other folds.

    Parameters and result are those of `compare` and of `image_scores`.
    """
    if rule.how == "fixed":
        return image_scores(blend, truth, Decision(rule.how, 0, rule.fixed(classes)), folds=folds, threads=threads)
    surface = measure(blend, truth, folds=folds, min_sizes=rule.surface_min_sizes, threads=threads)
    return decide_blend(Stores(blend, truth), rule, classes=classes, surface=surface, threads=threads).images
