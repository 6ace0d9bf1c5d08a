"""A run as a tracker sees it: hyperparameters, metrics by epoch, and when each epoch ended."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from cloudseg.config.fold_names import parse_fold_name
from cloudseg.storage import files
from cloudseg.training.finished import DIGESTS, FOLDER
from cloudseg.training.history import CLASS_PREFIX, FILE, Epoch, read_history
from cloudseg.training.record import RunRecord

# Columns of the history under names that trackers show in groups
NAMES = {
    **{"learning_rate": "learning_rate", "train_loss": "loss/train", "valid_loss": "loss/valid"},
    "valid_dice_nonempty": "dice_nonempty/mean",
}
Plain = str | float | bool


@dataclass(frozen=True)
class TrackedRun:
    """A run whose history is there."""

    name: str
    """Its folder below ``runs``: encoder/decoder/size/recipe/fold0; of a replicate fold0-seed7, of all images foldall.
    """
    epochs: list[Epoch]
    ends: list[float]
    """When each epoch ended, seconds since the epoch: back from the last, by what each took. A pause of a training that
    was stopped and went on is not in its history, so epochs before a pause really ended earlier.
    """
    record: RunRecord | None = None

    @property
    def begun(self) -> float:
        """When the first epoch began."""
        return self.ends[0] - self.epochs[0].seconds

    @property
    def best(self) -> Epoch | None:
        """The epoch of the best Dice; None of a training on all images, which has none to validate on."""
        counted = [epoch for epoch in self.epochs if not math.isnan(epoch.dice)]
        return max(counted, key=lambda epoch: epoch.dice, default=None)

    @property
    def best_values(self) -> dict[str, float]:
        """The best Dice and its epoch, by the names that trackers show."""
        return {} if self.best is None else {"best/dice": self.best.dice, "best/epoch": self.best.number}

    @property
    def hyperparameters(self) -> dict[str, Plain]:
        """The recipe, and what else decides a training, as plain values; lists are written as JSON."""
        encoder, decoder, size, recipe, fold = self.name.split("/")
        words = {"encoder": encoder, "decoder": decoder, "size": size, "recipe": recipe}
        values: dict[str, Plain] = words | {"fold": parse_fold_name(fold.removeprefix("fold"))[0]}
        if self.record:
            values |= {"seed": self.record.seed, "parameters": self.record.parameters}
            values |= {"precision": self.record.precision, **dict(_flat(self.record.recipe))}
        return values


def metrics(epoch: Epoch) -> dict[str, float]:
    """Return the numbers of an epoch by the names that trackers show; those of a validation only if there was one.

    Examples
    --------
    >>> metrics(Epoch(1, 3.5, 0.6, {"train_loss": 0.9, "dice_Fish": 0.7}))
    {'dice/mean': 0.6, 'dice/Fish': 0.7, 'loss/train': 0.9, 'seconds': 3.5}
    """
    classes = {name: value for name, value in epoch.values.items() if name.startswith(CLASS_PREFIX)}
    named = {
        "dice/mean": epoch.dice,
        **{f"dice/{name.removeprefix(CLASS_PREFIX)}": value for name, value in classes.items()},
        **{NAMES.get(name, name): value for name, value in epoch.values.items() if name not in classes},
        "seconds": epoch.seconds,
    }
    return {name: value for name, value in named.items() if not math.isnan(value)}


def find_runs(results: str | Path, *, finished: bool) -> list[TrackedRun]:
    """Return the runs of a folder of results, sorted by name.

    Parameters
    ----------
    results : such as ``results/demo``.
    finished : whether to return those alone whose training has finished, with their records.
    """
    runs = (read_run(path.parent, Path(results)) for path in history_files(results))
    return [run for run in runs if run and (run.record or not finished)]


def history_files(results: str | Path) -> list[Path]:
    """Return the history of every run that has one."""
    return sorted(Path(results).glob(f"runs/*/*/*/*/fold*/{FILE}"))


def read_run(folder: Path, results: Path) -> TrackedRun | None:
    """Return a run; None while it has no epoch."""
    epochs = read_history(folder / FILE)
    if not epochs:
        return None
    try:
        record = RunRecord.read(folder / "run.json")
    except (OSError, ValueError):
        record = None
    name = folder.relative_to(results / "runs").as_posix()
    return TrackedRun(name, epochs, _ends(epochs, _last_written(folder)), record)


def digest_of_finished(results: str | Path) -> str:
    """Return a digest of all finished runs, which changes when one is added, trained anew or removed."""
    folders = [path.parent for path in history_files(results)]
    records = [folder / "run.json" for folder in folders if (folder / "run.json").is_file()]
    return files.digest({str(path): [files.sha256(path), files.sha256(path.with_name(FILE))] for path in records})


def _last_written(folder: Path) -> float:
    """Return when the last epoch ended.

    A history that was put back has the time of that, but the digests that are kept with it have the time of its end.
    """
    kept = [path for path in folder.glob(f"{FOLDER}/*/{DIGESTS}") if _is_same(path.with_name(FILE), folder / FILE)]
    return min(path.stat().st_mtime for path in [folder / FILE, *kept])


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _ends(epochs: list[Epoch], last: float) -> list[float]:
    """Return when each epoch ended.

    Examples
    --------
    >>> _ends([Epoch(number, 2.0, 0.5, {}) for number in (1, 2, 3)], last=100)
    [96.0, 98.0, 100.0]
    """
    later = accumulate((epoch.seconds for epoch in reversed(epochs[1:])), initial=0.0)
    return [last - seconds for seconds in later][::-1]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Plain]]:
    """Yield nested mappings as ``loss.bce``; lists and nothing as JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, str | bool | int | float):
        yield prefix, value
    else:
        yield prefix, json.dumps(value, ensure_ascii=False)
