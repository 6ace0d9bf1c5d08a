"""Adversarial validation: can a classifier tell the training images (1) from the test images (0)?

Each image becomes some twenty numbers about its light, colour and texture. A linear discriminant is trained on some
of the images and scores the others. If both sets come from one distribution, its area under the ROC curve (AUC) is
0.5; the more it exceeds that, the less an out-of-fold score says about the test images.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cloudseg.dataset.folds import deal
from cloudseg.errors import DatasetError, StoreError
from cloudseg.storage import files, per_image, stores

BINS = 8  # of the histogram of grey levels
SCALES = (1, 2, 4, 8)  # pixels
BLACK = 8  # a pixel below this in all bands was not seen by the satellite
FEATURES = (
    "black",
    *(f"{number}_{band}" for number in ("mean", "std") for band in ("red", "green", "blue")),
    *("std_of_blue_less_red", "brighter_below", "brighter_right"),
    *(f"grey_{level}" for level in range(0, 256, 256 // BINS)),
    *(f"contrast_{scale}" for scale in SCALES),
)
FOLDS = 5
REPEATS = 5  # of the cross-validation, each with its own folds, which lowers the variance of the AUC
PERMUTATIONS = 200  # which give the standard deviation of the AUC without a shift to 5 %
MIN_PICTURES = 4  # different pictures in either set; with fewer, no AUC is significant
CONFIDENCE = 1.96  # standard deviations of a normal distribution on either side: 95 %
CLIP = 10.0  # no training image counts for more than ten times the median one, or for less than a tenth of it
GRID = np.linspace(0, 1, 201)  # false positive rates of the ROC curve


@dataclass(frozen=True)
class Shift:
    """How far the training images differ from the test images.

    Parameters
    ----------
    auc, low, high : area under the ROC curve and its 95 % interval.
    images : a row per image: image, split, score (probability of being a training image if both sets were equally
        large, from classifiers that never saw it) and weight (density ratio p(test | image) / p(train | image), mean
        1 over the training images; missing for test images).
    curve : true positive rate at each false positive rate of ``GRID``, averaged over the held-out folds.
    seed : start of all randomness.
    """

    auc: float
    low: float
    high: float
    images: pd.DataFrame
    curve: np.ndarray
    seed: int

    @property
    def verdict(self) -> str:
        """One line for a person."""
        if self.low > 0.5:
            return f"train and test differ: AUC {self.auc:.2f} ({self.low:.2f}..{self.high:.2f})"
        where = "holds 0.5" if self.high >= 0.5 else "lies below 0.5, which only chance does"
        return f"no difference found: AUC {self.auc:.2f} ({self.low:.2f}..{self.high:.2f} {where})"

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return int((self.images["split"] == split).sum())


def measure_shift(pixels: Mapping[str, str | Path], images: pd.DataFrame, *, seed: int, threads: int = 1) -> Shift:
    """Measure how far the training images differ from the test images.

    Parameters
    ----------
    pixels : the pixel stores of `train` and `test`, at one size.
    images : the images tables of the dataset check, together; their digests say which files are the same picture.
    seed : any whole number from 0.
    threads : blocks of images that are read at the same time. The result does not depend on it.

    Raises
    ------
    DatasetError : if a set has fewer than ``MIN_PICTURES`` different pictures.
    StoreError : if an image is not in the table.
    """
    splits = ("train", "test")
    rows = [(image, split) for split in splits for image in per_image.ids(stores.read(pixels[split]))]
    table = pd.DataFrame(rows, columns=["image", "split"])
    digests = images.set_index(["split", "image"])["digest"].to_dict()
    keys = list(zip(table["split"], table["image"], strict=True))
    if unknown := [key for key in keys if key not in digests]:
        split, image = unknown[0]
        raise StoreError(
            f"{pixels[split]}: its image {image} is not in the images table ({len(unknown)} of {len(table)}); "
            "both must come from one dataset: remove the store and run the job that makes it again"
        )
    features = np.concatenate([read_features(pixels[split], threads=threads) for split in splits])
    found = discriminate(features, table["split"].eq("train").to_numpy(), [digests[key] for key in keys], seed=seed)
    table["score"], table["weight"] = found.score, found.weight
    return Shift(found.auc, found.low, found.high, table, found.curve, seed)


def write_shift(shift: Shift, *, scores: str | Path, summary: str | Path) -> None:
    """Write the table of images (image, split, score, weight) and a JSON file of what was found."""
    files.write_table(shift.images, scores)
    content = {
        "verdict": shift.verdict,
        **{key: round(getattr(shift, key), 6) for key in ("auc", "low", "high")},
        "images": {split: shift.count(split) for split in ("train", "test")},
        "features": list(FEATURES),
        "seed": shift.seed,
    }
    files.write_text(summary, json.dumps(content, indent=2) + "\n")


def read_features(pixels: str | Path, *, threads: int = 1) -> np.ndarray:
    """Describe all images of a pixel store: (image, feature) float64. Memory is that of one shard per thread."""
    array = stores.read(pixels)["image"]
    per_shard = array.shards[0]

    def describe_block(start: int) -> list[np.ndarray]:
        return [describe(image) for image in stores.read_images(array, slice(start, start + per_shard))]

    with ThreadPoolExecutor(threads) as pool:
        blocks = pool.map(describe_block, range(0, array.shape[0], per_shard))
        return np.array([row for block in blocks for row in block]).reshape(-1, len(FEATURES))


def describe(image: np.ndarray) -> np.ndarray:
    """Turn an (H, W, 3) uint8 RGB image into the numbers that ``FEATURES`` names.

    The light is that of the pixels that the satellite saw: black ones are counted, and left out of the rest.
    Contrast is the logarithm of the mean step from a pixel to the next, at several scales.

    Examples
    --------
    >>> grey = describe(np.full((16, 16, 3), 100, np.uint8))
    >>> [float(grey[FEATURES.index(name)]) for name in ("black", "mean_red", "std_red", "grey_96", "grey_128")]
    [0.0, 100.0, 0.0, 1.0, 0.0]
    """
    seen = (image.max(axis=2) >= BLACK).astype(np.uint8)
    mean, std = (values.ravel() for values in cv2.meanStdDev(image, mask=seen))
    blue_less_red = cv2.subtract(image[:, :, 2], image[:, :, 0], dtype=cv2.CV_16S)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    histogram = cv2.calcHist([grey], [0], seen, [BINS], [0, 256]).ravel() / max(1, int(seen.sum()))
    height, width = grey.shape
    below = grey[height // 2 :].mean() - grey[: -(-height // 2)].mean()
    right = grey[:, width // 2 :].mean() - grey[:, : -(-width // 2)].mean()
    contrasts = []
    for scale in SCALES:
        size = (max(1, width // scale), max(1, height // scale))
        shrunk = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        steps = sum(float(np.abs(np.diff(shrunk, axis=axis)).sum()) for axis in (0, 1))
        contrasts.append(np.log(steps / shrunk.size + 0.1))
    colour = cv2.meanStdDev(blue_less_red, mask=seen)[1].item()
    # The square root of a share has about the same variance whether the share is small or large.
    return np.array([1 - seen.mean(), *mean, *std, colour, below, right, *np.sqrt(histogram), *contrasts])


@dataclass(frozen=True)
class Discrimination:
    """The result of :func:`discriminate`; see :class:`Shift` for its fields."""

    auc: float
    low: float
    high: float
    score: np.ndarray
    weight: np.ndarray
    curve: np.ndarray


def discriminate(features: np.ndarray, is_train: np.ndarray, pictures: Sequence[str], *, seed: int) -> Discrimination:
    """Cross-validate a linear discriminant of train (1) against test (0).

    The discriminant is Fisher's, with the covariance of all images (which needs no labels), shrunk as Ledoit and Wolf
    (2004) do, so that it takes ten images as well as ten thousand. Only scores out of one classifier are compared:
    the AUC is the mean over the held-out folds. Pooled over folds it would be below 0.5 without a shift, since an
    image that is held out is missing from the mean of its own side.

    The interval holds each AUC that the one found is within 1.96 standard deviations of, as Newcombe (Statistics in
    Medicine 25:559, 2006) inverts the test. The variance is Hanley and McNeil's (Radiology 143:29, 1982), with the
    mean of the two sizes for both, times a factor that makes it right without a shift: there it is measured, on the
    same folds with the pictures shuffled (classifiers that share images make it larger than that of a fixed
    one). So the interval excludes 0.5 as often as a permutation test does, and is not empty at an AUC of 1.

    Parameters
    ----------
    features : (image, feature) float.
    is_train : (image,) bool.
    pictures : a name per image; those with the same name are held out together.
    seed : any whole number from 0.

    Returns
    -------
    Discrimination : score and weight are (image,) float64; the weight of a test image is NaN.

    Raises
    ------
    DatasetError : if a set has fewer than ``MIN_PICTURES`` different pictures.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(60, 3))
    >>> is_train = np.arange(60) < 40
    >>> features[~is_train, 1] += 3
    >>> found = discriminate(features, is_train, [str(row) for row in range(60)], seed=0)
    >>> bool(0.8 < found.low < found.auc <= found.high)
    True
    """
    picture_of = np.unique(np.asarray(pictures, str), return_inverse=True)[1]
    smallest = _smallest_set(picture_of, is_train)
    rng = np.random.default_rng(seed)
    traits = np.zeros((picture_of.max() + 1, 3))
    np.add.at(traits, picture_of, np.column_stack([np.ones(len(is_train)), is_train, ~is_train]))
    folds = min(FOLDS, smallest)
    splits = [deal(traits, folds, rng)[picture_of] for _ in range(REPEATS)]
    whitened = _whiten(features)

    scores = [_score_held_out(whitened, is_train, split) for split in splits]
    auc = _mean_auc(scores, is_train, splits)
    first_of = np.unique(picture_of, return_index=True)[1]
    chance = []
    for _ in range(PERMUTATIONS):
        shuffled = whitened[rng.permutation(first_of)][picture_of]
        chance.append(_mean_auc([_score_held_out(shuffled, is_train, split) for split in splits], is_train, splits))
    low, high = _interval(auc, is_train, float(np.mean((np.array(chance) - 0.5) ** 2)))

    score = _calibrate(np.mean(scores, axis=0), is_train)
    return Discrimination(auc, low, high, score, _weigh(score, is_train), _mean_curve(scores, is_train, splits))


def _smallest_set(picture_of: np.ndarray, is_train: np.ndarray) -> int:
    counts = {"training": len(set(picture_of[is_train])), "test": len(set(picture_of[~is_train]))}
    for name, count in counts.items():
        if count < MIN_PICTURES:
            raise DatasetError(
                f"shift: expected at least {MIN_PICTURES} different {name} images, got {count}; add images, or leave "
                "out the report on the shift (and folds stratified by it)"
            )
    return min(counts.values())


def _whiten(features: np.ndarray) -> np.ndarray:
    """Turn the features so that Fisher's discriminant of two groups is the difference of their means."""
    from sklearn.covariance import ledoit_wolf

    deviation = features.std(axis=0)
    # Clipped at three standard deviations, so that no single outlier turns the discriminant.
    standard = np.clip((features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1), -3, 3)
    variances, directions = np.linalg.eigh(ledoit_wolf(standard)[0])
    kept = variances > 1e-9
    return standard @ (directions[:, kept] / np.sqrt(variances[kept]))


