"""Train one network on one fold: `train` is the order in which it happens."""

import contextlib
import time
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from cloudseg.config.recipe import FOR_ALL_EPOCHS
from cloudseg.errors import MachineError
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.preprocessing import CHANNELS
from cloudseg.models.segmenter import build_model
from cloudseg.runtime import devices
from cloudseg.storage import files
from cloudseg.training.data.dataset import draw
from cloudseg.training.data.fold import FoldData, load_fold
from cloudseg.training.distributed import SINGLE, ProcessGroup
from cloudseg.training.job import MicroBatch, TrainingJob
from cloudseg.training.progress import Progress
from cloudseg.training.record import Stopwatch, describe_devices, write_record
from cloudseg.training.state_file import StateFile, leaving_on_signal, state_file_of
from cloudseg.training.trainer import Trainer
from cloudseg.training.validation import validate


def train(job: TrainingJob, group: ProcessGroup = SINGLE, micro_batch: MicroBatch | None = None) -> None:
    """Train a network on all folds but one and keep its best and its last epoch.

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
    After each epoch the state of the training is written beside ``last`` (:mod:`cloudseg.training.state_file`). A
    training that was killed goes on after that epoch and ends with the same bits. One that had finished goes on, too,
    when ``epochs`` has been raised, unless its ``schedule`` depends on their number, as cosine and one_cycle do.

    Several devices see the batches that one would see. What counts over the images that a device sees at once then
    counts over fewer: the losses over a batch, and on the CPU BatchNorm (on CUDA it is synchronised). Without these
    the losses are those of one device, but for the order of sums.
    """
    stopwatch = Stopwatch()
    devices.set_determinism(job.threads, group.device)
    micro_batch = micro_batch or MicroBatch.of(job.recipe)
    data = load_fold(job, group, micro_batch.size)
    trainer = _build_trainer(job, len(data.classes), group)
    progress = Progress(job.recipe, data.classes, len(data.batches))
    state_file = state_file_of(job, group.device)
    _resume(job, group, micro_batch, state_file, trainer, progress, data.classes)
    with leaving_on_signal(progress.when_stopped), contextlib.closing(state_file):
        while not progress.finished:
            started = time.perf_counter()
            train_loss, learning_rate = _train_epoch(job, group, data, trainer, progress)
            stopwatch.training.append(time.perf_counter() - started)
            valid_loss, dice = validate(trainer, data, group)
            progress.add(
                trainer.eval_model.network,
                learning_rate=learning_rate,
                train_loss=train_loss,
                valid_loss=progress.require_finite(valid_loss, "validation"),
                dice=dice,
                seconds=time.perf_counter() - started,
            )
            stopwatch.epochs.append(time.perf_counter() - started)
            stopwatch.busy = trainer.busy.seconds()
            group.print_main(progress.line())
            if group.is_main:
                _save_epoch(job, micro_batch, state_file, trainer, progress, data.classes)
    stopwatch.n_images = data.batches.n_images
    machines = describe_devices(group, stopwatch)
    if not group.is_main:
        return
    if progress.stopped_early:
        print(f"stopped: no better epoch in {job.recipe.patience}")
    last = trainer.eval_model.network.state_dict()
    write_state(last, job.outputs["last"], _metadata(job, data.classes, progress.epoch))
    write_record(job, data, trainer, progress, stopwatch, micro_batch, machines)
    if not job.keep_state:
        state_file.path.unlink(missing_ok=True)


def _build_trainer(job: TrainingJob, n_classes: int, group: ProcessGroup) -> Trainer:
    torch.manual_seed(job.seed)
    channels = CHANNELS[job.recipe.channels]
    model = build_model(job.encoder, job.decoder, n_classes, weights=job.weights, channels=channels)
    return Trainer(model, job.recipe, n_classes, group, job.loss_grid)


