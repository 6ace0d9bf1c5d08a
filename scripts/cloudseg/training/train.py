"""Train one network on one fold: `train` is the order in which it happens."""

import contextlib
import math
import time

import torch
from tqdm import tqdm

from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.models.segmenter import model_of
from cloudseg.runtime import devices
from cloudseg.training.average import load_average
from cloudseg.training.checkpoints import Checkpoints
from cloudseg.training.data.dataset import sample_seed
from cloudseg.training.data.fold import FoldData, load_fold
from cloudseg.training.distributed import SINGLE, ProcessGroup
from cloudseg.training.job import MicroBatch, TrainingJob
from cloudseg.training.progress import Progress
from cloudseg.training.record import Averaged
from cloudseg.training.recording import Stopwatch, describe_devices, write_record
from cloudseg.training.signals import exiting_on_signal
from cloudseg.training.trainer import Trainer
from cloudseg.training.validation import validate


def train(job: TrainingJob, group: ProcessGroup = SINGLE, micro_batch: MicroBatch | None = None) -> None:
    """Train a network on all folds but one and keep its best and its last epoch, and an average if the recipe has one.

    This is what one process does, be it alone or one of several; what begins it is
    :func:`cloudseg.training.oom_retry.train_with_oom_retry`.

    Parameters
    ----------
    job : the training.
    group : this process among those that train together, and its device.
    micro_batch : images that a device sees at once; None is what the recipe says.

    Raises
    ------
    UserError : for images, a table or weights that do not fit the recipe, and for a loss that is not finite.

    Notes
    -----
    The state after an epoch is written beside ``last`` (:mod:`cloudseg.training.state_file`). A training that was
    stopped or killed goes on from there and, where it is ``deterministic``, ends with the same bits. One
    that had finished goes on, too, when ``epochs`` has been raised, unless its ``schedule`` depends on their number, as
    cosine and one_cycle do.

    Several devices see the batches that one would see. What counts over the images that a device sees at once then
    counts over fewer: the losses over a batch, and on the CPU BatchNorm (on CUDA it is synchronised). Without these
    the losses are those of one device, but for the order of sums.
    """
    stopwatch = Stopwatch()
    deterministic = devices.is_deterministic(job.recipe.deterministic, group.device)
    devices.set_determinism(job.threads, group.device, deterministic)
    if not deterministic:
        group.print_main("the fastest algorithms: two runs differ in last bits (`deterministic: true` gives the same)")
    micro_batch = micro_batch or MicroBatch.of(job.recipe)
    data = load_fold(job, group, micro_batch.size)
    trainer = _build_trainer(job, data.classes, group)
    progress = Progress(job.recipe, data.classes, len(data.batches))
    checkpoints = Checkpoints(job, micro_batch, data.classes, group)
    checkpoints.restore(trainer, progress)
    if group.is_main:
        progress.report()
    with exiting_on_signal(progress.when_stopped), contextlib.closing(checkpoints):
        while not progress.finished:
            started = time.perf_counter()
            train_loss, learning_rate = _train_epoch(job, group, data, trainer, progress)
            stopwatch.training.append(time.perf_counter() - started)
            valid = validate(trainer, data, group, job.recipe.best_by)
            if data.n_valid:
                progress.require_finite(valid.loss, "validation")
            progress.add(
                trainer.eval_model.network,
                learning_rate=learning_rate,
                train_loss=train_loss,
                valid=valid,
                seconds=time.perf_counter() - started,
            )
            stopwatch.epochs.append(time.perf_counter() - started)
            stopwatch.busy = trainer.busy.seconds()
            group.print_main(progress.line())
            checkpoints.save(trainer, progress)
            if group.is_main:
                progress.report(images_per_second=round(data.batches.n_images / stopwatch.training[-1], 2))
        if progress.stopped_early:
            group.print_main(f"stopped: no better epoch in {job.recipe.patience}")
        checkpoints.write_networks(trainer, progress)
        averaged = _write_average(job, group, data, trainer, progress, checkpoints) if progress.average else None
    stopwatch.n_images = data.batches.n_images
    machines = describe_devices(group, stopwatch)
    if not group.is_main:
        return
    write_record(job, data, trainer, progress, stopwatch, micro_batch, machines, averaged)
    if not job.keep_state:
        checkpoints.remove_state()


def _build_trainer(job: TrainingJob, class_names: list[str], group: ProcessGroup) -> Trainer:
    torch.manual_seed(job.seed)
    network = NetworkHeader.of_recipe(job.encoder, job.decoder, class_names, job.recipe)
    model = model_of(network, weights=job.weights)
    return Trainer(model, job.recipe, class_names, group, job.loss_grid, job.image_size())


def _train_epoch(
    job: TrainingJob, group: ProcessGroup, data: FoldData, trainer: Trainer, progress: Progress
) -> tuple[float, float]:
    """Make the steps of one epoch; return the mean loss of its images and the learning rate of its last step."""
    epoch, epochs = progress.epoch + 1, job.recipe.epochs
    data.batches.epoch = epoch
    # Seeds dropout. The index is past the data set, so no sample shares this seed.
    torch.manual_seed(sample_seed(job.seed, epoch, data.n_train + group.rank))
    trainer.begin_epoch(epoch)
    total = torch.zeros((), device=group.device)
    quiet = None if group.is_main else True  # None: on a terminal alone
    for number, (image, mask) in enumerate(tqdm(data.train, f"epoch {epoch}/{epochs}", leave=False, disable=quiet)):
        rate = progress.learning_rate(number)
        n_images, steps = data.batches.batch_images(number), data.batches.accumulation_steps(number)
        total += trainer.train_step(image, mask, learning_rate=rate, n_images=n_images, accumulation_steps=steps)
        if group.is_main:
            progress.report((number + 1) / (len(data.batches) + len(data.valid)))
    loss = progress.require_finite(group.sum(total).item() / data.batches.n_images, "training")
    group.average_buffers(trainer.model)
    if trainer.eval_model is not trainer.model:
        group.average_buffers(trainer.eval_model)
    return loss, rate


def _write_average(
    job: TrainingJob,
    group: ProcessGroup,
    data: FoldData,
    trainer: Trainer,
    progress: Progress,
    checkpoints: Checkpoints,
) -> Averaged:
    """Write the mean of the networks of some epochs, which takes the place of the last one; say what it is worth."""
    mean = progress.average.mean()
    load_average(mean, trainer, data, group, seed=job.seed, epoch=progress.epoch)
    checkpoints.write_average(trainer, mean.epochs)
    valid = validate(trainer, data, group, job.recipe.best_by)
    columns = {"valid_loss": round(valid.loss, 6), **progress.dice_columns(valid)}
    found = {name: value for name, value in columns.items() if math.isfinite(value)}
    worth = "".join(f", {name} {found[name]:.4f}" for name in ("valid_loss", "valid_dice") if name in found)
    group.print_main(f"average of epochs {', '.join(map(str, mean.epochs))}{worth}")
    return Averaged(epochs=mean.epochs, valid=found)
