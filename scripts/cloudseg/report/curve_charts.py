"""The charts of learning curves. Their rows come by name, from the page or from the file that is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from cloudseg.report.charts import Chart, class_scale
from cloudseg.report.colours import INK, PALETTE, QUIET

Rows = Mapping[str, Sequence[Mapping[str, Any]]]

SETS = ["train", "valid"]
HEIGHT = 230
LEGEND_COLUMNS = 4
MOST_POINTED = 12  # classes of which a page has a point per epoch
WIDTH = 420  # of a chart among the four of a file


def charts_of(rows: Rows, classes: Sequence[str], *, staged: bool = False) -> list[Chart]:
    """Return the charts of an experiment, whose rows the page replaces; the legend of the classes is the page's.

    Parameters
    ----------
    rows : under the names `epochs`, `losses` and `classes`; `stages` where the experiment has some.
    classes : names, in the order of their colours.
    staged : whether trainings may have stages, of any experiment of the page.
    """
    losses, dice, per_class, rate = (
        drawn.properties(width="container", height=HEIGHT) for drawn in _charts(classes, staged=staged)
    )
    stages = {"stages": rows.get("stages", [])} if staged else {}
    begins = " A dotted line is the beginning of a stage." if staged else ""
    return [
        Chart(
            losses,
            "losses",
            "Loss",
            "A line per fold; the circle is the best epoch. A validation loss that rises while the training loss falls "
            f"is overfitting.{begins}",
            {"losses": rows["losses"], **stages},
        ),
        Chart(
            dice,
            "dice",
            "Validation Dice of all classes",
            "At the training size, without test-time augmentation: the signal that chooses the best epoch, not the "
            "score of the leaderboard.",
            {"epochs": rows["epochs"], **stages},
        ),
        Chart(
            per_class,
            "classes",
            "Validation Dice of each class",
            "A class that stays behind is rare, or labelled unsteadily.",
            {"classes": rows["classes"], **stages},
        ),
        Chart(
            rate,
            "rate",
            "Learning rate",
            "What the schedule of the recipe made of it.",
            {"epochs": rows["epochs"], **stages},
        ),
    ]


def whole_chart(classes: Sequence[str], *, staged: bool = False) -> Chart:
    """Return all charts of an experiment in one, for rows under the names `epochs`, `losses` and `classes`.

    And under `stages` where trainings are `staged`.
    """
    titles = ["Loss", "Validation Dice of all classes", "Validation Dice of each class", "Learning rate"]
    losses, dice, per_class, rate = (
        drawn.properties(width=WIDTH, height=HEIGHT, title=title)
        for drawn, title in zip(_charts(classes, legend=True, staged=staged), titles, strict=True)
    )
    whole = ((losses | dice) & (per_class | rate)).resolve_scale(color="independent", strokeDash="independent")
    return Chart(whole, "curves", "")


def _charts(classes: Sequence[str], *, legend: bool = False, staged: bool = False) -> list[Any]:
    x = alt.X(
        "epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False, nice=False)
    )
    fold = alt.StrokeDash("fold:N", title=None, sort=None, legend=alt.Legend(orient="top", symbolStrokeColor=INK))
    sets = alt.Color(
        "set:N", title=None, scale=alt.Scale(domain=SETS, range=[QUIET, PALETTE[1]]), legend=alt.Legend(orient="top")
    )
    names = alt.Legend(orient="bottom", title=None, columns=LEGEND_COLUMNS, symbolLimit=0) if legend else None
    colour = alt.Color("class:N", scale=class_scale(classes), legend=names)
    loss = alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False))
    dice = alt.Y("dice:Q", title="validation Dice", scale=alt.Scale(zero=False))
    pointed = not legend and len(classes) <= MOST_POINTED
    rate = alt.Y("rate:Q", title="learning rate", axis=alt.Axis(format="~e"))
    charts = [
        _lines("losses", ["set", "fold"], pointed, x=x, y=loss, color=sets, strokeDash=fold),
        _lines("epochs", ["fold"], pointed, x=x, y=dice, color=alt.value(PALETTE[1]), strokeDash=fold),
        _lines("classes", ["class", "fold"], pointed, x=x, y=dice, color=colour, strokeDash=fold),
        _lines("epochs", ["fold"], pointed, x=x, y=rate, color=alt.value(PALETTE[1]), strokeDash=fold),
    ]
    if not staged:
        return charts
    begins = alt.Chart(alt.NamedData("stages")).mark_rule(color=QUIET, strokeDash=[2, 3])
    return [alt.layer(begins.encode(x=x, tooltip="first:Q"), drawn) for drawn in charts]


def _lines(data: str, told: Sequence[str], pointed: bool, **encoding: Any) -> Any:
    """Return a line per curve, with a circle at its best epoch, which is all that there is of a single one."""
    shown = encoding["y"].shorthand
    tooltip = [*(f"{name}:N" for name in told), "epoch:Q", shown]
    base = alt.Chart(alt.NamedData(data)).encode(**encoding, tooltip=tooltip)
    best = base.transform_filter("datum.best").mark_point(size=70, strokeWidth=2).encode(strokeDash=alt.value([1, 0]))
    # A line tells the values of its first epoch alone when it is pointed at
    epochs = [base.mark_point(opacity=0, size=60)] if pointed else []
    return alt.layer(base.mark_line(), best, *epochs)
