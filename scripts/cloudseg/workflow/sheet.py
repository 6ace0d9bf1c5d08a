"""The experiments of a plan and their runs: one row of the sheet is trained on its first folds."""

import functools
import re
from typing import NamedTuple

import pandas as pd

from cloudseg.config.model import ExperimentRow
from cloudseg.config.sheet import KEY, ExperimentSheet, experiment_name
from cloudseg.workflow import paths


class RunKey(NamedTuple):
    """Which experiment, and which fold."""

    encoder: str
    decoder: str
    size: str
    recipe: str
    fold: int

    @property
    def experiment(self) -> tuple[str, ...]:
        """The columns of the sheet that name the experiment."""
        return tuple(self[:-1])

    @property
    def folder(self) -> str:
        """The folder of the run."""
        return paths.run_folder(*self)

    @property
    def wildcards(self) -> dict[str, str]:
        """The wildcards of the jobs of the run."""
        return {name: str(value) for name, value in self._asdict().items()}


class Sheet:
    """The experiment sheet.

    Parameters
    ----------
    sheet : its rows, checked.
    folds : number of folds of the split.
    """

    def __init__(self, sheet: ExperimentSheet, folds: int) -> None:
        self.rows = sheet.rows
        self.experiments = experiments = _table(sheet)
        # One row per row of the sheet and fold: rows that differ in `folds` alone share their runs
        self.runs = pd.concat(
            [experiments.assign(fold=fold).query("fold < folds") for fold in range(folds)], ignore_index=True
        )

    @functools.cached_property
    def keys(self) -> list[RunKey]:
        """Every run, once."""
        return list(dict.fromkeys(run_keys(self.runs)))

    @functools.cached_property
    def folders(self) -> list[str]:
        """The folders of all runs."""
        return sorted(key.folder for key in self.keys)

    @functools.cached_property
    def experiment_paths(self) -> list[str]:
        """Every experiment once, whatever its number of folds: encoder/decoder/size/recipe."""
        return ["/".join(experiment) for experiment in self.rows_by_experiment]

    @functools.cached_property
    def recipes(self) -> list[str]:
        """The recipes that some row takes."""
        return sorted({row.recipe for row in self.rows})

    @functools.cached_property
    def constant_columns(self) -> set[str]:
        """The columns of the key, but for the fold, that have one value in all rows."""
        return {name for name in KEY if self.experiments[name].nunique() == 1}

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
        return RunKey(*max(self.rows, key=lambda row: row.folds).experiment, 0)

    def name_of(self, experiment: tuple[str, ...], folds: int, checkpoint: str) -> str:
        """Return the name under which an experiment is scored by the smallest row that trains so many folds of it."""
        trained = [row.folds for row in self.rows_by_experiment[experiment] if row.folds >= folds]
        return experiment_name(experiment, min(trained), checkpoint)

    def alternatives(self, name: str, *others: str) -> str:
        """Return a regular expression of the values of a column, and of others."""
        return "|".join(map(re.escape, sorted({*self.experiments[name], *others})))


def keys_of_row(row: ExperimentRow) -> list[RunKey]:
    """Return the keys of the runs that a row of the sheet trains."""
    return [RunKey(*row.experiment, fold) for fold in range(row.folds)]


def run_keys(runs: pd.DataFrame) -> list[RunKey]:
    """Return the key of each row of a table of runs."""
    rows = runs[[*KEY, "fold"]].itertuples(index=False, name=None)
    return [RunKey(*row[:-1], int(row[-1])) for row in rows]


def _table(sheet: ExperimentSheet) -> pd.DataFrame:
    """Return the rows of a sheet; further columns that hold numbers alone, where they hold anything, are numbers."""
    table = pd.DataFrame([row.model_dump() for row in sheet.rows])[list(sheet.columns)]
    for name in table.columns.difference([*ExperimentRow.model_fields]):
        numbers = pd.to_numeric(table[name].replace("", None), errors="coerce")
        if (numbers.notna() == table[name].ne("")).all():
            table[name] = numbers
    return table
