"""Charts of a decision: Dice over threshold and minimum size, reliability, presence, and what members say and add."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cloudseg.ensemble.agreement import Agreement
from cloudseg.ensemble.calibration import reliability
from cloudseg.postprocess import Cut
from cloudseg.report.colours import INK, QUIET

Rows = list[dict[str, Any]]

LEVELS_PER_CELL = 8  # of a heat map; a chart of all 256 levels would be large and look the same
LEVELS_PER_POINT = 3  # of a line
HEIGHT = 210  # pixels of a chart
ROW_HEIGHT = 14  # pixels of a member, where there are many
FILE_WIDTH = 330  # pixels of a chart in a file, which holds `COLUMNS` side by side
COLUMNS = 2
MOST_NUMBERED = 8  # members whose Dice stands in the cells
SHAPES = {"fixed": "circle", "chosen": "diamond", "chosen on other folds": "cross"}
SHARE = alt.Scale(domain=[0, 1], nice=False)


@dataclass(frozen=True)
class Panel:
    """A chart whose data are kept apart from it: Altair would copy and check each row many times.

    Parameters
    ----------
    chart : layers whose data are names.
    data : the rows of each name.
    """

    chart: alt.LayerChart
    data: Mapping[str, Rows]

    def to_dict(self) -> dict[str, Any]:
        """Return the chart in Vega-Lite's words, with its data."""
        specification = self.chart.to_dict()
        for part in (specification, *specification["layer"]):
            if "data" in part:
                part["data"] = {"values": self.data[part["data"]["name"]]}
        return specification


@dataclass(frozen=True)
class Panels:
    """Charts side by side, for a file."""

    panels: Sequence[Panel]

    def to_dict(self) -> dict[str, Any]:
        """Return the charts in Vega-Lite's words."""
        made = [panel.to_dict() | {"width": FILE_WIDTH} for panel in self.panels]
        apart = dict.fromkeys(("color", "size", "shape", "strokeDash"), "independent")
        inner = [{name: value for name, value in each.items() if name not in ("$schema", "config")} for each in made]
        return {"$schema": made[0]["$schema"], "concat": inner, "columns": COLUMNS, "resolve": {"scale": apart}}


def words(text: str) -> alt.Chart:
    """Return a chart that says why there is none."""
    data = alt.Data(values=[{"text": text}])
    return alt.Chart(data, width=600, height=30).mark_text(color=INK, fontSize=13).encode(text="text:N")


def surface_panel(name: str, dice: np.ndarray, min_sizes: Sequence[int], points: Mapping[str, Sequence[Cut]]) -> Panel:
    """Return the heat map of a class's Dice over threshold and minimum size.

    Parameters
    ----------
    name : of the class.
    dice : (256, K) mean over images and folds.
    min_sizes : K, in pixels.
    points : cuts to mark, by a key of `SHAPES`.
    """
    sizes = list(min_sizes)
    cells = dice.reshape(-1, LEVELS_PER_CELL, len(sizes)).mean(axis=1).round(5).tolist()
    edges = [min(level, 255) / 255 for level in range(0, 257, LEVELS_PER_CELL)]
    heat = [
        {"from": edges[row], "to": edges[row + 1], "size": size, "dice": cell}
        for row, line in enumerate(cells)
        for size, cell in zip(sizes, line, strict=True)
    ]
    marks = [
        {
            "threshold": cut.level / 255,
            "size": cut.min_size,
            "kind": kind,
            "dice": round(float(dice[cut.level, sizes.index(cut.min_size)]), 5),
        }
        for kind, cuts in points.items()
        for cut in cuts
    ]
    y = alt.Y("size:O", sort="descending", title="minimum size, pixels", axis=alt.Axis(format=",d"))
    tooltip = [
        alt.Tooltip("size:O", title="minimum size", format=","),
        alt.Tooltip("dice:Q", title="Dice", format=".4f"),
    ]
    layers = alt.layer(
        _named("heat")
        .mark_rect(aria=False)
        .encode(
            x=alt.X("from:Q", title="threshold, probability", scale=SHARE),
            x2="to:Q",
            y=y,
            color=alt.Color("dice:Q", title="Dice", scale=alt.Scale(scheme="viridis")),
            tooltip=[alt.Tooltip("from:Q", title="threshold from", format=".3f"), *tooltip],
        ),
        _named("marks")
        .mark_point(size=80, filled=False, fill="white", color="black", strokeWidth=1.2, opacity=1)
        .encode(
            x="threshold:Q",
            y=y,
            shape=_points_of(SHAPES),
            tooltip=["kind:N", alt.Tooltip("threshold:Q", format=".3f"), *tooltip],
        ),
    )
    return Panel(_titled(layers, name), {"heat": heat, "marks": marks})


