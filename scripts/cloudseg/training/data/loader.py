"""Load batches of samples, and say which image was being read when this fails, dies or stands still."""

import atexit
import contextlib
import itertools
import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from cloudseg.runtime.background import with_context
from cloudseg.runtime.logs import tell
from cloudseg.runtime.watchdog import STUCK_AFTER, tick_of
from cloudseg.training.data.dataset import quiet_worker
from cloudseg.training.data.sampler import Key

Pair = tuple[torch.Tensor, torch.Tensor]

PID, PLACE, READING = range(3)  # what a worker notes: who it is, its last sample, and whether it is still on it

QUEUES = 2**20  # bytes of shared memory, ample for the queues, locks and notes of a loader's workers
PREFETCH = 2  # batches that each worker loads ahead, as many as torch's own loader
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
NO_SHARED_MEMORY = "allocate shared memory", "No space left on device"  # torch has no class for it
MORE_SHARED_MEMORY = (
    "set `workers: 0` or fewer than now, or give the container more (`docker run --shm-size=1g`; in Kubernetes an "
    "emptyDir with `medium: Memory` at /dev/shm)"
)


class Loader:
    """BatchSampler of images and masks, as pairs of tensors, one pass after another.

    The batches do not depend on the number of workers, and no pass draws from torch's random state.

    Parameters
    ----------
    samples : by (epoch, index), such as :class:`cloudseg.training.data.dataset.SegmentationDataset`;
        ``samples.name(index)`` says which image that is, and of which store.
    batches : lists of keys; gone through anew in each pass.
    workers : loader processes, which live until the loader goes; 0 loads in this process. Fewer are started, and it is
        said, where the shared memory that batches come through has no room for theirs.
    device : where the batches will go.
    ranks : processes of this job that load at the same time.
    stuck_after : seconds to wait for a batch, in the main thread of a process; those in which the process is stopped
        do not count.

    Raises
    ------
    ValueError : for an image that cannot be read or augmented, in the words of the store, and its name.
    RuntimeError : for any other error of a sample, a worker that died (wherever the main thread is at that moment)
        and workers that stand still, with the name of the image. All workers are then ended.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> class Squares:
    ...     def name(self, index):
    ...         return f"square {index}"
    ...
    ...     def __len__(self):
    ...         return 3
    ...
    ...     def __getitem__(self, key):
    ...         return torch.tensor(key[1] ** 2), torch.tensor(0 // (2 - key[1]))
    >>> loader = Loader(Squares(), [[(0, 0), (0, 1)], [(0, 2)]], 0, "cpu")
    >>> len(loader)
    2
    >>> for image, mask in loader:
    ...     print(image.tolist())
    Traceback (most recent call last):
    RuntimeError: square 2: ZeroDivisionError: integer division or modulo by zero
    """

    def __init__(
        self,
        samples: Any,
        batches: Iterable[list[Key]],
        workers: int,
        device: str | torch.device,
        *,
        ranks: int = 1,
        stuck_after: float = STUCK_AFTER,
    ) -> None:
        workers = _workers_with_room(samples, batches, workers, ranks)
        self._samples = samples
        self._workers, self._stuck_after = workers, stuck_after
        self._watched = _Watched(samples, workers)
        self._failure: RuntimeError | None = None
        self._ended = False
        self._loader = DataLoader(
            self._watched,
            batch_sampler=batches,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.device(device).type == "cuda",
            worker_init_fn=_begin,
            collate_fn=_collated,
            generator=torch.Generator(),  # else each pass draws a number from the state that dropout uses
        )

    def __len__(self) -> int:
        """Return the number of batches of a pass."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Pair]:
        """Yield the batches of one pass."""
        batches = None
        while True:
            if self._failure is not None:  # raised before, where nobody could catch it
                raise self._failure from self._failure.__cause__
            try:
                with _alarm(self._stuck_after):
                    if batches is None:
                        batches = iter(self._loader)
                        if self._workers:
                            _watch(self)
                    pair = next(batches, None)
            except (RuntimeError, OSError, EOFError) as error:
                self._explain(error)
                raise
            if pair is None:
                return
            if isinstance(pair, Exception):
                raise pair
            yield pair

    def _explain(self, error: Exception) -> None:
        """Raise what an error of torch's means for the images, if it is about the workers."""
        if self._failure is not None:
            raise self._failure from self._failure.__cause__
        if isinstance(error, EOFError | ConnectionError):
            time.sleep(1)  # the death of the worker that broke the connection is told in a moment
        if dead := self._dead():
            reason = "; ".join(f"worker {note[PID]}, {self._doing(note)}, died" for note in dead)
            reason += f" ({str(error).strip()})"
            advice = "a library crashed, and what it said stands in the output of Snakemake"
            if "Bus error" in str(error):
                advice = f"most often {SHARED_MEMORY} has no room for a batch: {MORE_SHARED_MEMORY}"
            if "Killed" in str(error):
                advice = "most often the memory of the machine or of the job ran out: lower `workers`, or ask for more"
        elif isinstance(error, TimeoutError) and self._workers:
            doing = "; ".join(f"worker {note[PID]}, {self._doing(note)}" for note in self._notes())
            reason = f"no batch came in {self._stuck_after:g} s: {doing}"
            advice = "check that the disk answers, then run the job again"
        elif self._workers and any(words in str(error) for words in NO_SHARED_MEMORY):
            free = _free_shared_memory()
            left = "" if free is None else f", {free / 2**20:.0f} MiB of which are free now"
            reason = f"no room for a batch of {self._workers} loader processes in {SHARED_MEMORY}{left}"
            advice = MORE_SHARED_MEMORY
        else:
            return
        self._failure = RuntimeError(f"{reason}; {advice}")
        self._end_workers()
        _abandoned.append(self._loader)
        raise self._failure from error

    def _doing(self, note: list[int]) -> str:
        if note[PLACE] < 0:
            return "before it read an image"
        return f"{'while' if note[READING] else 'after'} it read {self._samples.name(note[PLACE])}"

    def _notes(self) -> list[list[int]]:
        return [note for note in self._watched.notes.tolist() if note[PID]]

    def _dead(self) -> list[list[int]]:
        alive = {process.pid for process in multiprocessing.active_children()}
        return [note for note in self._notes() if note[PID] not in alive]

    def _end_workers(self) -> None:
        self._ended = True
        pids = {note[PID] for note in self._notes()}
        for process in multiprocessing.active_children():
            if process.pid in pids:
                process.kill()  # one that is stopped does not hear SIGTERM


