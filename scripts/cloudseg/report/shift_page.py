"""The page of the shift between train and test: how well they are told apart, and which images stand out."""

from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd

from cloudseg.dataset.resizing import resize_image
from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.colours import PALETTE, QUIET
from cloudseg.report.page import Picture, write_page
from cloudseg.report.pictures import jpeg
from cloudseg.storage import per_image, stores
from cloudseg.studies.shift import GRID, Shift

TILE = 288  # width of a tile, in pixels
BARS = 20  # of the histogram
SPLITS = ["train", "test"]


def shift_page(shift: Shift, pixels: str | Path, out: str | Path, *, images: int = 8) -> None:
    """Write the page, and each of its charts as SVG beside it: `roc.svg` and `histogram.svg`.

    Parameters
    ----------
    shift : what was found.
    pixels : the pixel store of the training images.
    out : page to write.
    images : how many to show of either kind; no image is shown twice.
    """
    charts = [roc_chart(shift), histogram_chart(shift)]
    for chart in charts:
        chart.write_svg(Path(out).with_name(f"{chart.name}.svg"))
    write_page(
        out,
        "shift.html",
        title="Train against test",
        verdict=shift.verdict,
        differ=shift.low > 0.5,
        counts=[f"{shift.count(split)} {split} images" for split in SPLITS],
        charts=charts,
        groups=shift_tiles(shift, pixels, images=images),
        alike=shift.images.loc[shift.images["split"] == "train", "score"].nunique() < 2,
        charts_script=charts_script(),
    )


def shift_tiles(shift: Shift, pixels: str | Path, *, images: int = 8) -> dict[str, list[Picture]]:
    """Return the most test-like and the most train-like training images, each with its score and weight."""
    store = stores.read(pixels)
    row_of = {image: row for row, image in enumerate(per_image.ids(store))}
    train = shift.images[shift.images["split"] == "train"].sort_values("score", kind="stable")
    shown = min(images, len(train) // 2)
    groups = {}
    for name, chosen in (("test-like", train[:shown]), ("train-like", train.iloc[::-1][:shown])):
        groups[name] = []
        for image, score, weight in zip(chosen["image"], chosen["score"], chosen["weight"], strict=True):
            row = row_of[image]
            pixel = stores.read_images(store["image"], slice(row, row + 1))[0]
            height = max(1, round(pixel.shape[0] * TILE / pixel.shape[1]))
            words = f"{image}: score {score:.2f}, weight {weight:.2f}"
            groups[name].append(Picture(jpeg(resize_image(pixel, (height, TILE))), words, words))
    return groups


def roc_chart(shift: Shift) -> Chart:
    """Return the ROC curve, beside the diagonal of sets that cannot be told apart."""
    points = pd.DataFrame({"taken": [0, *GRID, 1], "recognised": [0, *shift.curve, 1]})
    x = alt.X("taken:Q", title="share of test images taken for train", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("recognised:Q", title="share of train images recognised", scale=alt.Scale(domain=[0, 1]))
    curve = alt.Chart(points).mark_line(color=PALETTE[1]).encode(x=x, y=y, tooltip=["taken:Q", "recognised:Q"])
    chance = pd.DataFrame({"taken": [0, 1], "recognised": [0, 1]})
    diagonal = alt.Chart(chance).mark_line(color=QUIET, strokeDash=[4, 4]).encode(x=x, y=y)
    return Chart(
        alt.layer(diagonal, curve).properties(width="container", height=320),
        "roc",
        f"ROC curve: AUC {shift.auc:.3f} (95 %: {shift.low:.3f} to {shift.high:.3f})",
        "Of pairs of a train and a test image that the classifier has not seen, the AUC is the share in which the "
        "train image scores more. Sets that cannot be told apart follow the dashed diagonal, AUC 0.5.",
    )


def histogram_chart(shift: Shift) -> Chart:
    """Return the histograms of the scores of both sets."""
    edges = np.linspace(0, 1, BARS + 1)
    rows = []
    for split in SPLITS:
        scores = shift.images.loc[shift.images["split"] == split, "score"]
        shares = np.histogram(scores, edges)[0] / len(scores)
        rows += [
            {"set": split, "from": low, "to": high, "share": share}
            for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True)
        ]
    bars = (
        alt.Chart(pd.DataFrame(rows), width="container", height=260)
        .mark_bar(opacity=0.6)
        .encode(
            x=alt.X("from:Q", bin="binned", title="score: probability of being a train image, held out"),
            x2="to:Q",
            y=alt.Y("share:Q", title="share of the set's images", stack=None, axis=alt.Axis(format="%")),
            color=alt.Color(
                "set:N",
                title=None,
                scale=alt.Scale(domain=SPLITS, range=[PALETTE[1], PALETTE[4]]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["set:N", "from:Q", "to:Q", "share:Q"],
        )
    )
    return Chart(
        bars,
        "histogram",
        "Scores of both sets",
        "The further the two lie apart, the less an out-of-fold score says about the test images.",
    )
