"""The page of classification heads: how well they say whether a class is there, beside planes of the same networks."""

from pathlib import Path

import altair as alt
import pandas as pd

from cloudseg.report.charts import Chart, charts_script
from cloudseg.report.colours import PALETTE
from cloudseg.report.glossary import terms
from cloudseg.report.leaderboard import KEYS
from cloudseg.report.page import Column, Table, write_page

LARGEST_PIXELS = "9.5%"  # of a plane, whose mean says whether the class is there: the 1st place of Understanding Clouds
MOST = 40  # heads that the chart has room for
SAYS = {"auc": "classification head", "plane_auc": "planes of the same network"}
OPTIMISTIC = "best"  # the checkpoint that was chosen on the images that it is scored on
WORDS = ["classification head", "AUC", "average precision", "prevalence", "presence", "`best`, `last`", "out of fold"]
NOTES = [
    "Every figure is of out-of-fold images: over the images of all folds together, and its standard deviation over the "
    "folds (n - 1). In a row of all classes it is the mean over the classes that have one.",
    f"What the planes say is the mean of a plane's {LARGEST_PIXELS.replace('%', ' %')} largest pixels, the score "
    "`{top: 9.5%}` of a decision, of the same network and checkpoint.",
    "Average precision by chance is the prevalence, AUC by chance 0.5. Neither depends on a threshold.",
    "A cell is empty where there is nothing to tell apart; the remark says of what kind of images there is none.",
    "(*) optimistic: `best` was chosen on the images that it is scored on. Compare by `last`.",
]


