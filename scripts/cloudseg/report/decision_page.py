"""The page that shows why an ensemble's masks are cut where they are, and what its probabilities are worth."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cloudseg.ensemble.agreement import Agreement
from cloudseg.ensemble.calibration import calibration_error
from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.diagnosis import MOST_MEMBERS, Diagnosis
from cloudseg.ensemble.presence import confusion, presence_curve
from cloudseg.ensemble.scores import class_dice, mean_of_images, paired_bootstrap
from cloudseg.postprocess import Cut
from cloudseg.report import decision_charts as charts
from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.choices import lowest_classes
from cloudseg.report.colours import class_colour
from cloudseg.report.page import Column, Table, write_page

CURVE_POINTS = 60  # of precision and recall over the minimum size
NO_IMAGES = "No out-of-fold images: no fold was trained by all members."
TOO_MANY_MEMBERS = f"{{:,}} members are too many to compare each with each; of {MOST_MEMBERS} and fewer this page does."
ONE_MEMBER = "One member: there is nothing to agree with, and nothing is left without it."


@dataclasses.dataclass(frozen=True)
class Surface:
    """Dice at every level and minimum size, as `cloudseg.ensemble.surface.read_surface` returns it."""

    sums: np.ndarray
    counts: np.ndarray
    min_sizes: list[int]
    folds: list[int]

    @property
    def by_fold(self) -> np.ndarray:
        """The mean Dice over the images of each fold, (fold, class, 256, min_size)."""
        return self.sums / np.maximum(self.counts, 1)[:, None, None, None]


@dataclasses.dataclass(frozen=True)
class Explained:
    """An ensemble whose decision is explained.

    Parameters
    ----------
    name : of the ensemble.
    decision : how its blend becomes masks.
    rule : how that was decided.
    surface : what it was decided on.
    scores : per image and class, `images.tsv`.
    diagnosis : what was counted.
    members : how many there are.
    votes : whether they vote, each at the level of its own decision.
    """

    name: str
    decision: Decision
    rule: DecisionRule
    surface: Surface
    scores: pd.DataFrame
    diagnosis: Diagnosis
    members: int
    votes: bool = False

    @property
    def shown(self) -> list[int]:
        """The classes that have charts: all, or those with the lowest Dice where they are many."""
        return [self.diagnosis.classes.index(name) for name in lowest_classes(self.scores)]

    @functools.cached_property
    def chosen(self) -> Decision:
        """What is chosen on these images; where the decision is fixed, what tuning would choose."""
        if self.rule.how != "fixed":
            return self.decision
        surface = dataclasses.astuple(self.surface)
        rule = dataclasses.replace(self.rule, how="tune")
        return decide(*surface, classes=self.diagnosis.classes, rule=rule)[0]

    @property
    def why_no_agreement(self) -> str:
        """Why the page compares no members, where it does not."""
        if not self.diagnosis.images:
            return NO_IMAGES
        return ONE_MEMBER if self.members == 1 else TOO_MANY_MEMBERS.format(self.members)

    @property
    def fixed(self) -> str:
        """What cuts a member alone in words: the fixed decision, for probabilities that are not sharpened."""
        if self.votes:
            return "by its own decision"
        cuts = self.rule.fixed_cuts(self.diagnosis.classes).values()
        numbers = {(self.decision.thresholds(cut)["threshold"], cut.min_size) for cut in cuts}
        if len(numbers) > 1:
            return "by the threshold and minimum size that the config gives its class"
        [(threshold, min_size)] = numbers
        return f"by the fixed threshold {threshold:.2f} and minimum size {min_size:,}"

    def points(self, name: str) -> dict[str, list[Cut]]:
        """Return the cuts of a class that charts mark, by their kind."""
        rules = [self.chosen.rule, *self.chosen.nested.values()]
        whole, *nested = [None] if self.decision.is_by_plane else [rule.classes[name].cut for rule in rules]
        return {
            "chosen on other folds": nested,
            "chosen": [] if whole is None else [whole],
            "fixed": [self.rule.fixed_cuts(self.diagnosis.classes)[name]],
        }


def write_decision_page(
    explained: Explained, *, seed: int, page: str | Path, figures: Mapping[str, str | Path]
) -> None:
    """Write the page and the figures of a decision.

    Parameters
    ----------
    explained : the ensemble.
    seed : of the bootstrap.
    page : the HTML file.
    figures : the SVG files `surface`, `reliability`, `presence` and `members`.
    """
    values: dict[str, Any] = {
        "title": f"Decision of {explained.name}",
        "decision": explained.decision,
        "classes": explained.diagnosis.classes,
        "of_surface": explained.rule.is_of_surface,
        "scored": explained.decision.rule.asks_presence and explained.decision.how != "expected",
        "images": explained.diagnosis.images,
        "cuts": _cuts_table(explained),
        "many": len(explained.shown) < len(explained.diagnosis.classes),
        "shown": len(explained.shown),
        "agreement": None,
        "why_no_agreement": explained.why_no_agreement,
        "fixed": explained.fixed,
        "votes": explained.votes,
    }
    if not explained.diagnosis.images:
        for path in figures.values():
            Chart(charts.words(NO_IMAGES), "none", "").write_svg(path)
        write_page(page, "decision.html", **values)
        return
    made = _panels(explained)
    for kind, its_panels in made.items():
        Chart(charts.Panels(its_panels), kind, "").write_svg(figures[kind])
        values[kind] = [Chart(panel, f"{kind}-{number}", "") for number, panel in enumerate(its_panels)]
    values |= _members(explained, seed, figures["members"])
    values["errors"] = _errors_table(explained.diagnosis)
    values["confusion"] = _confusion_table(explained.scores)
    write_page(page, "decision.html", **values, charts_script=charts_script())


def _panels(explained: Explained) -> dict[str, list[charts.Panel]]:
    diagnosis, surface, decision = explained.diagnosis, explained.surface, explained.decision
    by_fold = surface.by_fold
    experiments = _by_experiment(diagnosis.agreement)
    made: dict[str, list[charts.Panel]] = {"surface": [], "reliability": [], "presence": []}
    for number in explained.shown:
        name, colour = diagnosis.classes[number], class_colour(number)
        cut, points = decision.cuts[name], explained.points(name)
        dice = by_fold[:, number]
        column = surface.min_sizes.index(cut.min_size)
        made["surface"] += [
            charts.surface_panel(name, dice.mean(axis=0), surface.min_sizes, points),
            charts.threshold_panel(name, colour, dice[:, :, column], cut, points),
        ]
        own = {name: histograms[number] for name, histograms in experiments.items()}
        made["reliability"].append(charts.reliability_panel(name, colour, diagnosis.histograms[number], own))
        made["presence"].append(_presence_panel(explained, number))
    return made


def _presence_panel(explained: Explained, number: int) -> charts.Panel:
    """Draw presence over the score that the decision asks for, or over the minimum size where it asks for none."""
    diagnosis, decision = explained.diagnosis, explained.decision
    name = diagnosis.classes[number]
    rules = [decision.rule.classes[name], *(rule.classes[name] for rule in decision.nested.values())]
    scored = [rule.presence for rule in rules if rule.presence]
    if scored and not decision.is_by_plane:
        first = scored[0].score
        chosen = [each.at_least / first.scale(diagnosis.pixels) for each in scored if each.score == first]
        values, axis = diagnosis.presence[:, number], charts.PresenceAxis(str(first), ".2f", chosen)
        thresholds = np.unique([*np.linspace(0, 1, CURVE_POINTS), chosen[0]])
    else:
        sizes = explained.surface.min_sizes
        values = diagnosis.largest[:, number]
        axis = charts.PresenceAxis("minimum size, pixels", "~s", [rules[0].cut.min_size])
        thresholds = np.unique([*np.linspace(0, max(sizes) * 1.2, CURVE_POINTS).astype(int), *sizes])
    curve = presence_curve(values, diagnosis.has[:, number], thresholds.tolist())
    return charts.presence_panel(name, class_colour(number), curve, axis)


def _by_experiment(agreement: Agreement | None) -> dict[str, np.ndarray]:
    """Return the histograms (class, 2, 256) of the checkpoints of each experiment together."""
    together: dict[str, Any] = {}
    if agreement is not None:
        for member, histograms in zip(agreement.members, agreement.histograms, strict=True):
            together[member.experiment] = together.get(member.experiment, 0) + histograms
    return together


def _members(explained: Explained, seed: int, figure: str | Path) -> dict[str, Any]:
    """Return what the page tells of members, and write their figure."""
    agreement = explained.diagnosis.agreement
    if agreement is None:
        Chart(charts.words(explained.why_no_agreement), "members", "").write_svg(figure)
        return {}
    gains = member_gains(agreement, explained.scores, seed=seed)
    made = [charts.pairs_panel(agreement), charts.gains_panel(gains)]
    Chart(charts.Panels(made), "members", "").write_svg(figure)
    is_told = any(member.says_where_only for member in agreement.members)
    where_only = " Empty of members that say where, not whether: they leave no plane empty." if is_told else ""
    columns = [
        Column("#", gains["number"].tolist()),
        Column("member", gains["name"].tolist()),
        Column("% of the blend", (100 * gains["weight"] / gains["weight"].sum()).tolist(), digits=1),
        Column("Dice alone", gains["alone"].tolist(), best="max", help=f"Cut {explained.fixed}.{where_only}"),
        Column("blend without it", gains["without"].tolist(), help="Cut as the blend is."),
        Column("adds", gains["gain"].tolist(), best="max", help="The blend minus the blend without it."),
        Column("from", gains["low"].tolist()),
        Column("to", gains["high"].tolist()),
    ]
    return {
        "agreement": agreement,
        "members": [Chart(panel, f"members-{number}", "") for number, panel in enumerate(made)],
        "gains": Table(columns),
    }


def member_gains(agreement: Agreement, scores: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Return what each member adds to the blend.

    Parameters
    ----------
    agreement : of the members.
    scores : of the blend, per image and class; more images than were compared do not matter.
    seed : of the bootstrap.

    Returns
    -------
    DataFrame : number (from 1), name, weight, alone (Dice by the fixed decision; NaN of what says where only), without
        (Dice of the blend without it), gain (of the blend over that) with its interval low, high; a row per member.
    """
    rows = []
    for number, (member, without) in enumerate(zip(agreement.members, agreement.without, strict=True)):
        gain, low, high = paired_bootstrap(without, scores, seed=seed)
        alone = math.nan if member.says_where_only else float(agreement.pairs[number, -1])
        rows.append((number + 1, member.name, float(member.weight), alone, mean_of_images(without), -gain, -high, -low))
    return pd.DataFrame(rows, columns=["number", "name", "weight", "alone", "without", "gain", "low", "high"])


