"""A run, one network trained on one fold, answers for its jobs: inputs, params, cores, GPUs, disk and work."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from cloudseg.config.batching import micro_batch_size
from cloudseg.config.fold_names import ALL, seed_words
from cloudseg.config.packaged_weights import is_packaged
from cloudseg.config.recipe import Recipe
from cloudseg.config.sheet import starting_seed
from cloudseg.dataset.contents import digest_files
from cloudseg.errors import ConfigError
from cloudseg.storage.class_values import values_path
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
from cloudseg.workflow.sheet import RunKey, gives_masks, gives_values, keys_of_row


@dataclasses.dataclass(frozen=True)
class Run:
    """A network trained on all folds but one, or on all.

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

    @property
    def seed(self) -> int:
        """The seed of all that its training draws."""
        return self.dataset.config.seed if self.key.seed is None else self.key.seed

    # Training

    @property
    def folds_before(self) -> list[RunKey]:
        """The runs of the folds, where it is trained on all images for as many epochs as these say."""
        if self.key.fold != ALL:
            return []
        return keys_of_row(self.dataset.rows_on_all_images[self.key.experiment])

    @property
    def further_inputs(self) -> dict[str, list[str]]:
        """Inputs of its training that most trainings have not.

        `fold_runs`, the records of the folds before it; `test` or `test_canvas`, test images that train, too, and
        `pseudo`, their labels.
        """
        inputs = {"fold_runs": [f"{key.folder}/run.json" for key in self.folds_before]}
        canvas, pseudo, size = self.recipe.canvas, self.recipe.pseudo, self.augmented_size
        if self.recipe.trains_on_test:
            inputs["test_canvas" if canvas else "test"] = [paths.pixel_store("test", size)]
        if pseudo is not None:
            inputs["pseudo"] = [paths.pseudo_labels(pseudo.ensemble, self.key.recipe, size, self.key.fold)]
        return {name: files for name, files in inputs.items() if files}

    @property
    def augmented_size(self) -> str:
        """The size at which images are augmented: that of the training, or the recipe's canvas."""
        return str(self.recipe.canvas or self.key.size)

    @property
    def start_kind(self) -> str:
        """Where its initial weights come from: imagenet, none, file, run or network."""
        kind, _, _ = self.recipe.start.partition(":")
        if self.dataset.config.smoke and kind == "imagenet" and not is_packaged(self.key.encoder):
            return "none"
        return kind

    @property
    def start_run(self) -> RunKey | None:
        """The run that its initial weights come from, if they do: of the same fold or, of all images, likewise."""
        if self.start_kind not in ("run", "network"):
            return None
        encoder, source = self.key.encoder, self.recipe.start.partition(":")[2]
        seed = starting_seed(encoder, source, self.key.seed, self.dataset.trained)
        return RunKey(encoder, *source.split("/"), self.key.fold, seed)

    @property
    def start(self) -> str:
        """The file name, without ending, of the initial weights."""
        kind, source = self.start_kind, self.recipe.start.partition(":")[2]
        if kind == "file":
            return f"file-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
        if run := self.start_run:
            return f"{kind}-{source.replace('/', '-')}-fold{run.fold_name}"
        return "-".join([kind, *seed_words(self.key.seed)]) if kind == "none" else kind

    @property
    def initial_weights(self) -> str:
        """The file of the initial weights."""
        return paths.weights_file(self.key.encoder, self.start)

    @property
    def group(self) -> str:
        """The job of a cluster that it is, with the prediction of its fold, which needs the same GPU."""
        return "-".join(["run", *self.key[:4], self.key.fold_name])

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
        if self.recipe.trains_on_test:
            images += round(self.dataset.counts["test"] * (recipe.pseudo.share if recipe.pseudo else 1))
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
    """The probabilities of both checkpoints of a run for a split: valid (its own fold) or test.

    Raises
    ------
    ConfigError : for the validation images of a run that trained on all.
    """

    run: Run
    split: str

    def __post_init__(self) -> None:
        if self.run.key.fold == ALL and self.split == "valid":
            raise ConfigError(f"{self.run.key.folder}: trained on all images, so there are none for it to validate on")

    @property
    def group(self) -> str | None:
        """The job of a cluster that it is part of, if any: that of its training.

        The prediction of test images is none, since a group asks for the GPUs of all jobs that could run side by side.
        """
        return self.run.group if self.split == "valid" else None

    @property
    def average_group(self) -> None:
        """That of the prediction of the average: none, since it could run beside that of the other checkpoints."""

    @property
    def pixels(self) -> str:
        """The store of the images: validation images are training images."""
        return paths.pixel_store("test" if self.split == "test" else "train", self.run.key.size)

    @property
    def stores(self) -> list[str]:
        """The stores that it makes of the checkpoints, in the folder of the run: of planes, and of values."""
        run = self.run
        planes = [f"{checkpoint}-{self.split}.zarr" for checkpoint in run.recipe.checkpoints]
        masks = planes if gives_masks(run.key, run.recipe) else []
        values = [values_path(path).name for path in planes] if gives_values(run.key, run.recipe) else []
        return [*masks, *values]

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
        """About how many MB the stores of its checkpoints take."""
        return self.run.dataset.probability_megabytes(len(self.run.recipe.checkpoints) * self.images)

    @property
    def work(self) -> Work:
        """What the prediction has to do: its checkpoints see every view of every image."""
        recipe = self.run.recipe
        megapixels = estimated_megapixels(self.run.key.size)
        areas = [scale**2 for scale in scales(recipe)]
        predicted = len(recipe.checkpoints) * self.images
        seen = Work(
            images=self.images,
            megapixels=predicted * sum(areas) * megapixels,
            megapixels_at_once=micro_batch_size(recipe.batch, 1, recipe.micro_batch) * max(areas) * megapixels,
        )
        return self.run.dataset.with_masks(seen, predicted)


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """The initial weights of an encoder, or of a whole network, and what they are made from.

    Parameters
    ----------
    kind : imagenet, none, file, run or network.
    path : the user's file, or another run's checkpoint; empty for what needs neither.
    seed : of random ones.
    """

    kind: str
    path: str
    seed: int

    @classmethod
    def of(cls, run: Run) -> "InitialWeights":
        """Return the initial weights that a run asks for."""
        path = run.recipe.start.partition(":")[2] if run.start_kind == "file" else ""
        if key := run.start_run:
            path = f"{key.folder}/last.safetensors"
        # One file for all seeds where nothing is drawn
        return cls(run.start_kind, path, run.seed if run.start_kind == "none" else run.dataset.config.seed)

    @property
    def source(self) -> str:
        """What the job is told: imagenet, none, or file or network, which is its input."""
        return "file" if self.kind == "run" else self.kind

    @property
    def file(self) -> list[str]:
        """The user's file that they are taken from, if it is one."""
        return [self.path] if self.kind == "file" else []

    @property
    def checkpoint(self) -> list[str]:
        """The checkpoint of another run that they are taken from, if it is one."""
        return [self.path] if self.kind in ("run", "network") else []

    @property
    def contents(self) -> list[str]:
        """A digest of the user's file: not its times, its bytes decide."""
        return [digest_files([file], digest_cache(Path(file)))[0] for file in self.file]
