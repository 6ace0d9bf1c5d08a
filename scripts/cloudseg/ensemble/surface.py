"""Dice of a blend at every threshold and minimum size, as a store."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numba
import numpy as np

from cloudseg.ensemble.truth import truth_rows
from cloudseg.postprocess import dice_sums
from cloudseg.runtime.job_progress import counting
from cloudseg.storage import files, stores

# Images in memory at once: probabilities and truth of 4 classes at 350x525 take 1.5 MB an image.
BLOCK = 32


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
) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
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
    probabilities, masks = stores.read(blend), stores.read(truth)
    ids, fold_of = list(probabilities.attrs["ids"]), list(probabilities.attrs["fold"])
    row_of = truth_rows(ids, masks.attrs["ids"], of=blend, truth=truth)
    classes = probabilities.shape[1]
    sums = np.zeros((len(folds), classes, 256, len(min_sizes)))
    counts = np.zeros(len(folds), np.int64)
    rows_of = [[row for row, owner in enumerate(fold_of) if owner == fold] for fold in folds]
    with counting(sum(map(len, rows_of)), "images") as done:
        for fold_row, rows in enumerate(rows_of):
            counts[fold_row] = len(rows)
            for start in range(0, len(rows), BLOCK):
                chosen = rows[start : start + BLOCK]
                p = stores.read_images(probabilities, slice(chosen[0], chosen[-1] + 1))
                g = np.concatenate([stores.read_images(masks, slice(row_of[row], row_of[row] + 1)) for row in chosen])
                block_sums, _ = dice_sums(p, g, list(min_sizes), np.zeros(len(chosen), np.int64), threads=threads)
                sums[fold_row] += block_sums[0]
                done(len(chosen))
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


def read_surface(path: str | Path) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
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
