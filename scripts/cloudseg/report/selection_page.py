"""The page of a search for an ensemble: its path, what it chose with and without each fold, and what that is worth."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from cloudseg.ensemble.selection import Choice, Selection
from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.colours import INK, PALETTE, QUIET
from cloudseg.report.page import Column, Table, write_page

KINDS = {"in_sample": "on the folds that it was chosen on", "held_out": "on the fold that was held out"}
COLOURS = [QUIET, PALETTE[1]]  # of the kinds: as of train and valid in learning curves
HEIGHT = 320
MOST_TICKS = 12  # of the steps
CAPTION = "The dashed line is the plain mean of all candidates. With one fold, nothing was held out."
NESTED_CAPTION = (
    "A faint line is the search without one fold, and a ring is where it ended; bold lines are their means, where a "
    "search that has ended keeps its last Dice. The dashed line is the plain mean of all candidates, scored as "
    "honestly. Where the two bold lines part, the search learns the images and not the task."
)
SCORES = {
    "chosen": ("what was chosen", "Members, weights and power by the search."),
    "mean": ("plain mean of everything", "All candidates with one weight: what needs no search."),
    "single": ("best single candidate", "The candidate that scores best alone: the search begins with it."),
}


def write_selection_page(selection: Selection, name: str, *, page: str | Path, figure: str | Path) -> None:
    """Write the page of a search, and its chart as SVG.

    Parameters
    ----------
    selection : what was chosen.
    name : of the ensemble.
    page, figure : the HTML and the SVG file.
    """
    chart = path_chart(selection)
    chart.write_svg(figure)
    write_page(
        page,
        "selection.html",
        title=f"Search for {name}",
        selection=selection,
        verdict=verdict(selection),
        chart=chart,
        scores=_scores_table(selection),
        candidates=_candidates_table(selection),
        steps=_steps_table(selection.chosen),
        charts_script=charts_script(),
    )


def verdict(selection: Selection) -> str:
    """Return in one sentence whether the search was worth it.

    Examples
    --------
    >>> from cloudseg.ensemble.selection import Score, Step
    >>> scores = {"chosen": Score(0.65, 0.625), "mean": Score(0.625, 0.5), "single": Score(0.6, 0.75)}
    >>> choice = Choice(None, (Step("a", 0.65, 0.625),))
    >>> verdict(Selection(("a", "b"), 9, 1, choice, {0: choice, 1: choice}, scores))
    'Honest Dice 0.6250: +0.1250 over the plain mean of everything, -0.1250 over the best single candidate.'
    """
    chosen = selection.scores["chosen"]
    if chosen.honest is None:
        return f"One fold: there is no honest score, and the Dice of {chosen.in_sample:.4f} in sample is optimistic."
    gains = [
        f"{chosen.honest - selection.scores[kind].honest:+.4f} over the {SCORES[kind][0]}"
        for kind in ("mean", "single")
    ]
    return f"Honest Dice {chosen.honest:.4f}: {', '.join(gains)}."


def path_chart(selection: Selection) -> Chart:
    """Return the Dice of the searches by step: of each fold faint, the mean of the folds bold."""
    lines, means = list(_lines(selection)), list(_means(selection))
    ends = [line for line in lines if line["last"]]
    plain = selection.scores["mean"]
    level = plain.in_sample if plain.honest is None else plain.honest
    kinds = list(dict.fromkeys(line["kind"] for line in lines))
    y = alt.Y("dice:Q", title="Dice, no minimum size", scale=alt.Scale(zero=False, padding=8))
    colour = alt.Color(
        "kind:N",
        title=None,
        scale=alt.Scale(domain=kinds, range=COLOURS[: len(kinds)]),
        legend=alt.Legend(
            orient="top", direction="vertical", symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1, labelLimit=0
        ),
    )
    x = _steps_axis(max(line["step"] for line in lines))
    dice = alt.Tooltip("dice:Q", title="Dice", format=".4f")
    told = ["kind:N", "without:N", "step:Q", "added:N", dice]
    of_fold = alt.Chart(alt.NamedData("lines")).encode(x=x, y=y, color=colour, detail="without:N")
    mean = alt.Chart(alt.NamedData("means")).encode(x=x, y=y, color=colour, tooltip=["kind:N", "step:Q", dice])
    layers = alt.layer(
        alt.Chart(alt.NamedData("plain")).mark_rule(color=INK, strokeDash=[5, 4]).encode(y=y, tooltip=[dice]),
        of_fold.mark_line(strokeWidth=1, opacity=0.45),
        of_fold.mark_point(opacity=0, size=60).encode(tooltip=told),
        alt.Chart(alt.NamedData("ends"))
        .mark_point(size=30, opacity=0.7)
        .encode(x=x, y=y, color=colour, detail="without:N", tooltip=told),
        mean.mark_line(strokeWidth=3),
        mean.mark_point(filled=True, size=45, opacity=1),
    )
    return Chart(
        layers.properties(width="container", height=HEIGHT),
        "path",
        "Dice by step of the search",
        NESTED_CAPTION if selection.nested else CAPTION,
        {"lines": lines, "means": means, "ends": ends, "plain": [{"dice": round(level, 5)}]},
    )


def _steps_axis(most: int) -> alt.X:
    ticks = list(range(1, most + 1, -(-most // MOST_TICKS)))
    scale = alt.Scale(domain=[0.5, most + 0.5], nice=False)
    return alt.X("step:Q", title="members in the blend", axis=alt.Axis(values=ticks, format="d"), scale=scale)


def _searches(selection: Selection) -> dict[str, Choice]:
    """Return the searches that are drawn: those without a fold, or the one on the only fold."""
    return {f"fold {fold}": choice for fold, choice in selection.nested.items()} or {"none": selection.chosen}


def _lines(selection: Selection) -> Iterator[dict[str, Any]]:
    for without, choice in _searches(selection).items():
        for number, step in enumerate(choice.path, 1):
            for kind, words in KINDS.items():
                if (dice := getattr(step, kind)) is not None:
                    yield {
                        "kind": words,
                        "without": without,
                        "step": number,
                        "added": step.candidate,
                        "dice": round(dice, 5),
                        "last": number == len(choice.path),
                    }


def _means(selection: Selection) -> Iterator[dict[str, Any]]:
    """Yield the mean of the searches by step; one that has ended keeps its last Dice, which is its blend's."""
    paths = [choice.path for choice in _searches(selection).values()]
    for number in range(max(map(len, paths))):
        reached = [path[min(number, len(path) - 1)] for path in paths]
        for kind, words in KINDS.items():
            dice = [getattr(step, kind) for step in reached]
            if None not in dice:
                yield {"kind": words, "step": number + 1, "dice": round(float(np.mean(dice)), 5)}