def _workers_with_room(samples: Any, batches: Iterable[list[Key]], workers: int, ranks: int) -> int:
    """Return how many workers there is shared memory for, and say so where these are fewer than are wanted.

    The batches do not depend on it, and a container has 64 MB of it unless it is told otherwise.
    """
    free = _free_shared_memory()
    if not workers or free is None or not hasattr(samples, "nbytes"):
        return workers
    batch = samples.nbytes * max(map(len, batches), default=0)
    # Those that are loaded ahead, the one that is used and the next, which its worker is still writing
    needs = [ranks * (batch * (PREFETCH * number + 2) + QUEUES) if number else 0 for number in range(workers + 1)]
    room = [number for number, need in enumerate(needs) if need <= free]
    if max(room) < workers:
        text = (
            f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB free, and the batches of {workers} loader processes"
            f"{f' for each of {ranks} devices' if ranks > 1 else ''} may take {needs[-1] / 2**20:.0f} MiB: loading "
            f"with {max(room) or 'none of them, in the training process'}; the weights will be the same. For all of "
            "them give the container more (`docker run --shm-size=1g`)"
        )
        tell(text)
    return max(room)


def _free_shared_memory() -> int | None:
    """Return the free bytes of the file system through which processes share tensors; None where there is none."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


class _Watched(Dataset):
    """Samples whose errors are returned, with their names; each worker notes what it is on."""

    def __init__(self, samples: Any, workers: int) -> None:
        self._samples = samples
        self.notes = torch.zeros((max(1, workers), 3), dtype=torch.int64)
        if workers:
            self.notes.share_memory_()
        self._own: np.ndarray | None = None

    def begin(self, worker: int) -> None:
        self._own = self.notes[worker].numpy()
        self._own[:] = os.getpid(), -1, False

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: Key) -> Pair | Exception:
        if self._own is not None:
            self._own[PLACE:] = key[1], True
        try:
            return self._samples[key]
        except Exception as error:
            # Returned, since torch makes a message of the whole traceback of what a worker raises
            told = with_context(self._samples.name(key[1]), error)
            told.__cause__ = error
            if self._own is not None:  # the cause stays behind in the worker
                told.add_note("".join(traceback.format_exception(error)))
            return told
        finally:
            if self._own is not None:
                self._own[READING] = False


def _collated(samples: list[Pair | Exception]) -> Pair | Exception:
    return next((each for each in samples if isinstance(each, Exception)), None) or default_collate(samples)


def _begin(worker: int) -> None:
    quiet_worker(worker)
    get_worker_info().dataset.begin(worker)


_watched_loaders: "weakref.WeakSet[Loader]" = weakref.WeakSet()
_abandoned: list[DataLoader] = []  # kept, since torch would end their workers by locks that a dead one may still hold
_handler_of_torch: Any = None


def _watch(loader: Loader) -> None:
    """Have the death of a worker explained wherever the main thread is: torch raises it in the middle of a step."""
    global _handler_of_torch
    _watched_loaders.add(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    if callable(handler) and handler is not _child_changed and threading.current_thread() is threading.main_thread():
        _handler_of_torch = handler
        signal.signal(signal.SIGCHLD, _child_changed)
        # At exit before torch and multiprocessing, which wait for workers and call it a failure when one is ended
        atexit.register(_end_all_workers)


def _child_changed(number: int, frame: FrameType | None) -> None:
    try:
        _handler_of_torch(number, frame)
    except RuntimeError as error:
        struck = [loader for loader in _watched_loaders if loader._dead()]
        for loader in struck:
            if not loader._ended:
                loader._explain(error)
        if not struck:  # of somebody else's loader; those that were ended here are no news
            raise


def _end_all_workers() -> None:
    for loader in _watched_loaders:
        loader._end_workers()


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer while this process runs, in the main thread.

    A timeout of torch's does not cover all of its waiting: to open a batch it asks the worker, which may be stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    # Short alarms are counted: of all that fall into the time in which a process is stopped, it hears one
    tick = tick_of(seconds)
    rings, last = itertools.count(1), math.ceil(seconds / tick)

    def ring(number: int, frame: FrameType | None) -> None:
        if next(rings) == last:
            raise TimeoutError(f"nothing came in {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, ring)
    left = signal.setitimer(signal.ITIMER_REAL, tick, tick)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)
        signal.signal(signal.SIGALRM, handler)
