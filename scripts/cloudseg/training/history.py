"""What a training wrote of its epochs so far: ``history.tsv``, for readers that must not wait for pandas."""

import csv
import math
from pathlib import Path
from typing import NamedTuple

FILE = "history.tsv"
CLASS_PREFIX = "dice_"


class Epoch(NamedTuple):
    """A row of a history."""

    number: int
    """From 1."""
    seconds: float
    dice: float
    """Mean over the classes, of the validation fold."""
    values: dict[str, float]
    """Every other column by its name: learning rate, losses, the Dice of each class."""


def read_history(path: str | Path) -> list[Epoch]:
    r"""Return the epochs of a history that may be written at this moment; none where there is none to be read.

    Parameters
    ----------
    path : a ``history.tsv``.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, FILE)
    ...     _ = path.write_text("epoch\ttrain_loss\tvalid_dice\tseconds\n1\t0.9\t0.61\t3.5\n")
    ...     read_history(path), read_history(path.with_name("other.tsv"))
    ([Epoch(number=1, seconds=3.5, dice=0.61, values={'train_loss': 0.9})], [])
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            return [_epoch(row) for row in csv.DictReader(file, delimiter="\t")]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error):  # none, or cut short
        return []


def _epoch(row: dict[str, str]) -> Epoch:
    numbers = {name: float(cell) if cell else math.nan for name, cell in row.items()}
    return Epoch(int(numbers.pop("epoch")), numbers.pop("seconds"), numbers.pop("valid_dice"), numbers)
