"""Checks of decisions and of the roles of an ensemble's members that need more than one key."""

from collections.abc import Iterator, Sequence
from typing import Any

from cloudseg.config.decision import DecisionEntry, pixels_of
from cloudseg.config.model import Config, EnsembleEntry
from cloudseg.config.names import nearest

MOST_AREAS = 40  # of `plane_min: tune`, whose table takes 32 top levels x 256 levels x the square of it, some 100 MB
PER_CLASS = ("threshold", "min_size", "presence.threshold", "plane_min.level", "plane_min.area", "high", "rates")
WHOLE_CHOICES = {"presence": "a threshold of presence", "plane_min": "plane_min", "high": "high"}


def decisions(config: Config) -> dict[str, DecisionEntry]:
    """Return every decision of a config by its key, such as ``ensembles.all.decision``."""
    own = {f"ensembles.{name}.decision": entry.decision for name, entry in config.ensembles.items() if entry.decision}
    return {"decision": config.decision, **own}


def decision_problems(
    decision: DecisionEntry, classes: tuple[str, ...], plane: int, min_sizes: Sequence[int | str] = ()
) -> Iterator[str]:
    """Yield what is wrong with a decision whose keys are each sound, on planes of so many pixels."""
    yield from _per_class_problems(decision, classes)
    yield from _presence_problems(decision, plane)
    yield from _tuning_problems(decision)
    yield from _order_problems(decision, classes)
    areas = _by_class(value_at(decision, "plane_min.area"), classes)
    if large := [name for name in areas if pixels_of(areas[name], plane) > plane]:
        yield (
            f"plane_min.area: expected at most the {plane:,} pixels of the submission grid, got {areas[large[0]]:,} "
            f"({len(large)} of {len(classes)} classes)"
        )
    if decision.how == "tune" and decision.plane_min == "tune" and len(min_sizes) > MOST_AREAS:
        yield (
            f"plane_min: expected numbers, or at most {MOST_AREAS} `min_sizes`, got {len(min_sizes)}: `tune` looks at "
            "each of them as a size and as an area, and the table would not fit into memory"
        )
    if decision.how != "rate":
        for key in ("rates", "rate_of"):
            if getattr(decision, key) is not None:
                yield f"{key}: expected `how: rate` beside it, got `how: {decision.how}`"
    if decision.how in ("grid", "rate"):
        for key in ("presence", "plane_min", "high"):
            if getattr(decision, key) is not None:
                hows = "`how: fixed`, `tune` or `expected`" if key == "presence" else "`how: fixed` or `how: tune`"
                yield f"{key}: expected {hows} beside it, got `how: {decision.how}`"


def value_at(decision: DecisionEntry, key: str) -> Any:
    """Return the value of a key of a decision such as ``plane_min.level``, None where it is left out or is a word."""
    value: Any = decision
    for part in key.split("."):
        value = getattr(value, part, None)
    return None if isinstance(value, str) else value


def ensemble_problems(entry: EnsembleEntry, decision: DecisionEntry, of_members: DecisionEntry) -> Iterator[str]:
    """Yield what is wrong with the roles of an ensemble's members.

    Parameters
    ----------
    entry : the ensemble.
    decision : its own, or the config's.
    of_members : the config's, by which experiments are decided alone.
    """
    given = [key for key in ("members", "where", "whether") if getattr(entry, key) is not None]
    if not given:
        yield "members: the key is missing"
    elif given == ["whether"]:
        yield "where: the key is missing; beside `whether` it says which runs give the masks"
    elif given not in (["members"], ["where", "whether"]):
        yield f"{given[-1]}: expected `members` alone, or `where` and `whether`, got {' and '.join(given)}"
    if entry.whether is None and decision.presence is not None and decision.presence.classifiers is not None:
        yield "decision.presence.classifiers: expected `whether` beside it, whose members have classification heads"
    if entry.whether is not None and decision.presence is None:
        yield "whether: expected `decision.presence` beside it, whose score these members give, got none"
    if entry.search is not None and entry.sharpen is not None:
        yield "sharpen: expected `search.sharpen`, a list to choose from, since the ensemble is searched for"
    if entry.search is not None and "members" not in given:
        yield "search: expected `members` beside it, to choose from, got where and whether"
    if entry.search is not None and any(query.weight != 1 for query in entry.members or ()):
        yield "members: expected no weight beside `search`, which chooses the weights"
    if entry.blend == "vote":
        yield from _vote_problems(entry, decision, of_members)


