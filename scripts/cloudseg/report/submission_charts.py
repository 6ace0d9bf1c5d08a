"""Charts of a submission beside training: presence, areas, components, and classes that go together."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from cloudseg.report.charts import Chart, class_scale
from cloudseg.report.colours import INK, QUIET
from cloudseg.studies.sanity.judging import class_rates, whole_rate
from cloudseg.studies.sanity.submission import Submission
from cloudseg.studies.sanity.training import Training

ALL = "all classes"
OURS, TRAINING = "submission", "training"
QUANTILES = {"least": 0.05, "lower": 0.25, "middle": 0.5, "upper": 0.75, "most": 0.95}
MOST_PIECES = 5
WORDS_FIT = 12  # classes whose heat map has room for numbers
STEP = 26  # pixels of a row
PERCENT = alt.Axis(format="%", tickCount=6)


def submission_charts(submission: Submission, training: Training) -> dict[str, Chart]:
    """Return the charts of a submission, by name.

    Parameters
    ----------
    submission, training : what was read.
    """
    return {
        "presence": _presence(submission, training),
        "areas": _areas(submission, training),
        "components": _components(submission, training),
        "together": _together(submission, training),
    }


def empty_charts(submission: Submission, training: Training) -> set[str]:
    """Return the names of the charts that have nothing to show.

    Parameters
    ----------
    submission, training : what was read.
    """
    names = set()
    if submission.masks.empty and not training.present.any():
        names |= {"areas", "components"}
    if submission.masks.empty or len(training.classes) == 1:
        names.add("together")
    return names


def _class_axis(names: Sequence[str]) -> alt.Y:
    return alt.Y("class:N", sort=list(names), title=None)


def _colour(classes: Sequence[str]) -> alt.Color:
    return alt.Color("class:N", scale=class_scale(classes), legend=None)


def _presence(submission: Submission, training: Training) -> Chart:
    rates = dict(zip(training.classes, class_rates(submission, training), strict=True))
    if len(rates) > 1:
        rates[ALL] = whole_rate(submission, training)
    rows = pd.DataFrame(
        [
            {
                "class": name,
                "low": _number(rate.low),
                "high": _number(rate.high),
                "trained": _number(rate.trained_rate),
                "found": _number(rate.rate),
            }
            for name, rate in rates.items()
        ]
    )
    base = alt.Chart(rows).encode(y=_class_axis(list(rates)))
    share = alt.X("low:Q", title="share of rows with a mask", axis=PERCENT, scale=alt.Scale(zero=True))
    tips = [
        "class:N",
        *(
            alt.Tooltip(f"{name}:Q", format=".1%", title=title)
            for name, title in (
                ("found", "submission"),
                ("trained", "training"),
                ("low", "expected from"),
                ("high", "expected to"),
            )
        ),
    ]
    band = base.mark_bar(height=12, color="#d9d9d9").encode(x=share, x2="high:Q", tooltip=tips)
    line = base.mark_tick(thickness=2, height=16, color=INK).encode(x="trained:Q", tooltip=tips)
    colour = alt.condition(alt.datum["class"] == ALL, alt.value(INK), _colour(training.classes))
    dot = base.mark_point(size=110, filled=True, opacity=1).encode(x="found:Q", color=colour, tooltip=tips)
    return Chart(
        alt.layer(band, line, dot).properties(width="container", height=alt.Step(STEP)),
        "presence",
        "How many rows have a mask",
        "Dot: the submission. Line: training. Grey: where 95 of 100 test sets lie that are as large as this one and "
        "like training. Masks of a network may well lie a little outside; a dot far from its bar is worth a look.",
    )


def _areas(submission: Submission, training: Training) -> Chart:
    rows = [
        {"class": name, "of": of, "masks": len(shares)}
        | {
            key: float(value)
            for key, value in zip(QUANTILES, np.quantile(shares, list(QUANTILES.values())), strict=True)
        }
        for number, name in enumerate(training.classes)
        for of, shares in ((TRAINING, training.shares_of(number)), (OURS, submission.shares_of(number)))
        if len(shares)
    ]
    table = pd.DataFrame(rows, columns=["class", "of", "masks", *QUANTILES])
    tips = ["class:N", "of:N", "masks:Q", *(alt.Tooltip(f"{name}:Q", format=".1%") for name in QUANTILES)]
    colour = alt.condition(alt.datum["of"] == TRAINING, alt.value(QUIET), _colour(training.classes))
    base = alt.Chart(table).encode(
        y=_class_axis(training.classes), yOffset=alt.YOffset("of:N", sort=[TRAINING, OURS]), color=colour, tooltip=tips
    )
    share = alt.X("least:Q", title="share of the image that a mask covers", axis=PERCENT)
    whole = base.mark_rule(strokeWidth=2).encode(x=share, x2="most:Q")
    half = base.mark_bar(height=9, opacity=0.6).encode(x="lower:Q", x2="upper:Q")
    middle = base.mark_tick(thickness=2, height=12, opacity=1).encode(x="middle:Q")
    return Chart(
        alt.layer(whole, half, middle).properties(width="container", height=alt.Step(STEP + 8, **{"for": "position"})),
        "areas",
        "How large the masks are",
        "Grey: training. Colour: the submission. Tick: the median; bar: the middle half; line: from 5 % to 95 %. "
        "Images without a mask are left out.",
    )


def _components(submission: Submission, training: Training) -> Chart:
    rows = []
    for of, masks in ((TRAINING, training.masks), (OURS, submission.masks)):
        pieces = masks["components"].to_numpy(int).clip(1, MOST_PIECES)
        for number in range(1, MOST_PIECES + 1):
            text = f"{number} or more" if number == MOST_PIECES else str(number)
            rows.append({"pieces": text, "of": of, "share": float((pieces == number).mean()) if len(pieces) else 0.0})
    bars = alt.Chart(pd.DataFrame(rows), width="container", height=180).mark_bar()
    of = {"sort": [TRAINING, OURS]}
    chart = bars.encode(
        x=alt.X("pieces:N", title="components of a mask", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("of:N", **of),
        y=alt.Y("share:Q", title="share of the masks", axis=PERCENT),
        color=alt.Color("of:N", title=None, scale=alt.Scale(domain=[TRAINING, OURS], range=[QUIET, "#0072b2"])),
        tooltip=["of:N", "pieces:N", alt.Tooltip("share:Q", format=".1%")],
    )
    return Chart(
        chart,
        "components",
        "In how many pieces they are",
        "Far more pieces than in training speak for noise that no minimum size removes. Of training a sample counts.",
    )


def _together(submission: Submission, training: Training) -> Chart:
    shares = {OURS: conditional(submission.present), TRAINING: conditional(training.present)}
    rows = [
        {
            "class": one,
            "other": other,
            "found": _number(shares[OURS][first, second]),
            "trained": _number(shares[TRAINING][first, second]),
            "more": _number(shares[OURS][first, second] - shares[TRAINING][first, second]),
            "words": _words(shares[OURS][first, second]),
        }
        for first, one in enumerate(training.classes)
        for second, other in enumerate(training.classes)
        if first != second
    ]
    table = pd.DataFrame(rows, columns=["class", "other", "found", "trained", "more", "words"])
    classes = list(training.classes)
    base = alt.Chart(table, width=alt.Step(64 if len(classes) <= WORDS_FIT else 18), height=alt.Step(STEP)).encode(
        x=alt.X("other:N", sort=classes, title="also has", axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("class:N", sort=classes, title="an image that has"),
        tooltip=[
            alt.Tooltip("class:N", title="an image that has"),
            alt.Tooltip("other:N", title="also has"),
            alt.Tooltip("found:Q", format=".0%", title="submission"),
            alt.Tooltip("trained:Q", format=".0%", title="training"),
        ],
    )
    scale = alt.Scale(domain=[-0.5, 0, 0.5], range=["#7db4dc", "#ffffff", "#f2bd57"], clamp=True, interpolate="rgb")
    legend = alt.Legend(title="less or more often than in training", format="+.0%", titleLimit=400, orient="bottom")
    chart = base.mark_rect(stroke="#dddddd").encode(color=alt.Color("more:Q", scale=scale, legend=legend))
    if len(classes) <= WORDS_FIT:
        chart = chart + base.mark_text(color=INK, fontSize=11).encode(text="words:N")
    return Chart(
        chart,
        "together",
        "Which classes go together",
        "Of the images that have the class of a row, the share that also have that of the column. White: as in "
        "training. With few images large differences are chance.",
    )


def conditional(present: np.ndarray) -> np.ndarray:
    """Return the share of images with one class that also have another: float (class, class), NaN without an image.

    Examples
    --------
    >>> conditional(np.array([[1, 1], [1, 0]], bool)).tolist()
    [[1.0, 0.5], [1.0, 1.0]]
    """
    both = present.T.astype(float) @ present
    count = present.sum(axis=0)[:, None]
    return np.divide(both, count, out=np.full_like(both, np.nan), where=count > 0)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _words(share: float) -> str:
    return "" if np.isnan(share) else f"{share:.0%}"
