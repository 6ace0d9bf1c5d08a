"""Send what a job prints to its log file."""

import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def logged(snakemake: Any) -> Iterator[None]:
    """Redirect stdout, stderr and the traceback of a job to the rule's first ``log`` file.

    Snakemake's ``script:`` redirects nothing by itself. An error that a person can mend (``ValueError``,
    ``OSError``) ends the job with its message alone; anything else leaves its traceback in the log.

    Parameters
    ----------
    snakemake : the object that Snakemake hands to a script; only ``snakemake.log[0]`` is used.

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
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", buffering=1) as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            yield
        except (ValueError, OSError) as error:
            traceback.print_exc()
            print(f"\n{error}")
            sys.exit(1)
        except BaseException:
            traceback.print_exc()
            raise
