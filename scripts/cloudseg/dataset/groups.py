"""Groups of images that a split must not part: named by a table or by the images' names, joined where they overlap."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cloudseg.config.image_tables import read_column
from cloudseg.config.names import nearest
from cloudseg.errors import DatasetError
from cloudseg.texts import number_of

Value = TypeVar("Value")


def read_groups(names: Sequence[str], groups: str, table: str | Path | None = None) -> list[str]:
    """Return the group of each image, as the keys ``folds.groups`` and ``folds.table`` of a config say it.

    Parameters
    ----------
    names : of the images.
    groups : a column of the table; without a table, a regular expression.
    table : one with a column ``image``.

    Returns
    -------
    list of str : in the order of ``names``.

    Raises
    ------
    ConfigError : if the table cannot be read.
    DatasetError : if an image has no group.

    Examples
    --------
    >>> read_groups(["north_1.jpg", "north_2.jpg", "south_1.jpg"], "^([a-z]+)_")
    ['north', 'north', 'south']
    """
    if table is None:
        return groups_in_names(names, groups)
    return look_up(names, read_column(table, groups), f"{table} (folds.table): no {groups}")


def groups_in_names(names: Sequence[str], pattern: str) -> list[str]:
    """Return what a regular expression finds in the name of each image.

    Parameters
    ----------
    names : of the images.
    pattern : is searched for. What its first brackets match is the group, or all that it matches if it has none.

    Raises
    ------
    DatasetError : if it finds nothing in a name, naming the first.

    Examples
    --------
    >>> groups_in_names(["a1.jpg", "b7.jpg"], "[0-9]"), groups_in_names(["a1.jpg", "b7.jpg"], "(.)[0-9]")
    (['1', '7'], ['a', 'b'])
    """
    expression = re.compile(pattern)
    found = [expression.search(name) for name in names]
    groups = [match[1 if expression.groups else 0] if match else "" for match in found]
    if without := [name for name, group in zip(names, groups, strict=True) if not group]:
        raise DatasetError(
            f"folds.groups: the regular expression {pattern!r} finds no group in {without[0]} ({len(without)} of "
            f"{number_of(len(names), 'training image')}); change it so that it matches each name, or give a table of "
            "groups as `folds.table`"
        )
    return groups


def look_up(names: Sequence[str], values: Mapping[str, Value], what: str) -> list[Value]:
    """Return what a table says of each image.

    Parameters
    ----------
    names : of the images.
    values : what it says, by image; images that are not in ``names`` may be in it.
    what : the beginning of the message for images that it says nothing of.

    Raises
    ------
    DatasetError : with the first of these images, and the names of the table that are most like it.

    Examples
    --------
    >>> look_up(["a.jpg"], {"a.jpg": "north", "b.jpg": "south"}, "groups.tsv: no scene")
    ['north']
    """
    for problem in lacking(names, values):
        raise DatasetError(f"{what} {problem}")
    return [values[name] for name in names]


def lacking(names: Sequence[str], values: Mapping[str, object]) -> Iterator[str]:
    """Yield that a table says nothing of some images; parameters are those of :func:`look_up`.

    Examples
    --------
    >>> next(lacking(["a.jpg", "b.jpg"], {"a.jpg": 0, "b.jpeg": 1})).partition(" must")[0]
    'for b.jpg (nearest: b.jpeg), 1 of 2 training images: each'
    """
    if absent := [name for name in names if name not in values]:
        known = set(names)
        like = nearest(absent[0], [name for name in values if name not in known])
        yield (
            f"for {absent[0]}{like}, {len(absent)} of {number_of(len(names), 'training image')}: each must stand in it "
            "once, by its whole name, and its cell must not be empty"
        )


def unite(*labels: Sequence[str]) -> np.ndarray:
    """Number the sets of images that must stay together: those that share a label, directly or by way of others.

    Parameters
    ----------
    labels : each kind, such as digests and groups, has a label for each image; the first kind decides the order.

    Returns
    -------
    int (image,) : the number of each image's set, from 0, in the order of the least label of the first kind in it.

    Examples
    --------
    >>> unite(["p", "q", "p", "r"], ["north", "south", "south", "east"]).tolist()
    [0, 0, 0, 1]
    >>> unite(["q", "p", "q"]).tolist()
    [1, 0, 1]
    """
    root: list[int] = []

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = node = root[root[node]]
        return node

    first = np.unique(np.asarray(labels[0], str), return_inverse=True)[1]
    root += range(int(first.max(initial=-1)) + 1)
    for kind in labels[1:]:
        member: dict[str, int] = {}
        for own, label in zip(first.tolist(), kind, strict=True):
            one, other = sorted([find(own), find(member.setdefault(label, own))])
            root[other] = one
    return np.unique([find(own) for own in first.tolist()], return_inverse=True)[1]
