"""What is blended together, the stores of the test images or those of one fold after the other, and what is refused."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cloudseg.errors import StoreError
from cloudseg.postprocess.cut import HIGHEST
from cloudseg.storage import per_image, stores
from cloudseg.storage.per_image import Ids
from cloudseg.storage.some_images import pieces

# The sigmoid of 0..1 lies in 0.5..0.7311: between these bytes, whether it was rounded or cut off.
SQUEEZED = (127, 187)


@dataclasses.dataclass(frozen=True)
class Part:
    """Images that the same stores are blended for: the test images, or those of one fold.

    Parameters
    ----------
    fold : None for the test images.
    ids : names of the images.
    paths, arrays, weights : the stores, which hold these images in this order, and how much each weighs.
    levels : per store and class the level that makes a vote of a value; None where values are averaged.
    """

    fold: int | None
    ids: Ids
    paths: list[str | Path]
    arrays: list[Any]
    weights: list[float]
    levels: list[Sequence[int]] | None = None


def parts_of(
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    folds: Sequence[int] | None,
    levels: Sequence[Sequence[int]] | None = None,
) -> list[Part]:
    """Return the parts that stores are blended in.

    Parameters
    ----------
    paths : one store per member.
    members : the `fold` and `weight` of each.
    folds : None puts all stores into one part; else there is one part for each of these folds, of its stores.
    levels : per store one level of each class; None is no vote.

    Raises
    ------
    StoreError : when the stores of a part hold different images, or a fold has none.
    """
    return [_part(paths, members, fold, levels) for fold in ([None] if folds is None else folds)]


def _part(
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    fold: int | None,
    levels: Sequence[Sequence[int]] | None,
) -> Part:
    chosen = [i for i, member in enumerate(members) if fold is None or member["fold"] == fold]
    if not chosen:
        images = "the test images" if fold is None else f"the images of fold {fold}"
        raise StoreError(f"nothing to blend for {images}: expected a store of theirs, got none among {len(paths)}")
    chosen_paths = [paths[i] for i in chosen]
    arrays = [stores.read(path) for path in chosen_paths]
    for path, array in zip(chosen_paths, arrays, strict=True):
        require_images(path, array, arrays[0], of=chosen_paths[0])
    weights = [members[i]["weight"] for i in chosen]
    return Part(
        fold,
        per_image.ids(arrays[0]),
        chosen_paths,
        arrays,
        weights,
        None if levels is None else [levels[i] for i in chosen],
    )


def require_images(path: str | Path, got: Any, expected: Any, *, of: str | Path) -> None:
    """Raise unless a store holds the same images as another one, in the same order.

    Parameters
    ----------
    path, got : the store, and the same opened.
    expected, of : the other store, opened, and where it lies; for the message.

    Raises
    ------
    StoreError : with how many images each holds.
    """
    if not per_image.same_ids(got, expected):
        counts = " and ".join(str(per_image.image_count(each.attrs)) for each in (got, expected))
        raise StoreError(
            f"{path}: holds other images than {of} ({counts}); both must come from the same folds.tsv: delete the "
            "older one and run again"
        )


def require_grid(path: str | Path, classes: Sequence[str], size: tuple[int, ...]) -> None:
    """Raise unless a store is of some classes, and its planes of a size; an empty size is that of a single value."""
    array = stores.read(path)
    if list(array.attrs["classes"]) != list(classes) or tuple(array.shape[2:]) != tuple(size):
        raise StoreError(
            f"{path}: expected the classes {list(classes)} at {tuple(size)}, got {list(array.attrs['classes'])} at "
            f"{array.shape[2:]}; delete it and run again"
        )


def require_levels(levels: Sequence[Sequence[int]], stores: int, classes: int) -> None:
    """Raise unless there is one level of a vote per store and class.

    Raises
    ------
    ValueError : for another number of them, or a level that is not a whole number of 0..256.
    """
    if len(levels) != stores or any(len(each) != classes for each in levels):
        lengths = [len(each) for each in levels]
        raise ValueError(f"levels: expected {classes} levels for each of {stores} stores, got {lengths}")
    if strange := [level for each in levels for level in each if level not in range(HIGHEST + 2)]:
        raise ValueError(f"levels: expected whole numbers in 0..{HIGHEST + 1}, got {strange[0]}")


def refuse_squeezed(paths: Sequence[str | Path], threads: int) -> None:
    """Raise when 99.9 % of the values of one of some stores lie in 127..187.

    This comes before the blend, so that nothing half done is left that the next run would go on from. It costs little:
    reading stops when a thousandth of the values was found outside, after the first images where half of them are.

    Raises
    ------
    StoreError : naming the store, and how it may be blended all the same.
    """
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_refuse_squeezed, paths))


def _refuse_squeezed(path: str | Path) -> None:
    array = stores.read(path)
    low, high = SQUEEZED
    outside = 0
    for rows in pieces(array):
        images = stores.read_images(array, rows)
        outside += np.count_nonzero((images < low) | (images > high))
        if 1000 * outside > array.size:
            return
    if array.size:
        raise StoreError(
            f"{path}: looks like a sigmoid of a sigmoid (0.5 to 0.73): {1 - outside / array.size:.2%} of its values "
            f"lie in {low}..{high}. A network that answers about 0.5 everywhere, useless too, looks the same. Delete "
            "the store and predict again from logits, or train longer; to blend it as it is, set allow_squeezed: true "
            "for this ensemble in the config"
        )
