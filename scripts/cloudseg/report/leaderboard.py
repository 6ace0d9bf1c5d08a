"""The leaderboard: what each experiment and ensemble scores out of fold, beside two baselines."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.scores import expected_score, score_parts
from cloudseg.storage import per_image, stores
from cloudseg.training.record import RunRecord

KEYS = ["encoder", "size", "decoder", "recipe", "folds"]
PUBLIC_SCORES = ("best", "last", "single")  # the contest's scores: of both checkpoints, or of one file made from both
COLUMNS = [
    *("what", "name", *KEYS, "loss", "images", "dice_best", "dice_last", "dice_average", "fold_spread", "dice_common"),
    *("parameters", "seconds_per_epoch", "dice", "dice_tuned_on_itself", "optimistic", "expected_lb"),
    *("best_member", "best_member_dice", "gain", "gain_low", "gain_high"),
    *("how", "threshold", "sharpened_threshold", "sharpen", "min_size"),
    *(*(f"lb_{which}" for which in PUBLIC_SCORES), "reference", "dice_minus_lb", "warning", "says_where_only", "note"),
]
IF_ANY = {"dice_average", "says_where_only"}  # columns of tables alone in which a row has something there
CHECKPOINTS = ("best", "last", "average")
LEAKAGE = 0.03  # local score minus leaderboard score from which leakage is suspected


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
        [
            stores.read_images(masks, slice(row, row + 1))[0].sum(axis=(1, 2), dtype=np.int64)
            for row in range(masks.shape[0])
        ]
    )
    pixels = masks.shape[2] * masks.shape[3]
    nowhere = (areas == 0).astype(float)
    everywhere = 2 * areas / (areas + pixels)
    fold_of = folds.set_index("image")["fold"].loc[list(per_image.ids(masks))].to_numpy()
    per_fold = [[score[fold_of == fold].mean(axis=0) for fold in scored] for score in (nowhere, everywhere)]
    empty, full = np.mean(per_fold, axis=1)
    return {"all empty": float(empty.mean()), "everywhere or nowhere": float(np.maximum(empty, full).mean())}


def own_folds(scores: pd.DataFrame) -> list[int]:
    """Return the folds that a table of scores has."""
    return sorted(scores["fold"].dropna().unique().tolist())


def common_folds(experiments: Sequence[pd.DataFrame], ensembles: Sequence[pd.DataFrame]) -> list[int]:
    """Return the folds on which all is compared: those that everything with a score has.

    Where ensembles leave none, such as one of fold 1 and one of fold 2, these are the folds of all experiments.
    """
    trained = [set(own_folds(table)) for table in experiments if len(table)]
    scored = [set(own_folds(table)) for table in ensembles if len(table)]
    if not trained:
        return []
    return sorted(set.intersection(*trained, *scored) or set.intersection(*trained))


def mean_dice(scores: pd.DataFrame, folds: Sequence[int], kind: str) -> float:
    """Return the mean over `folds` of the Dice of `kind` (fixed, tuned or nested); NaN where one of them has none."""
    rows = scores[(scores["class"] == "all") & scores["fold"].isin(folds)]
    return float(rows[kind].mean(skipna=False)) if len(rows) and len(rows) == len(folds) else math.nan


def leaderboard(
    experiments: Sequence[Mapping[str, Any]],
    ensembles: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, pd.DataFrame],
    decisions: Mapping[str, Decision],
    baseline: Mapping[str, Mapping[str, float]],
    common: Sequence[int],
    *,
    runs: Mapping[str, Mapping[str, float]] | None = None,
    public_scores: Mapping[str, Mapping[str, float]] | None = None,
    gains: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Make the table: a row per experiment, ensemble and baseline.

    Parameters
    ----------
    experiments : rows of the sheet, with the `name` of each, its `loss` in words and the names of its scored `best` and
        `last` checkpoints, and `average` if it has one. Columns that the sheet has beyond its own are carried along.
        `says_where_only` tells, in words, of a row that has no Dice of its own: its networks leave no plane empty.
    ensembles : per name its `note`, its `reference` score, or None, whether it `holds_best` checkpoints and, where
        there are any, how many of its members have no out-of-fold score (`unscored`), and that all of them say where
        only (`says_where_only`).
    scores : per name the long table of scores.
    decisions : per name its decision.
    baseline : per name its `dice` and its `dice_common`.
    common : the folds on which everything is compared.
    runs : per experiment `parameters` (of the network) and `seconds_per_epoch` (mean over its folds).
    public_scores : per experiment or ensemble the contest's scores `best`, `last`, `single`, those there are.
    gains : per ensemble `best_member`, its Dice, `gain` over it and its interval `gain_low`, `gain_high`, and
        `expected_lb`.

    Returns
    -------
    DataFrame : `COLUMNS`, those of `IF_ANY` where there is any, then the sheet's further columns and, of replicates,
        how many there are of an experiment and the standard deviation of their `last`. Each row has the Dice of its own
        folds, on `images` images, and as `dice_common` (of an experiment's `last`) that of the common ones. `dice` of
        an ensemble whose decision was chosen is the nested one, or empty where it has too few folds for one.
    """
    public_scores = public_scores or {}
    rows = []
    for row in experiments:
        dice = _dice_of(row, scores, common)
        rows.append(
            {"what": "experiment", **{key: cell for key, cell in row.items() if key not in (*CHECKPOINTS, "runs")}}
            | dice
            | {"images": decisions[row["last"]].n_images}
            | dict((runs or {}).get(row["name"], {}))
            | _decided(decisions[row["best"]])
            | _against(public_scores.get(row["name"], {}), dice["dice_best"], dice["dice_last"])
        )
    rows = _with_replicates(rows)
    for name, about in ensembles.items():
        chosen = decisions[name].how != "fixed"
        own, kind = own_folds(scores[name]), "nested" if chosen else "fixed"
        dice = mean_dice(scores[name], own, kind)
        rows.append(
            {"what": "ensemble", "name": name, "folds": len(own), "images": decisions[name].n_images, "dice": dice}
            | {"dice_common": mean_dice(scores[name], common, kind)}
            | {"dice_tuned_on_itself": mean_dice(scores[name], own, "tuned") if chosen else math.nan}
            | {"optimistic": "holds best" if about.get("holds_best") else None}
            | {key: about.get(key) for key in ("note", "reference")}
            | {key: about[key] for key in ("unscored", "says_where_only") if key in about}
            | dict((gains or {}).get(name, {}))
            | _decided(decisions[name])
            | _against(public_scores.get(name, {}), dice, dice)
        )
    rows += [{"what": "baseline", "name": name, **dice} for name, dice in baseline.items()]
    table = pd.DataFrame(rows)
    known = [name for name in COLUMNS if name in table or name not in IF_ANY]
    further = [name for name in table.columns if name not in COLUMNS]
    whole = ["folds", "images", *({"seed", "replicates"} & {*further})]
    return table.reindex(columns=[*known, *further]).astype(dict.fromkeys(whole, "Int64"))


