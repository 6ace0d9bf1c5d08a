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
from cloudseg.workflow.sheet import RunKey, key_of

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
        """The runs of its members of any role, once each, and the folds that say how long others trained on all."""
        taken = {member.key for member in self.ensemble.all_members}
        folds = {key for each in taken for key in self._run(each).folds_before}
        return [self._run(key) for key in sorted(taken | folds, key=RunKey.order)]

    def _run(self, key: RunKey) -> Run:
        return Run(self.ensemble.dataset, key)

    @functools.cached_property
    def blends(self) -> dict[str, Blend]:
        """What is blended, by split; of members that are asked for presence alone with `-whether`, if there are any."""
        blends = {split: Blend(self.ensemble, split) for split in ("valid", "test")}
        if self.ensemble.whether:
            blends |= {f"{split}-whether": Blend(self.ensemble, split, role="whether") for split in ("valid", "test")}
        return blends

    def _stores(self, blend: str) -> list[str]:
        return self.blends[blend].stores if blend in self.blends else []

    @property
    def test_stores(self) -> list[str]:
        """The stores that are blended for test images, or that a search chose from."""
        return self._stores("test")

    @property
    def valid_stores(self) -> list[str]:
        """The stores that are blended for out-of-fold images, or that a search chose from."""
        return self._stores("valid")

    @property
    def test_whether_stores(self) -> list[str]:
        """The stores that say whether the classes of test images are there, where members of their own do."""
        return self._stores("test-whether")

    @property
    def valid_whether_stores(self) -> list[str]:
        """The same of out-of-fold images."""
        return self._stores("valid-whether")

    @property
    def test_whether(self) -> list[str]:
        """What these stores say together of test images; else none."""
        return self.ensemble.test_presence

    @property
    def valid_whether(self) -> list[str]:
        """The same of out-of-fold images."""
        return self.ensemble.presence

    @property
    def selection(self) -> list[str]:
        """Where members are searched for, what was chosen; else none."""
        return self.ensemble.selection

    @property
    def test_voters(self) -> list[str]:
        """Where members vote, the decision of each in the order of `test_stores`; else none."""
        return self.blends["test"].voters

    @property
    def valid_voters(self) -> list[str]:
        """The same in the order of `valid_stores`."""
        return self.blends["valid"].voters

    @property
    def test_black(self) -> list[str]:
        """Where test images are black, if that counts; else none."""
        return self.blends["test"].black

    @property
    def valid_black(self) -> list[str]:
        """The same of out-of-fold images."""
        return self.blends["valid"].black

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
        """By the name of a blend, name, fold and weight of each store."""
        return {name: blend.members for name, blend in self.blends.items()}

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Per run its name and what its jobs are asked for, in the order of `records`."""
        config = self.ensemble.dataset.config
        return [
            {
                "name": _name_of(run.key),
                "size": run.key.size,
                "recipe": run.key.recipe,
                "wanted": {
                    "recipe": run.training_recipe,
                    "seed": run.seed,
                    "threads": config.threads,
                    "code": CODE["training"],
                    "start": run.start,
                },
                "prediction": run.prediction_recipe,
                **({"folds_before": names} if (names := [_name_of(key) for key in run.folds_before]) else {}),
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
            **({"search": ensemble.search_settings} if ensemble.search else {}),
            **({} if ensemble.decision.black is None else {"black": ensemble.decision.black}),
        }

    @property
    def sheet_rows(self) -> list[dict[str, Any]]:
        """The rows of the sheet that train the runs, and the runs whose weights those start from."""
        rows = self.ensemble.sheet.rows_by_experiment
        wanted = {run.key.experiment for run in self.runs}
        left = sorted(wanted)
        while left:
            start = self._run(key_of(rows[left.pop()][0], 0)).start_run
            if start and start.experiment not in wanted:
                wanted.add(start.experiment)
                left.append(start.experiment)
        return [without_places(row.cells) for key in sorted(wanted) for row in rows[key]]


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


def _name_of(key: RunKey) -> str:
    """Return the name of a run: its folder in the folder of runs."""
    return key.folder.removeprefix("<results>/runs/")


def plain_config(config: Config) -> dict[str, Any]:
    """Return a config with all defaults as a config can be written, without the places of this machine.

    Keys that are null are left out, as are those that say nothing of what comes out.
    """
    return sorted_keys(without_places(config.model_dump(mode="json", exclude=LEFT_OUT, exclude_none=True)))