def _cuts_table(explained: Explained) -> Table:
    decision, names = explained.decision, explained.diagnosis.classes
    cuts = [decision.cuts[name] for name in names]
    levels = [None if decision.is_by_plane else cut.level for cut in cuts]
    thresholds = [{} if decision.is_by_plane else decision.thresholds(cut) for cut in cuts]
    dice = class_dice(explained.scores)
    columns = [
        Column("class", names),
        Column("threshold", [each.get("threshold") for each in thresholds], digits=3, help="Of the probability p."),
        Column("of the blend", [each.get("sharpened") for each in thresholds], digits=3),
        Column("level", levels, help="Of 255."),
        Column("minimum size", [cut.min_size for cut in cuts], help="In pixels of the submission grid."),
        *_further_columns(explained),
        Column("Dice", [dice.get(name) for name in names]),
    ]
    return Table(columns)


def _further_columns(explained: Explained) -> list[Column]:
    """Return the columns of what a decision asks for besides a level and a minimum size, of what it does ask."""
    rules = list(explained.decision.rule.classes.values())
    cuts, asked = [rule.cut for rule in rules], [rule.presence for rule in rules]
    columns = []
    if any(cut.high for cut in cuts):
        columns.append(
            Column("high level", [cut.high for cut in cuts], help="A component stays that holds such a pixel.")
        )
    if any(cut.top_area for cut in cuts):
        help_text = "A plane counts that has so many pixels of the top level."
        columns.append(Column("top level", [cut.top_level for cut in cuts], help=help_text))
        columns.append(Column("pixels of it", [cut.top_area for cut in cuts]))
    if any(asked):
        pixels = explained.diagnosis.pixels
        shares = [each and each.at_least / each.score.scale(pixels) for each in asked]
        from_on = ["never" if share is not None and share > 1 else share for share in shares]
        columns.append(Column("score of presence", [str(each.score) if each else "" for each in asked]))
        columns.append(Column("present from", from_on, digits=3, help="A plane counts whose score reaches this."))
    if any(rule.steps for rule in rules):
        columns.append(Column("steps", [len(rule.steps) for rule in rules], help="Levels by the score of presence."))
    return columns


