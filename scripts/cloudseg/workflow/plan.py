"""The plan: a config and its experiment sheet, checked once, and the objects that the wildcards of rules name.

Everything that can be wrong in a config or sheet is found here, when the workflow is parsed, and said at once.
A rule asks the object that its wildcards name: ``stores=of_blend("stores")`` is ``PLAN.blend(ensemble, split).stores``.
"""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloudseg.config.checks import folder_problems
from cloudseg.config.decoders import CLASSIFIER
from cloudseg.config.fold_names import ALL, PATTERN
from cloudseg.config.messages import refuse
from cloudseg.config.model import Config, Dataset
from cloudseg.config.names import nearest
from cloudseg.config.reading import config_as_read, read_config
from cloudseg.config.replicates import without_seed
from cloudseg.config.sheet import KEY, read_sheet
from cloudseg.dataset.fetch import root_problems
from cloudseg.errors import ConfigError
from cloudseg.workflow import paths
from cloudseg.workflow.dataset import BlackStore, DatasetPlan, Images, PixelStore, original_sizes
from cloudseg.workflow.ensemble import Blend, Ensemble, ensembles_of
from cloudseg.workflow.heads import Heads
from cloudseg.workflow.leaderboard import Leaderboard, public_scores
from cloudseg.workflow.new_images import NewImages
from cloudseg.workflow.provenance import Chain, Reproduction
from cloudseg.workflow.pseudo import PseudoLabels, refuse_dishonest_labels
from cloudseg.workflow.recipe import AugmentedRecipe
from cloudseg.workflow.run import InitialWeights, Prediction, Run
from cloudseg.workflow.sheet import RunKey, Sheet

OF_TEST = (
    *("submit", "submission", "submission_page", "sanity", "provenance", "provenance_page", "shift", "bundle", "pack"),
)
"""Rules that can do nothing without test images."""
VARIANTS = {
    "train_average": "train",
    "predict_values": "predict",
    "predict_classes": "predict",
    "predict_average": "predict",
    "predict_average_values": "predict",
    "predict_average_classes": "predict",
}
"""Rules that are another with other outputs, and that other one, as which they are counted and shown."""


