"""The leaderboard as a page: what to read first, charts, tables to sort, and what their words mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.colours import INK, PALETTE, QUIET
from cloudseg.report.glossary import terms
from cloudseg.report.leaderboard import KEYS
from cloudseg.report.page import Column, Table, write_page
from cloudseg.report.pages import MEANINGS, REFERENCE, Arranged, arrange, meanings, plain, without_masks

MOST = 40  # rows that a chart has room for
FEW_TICKS = alt.Axis(tickCount=6)
WORDS = [
    *("Dice", "out of fold", "fold", "experiment", "recipe", "`best`, `last`", "ensemble", "blend", "decision"),
    *("minimum size", "tuned on itself (*)", "nested", "all empty", "everywhere or nowhere", "views, TTA", "sharpen"),
]
FURTHER_WORDS = {"dice_average": "`average`", "says_where_only": "positive planes"}  # of tables with these columns


@dataclass(frozen=True)
class Shown:
    """How a column of the leaderboard is shown."""

    head: str
    help: str = ""
    digits: int = 4
    best: str | None = None
    bar: bool = False


CONTEST = {
    "lb_best": Shown("LB best", "Score in the contest of the `best` checkpoints", best="max"),
    "lb_last": Shown("LB last", "Score in the contest of the `last` checkpoints", best="max"),
    "lb_single": Shown("LB", "Score in the contest of one file made from both checkpoints", best="max"),
    "dice_minus_lb": Shown("Dice - LB", "How much our Dice exceeds the contest's score"),
    "warning": Shown("warning"),
}
EXPERIMENTS = {
    "number": Shown("#", "Rank; charts and other tables name experiments by it"),
    **{name: Shown(name) for name in KEYS},
    "seed": Shown("seed", "Of a replicate; the others have the config's own"),
    "full": Shown("full", "Trained on all images, too: the scores are those of its folds"),
    "dice_best": Shown("best (*)", "Dice of the best epoch, which was chosen on these images: optimistic", best="max"),
    "dice_last": Shown("last", "Dice of the last epoch, mean over folds", best="max", bar=True),
    "dice_average": Shown("average", "Dice of the mean of the weights of some epochs, mean over folds", best="max"),
    "says_where_only": Shown("says", "Trained on planes with truth alone: its own masks are no measure of it"),
    "fold_spread": Shown("sd of last", "Standard deviation of the Dice over the folds"),
    "replicate_spread": Shown("sd of replicates", "Standard deviation of `last` over rows that differ in seed alone"),
    "replicates": Shown("replicates", "How many rows these are"),
    "dice_common": Shown("on the common folds", "Dice of `last` on the folds that all rows have", best="max"),
    "images": Shown("images", "Out-of-fold images that are scored"),
    "loss": Shown("loss"),
    "millions": Shown("M parameters", "Parameters of the network, in millions", digits=1, best="min"),
    "seconds_per_epoch": Shown("s/epoch", "Median seconds of an epoch", digits=1, best="min"),
    **CONTEST,
    "theirs": Shown(f"{REFERENCE.name} Dice"),
    "their_lb": Shown(f"{REFERENCE.name} LB"),
    "their_gap": Shown(f"{REFERENCE.name} Dice - LB"),
    "note": Shown("note"),
}
ENSEMBLES = {
    "name": Shown("name"),
    "folds": Shown("folds"),
    "images": Shown("images", "Out-of-fold images that are scored"),
    "unscored": Shown("trained on all", "Members on test images that have seen all images: the score is of the others"),
    "dice": Shown(
        "Dice", "Mean over images, classes and folds; of a chosen decision the nested one", best="max", bar=True
    ),
    "mark": Shown("optimistic", "It holds `best` checkpoints, which were chosen on the images they are scored on"),
    "dice_tuned_on_itself": Shown("on itself (*)", "Dice of the decision on the images it was chosen on: optimistic"),
    "dice_common": Shown("on the common folds", "Dice on the folds that all rows have", best="max"),
    "member": Shown("best member", "# of its experiment, and its checkpoint"),
    "best_member_dice": Shown("its Dice", "Dice of the best member, decided as the ensemble is"),
    "gain": Shown("gain over it"),
    "gain_low": Shown("from", "Lower end of a paired bootstrap interval of 95 %"),
    "gain_high": Shown("to", "Upper end of a paired bootstrap interval of 95 %"),
    "expected_lb": Shown(
        "expected LB", "Score to expect where classes are as frequent as `class_rates` says", best="max"
    ),
    **CONTEST,
    "says_where_only": Shown("say", "Its members are compared with it only where their own masks are a measure"),
    "reference": Shown(f"{REFERENCE.name}: LB"),
    "note": Shown("note"),
}
DECISIONS = {
    "name": Shown("ensemble"),
    "class": Shown("class"),
    "how": Shown("decided", "fixed: by the config; grid, tune: chosen on the out-of-fold images"),
    "threshold": Shown("threshold", "Probability from which a pixel belongs to the mask", digits=2),
    "sharpened_threshold": Shown("of the sharpened", "The threshold of the sharpened blend", digits=2),
    "sharpen": Shown("power", "The power that probabilities are sharpened by", digits=2),
    "min_size": Shown("minimum size", "Smaller components are removed; pixels of the submission grid"),
}
BASELINES = {
    "name": Shown("name"),
    "dice": Shown("Dice"),
    "dice_common": Shown("on the common folds"),
}


def write_leaderboard(
    table: pd.DataFrame,
    classes: Sequence[str],
    images: int,
    folds: Sequence[int],
    out: str | Path,
    charts: str | Path,
    *,
    left_out: Sequence[str] = (),
) -> None:
    """Write the page, and its charts as SVG.

    Parameters
    ----------
    table : what `leaderboard` returns.
    classes : names, in the order in which thresholds and minimum sizes are given.
    images : how many out-of-fold images all rows have in common.
    folds : the folds they lie in.
    out : page to write.
    charts : folder for the charts.
    left_out : which rows of the sheet have no masks to score, and why.
    """
    rows = arrange(table, images)
    drawn = [chart for chart in (dice_chart(rows), gain_chart(rows)) if chart]
    Path(charts).mkdir(parents=True, exist_ok=True)
    for chart in drawn:
        chart.write_svg(Path(charts) / f"{chart.name}.svg")
    hidden = set() if rows.shared else {"dice_common"}
    write_page(
        out,
        "leaderboard.html",
        title="Leaderboard",
        verdict=verdict(rows),
        below=_below(rows, left_out),
        facts=_facts(rows, images, folds),
        charts=drawn,
        experiments=_table(rows.experiments.assign(millions=rows.experiments["parameters"] / 1e6), EXPERIMENTS, hidden),
        ensembles=_table(rows.ensembles.assign(mark=_marked(rows.ensembles)), ENSEMBLES, hidden),
        decisions=_table(decisions(rows.ensembles, classes), DECISIONS),
        baselines=_table(rows.baselines, BASELINES, hidden),
        terms=terms([*WORDS, *(word for name, word in FURTHER_WORDS.items() if name in table)]),
        charts_script=charts_script(),
    )


def verdict(rows: Arranged) -> list[str]:
    """Say in sentences what leads, and whether ensembles gain."""
    sentences = []
    known = rows.experiments[rows.experiments["dice_last"].notna()]
    if len(known):
        first = known.iloc[0]
        spread = _spread(first)
        of = f"Of {len(known)} experiments, " if len(known) > 1 else ""
        leads = "leads" if of else "scores"
        name = " ".join([*(str(first[key]) for key in KEYS[:-1]), *_seed_in_words(first.get("seed"))])
        sentences.append(f"{of}{name} {leads}: Dice {first['dice_last']:.4f} out of fold{spread}.")
    ensembles = rows.ensembles[rows.ensembles["gain"].notna() | _uncompared(rows.ensembles)]
    sentences += map(_gained, ensembles.head(3).to_dict("records"))
    return sentences or ["No image was scored out of fold: no network's own fold has been predicted."]


def _spread(row: pd.Series) -> str:
    """Say in brackets how far the folds of an experiment, and its replicates, are apart."""
    told = []
    if pd.notna(row["fold_spread"]):
        told.append(f"over folds {row['fold_spread']:.4f}")
    if pd.notna(row.get("replicate_spread")):
        told.append(f"over {row['replicates']} replicates {row['replicate_spread']:.4f}")
    return f" (standard deviation {', '.join(told)})" if told else ""


def _gained(row: dict[str, Any]) -> str:
    """Say in a sentence whether an ensemble scores more than its best member."""
    if pd.isna(row["dice"]):
        return f"Ensemble {row['name']} has no honest Dice: its decision was tuned on all images there are."
    if pd.isna(row["gain"]):
        return f"Ensemble {row['name']} scores {row['dice']:.4f}; its members say where, not whether, so none compares."
    if row["gain_low"] == row["gain_high"] == 0:
        return f"Ensemble {row['name']} scores {row['dice']:.4f}, on every image as much as its best member."
    told = "more than" if row["gain_low"] > 0 else "less than" if row["gain_high"] < 0 else "not told apart from"
    return (
        f"Ensemble {row['name']} scores {row['dice']:.4f}, {told} its best member ({row['gain']:+z.4f}, "
        f"95 % interval {row['gain_low']:+z.4f} to {row['gain_high']:+z.4f})."
    )


def _uncompared(ensembles: pd.DataFrame) -> pd.Series:
    """Return which ensembles have a Dice and no member that it is compared with."""
    told = ensembles.get("says_where_only", pd.Series(index=ensembles.index, dtype=object))
    return told.notna() & ensembles["dice"].notna()


def _below(rows: Arranged, left_out: Sequence[str]) -> list[str]:
    """Say below the experiments which of them have no Dice, and which rows of the sheet are not among them."""
    only = rows.experiments.get("says_where_only", pd.Series(dtype=object)).notna().any()
    return [*([MEANINGS["says_where_only"]] if only else []), *without_masks(left_out)]


def _marked(ensembles: pd.DataFrame) -> pd.Series:
    """Return which ensembles have a Dice that is optimistic; what has no Dice is nothing to warn of."""
    return ensembles["optimistic"].notna() & ensembles["dice"].notna()


def decisions(ensembles: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return a row per ensemble and class with its threshold and minimum size, or one row where all classes share them.

    Examples
    --------
    >>> row = {"name": "a", "how": "tune", "threshold": "0.50/0.25", "min_size": "100"}
    >>> decisions(pd.DataFrame([row]), ["Fish", "Flower"])[["class", "threshold", "min_size"]].to_numpy().tolist()
    [['Fish', 0.5, 100], ['Flower', 0.25, 100]]
    >>> row = {"name": "b", "how": "expected", "threshold": "by plane", "min_size": "100"}
    >>> decisions(pd.DataFrame([row]), ["Fish", "Flower"])[["class", "threshold", "min_size"]].to_numpy().tolist()
    [['all', 'by plane', 100]]
    """
    rows = []
    for row in ensembles.to_dict("records"):
        cells = {name: plain(row.get(name)) for name in ("threshold", "sharpened_threshold", "min_size")}
        parts = {name: str(cell).split("/") for name, cell in cells.items() if cell is not None}
        same = all(len(values) == 1 for values in parts.values())
        for number, name in enumerate(["all"] if same else classes):
            values = {key: _number(each[number if len(each) > 1 else 0]) for key, each in parts.items()}
            rows.append({"name": row["name"], "class": name, "how": row["how"], "sharpen": row.get("sharpen")} | values)
    return pd.DataFrame(rows, columns=list(DECISIONS))


