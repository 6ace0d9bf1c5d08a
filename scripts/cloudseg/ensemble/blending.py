"""Blend probability stores into one, with one rounding at the end."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np

from cloudseg.errors import StoreError
from cloudseg.postprocess import blend
from cloudseg.runtime.job_progress import counting
from cloudseg.storage import files, stores

# Raw bytes of member probabilities held at once, whatever the number of images and members.
BLOCK_BYTES = 128 * 2**20

# The sigmoid of 0..1 lies in 0.5..0.7311: between these bytes, whether it was rounded or cut off.
SQUEEZED = (127, 187)


@dataclasses.dataclass(frozen=True)
class Part:
    """Images that the same stores are blended for: the test images, or those of one fold."""

    fold: int | None
    ids: list[str]
    arrays: list[Any]
    weights: list[float]


def blend_stores(
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    out: str | Path,
    *,
    folds: Sequence[int] | None,
    classes: Sequence[str],
    size: tuple[int, int],
    sharpen: float | None = None,
    allow_squeezed: bool = False,
    threads: int = 1,
    code: int = 0,
) -> None:
    """Write the weighted mean of probability stores as a store of the same kind.

    Parameters
    ----------
    paths : one probability store (image, class, y, x) uint8 per member.
    members : per store its name (`store`), the fold of its run (`fold`) and its `weight`, not yet normalised.
    out : the store to write; its attributes hold `ids`, `classes`, `fold` (per image, or None) and `run`.
    folds : None blends all stores over the same (test) images; a list of folds blends, fold after fold,
        the stores of that fold over their (validation) images. An empty list makes an empty store.
    classes, size : names of the classes and (height, width) of the submission grid, which every store must have.
    sharpen : the power that probabilities are raised to before the mean is taken; None for the plain mean.
    allow_squeezed : blend stores too whose values look like a sigmoid of a sigmoid.
    threads : stores are read and blended by so many threads; the result does not depend on it.
    code : the number of this code, so that what other code began is not gone on with.

    Raises
    ------
    StoreError : when stores hold different images, classes or sizes, one is damaged, or 99.9 %
        of the values of one lie in 127..187. Nothing is written then.
    """
    parts = _parts(paths, members, folds)
    for path in paths:
        _refuse_other_grid(path, list(classes), size)
    if not allow_squeezed:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(_refuse_squeezed, paths))
    count = sum(len(part.ids) for part in parts)
    attrs = {
        "ids": [image for part in parts for image in part.ids],
        "classes": list(classes),
        "fold": [part.fold for part in parts for _ in part.ids],
        "run": files.digest([[dict(member) for member in members], sharpen, _runs(paths)]),
    }
    spec = stores.Spec((count, len(classes), *size), "uint8", ("image", "class", "y", "x"))
    writer = stores.Writer(out, {"": spec}, attrs, made_with=stores.made_with(code, np, numba))
    missing = writer.missing()
    with ThreadPoolExecutor(threads) as pool, counting(_images_in(missing), "images") as done:
        for rows in missing:
            block = np.empty((rows.stop - rows.start, *spec.shape[1:]), np.uint8)
            first = 0
            for part in parts:
                _blend_part(part, first, rows, block, sharpen, pool, threads)
                first += len(part.ids)
            writer.write(rows, block)
            done(len(block))
    writer.finish()


def _images_in(ranges: Sequence[slice]) -> int:
    return sum(rows.stop - rows.start for rows in ranges)


def _blend_part(
    part: Part,
    first: int,
    rows: slice,
    block: np.ndarray,
    sharpen: float | None,
    pool: ThreadPoolExecutor,
    threads: int,
) -> None:
    """Fill the rows of `block` that belong to `part`, whose images begin at row `first` of the whole store."""
    start, stop = max(rows.start, first), min(rows.stop, first + len(part.ids))
    step = max(1, BLOCK_BYTES // (len(part.arrays) * block[0].nbytes))
    for row in range(start, stop, step):
        wanted = slice(row - first, min(row + step, stop) - first)
        read = list(pool.map(lambda array, wanted=wanted: stores.read_images(array, wanted), part.arrays))
        target = block[row - rows.start : row - rows.start + wanted.stop - wanted.start]
        blend(read, weights=part.weights, sharpen=sharpen, out=target, threads=threads)


def _parts(
    paths: Sequence[str | Path], members: Sequence[Mapping[str, Any]], folds: Sequence[int] | None
) -> list[Part]:
    parts = []
    for fold in [None] if folds is None else folds:
        chosen = [i for i, member in enumerate(members) if fold is None or member["fold"] == fold]
        arrays = [stores.read(paths[i]) for i in chosen]
        ids = list(arrays[0].attrs["ids"])
        for i, array in zip(chosen, arrays, strict=True):
            if list(array.attrs["ids"]) != ids:
                raise StoreError(
                    f"{paths[i]}: holds other images than {paths[chosen[0]]} ({len(array.attrs['ids'])} and "
                    f"{len(ids)}); both must come from the same folds.tsv: delete the older one and run again"
                )
        parts.append(Part(fold, ids, arrays, [members[i]["weight"] for i in chosen]))
    return parts


def _refuse_other_grid(path: str | Path, classes: list[str], size: tuple[int, int]) -> None:
    array = stores.read(path)
    if list(array.attrs["classes"]) != classes or tuple(array.shape[2:]) != tuple(size):
        raise StoreError(
            f"{path}: expected the classes {classes} at {tuple(size)}, got {list(array.attrs['classes'])} at "
            f"{array.shape[2:]}; delete it and run again"
        )


def _refuse_squeezed(path: str | Path) -> None:
    """Raise when 99.9 % of a store's values lie in 127..187.

    This comes before the blend, so that nothing half done is left that the next run would go on from. It costs little:
    reading stops when a thousandth of the values was found outside, at two images of a thousand where half of them are.
    """
    array = stores.read(path)
    low, high = SQUEEZED
    outside = 0
    for row in range(array.shape[0]):
        image = stores.read_images(array, slice(row, row + 1))
        outside += np.count_nonzero((image < low) | (image > high))
        if 1000 * outside > array.size:
            return
    if array.size:
        raise StoreError(
            f"{path}: looks like a sigmoid of a sigmoid (0.5 to 0.73): {1 - outside / array.size:.2%} of its values "
            f"lie in {low}..{high}. A network that answers about 0.5 everywhere, useless too, looks the same. Delete "
            "the store and predict again from logits, or train longer; to blend it as it is, set allow_squeezed: true "
            "for this ensemble in the config"
        )


def _runs(paths: Sequence[str | Path]) -> list[str]:
    return [stores.read(path).attrs["run"] for path in paths]
