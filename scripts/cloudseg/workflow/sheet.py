"""The experiments of a plan and their runs: one row of the sheet is trained on its first folds."""

import functools
import re
from typing import Any, NamedTuple

import pandas as pd

from cloudseg.config.settings import KEY, experiment_name
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
    experiments : its rows, checked.
    folds : number of folds of the split.
    """

    def __init__(self, experiments: pd.DataFrame, folds: int) -> None:
        self.experiments = experiments
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
        return sorted(set(self.experiments["recipe"]))

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, as mappings, in their order."""
        return self.experiments.to_dict("records")

    @functools.cached_property
    def rows_by_experiment(self) -> dict[tuple[str, ...], list[dict[str, Any]]]:
        """The rows that train an experiment, on so many folds each."""
        rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in self.rows:
            rows.setdefault(tuple(row[name] for name in KEY), []).append(row)
        return rows

    @functools.cached_property
    def studied(self) -> RunKey:
        """Fold 0 of the row that is studied more closely: the first of those with the most folds."""
        row = self.experiments.sort_values("folds", ascending=False, kind="stable").iloc[0]
        return RunKey(*row[KEY], 0)

    def name_of(self, experiment: tuple[str, ...], folds: int, checkpoint: str) -> str:
        """Return the name under which an experiment is scored by the smallest row that trains so many folds of it."""
        rows = [row for row in self.rows_by_experiment[experiment] if row["folds"] >= folds]
        return experiment_name(min(rows, key=lambda row: row["folds"]), checkpoint)

    def alternatives(self, name: str, *others: str) -> str:
        """Return a regular expression of the values of a column, and of others."""
        return "|".join(map(re.escape, sorted({*self.experiments[name], *others})))


def run_keys(runs: pd.DataFrame) -> list[RunKey]:
    """Return the key of each row of a table of runs."""
    rows = runs[[*KEY, "fold"]].itertuples(index=False, name=None)
    return [RunKey(*row[:-1], int(row[-1])) for row in rows]