def has_dice(experiment: Mapping[str, Any]) -> bool:
    """Return whether the masks of an experiment are a measure of it: not of networks that leave no plane empty."""
    return not experiment.get("says_where_only")


def _dice_of(row: Mapping[str, Any], scores: Mapping[str, pd.DataFrame], common: Sequence[int]) -> dict[str, float]:
    """Return the Dice of each checkpoint of an experiment, and of `last` that of the common folds and the spread."""
    last = scores[row["last"]]
    own = own_folds(last)
    dice = {f"dice_{name}": mean_dice(scores[row[name]], own, "fixed") for name in CHECKPOINTS if name in row}
    dice |= {"dice_common": mean_dice(last, common, "fixed"), "fold_spread": fold_spread(last, own)}
    return dice if has_dice(row) else dict.fromkeys(dice, math.nan)


def _with_replicates(experiments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each row, where others differ from it in their seed alone, how many these are and how far they spread."""
    alike: dict[tuple[Any, ...], list[float]] = {}
    for row in experiments:
        alike.setdefault(tuple(row[key] for key in KEYS), []).append(row["dice_last"])
    spreads = {
        key: {"replicates": len(dice), "replicate_spread": float(np.std(dice, ddof=1))}
        for key, dice in alike.items()
        if len(dice) > 1
    }
    return [row | spreads.get(tuple(row[key] for key in KEYS), {}) for row in experiments]


def expected_scores(
    images: Mapping[str, pd.DataFrame], decisions: Mapping[str, Decision], rates: Mapping[str, float] | None
) -> dict[str, float]:
    """Return the score that each ensemble is expected to have where classes are as frequent as `rates` say.

    Ensembles without an honest score of images, and all of them where no rates are known, are left out.
    """
    honest = {name: own for name, own in images.items() if len(own) and decisions[name].has_honest_score}
    return {} if rates is None else {n: expected_score(score_parts(own, rates), rates) for n, own in honest.items()}


def runs_by_experiment(
    experiments: Sequence[Mapping[str, Any]], records: Sequence[RunRecord], histories: Sequence[pd.DataFrame]
) -> dict[str, dict[str, float]]:
    """Say how large the network of each experiment is and how long its epochs take.

    Parameters
    ----------
    experiments : rows of the sheet with their `name` and `runs`, which count `records` and `histories`.
    records : of every run.
    histories : of every run its epochs.

    Returns
    -------
    dict : per experiment `parameters` and `seconds_per_epoch`, the median epoch of all its folds.
    """
    return {
        row["name"]: {
            "parameters": records[row["runs"][0]].parameters,
            "seconds_per_epoch": float(pd.concat([histories[run]["seconds"] for run in row["runs"]]).median()),
        }
        for row in experiments
    }


def fold_spread(scores: pd.DataFrame, folds: Sequence[int]) -> float:
    """Return the standard deviation of the Dice of the folds (n - 1); NaN for a single fold."""
    rows = scores[(scores["class"] == "all") & scores["fold"].isin(folds)]
    return float(rows["fixed"].std(ddof=1)) if len(rows) > 1 else math.nan


def _against(public_scores: Mapping[str, float], best: float, last: float) -> dict[str, Any]:
    """Set one's own Dice against the contest's scores, and say when it is too good to be true."""
    pairs = ((best, public_scores.get("best")), (last, public_scores.get("last")), (best, public_scores.get("single")))
    gaps = [own - theirs for own, theirs in pairs if theirs is not None and not math.isnan(own)]
    cells: dict[str, Any] = {f"lb_{which}": public_scores[which] for which in PUBLIC_SCORES if which in public_scores}
    if gaps:
        cells |= {"dice_minus_lb": max(gaps), "warning": "check for leakage" if max(gaps) > LEAKAGE else None}
    return cells


def _decided(decision: Decision) -> dict[str, Any]:
    """Write the thresholds and the minimum sizes, once where all classes share one."""
    thresholds = [] if decision.is_by_plane else [decision.thresholds(cut) for cut in decision.cuts.values()]
    cells: dict[str, Any] = {
        "how": " + ".join([decision.how, *decision.further]),
        "threshold": _joined("{:.2f}", [one["threshold"] for one in thresholds]),
        "min_size": _joined("{}", [cut.min_size for cut in decision.cuts.values()]),
    }
    if decision.sharpen is not None:
        cells["sharpen"] = decision.sharpen
        cells["sharpened_threshold"] = _joined("{:.2f}", [one["sharpened"] for one in thresholds])
    return cells


def _joined(form: str, values: Sequence[float]) -> str:
    words = [form.format(value) for value in values] or ["by plane"]
    return words[0] if len(set(words)) == 1 else "/".join(words)
