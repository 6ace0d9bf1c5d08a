"""Several processes that train one network together, each on a device of its own; they are numbered by ranks."""

import contextlib
import datetime
import faulthandler
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

from cloudseg.runtime.devices import ran_out_of_memory
from cloudseg.runtime.job_watchdog import not_watched
from cloudseg.runtime.processes import cpu_seconds, end_with_parent, state_of
from cloudseg.runtime.watchdog import IDLE, STUCK_AFTER, tick_of
from cloudseg.training.modes import evaluating
from cloudseg.training.signals import exiting_on_signal

OUT_OF_MEMORY = 12  # the exit code of a process whose device has no memory left (ENOMEM)
RANKS_STUCK_AFTER = STUCK_AFTER + 300
"""Seconds without a step of any rank; the one that waits for a file has the time to say for which."""
HOPELESS = 4  # times as long, even ranks that compute stand still: NCCL computes while it waits
# Of torch's collectives. They look at the wall clock, which goes on while a job is stopped, so `_Steps` decides instead
NO_TIMEOUT = datetime.timedelta(days=365)
FAILED = "failed"  # in the folder of a group: the rank that failed first, as a link's target
STACK = signal.SIGUSR1  # has a rank write down where it stands
GRACE = 10  # seconds that a rank has to end by itself when another has failed


class ProcessGroup:
    """The rank of this process among those that train one network, and the collectives that they share.

    Parameters
    ----------
    rank : from 0; rank 0 alone writes files.
    size : how many there are; 1 for a process that trains alone, which then has nobody to talk to.
    device : on which this process computes.
    steps : of each rank, shared by all; None where nobody counts them.

    Examples
    --------
    >>> ProcessGroup(0, 1, torch.device("cpu")).sum(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """

    def __init__(self, rank: int, size: int, device: torch.device, steps: Any = None) -> None:
        self.rank, self.size, self.device = rank, size, device
        self._steps = steps

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and says how it goes."""
        return self.rank == 0

    def print_main(self, text: str) -> None:
        """Print a line, once for all."""
        if self.is_main:
            print(text, flush=True)

    def count_step(self) -> None:
        """Note that this process goes on, for whoever watches the ranks."""
        if self._steps is not None:
            self._steps[self.rank] += 1

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all ranks, the same bits on each."""
        values = values.to(self.device)  # NCCL sums what lies on its devices alone
        if self.size > 1:
            distributed.all_reduce(values)
        self.count_step()
        return values

    def gather_rows(self, values: torch.Tensor, places: slice, count: int) -> torch.Tensor:
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

    def wrap_ddp(self, model: nn.Module, image: torch.Tensor) -> nn.Module:
        """Return a network whose gradients are averaged over the ranks as they are computed.

        Encoders have layers that some decoders, or none, look at: an image (N, channels, H, W) shows which.
        """
        if self.size == 1:
            return model
        with evaluating(model):  # which changes no statistics and draws no random numbers
            _sum(model(image)).backward()
            learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
            unused = any(parameter.grad is None for parameter in learning)
            ddp_model = nn.parallel.DistributedDataParallel(
                model, find_unused_parameters=unused, forward_sync_buffers=False
            )
            # The first pass decides which gradients are summed together: none of the training's may be the first, else
            # a resumed one would add up its first step in another order
            _sum(ddp_model(image)).backward()
        model.zero_grad()
        return ddp_model


def _sum(outputs: Any) -> torch.Tensor:
    """Return the sum of all that a network gives: masks, classes, or both."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum(output.sum() for output in outputs if output is not None)


SINGLE = ProcessGroup(0, 1, torch.device("cpu"))


def run_together(
    work: Callable[..., None],
    size: int,
    device: torch.device,
    *,
    stuck_after: float = RANKS_STUCK_AFTER,
    **job: Any,
) -> None:
    """Run a function in several processes at once, ``work(group=..., **job)``, and end them all when one fails.

    They print to where this process prints, and never outlive it.

    Parameters
    ----------
    work : of a module, so that another process can import it.
    size : processes; on CUDA each has the device of its number, on the CPU they share it.
    device : its type counts.
    stuck_after : seconds in which no rank calls :meth:`ProcessGroup.count_step` and none computes; those in which this
        process is stopped do not count.
    job : what can be pickled.

    Raises
    ------
    torch.OutOfMemoryError : if the memory of a device was not enough for one of them.
    RuntimeError : if one failed or was killed (what it said stands above, in the log), or all stand still.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    steps = context.RawArray("q", size)
    with tempfile.TemporaryDirectory() as folder, not_watched():  # but by `_Steps`
        common = work, size, device, os.getpid(), Path(folder), steps, job
        processes = [context.Process(target=_run_one, args=(rank, *common)) for rank in range(size)]
        try:
            with exiting_on_signal(lambda: f"stopping {size} processes"):
                with _printing_as_here():
                    for process in processes:
                        process.start()
                failed = _first_to_fail(processes, Path(folder), _Steps(processes, steps, stuck_after))
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


