"""What the rule `leaderboard` is told of a plan: the rows of the sheet and the ensembles of the config."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cloudseg.config.settings import KEY, experiment_name, read_posted
from cloudseg.workflow.costs import Work
from cloudseg.workflow.dataset import DatasetPlan
from cloudseg.workflow.ensemble import CHECKPOINTS
from cloudseg.workflow.sheet import RunKey, Sheet

LOSSES = {"bce": "BCE", "focal": "Focal", "lovasz": "Lovasz", "tversky": "Tversky", "dice": "Dice"}


def leaderboard_rows(sheet: Sheet, recipes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sheet's rows, with their names, losses in words, scored checkpoints and runs (by number)."""
    number = {folder: index for index, folder in enumerate(sheet.folders)}
    rows = sheet.experiments.sort_values([*KEY, "folds"], kind="stable").to_dict("records")
    return [
        {name: value for name, value in row.items() if name != "line"}
        | {"name": experiment_name(row), "loss": loss_in_words(recipes[row["recipe"]]["loss"])}
        | {checkpoint: experiment_name(row, checkpoint) for checkpoint in CHECKPOINTS}
        | {"runs": [number[RunKey(*(row[name] for name in KEY), fold).folder] for fold in range(row["folds"])]}
        for row in rows
    ]


def leaderboard_ensembles(entries: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the leaderboard tells of each ensemble: its note, its reference, and whether it holds `best`."""
    return {
        name: {key: entry[key] for key in ("note", "reference")} | {"holds_best": "best" in entry["checkpoints"]}
        for name, entry in sorted(entries.items())
    }


def leaderboard_work(dataset: DatasetPlan, ensembles: Collection[str]) -> Work:
    """Return what the leaderboard has to do: it reads the scores of every ensemble."""
    images = dataset.train_work
    return dataclasses.replace(images, masks=len(ensembles) * images.masks)


def loss_in_words(loss: dict[str, float]) -> str:
    """Write a loss as the diary does: BCEDice; with weights where these differ.

    Examples
    --------
    >>> loss_in_words({"dice": 1, "bce": 1}), loss_in_words({"bce": 0.75, "dice": 0.25})
    ('BCEDice', '0.75BCE0.25Dice')
    """
    equal = len(set(loss.values())) == 1
    return "".join(word if equal else f"{loss[name]:g}{word}" for name, word in LOSSES.items() if name in loss)


def public_scores(table: Path | None, settings: dict[str, Any], sheet: Sheet) -> dict[str, dict[str, float]]:
    """Return the contest's scores of a config, by experiment or ensemble, from the table that one fills in by hand.

    Raises
    ------
    ValueError : all problems of the table, with their lines.
    """
    if table is None:
        return {}
    names = [*settings["ensembles"], *map(experiment_name, sheet.rows)]
    return read_posted(table, settings["name"], names)
