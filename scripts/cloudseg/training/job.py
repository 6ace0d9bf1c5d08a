"""What a training is: one network on one fold. Known before torch is imported, so that a finished one costs nothing."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from cloudseg.config.batching import micro_batch_size
from cloudseg.config.fold_names import ALL, Fold, parse_fold_name
from cloudseg.config.job import JobConfig
from cloudseg.config.recipe import Recipe
from cloudseg.storage import files, stores
from cloudseg.training.all_images import epochs_on_all_images, recipe_on_all_images
from cloudseg.training.data_digest import data_digest
from cloudseg.training.finished import FinishedTraining, decisive


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One network on one fold: what decides its result, what it reads and what it writes.

    Parameters
    ----------
    encoder, decoder : names of smp.
    pixels : pixel store of the training size.
    folds : table with the columns ``image`` and ``fold``; the images of ``fold`` validate.
    fold : from 0; ``"all"`` trains on all images and validates on none.
    weights : initial weights of the encoder. The rest of the network is drawn from ``seed`` alone, so every
        fold starts from the same network.
    recipe : a recipe of the config.
    outputs : paths of ``best`` and ``last`` (safetensors), ``history`` (a line per epoch) and ``run`` (JSON); of
        ``average``, too, for a recipe that has one.
    seed : of the decoder's first weights, the order of the batches, the augmentation and dropout.
    canvas_pixels : pixel store of the recipe's ``canvas``, from which images train; None trains from ``pixels``.
        Images are resized to the training size after augmentation. Validation reads ``pixels`` whatever this is.
    test_pixels : pixel store of the test images at the training size, from which a recipe with ``brightness`` or
        ``pseudo`` trains, too.
    test_canvas_pixels : the same at the recipe's ``canvas``, in its place where there is one.
    pseudo : store of the labels of those test images that train, for ``pseudo``
        (:func:`cloudseg.ensemble.pseudo_labels.write_pseudo_labels`).
    submission_size : (height, width) of the submission grid, for ``loss_grid: submission``.
    code : changes when this code means another result; a state of another number is not gone on from.
    keep_state : leave the state of the last epoch beside ``last``, so that more epochs go on from there.
    threads : numerical threads of each process.
    workers : loader processes of each process; the result does not depend on them.

    Raises
    ------
    ValueError : if the recipe needs the canvas, the test images, the submission size or an output for its average and
        there is none, or has no use for what there is.
    """

    encoder: str
    decoder: str
    pixels: str | Path
    folds: str | Path
    fold: Fold
    weights: str | Path
    recipe: Recipe
    outputs: Mapping[str, str | Path]
    seed: int
    canvas_pixels: str | Path | None = None
    test_pixels: str | Path | None = None
    test_canvas_pixels: str | Path | None = None
    pseudo: str | Path | None = None
    submission_size: tuple[int, int] | None = None
    code: int = 0
    keep_state: bool = True
    threads: int = 1
    workers: int = 0

    def __post_init__(self) -> None:
        if (self.recipe.canvas is None) != (self.canvas_pixels is None):
            raise ValueError(
                f"the recipe's canvas is {self.recipe.canvas} and its pixels are {self.canvas_pixels}; give both"
            )
        if self.recipe.loss_grid == "submission" and self.submission_size is None:
            raise ValueError("loss_grid: submission needs the size of the submission grid, got none")
        self._require_output_of_average()
        self._require_test_images()

    def _require_output_of_average(self) -> None:
        if (self.recipe.average is None) != ("average" not in self.outputs):
            raise ValueError(
                f"the recipe's average is {self.recipe.average} and the outputs are {', '.join(self.outputs)}; give "
                "both, or none of them"
            )

    def _require_test_images(self) -> None:
        """Raise unless there are test images where they train, at the size at which all images are augmented."""
        wanted = "none"
        if self.recipe.trains_on_test:
            wanted = "test_pixels" if self.recipe.canvas is None else "test_canvas_pixels"
        given = [name for name in ("test_pixels", "test_canvas_pixels") if getattr(self, name) is not None]
        if given != [wanted] * (wanted != "none"):
            raise ValueError(
                f"test images: expected {wanted} (brightness is {self.recipe.brightness}, canvas {self.recipe.canvas}),"
                f" got {' and '.join(given) or 'none'}"
            )
        if (self.recipe.pseudo is None) != (self.pseudo is None):
            raise ValueError(f"the recipe's pseudo is {self.recipe.pseudo} and its labels are {self.pseudo}; give both")

    @classmethod
    def of_rule(cls, snakemake: Any) -> Self:
        """Return the training that a job of the rule ``train`` asks for."""
        wildcards, inputs, params = snakemake.wildcards, snakemake.input, snakemake.params
        recipe, submission_size = Recipe(**params.recipe), params.get("submission_size")
        fold, _ = parse_fold_name(wildcards.fold)
        if fold == ALL:
            recipe = recipe_on_all_images(recipe, epochs_on_all_images(recipe, inputs.fold_runs))
        return cls(
            encoder=wildcards.encoder,
            decoder=wildcards.decoder,
            pixels=inputs.pixels,
            folds=inputs.folds,
            fold=fold,
            weights=inputs.weights,
            recipe=recipe,
            outputs=dict(snakemake.output.items()),
            seed=params.seed,
            canvas_pixels=inputs.get("canvas") or None,
            test_pixels=_only(inputs.get("test")),
            test_canvas_pixels=_only(inputs.get("test_canvas")),
            pseudo=_only(inputs.get("pseudo")),
            submission_size=submission_size and tuple(submission_size),
            code=params.code,
            keep_state=JobConfig.of(snakemake.config).keep_state,
            threads=params.threads,
            workers=max(0, snakemake.threads // recipe.gpus - params.threads),
        )

    @property
    def gpus(self) -> int:
        """Devices, and processes, that share each batch."""
        return self.recipe.gpus

    @property
    def train_images(self) -> str | Path:
        """The pixel store that images train from."""
        return self.canvas_pixels or self.pixels

    @property
    def test_images(self) -> str | Path | None:
        """The pixel store of the test images that train, too, all or some of them."""
        return self.test_canvas_pixels or self.test_pixels

    @property
    def loss_size(self) -> list[int] | None:
        """Height and width of the submission grid, as records have it."""
        return self.submission_size and list(self.submission_size)

    @property
    def loss_grid(self) -> tuple[int, int] | None:
        """(height, width) at which the loss is computed; None computes it at the training size."""
        return self.submission_size if self.recipe.loss_grid == "submission" else None

    @property
    def identity(self) -> dict[str, Any]:
        """What names the training and its numbers, as records have it."""
        return {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "fold": self.fold,
            "seed": self.seed,
            "threads": self.threads,
            "code": self.code,
        }

    def image_size(self) -> tuple[int, int]:
        """Return the height and width of the images that validate, which is the training size."""
        return stores.read(self.pixels)["image"].shape[1:3]

    def data_digest(self) -> str:
        """Return a digest of the images, their labels and the split, and of what else trains."""
        return data_digest(self.pixels, self.folds, test=self.test_images, pseudo=self.pseudo)

    def finished(self) -> FinishedTraining:
        """Return the files that this training left if it has finished before, wherever it ran."""
        decides = decisive(
            **self.identity,
            recipe=self.recipe,
            loss_size=self.submission_size,
            data=self.data_digest(),
            weights=files.sha256(self.weights),
        )
        return FinishedTraining(self.outputs, decides)


def _only(paths: Any) -> str | None:
    """Return the one file of an input that may not be there; Snakemake has an input of one file as the file alone."""
    return paths if isinstance(paths, str) or not paths else paths[0]


@dataclasses.dataclass(frozen=True)
class MicroBatch:
    """How many images each device sees at once, the gradients of the parts of a batch being summed.

    Parameters
    ----------
    size : images that a device sees at once.
    oom_sizes : the sizes that were tried before and ran out of memory, for the record.
    """

    size: int
    oom_sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """Return what a recipe begins with."""
        return cls(micro_batch_size(recipe.batch, recipe.gpus, recipe.micro_batch))
