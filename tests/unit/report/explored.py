"""Small ensembles for the explorer: stores of random probabilities, their surfaces and decisions, and images."""

import cv2
import numpy as np
from small_stores import write

from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.scores import image_scores
from cloudseg.ensemble.surface import read_surface, write_surface
from cloudseg.report.explorer import Source, write_explorer

MIN_SIZES = [0, 4, 10, 40, 200]


def noisy_planes(random, count, classes, size):
    """Smooth planes with specks, certain and impossible pixels, so that components of all areas come and go."""
    height, width = size
    planes = np.empty((count, classes, height, width), np.uint8)
    for plane in planes.reshape(-1, height, width):
        smooth = cv2.resize(random.random((4, 5)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        values = 255 * smooth + random.normal(0, 25, size) * (random.random(size) < 0.3)
        plane[:] = np.clip(values, 0, 255)
    return planes


class Explored:
    """A data set, and the sources that are made of it.

    Parameters
    ----------
    folder : where all of it lies.
    classes : names; nothing is labelled as the last one.
    size : of the submission grid.
    fold_of : fold of each out-of-fold image.
    test_images : how many.
    """

    def __init__(self, folder, classes, size=(23, 37), fold_of=(0, 0, 0, 1, 1), test_images=3, names="image {}.jpg"):
        self.folder, self.classes, self.size, self.fold_of = folder, classes, size, list(fold_of)
        self.random = np.random.default_rng(len(classes))
        self.valid = [names.format(number) for number in range(len(fold_of))]
        self.tested = [names.format(number) for number in range(test_images)]
        for split, ids in (("train", self.valid or ["unused.jpg"]), ("test", self.tested)):
            (folder / f"{split}_images").mkdir(parents=True)
            for name in ids:
                cv2.imwrite(str(folder / f"{split}_images" / name), self.random.integers(0, 256, (46, 74, 3), np.uint8))
        labelled = noisy_planes(self.random, max(len(self.valid), 1), len(classes), size) > 170
        labelled[:, -1] &= len(classes) == 1
        ids = self.valid or ["unused.jpg"]
        self.truth = write(folder / "truth.zarr", labelled.astype(np.uint8), ids, classes=classes)

    def source(self, name, *, how="fixed", sharpen=None, test=True):
        """Make an ensemble; without `test` it is scored only."""
        folder, count = self.folder / name, len(self.classes)
        folder.mkdir()
        kept = {"valid": (self.valid, self.fold_of)} | (
            {"test": (self.tested, [None] * len(self.tested))} if test else {}
        )
        stores = {
            split: write(
                folder / f"{split}.zarr",
                noisy_planes(self.random, len(ids), count, self.size),
                ids,
                fold=folds,
                classes=self.classes,
            )
            for split, (ids, folds) in kept.items()
        }
        surface, folds = folder / "surface.zarr", sorted(set(self.fold_of))
        write_surface(stores["valid"], self.truth, surface, folds=folds, min_sizes=MIN_SIZES)
        rule = DecisionRule(how, [0.5] * count, [10] * count, MIN_SIZES, sharpen=sharpen)
        decision, _ = decide(*read_surface(surface), classes=self.classes, rule=rule)
        return Source(name, decision, surface, stores)

    def write(self, out, sources, **limits):
        """Write the page; return what it says of itself."""
        first = sources[0]
        scores = image_scores(first.stores["valid"], self.truth, first.decision)
        return write_explorer(sources, self.truth, self.folder, out, classes=self.classes, scores=scores, **limits)