def _scores_table(selection: Selection) -> Table:
    scores = [selection.scores[kind] for kind in SCORES]
    return Table(
        [
            Column("blend", [words for words, _ in SCORES.values()]),
            Column("honest", [score.honest for score in scores], best="max"),
            Column("in sample", [score.in_sample for score in scores]),
            Column("what it is", [meaning for _, meaning in SCORES.values()]),
        ]
    )


def _candidates_table(selection: Selection) -> Table:
    """Return how often each candidate was chosen, those in the blend first; nothing stands for never."""
    chosen = selection.chosen.counts
    names = sorted(selection.candidates, key=lambda name: -chosen.get(name, 0))
    counts = [chosen.get(name) for name in names]
    share = [count and 100 * count / sum(chosen.values()) for count in counts]
    folds = [
        Column(f"without fold {fold}", [choice.counts.get(name) for name in names])
        for fold, choice in selection.nested.items()
    ]
    return Table(
        [
            Column("candidate", names),
            Column("by all folds", counts, bar=True, help="How often it is in the blend of the test images."),
            Column("% of the blend", share, digits=1),
            *folds,
        ]
    )


def _steps_table(choice: Choice) -> Table:
    dice = [step.in_sample for step in choice.path]
    return Table(
        [
            Column("step", list(range(1, len(dice) + 1))),
            Column("added", [step.candidate for step in choice.path]),
            Column("Dice in sample", dice),
            Column("gain", [None, *np.diff(dice).tolist()]),
        ]
    )
