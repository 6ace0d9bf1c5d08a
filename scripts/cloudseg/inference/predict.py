"""Predict the validation images of a trained fold, or the test images, in several views, into probability stores."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch

from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.config.fold_names import Fold, parse_fold_name
from cloudseg.config.recipe import Recipe
from cloudseg.errors import DamagedFileError
from cloudseg.inference.images import StoredImages
from cloudseg.inference.predictor import Predictor
from cloudseg.inference.settings import prediction_settings, settings_digest
from cloudseg.runtime import devices
from cloudseg.runtime.background import BackgroundWriter
from cloudseg.runtime.job_progress import report
from cloudseg.storage import class_values, files, stores

CHECKPOINTS = ("best", "last", "average")  # by the names that a rule has for them
QUEUED = 2  # shards that may wait to be written while the device computes

Block = np.ndarray | tuple[np.ndarray, np.ndarray]  # of a shard: planes or values, or both


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionJob:
    """Some checkpoints of one network on some images: what decides the probabilities and where they go.

    Parameters
    ----------
    checkpoints : name (``best``, ``last``, ``average``) to safetensors file, as written by
        :func:`cloudseg.training.train.train`.
    pixels : pixel store of the size that the network was trained at.
    outputs : name of a checkpoint to the store to write, (image, class, y, x) uint8, and its name with ``_values``
        to the store of the values (image, class) of its classification head, which are not kept where none is named. A
        classifier alone has the store of values and no other.
    recipe : ``tta``, ``normalise`` and ``precision`` count, and ``batch`` or ``micro_batch``: images that the network
        takes at once. Other batches give other last bits.
    size : height and width of the submission grid.
    folds : table with the columns ``image`` and ``fold``: the images of ``fold`` are predicted, in the order of the
        table. None predicts all images of ``pixels``.
    fold : from 0; ``"all"`` of a network that has been trained on all images, and then no ``folds``.
    threads : numerical threads.
    code : number in ``CODE``. A store begun with other code, other versions of the libraries or another kind of
        processor is started over.
    network : ``encoder`` and ``decoder`` of the run, which a checkpoint must be of; None takes any.
    """

    checkpoints: Mapping[str, str | Path]
    pixels: str | Path
    outputs: Mapping[str, str | Path]
    recipe: Recipe
    size: tuple[int, int]
    folds: str | Path | None = None
    fold: Fold = 0
    threads: int = 1
    code: int = 0
    network: Mapping[str, str] | None = None

    @classmethod
    def of_rule(cls, snakemake: Any) -> Self:
        """Return the prediction that a job of the rule ``predict`` asks for."""
        wildcards, inputs, params = snakemake.wildcards, snakemake.input, snakemake.params
        return cls(
            checkpoints={name: inputs[name] for name in CHECKPOINTS if name in inputs.keys()},  # noqa: SIM118
            pixels=inputs.pixels,
            outputs=dict(snakemake.output.items()),
            recipe=Recipe(**params.recipe),
            size=tuple(params.submission_size),
            folds=inputs.get("folds") or None,
            fold=parse_fold_name(wildcards.fold)[0],
            threads=params.threads,
            code=params.code,
            # Checked, since a user may have put a checkpoint of another network there
            network={"encoder": wildcards.encoder, "decoder": wildcards.decoder},
        )

    @property
    def batch(self) -> int:
        """Images that the network takes at once, where the device has the memory."""
        return self.recipe.micro_batch or self.recipe.batch


def predict(job: PredictionJob, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Write the stores of each checkpoint of a job.

    When a batch does not fit in the memory of the device, all stores are started over with half the batch; a later job
    that resumes such stores takes the same batch.

    Parameters
    ----------
    job : what to predict.
    device : where to compute.

    Returns
    -------
    dict : what the stores were made with: code, libraries and processor.

    Raises
    ------
    UserError : if a checkpoint is of other classes than the pixels, or of another network than the job and its outputs
        ask for, a view makes the images smaller than the decoder takes them, or an image cannot be read. An error of
        the writing thread ends the job, too, and names the store and the images that it was writing.
    """
    device = torch.device(device)
    devices.set_determinism(job.threads, device)
    images = StoredImages.of_fold(job.pixels, job.folds, job.fold)
    targets = targets_of(job, images, device)
    with_fitting_batch(
        partial(_write_stores, job, images, targets, device), batch_begun_with(targets, job.batch), device
    )
    return made_with(job.code, device)


