"""Swap labels of the demo, and count how many of them rule `labels` puts into the first tenth of its list.

    python tests/benchmarks/label_faults.py --results results/demo [--seeds 40]
    python tests/benchmarks/label_faults.py --swap RAW --out OUT [--seed 1]
    python tests/benchmarks/label_faults.py --swapped OUT --results results/swapped

The first form swaps labels after training. Kinds of swaps: all masks of two images exchanged, two classes of an image
exchanged, one class of an image emptied, and all three mixed, until 5 % of the labels are wrong. The bar: 80 % of them
in the first tenth, in the mean over the seeds. The demo's labels have faults of their own, since its annotators
overlook fields and mistake classes: these stand in the first tenth, too.

The second form copies a folder in the contest's layout with swapped labels, to train on them; the third counts where
they are in the list that came of it, leaving out images that no network predicts out of fold.
"""

import argparse
import csv
import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from cloudseg.dataset.labels.tables import HEADER
from cloudseg.storage import stores
from cloudseg.studies.label_faults import LONGEST, SHARED, agreement, coarse, coarse_size

SHARE, FIRST = 0.05, 0.1
BAR = 0.8
KINDS = ("images", "classes", "emptied")


def swaps(kind: str, present: np.ndarray, rng: np.random.Generator) -> Iterator[list[tuple[int, int, int, int]]]:
    """Yield what to change, each image once: lists of (image, class, image and class that the mask comes from).

    A class of -1 is an empty mask. Only labels that change are in a list.
    """
    order = rng.permutation(len(present)).tolist()
    kinds = itertools.cycle(KINDS if kind == "mixed" else [kind])
    while len(order) > 1:
        image, chosen = order.pop(), next(kinds)
        has = np.flatnonzero(present[image])
        if chosen == "images":
            other = order.pop()
            pairs = [(image, other), (other, image)]
            classes = np.flatnonzero(present[image] | present[other]).tolist()
            yield [(one, number, two, number) for one, two in pairs for number in classes]
        elif len(has) and chosen == "classes" and present.shape[1] > 1:
            first = int(rng.choice(has))
            second = int(rng.choice([number for number in range(present.shape[1]) if number != first]))
            yield [(image, first, image, second), (image, second, image, first)]
        elif len(has) and chosen == "emptied":
            yield [(image, int(rng.choice(has)), image, -1)]


def swapped(kind: str, present: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Return changes of 5 % of the labels, or as near below as swaps come."""
    changes: list[tuple[int, int, int, int]] = []
    for some in swaps(kind, present, rng):
        if len(changes) + len(some) <= round(SHARE * present.size):
            changes += some
    return changes


def after_training(results: Path, ensemble: str, seeds: int) -> bool:
    """Swap labels of the out-of-fold images, rank them, and print the shares found; return whether the bar holds."""
    blend, truth = (
        stores.read(results / f"ensembles/{ensemble}/valid.zarr"),
        stores.read(results / "dataset/truth.zarr"),
    )
    size = coarse_size(*blend.shape[2:], LONGEST)
    row_of = {name: row for row, name in enumerate(truth.attrs["ids"])}
    planes = stores.read_images(blend, slice(0, blend.shape[0]))
    masks = stores.read_images(truth, slice(0, truth.shape[0]))
    predictions = np.stack([coarse(image, size) for image in planes])
    labels = np.stack([coarse(masks[row_of[name]] * np.uint8(255), size) for name in blend.attrs["ids"]])
    found: dict[str, list[tuple[float, float]]] = {}
    for kind in (*KINDS, "mixed"):
        for seed in range(seeds):
            changed = labels.copy()
            changes = swapped(kind, labels.any((2, 3)), np.random.default_rng(seed))
            for image, number, other, source in changes:
                changed[image, number] = 0 if source < 0 else labels[other, source]
            wrong = 1 - agreement(predictions, changed)
            scores = wrong + SHARED * wrong.mean(1, keepdims=True)
            bad = np.zeros(wrong.shape, bool)
            bad[[image for image, *_ in changes], [number for _, number, *_ in changes]] = True
            found.setdefault(kind, []).append(
                (_recall(scores.ravel(), bad.ravel()), _recall(wrong.mean(1), bad.any(1)))
            )
    for kind, recalls in found.items():
        by_label, by_image = np.array(recalls).T
        print(
            f"{kind:8} {by_label.mean():.2f} of the swapped labels in the first tenth of the labels "
            f"({by_label.min():.2f} to {by_label.max():.2f}); {by_image.mean():.2f} of their images in the first tenth "
            "of the images"
        )
    return float(np.mean([label for label, _ in found["mixed"]])) >= BAR


def _recall(scores: np.ndarray, bad: np.ndarray) -> float:
    first = np.argsort(-scores, kind="stable")[: max(1, int(FIRST * len(scores)))]
    return float(bad[first].sum() / bad.sum())


def swap_folder(raw: Path, out: Path, seed: int) -> None:
    """Copy a folder with 5 % of its labels swapped, and write which ones as ``swapped.json``."""
    with (raw / "train.csv").open(newline="") as file:
        csv.field_size_limit(2**31 - 1)
        texts = {tuple(name.rsplit("_", 1)): text for name, text in list(csv.reader(file))[1:]}
    images, classes = (list(dict.fromkeys(names)) for names in zip(*texts, strict=True))
    present = np.array([[bool(texts[image, name]) for name in classes] for image in images])
    changes = swapped("mixed", present, np.random.default_rng(seed))
    new = dict(texts)
    for image, number, other, source in changes:
        new[images[image], classes[number]] = "" if source < 0 else texts[images[other], classes[source]]
    out.mkdir(parents=True)
    for split in ("train_images", "test_images"):
        shutil.copytree(raw / split, out / split)
    shutil.copy(raw / "sample_submission.csv", out)
    with (out / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([HEADER, *([f"{image}_{name}", text] for (image, name), text in new.items())])
    names = [[images[image], classes[number]] for image, number, *_ in changes]
    (out / "swapped.json").write_text(json.dumps(names) + "\n")
    print(f"{len(names)} of {present.size} labels swapped, of {len({image for image, _ in names})} images")


def count_swapped(out: Path, results: Path) -> None:
    """Print where the swapped labels are in the list of a workflow that trained on them."""
    table = pd.read_csv(results / "report/labels.tsv", sep="\t", keep_default_na=False)
    known = set(table["image"])
    names = {(image, name) for image, name in json.loads((out / "swapped.json").read_text()) if image in known}
    places = [row + 1 for row, pair in enumerate(zip(table["image"], table["class"], strict=True)) if pair in names]
    first = int(FIRST * len(table))
    print(f"{len(places)} swapped labels among {len(table)} out of fold, at places {places}")
    print(f"{np.mean([place <= first for place in places]):.2f} of them in the first tenth ({first})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="results of the demo, or of a config that trained on OUT")
    parser.add_argument("--ensemble", default="all")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--swap", type=Path, help="folder whose labels to swap")
    parser.add_argument("--out", type=Path, help="where to")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--swapped", type=Path, help="folder with swapped labels that --results trained on")
    arguments = parser.parse_args()
    if arguments.swap:
        swap_folder(arguments.swap, arguments.out, arguments.seed)
    elif arguments.swapped:
        count_swapped(arguments.swapped, arguments.results)
    else:
        sys.exit(0 if after_training(arguments.results, arguments.ensemble, arguments.seeds) else 1)


if __name__ == "__main__":
    main()
