"""Dice of a blend at every threshold and minimum size, as a store."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numba
import numpy as np

from cloudseg.ensemble.blended import Blended, OutOfFold
from cloudseg.postprocess import dice_sums
from cloudseg.runtime.job_progress import counting
from cloudseg.storage import files, stores

# Sums of Dice, images of each fold, and what the last and the first axis count: see `measure`
SurfaceSums = tuple[np.ndarray, np.ndarray, list[int], list[int]]


def write_surface(
    blend: str | Path,
    truth: str | Path,
    out: str | Path,
    *,
    folds: Sequence[int],
    min_sizes: Sequence[int],
    threads: int = 1,
    code: int = 0,
) -> None:
    """Write the sums of Dice per fold, class, level and minimum size, as `measure` returns them.

    Parameters
    ----------
    blend, truth, folds, min_sizes, threads : as for `measure`.
    out : group with `dice_sum` (fold, class, 256, min_size) float64, `count` (fold,), `min_sizes` (min_size,);
        the attribute `folds` names the folds. No folds make an empty surface.
    code : the number of this code, so that what other code began is not gone on with.
    """
    sums, counts, _, _ = measure(blend, truth, folds=folds, min_sizes=min_sizes, threads=threads)
    _write(out, sums, counts, min_sizes, folds, code)


def measure(
    blend: str | Path, truth: str | Path, *, folds: Sequence[int], min_sizes: Sequence[int], threads: int = 1
) -> SurfaceSums:
    """Sum Dice per fold, class, level and minimum size.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 of out-of-fold probabilities with the attributes `ids` and `fold`.
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
    folds : the folds in the order of the first axis; the blend may have more.
    min_sizes : ascending, in pixels of the submission grid.
    threads : the result does not depend on it.

    Returns
    -------
    sums, counts, min_sizes, folds : as `read_surface` returns them.

    Raises
    ------
    StoreError : when an image of the blend has no truth.
    """
    blended = Blended(blend)
    images = OutOfFold(blended, truth)
    sums = np.zeros((len(folds), len(blended.classes), 256, len(min_sizes)))
    counts = np.array([len(blended.rows_of(fold)) for fold in folds], np.int64)
    with counting(int(counts.sum()), "images") as done:
        for block in images.blocks(folds):
            groups = np.zeros(len(block.planes), np.int64)
            block_sums, _ = dice_sums(block.planes, block.truth, list(min_sizes), groups, threads=threads)
            sums[list(folds).index(block.fold)] += block_sums[0]
            done(len(block.planes))
    return sums, counts, list(min_sizes), list(folds)


def _write(
    out: str | Path, sums: np.ndarray, counts: np.ndarray, min_sizes: Sequence[int], folds: Sequence[int], code: int
) -> None:
    arrays = {"dice_sum": sums, "count": counts, "min_sizes": np.asarray(min_sizes, np.int64)}
    dims = {
        "dice_sum": ("fold", "class", "level", "min_size"),
        "count": ("fold",),
        "min_sizes": ("min_size",),
    }
    specs = {name: stores.Spec(array.shape, str(array.dtype), dims[name]) for name, array in arrays.items()}
    content = files.digest([sums.sum(axis=(1, 2)).tolist(), counts.tolist()])
    made_with = stores.made_with(code, np, numba)
    # `content` holds sums alone, which other values may share
    made_with |= {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    writer = stores.Writer(out, specs, {"folds": list(folds), "content": content}, made_with=made_with)
    for name, array in arrays.items():
        for rows in writer.missing(name):
            writer.write(rows, array[rows], name)
    writer.finish()


def read_surface(path: str | Path) -> SurfaceSums:
    """Read a surface.

    Returns
    -------
    sums : (fold, class, 256, min_size) float64 sums of Dice over the images of a fold.
    counts : (fold,) images of each fold.
    min_sizes, folds : what the last and the first axis count.
    """
    group = stores.read(path)
    sums, counts, min_sizes = (
        stores.read_images(group[name], slice(0, group[name].shape[0])) for name in ("dice_sum", "count", "min_sizes")
    )
    return sums, counts, min_sizes.tolist(), list(group.attrs["folds"])