def _train_epoch(
    job: TrainingJob, group: ProcessGroup, data: FoldData, trainer: Trainer, progress: Progress
) -> tuple[float, float]:
    """Make the steps of one epoch; return the mean loss of its images and the learning rate of its last step."""
    epoch, epochs = progress.epoch + 1, job.recipe.epochs
    data.batches.epoch = epoch
    # Seeds dropout. The index is past the data set, so no sample shares this seed.
    torch.manual_seed(draw(job.seed, epoch, data.n_train + group.rank))
    trainer.model.train()
    total = torch.zeros((), device=group.device)
    quiet = None if group.is_main else True  # None: on a terminal alone
    for number, (image, mask) in enumerate(tqdm(data.train, f"epoch {epoch}/{epochs}", leave=False, disable=quiet)):
        rate = progress.learning_rate(number)
        n_images, pieces = data.batches.images(number), data.batches.pieces(number)
        total += trainer.train_step(image, mask, rate=rate, images=n_images, pieces=pieces)
    loss = progress.require_finite(group.sum(total).item() / data.batches.n_images, "training")
    for model in {id(model): model for model in (trainer.model, trainer.eval_model)}.values():
        group.average_buffers(model)
    return loss, rate


def _save_epoch(
    job: TrainingJob,
    micro_batch: MicroBatch,
    state_file: StateFile,
    trainer: Trainer,
    progress: Progress,
    classes: list[str],
) -> None:
    files.write_table(pd.DataFrame(progress.history), job.outputs["history"])
    if progress.improved:
        write_state(progress.best_network, job.outputs["best"], _metadata(job, classes, progress.epoch))
    state_file.write(
        {
            **progress.state_dict(),
            "at_once": micro_batch.size,
            "too_much": list(micro_batch.oom_sizes),
            "learner": trainer.state_dict(),
        },
        unchanging={"best_network": progress.best_network},
    )


def _resume(
    job: TrainingJob,
    group: ProcessGroup,
    micro_batch: MicroBatch,
    state_file: StateFile,
    trainer: Trainer,
    progress: Progress,
    classes: list[str],
) -> None:
    """Go on from the state of an earlier process, if there is one of this training."""
    if group.is_main:
        for path in (*job.outputs.values(), state_file.path):
            files.remove_leftovers(path)
    state = state_file.read(group.print_main)
    if state is not None and (why := _why_not_resumed(state, job, micro_batch)):
        group.print_main(f"{state_file.path}: {why}")
        state = None
    if state is not None:
        progress.load_state_dict(state)
        trainer.load_state_dict(state["learner"])
        if group.is_main:
            write_state(progress.best_network, job.outputs["best"], _metadata(job, classes, progress.best_epoch))
            files.write_table(pd.DataFrame(progress.history), job.outputs["history"])
        group.print_main(f"going on after epoch {progress.epoch}, from {state_file.path}")
    if group.sum(torch.tensor(progress.epoch)).item() != group.size * progress.epoch:
        raise MachineError(f"{state_file.path}: the processes of this training read different states; run it again")


def _why_not_resumed(state: dict[str, Any], job: TrainingJob, micro_batch: MicroBatch) -> str | None:
    """Return why a training begins anew though there is a state of it."""
    epochs, schedule, done = job.recipe.epochs, job.recipe.schedule, len(state["history"])
    if state["epochs"] != epochs and schedule in FOR_ALL_EPOCHS:
        return f"of {state['epochs']} epochs, and {schedule} depends on their number"
    if state["at_once"] != micro_batch.size:
        return f"of {state['at_once']} images at once; training from the beginning"
    if done > epochs:
        return f"of {done} epochs already; training from the beginning"
    return None


def _metadata(job: TrainingJob, classes: list[str], epoch: int) -> dict[str, Any]:
    """Return what a checkpoint says of itself."""
    metadata = {"encoder": job.encoder, "decoder": job.decoder, "classes": classes, "epoch": epoch}
    channels = CHANNELS[job.recipe.channels]
    # Absent means RGB: older checkpoints lack the key
    return metadata if channels == 3 else metadata | {"channels": channels}
