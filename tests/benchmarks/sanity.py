"""Count the false and true alarms of rule `sanity`, and time it at the contest's size.

    python tests/benchmarks/sanity.py --results results/demo [--draws 200]

Honest submissions are random subsets of the training labels, of the demo and of a synthetic set of three classes with
rates of 5, 30 and 90 %. The bars: no fault, and warnings in less than 5 % of them. Each kind of damage is done to 20 of
them and must be called a fault, or at least a warning where it may be meant. A submission of 14,792 rows, which is the
contest's number, must take less than 5 seconds.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cloudseg.postprocess import decode_rle, encode_rle
from cloudseg.storage import stores
from cloudseg.studies.sanity.check import look_at
from cloudseg.studies.sanity.measuring import measure_mask
from cloudseg.studies.sanity.submission import Form
from cloudseg.studies.sanity.training import Training, read_training

DAMAGED = 20  # submissions per kind of damage
CONTEST_ROWS = 14_792
SECONDS = 5


class Honest:
    """A labelled set, of which submissions are drawn."""

    def __init__(self, training: Training, texts: list[list[str]], grid: tuple[int, int], test: int, min_size: int):
        self.training, self.texts, self.grid, self.test = training, texts, grid, test
        self.min_sizes = [min_size] * len(training.classes)

    def draw(self, rng: np.random.Generator) -> tuple[Form, list[list[str]]]:
        """Return what a submission must be, and one."""
        images = [f"test{number}.jpg" for number in range(self.test)]
        names = [(image, name) for image in images for name in self.training.classes]
        chosen = rng.choice(len(self.texts), self.test, replace=False)
        rows = [
            [f"{image}_{name}", self.texts[row][number]]
            for image, row in zip(images, chosen, strict=True)
            for number, name in enumerate(self.training.classes)
        ]
        form = Form(names, self.training.names, self.training.classes, self.grid, self.min_sizes)
        return form, rows


def demo(results: Path) -> Honest:
    """Return the demo's training labels, whose submissions have 30 images."""
    truth = stores.read(results / "dataset/truth.zarr")
    classes = list(truth.attrs["classes"])
    training = read_training(results / "dataset/train.tsv", results / "dataset/truth.zarr", classes, [5000] * 4)
    masks = stores.read_images(truth, slice(0, truth.shape[0]))
    return Honest(training, [[encode_rle(mask) for mask in image] for image in masks], truth.shape[2:], 30, 5000)


def synthetic(images: int = 400, grid: tuple[int, int] = (128, 192)) -> Honest:
    """Return ellipses of three classes, one rare, one nearly everywhere, whose submissions have 120 images."""
    rng = np.random.default_rng(1)
    masks = np.zeros((images, 3, *grid), np.uint8)
    for planes in masks:
        for number in np.flatnonzero(rng.random(3) < (0.05, 0.3, 0.9)):
            for _ in range(rng.integers(1, 4)):
                centre, axes = rng.uniform((0, 0), grid[::-1]), rng.uniform(6, 40, 2)
                cv2.ellipse(planes[number], (centre, 2 * axes, rng.uniform(0, 180)), 1, -1)
    present = masks.any((2, 3))
    rows = [
        (number, measured.components, measured.small, False)
        for image in masks
        for number, measured in enumerate(measure_mask(mask, 50) for mask in image)
        if measured.area
    ]
    table = pd.DataFrame(rows, columns=["class", "components", "small", "same"])
    names = [f"train{number}.jpg" for number in range(images)]
    training = Training(["rare", "some", "most"], names, present, masks.mean((2, 3)), table)
    return Honest(training, [[encode_rle(mask) for mask in image] for image in masks], grid, 120, 50)


def remade(change):
    """Return a damage that changes each mask."""

    def damage(rows, grid, rng):
        return [[name, text and encode_rle(change(decode_rle(text, grid), rng))] for name, text in rows]

    return damage


def specks(mask, rng):
    return (mask | (rng.random(mask.shape) < 0.002)).astype(np.uint8)


def shrunk(mask, rng):
    side = max(3, int(np.sqrt(np.count_nonzero(mask)) * 0.4)) | 1
    small = cv2.erode(np.ascontiguousarray(mask), np.ones((side, side)))
    return small if small.any() else mask


def fewer(rows, grid, rng):
    return [[name, text if rng.random() < 0.1 else ""] for name, text in rows]


def vanished(rows, grid, rng):
    last = rows[-1][0].rpartition("_")[2]
    return [[name, "" if name.endswith(last) else text] for name, text in rows]


def first_for_all(rows, grid, rng):
    first = next(text for _, text in rows if text)
    return [[name, text and first] for name, text in rows]


def overlapping(rows, grid, rng):
    return [[name, text and f"{text} 1 5"] for name, text in rows]