def _score_held_out(whitened: np.ndarray, is_train: np.ndarray, fold_of: np.ndarray) -> np.ndarray:
    """Score each image by the means of both sets over the other folds; above 0 is nearer to the training images."""
    folds = int(fold_of.max()) + 1
    centres = []
    for side in (is_train, ~is_train):
        member = (fold_of == np.arange(folds)[:, None]) & side
        sums, counts = member.astype(float) @ whitened, member.sum(axis=1)[:, None]
        centres.append((sums.sum(axis=0) - sums) / (counts.sum() - counts))
    towards_train, middle = centres[0] - centres[1], (centres[0] + centres[1]) / 2
    projected = whitened @ towards_train.T - (middle * towards_train).sum(axis=1)
    return projected[np.arange(len(fold_of)), fold_of]


def _held_out(
    scores: Sequence[np.ndarray], is_train: np.ndarray, splits: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the scores of the training and of the test images of each held-out fold that has both, sorted."""
    for score, fold_of in zip(scores, splits, strict=True):
        for fold in range(int(fold_of.max()) + 1):
            train, test = (np.sort(score[(fold_of == fold) & side]) for side in (is_train, ~is_train))
            if len(train) and len(test):
                yield train, test


def _mean_auc(scores: Sequence[np.ndarray], is_train: np.ndarray, splits: Sequence[np.ndarray]) -> float:
    """Return the share of pairs within held-out folds in which the training image scores more; ties are half."""
    above = pairs = 0.0
    for train, test in _held_out(scores, is_train, splits):
        above += (np.searchsorted(test, train, "left") + np.searchsorted(test, train, "right")).sum() / 2
        pairs += len(train) * len(test)
    return float(above / pairs)


def _mean_curve(scores: Sequence[np.ndarray], is_train: np.ndarray, splits: Sequence[np.ndarray]) -> np.ndarray:
    """Average the ROC curves of the held-out folds at each false positive rate (Fawcett 2006, section 9.1)."""
    from sklearn.metrics import roc_curve

    total = pairs = 0.0
    for train, test in _held_out(scores, is_train, splits):
        labels = np.repeat([1, 0], [len(train), len(test)])
        false_positive, true_positive, _ = roc_curve(labels, np.concatenate([train, test]), drop_intermediate=False)
        total += np.interp(GRID, false_positive, true_positive) * len(train) * len(test)
        pairs += len(train) * len(test)
    return np.asarray(total / pairs)


def _interval(auc: float, is_train: np.ndarray, chance_variance: float) -> tuple[float, float]:
    """Return the smallest and the largest AUC that the one found does not contradict; see :func:`discriminate`."""
    train, test = int(is_train.sum()), int((~is_train).sum())

    def variance(theta: float) -> float:
        shared = ((train + test) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return theta * (1 - theta) * (1 + shared) / (train * test)

    factor = chance_variance / variance(0.5)
    bounds = []
    for end in (0.0, 1.0):
        inside, outside = auc, end
        for _ in range(50):
            middle = (inside + outside) / 2
            if (auc - middle) ** 2 <= CONFIDENCE**2 * factor * variance(middle):
                inside = middle
            else:
                outside = middle
        bounds.append(inside)
    return bounds[0], bounds[1]


def _calibrate(score: np.ndarray, is_train: np.ndarray) -> np.ndarray:
    """Turn scores into probabilities of being a training image, as if both sets were equally large (Platt 1999).

    A score that falls where the share of training images rises has learnt nothing: every image gets 0.5.
    """
    from sklearn.linear_model import LogisticRegression

    scaled = (score - score.mean()) / (score.std() or 1)
    platt = LogisticRegression(class_weight="balanced").fit(scaled[:, None], is_train)
    if platt.coef_.item() <= 0:
        return np.full(len(score), 0.5)
    return platt.predict_proba(scaled[:, None])[:, 1]


def _weigh(score: np.ndarray, is_train: np.ndarray) -> np.ndarray:
    """Return the density ratio of test to train, clipped around its median over the training images, mean 1 there."""
    ratio = np.where(is_train, (1 - score) / score, np.nan)
    weight = np.clip(ratio / np.nanmedian(ratio), 1 / CLIP, CLIP)
    return weight / np.nanmean(weight)
