"""The leaderboard as Markdown, for the screen, and as the reference writes its own tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cloudseg.config.reference import Reference
from cloudseg.report.leaderboard import KEYS, LEAKAGE
from cloudseg.report.markdown import escaped, markdown_table

REFERENCE = Reference.read()
MOST_CLASSES = 6  # whose thresholds a table has room for; of more it says from where to where they go


def page(
    table: pd.DataFrame, classes: Sequence[str], images: int, folds: Sequence[int], *, left_out: Sequence[str] = ()
) -> str:
    """Write the leaderboard as Markdown: a table each of experiments, ensembles and baselines, best first.

    Parameters
    ----------
    table : what `leaderboard` returns.
    classes : names, in the order in which thresholds and minimum sizes are given.
    images : how many out-of-fold images all rows have in common.
    folds : the folds they lie in.
    left_out : which rows of the sheet have no masks to score, and why.
    """
    rows = arrange(table, images)
    shared = {"dice_common": rows.shared} if rows.shared else {}
    sections = [
        _shown(rows.experiments, EXPERIMENT_HEADS | shared),
        _shown(rows.experiments, NETWORK_HEADS),
        _shown(rows.ensembles, ENSEMBLE_HEADS | shared),
        _shown(_shortened(rows.ensembles), DECISION_HEADS),
        _shown(rows.ensembles, ENSEMBLE_CONTEST_HEADS, at_least=1),
        _shown(rows.baselines, {"name": "name", "dice": "Dice"} | shared),
        "\n".join(
            [
                *_notes(table[table["what"] == "experiment"], classes, images, rows.shared, folds),
                *meanings(rows),
                *map(escaped, without_masks(left_out)),
            ]
        ),
        "\n".join(f"- {escaped(row.name)}: {escaped(row.note)}" for row in _noted(rows.ensembles)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


@dataclass(frozen=True)
class Arranged:
    """The rows of the leaderboard by what they are, best first, with what pages show of them in words.

    Parameters
    ----------
    experiments : numbered from 1, those that have a Dice of their own.
    ensembles : best members are named by the number of their experiment.
    baselines : what needs no network.
    shared : head of the Dice that rows of different folds compare by; empty where each row's own Dice does.
    """

    experiments: pd.DataFrame
    ensembles: pd.DataFrame
    baselines: pd.DataFrame
    shared: str


def arrange(table: pd.DataFrame, images: int) -> Arranged:
    """Sort the leaderboard and write its figures in words.

    Parameters
    ----------
    table : what `leaderboard` returns.
    images : how many out-of-fold images all rows have in common.
    """
    parts = {what: table[table["what"] == what] for what in ("experiment", "ensemble", "baseline")}
    shared = f"on {images}" if images and _unequal(table) else ""
    order = ["dice_common", "dice_last"] if shared else ["dice_last"]
    experiments = parts["experiment"].sort_values(order, ascending=False, kind="stable")
    experiments = _with_their_words(experiments).assign(number=_ranks(experiments))
    if "seed" in experiments:  # a name, not a quantity
        experiments = experiments.assign(seed=[None if pd.isna(seed) else str(seed) for seed in experiments["seed"]])
    order = ["dice_common", "dice"] if shared else ["dice"]
    ensembles = _with_interval(parts["ensemble"].sort_values(order, ascending=False, kind="stable"), experiments)
    return Arranged(experiments, ensembles, parts["baseline"], shared)


def _ranks(experiments: pd.DataFrame) -> Any:
    """Return the rank of each experiment, the best first; those without a Dice of their own, behind them, have none."""
    if "says_where_only" not in experiments or experiments["says_where_only"].isna().all():
        return range(1, len(experiments) + 1)
    ranked = experiments["says_where_only"].isna()
    return ranked.cumsum().where(ranked).astype("Int64")


# What the page shows of the table, in order; columns without any value are left out.
EXPERIMENT_HEADS = {
    **{"number": "#"} | {name: name for name in [*KEYS, "seed", "full"]},
    **{"dice_best": "best (*)", "dice_last": "last", "dice_average": "average", "fold_spread": "sd of last"},
    **{"replicate_spread": "sd of replicates", "replicates": "replicates", "says_where_only": "says"},
}
NETWORK_HEADS = {
    **{"number": "#", "loss": "loss", "millions": "M parameters", "seconds": "s/epoch"},
    **{
        "lb_best": "LB best",
        "lb_last": "LB last",
        "lb_single": "LB",
        "dice_minus_lb": "Dice - LB",
        "warning": "warning",
    },
    "theirs": f"{REFERENCE.name} Dice",
    "their_lb": f"{REFERENCE.name} LB",
    "their_gap": f"{REFERENCE.name} Dice - LB",
}
ENSEMBLE_HEADS = {
    **{"name": "name", "folds": "folds", "unscored": "trained on all"},
    **{"marked": "Dice", "dice_tuned_on_itself": "on itself (*)"},
    **{
        "member": "best member",
        "best_member_dice": "its Dice",
        "interval": "gain over it",
        "expected_lb": "expected LB",
        "says_where_only": "say",
    },
}
DECISION_HEADS = {
    **{"name": "name", "how": "decided", "threshold": "threshold"},
    **{"sharpened": "of the sharpened", "min_size": "min_size"},
}
ENSEMBLE_CONTEST_HEADS = {
    **{"name": "name", "lb_best": "LB best", "lb_last": "LB last", "lb_single": "LB"},
    **{"dice_minus_lb": "Dice - LB", "warning": "warning", "reference": f"{REFERENCE.name}: LB"},
}


# Of columns that only some tables have
MEANINGS = {
    "replicates": "Replicates differ in their seed alone, on the same folds: the sd of their `last` is chance.",
    "dice_average": "average: a third checkpoint, the mean of the weights of some epochs.",
    "says_where_only": (
        "What says where, not whether, trained on planes with truth alone (`loss_planes: positive`) and leaves none "
        "empty, so its own Dice would mislead and it has no rank: make it a `where` member of an ensemble."
    ),
    "full": "An experiment that was trained on all images, too, is scored by its folds.",
    "unscored": "Members trained on all images have no out-of-fold score: an ensemble's Dice is that of its others.",
}


def _unequal(table: pd.DataFrame) -> bool:
    """Return whether rows are scored on different folds, so that their own Dice cannot be compared."""
    return table.loc[table["what"] != "baseline", "folds"].nunique() > 1


def _shown(part: pd.DataFrame, heads: dict[str, str], at_least: int = 0) -> str:
    """Write some columns of a table; nothing where fewer than `at_least` of them, the first left out, have a value."""
    columns = {head: [plain(cell) for cell in part[name]] for name, head in heads.items() if name in part}
    filled = [head for head, cells in columns.items() if any(cell is not None for cell in cells)]
    return markdown_table(columns) if len(filled) > at_least else ""


def plain(cell: Any) -> Any:
    """Return a cell of a DataFrame as a value of Python, None for nothing."""
    if cell is None or cell is pd.NA or cell == "" or cell != cell:
        return None
    return cell.item() if isinstance(cell, np.generic) else cell


def _noted(ensembles: pd.DataFrame) -> list[Any]:
    """Return the rows of ensembles that have a note, as Series by name."""
    rows = [row for _, row in ensembles.set_index("name", drop=False).iterrows()]
    return [row for row in rows if plain(row["note"])]


def _notes(
    experiments: pd.DataFrame, classes: Sequence[str], images: int, shared: str, folds: Sequence[int]
) -> list[str]:
    first = experiments.iloc[0]
    count = "" if shared else f"{images} "
    lines = [
        f"Dice of {count}images that no network has seen, of each row's own folds: mean over images, classes, folds.",
        f"Experiments are decided by threshold {first['threshold']} and minimum size {first['min_size']}.",
        f"Several thresholds or minimum sizes stand in the order {', '.join(map(escaped, classes))}.",
        "(*) optimistic: `best` was chosen by, and what is tuned on itself tuned on, the images it is scored on.",
        "The Dice of a tuned ensemble is nested, tuned on the other folds, and not available with a single fold.",
        "The gain is over the best member (# of its experiment) on the ensemble's images, decided as the ensemble is,",
        "by the same threshold, or tuned and nested likewise; in brackets a paired bootstrap interval of 95 %.",
    ]
    if shared:
        numbers = ", ".join(map(str, folds))
        lines.insert(
            1, f"Rows of different folds compare by '{shared}', the images of fold {numbers} (experiments: `last`)."
        )
    return lines


def meanings(rows: Arranged) -> list[str]:
    """Say what those of `MEANINGS` mean that the rows have."""
    parts = rows.experiments, rows.ensembles
    filled = {name for name in MEANINGS for part in parts for cell in part.get(name, ()) if plain(cell) is not None}
    return [text for name, text in MEANINGS.items() if name in filled]


def without_masks(left_out: Sequence[str]) -> list[str]:
    """Say which rows of the sheet are not in the leaderboard, and where to look for those that say whether."""
    if not left_out:
        return []
    return [f"Not in these tables: {'; '.join(left_out)}. What classification heads are worth is in classifiers.html."]


def _shortened(ensembles: pd.DataFrame) -> pd.DataFrame:
    """Say of many classes from where to where their numbers go, and name the power beside sharpened thresholds."""
    short = ensembles.assign(sharpened=None)
    for name in ("threshold", "min_size", "sharpened_threshold"):
        short[name] = [_range(cell) for cell in short[name]]
    short["sharpened"] = [
        f"{cut} (p^{power:g})" if plain(power) else None
        for cut, power in zip(short["sharpened_threshold"], short["sharpen"], strict=True)
    ]
    return short


def _range(cell: Any) -> Any:
    values = str(cell).split("/")
    return f"{min(values, key=float)}..{max(values, key=float)}" if len(values) > MOST_CLASSES else cell


def _with_interval(ensembles: pd.DataFrame, experiments: pd.DataFrame) -> pd.DataFrame:
    """Write gains with their interval, members by the number of their experiment, and mark what holds `best`."""
    numbers = dict(experiments.dropna(subset=["number"])[["name", "number"]].itertuples(index=False, name=None))
    low, high = ensembles["gain_low"].astype(float), ensembles["gain_high"].astype(float)
    gain = ensembles["gain"].astype(float)
    words = [f"{a:+.4f} ({b:+.4f}..{c:+.4f})" for a, b, c in zip(gain, low, high, strict=True)]
    return ensembles.assign(
        interval=pd.Series(words, ensembles.index, dtype=object).where(gain.notna()),
        marked=[
            None if plain(dice) is None else f"{dice:.4f}{'' if plain(mark) is None else ' (*)'}"
            for dice, mark in zip(ensembles["dice"], ensembles["optimistic"], strict=True)
        ],
        member=[_short(name, numbers) for name in ensembles["best_member"]],
    )


def _short(member: Any, numbers: dict[str, int]) -> str | None:
    """Return `# checkpoint` of a member's name."""
    if plain(member) is None:
        return None
    experiment, _, checkpoint = member.rpartition("-")
    mark = " (*)" if checkpoint == "best" else ""
    return f"{numbers[experiment]} {checkpoint}{mark}" if experiment in numbers else f"{member}{mark}"


