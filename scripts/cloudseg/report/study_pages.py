"""The pages of the studies `loading` and `quantising`: their tables to sort, each with a chart."""

from pathlib import Path

import altair as alt
import pandas as pd

from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.colours import INK, PALETTE
from cloudseg.report.page import Column, Table, write_page
from cloudseg.studies.loading import REFERENCE

WAYS = ["rounded", "truncated"]


def loading_html(table: pd.DataFrame, about: str, out: str | Path, chart: str | Path, *, verdict: str = "") -> None:
    """Write the page of the load-time table, and its chart as SVG.

    Parameters
    ----------
    table : what :func:`cloudseg.studies.loading.loading_table` returns.
    about : what was trained, where.
    out, chart : files to write.
    verdict : what was found, in a sentence.
    """
    drawn = loading_chart(table)
    drawn.write_svg(chart)
    theirs = REFERENCE.name.capitalize()
    columns = [
        Column("way", table["way"].tolist()),
        Column("size", table["size"].tolist()),
        Column("loader, ms", (1e3 * table["loader_seconds"]).tolist(), digits=1, best="min"),
        Column("ratio", table["loader_ratio"].tolist(), digits=3),
        Column("epoch, ms", (1e3 * table["epoch_seconds"]).tolist(), digits=1, best="min"),
        Column("its ratio", table["epoch_ratio"].tolist(), digits=3),
        Column(f"{theirs}, min", table[f"{REFERENCE.name}_minutes"].tolist()),
        Column(f"{theirs}, ratio", table[f"{REFERENCE.name}_ratio"].tolist(), digits=3),
    ]
    write_page(
        out,
        "study.html",
        title="Time to load a training sample",
        lead=f"{about}; {table['images'].iloc[0]} images.",
        verdict=verdict,
        notes=[
            "Milliseconds are those of one image; ratios are to the first row.",
            "An epoch is loading, forward, backward and a step of the optimiser.",
            f"{theirs}: the minutes of an epoch on another machine with another network, {REFERENCE.date}; its ratios "
            "alone compare.",
        ],
        charts=[drawn],
        table=Table(columns),
        charts_script=charts_script(),
    )


def loading_chart(table: pd.DataFrame) -> Chart:
    """Return the milliseconds of an image by the way that it is read, in the loader and in an epoch."""
    names = {"loader_seconds": "loader alone", "epoch_seconds": "epoch"}
    long = table.melt(["way"], list(names), "what", "seconds").replace({"what": names})
    long = long.assign(milliseconds=1e3 * long["seconds"].astype(float))
    colour = alt.Color(
        "what:N",
        title=None,
        scale=alt.Scale(domain=list(names.values()), range=[PALETTE[5], PALETTE[1]]),
        legend=alt.Legend(orient="top"),
    )
    bars = (
        alt.Chart(long[["way", "what", "milliseconds"]], width="container", height=190)
        .mark_point(filled=True, size=120, opacity=1)
        .encode(
            x=alt.X("milliseconds:Q", title="milliseconds an image, logarithmic", scale=alt.Scale(type="log")),
            y=alt.Y("way:N", sort=None, title=None),
            color=colour,
            tooltip=["way:N", "what:N", alt.Tooltip("milliseconds:Q", format=".1f")],
        )
    )
    return Chart(
        bars,
        "loading",
        "Milliseconds an image",
        "Further left is faster. What an epoch takes beyond the loader is the network.",
    )


def quantising_html(
    curves: pd.DataFrame, summary: pd.DataFrame, run: str, out: str | Path, chart: str | Path, *, verdict: str = ""
) -> None:
    """Write the page of what one byte per probability costs, and its chart as SVG.

    Parameters
    ----------
    curves, summary : what :func:`cloudseg.studies.quantising.study` returns.
    run : what names the network to the reader.
    out, chart : files to write.
    verdict : what was found, in a sentence.
    """
    drawn = quantising_chart(curves)
    drawn.write_svg(chart)
    columns = [
        Column("what", summary["what"].tolist()),
        Column("way", summary["way"].tolist()),
        Column("mean error", (255 * summary["mean_error"]).tolist(), help="Of 255 p - byte, in levels"),
        Column("variance", (255**2 * summary["variance_of_error"]).tolist(), help="Of the same"),
        Column("largest", summary["largest_at_levels"].tolist(), digits=6, help="Over the levels 1 to 255"),
        Column("at level", summary["level"].tolist()),
        Column("mean", summary["mean_at_levels"].tolist(), digits=6),
        Column("largest (t)", summary["largest_at_hundredths"].tolist(), digits=6),
        Column("at t", (summary["hundredth"] / 100).tolist(), digits=2),
        Column("mean (t)", summary["mean_at_hundredths"].tolist(), digits=6),
    ]
    write_page(
        out,
        "study.html",
        title="Probabilities as bytes",
        lead=f"{run}, {summary['images'].iloc[0]} validation images, against the float32 that the bytes are made from.",
        verdict=verdict,
        notes=[
            "rounded: floor(255 p + 0.5), as the stores here; truncated: `(probability*255).astype(np.uint8)`.",
            "An error spread evenly over one level has the variance 1/12 = 0.0833.",
            "largest, mean: absolute difference of a class's Dice from float32's at the levels 1 to 255, p >= v / 255, "
            "where truncation is the float rule itself. (t): the same over the thresholds 0.01 to 0.99.",
            "blend: the mean of four flips of the network, each kept as bytes first.",
        ],
        charts=[drawn],
        table=Table(columns),
        charts_script=charts_script(),
    )


def quantising_chart(curves: pd.DataFrame) -> Chart:
    """Return by how much each way changes the Dice of all classes, level by level."""
    whole = curves[curves["class"] == "all"]
    rows = pd.concat(
        [whole[["what", "level"]].assign(way=way, change=whole[f"dice_{way}"] - whole["dice_float"]) for way in WAYS],
        ignore_index=True,
    )
    lines = (
        alt.Chart(rows, width="container", height=260)
        .mark_line()
        .encode(
            x=alt.X("level:Q", title="level (threshold times 255)", scale=alt.Scale(domain=[1, 255])),
            y=alt.Y("change:Q", title="change of Dice, mean over classes"),
            color=alt.Color(
                "way:N",
                title=None,
                scale=alt.Scale(domain=WAYS, range=[PALETTE[1], PALETTE[4]]),
                legend=alt.Legend(orient="top"),
            ),
            strokeDash=alt.StrokeDash(
                "what:N", title=None, sort=None, legend=alt.Legend(orient="top", symbolStrokeColor=INK)
            ),
            tooltip=["what:N", "way:N", "level:Q", alt.Tooltip("change:Q", format="+.6f")],
        )
    )
    return Chart(lines, "quantising", "Dice of bytes less Dice of float32", "Lines along zero cost nothing.")
