"""Rank the labels of training by how much they disagree with what networks that have not seen them predict.

The disagreement of a label t and probabilities p of the same class is 1 less their Dice with squares,
(2 sum(pt) + s) / (sum(p^2) + sum(t^2) + s): where p is squared, what the network is sure of counts for most, and where
neither says anything the smoothing s makes it 0. A label counts for more when the others of its image disagree, too,
since masks of two images that were exchanged are wrong together. `tests/benchmarks/label_faults.py` compares.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from cloudseg.ensemble.truth import truth_rows
from cloudseg.storage import per_image, stores

LONGEST = 105  # pixels of the longer side of the grid that labels are compared on
LONGEST_OF_SAMPLE = 36  # likewise, of the images that are kept
SMOOTHING = 0.005  # of the pixels
SHARED = 0.4  # by how much the mean over the image counts
CLEARLY = 0.3  # more agreement than as it is, from which another reading of a label is named
SEEN = 0.5  # mean probability of a place of the coarse grid from which the network is said to see a mask there
HARDLY = 0.1  # share of the other's area below which a mask or a prediction counts as none

COLUMNS = ["image", "class", "fold", "score", "disagreement", "label", "prediction", "remark"]
FLIPS = {
    "flipped left to right": (slice(None), slice(None, None, -1)),
    "flipped top to bottom": (slice(None, None, -1), slice(None)),
    "turned upside down": (slice(None, None, -1), slice(None, None, -1)),
}


class Pair(NamedTuple):
    """The probabilities of an image and its labels on a coarse grid, float32 (class, h, w) from 0 to 1."""

    prediction: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class RankedLabels:
    """The labels of the out-of-fold images, the most doubtful first.

    Parameters
    ----------
    table : image, class, fold, score (what they are ranked by), disagreement (0 to 1), label and prediction (shares of
        the image), remark (in words).
    sample : some images on the coarse grid.
    """

    table: pd.DataFrame
    sample: Sequence[Pair]

    @property
    def images(self) -> int:
        """How many images there are."""
        return self.table["image"].nunique()


def rank_labels(blend: str | Path, truth: str | Path, *, sample: int = 0, threads: int = 1) -> RankedLabels:
    """Rank the labels of all out-of-fold images.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 of out-of-fold probabilities with the attributes `ids`, `classes`, `fold`.
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
    sample : images, evenly spread, that are kept on the coarse grid.
    threads : images are compared by so many threads; the result does not depend on it.

    Raises
    ------
    StoreError : when an image of the blend has no truth.
    """
    probabilities, masks = stores.read(blend), stores.read(truth)
    ids, fold_of = per_image.ids(probabilities), per_image.folds(probabilities)
    classes = list(probabilities.attrs["classes"])
    row_of = truth_rows(ids, per_image.ids(masks), of=blend, truth=truth)
    size, small = (coarse_size(*probabilities.shape[2:], longest) for longest in (LONGEST, LONGEST_OF_SAMPLE))
    kept = set(np.unique(np.linspace(0, len(ids) - 1, min(sample, len(ids))).astype(int)).tolist()) if ids else set()

    def compare(row: int) -> tuple[list[tuple], Pair | None]:
        planes = stores.read_images(probabilities, slice(row, row + 1))[0]
        labels = stores.read_images(masks, slice(row_of[row], row_of[row] + 1))[0]
        labels *= np.uint8(255)
        pair = Pair(coarse(planes, size), coarse(labels, size))
        rows = [
            (ids[row], name, fold_of[row], *rest) for name, rest in zip(classes, doubts(*pair, classes), strict=True)
        ]
        return rows, Pair(coarse(planes, small), coarse(labels, small)) if row in kept else None

    with ThreadPoolExecutor(threads) as pool:
        compared = list(pool.map(compare, range(len(ids))))
    table = pd.DataFrame([row for rows, _ in compared for row in rows], columns=COLUMNS)
    table = table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    return RankedLabels(table, [pair for _, pair in compared if pair is not None])


def coarse_size(height: int, width: int, longest: int = LONGEST) -> tuple[int, int]:
    """Return a size of the same proportions, whose longer side is at most so many pixels.

    Examples
    --------
    >>> coarse_size(350, 525), coarse_size(40, 30)
    ((70, 105), (40, 30))
    """
    step = max(1, -(-max(height, width) // longest))
    return max(1, round(height / step)), max(1, round(width / step))


def coarse(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return uint8 planes (class, H, W) as float32 (class, h, w) from 0 to 1, averaged."""
    height, width = size
    small = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in planes]
    return np.stack(small).astype(np.float32) / 255


def agreement(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the Dice with squares of planes (..., h, w), from 0 to 1.

    Examples
    --------
    >>> sure, unsure, none = np.ones((8, 8)), np.full((8, 8), 0.5), np.zeros((8, 8))
    >>> [round(float(agreement(prediction, sure)), 2) for prediction in (sure, unsure, none)]
    [1.0, 0.8, 0.0]
    >>> float(agreement(none, none))
    1.0
    """
    smoothing = SMOOTHING * predictions.shape[-1] * predictions.shape[-2]
    both, squares = (predictions * labels).sum((-2, -1)), (predictions**2).sum((-2, -1)) + (labels**2).sum((-2, -1))
    return (2 * both + smoothing) / (squares + smoothing)


def doubts(predictions: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[tuple[float, ...]]:
    """Return per class of an image: score, disagreement, shares of the image of label and prediction, and a remark.

    Parameters
    ----------
    predictions, labels : (class, h, w) from 0 to 1.
    classes : their names.
    """
    fits = _fits(predictions, labels)
    wrong = 1 - fits.diagonal()
    scores = wrong + SHARED * wrong.mean()
    shares = labels.mean((1, 2)), predictions.mean((1, 2))
    remarks = [_remark(number, fits[:, number], predictions, labels, classes) for number in range(len(classes))]
    return list(zip(scores.tolist(), wrong.tolist(), *(share.tolist() for share in shares), remarks, strict=True))


def _fits(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the agreement of each prediction with each label of an image: float (class, class)."""
    seen, drawn = (planes.reshape(len(planes), -1) for planes in (predictions, labels))
    smoothing = SMOOTHING * seen.shape[1]
    squares = (seen**2).sum(1)[:, None] + (drawn**2).sum(1)
    return (2 * (seen @ drawn.T) + smoothing) / (squares + smoothing)


def _remark(number: int, fits: np.ndarray, predictions: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> str:
    """Say in words how a label, which fits the predictions so well, differs from that of its class."""
    prediction, label, as_it_is = predictions[number], labels[number], float(fits[number])
    if as_it_is >= 1 - CLEARLY:
        return ""
    drawn, seen = float((label**2).sum()), float((prediction**2).sum())
    if not drawn:
        return "no mask, and the network sees one" if prediction.max() >= SEEN else "no mask, and the network is unsure"
    best = int(np.where(np.arange(len(fits)) == number, 0, fits).argmax())
    if fits[best] > as_it_is + CLEARLY:
        return f"fits the prediction of {classes[best]} better"
    flipped = {name: float(agreement(prediction, label[flip])) for name, flip in FLIPS.items()}
    way = max(flipped, key=lambda name: flipped[name])
    if flipped[way] > as_it_is + CLEARLY:
        return f"fits better {way}"
    return "a mask, and the network sees none" if seen < HARDLY * drawn else "another shape or place"