def dice_chart(rows: Arranged) -> Chart | None:
    """Return the Dice of the best experiments with the spread of their folds, beside the baselines."""
    known = rows.experiments[rows.experiments["dice_last"].notna()]
    if known.empty:
        return None
    shown = known.head(MOST)
    labels = _labels(shown)
    points = pd.DataFrame(
        {
            "experiment": labels,
            "last": shown["dice_last"].astype(float).to_list(),
            "best": shown["dice_best"].astype(float).to_list(),
            "sd": shown["fold_spread"].astype(float).to_list(),
        }
    )
    points = points.assign(low=points["last"] - points["sd"], high=points["last"] + points["sd"])
    words = {"last": "last epoch", "best": "best epoch (*)"}
    long = points.melt(["experiment"], list(words), "epoch", "dice").replace({"epoch": words})
    y = alt.Y("experiment:N", sort=None, scale=alt.Scale(domain=labels), title=None, axis=alt.Axis(labelLimit=170))
    x = alt.X("dice:Q", title="Dice out of fold, mean over folds", scale=alt.Scale(zero=False), axis=FEW_TICKS)
    spread = (
        alt.Chart(points.dropna(subset=["sd"]))
        .mark_rule(color=PALETTE[1], strokeWidth=2)
        .encode(x=alt.X("low:Q"), x2="high:Q", y=y, tooltip=["experiment:N", "last:Q", "sd:Q"])
    )
    marks = (
        alt.Chart(long)
        .mark_point(filled=True, size=70, opacity=1)
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "epoch:N",
                title=None,
                scale=alt.Scale(domain=list(words.values()), range=[PALETTE[1], PALETTE[0]]),
                legend=alt.Legend(orient="top"),
            ),
            shape=alt.Shape("epoch:N", scale=alt.Scale(domain=list(words.values()), range=["circle", "diamond"])),
            tooltip=["experiment:N", "epoch:N", alt.Tooltip("dice:Q", format=".4f")],
        )
    )
    baselines = rows.baselines[["name", "dice"]].assign(dice=rows.baselines["dice"].astype(float)).dropna()
    merged = baselines.groupby("dice", sort=True)["name"].agg(", ".join).reset_index()
    lines = (
        alt.Chart(merged)
        .mark_rule(color=INK)
        .encode(
            x=x,
            strokeDash=alt.StrokeDash(
                "name:N", title=None, scale=alt.Scale(range=[[6, 4], [2, 3]]), legend=alt.Legend(orient="bottom")
            ),
            tooltip=["name:N", alt.Tooltip("dice:Q", format=".4f")],
        )
    )
    height = max(150, 22 * len(labels))
    count = f"The best {MOST} of {len(known)} experiments. " if len(known) > MOST else ""
    return Chart(
        alt.layer(lines, spread, marks).properties(width="container", height=height),
        "dice",
        "Dice of the experiments",
        f"{count}A line is one standard deviation over the folds to either side of the last epoch, where there are at "
        "least two folds; dashed: what needs no network. Networks whose lines overlap widely are hardly told apart.",
    )