def renamed(rows, grid, rng):
    return [[name.replace("test", "train"), text] for name, text in rows]


def shuffled_classes(rows, grid, rng):
    texts = [text for _, text in rows]
    classes = len({name.rpartition("_")[2] for name, _ in rows})
    turned = [texts[row - row % classes + (row + 1) % classes] for row in range(len(rows))]
    return [[name, text] for (name, _), text in zip(rows, turned, strict=True)]


DAMAGES = {
    "a class emptied": vanished,
    "9 of 10 masks lost": fewer,
    "everywhere the first mask": first_for_all,
    "inverted": lambda rows, grid, rng: [[name, encode_rle(1 - decode_rle(text, grid))] for name, text in rows],
    "full masks everywhere": lambda rows, grid, rng: [[name, f"1 {grid[0] * grid[1]}"] for name, _ in rows],
    "along the rows": remade(lambda mask, rng: np.ascontiguousarray(mask.T)),
    "twice as large": remade(lambda mask, rng: mask.repeat(2, 0).repeat(2, 1)),
    "a tenth of the rows missing": lambda rows, grid, rng: rows[: len(rows) * 9 // 10],
    "rows twice": lambda rows, grid, rng: rows + rows[:3],
    "training images": renamed,
    "runs that overlap": overlapping,
    "noise of single pixels": remade(specks),
    "shrunk masks": remade(shrunk),
    "the placeholder": lambda rows, grid, rng: [[name, "1 1"] for name, _ in rows],
    "classes in another order": shuffled_classes,
}


def write(rows, path: Path) -> Path:
    """Write rows as a submission."""
    path.write_text("\n".join(["Image_Label,EncodedPixels", *map(",".join, rows), ""]))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="results of the demo: results/demo")
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    sets = {"demo": demo(arguments.results), "synthetic": synthetic()}
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "submission.csv")
        for name, honest in sets.items():
            passed &= count_false_alarms(name, honest, path, arguments.draws)
            passed &= count_true_alarms(name, honest, path)
        passed &= time_contest(sets["demo"], path)
    sys.exit(0 if passed else 1)


def count_false_alarms(name: str, honest: Honest, path: Path, draws: int) -> bool:
    """Look at honest submissions, and return whether few enough are called odd."""
    faults = warnings = 0
    for seed in range(draws):
        form, rows = honest.draw(np.random.default_rng(seed))
        found = look_at(write(rows, path), form, honest.training, own=False, threads=2)
        counted = found.findings.counts()
        faults, warnings = faults + (counted[0] > 0), warnings + (counted[1] > 0)
        if any(counted):
            print(f"  seed {seed}: {[str(group.first[0]) for group in found.findings.groups()]}")
    print(f"{name}: {draws} honest submissions: {faults} with a fault (bar 0), {warnings} with a warning (bar 5 %)")
    return faults == 0 and warnings < 0.05 * draws


def count_true_alarms(name: str, honest: Honest, path: Path) -> bool:
    """Damage submissions, and print how many are called faulty or odd."""
    missed = 0
    for kind, damage in DAMAGES.items():
        faults, odd, titles = 0, 0, set()
        for seed in range(DAMAGED):
            rng = np.random.default_rng(1000 + seed)
            form, rows = honest.draw(rng)
            found = look_at(write(damage(rows, honest.grid, rng), path), form, honest.training, own=False, threads=2)
            counted = found.findings.counts()
            faults, odd = faults + (counted[0] > 0), odd + any(counted)
            titles |= {group.kind.title for group in found.findings.groups() if group.kind.fault or not counted[0]}
        missed += odd < DAMAGED
        print(f"  {kind:28} {faults:3} faults, {odd:3} odd of {DAMAGED}: {'; '.join(sorted(titles))}")
    print(f"{name}: {missed} of {len(DAMAGES)} kinds of damage were not always called odd")
    return True


def time_contest(honest: Honest, path: Path) -> bool:
    """Time a submission of the contest's size."""
    form, rows = honest.draw(np.random.default_rng(0))
    images = CONTEST_ROWS // len(honest.training.classes)
    names = [f"large{number}.jpg" for number in range(images)]
    pairs = [(image, name) for image in names for name in honest.training.classes]
    many = [[f"{image}_{name}", rows[row % len(rows)][1]] for row, (image, name) in enumerate(pairs)]
    whole = Form(pairs, form.train_images, form.classes, form.grid, form.min_sizes)
    write(many, path)
    started = time.perf_counter()
    look_at(path, whole, honest.training, own=False, threads=2)
    taken = time.perf_counter() - started
    megabytes = path.stat().st_size / 1e6
    print(f"{len(many):,} rows, {megabytes:.0f} MB: {taken:.1f} s on two threads (bar {SECONDS} s)")
    return taken < SECONDS


if __name__ == "__main__":
    main()
