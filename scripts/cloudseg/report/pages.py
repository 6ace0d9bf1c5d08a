"""The leaderboard as Markdown, for the screen, the report and the diary."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cloudseg.report.leaderboard import KEYS, LEAKAGE, THEIRS


def page(table: pd.DataFrame, classes: Sequence[str], images: int, folds: Sequence[int]) -> str:
    """Write the leaderboard as Markdown: a table each of experiments, ensembles and baselines, best first.

    Parameters
    ----------
    table : what `leaderboard` returns.
    classes : names, in the order in which thresholds and minimum sizes are given.
    images : how many out-of-fold images were scored.
    folds : the folds they lie in.
    """
    parts = {what: table[table["what"] == what] for what in ("experiment", "ensemble", "baseline")}
    experiments = _with_their_words(parts["experiment"].sort_values("dice_last", ascending=False))
    experiments = experiments[[name for name in EXPERIMENT_HEADS if name in experiments]].rename(
        columns=EXPERIMENT_HEADS
    )
    ensembles = _with_interval(parts["ensemble"].sort_values("dice", ascending=False))
    ensembles = ensembles[[name for name in ENSEMBLE_HEADS if name in ensembles]].rename(columns=ENSEMBLE_HEADS)
    baselines = parts["baseline"][["name", "dice"]].rename(columns={"dice": "Dice"})
    numbers = ", ".join(map(str, folds))
    notes = (
        f"Dice of {images} images that the networks have not seen (fold {numbers}): mean over images, classes, folds.\n"
        f"Several thresholds or minimum sizes stand in the order {', '.join(classes)}.\n"
        "(*) optimistic: `best` was chosen by, and `tuned on itself` tuned on, the images it is scored on; "
        "the Dice of a tuned ensemble is nested, tuned on the other folds, and not available with a single fold.\n"
        "The gain of an ensemble is over its best member on the same images, with a paired bootstrap interval of 95 %."
    )
    return "\n\n".join([*map(_markdown, (experiments, ensembles, baselines)), notes]) + "\n"


# What the page shows of the table, in order; columns without any value are left out.
EXPERIMENT_HEADS = {
    **{name: name for name in (*KEYS, "loss")},
    **{"dice_best": "Dice best (*)", "dice_last": "Dice last", "fold_spread": "sd of folds"},
    **{
        "lb_best": "LB best",
        "lb_last": "LB last",
        "lb_single": "LB",
        "dice_minus_lb": "Dice - LB",
        "warning": "warning",
    },
    **{"theirs": "diary: Dice (best/last)", "their_lb": "diary: LB (best/last)", "their_gap": "diary: Dice - LB"},
    **{"parameters": "parameters", "seconds_per_epoch": "s per epoch"},
    **{"threshold": "threshold", "min_size": "min_size"},
}
ENSEMBLE_HEADS = {
    **{"name": "name", "dice": "Dice", "dice_tuned_on_itself": "tuned on itself (*)"},
    **{"best_member": "best member", "interval": "gain over it", "expected_lb": "expected LB"},
    **{
        "lb_best": "LB best",
        "lb_last": "LB last",
        "lb_single": "LB",
        "dice_minus_lb": "Dice - LB",
        "warning": "warning",
    },
    **{"reference": "diary: LB", "threshold": "threshold", "min_size": "min_size", "note": "note"},
}


def _markdown(part: pd.DataFrame) -> str:
    """Write a table, without the columns that are empty in every row."""
    part = part.replace("", None).dropna(axis="columns", how="all")
    numbers = {"parameters": ",.0f", "s per epoch": ".1f"}
    return (
        part.astype(object)
        .where(part.notna().to_numpy(), None)
        .to_markdown(index=False, floatfmt=[numbers.get(name, ".4f") for name in part.columns], missingval="")
    )


def _with_their_words(experiments: pd.DataFrame) -> pd.DataFrame:
    """Join the figures of the diary as it writes them, and set its Dice against its own scores."""
    if not set(THEIRS) & set(experiments.columns):
        return experiments
    theirs = experiments.reindex(columns=THEIRS).apply(pd.to_numeric, errors="coerce")
    dice, best, last = (theirs[f"diary_{name}"] for name in ("dice_best", "lb_best", "lb_last"))
    lb = best.fillna(theirs["diary_lb_single"])
    gap = dice - lb
    warned = gap.map("{:+.4f}".format) + np.where(gap > LEAKAGE, ", check for leakage", "")
    return experiments.assign(
        theirs=_pairs(dice, theirs["diary_dice_last"], 5),
        their_lb=_pairs(lb, last, 4),
        their_gap=warned.where(gap.notna()),
    )


def _with_interval(ensembles: pd.DataFrame) -> pd.DataFrame:
    low, high = ensembles["gain_low"].astype(float), ensembles["gain_high"].astype(float)
    gain = ensembles["gain"].astype(float)
    words = gain.map("{:+.4f}".format) + low.map(" ({:+.4f}".format) + high.map("..{:+.4f})".format)
    return ensembles.assign(interval=words.where(gain.notna()))


def _pairs(one: pd.Series, two: pd.Series, digits: int) -> pd.Series:
    """Write `one/two`, with nothing where there is none, and `one` alone where no row has a second."""

    def written(value: float) -> str:
        return "" if pd.isna(value) else f"{value:.{digits}f}"

    words = pd.Series([f"{written(a)}/{written(b)}" for a, b in zip(one, two, strict=True)], index=one.index)
    return words.mask(words == "/")


def diary_page(table: pd.DataFrame) -> str:
    """Write the experiments in the diary's own Markdown, one table per `date` of the sheet, ready to be pasted.

    Rows stand in the order of the diary's lines, where the sheet knows them.

    Parameters
    ----------
    table : what `leaderboard` returns.
    """
    rows = table[table["what"] == "experiment"]
    if "diary_line" in rows:
        rows = rows.sort_values("diary_line", kind="stable")
    days = rows["date"] if "date" in rows else pd.Series("", index=rows.index)
    parts = []
    for day in dict.fromkeys(days):
        part = rows[days == day]
        lb = part["lb_best"].astype(float).fillna(part["lb_single"].astype(float))
        cells = pd.DataFrame(
            {
                "Encoder": part["encoder"],
                "Size": part["size"],
                "Decoder": part["decoder"],
                "Loss": part["loss"],
                "KFold": part["folds"].astype(str),
                "Avg Dice(best/last)": _pairs(part["dice_best"], part["dice_last"], 5),
                "LB(best/last)": _pairs(lb, part["lb_last"].astype(float), 4),
            }
        )
        written = cells.fillna("").to_markdown(index=False, disable_numparse=True, colalign=["center"] * 7)
        parts.append(f"### {day}\n\n{written}" if day else written)
    return "\n\n".join(parts) + "\n"
