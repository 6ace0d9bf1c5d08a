"""What the rule `leaderboard` is told of a plan: the rows of the sheet and the ensembles of the config."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloudseg.config.fold_names import experiment_words
from cloudseg.config.model import Config, EnsembleEntry
from cloudseg.config.recipe import Recipe
from cloudseg.config.sheet import KEY, experiment_name, read_public_scores
from cloudseg.report.params import page_params
from cloudseg.workflow.costs import Work
from cloudseg.workflow.dataset import DatasetPlan
from cloudseg.workflow.ensemble import Ensemble
from cloudseg.workflow.sheet import RunKey, Sheet, key_of

LOSSES = {
    **{"bce": "BCE", "focal": "Focal", "lovasz": "Lovasz", "symmetric_lovasz": "SymmetricLovasz"},
    **{"tversky": "Tversky", "dice": "Dice"},
}
WHERE_ONLY = "where, not whether"
MEMBERS_WHERE_ONLY = "its members where, not whether"
MOST_NAMED = 10  # of the rows that the leaderboard leaves out


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """What the rules `leaderboard`, `curves` and `job_times` are told of a plan.

    Parameters
    ----------
    dataset : the images, and the config.
    sheet : the experiments.
    named_ensembles : all of the plan, by name.
    """

    dataset: DatasetPlan = dataclasses.field(repr=False)
    sheet: Sheet = dataclasses.field(repr=False)
    named_ensembles: Mapping[str, Ensemble] = dataclasses.field(repr=False)

    @property
    def experiments(self) -> list[dict[str, Any]]:
        """The rows of the sheet that it ranks."""
        return page_params(leaderboard_rows(self.sheet, self.dataset.config.recipes))

    @property
    def ensembles(self) -> dict[str, dict[str, Any]]:
        """What it tells of the config's ensembles."""
        return page_params(leaderboard_ensembles(self.dataset.config.ensembles, self.named_ensembles))

    @property
    def left_out(self) -> dict[str, list[str]]:
        """What says which rows of the sheet it leaves out, as a param."""
        return page_params(leaderboard_left_out(self.sheet))

    @property
    def work(self) -> Work:
        """What it has to do: it reads the scores of every ensemble."""
        images = self.dataset.train_work
        return dataclasses.replace(images, masks=len(self.named_ensembles) * images.masks)


def leaderboard_rows(sheet: Sheet, recipes: Mapping[str, Recipe]) -> list[dict[str, Any]]:
    """Return the sheet's rows whose networks make masks, as the leaderboard takes them.

    Each has its name, its loss in words, the names of its scored checkpoints and its runs (by number); and
    `says_where_only` where its networks have not learned to leave a plane empty.
    """
    number = {folder: index for index, folder in enumerate(sheet.folders)}
    order = [*KEY, *(["seed"] if "seed" in sheet.experiments else []), "folds"]
    rows = []
    for cells in sheet.experiments.sort_values(order, kind="stable", na_position="first").to_dict("records"):
        if "seed" in cells:
            cells["seed"] = None if math.isnan(cells["seed"]) else int(cells["seed"])
        key, folds, seed = [cells[name] for name in KEY], cells["folds"], cells.get("seed")
        if not sheet.gives_masks(RunKey(*key, 0, seed)):
            continue
        experiment, recipe = experiment_words(*key, seed), recipes[cells["recipe"]]
        names = {"name": experiment_name(experiment, folds), "loss": losses_in_words(recipe)}
        checkpoints = recipe.checkpoints
        names |= {checkpoint: experiment_name(experiment, folds, checkpoint) for checkpoint in checkpoints}
        names |= {"says_where_only": WHERE_ONLY} if sheet.says_where_only(RunKey(*key, 0, seed)) else {}
        runs = [number[RunKey(*key, fold, seed).folder] for fold in range(folds)]
        rows.append(cells | names | {"runs": runs})
    return rows


def leaderboard_ensembles(
    entries: Mapping[str, EnsembleEntry], ensembles: Mapping[str, Ensemble]
) -> dict[str, dict[str, Any]]:
    """Return what the leaderboard tells of each ensemble: its note, its reference, and whether it holds `best`.

    And, of those that have any, how many of the members on test images have no out-of-fold score; and why it is
    compared with no member, where all of them say where only.
    """
    return {
        name: {"note": entry.note, "reference": entry.reference, "holds_best": "best" in entry.checkpoints}
        | ({"unscored": unscored} if (unscored := ensembles[name].unscored) else {})
        | ({} if ensembles[name].compared_names else {"says_where_only": MEMBERS_WHERE_ONLY})
        for name, entry in sorted(entries.items())
    }


def leaderboard_left_out(sheet: Sheet) -> dict[str, list[str]]:
    """Return as a param what says which rows of the sheet the leaderboard of masks leaves out, and why; none for none.

    A leaderboard that leaves none out must have no other params than it had.
    """
    keys = [key_of(row, 0) for row in sheet.rows]
    kinds = {
        "say whether a class is there, not where": [
            key for key in keys if sheet.gives_values(key) and not sheet.gives_masks(key)
        ],
        "learned brightness in place of the labels": [
            key for key in keys if sheet.recipe_of(key).brightness is not None
        ],
    }
    lines = [f"{_named(each)}: they {why}" for why, each in kinds.items() if each]
    return {"left_out": lines} if lines else {}


def _named(keys: Sequence[RunKey]) -> str:
    """Name the experiments of some runs, each once, and of many some."""
    names = list(dict.fromkeys(" ".join(key.experiment) for key in keys))
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])


def losses_in_words(recipe: Recipe) -> str:
    """Write the losses of a recipe's stages, each where another one ends.

    Examples
    --------
    >>> stages = [{"epochs": 1, "loss": {"bce": 1}}, {"epochs": 1}, {"epochs": 1}]
    >>> losses_in_words(Recipe(epochs=3, stages=stages)), losses_in_words(Recipe())
    ('BCE, then BCEDice', 'BCEDice')
    """
    words = (loss_in_words(part.loss.terms) for part in recipe.parts)
    return ", then ".join(word for word, _ in itertools.groupby(words))


def loss_in_words(loss: dict[str, float]) -> str:
    """Write a loss as the diary does: BCEDice; with weights where these differ.

    Examples
    --------
    >>> loss_in_words({"dice": 1, "bce": 1}), loss_in_words({"bce": 0.75, "dice": 0.25})
    ('BCEDice', '0.75BCE0.25Dice')
    """
    equal = len(set(loss.values())) == 1
    return "".join(word if equal else f"{loss[name]:g}{word}" for name, word in LOSSES.items() if name in loss)


def public_scores(table: Path | None, config: Config, sheet: Sheet) -> dict[str, dict[str, float]]:
    """Return the contest's scores of a config, by experiment or ensemble, from the table that one fills in by hand.

    Raises
    ------
    ConfigError : all problems of the table, with their lines.
    """
    if table is None:
        return {}
    names = [*config.ensembles, *(experiment_name(row.experiment, row.folds) for row in sheet.rows)]
    return read_public_scores(table, config.name, names)