def threshold_panel(name: str, colour: str, dice: np.ndarray, cut: Cut, points: Mapping[str, Sequence[Cut]]) -> Panel:
    """Return the line of a class's Dice over the threshold: the mean over folds, and the range of the folds.

    Parameters
    ----------
    name, colour : of the class.
    dice : (fold, 256) at the minimum size of `cut`.
    cut : the decision.
    points : as of `surface_panel`; thresholds of the fixed and the chosen one are marked.
    """
    lines = [
        {"threshold": level / 255, "dice": mean, "lowest": low, "highest": high}
        for level, (mean, low, high) in enumerate(
            np.stack([dice.mean(axis=0), dice.min(axis=0), dice.max(axis=0)], axis=1).round(5).tolist()
        )
        if level % LEVELS_PER_POINT == 0
    ]
    first = [(kind, points[kind][:1]) for kind in ("fixed", "chosen")]
    rules = [{"threshold": cut.level / 255, "kind": kind} for kind, cuts in first for cut in cuts]
    base = _named("lines").encode(x=alt.X("threshold:Q", title="threshold, probability", scale=SHARE))
    title = f"Dice at {cut.min_size:,} pixels"
    tooltip = [alt.Tooltip(each, format=".4f") for each in ("threshold:Q", "dice:Q", "lowest:Q", "highest:Q")]
    layers = alt.layer(
        base.mark_area(opacity=0.25, color=colour).encode(y=alt.Y("lowest:Q", title=title), y2="highest:Q"),
        base.mark_line(color=colour).encode(
            y=alt.Y("dice:Q", title=title, scale=alt.Scale(zero=False)), tooltip=tooltip
        ),
        _named("rules")
        .mark_rule(color=INK)
        .encode(x="threshold:Q", strokeDash=_dashes({"chosen": [1, 0], "fixed": [5, 4]}), tooltip="kind:N"),
    )
    return Panel(_titled(layers, name), {"lines": lines, "rules": rules})


def reliability_panel(name: str, colour: str, blend: np.ndarray, experiments: Mapping[str, np.ndarray]) -> Panel:
    """Return the reliability diagram of a class: how often pixels of a probability are in the truth.

    Parameters
    ----------
    name, colour : of the class.
    blend : (2, 256) pixels by byte value, outside and inside of the truth.
    experiments : likewise, of the checkpoints of each experiment together.
    """
    points = _reliability_rows("blend", blend)
    others = [row for experiment, histogram in experiments.items() for row in _reliability_rows(experiment, histogram)]
    x = alt.X("probability:Q", title="probability", scale=SHARE)
    y = alt.Y("observed:Q", title="share in the truth", scale=SHARE)
    tooltip = [
        "of:N",
        alt.Tooltip("probability:Q", format=".3f"),
        alt.Tooltip("observed:Q", title="share in the truth", format=".3f"),
        alt.Tooltip("pixels:Q", format=","),
    ]
    size = alt.Size(
        "pixels:Q",
        scale=alt.Scale(type="log", range=[8, 130]),
        legend=alt.Legend(orient="bottom", tickCount=4, format="~s", symbolFillColor=colour, symbolStrokeWidth=0),
    )
    blend_points = _named("points").encode(x=x, y=y)
    layers = alt.layer(
        _named("ideal").mark_line(color=QUIET, strokeDash=[4, 4], strokeWidth=1).encode(x=x, y=y),
        _named("others").mark_line(color=QUIET, strokeWidth=1.2).encode(x=x, y=y, detail="of:N", tooltip=tooltip),
        blend_points.mark_line(color=colour),
        blend_points.mark_point(filled=True, color=colour, opacity=1).encode(size=size, tooltip=tooltip),
    )
    ideal = [{"probability": each, "observed": each} for each in (0, 1)]
    return Panel(_titled(layers, name), {"ideal": ideal, "others": others, "points": points})


def _reliability_rows(of: str, histogram: np.ndarray) -> Rows:
    points = reliability(histogram).round({"probability": 5, "observed": 5})
    return [{"of": of, **row} for row in points.to_dict("records")]


@dataclass(frozen=True)
class PresenceAxis:
    """What precision and recall of presence are drawn over.

    Parameters
    ----------
    title : of the axis.
    form : of its numbers, as d3 has it.
    chosen : where the decision lies, and what was chosen on other folds.
    """

    title: str
    form: str
    chosen: Sequence[float]


