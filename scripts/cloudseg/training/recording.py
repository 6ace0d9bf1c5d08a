"""What a training measures of itself, and the record that it leaves when it has finished."""

import dataclasses
import math
import time
from typing import Any

import torch

from cloudseg.config.recipe import Recipe
from cloudseg.runtime import devices
from cloudseg.runtime.checkout import commit, versions
from cloudseg.storage import files
from cloudseg.training.data.fold import FoldData
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.job import MicroBatch, TrainingJob
from cloudseg.training.progress import Progress
from cloudseg.training.record import NOT_TRAINED_BY, Averaged, Batch, Device, Epochs, Images, RunRecord, Weights
from cloudseg.training.trainer import Trainer

CHECKPOINTS = "best", "last", "average"
PACKAGES = "torch", "segmentation-models-pytorch", "timm", "albumentations", "numpy"


@dataclasses.dataclass
class Stopwatch:
    """Seconds of the epochs of this process.

    Attributes
    ----------
    training : of each epoch, in training alone.
    epochs : of each epoch.
    n_images : that an epoch trained on.
    busy : in which the device had work.
    """

    training: list[float] = dataclasses.field(default_factory=list)
    epochs: list[float] = dataclasses.field(default_factory=list)
    n_images: int = 0
    busy: float = 0.0
    started: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def images_per_second(self) -> float | None:
        """Training images per second; None where this process trained none."""
        return round(len(self.training) * self.n_images / sum(self.training), 2) if self.training else None


def write_record(
    job: TrainingJob,
    data: FoldData,
    trainer: Trainer,
    progress: Progress,
    stopwatch: Stopwatch,
    micro_batch: MicroBatch,
    machines: list[Device],
    averaged: Averaged | None = None,
) -> None:
    """Write ``run.json``, when the checkpoints are there."""
    RunRecord(
        **job.identity,
        recipe=_plain(job.recipe),
        loss_size=job.loss_size,
        workers=job.workers,
        pixels=str(job.pixels),
        canvas_pixels=None if job.canvas_pixels is None else str(job.canvas_pixels),
        folds=str(job.folds),
        weights=Weights(path=str(job.weights), sha256=files.sha256(job.weights)),
        data=job.data_digest(),
        images=Images(train=data.n_train, valid=data.n_valid),
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        precision=str(trainer.dtype).removeprefix("torch."),
        deterministic=None if torch.are_deterministic_algorithms_enabled() else False,
        batch=Batch(
            images=job.recipe.batch,
            devices=len(machines),
            at_once=micro_batch.size,
            pieces=data.batches.accumulation_steps(0),
            too_much=list(micro_batch.oom_sizes),
        ),
        epochs=Epochs(run=progress.epoch, best=progress.best_epoch, resumed=progress.resumed),
        average=averaged,
        sha256={name: files.sha256(job.outputs[name]) for name in CHECKPOINTS if name in job.outputs},
        seconds=round(time.perf_counter() - stopwatch.started, 1),
        images_per_second=stopwatch.images_per_second,
        devices=machines,
        versions=versions(PACKAGES),
        commit=commit(),
        processor=devices.instructions(torch.device(machines[0].device)),
    ).write(job.outputs["run"])


def describe_devices(group: ProcessGroup, stopwatch: Stopwatch) -> list[Device]:
    """Return each device of a process group: its peak memory, and the share of the epochs' seconds that it was busy."""
    seconds = sum(stopwatch.epochs)
    own = torch.tensor([[devices.peak_memory(group.device), stopwatch.busy / seconds if seconds else math.nan]])
    rows = group.gather_rows(own.double(), slice(group.rank, group.rank + 1), group.size).tolist()
    if group.size > 1:
        peaks = [peak / 2**20 for peak, _ in rows]
        apart = max(peaks) / min(peaks) - 1
        group.print_main(
            f"peak memory of the ranks: {', '.join(f'{peak:.0f}' for peak in peaks)} MiB, {apart:.1%} apart"
        )
    return [
        Device(
            device=group.device.type,
            name=devices.name(torch.device(group.device.type, number)),
            peak_memory_mib=round(peak / 2**20),
            busy=None if math.isnan(share) else round(share, 3),
        )
        for number, (peak, share) in enumerate(rows)
    ]


def _plain(recipe: Recipe) -> dict[str, Any]:
    """Return the keys that a training goes by as plain values, those first that the params of the job name."""

    def in_order(named: Any, whole: Any) -> Any:
        if isinstance(named, dict):
            return {key: in_order(named[key], whole[key]) for key in named} | {
                key: value for key, value in whole.items() if key not in named
            }
        return named

    whole = recipe.model_dump(mode="json", exclude=NOT_TRAINED_BY)
    return in_order({key: value for key, value in recipe.canonical().items() if key in whole}, whole)
