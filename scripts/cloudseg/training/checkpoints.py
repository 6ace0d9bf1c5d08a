"""What a training leaves on the disk while it runs, and how another process goes on from there."""

from typing import Any

import pandas as pd
import torch

from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.config.recipe import FOR_ALL_EPOCHS, Recipe
from cloudseg.errors import MachineError
from cloudseg.models.checkpoint_file import write_state
from cloudseg.storage import files
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.job import MicroBatch, TrainingJob
from cloudseg.training.progress import Progress
from cloudseg.training.state_file import state_file_of
from cloudseg.training.trainer import Trainer


class Checkpoints:
    """The history, the checkpoints and the state of one training, written by its main process alone.

    Parameters
    ----------
    job : the training.
    micro_batch : images that a device sees at once; a state of another number is not gone on from.
    classes : names, which each checkpoint carries.
    group : this process among those that train together.
    """

    def __init__(self, job: TrainingJob, micro_batch: MicroBatch, classes: list[str], group: ProcessGroup) -> None:
        self._job, self._micro_batch, self._classes, self._group = job, micro_batch, classes, group
        self._state_file = state_file_of(job, group.device)
        self._best_written = 0  # the epoch of the best network on the disk

    def restore(self, trainer: Trainer, progress: Progress) -> None:
        """Go on from the state of an earlier process, if there is one of this training.

        Raises
        ------
        MachineError : if the processes of the group read different states.
        """
        path = self._state_file.path
        if self._group.is_main:
            for left in (*self._job.outputs.values(), path):
                files.remove_leftovers(left)
        state = self._state_file.read(self._group.print_main)
        if state is not None and (why := self._why_not_resumed(state, progress)):
            self._group.print_main(f"{path}: {why}")
            state = None
        if state is not None:
            progress.load_state_dict(state)
            trainer.load_state_dict(state["learner"])
            if self._group.is_main:
                self._write_best(progress)
                self._write_history(progress)
            self._group.print_main(f"going on after epoch {progress.epoch}, from {path}")
        if self._group.sum(torch.tensor(progress.epoch)).item() != self._group.size * progress.epoch:
            raise MachineError(f"{path}: the processes of this training read different states; run it again")

    def save(self, trainer: Trainer, progress: Progress) -> None:
        """Write the history after an epoch and, unless that was just now, the state and the best network."""
        if not self._group.is_main:
            return
        self._write_history(progress)
        is_written = self._state_file.keep(
            {
                **progress.state_dict(),
                "at_once": self._micro_batch.size,
                "too_much": list(self._micro_batch.oom_sizes),
                "learner": trainer.state_dict(),
            },
            unchanging=progress.networks(),
        )
        if is_written:
            self._write_best(progress)

    def write_networks(self, trainer: Trainer, progress: Progress) -> None:
        """Write the networks of the best and the last epoch."""
        if self._group.is_main:
            self._write_best(progress)
        self._write_network("last", trainer, progress.epoch)

    def write_average(self, trainer: Trainer, epochs: list[int]) -> None:
        """Write the mean of the networks of some epochs, which is now the trainer's ``eval_model``."""
        self._write_network("average", trainer, epochs[-1])

    def close(self) -> None:
        """Write the state of the last epoch if it is not, whatever signals come."""
        self._state_file.close()

    def remove_state(self) -> None:
        """Remove the state, from which more epochs could go on."""
        self._state_file.path.unlink(missing_ok=True)

    def _write_history(self, progress: Progress) -> None:
        files.write_table(pd.DataFrame(progress.history), self._job.outputs["history"])

    def _write_network(self, name: str, trainer: Trainer, epoch: int) -> None:
        if self._group.is_main:
            write_state(trainer.eval_model.network.state_dict(), self._job.outputs[name], self._metadata(epoch))

    def _write_best(self, progress: Progress) -> None:
        if progress.best_epoch != self._best_written:
            write_state(progress.best_network, self._job.outputs["best"], self._metadata(progress.best_epoch))
            self._best_written = progress.best_epoch

    def _metadata(self, epoch: int) -> dict[str, Any]:
        """Return what a checkpoint says of itself."""
        job = self._job
        return NetworkHeader.of_recipe(job.encoder, job.decoder, self._classes, job.recipe).metadata | {"epoch": epoch}

    def _why_not_resumed(self, state: dict[str, Any], progress: Progress) -> str | None:
        """Return why the training begins anew though there is a state of it."""
        recipe, done = self._job.recipe, len(state["history"])
        before = Recipe(**recipe.canonical() | {"epochs": state["epochs"], "stages": state.get("stages")})
        if any(_epoch_goes_by(before, epoch) != _epoch_goes_by(recipe, epoch) for epoch in range(1, done + 1)):
            if before.stages or recipe.stages:
                return "of epochs that other stages went by; training from the beginning"
            return f"of {before.epochs} epochs, and {recipe.schedule} depends on their number"
        if state["at_once"] != self._micro_batch.size:
            return f"of {state['at_once']} images at once; training from the beginning"
        if done > recipe.epochs:
            return f"of {done} epochs already; training from the beginning"
        if progress.average:
            return progress.average.why_not_resumed(state["averaged"], done)
        return None


def _epoch_goes_by(recipe: Recipe, epoch: int) -> tuple[Any, ...]:
    """Return what decides an epoch, from 1; more epochs of its stage do not where the schedule does without them."""
    stage = recipe.stage_at(epoch)
    left_out = set() if stage.schedule in FOR_ALL_EPOCHS else {"epochs"}
    return recipe.stage_start(epoch), recipe.stage_size(epoch), stage.model_dump(mode="json", exclude=left_out)
