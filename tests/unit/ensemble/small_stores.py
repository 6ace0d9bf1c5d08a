"""Small stores of probabilities, and what is to come of them by plain NumPy and OpenCV."""

from fractions import Fraction

import cv2
import numpy as np

from cloudseg.storage import stores

CLASSES = ["Fish", "Flower"]
SIZE = (20, 30)


def write(path, block, ids, **attrs):
    spec = stores.Spec(block.shape, "uint8", ("image", "class", "y", "x"))
    writer = stores.Writer(path, {"": spec}, {"ids": ids, "classes": CLASSES, "run": path.name, **attrs})
    for rows in writer.missing():
        writer.write(rows, block[rows])
    writer.finish()
    return path


def planes(seed, count):
    random = np.random.default_rng(seed)
    noise = random.random((count, len(CLASSES), 5, 8)).astype(np.float32)
    smooth = [[cv2.resize(plane, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for plane in image] for image in noise]
    return (np.clip(smooth, 0, 1) * 255).astype(np.uint8)


def member(store, fold, weight=1.0):
    return {"store": store, "fold": fold, "weight": weight}


def expected_blend(blocks, weights, sharpen=None):
    """The rational weighted mean, rounded half up, for exponent 1."""
    total = sum(Fraction(weight) for weight in weights)
    values = sum(Fraction(weight) * block.astype(object) for weight, block in zip(weights, blocks, strict=True))
    return np.vectorize(lambda value: int(value / total + Fraction(1, 2)))(values).astype(np.uint8)


def dice_by_hand(probabilities, truth, level, min_size):
    mask = (probabilities >= level).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = [label for label in range(1, count) if stats[label, cv2.CC_STAT_AREA] >= min_size]
    mask = np.isin(labels, keep)
    total = mask.sum() + truth.sum()
    return 1.0 if total == 0 else 2 * (mask & (truth > 0)).sum() / total
