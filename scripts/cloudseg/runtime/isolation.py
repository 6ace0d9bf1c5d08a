"""Call a function in a process of its own, and limit the memory of a process.

A call in a process of its own starts with an empty allocator, and one that runs out of memory ends nothing else.
"""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from cloudseg.errors import MachineError, OutOfMemoryError
from cloudseg.runtime.processes import end_with_parent

# Signals that mean out of memory: a failed allocation that nobody checked, or the kernel's OOM killer
OUT_OF_MEMORY_SIGNALS = signal.SIGABRT, signal.SIGBUS, signal.SIGKILL, signal.SIGSEGV


@contextlib.contextmanager
def isolated(work: Callable[..., Any], **settings: Any) -> Iterator[Callable[..., Any]]:
    """Yield a function that calls ``work(*arguments, **settings)`` in a new process each time.

    The processes are forked from a fork server that has imported torch and never computed: an import for each would
    take seconds, and neither OpenMP nor CUDA survives a fork once it has computed. None outlives this process.

    Parameters
    ----------
    work : a function that another process can import.
    settings : its keyword arguments, the same for all calls.

    Yields
    ------
    function : returns what ``work`` returns and raises what it raises, with its traceback as a note. It raises
        OutOfMemoryError when one of ``OUT_OF_MEMORY_SIGNALS`` ended the process, and RuntimeError when it exited
        without a result.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(os.getpid(), theirs, work, settings))
    server.start()
    theirs.close()

    def call(*arguments: Any) -> Any:
        try:
            ours.send(arguments)
            result, error = ours.recv()
        except (EOFError, OSError):
            server.join()
            raise RuntimeError(f"the fork server ended with exit code {server.exitcode}") from None
        if error is not None:
            raise error
        return result

    try:
        yield call
    finally:
        server.kill()
        server.join()
        ours.close()


def _serve(parent: int, pipe: Connection, work: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Start a process for each set of arguments that comes, and send back its result and its error."""
    end_with_parent(parent)
    context = multiprocessing.get_context("fork")
    with contextlib.suppress(EOFError):
        while True:
            arguments = pipe.recv()
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(os.getpid(), sender, work, arguments, settings))
            process.start()
            sender.close()
            with receiver:
                try:
                    outcome = receiver.recv()
                except EOFError:
                    outcome = None
            process.join()
            pipe.send((None, _error_of(process.exitcode)) if outcome is None else outcome)


def _work(
    parent: int, pipe: Connection, work: Callable[..., Any], arguments: Sequence[Any], settings: Mapping[str, Any]
) -> None:
    """Run ``work`` in a forked process, and send back its result and its error."""
    end_with_parent(parent)
    warnings.simplefilter("ignore")  # every call would repeat those of a training
    try:
        outcome = work(*arguments, **settings), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        outcome = None, error
    pipe.send(outcome)


def _error_of(code: int) -> Exception:
    """Return the error for a process that ended without sending a result."""
    if -code in OUT_OF_MEMORY_SIGNALS:
        return OutOfMemoryError(f"the process was ended by {signal.Signals(-code).name}")
    return RuntimeError(f"a forked process ended with exit code {code} and no error")


@contextlib.contextmanager
def memory_limit(device: torch.device, memory: int | None) -> Iterator[None]:
    """Limit the memory that this process takes while the block runs.

    Parameters
    ----------
    device : on CUDA torch's allocator keeps the limit; on the CPU the kernel does, above what the process holds.
    memory : MiB; None sets no limit.

    Raises
    ------
    MachineError : for a limit on the CPU of another system than Linux.

    Examples
    --------
    >>> with memory_limit(torch.device("cpu"), 100):
    ...     _ = torch.zeros(2**28)
    Traceback (most recent call last):
    RuntimeError: ...can't allocate memory...
    """
    if memory is None:
        yield
    elif device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory * 2**20 / total), device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    else:
        # RLIMIT_DATA counts what can be written to; RLIMIT_AS would also count the addresses that allocators and
        # libraries reserve
        limits = resource.getrlimit(resource.RLIMIT_DATA)
        soft = _kibibytes("/proc/self/status", "VmData") * 2**10 + memory * 2**20
        soft = min([soft, *(each for each in limits if each != resource.RLIM_INFINITY)])
        resource.setrlimit(resource.RLIMIT_DATA, (soft, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, limits)


def available_memory() -> int:
    """Return the MiB of this machine that programs may still take (Linux).

    Raises
    ------
    MachineError : on another system.
    """
    return _kibibytes("/proc/meminfo", "MemAvailable") // 2**10


def _kibibytes(path: str, key: str) -> int:
    """Return the value of a key in a file of /proc, in KiB."""
    if sys.platform != "linux":
        raise MachineError("on the CPU the memory can be probed on Linux alone; probe on a GPU (`device: cuda`)")
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