def made_with(code: int, device: torch.device) -> dict[str, Any]:
    """Return what decides the bytes of a prediction besides its job: code, libraries and processor."""
    return stores.made_with(code, np, torch, smp, timm) | {"processor": devices.instructions(device)}


@dataclasses.dataclass(frozen=True)
class Target:
    """The stores that the probabilities of one checkpoint go to, with all that decides their bytes.

    Parameters
    ----------
    name, checkpoint : of the checkpoint.
    planes : the store of planes; None for a classifier alone.
    values : the store of values; None where they are not kept.
    spec : of the one array of planes; a store of values has as many shards, and a classifier's as many as it would
        have with planes.
    attributes : ``ids``, ``classes`` and ``run``, the digest of the checkpoint.
    settings : what else decides the bytes, without the batch. A store begun with other settings is started over.
    made_with : code, libraries and processor, likewise.
    """

    name: str
    checkpoint: str | Path
    planes: str | Path | None
    values: str | Path | None
    spec: stores.Spec
    attributes: Mapping[str, Any]
    settings: Mapping[str, Any]
    made_with: Mapping[str, Any]

    def require(self, header: NetworkHeader) -> None:
        """Raise unless a network gives what the stores hold.

        Raises
        ------
        DamagedFileError : naming the checkpoint.
        """
        wanted = "masks" if self.planes else None, "a classification head" if self.values else None
        lacks = [
            what for what, has in zip(wanted, (header.has_masks, header.has_head), strict=True) if what and not has
        ]
        if lacks or (header.has_masks and not self.planes):
            expected = f"a network with {' and '.join(lacks)}" if lacks else "a classifier alone"
            raise DamagedFileError(
                f"{self.checkpoint}: expected {expected}, got {header.encoder} with the decoder {header.decoder} and "
                f"{'a' if header.has_head else 'no'} classification head; train this run again"
            )

    def writer(self, batch: int) -> "stores.Writer | WriterOfBoth":
        """Return what writes the blocks of a network, from batches of so many images."""
        if self.values is None:
            return self._writer(self.planes, self.spec, batch)
        # In as many shards as the planes
        spec = stores.Spec(self.spec.shape[:2], "uint8", class_values.DIMS, most=self.spec.shard)
        values = self._writer(self.values, spec, batch)
        return WriterOfBoth(self._writer(self.planes, self.spec, batch), values) if self.planes else values

    def is_begun_with(self, batch: int) -> bool:
        """Return whether a stopped job left a part of the store, made from batches of so many images."""
        return stores.begun(self.planes or self.values, self._attributes(batch), self.made_with)

    def _writer(self, path: str | Path, spec: stores.Spec, batch: int) -> stores.Writer:
        return stores.Writer(path, {"": spec}, self._attributes(batch), made_with=self.made_with)

    def _attributes(self, batch: int) -> dict[str, Any]:
        return {**self.attributes, "settings": settings_digest(self.settings, batch)}


def targets_of(job: PredictionJob, images: StoredImages, device: torch.device) -> list[Target]:
    """Return where what a job predicts goes to, in the order of its checkpoints."""
    settings = prediction_settings(
        images.attributes,
        job.recipe,
        job.size,
        precision=str(devices.compute_dtype(job.recipe.precision, device)),
        threads=job.threads,
        device=device.type,
    )
    spec = stores.Spec((len(images), len(images.classes), *job.size), "uint8", ("image", "class", "y", "x"))
    targets = []
    for name, checkpoint in job.checkpoints.items():
        attributes = {"ids": images.ids, "classes": images.classes, "run": files.sha256(checkpoint)}
        paths = job.outputs.get(name), job.outputs.get(f"{name}_values")
        targets.append(Target(name, checkpoint, *paths, spec, attributes, settings, made_with(job.code, device)))
    return targets


def batch_begun_with(targets: Sequence[Target], batch: int) -> int:
    """Return the batch with which a stopped job began one of its stores, or ``batch`` if there is none."""
    halves = [batch >> times for times in range(batch.bit_length())]
    begun = [half for half in halves if any(target.is_begun_with(half) for target in targets)]
    # The smallest: a store that was begun before memory ran out may be there as well
    return min(begun, default=batch)


def _write_stores(
    job: PredictionJob, images: StoredImages, targets: Sequence[Target], device: torch.device, batch: int
) -> None:
    predictor = None
    with BackgroundWriter(QUEUED, name="shards") as writing:
        for number, target in enumerate(targets):
            predictor = Predictor(
                target.checkpoint,
                job.recipe,
                size=job.size,
                device=device,
                classes=images.classes,
                network=job.network,
                previous=predictor,
            )
            target.require(predictor.header)
            predictor.require_size(images.size, images.path)
            progress = partial(_report, number, len(targets), len(images))
            make = partial(_block, predictor, images, batch, progress, keep_values=target.values is not None)
            write_shards(target.writer(batch), make, images.ids, writing)
            print(f"{target.name}: {len(images)} images", flush=True)