def presence_panel(name: str, colour: str, curve: pd.DataFrame, axis: PresenceAxis) -> Panel:
    """Return precision and recall of presence of a class over a threshold: the minimum size, or a score of presence.

    Parameters
    ----------
    name, colour : of the class.
    curve : what `cloudseg.ensemble.presence.presence_curve` returns.
    axis : what the threshold is; the first of the chosen ones is the decision's and a row of the curve.
    """
    lines = [
        {"at": row["threshold"], "share": round(row[kind], 5), "kind": kind}
        for row in curve.to_dict("records")
        for kind in ("precision", "recall")
        if not np.isnan(row[kind])
    ]
    decided, *others = axis.chosen
    chosen = [row for row in lines if row["at"] == decided]
    x = alt.X("at:Q", title=axis.title, axis=alt.Axis(format=axis.form), scale=alt.Scale(nice=False))
    y = alt.Y("share:Q", title="share of images", scale=SHARE)
    tooltip = ["kind:N", alt.Tooltip("at:Q", title=axis.title, format=axis.form), alt.Tooltip("share:Q", format=".3f")]
    dashes = _dashes({"precision": [1, 0], "recall": [5, 3]})
    layers = alt.layer(
        _named("lines").mark_line(color=colour).encode(x=x, y=y, strokeDash=dashes, tooltip=tooltip),
        _named("others").mark_rule(color=QUIET, strokeDash=[2, 3]).encode(x=x),
        _named("decided").mark_rule(color=INK).encode(x=x),
        _named("chosen").mark_point(filled=True, color=INK, size=50, opacity=1).encode(x=x, y=y, tooltip=tooltip),
    )
    return Panel(
        _titled(layers, name),
        {
            "lines": lines,
            "decided": [{"at": decided}],
            "others": [{"at": other} for other in others],
            "chosen": chosen,
        },
    )


def pairs_panel(agreement: Agreement) -> Panel:
    """Return the Dice of each pair of members, and of each with the truth."""
    labels = [*map(str, range(1, len(agreement.members) + 1)), "truth"]
    names = [*(member.name for member in agreement.members), "truth"]
    cells = [
        {"a": labels[i], "b": labels[j], "one": names[i], "other": names[j], "dice": dice}
        for i, row in enumerate(agreement.pairs.round(4).tolist())
        for j, dice in enumerate(row)
        if i != j
    ]
    base = _named("cells").encode(
        x=alt.X("a:N", sort=labels, title="member", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("b:N", sort=labels, title="member"),
        tooltip=["one:N", "other:N", alt.Tooltip("dice:Q", title="Dice", format=".4f")],
    )
    dice = [cell["dice"] for cell in cells]
    ink = alt.condition(alt.datum.dice > (min(dice) + max(dice)) / 2, alt.value("black"), alt.value("white"))
    numbers = [base.mark_text(fontSize=11).encode(text=alt.Text("dice:Q", format=".2f"), color=ink)]
    layers = alt.layer(
        base.mark_rect().encode(color=alt.Color("dice:Q", title="Dice", scale=alt.Scale(scheme="viridis"))),
        *(numbers if len(agreement.members) <= MOST_NUMBERED else []),
    )
    return Panel(_titled(layers, "Dice of the masks of two members", len(labels)), {"cells": cells})


def gains_panel(gains: pd.DataFrame) -> Panel:
    """Return what each member adds to the blend, with its interval.

    Parameters
    ----------
    gains : number, name, gain, low, high, a row per member.
    """
    rows = gains[["number", "name", "gain", "low", "high"]].astype({"number": str}).to_dict("records")
    base = _named("rows").encode(y=alt.Y("number:N", sort=[row["number"] for row in rows], title="member"))
    x = alt.X("low:Q", title="Dice that the member adds", axis=alt.Axis(format="+~g", tickCount=6))
    tooltip = ["name:N", *(alt.Tooltip(each, format="+.4f") for each in ("gain:Q", "low:Q", "high:Q"))]
    layers = alt.layer(
        _named("zero").mark_rule(color=QUIET, strokeDash=[4, 4]).encode(x="gain:Q"),
        base.mark_rule(color=INK).encode(x=x, x2="high:Q"),
        base.mark_point(filled=True, color=INK, size=60, opacity=1).encode(x="gain:Q", tooltip=tooltip),
    )
    return Panel(_titled(layers, "Blend minus the blend without it", len(rows)), {"rows": rows, "zero": [{"gain": 0}]})


def _named(name: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(name))


def _points_of(shapes: Mapping[str, str]) -> alt.Shape:
    scale = alt.Scale(domain=list(shapes), range=list(shapes.values()))
    return alt.Shape("kind:N", title=None, scale=scale, legend=alt.Legend(orient="bottom", symbolStrokeWidth=1.2))


def _dashes(dashes: Mapping[str, Sequence[int]]) -> alt.StrokeDash:
    scale = alt.Scale(domain=list(dashes), range=list(dashes.values()))
    return alt.StrokeDash("kind:N", title=None, scale=scale, legend=alt.Legend(orient="bottom"))


def _titled(chart: alt.LayerChart, title: str, rows: int = 0) -> alt.LayerChart:
    height = max(HEIGHT, ROW_HEIGHT * rows)
    return chart.properties(title=alt.TitleParams(text=title), width="container", height=height)
