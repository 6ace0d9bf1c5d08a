"""What each job has made, the SHA-256 of its outputs, and what it had asked for, in files beside its log.

Each job has a file of its own, so that jobs that end at the same moment never write the same one. A prediction also
records what made it (``predict-test.made_with.json``): stores leave that out, so that a newer library makes none stale.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cloudseg.storage import files

SUFFIX = ".outputs.json"
MADE_WITH = ".made_with.json"
ASKED = ".asked.json"


def record_file(log: str | Path) -> Path:
    """Return the file in which the job with this log records its outputs.

    Examples
    --------
    >>> record_file("results/demo/logs/folds.log").as_posix()
    'results/demo/logs/folds.outputs.json'
    """
    return Path(log).with_suffix(SUFFIX)


def write_record(log: str | Path, outputs: Iterable[str | Path]) -> None:
    """Record what a job has made, when it is done.

    Parameters
    ----------
    log : the first log file of the job.
    outputs : files and folders. For a store only the path is recorded, since its chunks have checksums; for any other
        folder the digest of each file in it, symbolic links left out.
    """
    digests: dict[str, str | None] = {}
    for output in map(Path, outputs):
        if output.is_dir():
            digests[str(output)] = None
            if not is_store(output):
                digests |= {str(path): files.sha256(path) for path in _files_below(output)}
        else:
            digests[str(output)] = files.sha256(output)
    if digests:
        files.write_text(record_file(log), json.dumps(digests, indent=2, ensure_ascii=False) + "\n")


def write_asked(log: str | Path, *, mem_mb: int | None, threads: int | None) -> None:
    """Note the memory and the threads that Snakemake reserved for a job, which its benchmark file does not tell."""
    files.write_text(Path(log).with_suffix(ASKED), json.dumps({"mem_mb": mem_mb, "threads": threads}) + "\n")


def remove_record(log: str | Path) -> None:
    """Remove the records of a job that starts over."""
    for suffix in (SUFFIX, MADE_WITH):
        Path(log).with_suffix(suffix).unlink(missing_ok=True)


def write_made_with(log: str | Path, made_with: Mapping[str, Any]) -> None:
    """Record the number of the code, the versions of libraries, and what else decided the bytes that a job made."""
    files.write_text(Path(log).with_suffix(MADE_WITH), json.dumps(made_with, indent=2, sort_keys=True) + "\n")


def read_made_with(log: str | Path) -> dict[str, Any] | None:
    """Return what a job recorded with :func:`write_made_with`, or None if it ran before jobs did.

    Raises
    ------
    DamagedFileError : if the file is damaged.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_made_with(f"{folder}/predict-test.log", {"code": 2})
    ...     read_made_with(f"{folder}/predict-test.log"), read_made_with(f"{folder}/predict-valid.log")
    ({'code': 2}, None)
    """
    try:
        return files.read_json(Path(log).with_suffix(MADE_WITH))
    except FileNotFoundError:
        return None


def read_record(path: str | Path) -> dict[str, str | None]:
    """Read a record: output to SHA-256, or None for a folder.

    Raises
    ------
    DamagedFileError : if it is damaged.
    """
    content = files.read_json(path)
    if not isinstance(content, dict) or not all(isinstance(each, str | None) for each in content.values()):
        raise files.damaged(path, "not a record of outputs")
    return content


def is_store(path: Path) -> bool:
    """Return whether a path is that of a store, by its name."""
    return path.suffix == ".zarr"


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or path.name == ".snakemake_timestamp":
            continue
        if path.is_dir():
            yield from _files_below(path)
        else:
            yield path
