"""Train on the devices that there are, with smaller micro-batches where their memory is not enough."""

import torch

from cloudseg.config.batching import halved
from cloudseg.errors import DeviceError, OutOfMemoryError
from cloudseg.runtime.devices import ran_out_of_memory
from cloudseg.training.distributed import ProcessGroup, run_together
from cloudseg.training.job import MicroBatch, TrainingJob
from cloudseg.training.state_file import state_file_of
from cloudseg.training.train import train


def train_with_oom_retry(job: TrainingJob, device: str | torch.device) -> None:
    """Train a network, and begin anew with half as many images at once when a device has no more memory.

    Of half the images the gradient is summed twice as often before each step. That is a different training, since
    BatchNorm and the losses over a batch see fewer images: it begins anew, and ``run.json`` says so.

    Parameters
    ----------
    job : the training. One that was stopped goes on with as many images at once as its state says.
    device : where to compute, as of :func:`cloudseg.runtime.devices.select_device`; with ``gpus`` above 1 in the
        recipe as many of its type, the first of those that this process sees.

    Raises
    ------
    DeviceError : if there are fewer devices than ``gpus``.
    OutOfMemoryError : if there is memory for fewer than two images.
    RuntimeError : if one of several processes failed.
    """
    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.device_count() < job.gpus:
        raise DeviceError(
            f"the recipe asks for gpus: {job.gpus}, and this job was granted {torch.cuda.device_count()}; allow as "
            f"many (`--resources gpu={job.gpus}`) or lower `gpus`"
        )
    micro_batch = _begun(job, device) or MicroBatch.of(job.recipe)
    while True:
        try:
            if job.gpus > 1:
                run_together(train, job.gpus, device, job=job, micro_batch=micro_batch)
            else:
                train(job, ProcessGroup(0, 1, device), micro_batch)
            return
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        # Below the handler: the traceback of the error keeps all that the training held
        micro_batch = _halved(job, device, micro_batch, reason)


def _begun(job: TrainingJob, device: torch.device) -> MicroBatch | None:
    """Return the micro-batch of a training that was stopped."""
    state_file = state_file_of(job, device)
    state = state_file.read(lambda line: None)  # the training itself will print it
    state_file.close()
    return MicroBatch(state["at_once"], tuple(state["too_much"])) if state else None


def _halved(job: TrainingJob, device: torch.device, micro_batch: MicroBatch, reason: str) -> MicroBatch:
    """Return a micro-batch of half the size, and free what the device holds."""
    batch, size = job.recipe.batch, micro_batch.size
    half = halved(batch, job.gpus, size)
    if half is None:
        raise OutOfMemoryError(
            f"{device}: not enough memory for a batch of {batch} on {job.gpus} device(s) with {size} "
            f"images at once ({reason}); choose a smaller size or network, or leave it more memory"
        )
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    print(
        f"{device}: not enough memory for {size} images at once ({reason}); beginning anew with {half}, a "
        "different training: see `batch` in run.json",
        flush=True,
    )
    return MicroBatch(half, (*micro_batch.oom_sizes, size))
