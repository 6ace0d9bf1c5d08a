"""Where the time of a training goes: waiting for data, copying, forward, backward, step, validating, writing."""

import contextlib
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.config.recipe import Recipe
from cloudseg.models.segmenter import model_of
from cloudseg.runtime import devices
from cloudseg.storage import files
from cloudseg.training.checkpoints import Checkpoints
from cloudseg.training.data.fold import FoldData, load_fold
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.job import MicroBatch, TrainingJob
from cloudseg.training.progress import Progress
from cloudseg.training.trainer import Trainer
from cloudseg.training.validation import Validated, validate

WARM_UP = 3  # steps before the clock runs
TRACED = 3  # steps in the trace: each adds megabytes
VALIDATED = 4  # batches
STEP = ("copy", "forward", "backward", "step")
COLUMNS = ["part", "milliseconds", "epoch"]


class PartClock:
    """Counts the seconds that a device works on each part of a step."""

    def __init__(self, device: torch.device) -> None:
        self._clocks = {name: devices.BusyClock(device) for name in STEP}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the work that the block gives to the device."""
        with self._clocks[name].working():
            yield

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part; waits for the device."""
        return {name: clock.seconds() for name, clock in self._clocks.items()}


@dataclasses.dataclass(frozen=True)
class Profile:
    """What :func:`profile_training` measured.

    Attributes
    ----------
    table : a row per part: its milliseconds an image (for the last, an epoch), and its share of an epoch.
    images_per_second : in training.
    loaded_per_second : images that the loader gives alone.
    busy : share of the training in which the device worked.
    """

    table: pd.DataFrame
    images_per_second: float
    loaded_per_second: float
    busy: float


