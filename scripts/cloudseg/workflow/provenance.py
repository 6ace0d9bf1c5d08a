"""What the plan says of a submission's provenance: the files that it is read from, and what its jobs were asked for."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from cloudseg.config.fields import sorted_keys
from cloudseg.config.job import JobConfig
from cloudseg.config.model import Config
from cloudseg.provenance.places import without_places
from cloudseg.workflow import paths
from cloudseg.workflow.code import CODE
from cloudseg.workflow.ensemble import Blend, Ensemble
from cloudseg.workflow.pseudo import PseudoLabels
from cloudseg.workflow.run import Run
from cloudseg.workflow.sheet import RunKey

WORKFLOW_CORES = 8  # that the rules before the trainings make use of
# Keys that say how jobs run, or what one rule is told; none of them changes a submission
LEFT_OUT = {
    *JobConfig.model_fields,
    "probe_memory",
    "remove",
    "csv",
    "folder",
    "images",
    "bundle",
    "shard",
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
    ensembles : all of the plan, by name: some may label test images for its runs.
    """

    ensemble: Ensemble
    name: str
    config: Config
    threads: int
    ensembles: Mapping[str, Ensemble] = dataclasses.field(repr=False)

    @functools.cached_property
    def runs(self) -> list[Run]:
        """The runs of its members of any role, once each, and the folds that say how long others trained on all."""
        taken = {member.key for member in self.ensemble.all_members}
        folds = {key for each in taken for key in self._run(each).folds_before}
        return [self._run(key) for key in sorted(taken | folds, key=RunKey.order)]

    @functools.cached_property
    def earlier(self) -> list[Run]:
        """The runs that those go back to, of no member: whose weights they start from, and who label test images."""
        own = {run.key for run in self.runs}
        found, left = set(own), list(own)
        while left:
            before = self._before(self._run(left.pop())) - found
            found |= before
            left += before
        return [self._run(key) for key in sorted(found - own, key=RunKey.order)]

    def _before(self, run: Run) -> set[RunKey]:
        """Return the runs that the training of a run takes something of: weights, its number of epochs, labels."""
        teachers = [member.key for labels in self._labels_of(run) for member in labels.members]
        return {*run.folds_before, *teachers, *([run.start_run] if run.start_run else [])}

    def _labels_of(self, run: Run) -> list[PseudoLabels]:
        """Return the labels of test images that a run trains on, one or none."""
        pseudo = run.recipe.pseudo
        if pseudo is None:
            return []
        return [PseudoLabels(self.ensembles[pseudo.ensemble], run.key.recipe, run.augmented_size, run.key.fold)]

    @functools.cached_property
    def labels(self) -> list[PseudoLabels]:
        """The labels of test images that any of the runs trains on, once each."""
        found = {labels.store: labels for run in self._all_runs for labels in self._labels_of(run)}
        return [found[store] for store in sorted(found)]

    @property
    def _all_runs(self) -> list[Run]:
        return self.runs + self.earlier

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
    def checkpoints(self) -> list[str]:
        """The checkpoints that predict test images; of a search, those that it chose from."""
        return sorted({f"{each.key.folder}/{each.checkpoint}.safetensors" for each in self.ensemble.all_members})

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
    def further_inputs(self) -> dict[str, list[str]]:
        """Files that most chains have not.

        `valid_values` and `test_values`, of classification heads; `earlier`, the records of the runs that its runs go
        back to, and `earlier_pixels`, their training images; `weights`, the initial weights that are of another run,
        and `starts`, the checkpoints that they are from; `test_images`, those that train, or that are labelled;
        `pseudo`, their labels, and `pseudo_stores`, what these are made of.
        """
        runs, labels = self._all_runs, self.labels
        teachers = [member.key for each in labels for member in each.members]
        test_sizes = {run.augmented_size for run in runs if run.recipe.trains_on_test} | {key.size for key in teachers}
        inputs = {
            "valid_values": self._values("valid-whether"),
            "test_values": self._values("test-whether"),
            "earlier": [f"{run.key.folder}/run.json" for run in self.earlier],
            "earlier_pixels": [paths.pixel_store("train", run.key.size) for run in self.earlier],
            "weights": sorted({run.initial_weights for run in runs if run.start_run}),
            "starts": sorted({f"{run.start_run.folder}/last.safetensors" for run in runs if run.start_run}),
            "test_images": [paths.pixel_store("test", size) for size in sorted(test_sizes)],
            "pseudo": [each.store for each in labels],
            "pseudo_stores": [store for each in labels for store in each.stores],
        }
        return {name: files for name, files in inputs.items() if files}

    def _values(self, blend: str) -> list[str]:
        return self.blends[blend].further_inputs.get("values", []) if blend in self.blends else []

    @property
    def members(self) -> dict[str, list[dict[str, Any]]]:
        """By the name of a blend, name, fold and weight of each store."""
        return {name: blend.members for name, blend in self.blends.items()}

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Per run its name and what its jobs are asked for, in the order of `records`."""
        return [self._asked(run) for run in self.runs]

    def _asked(self, run: Run) -> dict[str, Any]:
        config = self.ensemble.dataset.config
        further = {
            "folds_before": [_name_of(key) for key in run.folds_before],
            "start_run": run.start_run and _name_of(run.start_run),
            "test_size": run.augmented_size if run.recipe.trains_on_test else None,
            "pseudo": next((labels.name for labels in self._labels_of(run)), None),
        }
        return {
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
            **{name: value for name, value in further.items() if value},
        }

    def _labelled(self, labels: PseudoLabels) -> dict[str, Any]:
        """Return what labels of test images are asked for."""
        return {
            "ensemble": labels.ensemble.name,
            "recipe": labels.recipe,
            "size": labels.size,
            "fold": labels.fold,
            "settings": labels.settings,
            "min_area": labels.min_area,
            "members": labels.named_members,
        }

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
            **({"earlier": [self._asked(run) for run in self.earlier]} if self.earlier else {}),
            **({"pseudo": [self._labelled(each) for each in self.labels]} if self.labels else {}),
            **({"tables": dataset.table_digests} if dataset.table_digests else {}),
        }

    @property
    def sheet_rows(self) -> list[dict[str, Any]]:
        """The rows of the sheet that train the runs, and the runs that those go back to."""
        rows = self.ensemble.sheet.rows_by_experiment
        return [
            without_places(row.cells)
            for key in sorted({run.key.experiment for run in self._all_runs})
            for row in rows[key]
        ]


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