def write_classifiers(table: pd.DataFrame, page: str | Path, chart: str | Path) -> str:
    """Write the page, and its chart as SVG.

    Parameters
    ----------
    table : what `cloudseg.ensemble.head_scores.head_scores` returns, of heads that are named by the columns of `KEYS`
        and `checkpoint`, and by the `seed` of replicates.
    page, chart : files to write.

    Returns
    -------
    str : what was found, in a sentence or two.
    """
    rows = numbered(table)
    found = verdict(rows)
    drawn = auc_chart(rows)
    drawn.write_svg(chart)
    write_page(
        page,
        "study.html",
        title="Classification heads",
        lead=", ".join(f"{key} {rows[key].iloc[0]}" for key in KEYS if key not in _differing(rows)) + ".",
        verdict=found,
        charts=[drawn],
        table=head_table(rows),
        notes=NOTES,
        terms=terms(WORDS),
        charts_script=charts_script(),
    )
    return found


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the rank of their experiment, by the AUC of `last` over all classes, and in that order."""
    keys = [key for key in (*KEYS, "seed") if key in table]
    last = table[(table["class"] == "all") & (table["checkpoint"] == "last")]
    order = last.sort_values("auc", ascending=False, kind="stable")[keys]
    ranks = order.assign(number=range(1, len(order) + 1))
    return table.merge(ranks, on=keys, how="left").sort_values("number", kind="stable", ignore_index=True)


def verdict(rows: pd.DataFrame) -> str:
    """Say which head is best at saying whether, and in how many networks heads say it better than planes."""
    honest = rows[(rows["class"] == "all") & (rows["checkpoint"] != OPTIMISTIC)]
    known = honest[honest["auc"].notna()]
    if known.empty:
        return "No class has both images with it and images without it, so there is nothing to tell apart."
    first = known.loc[known["auc"].idxmax()]
    said = f"{_named(first)} says best whether a class is there: AUC {first['auc']:.4f}, mean over the classes."
    both = known[known["plane_auc"].notna()]
    if both.empty:
        return f"{said} No network has planes beside its head."
    better = int((both["auc"] > both["plane_auc"]).sum())
    return f"{said} The head says it better than the network's own planes in {better} of {len(both)} checkpoints."


def head_table(rows: pd.DataFrame) -> Table:
    """Return a row per head and class, and one for all classes."""
    sd = "Its standard deviation over the folds"
    return Table(
        [
            Column("#", rows["number"].tolist(), help="Rank by the AUC of `last` over all classes"),
            *(Column(key, rows[key].tolist()) for key in _differing(rows)),
            Column("checkpoint", [f"{name} (*)" if name == OPTIMISTIC else name for name in rows["checkpoint"]]),
            Column("class", rows["class"].tolist()),
            Column("images", rows["images"].tolist(), help="Out-of-fold images"),
            Column("prevalence", rows["prevalence"].tolist(), help="Share of images that have the class"),
            Column("AUC of head", rows["auc"].tolist()),
            Column("sd", rows["auc_sd"].tolist(), help=sd),
            Column("AUC of planes", rows["plane_auc"].tolist()),
            Column("sd", rows["plane_auc_sd"].tolist(), help=sd),
            Column("head - planes", (rows["auc"] - rows["plane_auc"]).tolist(), help="Above 0 the head says it better"),
            Column("AP of head", rows["ap"].tolist(), help="Average precision"),
            Column("sd", rows["ap_sd"].tolist(), help=sd),
            Column("AP of planes", rows["plane_ap"].tolist(), help="Average precision"),
            Column("sd", rows["plane_ap_sd"].tolist(), help=sd),
            Column("remark", rows["remark"].tolist()),
        ]
    )


def _differing(rows: pd.DataFrame) -> list[str]:
    """Return the keys that tell the networks apart; the decoder is always among them."""
    keys = [key for key in (*KEYS, "seed") if key in rows]
    return [key for key in keys if key == "decoder" or rows[key].astype(str).nunique() > 1]


def auc_chart(rows: pd.DataFrame) -> Chart:
    """Return the AUC of each head beside that of the planes of its network, all classes together, the best first."""
    whole = rows[rows["class"] == "all"].sort_values("auc", ascending=False, kind="stable")
    shown = whole.head(MOST)
    labels = list(map(_label, shown.to_dict("records")))
    long = pd.concat(
        [
            pd.DataFrame(
                {"head": labels, "says": words, "auc": shown[name].tolist(), "sd": shown[f"{name}_sd"].tolist()}
            )
            for name, words in SAYS.items()
        ]
    ).dropna(subset=["auc"])
    long = long.assign(low=long["auc"] - long["sd"], high=long["auc"] + long["sd"])
    y = alt.Y("head:N", sort=None, title=None, scale=alt.Scale(domain=labels), axis=alt.Axis(labelLimit=320))
    scale = alt.Scale(domain=list(SAYS.values()), range=[PALETTE[1], PALETTE[0]])
    colour = alt.Color("says:N", title=None, scale=scale, legend=alt.Legend(orient="top"))
    x = alt.X("auc:Q", title="AUC, mean over the classes", scale=alt.Scale(zero=False))
    spread = (
        alt.Chart(long.dropna(subset=["sd"]))
        .mark_rule(strokeWidth=2)
        .encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=colour)
    )
    marks = (
        alt.Chart(long[["head", "says", "auc"]])
        .mark_point(filled=True, size=80, opacity=1)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape("says:N", scale=alt.Scale(domain=list(SAYS.values()), range=["circle", "diamond"])),
            tooltip=["head:N", "says:N", alt.Tooltip("auc:Q", format=".4f")],
        )
    )
    count = f"The best {MOST} of {len(whole)} heads. " if len(whole) > MOST else ""
    return Chart(
        alt.layer(spread, marks).properties(width="container", height=max(90, 24 * len(labels))),
        "auc",
        "Who says better whether a class is there",
        f"{count}Further right is better; a line is one standard deviation over the folds to either side, where there "
        "are at least two. Where a head stands left of the planes, let the planes decide.",
    )


def _named(row: pd.Series) -> str:
    seed = row.get("seed")
    told = f" seed {seed}" if seed not in (None, "") and seed == seed else ""
    return " ".join(str(row[key]) for key in KEYS[:-1]) + told


def _label(row: dict[str, object]) -> str:
    """Name a head by the rank of its experiment and by its network."""
    mark = " (*)" if row["checkpoint"] == OPTIMISTIC else ""
    return f"{row['number']} {row['decoder']} {row['encoder']} {row['recipe']} {row['checkpoint']}{mark}"
