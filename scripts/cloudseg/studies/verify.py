"""Check that all outputs of a plan are as its jobs left them, and remove damaged ones, so that they are made again.

A file must have the SHA-256 of its job's record (:mod:`cloudseg.storage.records`), a store the checksums of its chunks.
An output without a record is checked as far as its format allows.
"""

import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloudseg.commands import command
from cloudseg.storage import files, formats, records, stores
from cloudseg.training.finished import STATE

LOCKS = Path(".snakemake/locks")
MOST_LINES = 40
"""Lines of a kind that a report prints."""
ATTEMPTS = 3
"""Times that a file is read which is replaced while it is read."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is not as a job left it."""

    path: Path  # what has to be made again: a file, or the folder of a store
    reason: str


@dataclasses.dataclass
class Found:
    """What :func:`verify` found."""

    damaged: list[Finding] = dataclasses.field(default_factory=list)
    lost: list[Path] = dataclasses.field(default_factory=list)  # made by a job, and not there any more
    unmade: list[Path] = dataclasses.field(default_factory=list)  # no job has made these yet
    unrecorded: list[Path] = dataclasses.field(default_factory=list)  # only their format was checked
    busy: list[Path] = dataclasses.field(default_factory=list)  # damaged, but another call is at work on them
    checked: int = 0
    seconds: float = 0.0

    @property
    def healthy(self) -> bool:
        """Whether nothing is damaged or lost."""
        return not (self.damaged or self.lost)


def _hidden_or_store(name: str) -> bool:
    return name.startswith(".") or name.endswith((".zarr", ".part"))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, leaving out those in stores."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden_or_store(name))
        yield from (Path(parent, name) for name in sorted(names))


def _read_checkpoint(path: Path) -> None:
    from cloudseg.models.checkpoint_file import read_state  # torch, for files without a record alone

    read_state(path)


FORMATS = formats.FORMATS | {".safetensors": _read_checkpoint}


def check_output(path: Path, recorded: Mapping[str, str | None], below: Sequence[str] = ()) -> None:
    """Raise unless an output that is there is as its job left it.

    Parameters
    ----------
    path : the output, a file, a store or another folder.
    recorded : output to SHA-256.
    below : the recorded files in it, if it is a folder.

    Raises
    ------
    DamagedFileError : with the file and the reason.
    """
    if records.is_store(path):
        stores.verify(path)
    elif path.is_dir():
        for name in below:
            if not Path(name).is_file():
                raise files.damaged(name, "this file is gone")
            _check_digest(Path(name), recorded[name])
    elif (expected := recorded.get(str(path))) is not None:
        _check_digest(path, expected)
    else:
        formats.check_format(path, FORMATS)


def _check_digest(path: Path, expected: str | None) -> None:
    if files.sha256(path) == expected:
        return
    # The format gives a better reason; a checkpoint's is left out, since reading it imports torch
    formats.check_format(path, formats.FORMATS)
    raise files.damaged(path, "its content is not what the job wrote (SHA-256)")


# Everything


def verify(outputs: Sequence[str], results: str | Path, *, remove: bool = False, threads: int = 1) -> Found:
    """Read everything that a plan has made.

    It may run beside a call that makes some of it: what is replaced while it is read is read again.

    Parameters
    ----------
    outputs : the outputs of the plan, relative to the working directory.
    results : the folder of the plan; what other jobs recorded in it (studies, runs that the sheet no longer has) is
        checked, too.
    remove : remove what is damaged, unless a running call of Snakemake has locked it.
    threads : outputs that are read at the same time.

    Returns
    -------
    Found : in the order of ``outputs``.
    """
    started = time.perf_counter()
    found = Found()
    recorded: dict[str, str | None] = {}
    states = []
    for path in _walk(Path(results)):
        if path.name.endswith(records.SUFFIX):
            try:
                recorded |= records.read_record(path)
            except FileNotFoundError:  # its job begins anew
                continue
            except ValueError as error:
                found.damaged.append(Finding(path, _reason(path, error)))
        elif path.name == STATE:
            states.append(path)
    folders = {Path(name) for name, digest in recorded.items() if digest is None}
    below = {folder: [name for name in recorded if folder in Path(name).parents] for folder in folders}
    inside = {name for names in below.values() for name in names}
    planned = dict.fromkeys(map(Path, outputs))
    # A file outside the results may be the user's own, and counts only if the plan names it
    recorded_here = [Path(name) for name in recorded if name not in inside and Path(results) in Path(name).parents]
    locked = _locked_outputs()
    existing = []
    for path in [*planned, *(path for path in recorded_here if path not in planned)]:
        if path.exists():
            existing.append(path)
        elif path in planned:  # a running call removes what it is about to make again
            was_made = str(path) in recorded and str(path) not in locked
            (found.lost if was_made else found.unmade).append(path)
    found.unrecorded = [path for path in existing if str(path) not in recorded and not records.is_store(path)]
    tasks = [(path, lambda path=path: check_output(path, recorded, below.get(path, ()))) for path in existing]
    tasks += [(path, lambda path=path: formats.check_archive(path)) for path in states]
    with ThreadPoolExecutor(threads) as pool, warnings.catch_warnings():
        # Zarr's, about what is no array; the filter that `stores` sets is of one thread at a time
        warnings.filterwarnings("ignore", message=r"Object at (\.|ids)")
        for finding in pool.map(lambda task: _damage(*task), tasks):
            if finding is not None:
                found.damaged.append(finding)
    found.checked = len(tasks)
    if remove:
        locked = _locked_outputs()  # of now: reading may have taken long
        for finding in found.damaged:
            if str(finding.path) in locked:
                found.busy.append(finding.path)
            else:
                files.remove(finding.path)
    found.seconds = time.perf_counter() - started
    return found


