"""How even a split is, and what it parts that should stay together."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pandas as pd

from cloudseg.dataset.groups import unite
from cloudseg.storage import files
from cloudseg.texts import number_of

MOST = 3  # groups or pictures that a remark names
CONSEQUENCE = "a network has seen something of images that it is scored on, so their Dice is too high"


@dataclasses.dataclass(frozen=True)
class Split:
    """How even a split is.

    Parameters
    ----------
    images : how many there are in each fold.
    groups : how many groups have an image in each fold; None where images are by themselves.
    rates : per class the share of the images of each fold that hold it.
    remarks : sentences that a person should read: what is on both sides of the split, or could not be even.
    """

    images: Sequence[int]
    groups: Sequence[int] | None
    rates: dict[str, Sequence[float]]
    remarks: Sequence[str]

    @property
    def summary(self) -> str:
        """One sentence that says how far the folds differ.

        Examples
        --------
        >>> Split([20, 22], None, {"Fish": [0.5, 0.4], "Sugar": [0.6, 0.6]}, []).summary
        '2 folds of 20 to 22 images; class rates differ by up to 0.100 between folds (Fish, from 0.400 to 0.500)'
        """
        low, high = min(self.images), max(self.images)
        sizes = f"{high} images" if low == high else f"{low} to {high} images"
        name = max(self.rates, key=self.difference)
        low_rate, high_rate = min(self.rates[name]), max(self.rates[name])
        return (
            f"{len(self.images)} folds of {sizes}; class rates differ by up to {self.difference(name):.3f} between "
            f"folds ({name}, from {low_rate:.3f} to {high_rate:.3f})"
        )

    def difference(self, name: str) -> float:
        """Return the largest difference between the rates of a class in two folds."""
        return max(self.rates[name]) - min(self.rates[name])

    def write(self, path: str | Path) -> None:
        """Write it as JSON."""
        files.write_text(path, json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what :meth:`write` wrote."""
        return cls(**files.read_json(path))


def describe_split(
    images: pd.DataFrame, folds: pd.DataFrame, *, classes: Sequence[str], groups: Sequence[str] | None = None
) -> Split:
    """Say how even a split is, and what it parts.

    Parameters
    ----------
    images : the images table of the dataset check; the rows of split "train" are used.
    folds : the split of these images, image and fold, in their order.
    classes : names of the classes.
    groups : of each of these images; None where there are none.

    Examples
    --------
    >>> images = pd.DataFrame({"image": list("abcd"), "split": "train", "digest": list("wxyz"), "Fish": [9, 9, 0, 0]})
    >>> folds = pd.DataFrame({"image": list("abcd"), "fold": [0, 1, 0, 1]})
    >>> split = describe_split(images, folds, classes=["Fish"], groups=["north", "north", "south", "south"])
    >>> print(split.remarks[0])  # doctest: +ELLIPSIS
    2 of 2 groups are on both sides of the split, north (folds 0, 1), south (folds 0, 1): a network has seen ...
    """
    train = images[images["split"] == "train"].assign(fold=folds["fold"].to_numpy(), group=groups)
    by_fold = train.groupby("fold")
    held = train[list(classes)].gt(0).groupby(train["fold"]).mean()
    return Split(
        images=by_fold.size().tolist(),
        groups=None if groups is None else by_fold["group"].nunique().tolist(),
        rates={name: held[name].astype(float).tolist() for name in classes},
        remarks=list(_remarks(train, grouped=groups is not None)),
    )


def _remarks(train: pd.DataFrame, *, grouped: bool) -> Iterator[str]:
    parted = _parted(train, "digest")
    if parted:
        pairs = [f"{' and '.join(images[:2])} (folds {_joined(folds)})" for images, folds in parted.values()]
        one = "pictures are" if len(parted) > 1 else "picture is"
        yield f"{len(parted)} {one} on both sides of the split, {_few(pairs)}: {CONSEQUENCE}"
    if grouped:
        yield from _remarks_on_groups(train)


def _remarks_on_groups(train: pd.DataFrame) -> Iterator[str]:
    parted = _parted(train, "group")
    if parted:
        groups = _few([f"{group} (folds {_joined(folds)})" for group, (_, folds) in parted.items()])
        of, are = number_of(train["group"].nunique(), "group"), "are" if len(parted) > 1 else "is"
        yield f"{len(parted)} of {of} {are} on both sides of the split, {groups}: {CONSEQUENCE}"
        return
    units = train.groupby(unite(train["digest"].tolist(), train["group"].tolist()))
    names = {unit: sorted(found["group"].unique()) for unit, found in units}
    if joined := [" and ".join(found[:2]) for found in names.values() if len(found) > 1]:
        yield f"groups that share a picture are in one fold: {_few(joined)}"
    share = -(-len(train) // train["fold"].nunique())
    for unit, size in units.size().items():
        if size > share:
            yield (
                f"{' with '.join(names[unit][:2])} holds {size:,} of {number_of(len(train), 'image')}, more than the "
                f"{share:,} of an even fold: the folds cannot be of one size"
            )


def _parted(train: pd.DataFrame, column: str) -> dict[str, tuple[list[str], list[int]]]:
    """Return the images and the folds of each value of a column that is in more than one fold."""
    in_many = train[column][train.groupby(column)["fold"].transform("nunique") > 1]
    found = train.loc[in_many.index].groupby(column, sort=False)
    return {value: (of["image"].tolist(), sorted(of["fold"].unique().tolist())) for value, of in found}


def _few(words: Sequence[str]) -> str:
    return ", ".join(words[:MOST]) + (f" and {len(words) - MOST} more" if len(words) > MOST else "")


def _joined(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))