def _errors_table(diagnosis: Diagnosis) -> Table:
    columns = [Column("class", diagnosis.classes), Column("blend", _errors(diagnosis.histograms))]
    for experiment, histograms in _by_experiment(diagnosis.agreement).items():
        columns.append(Column(experiment, _errors(histograms)))
    pixels = diagnosis.histograms.sum(axis=2)
    columns.append(Column("pixels", pixels.sum(axis=1).tolist()))
    columns.append(Column("in the truth", pixels[:, 1].tolist()))
    return Table(columns)


def _errors(histograms: Sequence[np.ndarray]) -> list[float]:
    return [calibration_error(histogram) for histogram in histograms]


def _confusion_table(scores: pd.DataFrame) -> Table:
    counted = confusion(scores)
    kinds = {
        "found": "Images that have the class, and a mask.",
        "missed": "Images that have the class, and no mask.",
        "added": "Images that do not have the class, and a mask.",
        "empty": "Images that do not have the class, and no mask.",
    }
    columns = [Column(kind, counted[kind].tolist(), help=meaning) for kind, meaning in kinds.items()]
    shares = [Column(kind, counted[kind].tolist(), digits=3) for kind in ("precision", "recall")]
    return Table([Column("class", counted["class"].tolist()), *columns, *shares])
