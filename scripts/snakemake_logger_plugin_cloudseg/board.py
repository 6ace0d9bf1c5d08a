"""The jobs of a run: which have ended, how far the running ones are, and how long all of it will take."""

import dataclasses
import threading
import time
from collections.abc import Mapping
from logging import LogRecord
from pathlib import Path
from typing import Any, Self

from cloudseg.runtime.job_progress import JobProgress, progress_path, read_progress
from cloudseg.texts import in_words
from snakemake_logger_plugin_cloudseg.names import job_name, result
from snakemake_logger_plugin_cloudseg.remaining import Running, seconds_left

SETTLED = 3.0  # seconds of a run before which its end cannot be told


@dataclasses.dataclass
class Job:
    """A job that was started.

    Parameters
    ----------
    number : Snakemake's.
    rule, wildcards, outputs : of the job.
    name : what a person calls it.
    message : of the rule, if it has one.
    log : its log; None for a job without.
    remote : whether it runs on a cluster.
    threads : that it was given.
    queued_as : what the cluster calls it.
    """

    number: int
    rule: str
    wildcards: dict[str, str]
    outputs: list[str]
    name: str
    message: str | None
    log: str | None
    remote: bool
    threads: int
    queued_as: str = ""
    started: float = dataclasses.field(default_factory=time.monotonic)
    begun: float | None = None
    ended: float | None = None
    progress: JobProgress | None = None
    heard: float = 0.0
    before: tuple[Any, ...] = ()

    @classmethod
    def of(cls, record: LogRecord) -> Self:
        """Return the job of a record of Snakemake."""
        wildcards = {name: str(value) for name, value in dict(record.wildcards or {}).items()}
        job = cls(
            number=record.jobid,
            rule=record.rule_name,
            wildcards=wildcards,
            outputs=list(record.output),
            name=job_name(record.rule_name, wildcards),
            message=record.rule_msg,
            log=next(iter(record.log), None),
            remote=not record.local,
            threads=record.threads,
        )
        job.before = job._traces()
        if not job.remote:
            job.begun = job.started
        return job

    @property
    def is_to_blame(self) -> bool:
        """Whether it had begun and had not ended well: then its progress file is still there."""
        return self.begun is not None and self.log is not None and progress_path(self.log).exists()

    def look(self) -> None:
        """Read how far the job is."""
        if self.log is None:
            return
        if self.remote and self.begun is None and self._traces() != self.before:
            self.begun = time.monotonic()
        found = read_progress(progress_path(self.log))
        if found is not None and _key(found) != self.before[1]:
            if self.progress is None or found.updated != self.progress.updated:
                self.heard = time.monotonic()
            self.progress = found
        elif found is None and self.progress is not None and not progress_path(self.log).exists():
            self.ended = self.ended or time.monotonic()

    def seconds(self) -> float:
        """Return how long it has run."""
        return 0.0 if self.begun is None else (self.ended or time.monotonic()) - self.begun

    def seconds_left(self) -> float | None:
        """Return how long it will still run, as it said itself."""
        if self.ended is not None:
            return 0.0
        if self.progress is None or self.progress.seconds_left is None:
            return None
        return max(0.0, self.progress.seconds_left - (time.monotonic() - self.heard))

    def line(self) -> str:
        """Return how far it is."""
        if self.begun is None:
            queued = f"queued as {self.queued_as}" if self.queued_as else "queued"
            return f"{self.name}: {queued}, {in_words(time.monotonic() - self.started)}"
        if self.ended is not None:  # and its group goes on
            return self.last_line()
        left = self.seconds_left()
        parts = [_amount(self.progress), _found(self.progress)] if self.progress else []
        parts.append(f"{in_words(self.seconds())} so far" if left is None else f"{in_words(left)} left")
        return f"{self.name}: {', '.join(filter(None, parts))}"

    def state(self) -> tuple[Any, ...]:
        """Return what differs when the job has moved, unlike its line, in which time goes by."""
        return self.begun is None, self.progress and (self.progress.done, self.progress.facts)

    def last_line(self) -> str:
        """Return what it has done and how long it took."""
        done = result(self.rule, self.outputs)
        if not done and self.progress and self.progress.total:
            done = f"{self.progress.total:g} {self.progress.unit}"
        return f"{self.name}: {', '.join(filter(None, [done, in_words(self.seconds())]))}"

    def _traces(self) -> tuple[Any, ...]:
        """Return what an earlier attempt left: what its log is, and whose progress file it is."""
        if self.log is None:
            return None, None
        try:
            status = Path(self.log).stat()
            log = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            log = None
        found = read_progress(progress_path(self.log))
        return log, None if found is None else _key(found)