def gain_chart(rows: Arranged) -> Chart | None:
    """Return the gain of each ensemble over its best member with its interval, beside zero."""
    known = rows.ensembles[rows.ensembles["gain"].notna()]
    if known.empty:
        return None
    shown = known.head(MOST)
    points = shown[["name", "gain", "gain_low", "gain_high"]].astype(
        {"gain": float, "gain_low": float, "gain_high": float}
    )
    told = ["more", "less", "not told apart"]
    points["told"] = [
        "more" if low > 0 else "less" if high < 0 else told[2]
        for low, high in points[["gain_low", "gain_high"]].to_numpy()
    ]
    y = alt.Y(
        "name:N", sort=None, scale=alt.Scale(domain=points["name"].to_list()), title=None, axis=alt.Axis(labelLimit=170)
    )
    colour = alt.Color(
        "told:N",
        title=None,
        scale=alt.Scale(domain=told, range=[PALETTE[2], PALETTE[4], QUIET]),
        legend=alt.Legend(orient="top"),
    )
    tooltip = ["name:N", *(alt.Tooltip(f"{name}:Q", format="+.4f") for name in ("gain", "gain_low", "gain_high"))]
    title = "gain in Dice over the best member"
    base = alt.Chart(points).encode(y=y, color=colour, tooltip=tooltip)
    interval = base.mark_rule(strokeWidth=3).encode(
        x=alt.X("gain_low:Q", title=title, axis=FEW_TICKS), x2="gain_high:Q"
    )
    gain = base.mark_point(filled=True, size=80, opacity=1).encode(x=alt.X("gain:Q", title=title))
    zero = alt.Chart(pd.DataFrame({"gain": [0]})).mark_rule(color=INK).encode(x=alt.X("gain:Q", title=title))
    count = f"The best {MOST} of {len(known)} ensembles. " if len(known) > MOST else ""
    return Chart(
        alt.layer(zero, interval, gain).properties(width="container", height=max(90, 26 * len(shown))),
        "gains",
        "What each ensemble gains",
        f"{count}Lines are paired bootstrap intervals of 95 %, on the ensemble's own images, with the best member "
        "decided as the ensemble is. An interval that holds zero tells neither apart.",
    )


