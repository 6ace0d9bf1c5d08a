"""How far a job is, in a file beside its log: `train.log` has `train.progress.json`.

Whoever waits for the job reads it: the display of the run, `snakemake status`, on any machine that sees the folder. It
is there while the job runs, is removed when the job has ended well, and stays, with the error, when it has failed.

Reporting costs about a microsecond, so that it may happen for every batch: a thread writes the file, once a second. It
is not synced, unlike all results: a power cut may take it, and a slow disk must not slow a training down.
"""

import contextlib
import dataclasses
import json
import math
import os
import signal
import socket
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from cloudseg.errors import UserError

Item = TypeVar("Item")

INTERVAL = 1.0  # seconds between two writes, and the least between two that the pace is taken from
STEPS = 100  # that the pace is the median of
LONGEST_ERROR = 2000  # characters
LARGEST = 100_000  # bytes of a progress file that are read
SUFFIX = ".progress.json"
VARIABLE = "CLOUDSEG_PROGRESS"  # the log of the job, for the processes that train together


@dataclasses.dataclass(frozen=True)
class JobProgress:
    """What a job said of itself.

    Parameters
    ----------
    log : its log.
    host, process : where it runs.
    begun, updated : seconds since the epoch, by the clock of its machine.
    done, total, unit : how far it is, such as 4.3 of 10 epochs; `total` is 0 while that is not known.
    seconds_left : from the median of what it has done itself; None while that is not known.
    facts : numbers by name: `dice`, `best_dice`, `loss`, `images_per_second`.
    error : why it failed; None for a job that runs, or was killed.
    """

    log: str
    host: str
    process: int
    begun: float
    updated: float
    done: float
    total: float
    unit: str
    seconds_left: float | None
    facts: dict[str, Any]
    error: str | None


def progress_path(log: str | Path) -> Path:
    """Return the progress file of a job.

    Examples
    --------
    >>> progress_path("results/demo/logs/check/train.log").name
    'train.progress.json'
    """
    return Path(log).with_suffix(SUFFIX)


