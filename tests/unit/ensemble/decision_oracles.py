"""What a search of decisions has to find, by plain NumPy and SciPy: every mask is made, every candidate is scored."""

import numpy as np
from scipy import ndimage

from cloudseg.ensemble.blended import Block
from cloudseg.ensemble.masking import Evidence, ImageRule, PlaneRule
from cloudseg.postprocess import Cut


def make_images(seed, images, classes, shape=(7, 9), palette=None):
    """Return planes and truth, uint8 (N, C, H, W): blobs, of which half the planes have none in truth."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((images, classes, *shape)), (0, 0, 1, 1))
    noise = ndimage.gaussian_filter(rng.standard_normal(field.shape), (0, 0, 1, 1))
    has = rng.random((images, classes, 1, 1)) < 0.5
    planes = np.clip(110 + 250 * field + 50 * has, 0, 255)
    truth = (has & (field + 0.5 * noise > 0.1)).astype(np.uint8)
    if palette is not None:
        planes = np.asarray(palette)[np.digitize(planes, np.linspace(0, 255, len(palette) + 1)[1:-1])]
    return planes.astype(np.uint8), truth


def blocks_of(planes, truth, fold_of, evidence=None, size=3):
    """Return what gives blocks of a few images of one fold."""

    def blocks():
        for fold in sorted(set(fold_of)):
            rows = np.flatnonzero(np.asarray(fold_of) == fold)
            for some in np.split(rows, range(size, len(rows), size)):
                seen = evidence and Evidence(evidence.histograms[some], evidence.values[some])
                yield Block(fold, planes[some], truth[some], seen)

    return blocks


def plain_rule(classes, best="never", **cut):
    return ImageRule({f"class {number}": PlaneRule(Cut(100, 0, **cut)) for number in range(classes)}, best)


def dice_of(mask, truth):
    total = np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(mask & (truth > 0)) / total if total else 1.0


def dice_of_plane(plane, truth, min_sizes, highs=(0,)):
    """Return the Dice of every level, high level and minimum size: float64 (256, high, min_size)."""
    dice = np.empty((256, len(highs), len(min_sizes)))
    start = 0
    for value in [*np.unique(plane).tolist(), 255]:  # the pixels of all levels up to a value that occurs are the same
        labels, count = ndimage.label(plane >= start, np.ones((3, 3)))
        numbers = range(1, count + 1)
        areas, hits = (np.bincount(labels[chosen], minlength=count + 1)[1:] for chosen in (labels > 0, truth > 0))
        peaks = np.array(ndimage.maximum(plane, labels, numbers))
        for j, k in np.ndindex(len(highs), len(min_sizes)):
            keep = (areas >= min_sizes[k]) & (peaks >= highs[j])
            total = areas[keep].sum() + np.count_nonzero(truth)
            dice[start : value + 1, j, k] = 2 * hits[keep].sum() / total if total else 1
        start = value + 1
    return dice


def score_by_hand(score, planes):
    """Return the numerators of a score, (N, C)."""
    flat = np.sort(planes.reshape(*planes.shape[:2], -1).astype(int), axis=-1)
    if score.kind == "top":
        return flat[..., -score.number :].sum(axis=-1)
    return flat[..., -score.number] if score.kind == "rank" else (flat >= score.number).sum(axis=-1)


def means_of(opens, dice, truth, fold_of, folds):
    """Return the mean over folds of the mean Dice over images.

    opens: bool (N, *gates); dice: (N, level, high, min_size); truth: (N, H, W). Of each gate with each shape.
    """
    empty = ~truth.any(axis=(1, 2))
    per_image = np.where(
        opens[..., None, None, None],
        dice.reshape(len(dice), *[1] * (opens.ndim - 1), *dice.shape[1:]),
        empty.reshape(-1, *[1] * (opens.ndim + 2)),
    )
    return np.mean([per_image[np.asarray(fold_of) == fold].mean(axis=0) for fold in folds], axis=0)


def neighbourhood_means(values, reaches):
    """Return the mean over a box around each place, of what lies inside the array."""
    totals, counts = values, np.ones(values.shape)
    for axis, reach in enumerate(reaches):
        ones = np.ones(2 * reach + 1)
        totals = ndimage.correlate1d(totals, ones, axis=axis, mode="constant")
        counts = ndimage.correlate1d(counts, ones, axis=axis, mode="constant")
    return np.round(totals / counts, 12)


def first_best(values, allowed=True):
    place = np.unravel_index(np.argmax(np.where(allowed, values, -1)), values.shape)
    return tuple(map(int, place)), values[place]


def dice_by_masks(rule_of, planes, truth, fold_of, folds, evidence=None):
    """Return the mean Dice (fold, class) of the masks that the rule of each fold makes."""
    evidence = evidence or Evidence.of(planes)
    rows = []
    for fold in folds:
        dice = []
        for image in np.flatnonzero(np.asarray(fold_of) == fold):
            masks = rule_of(fold).masks(planes[image], evidence.of_image(image))
            dice.append([dice_of(mask, true) for mask, true in zip(masks, truth[image], strict=True)])
        rows.append(np.mean(dice, axis=0))
    return np.array(rows)
