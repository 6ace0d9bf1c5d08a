"""Time and memory of each job, out of the benchmark files that lie beside logs: a table, a page and a chart."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.colours import INK, PALETTE
from cloudseg.report.page import Column, Table, write_page
from cloudseg.storage import files
from cloudseg.storage.records import ASKED

SUFFIX = ".benchmark.tsv"
COLUMNS = ["rule", "job", "seconds", "cpu_seconds", "peak_mb", "asked_mb", "threads"]
LONGEST = 25  # jobs that the page lists


def read_benchmarks(logs: str | Path, runs: str | Path) -> pd.DataFrame:
    """Read the benchmark files of all jobs.

    Parameters
    ----------
    logs : folder of logs, `RULE.benchmark.tsv` or `RULE/JOB.benchmark.tsv`.
    runs : folder of runs, `ENCODER/DECODER/SIZE/RECIPE/foldN/RULE[-SPLIT].benchmark.tsv`.

    Returns
    -------
    DataFrame : `COLUMNS`, longest first; what a file does not tell is NaN.
    """
    rows = [*_of_logs(Path(logs)), *_of_runs(Path(runs))]
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[2:], float))
    return table.sort_values(["seconds", "rule", "job"], ascending=[False, True, True], ignore_index=True)


def by_rule(jobs: pd.DataFrame) -> pd.DataFrame:
    """Add up jobs by rule, the longest first.

    Parameters
    ----------
    jobs : what :func:`read_benchmarks` returns.

    Examples
    --------
    >>> jobs = pd.DataFrame({"rule": ["a", "a", "b"], "job": list("xyz"), "seconds": [1.0, 2, 9], "cpu_seconds": 2.0,
    ...     "peak_mb": [10.0, 30, 20], "asked_mb": [50.0, 60, 40], "threads": 1.0})
    >>> by_rule(jobs)[["rule", "jobs", "seconds", "share", "peak_mb", "memory_share"]].to_numpy().tolist()
    [['b', 1, 9.0, 75.0, 20.0, 50.0], ['a', 2, 3.0, 25.0, 30.0, 50.0]]
    """
    groups = jobs.assign(memory_share=100 * jobs["peak_mb"] / jobs["asked_mb"]).groupby("rule", sort=False)
    table = groups.agg(
        jobs=("job", "size"),
        seconds=("seconds", "sum"),
        mean=("seconds", "mean"),
        longest=("seconds", "max"),
        cpu_seconds=("cpu_seconds", "sum"),
        peak_mb=("peak_mb", "max"),
        asked_mb=("asked_mb", "max"),
        memory_share=("memory_share", "max"),
    ).reset_index()
    table["share"] = 100 * table["seconds"] / max(table["seconds"].sum(), 1e-9)
    table["cores"] = table["cpu_seconds"] / table["seconds"].where(table["seconds"] > 0)
    return table.sort_values("seconds", ascending=False, ignore_index=True)


def write_times(logs: str | Path, runs: str | Path, *, table: str | Path, page: str | Path, chart: str | Path) -> None:
    """Write the table of all jobs, the page of rules and longest jobs, and the chart as SVG.

    Parameters
    ----------
    logs, runs : folders as in :func:`read_benchmarks`.
    table, page, chart : files to write.
    """
    jobs = read_benchmarks(logs, runs)
    files.write_table(jobs, table)
    rules = by_rule(jobs)
    seconds, memory = seconds_chart(rules), memory_chart(rules)
    Chart(alt.vconcat(seconds.chart.properties(width=560), memory.chart.properties(width=560)), "time", "").write_svg(
        chart
    )
    write_page(
        page,
        "time.html",
        title="Time and memory",
        jobs=len(jobs),
        seconds=float(jobs["seconds"].sum()),
        charts=[_filling(seconds), _filling(memory)],
        rules=_rule_table(rules),
        longest=_job_table(jobs.head(LONGEST)),
        count=min(LONGEST, len(jobs)),
        charts_script=charts_script(),
    )


def seconds_chart(rules: pd.DataFrame) -> Chart:
    """Return the seconds of each rule, of all its jobs together."""
    bars = (
        alt.Chart(rules[["rule", "jobs", "seconds", "share"]])
        .mark_bar(color=PALETTE[1])
        .encode(
            x=alt.X("seconds:Q", title="seconds of all jobs together"),
            y=alt.Y("rule:N", sort=None, title=None),
            tooltip=["rule:N", "jobs:Q", alt.Tooltip("seconds:Q", format=",.1f"), alt.Tooltip("share:Q", format=".1f")],
        )
        .properties(height=max(60, 18 * len(rules)))
    )
    return Chart(
        bars, "seconds", "Time", "Jobs that ran beside each other count in full, so this is no time on a clock."
    )


def memory_chart(rules: pd.DataFrame) -> Chart:
    """Return the peak memory of each rule beside what its jobs had asked for."""
    known = rules[["rule", "peak_mb", "asked_mb"]].assign(what="asked for")
    y = alt.Y("rule:N", sort=None, title=None)
    title = "memory of the largest job, MB"
    bars = (
        alt.Chart(known)
        .mark_bar(color=PALETTE[2])
        .encode(x=alt.X("peak_mb:Q", title=title), y=y, tooltip=["rule:N", "peak_mb:Q", "asked_mb:Q"])
    )
    ticks = alt.Chart(known).mark_tick(thickness=3, color=INK).encode(x=alt.X("asked_mb:Q", title=title), y=y)
    return Chart(
        alt.layer(bars, ticks).properties(height=max(60, 18 * len(rules))),
        "memory",
        "Memory",
        "Bars: the peak of the largest job. Black ticks: the most that a job of the rule asked for. A bar that comes "
        "close to its tick is a job that a small machine may kill.",
    )


def _filling(chart: Chart) -> Chart:
    return Chart(chart.chart.properties(width="container"), chart.name, chart.title, chart.caption)


def _rule_table(rules: pd.DataFrame) -> Table:
    columns = {name: [None if pd.isna(cell) else cell for cell in rules[name]] for name in rules}
    return Table(
        [
            Column("rule", columns["rule"]),
            Column("jobs", [int(count) for count in columns["jobs"]]),
            Column("seconds", columns["seconds"], digits=1, bar=True),
            Column("% of all", columns["share"], digits=1),
            Column("mean", columns["mean"], digits=1, help="Seconds of a job, on average"),
            Column("longest", columns["longest"], digits=1, help="Seconds of the longest job"),
            Column("CPU seconds", columns["cpu_seconds"], digits=1),
            Column("cores", columns["cores"], digits=2, help="CPU seconds per second: cores that were busy on average"),
            Column("peak MB", columns["peak_mb"], digits=0, help="Of the largest job, with its child processes"),
            Column("asked MB", columns["asked_mb"], digits=0, help="The most that a job asked for (mem_mb)"),
            Column("% of asked", columns["memory_share"], digits=0, bar=True, help="Of the job that came closest"),
        ]
    )


def _job_table(jobs: pd.DataFrame) -> Table:
    columns = {name: [None if pd.isna(cell) else cell for cell in jobs[name]] for name in jobs}
    return Table(
        [
            Column("rule", columns["rule"]),
            Column("job", columns["job"]),
            Column("seconds", columns["seconds"], digits=1, bar=True),
            Column("CPU seconds", columns["cpu_seconds"], digits=1),
            Column("threads", [None if count is None else int(count) for count in columns["threads"]]),
            Column("peak MB", columns["peak_mb"], digits=0),
            Column("asked MB", columns["asked_mb"], digits=0),
        ]
    )


def _of_logs(logs: Path) -> Iterator[list[Any]]:
    for path in sorted(logs.rglob(f"*{SUFFIX}")):
        rule, *job = path.relative_to(logs).as_posix().removesuffix(SUFFIX).split("/")
        yield [rule, "/".join(job), *_measured(path)]


def _of_runs(runs: Path) -> Iterator[list[Any]]:
    # By depth: the stores of a run may hold very many files
    for path in sorted(runs.glob(f"*/*/*/*/fold*/*{SUFFIX}")):
        rule, _, split = path.name.removesuffix(SUFFIX).partition("-")
        yield [rule, " ".join(filter(None, [path.parent.relative_to(runs).as_posix(), split])), *_measured(path)]


def _measured(path: Path) -> list[float | None]:
    """Return what a benchmark file says, and what the job had asked for: `COLUMNS` without the first two."""
    lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    last = lines[-1] if lines else {}
    asked_file = path.with_name(path.name.removesuffix(SUFFIX) + ASKED)
    asked = json.loads(asked_file.read_text(encoding="utf-8")) if asked_file.is_file() else {}
    told = [_number(last.get(name)) for name in ("s", "cpu_time", "max_rss")]
    return [*told, asked.get("mem_mb"), asked.get("threads")]


def _number(text: str | None) -> float | None:
    """Return a number; of a job that ended before it was looked at, Snakemake writes a dash or NA."""
    return float(text) if text and re.fullmatch(r"[\d.]+(e[+-]?\d+)?", text) else None