def read_progress(path: str | Path) -> JobProgress | None:
    """Read a progress file; None for one that is not there or not whole, or holds what no job wrote."""
    try:
        with Path(path).open("rb") as file:
            content = json.loads(file.read(LARGEST))
        return JobProgress(
            **{name: str(content[name]) for name in ("log", "host", "unit")},
            **{name: float(_finite_number(content[name])) for name in ("begun", "updated", "done", "total")},
            process=int(content["process"]),
            seconds_left=None if content["seconds_left"] is None else float(_finite_number(content["seconds_left"])),
            facts={name: None if value is None else _finite_number(value) for name, value in content["facts"].items()},
            error=None if content["error"] is None else str(content["error"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _finite_number(value: Any) -> float:
    """Return a number that readers can compute with."""
    if not math.isfinite(value):
        raise ValueError(value)
    return value


@contextlib.contextmanager
def reporting(log: str | Path) -> Iterator[None]:
    """Keep the progress file of a job while the block runs.

    Parameters
    ----------
    log : the job's, whose last line is the error of a job that prints why it fails and exits.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with contextlib.suppress(ValueError), reporting(f"{folder}/a.log"):
    ...         report(1, 4, "images")
    ...         raise ValueError("no number")
    ...     left = read_progress(f"{folder}/a.progress.json")
    >>> left.done, left.total, left.unit, left.error
    (1.0, 4.0, 'images', 'ValueError: no number')
    """
    global _job
    _job = job = _Job(Path(log))
    os.environ[VARIABLE] = str(log)
    job.begin()
    try:
        yield
    except BaseException as error:
        job.fail(_in_words(error, Path(log)))
        raise
    else:
        job.end()
    finally:
        _job = None
        os.environ.pop(VARIABLE, None)


def report(done: float, total: float, unit: str, **facts: Any) -> None:
    """Say how far this job is; outside of a job nothing happens.

    Parameters
    ----------
    done, total : units, such as 4.3 of 10 epochs. Less than before means that the job began anew.
    unit : `epochs`, `images`.
    facts : numbers by name, beside those that were given before.
    """
    if (job := _current()) is not None:
        job.update(done, total, unit, facts)


def fail(why: str) -> None:
    """Leave an error in the progress file of this job, which is about to be ended."""
    if _job is not None:
        _job.fail(why)


@contextlib.contextmanager
def counting(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more units are done: for the job's progress, and for a bar on a terminal.

    Examples
    --------
    >>> with counting(3, "images") as count:
    ...     for _ in range(3):
    ...         count(1)
    """
    with _bar(total, unit) as advance:
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            advance(more)
            report(done, total, unit)

        report(0, total, unit)
        yield count


def counted(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Yield items, and count each as a unit that is done when the next is asked for.

    Examples
    --------
    >>> list(counted("ab", 2, "images"))
    ['a', 'b']
    """
    with counting(total, unit) as count:
        for item in items:
            yield item
            count(1)


@contextlib.contextmanager
def _bar(total: int, unit: str) -> Iterator[Callable[[int], Any]]:
    if not sys.stderr.isatty():  # a job's goes to its log
        yield lambda more: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {unit}") as bar:
        yield bar.update


class Pace:
    """How long a unit takes, from the units that this process has done.

    Parameters
    ----------
    whole : whether whole units count as soon as there is one: epochs have their validation at the end.

    Examples
    --------
    >>> pace = Pace(whole=False)
    >>> for second in range(8):
    ...     pace.add(2.0 * second, 100 + 5 * second)  # 100 were there already
    >>> pace.seconds_per_unit()
    0.4
    """

    def __init__(self, *, whole: bool) -> None:
        self._counts_whole = whole
        self._begin(0.0, math.inf)

    def _begin(self, ran: float, done: float) -> None:
        self._last = self._last_whole = ran, done
        self._steps: deque[float] = deque(maxlen=STEPS)
        self._whole: deque[float] = deque(maxlen=STEPS)

    def add(self, ran: float, done: float) -> None:
        """Note how far the job is after so many seconds in which it ran."""
        then, before = self._last
        if done < before:
            self._begin(ran, done)
        elif done > before and ran - then >= INTERVAL:
            self._steps.append((ran - then) / (done - before))
            self._last = ran, done
        then, before = self._last_whole
        if self._counts_whole and math.floor(done) > before:
            if before == math.floor(before):
                self._whole.append((ran - then) / (math.floor(done) - before))
            self._last_whole = ran, math.floor(done)

    def seconds_per_unit(self) -> float | None:
        """Return the median; None before anything was done."""
        steps = self._whole or self._steps
        return statistics.median(steps) if steps else None


class _Job:
    """The job of this process, or of the one that started it."""

    def __init__(self, log: Path) -> None:
        self._log, self._path = log, progress_path(log)
        self.process = os.getpid()
        now = time.time()
        self._progress = JobProgress(str(log), socket.gethostname(), self.process, now, now, 0, 0, "", None, {}, None)
        self._pace, self._facts = Pace(whole=False), dict[str, Any]()
        self._changed, self._ended = False, threading.Event()
        self._ran, self._looked = 0.0, time.monotonic()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Replace what an earlier attempt left."""
        self._write(self._progress)
        self._start()

    def join(self) -> None:
        """Go on with the file of the job that started this process."""
        if (begun := read_progress(self._path)) is not None:
            self._progress = begun
        self._start()

    def update(self, done: float, total: float, unit: str, facts: dict[str, Any]) -> None:
        if unit != self._progress.unit:
            self._pace = Pace(whole=unit == "epochs")
        self._pace.add(self._seconds_run(), done)
        self._facts |= facts
        self._progress = dataclasses.replace(self._progress, done=float(done), total=float(total), unit=unit)
        self._changed = True

    def end(self) -> None:
        self._stop()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def fail(self, why: str) -> None:
        self._stop()
        # Of several processes another one has reported
        known = self._now() if self._changed else read_progress(self._path) or self._progress
        self._write(dataclasses.replace(known, updated=time.time(), seconds_left=None, error=why))

    def _start(self) -> None:
        threading.Thread(target=self._keep_writing, name="progress", daemon=True).start()

    def _stop(self) -> None:
        self._ended.set()
        self._lock.acquire(timeout=INTERVAL)  # a write on a dead disk would never return

    def _keep_writing(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        while not self._ended.wait(INTERVAL):
            now = time.monotonic()
            # A longer wait means that the process was stopped, as in cloudseg.runtime.watchdog
            self._ran += min(now - self._looked, 2 * INTERVAL)
            self._looked = now
            if self._changed:
                with self._lock:
                    if self._ended.is_set():
                        return
                    self._changed = False
                    self._write(self._now())

    def _seconds_run(self) -> float:
        return self._ran + min(time.monotonic() - self._looked, 2 * INTERVAL)

    def _now(self) -> JobProgress:
        progress, pace = self._progress, self._pace.seconds_per_unit()
        facts = dict(self._facts)
        if pace and progress.unit == "images":
            facts.setdefault("images_per_second", round(1 / pace, 3))
        left = None if pace is None else round(pace * max(0, progress.total - progress.done), 1)
        return dataclasses.replace(progress, updated=time.time(), facts=facts, seconds_left=left)

    def _write(self, progress: JobProgress) -> None:
        content = dataclasses.asdict(progress)
        content["facts"] = {name: _finite(value) for name, value in progress.facts.items()}
        new = self._path.with_name(f".{self._path.name}.new")
        with contextlib.suppress(OSError):  # a job does not fail because nobody can watch it
            new.write_text(json.dumps(content) + "\n", encoding="utf-8")
            new.replace(self._path)


_job: _Job | None = None


def _current() -> _Job | None:
    """Return the job of this process; in one that a job started, such as a rank, that job."""
    global _job
    if (_job is None or _job.process != os.getpid()) and VARIABLE in os.environ:
        _job = _Job(Path(os.environ[VARIABLE]))
        _job.join()
    return _job


def _finite(value: Any) -> Any:
    """Return a value that JSON can hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _in_words(error: BaseException, log: Path) -> str:
    """Return the message of an error; of a job that printed it and exits, that one's, or the last line of its log."""
    if isinstance(error, SystemExit) and error.__context__ is not None:
        error = error.__context__
    if isinstance(error, SystemExit):
        with contextlib.suppress(OSError):
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line for line in reversed(lines) if line.strip()), "")[:LONGEST_ERROR]
    message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return message[:LONGEST_ERROR]