def _with_their_words(experiments: pd.DataFrame) -> pd.DataFrame:
    """Join the figures of the reference as it writes them, and set its Dice against its own scores."""
    parameters, seconds = experiments["parameters"].astype(float), experiments["seconds_per_epoch"].astype(float)
    experiments = experiments.assign(
        millions=(parameters / 1e6).map("{:.1f}".format).where(parameters.notna()),
        seconds=seconds.map("{:.1f}".format).where(seconds.notna()),
    )
    wanted = {name: column for name, column in REFERENCE.columns.items() if name != "line"}
    if not set(wanted.values()) & set(experiments.columns):
        return experiments
    theirs = experiments.reindex(columns=list(wanted.values())).apply(pd.to_numeric, errors="coerce")
    theirs.columns = list(wanted)
    dice, lb, last = theirs["dice_best"], theirs["lb_best"].fillna(theirs["lb_single"]), theirs["lb_last"]
    gap = dice - lb
    warned = gap.map("{:+.4f}".format) + np.where(gap > LEAKAGE, ", check for leakage", "")
    return experiments.assign(
        theirs=_pairs(dice, theirs["dice_last"], 5),
        their_lb=_pairs(lb, last, 4),
        their_gap=warned.where(gap.notna()),
    )


def _pairs(one: pd.Series, two: pd.Series, digits: int) -> pd.Series:
    """Write `one/two`, with nothing where there is none, and `one` alone where no row has a second."""

    def written(value: float) -> str:
        return "" if pd.isna(value) else f"{value:.{digits}f}"

    words = pd.Series([f"{written(a)}/{written(b)}" for a, b in zip(one, two, strict=True)], index=one.index)
    return words.mask(words == "/")


