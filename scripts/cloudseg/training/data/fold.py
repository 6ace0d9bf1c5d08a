"""The images of one fold as a training reads them: batches to train on, and images to validate on."""

import dataclasses
from pathlib import Path

import torch

from cloudseg.config.decoders import demands
from cloudseg.errors import ConfigError, DatasetError, StoreError
from cloudseg.postprocess import Cut
from cloudseg.storage import per_image, stores
from cloudseg.texts import number_of
from cloudseg.training.data.dataset import SegmentationDataset, fold_images
from cloudseg.training.data.images import Images, JoinedImages, PseudoImages, SoftImages, classes_of, images_of
from cloudseg.training.data.loader import Loader
from cloudseg.training.data.sampler import BatchSampler
from cloudseg.training.data.samples import training_samples
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.job import TrainingJob
from cloudseg.training.metrics import masks_left_out


@dataclasses.dataclass(frozen=True)
class FoldData:
    """What one process reads of a fold.

    Attributes
    ----------
    classes : names; ``brightness`` alone where the recipe learns that in place of the labels.
    batches : of the training images; set ``epoch`` before each pass over ``train``.
    train : loader of this process's share of each batch.
    valid : loader of this process's share of the validation images.
    valid_rows : which of all validation images those are.
    cut : how the probabilities of a validation image become masks.
    n_train, n_valid : images, of all processes together; none validate where all images train.
    """

    classes: list[str]
    batches: BatchSampler
    train: Loader
    valid: Loader
    valid_rows: slice
    cut: Cut
    n_train: int
    n_valid: int


def load_fold(job: TrainingJob, group: ProcessGroup, micro_batch_size: int) -> FoldData:
    """Open the pixel stores of a training and part its images into batches.

    Raises
    ------
    ConfigError : for images too small for the decoder, batches that no device can share, and a
        ``validation.min_area`` that takes most masks away.
    DatasetError : for too few images.
    StoreError : for stores that do not fit each other.
    """
    pixels = stores.read(job.pixels)
    size = pixels["image"].shape[1:3]
    _require_size_of_decoder(job, size)
    train_positions, valid_positions = fold_images(job.folds, job.fold, per_image.ids(pixels))
    images = _training_images(job, train_positions, len(pixels.attrs["classes"]))
    batches = _training_batches(job, len(images), group, micro_batch_size)
    if job.canvas_pixels is not None:
        _require_same_images(job.canvas_pixels, job.pixels)
    classes = classes_of(list(pixels.attrs["classes"]), job.recipe.brightness)
    samples = training_samples(images, job.recipe, classes=len(classes), size=size, seed=job.seed)
    loader = Loader(samples, batches, job.workers, group.device, ranks=group.size)
    valid_rows = slice(group.rank, None, group.size)
    valid = images_of(job.pixels, valid_positions[valid_rows], job.recipe.brightness)
    validation = job.recipe.validation
    cut = Cut.of_share(validation.threshold, validation.min_area or 0, size)
    _require_masks_to_stay(valid, len(classes), cut, group, job.pixels)
    return FoldData(
        classes=classes,
        batches=batches,
        train=loader,
        valid=Loader(SegmentationDataset(valid), BatchSampler(len(valid), micro_batch_size), 0, group.device),
        valid_rows=valid_rows,
        cut=cut,
        n_train=len(images),
        n_valid=len(valid_positions),
    )


def _require_size_of_decoder(job: TrainingJob, size: tuple[int, int]) -> None:
    """Raise for images that are too small for the decoder, at the training size or that of a stage."""
    smallest = demands(job.decoder, job.recipe.decoder_options).minimum
    sizes = [(job.pixels, size)]
    stages = enumerate(job.recipe.stages or ())
    sizes += [(f"stages.{number}.size", stage.size.pixels) for number, stage in stages if stage.size is not None]
    for where, (height, width) in sizes:
        if min(height, width) < smallest:
            raise ConfigError(
                f"{where}: images of {height}x{width}; {job.decoder} takes at least {smallest}x{smallest}"
            )


def _training_images(job: TrainingJob, positions: list[int], classes: int) -> Images:
    """Return the images that train: for ``brightness`` those of the test, too, for ``pseudo`` those with labels."""
    images = images_of(job.train_images, positions, job.recipe.brightness)
    if job.test_images is None:
        return images
    if job.pseudo is not None:
        labelled = SoftImages(images, classes) if job.recipe.pseudo.soft else images
        return JoinedImages([labelled, PseudoImages(job.test_images, job.pseudo)])
    n_test = per_image.image_count(stores.read(job.test_images).attrs)
    return JoinedImages([images, images_of(job.test_images, range(n_test), job.recipe.brightness)])


def _training_batches(job: TrainingJob, n_images: int, group: ProcessGroup, micro_batch_size: int) -> BatchSampler:
    if n_images < 2:
        left = number_of(n_images, "image")
        raise DatasetError(f"{job.folds}: fold {job.fold} leaves {left} to train on; two are needed")
    batches = BatchSampler(
        n_images,
        job.recipe.batch,
        shuffle_seed=job.seed,
        drop_last=job.recipe.drop_last,
        rank=group.rank,
        ranks=group.size,
        micro_batch_size=micro_batch_size,
    )
    if not len(batches):
        why, lower = f"are too few for {group.size} devices", "`gpus`"
        if job.recipe.drop_last:
            why = f"make no batch of {job.recipe.batch}, and `drop_last` keeps no other"
            lower = "`batch`, or set `drop_last: false`"
        raise ConfigError(
            f"{job.folds}: the {n_images} images that fold {job.fold} leaves to train on {why}; lower {lower}"
        )
    return batches


def _require_same_images(canvas_pixels: str | Path, pixels: str | Path) -> None:
    """Raise unless two pixel stores hold the same training images and classes, in the same order."""
    canvas, sized = (per_image.expanded(stores.read(path)) for path in (canvas_pixels, pixels))
    for what, of in (
        ("training images", lambda attributes: attributes["ids"]),
        ("classes", lambda attributes: attributes["classes"]),
        ("files or labels that they were made from", lambda attributes: attributes.get("data")),
    ):
        if of(canvas) != of(sized):
            raise StoreError(
                f"{canvas_pixels} and {pixels} differ in their {what}, or in the order of these; remove the older "
                "one, so that both are made from the same table of images"
            )


def _require_masks_to_stay(images: Images, n_classes: int, cut: Cut, group: ProcessGroup, pixels: str | Path) -> None:
    """Raise when the minimum size takes away more than half of the masks that are to be found."""
    counts = [masks_left_out(images.mask(index), n_classes, cut.min_size) for index in range(len(images))]
    there, left_out = group.sum(torch.tensor(counts, dtype=torch.int64).reshape(-1, 2).sum(0)).tolist()
    if left_out > there / 2:
        raise ConfigError(
            f"{pixels}: the recipe's `validation.min_area` ({cut.min_size} pixels at this size) leaves out "
            f"{left_out} of the {there} masks to be found; set it below the smallest of their areas"
        )
