"""What each ensemble gains over one of them, on the same images: a table for terminal, README and report.

Ensembles that differ in the seed of their networks alone are one row: the mean of their scores, and how far they
spread.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from cloudseg.config.replicates import without_seed
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.scores import paired_bootstrap
from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.colours import INK, QUIET
from cloudseg.report.markdown import markdown_table
from cloudseg.report.page import Column, Table, write_page
from cloudseg.storage.files import read_table
from cloudseg.training.history import read_history

COLUMNS = ["ensemble", "note", "how", "dice", "in_sample", "gain", "low", "high", "seconds"]
OF_REPLICATES = ["seeds", "spread", "epoch_seconds"]  # columns that there are where some ensemble has several seeds
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
    epoch_seconds : of the networks that it blends, of a usual epoch; NaN where nobody has asked.
    """

    name: str
    note: str
    decision: Decision
    scores: pd.DataFrame
    images: pd.DataFrame
    seconds: float = math.nan
    blended: Sequence[str] = ()
    epoch_seconds: float = math.nan

    @property
    def dice(self) -> float:
        """The honest score: nested where something was chosen, NaN where there is one fold."""
        return self._whole("fixed" if self.decision.how == "fixed" else "nested")

    @property
    def in_sample(self) -> float:
        """The score on the images on which it was chosen; NaN where nothing was."""
        return math.nan if self.decision.how == "fixed" else self._whole("tuned")

    def _whole(self, column: str) -> float:
        return float(self.scores.iloc[-1].get(column, math.nan)) if len(self.scores) else math.nan


@dataclass(frozen=True)
class Replicates:
    """Ensembles that differ in the seed of their networks alone, or one ensemble.

    Parameters
    ----------
    name : that they share.
    ensembles : at least one.
    """

    name: str
    ensembles: Sequence[Decided]

    @property
    def is_honest(self) -> bool:
        """Whether all have a score on images that they were not chosen on."""
        return all(each.decision.has_honest_score for each in self.ensembles)

    @property
    def images(self) -> pd.DataFrame:
        """The mean score of each image and class."""
        tables = pd.concat([each.images for each in self.ensembles], ignore_index=True)
        return tables.groupby(["image", "fold", "class"], as_index=False, sort=False)["dice"].mean()

    def mean(self, number: str) -> float:
        """Return the mean of a number of all."""
        return statistics.fmean(getattr(each, number) for each in self.ensembles)

    @property
    def spread(self) -> float:
        """The standard deviation of the scores; NaN of one."""
        return statistics.stdev([each.dice for each in self.ensembles]) if len(self.ensembles) > 1 else math.nan


def replicates_of(decided: Iterable[Decided]) -> list[Replicates]:
    """Return ensembles in groups whose names differ in their seed alone, in the order of their first."""
    groups: dict[str, list[Decided]] = {}
    for each in decided:
        groups.setdefault(without_seed(each.name), []).append(each)
    return [Replicates(name, ensembles) for name, ensembles in groups.items()]


def epoch_seconds_of(histories: Iterable[str | Path]) -> float:
    """Return the median seconds of an epoch of some trainings; NaN of none."""
    seconds = [epoch.seconds for path in histories for epoch in read_history(path)]
    return statistics.median(seconds) if seconds else math.nan


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
        of the two was chosen on the images that it is scored on), seconds. Where some ensemble has replicates, numbers
        are means of them, and there are seeds (how many), spread (standard deviation of dice over them) and
        epoch_seconds, too.
    """
    groups = replicates_of(decided)
    of_baseline = next(group for group in groups if group.name == baseline)
    rows = []
    for group in groups:
        gain = (math.nan,) * 3
        if group is not of_baseline and group.is_honest and of_baseline.is_honest:
            gain = paired_bootstrap(group.images, of_baseline.images, seed=seed)
        rows.append(_row(group) | dict(zip(("gain", "low", "high"), gain, strict=True)))
    has_replicates = any(len(group.ensembles) > 1 for group in groups)
    return pd.DataFrame(rows, columns=COLUMNS + (OF_REPLICATES if has_replicates else []))


def _row(group: Replicates) -> dict[str, Any]:
    first = group.ensembles[0]
    return {
        "ensemble": group.name,
        "note": first.note,
        "how": " + ".join([first.decision.how, *first.decision.further, *first.blended]),
        **{number: group.mean(number) for number in ("dice", "in_sample", "seconds", "epoch_seconds")},
        "seeds": len(group.ensembles),
        "spread": group.spread,
    }


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
    has_replicates = "seeds" in table
    shared = {"ensemble": table["ensemble"].tolist(), "decided": table["how"].tolist(), "Dice": table["dice"].tolist()}
    if has_replicates:
        columns = shared | {
            "seeds": table["seeds"].tolist(),
            "sd": table["spread"].tolist(),
            f"over {baseline}": interval,
            "s per epoch": _in_seconds(table["epoch_seconds"], digits=1),
        }
    else:
        columns = shared | {
            "in sample": table["in_sample"].tolist(),
            f"over {baseline}": interval,
            "s": _in_seconds(table["seconds"], digits=0),
        }
    notes = "Dice: each fold is scored by what the other folds choose. "
    if has_replicates:
        notes += (
            "Dice and gain are means over seeds, each of them other weights, order and augmentation; sd: how far one "
            "seed alone spreads. The interval holds 95 % of 2000 draws of the images: of twenty, one misses by chance."
        )
    else:
        notes += (
            "In sample: chosen on the images that are scored, so it flatters. The interval holds 95 % of 2000 draws of "
            "the images: of twenty, one misses by chance. It tells nothing of networks trained anew."
        )
    parts = [f"# {_title(table)}", verdict(table, baseline), markdown_table(columns)]
    return "\n\n".join([*parts, f"Out of fold, {images:,} images. {notes}"]) + "\n"


def _title(table: pd.DataFrame) -> str:
    return "What a recipe gains" if "seeds" in table else "What a decision gains"


def _in_seconds(seconds: pd.Series, digits: int) -> list[str | None]:
    return [None if math.isnan(each) else f"{each:.{digits}f}" for each in seconds]


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
        *(_columns_of_replicates(table) if "seeds" in table else []),
        Column("in sample", table["in_sample"].tolist(), help="Chosen on the images that are scored: it flatters."),
        Column("gain", table["gain"].tolist(), best="max", help=f"Dice over that of {baseline}, on the same images."),
        Column("from", table["low"].tolist()),
        Column("to", table["high"].tolist()),
        Column("seconds", table["seconds"].tolist(), digits=1, help="Of the jobs that chose the decision."),
    ]
    write_page(
        page,
        "study.html",
        title=_title(table),
        lead=f"Out of fold, {images:,} images.",
        verdict=verdict(table, baseline),
        notes=[
            f"Gains are over {baseline}, image by image; the interval holds 95 % of 2000 draws of the images: of "
            "twenty, one misses by chance.",
            "It tells about other images, not about networks trained anew; where it holds 0, chance may have made it.",
            *(["Numbers are means over seeds; sd says how far one seed alone spreads."] if "seeds" in table else []),
        ],
        charts=[chart],
        table=Table(columns),
        charts_script=charts_script(),
    )


def _columns_of_replicates(table: pd.DataFrame) -> list[Column]:
    return [
        Column("seeds", table["seeds"].tolist(), help="Ensembles that differ in the seed of their networks alone."),
        Column("sd", table["spread"].tolist(), help="Standard deviation of Dice over the seeds."),
        Column("s per epoch", table["epoch_seconds"].tolist(), digits=1, help="Median over all epochs of all runs."),
    ]


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
