"""A whole ensemble on disk, small: images, truth, members, their blend, its decision, scores and submission."""

import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import yaml
from small_stores import write

from cloudseg.ensemble.agreement import Member
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.scores import image_scores
from cloudseg.ensemble.submission import write_submission
from cloudseg.ensemble.surface import read_surface, write_surface
from cloudseg.storage.stores import read_images

SIZE = (40, 60)
MIN_SIZES = [0, 20, 60, 150]
ODD = ["</script><script>document.title='ran'</script>", '"Fish" & <b>chips</b>', "Wolken 雲", "a.b[0]\\'c"]


@dataclasses.dataclass(frozen=True)
class Made:
    """Where the files lie, and what they hold."""

    folder: Path
    classes: list[str]
    members: list[Member]
    rule: DecisionRule
    decision: Decision
    scores: pd.DataFrame

    def __truediv__(self, name):
        """Return a file."""
        return self.folder / name


def smooth(random, count, classes):
    noise = random.random((count, classes, 5, 8)).astype(np.float32)
    grown = [[cv2.resize(plane, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for plane in image] for image in noise]
    return (np.clip(np.array(grown).reshape(count, classes, *SIZE), 0, 1) * 255).astype(np.uint8)


def make(folder, classes, *, folds=(0, 0, 0, 1, 1), members=3, tests=4, how="tune", sharpen=None, absent=()):
    """Make an ensemble; `folds` has one per out-of-fold image, `absent` the classes that the truth never has."""
    random = np.random.default_rng(7)
    ids = [f"{number}_a.jpg" for number in range(len(folds))]
    base = smooth(random, len(folds), len(classes))
    truth = (base > 140).astype(np.uint8)
    truth[:, [classes.index(name) for name in absent]] = 0
    truth[:1] = 0
    write(folder / "truth.zarr", truth[::-1], ids[::-1], classes=classes)
    stores, blended = [], []
    for number in range(members):
        planes = (0.7 * base + 0.3 * smooth(random, len(folds), len(classes))).astype(np.uint8)
        name = f"m{number}"
        write(folder / f"{name}.zarr", planes, ids, classes=classes, fold=list(folds))
        stores.append(Member(name, f"experiment {number // 2}", 1.0 + number, folder / f"{name}.zarr"))
        blended.append({"store": name, "fold": None, "weight": 1.0 + number})
    flat = folder / "flat.zarr"
    options = {"classes": classes, "size": SIZE, "sharpen": sharpen, "allow_squeezed": True}
    blend_stores([member.store for member in stores], blended, flat, folds=None, **options)
    block = read_images(flat, slice(0, len(ids)))
    write(folder / "valid.zarr", block, ids, classes=classes, fold=list(folds))
    test_ids = [f"{number}_t.jpg" for number in range(tests)]
    write(folder / "test.zarr", smooth(random, tests, len(classes)), test_ids, classes=classes, fold=[None] * tests)

    rule = DecisionRule(how, [0.5] * len(classes), [20] * len(classes), MIN_SIZES, sharpen=sharpen)
    options = {"folds": sorted(set(folds)), "min_sizes": MIN_SIZES}
    write_surface(folder / "valid.zarr", folder / "truth.zarr", folder / "surface.zarr", **options)
    decision, _ = decide(*read_surface(folder / "surface.zarr"), classes=classes, rule=rule)
    (folder / "decision.yaml").write_text(yaml.safe_dump(decision.plain(), sort_keys=False))
    scores = image_scores(folder / "valid.zarr", folder / "truth.zarr", decision)
    rows = [(image, name) for image in test_ids for name in classes]
    write_submission(folder / "test.zarr", decision.rule, rows, folder / "submission.csv")
    for split, names in {"train": ids, "test": test_ids}.items():
        write_photos(folder, split, names, random)
    return Made(folder, list(classes), stores, rule, decision, scores)


def write_photos(folder, split, names, random):
    """Write an image file of each name, and the table of the check."""
    photos = folder / "raw" / f"{split}_images"
    photos.mkdir(parents=True)
    rows = []
    for name in names:
        cv2.imwrite(str(photos / name), random.integers(0, 255, (80, 120, 3), dtype=np.uint8))
        digest = hashlib.sha256((photos / name).read_bytes()).hexdigest()
        rows.append({"image": name, "split": split, "height": 80, "width": 120, "digest": digest, "labels": "x"})
    pd.DataFrame(rows, columns=["image", "split", "height", "width", "digest", "labels"]).to_csv(
        folder / f"{split}.tsv", sep="\t", index=False
    )