def _vote_problems(entry: EnsembleEntry, decision: DecisionEntry, of_members: DecisionEntry) -> Iterator[str]:
    """Yield what means nothing where masks are counted; parameters are those of `ensemble_problems`."""
    for key in ("sharpen", "search"):
        if getattr(entry, key) is not None:
            yield f"{key}: expected none beside `blend: vote`, which counts masks"
    if decision.sharpened is not None:
        yield "decision.sharpened: expected none beside `blend: vote`, whose thresholds are shares of members"
    if entry.decision is None and decision.how == "fixed" and _numbers(decision.threshold) != {0.5}:
        yield (
            "decision: the key is missing; beside `blend: vote` a threshold is a share of members, such as "
            "{threshold: 0.5}, the majority, and the top-level `decision` has probabilities"
        )
    if of_members.how == "expected":
        yield (
            "blend: expected a top-level `decision` other than `how: expected` beside `blend: vote`: a member votes at "
            "the level of its own decision, and `expected` has one for each plane"
        )


def _per_class_problems(decision: DecisionEntry, classes: tuple[str, ...]) -> Iterator[str]:
    """Yield where the numbers of a decision are not one per class."""
    named = ", ".join(classes)
    for key in PER_CLASS:
        value = value_at(decision, key)
        if isinstance(value, tuple) and len(value) != len(classes):
            yield f"{key}: expected {len(classes)} numbers, one per class ({named}), got {list(value)}"
        elif isinstance(value, dict) and set(value) != set(classes):
            unknown = [f"; no class {name!r}{nearest(name, classes)}" for name in value if name not in classes]
            yield f"{key}: expected one number per class ({named}), got {', '.join(value) or 'none'}{''.join(unknown)}"


def _presence_problems(decision: DecisionEntry, plane: int) -> Iterator[str]:
    presence, how = decision.presence, decision.how
    if presence is None:
        if decision.best not in (None, "never"):
            yield "best: expected `presence` beside it, whose score says which class is the best, got none"
        if how == "expected":
            yield "presence: the key is missing; `how: expected` needs its score, such as {score: {top: 9.5%}}"
        return
    for score in presence.score:
        if score.top is not None and (pixels := pixels_of(score.top, plane)) > plane:
            yield f"presence.score.top: expected at most the {plane:,} pixels of the submission grid, got {pixels:,}"
    if len(presence.score) > 1 and (how != "tune" or presence.threshold is not None):
        yield "presence.score: expected one score, got a list; only `how: tune` without a threshold chooses one"
    if how == "fixed" and presence.threshold is None:
        yield "presence.threshold: the key is missing; `how: tune` would choose it"
    if how == "expected":
        if presence.threshold is not None:
            yield "presence.threshold: expected none, since `how: expected` says which planes count"
        for key in ("best", "plane_min", "high"):
            if getattr(decision, key) not in (None, "never"):
                yield f"{key}: expected none beside `how: expected`"


def _tuning_problems(decision: DecisionEntry) -> Iterator[str]:
    left_open = [key for key in ("plane_min", "high") if getattr(decision, key) == "tune"]
    if decision.how != "tune":
        yield from (f"{key}: `tune` needs `how: tune` beside it, got `how: {decision.how}`" for key in left_open)
        return
    if decision.presence is not None and decision.presence.threshold is None:
        left_open.insert(0, "presence")
    if len(left_open) > 1:
        first = WHOLE_CHOICES[left_open[0]]
        yield (
            f"{left_open[1]}: expected numbers, since `how: tune` chooses {first}: beside level and minimum size it "
            f"chooses one of {', '.join(WHOLE_CHOICES.values())}"
        )


def _order_problems(decision: DecisionEntry, classes: tuple[str, ...]) -> Iterator[str]:
    """Yield top and high levels below the threshold, where that is not chosen."""
    if decision.how != "fixed":
        return
    lowest = _by_class(decision.threshold, classes)
    for key in ("plane_min.level", "high"):
        given = _by_class(value_at(decision, key), classes)
        if low := [name for name in given if given[name] < lowest.get(name, 0)]:
            yield (
                f"{key}: expected at least the threshold, {lowest[low[0]]} of {low[0]}, got {given[low[0]]} "
                f"({len(low)} of {len(classes)} classes)"
            )


def _numbers(value: Any) -> set[float]:
    """Return the numbers of a key that has one, or one per class; none where it is left out."""
    if isinstance(value, dict | tuple):
        return set(value.values() if isinstance(value, dict) else value)
    return set() if value is None else {value}


def _by_class(value: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the number, or the share of the plane, of each class that has one."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return dict(value)
    return dict(zip(classes, value if isinstance(value, tuple) else [value] * len(classes), strict=False))