def _damage(path: Path, check: Callable[[], None]) -> Finding | None:
    """Check an output, and again if it was replaced meanwhile; None also if it was removed."""
    error: Exception | None = None
    for _ in range(ATTEMPTS):
        before = _identity(path)
        if before is None:
            return None
        try:
            check()
            return None
        except (OSError, ValueError) as found:
            error = found
        if _identity(path) == before:
            break
    return Finding(path, _reason(path, error))


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _reason(path: Path, error: Exception | None) -> str:
    """Return the message of an error without its advice, which the report gives once."""
    reason = str(error).partition(";")[0].removeprefix(f"{path}: ")
    return reason.removeprefix(f"{path}/")


def _locked_outputs() -> set[str]:
    """Return the outputs that running calls of Snakemake in this folder have locked."""
    locked = set()
    for path in LOCKS.glob("*.output.lock"):
        try:
            locked |= set(path.read_text(encoding="utf-8").split("\n"))
        except FileNotFoundError:  # that call has just ended
            continue
    return locked


# What a person reads and types


def report(found: Found, *, removed: bool) -> str:
    """Write one line for each thing that was found, and the command to type next.

    Parameters
    ----------
    found : what :func:`verify` returned.
    removed : whether it was to remove what is damaged.

    Examples
    --------
    >>> found = Found([Finding(Path("results/a/folds.tsv"), "an empty file")], checked=20, seconds=1.5)
    >>> print(report(found, removed=False))
    damaged: results/a/folds.tsv: an empty file
    20 files and stores read in 1.5 s: 1 damaged, 0 lost.
    To remove what is damaged, type:
      snakemake verify --config remove=true
    """
    gone = [each for each in found.damaged if removed and each.path not in found.busy]
    lines = _lines("removed" if removed else "damaged", [f"{each.path}: {each.reason}" for each in found.damaged])
    lines += _lines("lost", [f"{path}: was made, and is not there" for path in found.lost])
    lines.append(
        f"{found.checked} files and stores read in {found.seconds:.1f} s: "
        f"{len(found.damaged)} damaged, {len(found.lost)} lost."
    )
    if found.unrecorded:
        lines.append(
            f"{len(found.unrecorded)} of them have no recorded digest, such as {found.unrecorded[0]}; "
            "of these only the format was checked."
        )
    if found.busy:
        lines += [
            f"{len(found.busy)} were not removed, such as {found.busy[0]}: a running call of Snakemake has locked "
            "them. Let it end, then type:",
            f"  {command('verify', settings=['remove=true'])}",
        ]
    elif found.damaged and not removed:
        lines += ["To remove what is damaged, type:", f"  {command('verify', settings=['remove=true'])}"]
    elif again := [*(each.path for each in gone if not _needs_no_making(each.path)), *found.lost]:
        # Where the plan was not run as a whole, only what had been made is to be made again
        words = command(*map(str, again)) if found.unmade else command()
        lines += ["To make again what is not there, and what was made from it, type:", f"  {words}"]
    elif found.unmade:
        lines += [f"{len(found.unmade)} outputs of the plan are not made yet. To make them, type:", f"  {command()}"]
    else:
        lines.append("Everything is as it was made.")
    return "\n".join(lines)


def _lines(kind: str, texts: list[str]) -> list[str]:
    more = [f"{kind}: {len(texts) - MOST_LINES} more"] if len(texts) > MOST_LINES else []
    return [f"{kind}: {text}" for text in texts[:MOST_LINES]] + more


def _needs_no_making(path: Path) -> bool:
    return path.name == STATE or path.name.endswith(records.SUFFIX)
