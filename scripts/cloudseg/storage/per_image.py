"""What a store says of each of its images: their names, `ids`, and of a blend their folds, `fold`.

Up to `FEW` images both are lists in the attributes, as they always were, so that such stores are the
same bytes. Beyond, where JSON would take 14 bytes of disk and a hundred of memory an image each time that a store is
opened, the attribute `ids` is what identifies them, `{"file": "ids.npy", "count": ..., "sha256": ...}`, and the names
lie beside the array, as UTF-8 of a fixed width that NumPy reads; `fold` is `{"repeated": [[fold, times], ...]}`. Stores
that hold more images as lists are read as they are. The shards of so many images lie in one folder
(:mod:`cloudseg.storage.layout`).
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from cloudseg.errors import StoreError
from cloudseg.storage.files import atomic, damaged, sha256

if TYPE_CHECKING:
    import zarr

FEW = 10_000
"""Images up to which a store is written as it always was."""

FILE = "ids.npy"

_AT_ONCE = 4096  # names that are Python texts at the same time


class Ids(Sequence[str]):
    """Names of images, in a fixed width of bytes: a list of texts takes six times the memory.

    Parameters
    ----------
    names : UTF-8 bytes, dtype S.

    Examples
    --------
    >>> ids = Ids.of(["b.jpg", "a.jpg", "Wolken 雲.png"])
    >>> ids[0], list(ids[1:]), "a.jpg" in ids, ids == ["b.jpg", "a.jpg", "Wolken 雲.png"]
    ('b.jpg', ['a.jpg', 'Wolken 雲.png'], True, True)
    """

    def __init__(self, names: np.ndarray) -> None:
        self.array = names

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        """Return some names as such.

        Raises
        ------
        ValueError : for a name that ends in a NUL, which no file has and a fixed width cannot tell.
        """
        if isinstance(names, cls):
            return names
        blocks = []
        waiting = iter(names)
        while block := [name.encode() for name in itertools.islice(waiting, _AT_ONCE)]:
            if ends := [name for name in block if name.endswith(b"\0")]:
                raise ValueError(f"ids: expected names of files, got {ends[0]!r}")
            blocks.append(np.array(block, "S"))
        return cls(np.concatenate(blocks) if blocks else np.empty(0, "S1"))

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> Self: ...

    def __getitem__(self, row: int | slice) -> str | Self:
        if isinstance(row, slice):
            return type(self)(self.array[row])
        return self.array[row].decode()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            for name in self.array[start : start + _AT_ONCE].tolist():
                yield name.decode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and np.array_equal(self.array, type(self).of(other).array)

    __hash__ = None

    def __repr__(self) -> str:
        return f"Ids of {len(self)} images"

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Return the names of some images, then those of others, and so on."""
        arrays = [part.array for part in parts]
        return cls(np.concatenate(arrays) if arrays else np.empty(0, "S1"))

    def rows_of(self, wanted: Iterable[str]) -> np.ndarray:
        """Return in which row each of some names is: int64, -1 where it is in none.

        Examples
        --------
        >>> Ids.of(["b.jpg", "a.jpg"]).rows_of(["a.jpg", "c.jpg", "b.jpg"])
        array([ 1, -1,  0])
        """
        names = type(self).of(wanted).array
        if not len(self):
            return np.full(len(names), -1)
        if np.array_equal(names, self.array):
            return np.arange(len(names))
        order = np.argsort(self.array, kind="stable")
        found = order[np.minimum(np.searchsorted(self.array, names, sorter=order), len(order) - 1)]
        return np.where(self.array[found] == names, found, -1)


class _Hash:
    """A file that is hashed in place of being written."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.write, self.hexdigest = self._hash.update, self._hash.hexdigest


def attributes(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that a store gets, of which `ids` names the images and `fold` is one of each.

    Examples
    --------
    >>> attributes({"ids": Ids.of(["a.jpg", "b.jpg"]), "fold": [0, 1], "run": "x"})
    {'ids': ['a.jpg', 'b.jpg'], 'fold': [0, 1], 'run': 'x'}
    >>> attributes({"fold": [0] * 9000 + [None] * 9000})
    {'fold': {'repeated': [[0, 9000], [None, 9000]]}}
    """
    made = dict(said)
    if "ids" in said:
        names = Ids.of(said["ids"])
        made["ids"] = list(names) if len(names) <= FEW else _identity(names)
    if "fold" in said and len(said["fold"]) > FEW:
        made["fold"] = {"repeated": [[fold, len(list(same))] for fold, same in itertools.groupby(said["fold"])]}
    return made


def _identity(names: Ids) -> dict[str, Any]:
    hashed = _Hash()
    np.lib.format.write_array(hashed, names.array, allow_pickle=False)
    return {"file": FILE, "count": len(names), "sha256": hashed.hexdigest()}


def write_ids(names: Iterable[str], folder: Path) -> None:
    """Write the names of images into the folder of a store."""
    with atomic(folder / FILE) as temporary, temporary.open("wb") as file:
        np.save(file, Ids.of(names).array, allow_pickle=False)


def has_file(node: "zarr.Array | zarr.Group") -> bool:
    """Return whether the names of the images of a store lie in a file."""
    return isinstance(node.attrs.get("ids"), Mapping)


def ids(node: "zarr.Array | zarr.Group") -> Ids:
    """Return the names of the images of a store that :func:`cloudseg.storage.stores.read` opened.

    Raises
    ------
    StoreError : when they are in a file that is not the one that was written.
    """
    said = node.attrs["ids"]
    if not isinstance(said, Mapping):
        return Ids.of(said)
    path = node.store.root / FILE
    try:
        if sha256(path) != said["sha256"]:
            raise ValueError("its content is not what the job wrote (SHA-256)")
        return Ids(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise damaged(path, f"the names of the images cannot be read ({error})", StoreError) from error


def same_ids(one: "zarr.Array | zarr.Group", other: "zarr.Array | zarr.Group") -> bool:
    """Return whether two stores are of the same images in the same order; no file of names is read for it."""
    if has_file(one) and has_file(other):
        return one.attrs["ids"] == other.attrs["ids"]
    return ids(one) == ids(other)


def image_count(said: Mapping[str, Any]) -> int:
    """Return how many images a store names in its attributes."""
    return said["ids"]["count"] if isinstance(said["ids"], Mapping) else len(said["ids"])


def folds(node: "zarr.Array | zarr.Group") -> list[int | None]:
    """Return the fold of each image of a blend; None of those of test images, and where no folds are named."""
    said = node.attrs.get("fold")
    if isinstance(said, Mapping):
        return [fold for fold, times in said["repeated"] for _ in range(times)]
    return [None] * image_count(node.attrs) if said is None else list(said)


def expanded(node: "zarr.Array | zarr.Group") -> dict[str, Any]:
    """Return the attributes of a store with the names of all images, and with the fold of each, if it has folds."""
    said = node.attrs.asdict() | {"ids": ids(node)}
    return said | {"fold": folds(node)} if "fold" in said else said