class _Steps:
    """Watches whether ranks make steps, by the time in which this process runs.

    A rank that is stopped alone is found, since the others wait for it in their next step. A job that is stopped as a
    whole is not late when it goes on, whatever the clock says: nobody looked in the meantime.
    """

    def __init__(self, processes: list, counts: Any, stuck_after: float) -> None:
        self._processes, self._counts, self._stuck_after = processes, counts, stuck_after
        self.tick = tick_of(stuck_after)
        self._before: tuple[int, ...] = ()
        self._still = 0.0
        self._computed: float | None = None  # seconds, halfway to being stuck

    def look(self, passed: float) -> None:
        """Raise RuntimeError if there was no step for too long; ``passed`` seconds after the last look."""
        counts = *self._counts, sum(process.is_alive() for process in self._processes)
        if counts != self._before:
            self._before, self._still, self._computed = counts, 0.0, None
            return
        self._still += min(passed, 2 * self.tick)
        # Until all have made their first, they import torch and read what the training begins with
        limit = self._stuck_after if all(self._counts) else max(self._stuck_after, RANKS_STUCK_AFTER)
        if self._computed is None and self._still >= limit / 2:
            self._computed = self._computing()
        if self._still >= limit and (self._stopped() or self._idle(limit / 2) or self._still >= HOPELESS * limit):
            raise RuntimeError(self._in_words())

    def _alive(self) -> dict[int, int]:
        """Return the process of each rank that runs."""
        return {rank: process.pid for rank, process in enumerate(self._processes) if process.is_alive()}

    def _stopped(self) -> list[int]:
        return [rank for rank, pid in self._alive().items() if state_of(pid) in ("T", "t")]

    def _computing(self) -> float:
        return sum(cpu_seconds(pid) for pid in self._alive().values())

    def _idle(self, seconds: float) -> bool:
        """Whether no rank computed in the last seconds, as one that compiles its network does."""
        return self._computing() - self._computed < IDLE * seconds

    def _in_words(self) -> str:
        alive = self._alive()
        still = f"no rank of {len(self._processes)} made a step in {self._still:.0f} s"
        if stopped := self._stopped():
            who = ", ".join(f"rank {rank} (process {alive[rank]})" for rank in stopped)
            return f"{still}: {who} is stopped, and the others wait for it; stop and continue all of a job at once"
        for pid in alive.values():  # one after the other: they write to one file
            os.kill(pid, STACK)
            time.sleep(0.5)
        fewest = min(self._counts[rank] for rank in alive)
        behind = ", ".join(f"{rank} (process {pid})" for rank, pid in alive.items() if self._counts[rank] == fewest)
        return f"{still}; the fewest are those of rank {behind}; where each of them is stands above, in the log"


def _first_to_fail(processes: list, folder: Path, steps: _Steps) -> tuple[int, int] | None:
    """Wait until all have ended well, or one has not; return its rank and its exit code."""
    waiting = {process.sentinel: process for process in processes}
    while waiting:
        began = time.monotonic()
        ended = [waiting.pop(sentinel) for sentinel in connection.wait(list(waiting), steps.tick)]
        steps.look(time.monotonic() - began)
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
    rank: int,
    work: Callable[..., None],
    size: int,
    device: torch.device,
    parent: int,
    folder: Path,
    steps: Any,
    job: dict,
) -> None:
    """Be one rank."""
    end_with_parent(parent)
    faulthandler.register(STACK)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    device = torch.device(device.type, rank) if device.type == "cuda" else device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if sys.platform == "linux":  # they are on one machine: no other network has to be there
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    os.environ.setdefault("TORCH_NCCL_ENABLE_MONITORING", "0")  # it ends what was stopped for eight minutes
    try:
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=(folder / "meeting").absolute().as_uri(),
            rank=rank,
            world_size=size,
            timeout=NO_TIMEOUT,
        )
        work(group=ProcessGroup(rank, size, device, steps), **job)
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
