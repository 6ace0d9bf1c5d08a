"""A run, one network trained on one fold, answers for its jobs: inputs, params, cores, GPUs, disk and work."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from cloudseg.config.batching import micro_batch_size
from cloudseg.config.packaged_weights import is_packaged
from cloudseg.config.recipe import Recipe
from cloudseg.dataset.contents import digest_files
from cloudseg.workflow import paths
from cloudseg.workflow.costs import Work
from cloudseg.workflow.dataset import (
    DatasetPlan,
    PixelStore,
    digest_cache,
    estimated_megapixels,
    estimated_pixels,
    scales,
)
from cloudseg.workflow.sheet import RunKey

CHECKPOINTS = 2  # best and last


@dataclasses.dataclass(frozen=True)
class Run:
    """A network trained on one fold.

    Parameters
    ----------
    dataset : the images, and the config.
    key : experiment and fold.
    """

    dataset: DatasetPlan = dataclasses.field(repr=False, compare=False)
    key: RunKey

    @property
    def recipe(self) -> Recipe:
        """The recipe that it is trained by."""
        return self.dataset.config.recipes[self.key.recipe]

    # Training

    @property
    def start(self) -> str:
        """The file name, without ending, of the initial weights of the encoder."""
        kind, _, source = self.recipe.start.partition(":")
        if kind == "file":
            return f"file-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
        if kind == "run":
            return f"run-{source.replace('/', '-')}-fold{self.key.fold}"
        if self.dataset.config.smoke and kind == "imagenet" and not is_packaged(self.key.encoder):
            return "none"
        return kind

    @property
    def initial_weights(self) -> str:
        """The file of the initial weights of the encoder."""
        return paths.weights_file(self.key.encoder, self.start)

    @property
    def canvas_store(self) -> str | list[str]:
        """The store of the images that are augmented; no input when it is that of the training size."""
        return paths.pixel_store("train", str(self.recipe.canvas)) if self.recipe.canvas else []

    @property
    def training_recipe(self) -> dict[str, Any]:
        """What training needs of the recipe, without what stands at its default."""
        return self.recipe.canonical(*(key for key in Recipe.model_fields if key not in ("tta", "start")))

    @property
    def loss_size(self) -> list[int] | None:
        """Height and width of the submission grid where the loss is computed there."""
        return list(self.dataset.submission_size) if self.recipe.loss_grid == "submission" else None

    @property
    def training_gpus(self) -> int:
        """How many GPUs the training asks for."""
        return 0 if self.dataset.config.device == "cpu" else self.recipe.gpus

    @property
    def cores_per_device(self) -> int:
        """Cores that go with a device that trains: its numerical threads and its loaders."""
        return self.dataset.config.threads + self.dataset.config.workers

    @property
    def training_cores(self) -> int:
        """Cores of the training on all its devices."""
        return self.recipe.gpus * self.cores_per_device

    @property
    def pixels_size(self) -> list[int]:
        """Height and width of the images that the network sees; of `xN` as for an estimate."""
        return list(estimated_pixels(PixelStore(self.dataset, "train", self.key.size).stored_size))

    @property
    def training_work(self) -> Work:
        """What the training has to do."""
        recipe, images = self.recipe, self.dataset.counts["train"]
        megapixels = estimated_megapixels(self.key.size)
        at_once = micro_batch_size(recipe.batch, recipe.gpus, recipe.micro_batch) * recipe.gpus
        return Work(
            images=images,
            megapixels=recipe.epochs * images * megapixels,
            megapixels_at_once=at_once * megapixels,
            processes=recipe.gpus,
        )

    # Prediction

    @property
    def prediction_recipe(self) -> dict[str, Any]:
        """What prediction needs of the recipe, without what stands at its default."""
        keys = ["tta", "normalise", "batch", "micro_batch", "precision", "channels"]
        keys += ["augmentation", "canvas"] if self.recipe.tta == "recipe" else []
        return self.recipe.canonical(*keys)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The probabilities of both checkpoints of a run for a split: valid (its own fold) or test."""

    run: Run
    split: str

    @property
    def pixels(self) -> str:
        """The store of the images: validation images are training images."""
        return paths.pixel_store("test" if self.split == "test" else "train", self.run.key.size)

    @property
    def folds(self) -> str | list[str]:
        """The table that says which images validate; no input where test images are predicted."""
        return [] if self.split == "test" else paths.FOLDS

    @property
    def recipe(self) -> dict[str, Any]:
        """What prediction needs of the run's recipe."""
        return self.run.prediction_recipe

    @property
    def images(self) -> float:
        """About how many images there are."""
        dataset = self.run.dataset
        return dataset.counts["test"] if self.split == "test" else dataset.counts["train"] / dataset.folds

    @property
    def megabytes(self) -> int:
        """About how many MB the stores of both checkpoints take."""
        return self.run.dataset.probability_megabytes(CHECKPOINTS * self.images)

    @property
    def work(self) -> Work:
        """What the prediction has to do: both checkpoints see every view of every image."""
        recipe = self.run.recipe
        megapixels = estimated_megapixels(self.run.key.size)
        areas = [scale**2 for scale in scales(recipe)]
        return Work(
            images=self.images,
            masks=CHECKPOINTS * self.images * len(self.run.dataset.classes),
            megapixels=CHECKPOINTS * self.images * sum(areas) * megapixels,
            megapixels_at_once=micro_batch_size(recipe.batch, 1, recipe.micro_batch) * max(areas) * megapixels,
        )


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """The initial weights of an encoder, and what they are made from: imagenet, none, file or run."""

    kind: str
    path: str  # the user's file, or another run's checkpoint; empty for what needs neither

    @classmethod
    def of(cls, run: Run) -> "InitialWeights":
        """Return the initial weights that a run asks for."""
        kind, _, source = run.recipe.start.partition(":")
        if kind == "file":
            return cls(kind, source)
        if kind == "run":
            decoder, size, recipe = source.split("/")
            folder = paths.run_folder(run.key.encoder, decoder, size, recipe, run.key.fold)
            return cls(kind, f"{folder}/last.safetensors")
        return cls(run.start, "")

    @property
    def source(self) -> str:
        """What the job is told: imagenet, none, or file, which is its input."""
        return "file" if self.path else self.kind

    @property
    def file(self) -> list[str]:
        """The user's file that they are taken from, if it is one."""
        return [self.path] if self.kind == "file" else []

    @property
    def checkpoint(self) -> list[str]:
        """The checkpoint of another run that they are taken from, if it is one."""
        return [self.path] if self.kind == "run" else []

    @property
    def contents(self) -> list[str]:
        """A digest of the user's file: not its times, its bytes decide."""
        return [digest_files([file], digest_cache(Path(file)))[0] for file in self.file]
