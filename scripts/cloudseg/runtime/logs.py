"""Send what a job prints to its log file."""

import contextlib
import gc
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloudseg.errors import UserError
from cloudseg.runtime.job_progress import reporting
from cloudseg.runtime.job_watchdog import watching
from cloudseg.runtime.processes import end_with_parent
from cloudseg.runtime.retries import Note, may_end_well
from cloudseg.storage import records
from cloudseg.texts import printable

# New objects between two passes of Python's garbage collector. By default it looks through all that torch's imports
# leave after every 700, a sixth of the seconds that they take
GC_THRESHOLD = 50_000


@contextlib.contextmanager
def logged(snakemake: Any) -> Iterator[None]:
    """Redirect stdout, stderr and the errors of a job to the rule's first ``log`` file; end the job with its Snakemake.

    While the job runs, :mod:`cloudseg.runtime.job_progress` says beside its log how far it is. When it has ended well,
    the digests of its outputs are recorded by :mod:`cloudseg.storage.records`.

    Snakemake's ``script:`` redirects nothing by itself. A :class:`cloudseg.errors.UserError` ends the job with its
    message alone; anything else leaves its traceback. A job that stands still is ended with the name of the file that
    it waits for. What would end alike once more ends all further attempts of the same call of Snakemake.

    Parameters
    ----------
    snakemake : the object that Snakemake hands to a script; only its ``log``, ``output`` and ``resources`` are used.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from types import SimpleNamespace
    >>> with TemporaryDirectory() as folder:
    ...     with logged(SimpleNamespace(log=[f"{folder}/a/job.log"])):
    ...         print("to the log")
    ...     print(Path(folder, "a/job.log").read_text().strip())
    to the log
    """
    in_snakemake = _made_by_snakemake(snakemake)
    if in_snakemake:
        end_with_parent(os.getppid())
        gc.set_threshold(GC_THRESHOLD)
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    records.remove_record(path)
    note = Note(path, mem_mb=getattr(snakemake, "resources", {}).get("mem_mb"))
    with (
        path.open("w", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        watching(log),
        reporting(path),
    ):
        if note.refused:
            # First: a log's last line says why its job ended
            print(f"(not tried again: the attempt before this one ended so, and nothing changed)\n{note.printed}")
            sys.exit(1)
        note.begin()
        refused: tuple[str, str] | None = None
        try:
            yield
            if in_snakemake:
                records.write_record(path, snakemake.output)
                records.write_asked(path, mem_mb=snakemake.resources.get("mem_mb"), threads=snakemake.threads)
        except SystemExit:  # whoever raised it has printed why
            raise
        except BaseException as error:
            is_for_a_person = isinstance(error, UserError)
            printed = f"Error: {printable(str(error))}" if is_for_a_person else traceback.format_exc().rstrip()
            print(printed)
            if not may_end_well(error):
                refused = str(error) if is_for_a_person else f"{type(error).__name__}: {error}", printed
            sys.exit(1)
        finally:
            note.refuse(*refused) if refused else note.end()


def tell(*lines: object, into_log: bool = True) -> None:
    """Print lines into the log of the job, if they are not there yet, and on the terminal of its Snakemake.

    Examples
    --------
    >>> tell("made: a\\x1b[2J.csv")
    made: a?[2J.csv
    """
    for stream in (sys.stdout if into_log else None, sys.__stderr__):
        if stream is not None:
            print(*(printable(str(line)) for line in lines), sep="\n", file=stream, flush=True)


def _made_by_snakemake(snakemake: Any) -> bool:
    """Return whether the object is Snakemake's own, not a test's: its module's name depends on the version."""
    return type(snakemake).__module__.partition(".")[0] == "snakemake"