def _report(target: int, targets: int, n_images: int, row: int) -> None:
    """Count an image for which one of two checkpoints is done as half an image, and so on."""
    report((target * n_images + row) / targets, n_images, "images")


def _block(
    predictor: Predictor,
    images: StoredImages,
    batch: int,
    progress: Callable[[int], None],
    rows: slice,
    *,
    keep_values: bool,
) -> Block:
    """Return the bytes of a range of images: planes (image, class, y, x), values (image, class), or both."""
    parts = []
    for start in range(rows.start, rows.stop, batch):
        progress(start)
        parts.append(predictor.quantised(images.read(range(start, min(start + batch, rows.stop)))))
    # Waits for the device, once per shard
    planes, values = (None if some[0] is None else torch.cat(some).cpu().numpy() for some in zip(*parts, strict=True))
    progress(rows.stop)
    if planes is None:
        return values
    return (planes, values) if keep_values else planes


def with_fitting_batch(work: Callable[[int], None], batch: int, device: torch.device) -> None:
    """Call ``work`` with a batch that fits in the memory of the device: start over with half when it runs out.

    Parameters
    ----------
    work : function of the images at once.
    batch : images at once to begin with, at least 1.
    device : for messages.

    Raises
    ------
    Exception : whatever ``work`` raised; an error about memory only when one image did not fit.

    Examples
    --------
    >>> def work(batch):
    ...     if batch > 3:
    ...         raise torch.OutOfMemoryError
    ...     print(f"done with {batch}")
    >>> with_fitting_batch(work, 15, torch.device("cpu"))
    cpu has no memory for 15 images at once: beginning anew with 7
    cpu has no memory for 7 images at once: beginning anew with 3
    done with 3
    """
    while True:
        try:
            return work(batch)
        except (RuntimeError, MemoryError) as error:
            if not devices.ran_out_of_memory(error):
                raise
            if batch == 1:
                error.add_note(
                    f"{device} has no memory for one image: predict on a larger device, let no other job share it, or "
                    "take views of a smaller `scale` in the recipe's `tta`"
                )
                raise
        # After the block, since the error holds the tensors of the batch that did not fit until then
        print(f"{device} has no memory for {batch} images at once: beginning anew with {batch // 2}", flush=True)
        batch //= 2
        torch.cuda.empty_cache()


class WriterOfBoth:
    """Write planes, and the values beside them, shard by shard, where a store alone has its writer.

    Parameters
    ----------
    planes, values : writers of stores with as many images in a shard.
    """

    def __init__(self, planes: stores.Writer, values: stores.Writer) -> None:
        self._planes, self._values = planes, values
        self.path = planes.path

    def missing(self) -> list[slice]:
        """List the ranges of images of which one of the stores has no shard."""
        ranges = {rows.start: rows for rows in (*self._planes.missing(), *self._values.missing())}
        return [ranges[start] for start in sorted(ranges)]

    def write(self, rows: slice, block: tuple[np.ndarray, np.ndarray]) -> None:
        """Write the planes and the values of a range of images."""
        planes, values = block
        self._values.write(rows, values)
        self._planes.write(rows, planes)

    def finish(self) -> None:
        """Finish both stores, that of the planes last."""
        self._values.finish()
        self._planes.finish()


def write_shards(
    writer: stores.Writer | WriterOfBoth,
    make: Callable[[slice], Block],
    names: Sequence[str],
    writing: BackgroundWriter,
) -> None:
    """Make the missing shards of a store and have each written, and the store finished, while the next is made.

    Parameters
    ----------
    writer : of a store that is one array, or of two.
    make : range of images to their block.
    names : of all images, for errors.
    writing : what writes; it may have more to write, before and after.

    Raises
    ------
    Exception : whatever ``make`` raised; the store is then not finished. Or an error of what was submitted earlier,
        which names the store and the images; those of this store may come up later, when ``writing`` is closed.
    """
    for rows in writer.missing():
        block = make(rows)
        more = rows.stop - rows.start - 1
        label = f"{writer.path}, image{'s' if more else ''} {names[rows.start]}{f' and {more} more' if more else ''}"
        writing.submit(label, writer.write, rows, block)
    writing.submit(str(writer.path), writer.finish)
