"""What each way to decide gains over one of them, on the same images: a table for terminal, README and report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import pandas as pd

from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.scores import paired_bootstrap
from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.colours import INK, QUIET
from cloudseg.report.markdown import markdown_table
from cloudseg.report.page import Column, Table, write_page
from cloudseg.storage.files import read_table

COLUMNS = ["ensemble", "note", "how", "dice", "in_sample", "gain", "low", "high", "seconds"]
JOBS = ("decide", "search")  # whose seconds are those of a decision
ROW_HEIGHT = 22  # pixels of the chart


@dataclass(frozen=True)
class Decided:
    """An ensemble that was decided and scored.

    Parameters
    ----------
    name, note : of the ensemble.
    decision : how its blend becomes masks.
    scores : per class and fold, `scores.tsv`.
    images : per image and class, `images.tsv`.
    seconds : that choosing took; NaN where nobody has measured them.
    blended : what makes its blend more than a mean of its members, in words.
    """

    name: str
    note: str
    decision: Decision
    scores: pd.DataFrame
    images: pd.DataFrame
    seconds: float = math.nan
    blended: Sequence[str] = ()


def seconds_of(name: str, logs: str | Path) -> float:
    """Return the seconds of the jobs that chose the decision of an ensemble; NaN where none was measured.

    Parameters
    ----------
    name : of the ensemble.
    logs : folder of the logs, where the benchmarks of jobs lie.
    """
    files = [Path(logs) / job / f"{name}.benchmark.tsv" for job in JOBS]
    measured = [float(read_table(path)["s"].iloc[-1]) for path in files if path.is_file()]
    return sum(measured) if measured else math.nan


def ablation(decided: Sequence[Decided], baseline: str, *, seed: int) -> pd.DataFrame:
    """Compare ensembles with one of them.

    Parameters
    ----------
    decided : the ensembles, in the order of the table.
    baseline : the name of the one that the others are compared with.
    seed : of the bootstrap.

    Returns
    -------
    DataFrame : ensemble, note, how, dice (out of fold: nested where something was chosen, NaN where there is one fold),
        in_sample (chosen on the images that are scored, NaN where nothing is chosen), gain over the baseline with the
        interval low, high that 95 % of the draws lie in (of images, paired; NaN of the baseline itself, and where one
        of the two was chosen on the images that it is scored on), seconds.
    """
    of_baseline = next(each for each in decided if each.name == baseline)
    honest = [each.name for each in decided if each.decision.has_honest_score]
    compared = set(honest) - {baseline} if baseline in honest else set()
    rows = []
    for each in decided:
        whole = each.scores.iloc[-1] if len(each.scores) else {}
        is_fixed = each.decision.how == "fixed"
        gain = (math.nan,) * 3
        if each.name in compared:
            gain = paired_bootstrap(each.images, of_baseline.images, seed=seed)
        rows.append(
            {
                "ensemble": each.name,
                "note": each.note,
                "how": " + ".join([each.decision.how, *each.decision.further, *each.blended]),
                "dice": whole.get("fixed" if is_fixed else "nested", math.nan),
                "in_sample": math.nan if is_fixed else whole.get("tuned", math.nan),
                **dict(zip(("gain", "low", "high"), gain, strict=True)),
                "seconds": each.seconds,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def verdict(table: pd.DataFrame, baseline: str) -> str:
    """Say in a sentence which ensembles differ from the baseline by more than chance.

    Examples
    --------
    >>> rows = [("a", 0.01, -0.01, 0.02), ("b", 0.03, 0.01, 0.05), ("c", math.nan, math.nan, math.nan)]
    >>> verdict(pd.DataFrame(rows, columns=["ensemble", "gain", "low", "high"]), "c")
    'More than chance better than c: b; worse: none; of 1 other the interval holds 0.'
    """
    if table["gain"].isna().all():
        return f"Nothing is compared with {baseline}: no images are out of fold for both that neither was chosen on."
    better, worse = (table.loc[mask, "ensemble"].tolist() for mask in (table["low"] > 0, table["high"] < 0))
    unsure = int(((table["low"] <= 0) & (table["high"] >= 0)).sum())
    return (
        f"More than chance better than {baseline}: {', '.join(better) or 'none'}; worse: "
        f"{', '.join(worse) or 'none'}; of {unsure} other{'s' * (unsure != 1)} the interval holds 0."
    )


def ablation_page(table: pd.DataFrame, baseline: str, images: int) -> str:
    """Write the table as Markdown, as it stands in a README."""
    interval = [
        None if math.isnan(row.gain) else f"{row.gain:+.4f} ({row.low:+.4f}..{row.high:+.4f})"
        for row in table.itertuples()
    ]
    columns = {
        "ensemble": table["ensemble"].tolist(),
        "decided": table["how"].tolist(),
        "Dice": table["dice"].tolist(),
        "in sample": table["in_sample"].tolist(),
        f"over {baseline}": interval,
        "s": [None if math.isnan(seconds) else f"{seconds:.0f}" for seconds in table["seconds"]],
    }
    return (
        "\n\n".join(
            [
                "# What a decision gains",
                verdict(table, baseline),
                markdown_table(columns),
                f"Out of fold, {images:,} images. Dice: each fold is scored by what the other folds choose. In sample: "
                "chosen on the images that are scored, so it flatters. The interval holds 95 % of 2000 draws of the "
                "images: of twenty, one misses by chance. It tells nothing of networks trained anew.",
            ]
        )
        + "\n"
    )


def write_ablation(table: pd.DataFrame, baseline: str, images: int, *, page: str | Path, figure: str | Path) -> None:
    """Write the page of the table, and its chart as SVG.

    Parameters
    ----------
    table : what :func:`ablation` returns.
    baseline : the ensemble that the others are compared with.
    images : out of fold.
    page, figure : the files to write.
    """
    chart = Chart(_gains(table), "ablation", f"Gain of each ensemble over {baseline}, with its interval")
    chart.write_svg(figure)
    columns = [
        Column("ensemble", table["ensemble"].tolist()),
        Column("note", table["note"].tolist()),
        Column("decided", table["how"].tolist()),
        Column("Dice", table["dice"].tolist(), best="max", help="Each fold is scored by what the other folds choose."),
        Column("in sample", table["in_sample"].tolist(), help="Chosen on the images that are scored: it flatters."),
        Column("gain", table["gain"].tolist(), best="max", help=f"Dice over that of {baseline}, on the same images."),
        Column("from", table["low"].tolist()),
        Column("to", table["high"].tolist()),
        Column("seconds", table["seconds"].tolist(), digits=1, help="Of the jobs that chose the decision."),
    ]
    write_page(
        page,
        "study.html",
        title="What a decision gains",
        lead=f"Out of fold, {images:,} images.",
        verdict=verdict(table, baseline),
        notes=[
            f"Gains are over {baseline}, image by image; the interval holds 95 % of 2000 draws of the images: of "
            "twenty, one misses by chance.",
            "It tells about other images, not about networks trained anew; where it holds 0, chance may have made it.",
        ],
        charts=[chart],
        table=Table(columns),
        charts_script=charts_script(),
    )


def _gains(table: pd.DataFrame) -> alt.LayerChart:
    rows = table.dropna(subset=["gain"])[["ensemble", "gain", "low", "high"]]
    y = alt.Y("ensemble:N", sort=rows["ensemble"].tolist(), title=None, axis=alt.Axis(labelLimit=0))
    tooltip = ["ensemble:N", *(alt.Tooltip(f"{each}:Q", format="+.4f") for each in ("gain", "low", "high"))]
    base = alt.Chart(rows).encode(y=y, tooltip=tooltip)
    zero = alt.Chart(pd.DataFrame({"gain": [0.0]})).mark_rule(color=QUIET, strokeDash=[4, 4]).encode(x="gain:Q")
    x = alt.X("low:Q", title="gain in Dice", axis=alt.Axis(format="+~g", tickCount=6))
    return alt.layer(
        zero,
        base.mark_rule(color=INK).encode(x=x, x2="high:Q"),
        base.mark_point(filled=True, color=INK, size=60, opacity=1).encode(x="gain:Q"),
    ).properties(width="container", height=ROW_HEIGHT * max(len(rows), 1))
