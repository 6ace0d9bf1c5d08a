"""The experiments of a plan and their runs: one row of the sheet is trained on its first folds, and perhaps on all."""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple, Self

import pandas as pd

from cloudseg.config.decoders import CLASSIFIER
from cloudseg.config.fold_names import ALL, Fold, experiment_words, fold_name, fold_order, parse_fold_name
from cloudseg.config.model import ExperimentRow
from cloudseg.config.recipe import Recipe
from cloudseg.config.sheet import KEY, ExperimentSheet, experiment_name
from cloudseg.workflow import paths


class RunKey(NamedTuple):
    """Which experiment, and which fold."""

    encoder: str
    decoder: str
    size: str
    recipe: str
    fold: Fold
    seed: int | None = None
    """Of a replicate; None is the config's own."""

    @classmethod
    def of_wildcards(cls, encoder: str, decoder: str, size: str, recipe: str, fold: str) -> Self:
        """Return the key of the run that the wildcards of a job name."""
        return cls(encoder, decoder, size, recipe, *parse_fold_name(fold))

    @property
    def experiment(self) -> tuple[str, ...]:
        """What names the experiment: encoder, decoder, size and recipe, and the seed of a replicate."""
        return experiment_words(*self[:4], self.seed)

    @property
    def fold_name(self) -> str:
        """What the run is called among those of its experiment and of its replicates."""
        return fold_name(self.fold, self.seed)

    @property
    def folder(self) -> str:
        """The folder of the run."""
        return paths.run_folder(*self[:4], self.fold_name)

    @property
    def wildcards(self) -> dict[str, str]:
        """The wildcards of the jobs of the run."""
        return dict(zip(KEY, self[:4], strict=True)) | {"fold": self.fold_name}

    def order(self) -> tuple[Any, ...]:
        """Return what runs are sorted by."""
        return *self[:4], fold_order(self.fold), -1 if self.seed is None else self.seed


class Sheet:
    """The experiment sheet.

    Parameters
    ----------
    sheet : its rows, checked.
    folds : number of folds of the split.
    recipes : those of the config, by their names.

    Attributes
    ----------
    rows : all rows.
    predicted : the rows whose networks say something of the labels; the others only lend their weights.
    runs : a row per predicted row and fold, which queries choose from.
    """

    def __init__(self, sheet: ExperimentSheet, folds: int, recipes: Mapping[str, Recipe]) -> None:
        self.rows, self._recipes = sheet.rows, recipes
        is_predicted = [recipes[row.recipe].brightness is None for row in self.rows]
        self.predicted = list(compress(self.rows, is_predicted))
        self._folds = folds
        table = _table(sheet)
        self.experiments = table[is_predicted]
        self.runs = self._runs_of(self.experiments, self.predicted)
        self._all_runs = self._runs_of(table, self.rows)

    def _runs_of(self, experiments: pd.DataFrame, rows: Sequence[ExperimentRow]) -> pd.DataFrame:
        # One row per row of the sheet and fold: rows that differ in `folds` alone share their runs
        runs = [experiments.assign(fold=fold).query("fold < folds") for fold in range(self._folds)]
        if self.has_full:
            runs.append(experiments[[row.full for row in rows]].assign(fold=math.inf))  # behind every fold
        return pd.concat(runs, ignore_index=True)

    @functools.cached_property
    def has_full(self) -> bool:
        """Whether some row is trained on all images, too."""
        return any(row.full for row in self.rows)

    @functools.cached_property
    def keys(self) -> list[RunKey]:
        """Every run, once."""
        return list(dict.fromkeys(run_keys(self._all_runs)))

    def recipe_of(self, key: RunKey) -> Recipe:
        """Return the recipe that a run is trained by."""
        return self._recipes[key.recipe]

    def gives_masks(self, key: RunKey) -> bool:
        """Whether a run says where a class is."""
        return gives_masks(key, self.recipe_of(key))

    def gives_values(self, key: RunKey) -> bool:
        """Whether a run has a classification head, which says whether a class is there."""
        return gives_values(key, self.recipe_of(key))

    def says_where_only(self, key: RunKey) -> bool:
        """Whether a run says where a class is, and has not learned to say that it is not there."""
        return self.gives_masks(key) and self.recipe_of(key).says_where_only

    @functools.cached_property
    def folders(self) -> list[str]:
        """The folders of all runs."""
        return sorted(key.folder for key in self.keys)

    @functools.cached_property
    def experiment_paths(self) -> list[str]:
        """Every experiment once, whatever its number of folds and its seeds: encoder/decoder/size/recipe."""
        return list(dict.fromkeys("/".join(experiment[:4]) for experiment in self.rows_by_experiment))

    @functools.cached_property
    def recipes(self) -> list[str]:
        """The recipes that some row takes."""
        return sorted({row.recipe for row in self.rows})

    @functools.cached_property
    def constant_columns(self) -> set[str]:
        """The columns of the key, but for the fold, that have one value in all rows."""
        return {name for name in KEY if len({getattr(row, name) for row in self.rows}) == 1}

    @functools.cached_property
    def rows_by_experiment(self) -> dict[tuple[str, ...], list[ExperimentRow]]:
        """The rows that train an experiment, on so many folds each."""
        rows: dict[tuple[str, ...], list[ExperimentRow]] = {}
        for row in self.rows:
            rows.setdefault(row.experiment, []).append(row)
        return rows

    @functools.cached_property
    def study_key(self) -> RunKey:
        """The run that rules which study one network take: fold 0 of the first row with the most folds."""
        return key_of(max(self.rows, key=lambda row: row.folds), 0)

    def name_of(self, experiment: tuple[str, ...], folds: int, checkpoint: str) -> str:
        """Return the name under which an experiment is scored by the smallest row that trains so many folds of it."""
        trained = [row.folds for row in self.rows_by_experiment[experiment] if row.folds >= folds]
        return experiment_name(experiment, min(trained), checkpoint)

    def alternatives(self, name: str, *others: str) -> str:
        """Return a regular expression of the values of a column, and of others."""
        return "|".join(map(re.escape, sorted({*(getattr(row, name) for row in self.rows), *others})))