class Plan:
    """Everything that one config asks for.

    Parameters
    ----------
    raw : the config as Snakemake read it.
    home : the folder of the Snakefile; the experiment sheet is looked for in the working directory, then here.

    Raises
    ------
    ConfigError : all problems of the config and its sheet, one line each.
    """

    def __init__(self, raw: dict[str, Any], home: Path | str = "."):
        self.config = config = read_config(raw)
        self._raw = raw
        self.smoke = config.smoke
        self.seed = config.seed
        self.threads = config.threads
        self.name = config.name + ("-smoke" if self.smoke else "")
        refuse([*folder_problems(Path("results", self.name)), *_download_problems(config.dataset)])

        originals = functools.cache(lambda: original_sizes(config.dataset))
        sheet = read_sheet(find_sheet(config, home), config, originals)
        self.sheet = Sheet(sheet, config.folds.count, config.recipes)
        self.dataset = DatasetPlan(config, self.sheet.rows)
        refuse([] if self.dataset.has_test else _untested_problems(self.dataset))
        self.ensembles = ensembles_of(self.dataset, self.sheet)
        refuse_dishonest_labels(config, self.sheet, self.ensembles)
        self.public_scores = public_scores(_found(config.leaderboard, home), config, self.sheet)

    # The objects that wildcards name

    def images(self, split: str) -> Images:
        """Return the images of a split."""
        return Images(self.dataset, split)

    def pixel_store(self, split: str, size: str) -> PixelStore:
        """Return the images of a split at a size."""
        return PixelStore(self.dataset, split, size)

    def black_store(self, split: str, grey: str | int) -> BlackStore:
        """Return where the images of a split are black up to a level of grey."""
        return BlackStore(self.dataset, split, int(grey))

    def initial_weights(self, encoder: str, start: str) -> InitialWeights:
        """Return the initial weights of an encoder by the name of their file."""
        return self.starts[encoder, start]

    def recipe(self, recipe: str) -> AugmentedRecipe:
        """Return a recipe and the sizes that it is used at."""
        return AugmentedRecipe(self.dataset, recipe)

    def run(self, encoder: str, decoder: str, size: str, recipe: str, fold: str | int = 0) -> Run:
        """Return a run; `fold` may be that of a replicate, or all."""
        return Run(self.dataset, RunKey.of_wildcards(encoder, decoder, size, recipe, str(fold)))

    def prediction(self, *, split: str, **run: str) -> Prediction:
        """Return the prediction of a run for a split."""
        return Prediction(self.run(**run), split)

    def ensemble(self, ensemble: str) -> Ensemble:
        """Return an ensemble; its name may have been typed.

        Raises
        ------
        ConfigError : if there is none of this name.
        """
        if ensemble not in self.ensembles:
            raise ConfigError(f"no ensemble {ensemble!r}{nearest(ensemble, self.ensembles)}")
        return self.ensembles[ensemble]

    def blend(self, ensemble: str, split: str) -> Blend:
        """Return the blend of an ensemble for a split."""
        return Blend(self.ensemble(ensemble), split)

    def pseudo_labels(self, ensemble: str, recipe: str, size: str, fold: str | int) -> PseudoLabels:
        """Return the labels that an ensemble makes of test images for the trainings of a recipe on a fold."""
        return PseudoLabels(self.ensemble(ensemble), recipe, size, int(fold))

    def valid_blend(self, ensemble: str) -> Blend:
        """Return the blend of an ensemble for its out-of-fold images."""
        return Blend(self.ensemble(ensemble), "valid")

    def whether(self, ensemble: str, split: str) -> Blend:
        """Return the blend of the members of an ensemble that say whether a class is there."""
        return Blend(self.ensemble(ensemble), split, role="whether")

    def chain(self, ensemble: str) -> Chain:
        """Return the chain from images to the submission of an ensemble."""
        return Chain(self.ensemble(ensemble), ensemble, self._as_read, self.threads, self.ensembles)

    def new_images(self, results: Path) -> NewImages:
        """Return the images that the config's `images` names; `results` is the folder of its results."""
        return NewImages(self.config, results)

    @functools.cached_property
    def _as_read(self) -> Config:
        return config_as_read(self._raw)

    @functools.cached_property
    def reproduction(self) -> Reproduction:
        """What rule `reproduce` asks for."""
        return Reproduction(self._as_read, [Run(self.dataset, key) for key in self.sheet.keys], self.gpus)

    @property
    def leaderboard(self) -> Leaderboard:
        """What rule `leaderboard` is told."""
        return Leaderboard(self.dataset, self.sheet, self.ensembles)

    @functools.cached_property
    def heads(self) -> Heads:
        """What rule `classifiers` measures."""
        return Heads.of(self.dataset, self.sheet)

    @property
    def study_run(self) -> Run:
        """The run that the rules `loading`, `profile` and `quantising` measure."""
        return Run(self.dataset, self.sheet.study_key)

    # What the Snakefile needs

    @property
    def folders(self) -> dict[str, str]:
        """The path variables: `<results>` and what lies in it."""
        return paths.path_variables(self.name) | self.run_folders

    @property
    def wildcards(self) -> dict[str, str]:
        """The values that each wildcard can take, as a regular expression."""
        starts = {start for _, start in self.starts}
        return {
            **{name: self.sheet.alternatives(name) for name in KEY},
            "size": self.sheet.alternatives("size", *self.dataset.canvases),
            "start": "|".join(map(re.escape, sorted(starts))),
            "fold": PATTERN,
            # Not the names: Snakemake searches the text of a pattern for every path, and there may be thousands
            "ensemble": "[a-z0-9]+(?:-[a-z0-9]+)*",
            "checkpoint": "best|last|average",
            "split": "valid|test" if self.dataset.has_test else "valid",
            "grey": r"0|[1-9]\d*",
            "prediction": "[a-z0-9]+(?:-[a-z0-9]+)*",
        }

    @property
    def final_submissions(self) -> dict[str, str]:
        """Where the config's submission and its provenance go: its results and, but for a smoke run, the working
        directory.
        """
        root = {} if self.smoke else {"root": "submission.csv", "root_provenance": "submission.provenance.json"}
        own = {"own": "<results>/submission.csv", "own_provenance": "<results>/submission.provenance.json"}
        return root | own

    @property
    def own_submission(self) -> list[str]:
        """The submission that rule `sanity` looks at, and its decision; none where `csv` names another file."""
        files = [] if self.config.csv else ["submission.csv", "decision.yaml"]
        return [paths.ensemble_file(self.config.submission, file) for file in files]

    @property
    def idle_rules(self) -> dict[str, str]:
        """The rules that can make nothing of these images, and why."""
        why = f"there are no test images (dataset.root: {self.config.dataset.root}, test_images/)"
        return {} if self.dataset.has_test else dict.fromkeys(OF_TEST, why)

    @property
    def submitted_min_sizes(self) -> list[int]:
        """The minimum sizes, per class, that the config gives for its submission; a tuned decision may have others."""
        return self.ensembles[self.config.submission].fixed_min_sizes

    @property
    def told_by_provenance(self) -> dict[str, str]:
        """The provenance of its submission where the page of that must say that some members have no score; else none.

        A plan without such members must have no other inputs than it had.
        """
        submission = self.config.submission
        told = self.ensembles[submission].unscored is not None
        return {"provenance": paths.ensemble_file(submission, "provenance.json")} if told else {}

    @functools.cached_property
    def jobs(self) -> dict[str, list[dict[str, str]]]:
        """The jobs that make everything: rule to the wildcards of each."""
        wanted = list(self.config.ensembles)
        tested = wanted if self.dataset.has_test else []
        runs = [key.wildcards for key in self.sheet.keys]
        tested_keys = {member.key for name in tested for member in self.ensembles[name].all_members}
        test_sizes = {key.size for key in tested_keys} | self.dataset.trained_test_sizes
        sizes = {"train": self.dataset.sizes, "test": sorted(test_sizes)}
        once: list[dict[str, str]] = [{}]
        once_tested = once if tested else []
        return {
            **({self.dataset.making_rule: once} if self.dataset.is_made else {}),
            "check": [{"split": split} for split in self.dataset.splits],
            "folds": once,
            **({"shift": once} if self.dataset.fold_weights else {}),
            "pixels": [{"split": split, "size": size} for split in self.dataset.splits for size in sizes[split]],
            "truth": once,
            "weights": [{"encoder": encoder, "start": start} for encoder, start in self.starts],
            "train": runs,
            **self._predictions(sorted(tested_keys, key=RunKey.order)),
            "blend": [{"ensemble": name, "split": "valid"} for name in self.ensembles]
            + [{"ensemble": name, "split": "test"} for name in tested],
            **self._further_jobs(wanted, tested),
            "surface": [{"ensemble": name} for name in self.ensembles],
            "decide": [{"ensemble": name} for name in self.ensembles],
            "compare": [{"ensemble": name} for name in wanted],
            "submit": [{"ensemble": name} for name in tested],
            "masks": [{"ensemble": name} for name in wanted],
            "decision": [{"ensemble": name} for name in wanted],
            "provenance": [{"ensemble": name} for name in tested],
            "submission": once_tested,
            "provenance_page": once_tested,
            "dataset_sheet": once,
            "augmented": [{"recipe": name} for name in self.sheet.recipes],
            "labels": once,
            "submission_page": once_tested,
            "leaderboard": once,
            **({"classifiers": once} if self.heads.members else {}),
            "curves": once,
            "job_times": once,
            "explorer": once,
        }

    @property
    def predictions(self) -> list[dict[str, str]]:
        """The wildcards of the predictions of best and last."""
        return [job for rule in ("predict", "predict_values", "predict_classes") for job in self.jobs.get(rule, [])]

    def _predictions(self, tested: Sequence[RunKey]) -> dict[str, list[dict[str, str]]]:
        """Return the predictions by the rules that make them, and the trainings that keep an average.

        Parameters
        ----------
        tested : the runs that predict test images.
        """
        sheet = self.sheet
        scored = [key for key in sheet.keys if key.fold != ALL and (sheet.gives_masks(key) or sheet.gives_values(key))]
        splits = [(key, "valid") for key in scored] + [(key, "test") for key in tested]

        def jobs(*, masks: bool, values: bool, average: bool = False) -> list[dict[str, str]]:
            return [
                key.wildcards | {"split": split}
                for key, split in splits
                if (sheet.gives_masks(key), sheet.gives_values(key)) == (masks, values)
                and (sheet.recipe_of(key).average or not average)
            ]

        made = {
            "train_average": [key.wildcards for key in sheet.keys if sheet.recipe_of(key).average],
            "predict_values": jobs(masks=True, values=True),
            "predict_classes": jobs(masks=False, values=True),
            "predict_average": jobs(masks=True, values=False, average=True),
            "predict_average_values": jobs(masks=True, values=True, average=True),
            "predict_average_classes": jobs(masks=False, values=True, average=True),
        }
        return {"predict": jobs(masks=True, values=False)} | {rule: each for rule, each in made.items() if each}

    def _further_jobs(self, wanted: Sequence[str], tested: Sequence[str]) -> dict[str, list[dict[str, str]]]:
        """Return the jobs that only some ensembles ask for, by their rules; a rule that none asks for is left out."""
        blends = [self.blend(name, "valid") for name in self.ensembles] + [self.blend(name, "test") for name in tested]
        blacks = sorted({blend.black_images for blend in blends if blend.black_images})
        jobs = {
            "black": [{"split": split, "grey": str(grey)} for split, grey in blacks],
            "whether": [
                {"ensemble": name, "split": split}
                for name in wanted
                if self.ensembles[name].whether
                for split in (("valid", "test") if tested else ("valid",))
            ],
            "search": [{"ensemble": name} for name in wanted if self.ensembles[name].search],
            "pseudo_labels": self._pseudo_jobs,
        }
        return {rule: each for rule, each in jobs.items() if each}

    @property
    def _pseudo_jobs(self) -> list[dict[str, str]]:
        """The labels of test images that trainings ask for, once each."""
        names = "ensemble", "recipe", "size", "fold"
        runs = [Run(self.dataset, key) for key in self.sheet.keys]
        asked = [
            (run.recipe.pseudo.ensemble, run.key.recipe, run.augmented_size, str(run.key.fold))
            for run in runs
            if run.recipe.pseudo
        ]
        return [dict(zip(names, job, strict=True)) for job in dict.fromkeys(asked)]

    @property
    def on_demand(self) -> dict[str, list[dict[str, str]]]:
        """The jobs that nothing else asks for, which the report shows when they have been made."""
        return {"shift": [{}], "loading": [{}], "profile": [{}], "quantising": [{}], "ablation": [{}]}

    @functools.cached_property
    def megabytes(self) -> int:
        """About how many MB all stores of the plan take."""
        predicted = dict.fromkeys(("predict", "predict_values"), self.prediction)
        estimated = {"pixels": self.pixel_store, **predicted, "blend": self.blend}
        return sum(of(**job).megabytes for rule, of in estimated.items() for job in self.jobs.get(rule, []))

    @property
    def submitted(self) -> list[str]:
        """The ensembles of the config, which are submitted; the others are scored only."""
        return sorted(self.config.ensembles)

    @property
    def tested(self) -> list[str]:
        """Those of them whose members predict test images: all, or none where there are no test images."""
        return self.submitted if self.dataset.has_test else []

    @property
    def baseline(self) -> str:
        """The ensemble that rule `ablation` compares the others with."""
        return self.config.baseline or self.config.submission

    @property
    def compared(self) -> list[str]:
        """The ensembles that rule `ablation` compares, in the order of the config."""
        return list(self.config.ensembles)

    @property
    def compared_blends(self) -> list[list[str]]:
        """What makes the blends of these ensembles more than a mean."""
        return [self.ensembles[name].blended_by for name in self.compared]

    @property
    def compared_histories(self) -> list[str]:
        """The histories of the runs of these, where some are replicates, so that it is told what an epoch takes."""
        return [path for histories in self._compared_histories for path in histories]

    @property
    def compared_runs(self) -> list[int]:
        """How many of these histories are of each ensemble."""
        return [len(histories) for histories in self._compared_histories]

    @functools.cached_property
    def _compared_histories(self) -> list[list[str]]:
        if all(without_seed(name) == name for name in self.compared):
            return [[] for _ in self.compared]
        runs = ({member.key.folder for member in self.ensembles[name].all_members} for name in self.compared)
        return [[f"{folder}/history.tsv" for folder in sorted(folders)] for folders in runs]

    @property
    def compared_notes(self) -> list[str]:
        """The notes of these ensembles."""
        return [entry.note for entry in self.config.ensembles.values()]

    @property
    def explored(self) -> list[str]:
        """The ensembles whose masks the explorer may show: the submission's, the config's others, and its members.

        A member that says where only is none of them: no threshold makes its masks worth looking at alone.
        """
        members = self.ensembles[self.config.submission].compared_names
        last = [name for name in members if name.endswith("-last")]
        return list(dict.fromkeys([self.config.submission, *self.submitted, *(last or members)]))

    @property
    def run_folders(self) -> dict[str, str]:
        """The path variables of the folders of runs by what they leave: rules that differ in outputs share no file."""
        recipes = self.config.recipes
        averages = [name for name, recipe in recipes.items() if recipe.average]
        heads = [name for name, recipe in recipes.items() if recipe.head]
        decoders = {key.decoder for key in self.sheet.keys} - {CLASSIFIER}
        plain, both = [name for name in recipes if name not in heads], [name for name in averages if name in heads]
        return {
            "run_without_average": paths.runs_of(recipes=[name for name in recipes if name not in averages]),
            "run_with_average": paths.runs_of(recipes=averages),
            "run_of_masks": paths.runs_of(decoders, plain),
            "run_of_masks_and_values": paths.runs_of(decoders, heads),
            "run_of_values": paths.runs_of([CLASSIFIER]),
            "average_of_masks": paths.runs_of(decoders, [name for name in averages if name not in heads]),
            "average_of_masks_and_values": paths.runs_of(decoders, both),
            "average_of_values": paths.runs_of([CLASSIFIER], averages),
        }

    # Devices

    def cpu_instead(self) -> bool:
        """Return whether `device: auto` finds no CUDA device on this machine."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") != ""
        return self.config.device == "auto" and not (visible and Path("/dev/nvidiactl").exists())

    def on_cpu(self, *, here: bool) -> bool:
        """Return whether networks compute on the CPU.

        Parameters
        ----------
        here : whether jobs run on this machine; where they run on others, `device: auto` means their GPUs.
        """
        return self.config.device == "cpu" or (here and self.cpu_instead())

    @property
    def gpus(self) -> int:
        """How many GPUs a prediction or a study asks for."""
        return 0 if self.config.device == "cpu" else 1

    @functools.cached_property
    def starts(self) -> dict[tuple[str, str], InitialWeights]:
        """All initial weights, by encoder and name of the file."""
        runs = [Run(self.dataset, key) for key in self.sheet.keys]
        return {(run.key.encoder, run.start): InitialWeights.of(run) for run in runs}


def find_sheet(config: Config, home: Path | str) -> Path:
    """Return the experiment sheet of a config, in the working directory or beside the Snakefile.

    Raises
    ------
    ConfigError : if it is in neither.
    """
    path = _found(config.experiments, home)
    if path is None:
        raise ConfigError(f"{config.experiments}: no such experiment sheet (config key `experiments`)")
    return path


def _found(table: str, home: Path | str) -> Path | None:
    """Return the table that a config names, in the working directory or beside the Snakefile."""
    places = [Path(folder, table) for folder in (".", home)]
    return next((path for path in places if path.is_file()), None)


def _untested_problems(dataset: DatasetPlan) -> list[str]:
    """List what a config asks of test images, where there are none."""
    none = f"and {dataset.config.dataset.root} has none (test_images/)"
    lines = []
    if dataset.config.folds.stratify_by == "shift":
        lines.append(f"folds.stratify_by: expected labels, got shift: it compares with test images, {none}")
    for name in sorted({row.recipe for row in dataset.experiments}):
        recipe = dataset.config.recipes[name]
        keys = [key for key in ("pseudo", "brightness") if getattr(recipe, key) is not None]
        lines += [f"recipes.{name}.{key}: it trains on test images, too, {none}" for key in keys]
    return lines


def _download_problems(dataset: Dataset) -> list[str]:
    """List what is wrong with the folder that a download goes into."""
    return root_problems(dataset.root, "results") if dataset.source == "kaggle" else []
