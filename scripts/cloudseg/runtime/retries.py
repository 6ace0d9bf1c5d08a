"""What becomes of a job that failed: only what may end well is tried again, and a job that was killed is named.

Snakemake retries a failed job whatever the reason (`retries`), and gives no reason for one that was killed. So each job
keeps a note beside its log while it runs, and removes it when it ends by itself.
"""

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from cloudseg.errors import MachineError, UserError
from cloudseg.storage.files import write_text


class Note:
    """The note of one job.

    Parameters
    ----------
    log : the job's log; the note is a hidden file beside it.
    mem_mb : memory that the job asked for.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     first = Note(f"{folder}/check.log")
    ...     first.begin()
    ...     first.refuse("train.csv, line 3: no number", "Error: train.csv, line 3: no number")
    ...     Note(f"{folder}/check.log").refused
    'train.csv, line 3: no number'
    """

    def __init__(self, log: str | Path, *, mem_mb: int | None = None) -> None:
        log = Path(log)
        self.log, self.path = log, log.with_name(f".{log.name}.note")
        self.mem_mb = mem_mb
        before = _read(self.path)
        self.refused, self.printed = before.get("refused"), before.get("printed")

    def begin(self) -> None:
        """Note that the job runs."""
        self._write(running=True)

    def refuse(self, why: str, printed: str) -> None:
        """Note that another attempt would end alike.

        Parameters
        ----------
        why : in one line or more.
        printed : what the log says of it, which Snakemake removes before the next attempt.
        """
        self._write(refused=why, printed=printed)

    def end(self) -> None:
        """Remove the note: the job has ended by itself."""
        self.path.unlink(missing_ok=True)

    def _write(self, **facts: Any) -> None:
        metadata = {"log": str(self.log), "process": os.getpid(), "host": socket.gethostname(), "mem_mb": self.mem_mb}
        write_text(self.path, json.dumps(metadata | facts) + "\n")


def may_end_well(error: BaseException) -> bool:
    """Return whether a job that an error ended may end well on another machine, or with more memory.

    For a device that failed, or a process of its own that was killed, torch has a plain RuntimeError.

    Examples
    --------
    >>> [may_end_well(error) for error in (OSError("stale handle"), RuntimeError("CUDA error"), KeyError("x"))]
    [True, True, False]
    """
    if isinstance(error, UserError):
        return isinstance(error, MachineError)
    return not isinstance(error, Exception) or isinstance(error, OSError | MemoryError | RuntimeError | ImportError)


def forget(logs: Path, runs: Path) -> None:
    """Remove the notes of refused jobs, which a new call of Snakemake tries again: the data may be mended."""
    for path in _notes(logs, runs):
        if "refused" in _read(path):
            path.unlink(missing_ok=True)


def killed_jobs(logs: Path, runs: Path, since: float) -> list[str]:
    """Return a line for each job that began after a moment and was killed: its note is there, its process is not.

    Parameters
    ----------
    logs, runs : the folders where logs lie.
    since : seconds since the epoch.
    """
    lines = []
    for path in _notes(logs, runs):
        note = _read(path)
        if not note.get("running") or path.stat().st_mtime < since or _lives(note) or _left_traceback(note["log"]):
            continue
        asked = f" (it asked for {note['mem_mb']} MB)" if note.get("mem_mb") else ""
        lines.append(
            f"{note['log']}: this job was killed without a word, most often because the memory was not enough{asked}. "
            "Let it have more (`--retries 1` asks for more the second time, `--set-resources RULE:mem_mb=...` for as "
            "much as you say), run fewer at once (`--cores`, `--resources mem_mb=...`), or lower `micro_batch`"
        )
    return lines


def _notes(logs: Path, runs: Path) -> list[Path]:
    """Find the notes without listing the stores, which may hold very many files."""
    return sorted([*logs.rglob(".*.note"), *runs.glob("*/*/*/*/fold*/.*.note")])


def _left_traceback(log: str) -> bool:
    """Return whether a job was ended by its own watchdog, which writes the traceback of every thread."""
    with contextlib.suppress(OSError):
        return "(most recent call first)" in Path(log).read_text(encoding="utf-8", errors="replace")[-10_000:]
    return False


def _lives(note: dict[str, Any]) -> bool:
    """Return whether the process of a note runs on this machine; False for one of another machine."""
    return note.get("host") == socket.gethostname() and Path(f"/proc/{note.get('process')}").exists()


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        note = json.loads(path.read_text(encoding="utf-8"))
        return note if isinstance(note, dict) else {}
    return {}
