"""How far a running job is: a small file beside its log, which any machine that sees the files can read."""

import contextlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path

SUFFIX = ".progress.json"


@dataclass(frozen=True)
class JobProgress:
    """What a job last wrote about itself."""

    log: str
    host: str
    process: int
    begun: float
    """Seconds since the epoch, as `updated`."""
    updated: float
    done: float
    total: float
    unit: str
    """Of `done` and `total`, such as epochs or images."""
    seconds_left: float | None = None
    facts: dict[str, float] = field(default_factory=dict)
    """Such as dice, best_dice, images_per_second."""
    error: str | None = None
    """Why the job failed; None while it runs, and where it was killed."""


def progress_file(log: str | Path) -> Path:
    """Return the file of the job with this log.

    Examples
    --------
    >>> progress_file("results/demo/logs/folds.log").as_posix()
    'results/demo/logs/folds.progress.json'
    """
    return Path(log).with_suffix(SUFFIX)


def read_progress(path: str | Path) -> JobProgress | None:
    """Return what a job wrote; None where there is no such file, or not a whole one.

    Parameters
    ----------
    path : as :func:`progress_file` returns it.
    """
    with contextlib.suppress(OSError, ValueError, TypeError):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return JobProgress(**{each.name: content[each.name] for each in fields(JobProgress) if each.name in content})
    return None