def profiled_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe's share of one device, without what other trainings or the test images would have to be for.

    Examples
    --------
    >>> recipe = profiled_recipe(Recipe(batch=16, gpus=2, brightness=115))
    >>> recipe.batch, recipe.gpus, recipe.brightness
    (8, 1, None)
    """
    alone = {"start": "none", "brightness": None, "pseudo": None, "average": None}
    return recipe.model_copy(update=alone | {"batch": recipe.batch // recipe.gpus, "gpus": 1})


def profile_training(job: TrainingJob, device: torch.device, trace: str | Path, *, steps: int = 20) -> Profile:
    """Train a network from random weights for some steps, and say where the time goes.

    Parameters
    ----------
    job : the training; its outputs are not written. Of several devices one is measured, with its share of a batch.
    device : where to compute.
    trace : file to write, ``.json.gz``: some steps as ``chrome://tracing`` and Perfetto show them.
    steps : that are timed, behind a few that warm up.

    Raises
    ------
    UserError : as of a training.
    """
    group = ProcessGroup(0, 1, device)
    devices.set_determinism(job.threads, device, devices.is_deterministic(job.recipe.deterministic, device))
    micro_batch = MicroBatch.of(job.recipe)
    data = load_fold(job, group, micro_batch.size)
    torch.manual_seed(job.seed)
    model = model_of(NetworkHeader.of_recipe(job.encoder, job.decoder, data.classes, job.recipe))
    trainer = Trainer(model, job.recipe, data.classes, group, job.loss_grid, job.image_size())
    trainer.begin_epoch(1)
    batches = _endless(data)
    _train(trainer, data, batches, WARM_UP)
    clock = PartClock(device)
    trainer.part = clock.part
    seconds, n_images = _train(trainer, data, batches, steps)
    parts = clock.seconds()
    trainer.part = torch.profiler.record_function
    _trace(trainer, data, batches, trace)
    per_image = {"waiting": max(0.0, seconds - sum(parts.values())), **parts}
    per_image = {name: spent / n_images for name, spent in per_image.items()}
    validating = _validation_seconds(trainer, data, group)
    writing = _writing_seconds(job, trainer, data, group)
    return Profile(
        table=_table(per_image, validating, writing, data),
        images_per_second=n_images / seconds,
        loaded_per_second=_loaded_per_second(data, steps),
        busy=sum(parts.values()) / seconds,
    )


def profile_page(profile: Profile, title: str) -> str:
    """Write a profile as Markdown, a sentence and a table that fits a screen.

    Parameters
    ----------
    profile : of a training.
    title : what was trained, where; a line.

    Examples
    --------
    >>> table = pd.DataFrame([["waiting", 0.1, 0.01], ["forward", 9.9, 0.99]], columns=COLUMNS)
    >>> print(profile_page(Profile(table, 100, 2500, 0.99), "fpn"))
    # Where the time of a training goes
    <BLANKLINE>
    The device works 99 % of the time, on 100 images per second; the loader alone gives 2500
    <BLANKLINE>
    fpn; milliseconds an image, of `writing` an epoch
    <BLANKLINE>
    | Part | ms | Of an epoch |
    | :-- | --: | --: |
    | waiting | 0.10 | 1.0 % |
    | forward | 9.90 | 99.0 % |
    <BLANKLINE>
    """
    rows = profile.table.itertuples(index=False)
    lines = [
        "# Where the time of a training goes",
        "",
        f"The device works {100 * profile.busy:.0f} % of the time, on {profile.images_per_second:.0f} images per "
        f"second; the loader alone gives {profile.loaded_per_second:.0f}",
        "",
        f"{title}; milliseconds an image, of `writing` an epoch",
        "",
        "| Part | ms | Of an epoch |",
        "| :-- | --: | --: |",
        *(f"| {part} | {spent:.2f} | {100 * share:.1f} % |" for part, spent, share in rows),
    ]
    return "\n".join(lines) + "\n"


def _endless(data: FoldData) -> Iterator[tuple[int, tuple[torch.Tensor, torch.Tensor]]]:
    """Yield the batches of epoch after epoch, with their numbers in it."""
    for epoch in itertools.count(1):
        data.batches.epoch = epoch
        yield from enumerate(data.train)


def _train(trainer: Trainer, data: FoldData, batches: Iterator, steps: int) -> tuple[float, int]:
    """Make some steps; return their seconds, until the device is done, and their images."""
    started, n_images = time.perf_counter(), 0
    for number, (image, mask) in itertools.islice(batches, steps):
        pieces = data.batches.accumulation_steps(number)
        trainer.train_step(image, mask, learning_rate=1e-4, accumulation_steps=pieces)
        n_images += len(image)
    _wait_for_device()
    return time.perf_counter() - started, n_images


def _trace(trainer: Trainer, data: FoldData, batches: Iterator, path: str | Path) -> None:
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] * torch.cuda.is_available()
    with torch.profiler.profile(activities=kinds) as profiler:
        _train(trainer, data, batches, TRACED)
    with files.atomic(path) as temporary:
        # The profiler compresses by the name of the file
        profiler.export_chrome_trace(str(temporary))


def _validation_seconds(trainer: Trainer, data: FoldData, group: ProcessGroup) -> float:
    """Return the seconds to validate one image."""
    batches = list(itertools.islice(data.valid, VALIDATED))
    n_images = sum(len(image) for image, _ in batches)
    if not n_images:
        return 0.0
    some = dataclasses.replace(data, valid=batches, valid_rows=slice(0, n_images), n_valid=n_images)
    validate(trainer, some, group)  # the first pass compiles
    started = time.perf_counter()
    validate(trainer, some, group)
    return (time.perf_counter() - started) / n_images


def _writing_seconds(job: TrainingJob, trainer: Trainer, data: FoldData, group: ProcessGroup) -> float:
    """Return the seconds to write what an epoch leaves on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights")
        weights.touch()  # a state is named by a digest of them
        outputs = {name: Path(folder, name) for name in ("best", "last", "history", "run")}
        own = dataclasses.replace(job, outputs=outputs, weights=weights)
        progress = Progress(job.recipe, data.classes, len(data.batches))
        valid = Validated(loss=0.0, dice=np.zeros(len(data.classes)), dice_nonempty=0.0)
        progress.add(trainer.eval_model.network, learning_rate=0.0, train_loss=0.0, valid=valid, seconds=0.0)
        started = time.perf_counter()
        with contextlib.closing(Checkpoints(own, MicroBatch.of(job.recipe), data.classes, group)) as checkpoints:
            checkpoints.save(trainer, progress)
        return time.perf_counter() - started


def _loaded_per_second(data: FoldData, steps: int) -> float:
    """Return how many images per second the loader gives when nothing else is done."""
    batches = _endless(data)
    next(batches)
    started, n_images = time.perf_counter(), 0
    for _, (image, _) in itertools.islice(batches, steps):
        n_images += len(image)
    return n_images / (time.perf_counter() - started)


def _table(per_image: dict[str, float], validating: float, writing: float, data: FoldData) -> pd.DataFrame:
    seconds = {name: spent * data.n_train for name, spent in per_image.items()}
    seconds |= {"validation": validating * data.n_valid, "writing": writing}
    each = per_image | {"validation": validating, "writing": writing}
    whole = sum(seconds.values())
    return pd.DataFrame([[name, 1e3 * each[name], spent / whole] for name, spent in seconds.items()], columns=COLUMNS)


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
