"""How well classification heads say whether a class is there, beside the planes of the same networks."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cloudseg.ensemble.parts import require_grid, require_images
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.ensemble.truth import truth_rows
from cloudseg.postprocess import plane_histograms
from cloudseg.runtime.job_progress import counted
from cloudseg.storage import per_image, stores
from cloudseg.storage.some_images import pieces

MEASURES = ["auc", "auc_sd", "ap", "ap_sd"]
ONE_KIND = {True: "every image has it", False: "no image has it"}


@dataclasses.dataclass(frozen=True)
class Head:
    """What a checkpoint of an experiment says of its out-of-fold images.

    Parameters
    ----------
    about : what names it: cells of a table, by column.
    values : per fold the store (image, class) uint8 of its classification heads; 255 is certainty.
    planes : per fold the store (image, class, y, x) uint8 of probabilities of the same images; none of a network
        without planes.
    """

    about: Mapping[str, Any]
    values: Sequence[str | Path]
    planes: Sequence[str | Path] = ()


@dataclasses.dataclass(frozen=True)
class Presence:
    """Which classes the images of the truth have.

    Parameters
    ----------
    path : of the truth.
    ids, classes : names.
    has : (image, class) bool.
    """

    path: str | Path
    ids: Sequence[str]
    classes: Sequence[str]
    has: np.ndarray

    @classmethod
    def read(cls, truth: str | Path) -> "Presence":
        """Read the masks of a store (image, class, y, x) uint8 0/1 with the attributes `ids` and `classes`."""
        masks = stores.read(truth)
        rows = range(masks.shape[0])
        has = [stores.read_images(masks, slice(row, row + 1))[0].any(axis=(1, 2)) for row in rows]
        return cls(truth, per_image.ids(masks), masks.attrs["classes"], np.reshape(has, masks.shape[:2]))

    def of(self, ids: Sequence[str], path: str | Path) -> np.ndarray:
        """Return (N, C) bool of the images of a store."""
        return self.has[truth_rows(ids, self.ids, of=path, truth=self.path)]


def head_scores(
    heads: Sequence[Head], truth: str | Path, *, score: Callable[[int], PlaneScore], threads: int = 1
) -> pd.DataFrame:
    """Measure how well classification heads, and the planes of the same networks, tell images with a class from others.

    Parameters
    ----------
    heads : what is measured.
    truth : store (image, class, y, x) uint8 0/1 with the attributes `ids` and `classes`.
    score : makes of the pixels of a plane the number by which it tells whether the class is there.
    threads : planes are counted by so many threads; the result does not depend on it.

    Returns
    -------
    DataFrame : a row per head and class, and one for their mean with the class `all`: the cells of `about`, class,
        images, positives (images that have it), prevalence, `auc` and `ap` over the images of all folds together with
        their standard deviations over folds (n - 1), and as `plane_auc`, ... those of the planes; NaN where a class has
        no image of a kind, which `remark` says. Of `all` the standard deviation is that of the folds' means.

    Raises
    ------
    StoreError : when stores hold other images or classes than each other or the truth.
    """
    presence = Presence.read(truth)
    return pd.concat(
        [_of_head(head, presence, score, threads) for head in counted(heads, len(heads), "heads")], ignore_index=True
    )


def _of_head(head: Head, presence: Presence, score: Callable[[int], PlaneScore], threads: int) -> pd.DataFrame:
    values, has, fold_of = [], [], []
    for fold, path in enumerate(head.values):
        require_grid(path, presence.classes, ())
        store = stores.read(path)
        values.append(stores.read_images(store, slice(None)))
        has.append(presence.of(per_image.ids(store), path))
        fold_of += [fold] * len(values[-1])
    whole, folds = np.concatenate(has), np.array(fold_of)
    said = measures(whole, np.concatenate(values), folds)
    if head.planes:
        pairs = zip(head.planes, head.values, strict=True)
        planes = np.concatenate([_plane_scores(*pair, presence, score, threads) for pair in pairs])
        said |= {f"plane_{name}": cells for name, cells in measures(whole, planes, folds).items()}
    else:
        said |= {f"plane_{name}": np.full(len(presence.classes) + 1, np.nan) for name in MEASURES}
    positives = whole.sum(axis=0)
    counts = {
        "class": [*presence.classes, "all"],
        "images": len(whole),
        "positives": [*positives, positives.sum()],
        "prevalence": [*whole.mean(axis=0), whole.mean()],
    }
    remarks = [*(_remark(whole[:, number], folds) for number in range(whole.shape[1])), ""]
    return pd.DataFrame(dict.fromkeys(head.about, "") | counts | said | {"remark": remarks}).assign(**head.about)


def _plane_scores(
    path: str | Path, values: str | Path, presence: Presence, score: Callable[[int], PlaneScore], threads: int
) -> np.ndarray:
    """Return (N, C) int64, the score of each plane of a store; only its order counts."""
    store = stores.read(path)
    require_grid(path, presence.classes, store.shape[2:])
    require_images(path, store, stores.read(values), of=values)
    made = score(int(np.prod(store.shape[2:])))
    blocks = (stores.read_images(store, rows) for rows in pieces(store))
    return np.concatenate([made.numerators(plane_histograms(block, threads=threads)) for block in blocks])


def measures(has: np.ndarray, scores: np.ndarray, fold_of: np.ndarray) -> dict[str, np.ndarray]:
    """Return how well scores tell images that have a class from those that have not.

    The area under the ROC curve is the share of pairs, one of each kind, in which the image that has the class scores
    more; ties are half. Average precision is the mean over the images that have the class of the precision among those
    that score as much or more (`sklearn.metrics`).

    Parameters
    ----------
    has : (N, C) bool.
    scores : (N, C) numbers; more is likelier.
    fold_of : (N,) the fold of each image.

    Returns
    -------
    dict : `MEASURES`, each (C + 1,): of each class, and of the mean over those that have one.

    Examples
    --------
    >>> has = np.array([[True], [False], [True], [False]])
    >>> found = measures(has, np.array([[9], [1], [5], [7]]), np.array([0, 0, 1, 1]))
    >>> {name: cells.round(3).tolist() for name, cells in found.items()}
    {'auc': [0.75, 0.75], 'auc_sd': [0.707, 0.707], 'ap': [0.833, 0.833], 'ap_sd': [0.354, 0.354]}
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    parts = [slice(None), *(fold_of == fold for fold in np.unique(fold_of))]
    found = {}
    for name, measure in (("auc", roc_auc_score), ("ap", average_precision_score)):
        cells = np.array(
            [
                [_or_nan(measure, has[part, number], scores[part, number]) for part in parts]
                for number in range(has.shape[1])
            ]
        )
        cells = np.vstack([cells, [_mean(column) for column in cells.T]])
        found |= {name: cells[:, 0], f"{name}_sd": np.array([_spread(row[1:]) for row in cells])}
    return found


def _or_nan(measure: Callable[..., float], has: np.ndarray, scores: np.ndarray) -> float:
    return float(measure(has, scores)) if has.any() and not has.all() else np.nan


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _spread(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else np.nan


def _remark(has: np.ndarray, fold_of: np.ndarray) -> str:
    """Say why figures lack: of one kind of images there is none, in all folds or in some."""
    if len(set(has.tolist())) < 2:
        return ONE_KIND[bool(has.any())]
    folds = np.unique(fold_of)
    told = [fold for fold in folds if len(set(has[fold_of == fold].tolist())) == 2]
    return "" if len(told) == len(folds) else f"{len(told)} of {len(folds)} folds have both kinds of images"