def diary_page(table: pd.DataFrame) -> str:
    """Write the experiments in the reference's own Markdown, one table per `date` of the sheet, ready to be pasted.

    Rows stand in the order of the reference's lines, where the sheet knows them.

    Parameters
    ----------
    table : what `leaderboard` returns.
    """
    rows = table[table["what"] == "experiment"]
    if (line := REFERENCE.columns["line"]) in rows:
        rows = rows.sort_values(line, kind="stable")
    days = rows["date"] if "date" in rows else pd.Series("", index=rows.index)
    parts = []
    for day in dict.fromkeys(days):
        part = rows[days == day]
        lb = part["lb_best"].astype(float).fillna(part["lb_single"].astype(float))
        below = {name: part[name].map(escaped) for name in ("encoder", "size", "decoder")} | {
            "loss": part["loss"],
            "folds": part["folds"].astype(str),
            "dice": _pairs(part["dice_best"], part["dice_last"], 5),
            "lb": _pairs(lb, part["lb_last"].astype(float), 4),
        }
        cells = pd.DataFrame({head: below[name] for head, name in REFERENCE.table.items()})
        alignment = ["center"] * len(cells.columns)
        written = cells.fillna("").to_markdown(index=False, disable_numparse=True, colalign=alignment)
        parts.append(f"### {escaped(day)}\n\n{written}" if day else written)
    return "\n\n".join(parts) + "\n"
