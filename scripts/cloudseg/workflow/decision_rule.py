"""A decision of a config as the params of the jobs that decide: numbers of the blend, one per class."""

import math
from fractions import Fraction
from typing import Any

from cloudseg.config.decision import DecisionEntry, PlaneScoreEntry, pixels_of
from cloudseg.config.defaults import GRID
from cloudseg.workflow.dataset import DatasetPlan

TUNE = "tune"
# Of `cloudseg.ensemble.decide_blend` and `.searching`, which are not read to plan
GATES, TOP_LEVELS, HIGHS, TABLES_MEGABYTES = 256, 31, 64, 1100


def decision_rule(decision: DecisionEntry, dataset: DatasetPlan, sharpen: float | None) -> dict[str, Any]:
    """Return what :class:`cloudseg.ensemble.decision.DecisionRule` is made of; a key that is not asked for is left out.

    Parameters
    ----------
    decision : as in the config.
    dataset : the images, and the config.
    sharpen : the power of p that is averaged in the blend; None is p itself.
    """
    classes = dataset.classes
    return {
        "how": decision.how,
        "thresholds": _of_blend(decision.threshold, decision, classes, sharpen),
        **({} if sharpen is None else {"sharpen": sharpen}),
        "min_sizes": per_class(decision.min_size, classes),
        "tune_min_sizes": sorted(dataset.config.min_sizes),
        **({"grid": GRID} if decision.how == "grid" else {}),
        **_presence(decision, dataset, sharpen),
        **_plane_rules(decision, classes, sharpen),
        **({"fill_holes": True} if decision.fill_holes else {}),
        **_rates(decision, classes),
    }


def table_megabytes(rule: dict[str, Any], folds: int) -> float:
    """Return about how much memory the tables take in which the Dice of all that may be chosen is counted.

    Parameters
    ----------
    rule : what :func:`decision_rule` returns.
    folds : that are scored.

    Examples
    --------
    >>> table_megabytes({"how": "tune", "thresholds": [0.5] * 4, "tune_min_sizes": [0, 20], "high": "tune"}, folds=5)
    5.24288
    """
    if rule["how"] != "tune":
        return 0
    sizes, presence = len(rule["tune_min_sizes"]), rule.get("presence")
    gates = GATES * len(presence["scores"]) if presence and presence["thresholds"] is None else 1
    gates *= TOP_LEVELS * sizes if rule.get("plane_min") == TUNE else 1
    gates *= HIGHS if rule.get("high") == TUNE else 1
    return min(8 * folds * len(rule["thresholds"]) * gates * 256 * sizes / 1e6, TABLES_MEGABYTES)


def looks_at_images(rule: dict[str, Any]) -> bool:
    """Return whether more is decided than the surface holds, so that each image is looked at again."""
    further = ("presence", "plane_min", "high", "fill_holes")
    return rule["how"] in ("rate", "expected") or any(key in rule for key in further)


def _presence(decision: DecisionEntry, dataset: DatasetPlan, sharpen: float | None) -> dict[str, Any]:
    entry, pixels = decision.presence, math.prod(dataset.submission_size)
    if entry is None:
        return {}
    thresholds = None
    if entry.threshold is not None:
        # A share of the plane is no probability
        is_area = entry.score[0].area is not None
        thresholds = (
            per_class(entry.threshold, dataset.classes)
            if is_area
            else _of_blend(entry.threshold, decision, dataset.classes, sharpen)
        )
    scores = [_score(score, decision, pixels, sharpen) for score in entry.score]
    presence = {"scores": scores, "thresholds": thresholds, "pixels": pixels}
    if entry.classifiers is not None:
        presence["classifiers"] = str(Fraction(str(entry.classifiers)))
    return {"presence": presence, **({"best": decision.best} if decision.best not in (None, "never") else {})}


def _score(score: PlaneScoreEntry, decision: DecisionEntry, pixels: int, sharpen: float | None) -> dict[str, Any]:
    """Return the one key of a score with its number."""
    if score.top is not None:
        return {"top": pixels_of(score.top, pixels, least=1)}
    if score.percentile is not None:
        return {"rank": rank_of(score.percentile, pixels)}
    return {"area": blend_threshold(score.area, decision.sharpened, sharpen)}


def rank_of(percentile: float, pixels: int) -> int:
    """Return how many pixels reach the one that `percentile` % of a plane's pixels do not exceed.

    Examples
    --------
    >>> rank_of(95, 100), rank_of(100, 100), rank_of(0, 100), rank_of(50, 3)
    (6, 1, 100, 2)
    """
    not_more = math.ceil(Fraction(str(percentile)) * pixels / 100)
    return pixels - max(not_more, 1) + 1


def _plane_rules(decision: DecisionEntry, classes: list[str], sharpen: float | None) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    if decision.plane_min == TUNE:
        rules["plane_min"] = TUNE
    elif decision.plane_min is not None:
        thresholds = _of_blend(decision.plane_min.level, decision, classes, sharpen)
        rules["plane_min"] = {"thresholds": thresholds, "areas": per_class(decision.plane_min.area, classes)}
    if decision.high == TUNE:
        rules["high"] = TUNE
    elif decision.high is not None:
        rules["high"] = _of_blend(decision.high, decision, classes, sharpen)
    return rules


def _rates(decision: DecisionEntry, classes: list[str]) -> dict[str, Any]:
    if decision.how != "rate":
        return {}
    rates = "training" if decision.rates in (None, "training") else per_class(decision.rates, classes)
    return {"rates": rates, "rate_of": decision.rate_of or "images"}


def _of_blend(value: Any, decision: DecisionEntry, classes: list[str], sharpen: float | None) -> list[float]:
    """Return the thresholds of the blend that cut where those of a config do, one per class."""
    return [blend_threshold(threshold, decision.sharpened, sharpen) for threshold in per_class(value, classes)]


def per_class(value: Any, classes: list[str]) -> list[Any]:
    """Return one value per class from one number or a mapping of classes.

    Examples
    --------
    >>> per_class(0.5, ["Fish", "Flower"]), per_class({"Flower": 1, "Fish": 2}, ["Fish", "Flower"])
    ([0.5, 0.5], [2, 1])
    """
    return [value[name] for name in classes] if isinstance(value, dict) else [value] * len(classes)


def blend_threshold(threshold: float, given_for: float | None, sharpen: float | None) -> float:
    """Return the threshold of a blend of p to the power `sharpen` that cuts where `threshold` does.

    Parameters
    ----------
    threshold : in [0, 1].
    given_for : the power of p that `threshold` is given for; None is p itself.
    sharpen : the power that is averaged in the blend; None is p itself.

    Examples
    --------
    >>> blend_threshold(0.25, None, 0.5), blend_threshold(0.7, 0.5, 0.5), round(blend_threshold(0.7, 0.5, None), 4)
    (0.5, 0.7, 0.49)
    """
    return threshold if given_for == sharpen else threshold ** ((sharpen or 1) / (given_for or 1))
