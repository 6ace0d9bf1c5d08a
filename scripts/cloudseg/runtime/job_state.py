"""What has become of a job, from the files that it leaves beside its log: for readers on any machine."""

import contextlib
import enum
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudseg.runtime.job_progress import JobProgress, progress_path, read_progress
from cloudseg.storage.records import record_file

TAIL = 20_000  # bytes of a log in which its last error is looked for
GONE = "gone"
LATER = 60  # seconds after a job began at which a process of its number that starts is another one
BY_HAND = ("SIGINT", "SIGTERM", "KeyboardInterrupt")  # what the error of a job begins with that somebody stopped


class State(enum.StrEnum):
    """What a job does."""

    RUNNING = "running"
    FAILED = "failed"
    KILLED = "killed"
    STOPPED = "stopped"
    DONE = "done"
    NOT_BEGUN = "not begun"


@dataclass(frozen=True)
class Job:
    """What has become of a job."""

    log: Path
    state: State
    reason: str = ""
    """Why it failed, in one line, or the last line of its log where it stopped."""
    host: str = ""
    """Where it runs."""
    silent: float = 0
    """Seconds since it last wrote something; of another machine by that one's clock."""
    progress: JobProgress | None = None
    process: int | None = None
    """Of a job that runs on this machine."""
    paused: bool = False
    """Whether a signal has stopped that process, which may go on."""


def read_job(log: str | Path, *, done: bool = False, now: float | None = None) -> Job:
    """Return what has become of a job.

    Whether its process lives is asked for on its own machine alone. On another one it counts as running, and
    `silent` says for how long it has not been heard of.

    Parameters
    ----------
    log : the job's first log file.
    done : whether its outputs are there.
    now : seconds since the epoch.

    Examples
    --------
    >>> read_job("results/nowhere/train.log").state.value, read_job("results/nowhere/train.log", done=True).state.value
    ('not begun', 'done')
    """
    log, now = Path(log), time.time() if now is None else now
    progress, note = read_progress(progress_path(log)), _read_note(log)
    if reason := (progress and progress.error) or note.get("refused"):
        state = State.STOPPED if reason.startswith(BY_HAND) else State.FAILED
        return Job(log, state, first_line(reason), progress=progress)
    if progress or note.get("running"):
        host = progress.host if progress else str(note.get("host", ""))
        process = progress.process if progress else note.get("process")
        written = max(progress.updated if progress else 0.0, _last_written(log))
        facts = {"host": host, "silent": max(0.0, now - written), "progress": progress}
        if host != socket.gethostname() or not isinstance(process, int):
            return Job(log, State.RUNNING, **facts)
        doing = _doing(process, progress.begun if progress else None)
        if doing == GONE:
            return Job(log, State.KILLED, **facts)
        return Job(log, State.RUNNING, process=process, paused=doing == "T", **facts)
    if done:
        return Job(log, State.DONE)
    if log.is_file() and not record_file(log).is_file():
        return _ended(log)
    return Job(log, State.NOT_BEGUN)


def first_line(text: str) -> str:
    """Return the first line of a text that says something, without the word Error.

    Examples
    --------
    >>> first_line("Error: train.csv, line 3: no number\\nand so on")
    'train.csv, line 3: no number'
    """
    return next((line.strip().removeprefix("Error: ") for line in text.splitlines() if line.strip()), "")


def _ended(log: Path) -> Job:
    """Return a job that ended by itself without its outputs, by what its log ends with."""
    lines = _last_lines(log)
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].startswith("Error: "):
            return Job(log, State.FAILED, first_line(lines[number]))
        if lines[number].startswith("Traceback (most recent call last)"):
            raised = (line for line in lines[number + 1 :] if not line.startswith(" "))
            return Job(log, State.FAILED, next(raised, lines[-1]))
    return Job(log, State.STOPPED, lines[-1] if lines else "")


def _last_lines(log: Path) -> list[str]:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        text = file.read().decode(errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()]
    return []


def _read_note(log: Path) -> dict[str, Any]:
    """Return the note that a running or refused job keeps (:mod:`cloudseg.runtime.retries`)."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        note = json.loads(log.with_name(f".{log.name}.note").read_text(encoding="utf-8"))
        return note if isinstance(note, dict) else {}
    return {}


def _last_written(log: Path) -> float:
    """Return when a job last wrote into its log, or began."""
    times = [0.0]
    for path in (log, log.with_name(f".{log.name}.note")):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _doing(process: int, begun: float | None) -> str:
    """Return the letter that Linux has for what a process does, `GONE` for one that has ended; empty elsewhere.

    Parameters
    ----------
    process : its number, which another one may have by now.
    begun : when the job began, seconds since the epoch.
    """
    try:
        words = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        started = time.time() - up + int(words[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return "" if _answers(process) else GONE
    return GONE if words[0] in "ZX" or (begun is not None and started > begun + LATER) else words[0]


def _answers(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # none, or no number of a process
        return False
    except OSError:  # another user's
        return True
    return True
