"""The leaderboard: what each experiment and ensemble scores out of fold, beside two baselines."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cloudseg import stores

KEYS = ["encoder", "size", "decoder", "recipe", "folds"]
COLUMNS = [
    *("what", "name", *KEYS),
    *("dice_best", "dice_last", "dice", "dice_tuned_on_itself", "threshold", "min_size"),
]


def baselines(truth: str | Path, folds: pd.DataFrame, scored: Sequence[int]) -> dict[str, float]:
    """Score what needs no model: all empty, and each class everywhere or nowhere.

    Dice of an image and class is 1 when both masks are empty; it is averaged over images, then classes, then folds.

    Parameters
    ----------
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
    folds : table with the columns image and fold.
    scored : the folds whose images count.

    Returns
    -------
    dict : `all empty`, and `everywhere or nowhere`, which takes for each class whichever scores more.
    """
    masks = stores.read(truth)
    areas = np.array(
        [stores.images(masks, slice(row, row + 1))[0].sum(axis=(1, 2), dtype=np.int64) for row in range(masks.shape[0])]
    )
    pixels = masks.shape[2] * masks.shape[3]
    nowhere = (areas == 0).astype(float)
    everywhere = 2 * areas / (areas + pixels)
    fold_of = folds.set_index("image")["fold"].loc[list(masks.attrs["ids"])].to_numpy()
    per_fold = [[score[fold_of == fold].mean(axis=0) for fold in scored] for score in (nowhere, everywhere)]
    empty, full = np.mean(per_fold, axis=1)
    return {"all empty": float(empty.mean()), "everywhere or nowhere": float(np.maximum(empty, full).mean())}


def common_folds(scores: Mapping[str, pd.DataFrame]) -> list[int]:
    """Return the folds in which everything that has a score has one."""
    found = [set(table.loc[table["fold"] != "all", "fold"].astype(int)) for table in scores.values() if len(table)]
    return sorted(set.intersection(*found)) if found else []


def mean_dice(scores: pd.DataFrame, folds: Sequence[int], kind: str) -> float:
    """Return the mean over `folds` of the Dice of `kind` (fixed, tuned or nested); NaN where there is none."""
    rows = scores[(scores["class"] == "all") & scores["fold"].isin([str(fold) for fold in folds])]
    return float(rows[kind].mean()) if len(rows) else math.nan


def leaderboard(
    experiments: Sequence[Mapping[str, Any]],
    ensembles: Sequence[str],
    scores: Mapping[str, pd.DataFrame],
    decisions: Mapping[str, Mapping[str, Any]],
    baseline: Mapping[str, float],
    folds: Sequence[int],
) -> pd.DataFrame:
    """Make the table: a row per experiment, ensemble and baseline.

    Parameters
    ----------
    experiments : rows of the sheet, with the names of their scored `best` and `last` checkpoints.
    ensembles : names, in the order of the config.
    scores : per name the long table of scores; all text in its `fold` column.
    decisions : per name its decision.
    baseline : score by name.
    folds : the folds that are averaged over.

    Returns
    -------
    DataFrame : what, name, encoder, size, decoder, recipe, folds, dice_best, dice_last, dice, dice_tuned_on_itself,
        threshold, min_size. `dice` of a tuned ensemble is the nested one.
    """
    rows = []
    for row in experiments:
        columns = {key: row[key] for key in KEYS}
        dice = {f"dice_{mark}": mean_dice(scores[row[mark]], folds, "fixed") for mark in ("best", "last")}
        rows.append({"what": "experiment", **columns, **dice, **_decided(decisions[row["best"]])})
    for name in ensembles:
        tuned = decisions[name]["how"] == "tune"
        dice = mean_dice(scores[name], folds, "nested" if tuned else "fixed")
        itself = mean_dice(scores[name], folds, "tuned") if tuned else math.nan
        rows.append(
            {
                "what": "ensemble",
                "name": name,
                "dice": dice,
                "dice_tuned_on_itself": itself,
                **_decided(decisions[name]),
            }
        )
    rows += [{"what": "baseline", "name": name, "dice": dice} for name, dice in baseline.items()]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"folds": "Int64"})


def _decided(decision: Mapping[str, Any]) -> dict[str, str]:
    """Write the thresholds and the minimum sizes, once where all classes share one."""
    cells = {}
    for key, form in (("threshold", "{:.2f}"), ("min_size", "{}")):
        values = [form.format(one[key]) for one in decision["classes"].values()]
        cells[key] = values[0] if len(set(values)) == 1 else "/".join(values)
    return cells


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
    experiments = parts["experiment"].sort_values("dice_last", ascending=False)
    experiments = experiments[[*KEYS, "dice_best", "dice_last", "threshold", "min_size"]]
    ensembles = parts["ensemble"].sort_values("dice", ascending=False)
    ensembles = ensembles[["name", "dice", "dice_tuned_on_itself", "threshold", "min_size"]]
    heads = {
        "dice_best": "Dice best (*)",
        "dice_last": "Dice last",
        "dice_tuned_on_itself": "tuned on itself (*)",
    }
    tables = [
        part.rename(columns=heads | {"dice": "Dice"})
        .astype(object)
        .where(part.notna().to_numpy(), None)
        .to_markdown(index=False, floatfmt=".4f", missingval="")
        for part in (experiments, ensembles, parts["baseline"][["name", "dice"]])
    ]
    numbers = ", ".join(map(str, folds))
    notes = (
        f"Dice of {images} images that the networks have not seen (fold {numbers}): mean over images, classes, folds.\n"
        f"Several thresholds or minimum sizes stand in the order {', '.join(classes)}.\n"
        "(*) optimistic: `best` was chosen by, and `tuned on itself` tuned on, the images it is scored on; "
        "the Dice of a tuned ensemble is nested, tuned on the other folds."
    )
    return "\n\n".join([*tables, notes]) + "\n"


def next_commands(leaderboard_file: str) -> str:
    """Return what a person types next."""
    return "\n".join(
        [
            f"The leaderboard is {leaderboard_file}. Next:",
            "  what would run       snakemake -n --configfile config/kaggle.yaml",
            "  the contest's data   snakemake submission.csv --configfile config/kaggle.yaml",
            "  your own images      cp config/kaggle.yaml config/mine.yaml; in it source: path, root: FOLDER",
            "  four GPUs            snakemake --cores 8 --resources gpu=4 --configfile config/kaggle.yaml",
            "  a Slurm cluster      snakemake --workflow-profile profiles/slurm --configfile config/kaggle.yaml",
        ]
    )