def _labels(experiments: pd.DataFrame) -> list[str]:
    """Name experiments by their rank and by what they differ in; of seeds, replicates have one."""
    differ = [key for key in KEYS if experiments[key].astype(str).nunique() > 1]
    seeds = experiments["seed"].tolist() if "seed" in experiments else [None] * len(experiments)
    differ = differ or ([] if any(map(_seed_in_words, seeds)) else ["decoder"])
    rows = experiments[["number", *differ]].to_dict("records")
    return [" ".join([*map(str, row.values()), *_seed_in_words(seed)]) for row, seed in zip(rows, seeds, strict=True)]


def _seed_in_words(seed: Any) -> list[str]:
    return [] if pd.isna(seed) else [f"seed {seed}"]


def _table(part: pd.DataFrame, shown: dict[str, Shown], hidden: Sequence[str] | set[str] = ()) -> Table:
    return Table(
        [
            Column(
                how.head,
                [_cell(cell) for cell in part[name]],
                digits=how.digits,
                help=how.help,
                best=how.best,
                bar=how.bar,
            )
            for name, how in shown.items()
            if name in part and name not in hidden
        ]
    )


def _cell(cell: Any) -> Any:
    cell = plain(cell)
    return ("(*)" if cell else None) if isinstance(cell, bool) else cell


def _number(text: str) -> float | int | str:
    """Return the number that a cell holds, or its words: a decision may have a threshold by plane."""
    if text.isdecimal():
        return int(text)
    return float(text) if "." in text else text


def _facts(rows: Arranged, images: int, folds: Sequence[int]) -> list[str]:
    first = rows.experiments.iloc[0]
    lines = [
        "Every Dice is of images that no network of the row has seen: mean over images, then classes, then folds.",
        f"Experiments are decided by threshold {first['threshold']} and minimum size {first['min_size']}.",
        "(*) optimistic: `best` was chosen by, and what is tuned on itself tuned on, the images it is scored on. "
        "Compare by `last`, and by the Dice of ensembles without the mark.",
        "The Dice of a tuned ensemble is nested, tuned on the other folds, and there is none with a single fold.",
        *(meaning for meaning in meanings(rows) if meaning != MEANINGS["says_where_only"]),
        "A star marks the best of a column.",
    ]
    if rows.shared:
        numbers = ", ".join(map(str, folds))
        lines.insert(1, f"Rows of different folds compare by 'on the common folds': {images} images of fold {numbers}.")
    return lines
