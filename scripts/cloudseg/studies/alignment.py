"""Find out whether the labels of a whole data set lie where they should: flipped, turned, transposed or shifted.

Two looks, of which each sees what the other does not. **Predictions**: do labels agree more with what networks predict
out of fold when all of them are moved alike? Networks that were trained on moved labels predict moved masks, as far as
they can, so this finds labels that were moved after training, or in part. **Images**: does what a linear rule sees at
a place (brightness, colour, texture) tell better whether it is inside of a mask when all labels are moved alike? That
rule knows no positions, so it cannot learn a flip, and it needs no network.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cloudseg.storage import per_image, stores
from cloudseg.studies.label_faults import FLIPS, LONGEST_OF_SAMPLE, Pair, agreement, coarse, coarse_size
from cloudseg.texts import number_of

AS_IT_IS, TRANSPOSED = "as they are", "transposed"
SHIFTS = (-6, -3, 0, 3, 6)  # of these pixels, downwards and to the right
SAMPLE = 120  # images that are looked at
LEAST = 20  # images, below which nothing is told
FOLDS = 5  # of images, in each of which another reading must be better
MARGIN = {"predictions": 0.05, "images": 0.03}  # by which it must be better
TELLING = {"predictions": 0.3, "images": 0.62}  # values below which nothing is told
MOST_CLASSES = 8  # the commonest, which images are held against


@dataclass(frozen=True)
class Look:
    """How well labels fit when all are moved alike.

    Parameters
    ----------
    of : ``predictions`` or ``images``.
    values : per way of moving, a number per fold of images; higher is better. Empty where there is too little to see.
    images : how many were looked at.
    """

    of: str
    values: Mapping[str, np.ndarray]
    images: int

    @property
    def means(self) -> dict[str, float]:
        """Mean over the folds, per way of moving."""
        return {way: float(np.mean(folds)) for way, folds in self.values.items()}

    @property
    def best(self) -> str | None:
        """The way of moving that surely fits better than the labels as they are."""
        if not self.values:
            return None
        gains = {way: folds - self.values[AS_IT_IS] for way, folds in self.values.items() if way != AS_IT_IS}
        way = max(gains, key=lambda each: gains[each].mean())
        sure = gains[way].min() > 0 and gains[way].mean() > MARGIN[self.of]
        return way if sure and self.means[way] > TELLING[self.of] else None

    @property
    def tells(self) -> bool:
        """Whether a flip would be seen: as they are, or as named, labels fit clearly better than flipped."""
        if not self.values:
            return False
        chosen = self.means[self.best or AS_IT_IS]
        flipped = [self.means[way] for way in FLIPS if way != self.best]
        return chosen > TELLING[self.of] and chosen > max(flipped) + MARGIN[self.of]

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        if self.images < LEAST:
            labelled = " with a mask" if self.of == "predictions" else ""
            return f"{number_of(self.images, 'image')}{labelled} are too few to tell from {self.of}"
        if self.best:
            gain = self.means[self.best] - self.means[AS_IT_IS]
            return f"judged by {self.of}, the labels of the whole data set fit better {self.best} (by {gain:.2f})"
        if not self.tells:
            return f"it cannot be told from {self.of} whether all labels are flipped"
        like = "where they should" if self.of == "images" else "like those that the networks were trained on"
        return f"judged by {self.of}, the labels lie {like}"


def look_at_predictions(sample: Sequence[Pair]) -> Look:
    """Compare labels with out-of-fold predictions.

    Parameters
    ----------
    sample : images on a coarse grid.
    """
    labelled = [pair for pair in sample if pair.label.any()]
    if len(labelled) < LEAST:
        return Look("predictions", {}, len(labelled))

    def fit(way: "Way") -> np.ndarray:
        fits = [_mean_agreement(way.crop(pair.prediction), way.move(pair.label), pair.label) for pair in labelled]
        return np.array([np.mean(fits[fold::FOLDS]) for fold in range(FOLDS)])

    return Look("predictions", {way.name: fit(way) for way in ways()}, len(labelled))


def _mean_agreement(prediction: np.ndarray, moved: np.ndarray, label: np.ndarray) -> float:
    """Return the mean agreement over the classes that the image has."""
    has = label.any((1, 2))
    return float(agreement(prediction[has], moved[has]).mean())


def look_at_images(pixels: str | Path, truth: str | Path, sample: int = SAMPLE) -> Look:
    """Compare labels with what can be seen at each place of the images.

    Parameters
    ----------
    pixels : the store of the training images at some size.
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
    sample : images that are looked at, evenly spread.
    """
    images, masks = stores.read(pixels), stores.read(truth)
    ids = per_image.ids(masks)
    row_of = {name: row for row, name in enumerate(per_image.ids(images))}
    size = coarse_size(*masks.shape[2:], LONGEST_OF_SAMPLE)
    seen, labels = [], []
    for row in np.unique(np.linspace(0, len(ids) - 1, min(sample, len(ids))).astype(int)):
        where = row_of[ids[row]]
        seen.append(describe(stores.read_images(images["image"], slice(where, where + 1))[0], size))
        labels.append(coarse(stores.read_images(masks, slice(row, row + 1))[0] * np.uint8(255), size))
    if len(seen) < LEAST or not any(label.any() for label in labels):
        return Look("images", {}, len(seen))
    places, drawn = _Places(np.stack(seen)), np.stack(labels)
    commonest = np.argsort(-drawn.any((2, 3)).sum(0), kind="stable")[:MOST_CLASSES]
    drawn = drawn[:, np.sort(commonest)]
    return Look("images", {way.name: places.separation(drawn, way) for way in ways()}, len(seen))


def describe(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return what can be seen at each place of an (H, W, 3) uint8 image: float32 (feature, h, w).

    Red, blue, contrast at three scales and the spread of grey, each as it is, averaged around, and squared.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255

    def small(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(np.ascontiguousarray(plane), size[::-1], interpolation=cv2.INTER_AREA)

    fine = [np.abs(grey - cv2.GaussianBlur(grey, (0, 0), scale)) for scale in (1, 2, 4)]
    planes = [small(image[:, :, band].astype(np.float32) / 255) for band in (0, 2)]
    planes += [np.log(small(contrast) + 0.003) for contrast in fine]
    planes.append(np.sqrt(np.maximum(small(grey**2) - small(grey) ** 2, 0)))
    return np.stack([*planes, *(cv2.GaussianBlur(plane, (0, 0), 2) for plane in planes), *(p**2 for p in planes)])


class _Places:
    """What can be seen at each place of some images, ready to be held against labels.

    Parameters
    ----------
    features : float32 (image, feature, h, w).
    """

    def __init__(self, features: np.ndarray) -> None:
        mean, spread = (getattr(features, name)((0, 2, 3), keepdims=True) for name in ("mean", "std"))
        self._seen = (features - mean) / (spread + 1e-6)
        self._folds = np.arange(len(features)) % FOLDS
        self._inverse = [self._inverse_covariance(self._seen[self._folds != fold]) for fold in range(FOLDS)]

    @staticmethod
    def _inverse_covariance(seen: np.ndarray) -> np.ndarray:
        flat = np.moveaxis(seen, 1, -1).reshape(-1, seen.shape[1])
        return np.linalg.inv(flat.T @ flat / len(flat) + 1e-2 * np.eye(seen.shape[1], dtype=np.float32))

    def separation(self, labels: np.ndarray, way: "Way") -> np.ndarray:
        """Return per fold of images how well a linear rule that has not seen them tells inside from outside.

        It is Fisher's discriminant, and its score is the area under the ROC curve of normal scores, the mean over
        classes; 0.5 is chance.

        Parameters
        ----------
        labels : (image, class, h, w) from 0 to 1.
        way : how they are moved.
        """
        cropped = way.crop(self._seen)
        seen = cropped.reshape(*cropped.shape[:2], -1).transpose(0, 2, 1)
        moved = np.stack([way.move(label) for label in labels]) > 0.5
        inside = moved.reshape(*moved.shape[:2], -1).transpose(0, 2, 1).astype(np.float32)
        here, count = seen.transpose(0, 2, 1) @ inside, inside.sum(1)
        whole = seen.sum(1)[:, :, None]
        values = []
        for fold, inverse in enumerate(self._inverse):
            train, held = self._folds != fold, self._folds == fold
            n_in = np.maximum(count[train].sum(0), 1)
            n_out = np.maximum(train.sum() * seen.shape[1] - n_in, 1)
            inner, total = here[train].sum(0), whole[train].sum(0)
            rule = inverse @ (inner / n_in - (total - inner) / n_out)
            values.append(_area_under_curve(seen[held].reshape(-1, len(rule)) @ rule, inside[held]))
        return np.array(values)


def _area_under_curve(scores: np.ndarray, inside: np.ndarray) -> float:
    """Return the mean over classes of the area under the ROC curve, of scores that are taken to be normal."""
    inside = inside.reshape(scores.shape)
    count = np.stack([inside.sum(0), (1 - inside).sum(0)])
    known = count.min(0) > 0
    if not known.any():
        return 0.5
    sums, squares = (
        np.stack([(values * inside).sum(0), (values * (1 - inside)).sum(0)])[:, known] for values in (scores, scores**2)
    )
    means = sums / count[:, known]
    spread = (squares / count[:, known] - means**2).clip(0).sum(0)
    apart = (means[0] - means[1]) / np.sqrt(2 * spread + 1e-12)
    return float(np.mean([0.5 * (1 + math.erf(each)) for each in apart]))


@dataclass(frozen=True)
class Way:
    """A way of moving all labels: a flip, a transposition, or a shift.

    Parameters
    ----------
    name : in words.
    flip : of the two axes; None for none.
    transpose : whether rows and columns are exchanged, and stretched to the grid.
    down, right : pixels that labels lie too far down and right; what has no counterpart is left out.
    """

    name: str
    flip: tuple[slice, slice] | None = None
    transpose: bool = False
    down: int = 0
    right: int = 0

    def move(self, label: np.ndarray) -> np.ndarray:
        """Return labels (class, h, w) moved, without what has no counterpart."""
        if self.flip:
            label = label[:, *self.flip]
        if self.transpose:
            label = np.stack([cv2.resize(plane.T.copy(), plane.shape[::-1]) for plane in label])
        return label[..., _part(self.down, label.shape[-2]), _part(self.right, label.shape[-1])]

    def crop(self, planes: np.ndarray) -> np.ndarray:
        """Return planes (..., h, w) without what has no counterpart in the moved labels."""
        return planes[..., _part(-self.down, planes.shape[-2]), _part(-self.right, planes.shape[-1])]


def _part(shift: int, length: int) -> slice:
    return slice(min(max(0, shift), length - 1), max(length + min(0, shift), 1))


def ways() -> list[Way]:
    """Return all ways of moving labels, the first of which leaves them as they are.

    Examples
    --------
    >>> label = np.zeros((1, 8, 12)); label[0, 1, 8] = 1
    >>> moved = {way.name: np.argwhere(way.move(label)[0]).tolist() for way in ways()}
    >>> moved["flipped left to right"], moved["turned upside down"]
    ([[1, 3]], [[6, 3]])
    """
    shifts = [(down, right) for down in SHIFTS for right in SHIFTS if (down, right) != (0, 0)]
    return [
        Way(AS_IT_IS),
        *(Way(name, flip) for name, flip in FLIPS.items()),
        Way(TRANSPOSED, transpose=True),
        *(Way(_shift_words(down, right), down=down, right=right) for down, right in shifts),
    ]


def _shift_words(down: int, right: int) -> str:
    """Say where labels would have to go, in shares of the longer side."""
    words = [
        f"{100 * abs(pixels) / LONGEST_OF_SAMPLE:.0f} % further {way}"
        for pixels, way in ((down, "up" if down > 0 else "down"), (right, "left" if right > 0 else "right"))
        if pixels
    ]
    return " and ".join(words)
