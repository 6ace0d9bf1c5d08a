"""Several processes that train one network together, each on a device of its own; they are numbered by ranks."""

import contextlib
import datetime
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from cloudseg.background import STUCK_AFTER
from cloudseg.network.devices import ran_out_of_memory
from cloudseg.network.resume import leaving_on_signal
from cloudseg.processes import end_with_parent

OUT_OF_MEMORY = 12  # the exit code of a process whose device has no memory left (ENOMEM)
# For what the ranks say to each other: the one that is stuck must have the time to say with which file
TIMEOUT = datetime.timedelta(seconds=STUCK_AFTER + 300)
FAILED = "failed"  # in the folder of a team: the rank that failed first, as a link's target
GRACE = 10  # seconds that a rank has to end by itself when another has failed


class Team:
    """This process's place among those that train one network, and what they tell each other.

    Parameters
    ----------
    rank : from 0; rank 0 alone writes files.
    size : how many there are; 1 for a process that trains alone, which then has nobody to talk to.
    device : on which this process computes.

    Examples
    --------
    >>> Team(0, 1, torch.device("cpu")).sum(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        """Know one's place."""
        self.rank, self.size, self.device = rank, size, device

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and says how it goes."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print a line, once for all."""
        if self.leads:
            print(text, flush=True)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all ranks, the same bits on each."""
        values = values.to(self.device)  # NCCL sums what lies on its devices alone
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def collect(self, values: torch.Tensor, places: slice, count: int) -> torch.Tensor:
        """Put the rows of all ranks into one tensor of ``count`` rows, each rank's at its ``places``."""
        whole = values.new_zeros(count, *values.shape[1:])
        whole[places] = values
        return self.sum(whole)

    def average_buffers(self, model: nn.Module) -> None:
        """Give all ranks the mean of their buffers: the statistics of BatchNorm, which each has of its own images."""
        if self.size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    distributed.all_reduce(buffer)
                    buffer /= self.size

    def joined(self, model: nn.Module, image: torch.Tensor) -> nn.Module:
        """Return a network whose gradients are averaged over the ranks as they are computed.

        Encoders have layers that some decoders, or none, look at: an image (N, channels, H, W) shows which.
        """
        if self.size == 1:
            return model
        model.eval()  # which changes no statistics and draws no random numbers
        model(image).sum().backward()
        unused = any(parameter.grad is None for parameter in model.parameters())
        joined = nn.parallel.DistributedDataParallel(model, find_unused_parameters=unused, forward_sync_buffers=False)
        # The first pass decides which gradients are summed together: none of the training's may be the first, else a
        # resumed one would add up its first step in another order
        joined(image).sum().backward()
        model.zero_grad()
        model.train()
        return joined


ALONE = Team(0, 1, torch.device("cpu"))


def run_together(work: Callable[..., None], size: int, device: torch.device, **job: Any) -> None:
    """Run a function in several processes at once, ``work(team=..., **job)``, and end them all when one fails.

    They print to where this process prints, and never outlive it.

    Parameters
    ----------
    work : of a module, so that another process can import it.
    size : processes; on CUDA each has the device of its number, on the CPU they share it.
    device : its type counts.
    job : what can be pickled.

    Raises
    ------
    torch.OutOfMemoryError : if the memory of a device was not enough for one of them.
    RuntimeError : if one failed or was killed; what it said stands above, in the log.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    with tempfile.TemporaryDirectory() as folder:
        common = work, size, device, os.getpid(), Path(folder), job
        processes = [context.Process(target=_run_one, args=(rank, *common)) for rank in range(size)]
        try:
            with leaving_on_signal(lambda: f"stopping {size} processes"):
                with _printing_as_here():
                    for process in processes:
                        process.start()
                failed = _first_to_fail(processes, Path(folder))
        finally:
            _end(processes)
    if failed is not None:
        rank, code = failed
        if code == OUT_OF_MEMORY:
            raise torch.OutOfMemoryError(f"the memory of rank {rank} of {size} was not enough")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else "failed, as it says above"
        raise RuntimeError(f"rank {rank} of {size} {how}; the others were ended")


@contextlib.contextmanager
def _printing_as_here() -> Iterator[None]:
    """Let processes that are started now print to where Python prints here, such as the log of a job."""
    before = {}
    try:
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            with contextlib.suppress(OSError, ValueError):  # a stream without a file, such as that of a notebook
                stream.flush()
                file = stream.fileno()
                before[number] = os.dup(number)
                os.dup2(file, number)
        yield
    finally:
        for number, copy in before.items():
            os.dup2(copy, number)
            os.close(copy)


def _first_to_fail(processes: list, folder: Path) -> tuple[int, int] | None:
    """Wait until all have ended well, or one has not; return its rank and its exit code."""
    waiting = {process.sentinel: process for process in processes}
    while waiting:
        ended = [waiting.pop(sentinel) for sentinel in connection.wait(list(waiting))]
        for process in ended:
            process.join()
        if any(process.exitcode for process in ended):
            codes = {rank: process.exitcode for rank, process in enumerate(processes) if process.exitcode}
            # Who was killed could not say so; the others fail soon after, since it answers no more
            silent = [rank for rank, code in codes.items() if code == OUT_OF_MEMORY or code < 0]
            silent.sort(key=lambda rank: codes[rank], reverse=True)
            first = folder / FAILED
            rank = silent[0] if silent else int(first.readlink().name) if first.is_symlink() else next(iter(codes))
            processes[rank].join(GRACE)
            return rank, processes[rank].exitcode or 1
    return None


def _run_one(
    rank: int, work: Callable[..., None], size: int, device: torch.device, parent: int, folder: Path, job: dict
) -> None:
    """Be one rank."""
    end_with_parent(parent)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    device = torch.device(device.type, rank) if device.type == "cuda" else device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if sys.platform == "linux":  # they are on one machine: no other network has to be there
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    try:
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=(folder / "meeting").absolute().as_uri(),
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
        )
        work(team=Team(rank, size, device), **job)
        distributed.destroy_process_group()
    except Exception as error:
        with contextlib.suppress(FileExistsError):
            (folder / FAILED).symlink_to(str(rank))  # in one step: there, and with the rank
        print(f"rank {rank} of {size}, {device}:", file=sys.stderr)
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(OUT_OF_MEMORY if ran_out_of_memory(error) else 1)  # NCCL would wait for the others on its way out


def _end(processes: list) -> None:
    """End what still runs; ranks that hear a signal say how far they came."""
    processes = [process for process in processes if process.pid is not None]  # all others were never started
    for process in processes:
        if process.is_alive():
            process.terminate()
    deadline = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