def gives_masks(key: RunKey, recipe: Recipe) -> bool:
    """Return whether a run by a recipe says where a class is."""
    return key.decoder != CLASSIFIER and recipe.brightness is None


def gives_values(key: RunKey, recipe: Recipe) -> bool:
    """Return whether a run by a recipe has a classification head, which says whether a class is there."""
    return key.decoder == CLASSIFIER or recipe.head is not None


def key_of(row: ExperimentRow, fold: Fold) -> RunKey:
    """Return the key of a run of a row of the sheet."""
    return RunKey(row.encoder, row.decoder, row.size, row.recipe, fold, row.seed)


def keys_of_row(row: ExperimentRow) -> list[RunKey]:
    """Return the keys of the runs that a row of the sheet trains on folds, which score it."""
    return [key_of(row, fold) for fold in range(row.folds)]


def run_keys(runs: pd.DataFrame) -> list[RunKey]:
    """Return the key of each row of a table of runs."""
    # Lists: going through a column of pandas takes ten times as long
    seeds = runs["seed"].tolist() if "seed" in runs else [math.nan] * len(runs)
    rows = zip(*(runs[name].tolist() for name in KEY), runs["fold"].tolist(), seeds, strict=True)
    return [
        RunKey(*words, ALL if math.isinf(fold) else int(fold), None if math.isnan(seed) else int(seed))
        for *words, fold, seed in rows
    ]


def _table(sheet: ExperimentSheet) -> pd.DataFrame:
    """Return the rows of a sheet; further columns that hold numbers alone, where they hold anything, are numbers."""
    table = pd.DataFrame([row.model_dump() for row in sheet.rows])[list(sheet.columns)]
    for name in table.columns.difference([*ExperimentRow.model_fields]):
        numbers = pd.to_numeric(table[name].replace("", None), errors="coerce")
        if (numbers.notna() == table[name].ne("")).all():
            table[name] = numbers
    # Numbers and words, as in the other columns, so that queries compare them
    return table.assign(
        **{name: table[name].astype(float) for name in ("seed",) if name in table},
        **{name: table[name].map({True: "true", False: ""}) for name in ("full",) if name in table},
    )