class Board:
    """All jobs of a run; other threads may look at it.

    Parameters
    ----------
    stats : how many jobs of each rule will run.
    """

    def __init__(self, stats: Mapping[str, int]) -> None:
        self._stats = dict(stats)
        self._started = time.monotonic()
        self._jobs: dict[int, Job] = {}
        self._running: dict[int, Job] = {}
        self._threads: dict[str, int] = {}
        self._finished: dict[str, list[float]] = {}
        self._done, self.total = 0, sum(stats.values())
        self._lock = threading.RLock()

    def job(self, number: int) -> Job | None:
        """Return a job that was started."""
        return self._jobs.get(number)

    def add(self, job: Job) -> None:
        """Note that a job is started."""
        with self._lock:
            self._jobs[job.number] = self._running[job.number] = job
            self._threads[job.rule] = job.threads

    def finish(self, number: int) -> str:
        """Note that a job has ended well; return its last line, or nothing for one that makes nothing."""
        with self._lock:
            job = self._running.pop(number, None)
            self._done += 1
            if job is None:
                return ""
            job.look()
            job.begun = job.begun or job.started  # of a cluster job whose files were not seen
            self._finished.setdefault(job.rule, []).append(job.seconds())
            count = f"[{self._done:{len(str(self.total))}}/{self.total}] "
        return count + job.last_line() if job.outputs or job.log else ""

    def fail(self, number: int) -> Job | None:
        """Note that a job has failed."""
        with self._lock:
            if (job := self._running.pop(number, None)) is not None:
                job.look()
        return job or self._jobs.get(number)

    def count(self, done: int, total: int) -> None:
        """Take Snakemake's count of jobs: checkpoints add to it."""
        self._done, self.total = done, total

    def look(self) -> None:
        """Read how far the running jobs are."""
        with self._lock:
            running = list(self._running.values())
        for job in running:  # without the lock: a slow disk holds up nobody else
            job.look()

    def running(self) -> list[Job]:
        """Return the jobs that make something: those that run, then those that wait in a queue."""
        with self._lock:
            running = sorted(self._running.values(), key=lambda job: (job.begun is None, job.started))
        return [job for job in running if job.log or job.outputs]

    def summary(self) -> str:
        """Return the line for the whole run."""
        left = self.seconds_left() if self._done < self.total else None
        about = "" if left is None else f", about {_about(left)} left"
        return f"{self._done} of {self.total} steps done{about}"

    def seconds_left(self) -> float | None:
        """Return about how long the run will still take; None while that is not known."""
        elapsed = time.monotonic() - self._started
        if elapsed < SETTLED:
            return None
        with self._lock:
            now = self._running.values()
            running = [Running(job.rule, job.wildcards, job.seconds(), job.seconds_left()) for job in now]
            return seconds_left(self._stats, self._finished, running, elapsed, self._threads)


def _key(progress: JobProgress) -> tuple[Any, ...]:
    return progress.host, progress.process, progress.begun


def _amount(progress: JobProgress) -> str:
    if not progress.total:
        return ""
    if progress.unit == "epochs":
        return f"epoch {min(int(progress.done) + 1, int(progress.total))}/{progress.total:g}"
    return f"{int(progress.done)}/{progress.total:g} {progress.unit}"


def _found(progress: JobProgress) -> str:
    if isinstance(dice := progress.facts.get("dice"), int | float):
        return f"Dice {dice:.2f}"
    return ""


def _about(seconds: float) -> str:
    """Write a duration that promises no more than an estimate can.

    Examples
    --------
    >>> _about(2), _about(33), _about(58), _about(200), _about(4000)
    ('5 s', '35 s', '1 min', '3 min', '1 h 10 min')
    """
    step = 5 if seconds < 57 else 60 if seconds < 3600 else 600
    return in_words(max(step, step * round(seconds / step))).removesuffix(" 0 s")
