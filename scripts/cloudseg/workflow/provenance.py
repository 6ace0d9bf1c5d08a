"""What the plan says of a submission's provenance: the files that it is read from, and what its jobs were asked for."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from cloudseg.config.fields import sorted_keys
from cloudseg.config.job import JobConfig
from cloudseg.config.model import Config
from cloudseg.provenance.places import without_places
from cloudseg.workflow import paths
from cloudseg.workflow.code import CODE
from cloudseg.workflow.ensemble import Blend, Ensemble
from cloudseg.workflow.run import Run
from cloudseg.workflow.sheet import RunKey

WORKFLOW_CORES = 8  # that the rules before the trainings make use of
# Keys that say how jobs run, or what one rule is told; none of them changes a submission
LEFT_OUT = {
    *JobConfig.model_fields,
    "probe_memory",
    "remove",
    "csv",
    "train",
    "pathvars",
    "leaderboard",
    "smoke",
    "baseline",
}


@dataclasses.dataclass(frozen=True)
class Chain:
    """The chain from images to the submission of an ensemble.

    Parameters
    ----------
    ensemble : the ensemble.
    name : its name.
    config : the config as it was read: before a smoke run makes it small.
    threads : numerical threads of its predictions.
    """

    ensemble: Ensemble
    name: str
    config: Config
    threads: int

    @functools.cached_property
    def runs(self) -> list[Run]:
        """The runs of its members, once each."""
        keys = sorted({member.key for member in self.ensemble.members})
        return [Run(self.ensemble.dataset, key) for key in keys]

    @property
    def test_stores(self) -> list[str]:
        """The stores that are blended for test images."""
        return Blend(self.ensemble, "test").stores

    @property
    def valid_stores(self) -> list[str]:
        """The stores that are blended for out-of-fold images."""
        return Blend(self.ensemble, "valid").stores

    @property
    def records(self) -> list[str]:
        """The record of each run."""
        return [f"{run.key.folder}/run.json" for run in self.runs]

    @property
    def train_pixels(self) -> list[str]:
        """The store of the training images of each run."""
        return [paths.pixel_store("train", run.key.size) for run in self.runs]

    @property
    def test_pixels(self) -> list[str]:
        """The store of the test images of each run."""
        return [paths.pixel_store("test", run.key.size) for run in self.runs]

    @property
    def members(self) -> dict[str, list[dict[str, Any]]]:
        """By split, name, fold and weight of each store."""
        return {split: Blend(self.ensemble, split).members for split in ("valid", "test")}

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Per run its name and what its jobs are asked for, in the order of `records`."""
        config = self.ensemble.dataset.config
        return [
            {
                "name": run.key.folder.removeprefix("<results>/runs/"),
                "size": run.key.size,
                "recipe": run.key.recipe,
                "wanted": {
                    "recipe": run.training_recipe,
                    "seed": config.seed,
                    "threads": config.threads,
                    "code": CODE["training"],
                    "start": run.start,
                },
                "prediction": run.prediction_recipe,
            }
            for run in self.runs
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """What the plan says of the ensemble."""
        ensemble, dataset = self.ensemble, self.ensemble.dataset
        return {
            "config_name": self.config.name,
            "ensemble": self.name,
            "smoke": self.config.smoke,
            "rule": ensemble.decision_rule,
            "min_sizes": ensemble.min_sizes,
            "sharpen": ensemble.sharpen,
            "allow_squeezed": ensemble.allow_squeezed,
            "valid_folds": ensemble.valid_folds,
            "classes": dataset.classes,
            "submission_size": list(dataset.submission_size),
            "threads": self.threads,
            "config": plain_config(self.config),
            "sheet": self.sheet_rows,
        }

    @property
    def sheet_rows(self) -> list[dict[str, Any]]:
        """The rows of the sheet that train the runs, and the runs whose weights those start from."""
        rows = self.ensemble.sheet.rows_by_experiment
        wanted = {run.key.experiment for run in self.runs}
        left = sorted(wanted)
        while left:
            start = self._start_of(left.pop())
            if start and start not in wanted:
                wanted.add(start)
                left.append(start)
        return [without_places(row.model_dump(mode="json")) for key in sorted(wanted) for row in rows[key]]

    def _start_of(self, experiment: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the experiment that the initial weights of another one come from."""
        run = Run(self.ensemble.dataset, RunKey(*experiment, 0))
        kind, _, source = run.recipe.start.partition(":")
        return (run.key.encoder, *source.split("/")) if kind == "run" else None


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """What making a submission again asks for.

    Parameters
    ----------
    config : the config as it was read.
    runs : all runs of the plan.
    prediction_gpus : GPUs of a prediction.
    """

    config: Config
    runs: Sequence[Run]
    prediction_gpus: int

    @property
    def threads(self) -> int:
        """Cores: those of a prediction; where it may train, enough for any training, and for checking images."""
        if not self.config.train:
            return self.config.threads
        return max(WORKFLOW_CORES, *(run.training_cores for run in self.runs))

    @property
    def gpus(self) -> int:
        """GPUs, likewise."""
        return max(run.training_gpus for run in self.runs) if self.config.train else self.prediction_gpus

    @property
    def plain_config(self) -> dict[str, Any]:
        """The config as provenance has it."""
        return plain_config(self.config)


def plain_config(config: Config) -> dict[str, Any]:
    """Return a config with all defaults as a config can be written, without the places of this machine.

    Keys that are null are left out, as are those that say nothing of what comes out.
    """
    return sorted_keys(without_places(config.model_dump(mode="json", exclude=LEFT_OUT, exclude_none=True)))
