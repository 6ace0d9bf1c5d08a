"""Compare loading a training sample from a pixel store with decoding its JPEG, and watch a build's memory.

Also: what it costs to know which image was being read when a worker dies or stands still, and to mix samples by CutMix
and MixUp: with the next sample of the batch, as trainings do, and with one that is loaded and augmented for it alone.

    python tests/benchmarks/loading.py [--root FOLDER] [--images 220]

Without ``--root`` (a data set in the contest's layout) a small demo is made in a temporary folder. The time
to beat is that of reading a JPEG and resizing it, its mask left out, which favours the JPEG. The bars are a
ratio of 15, 2 % of a sample's CPU time for watching it, 0.5 ms for mixing it by CutMix, a growth of peak memory
under 10 % for ten times the images, and samples a second and core of two recipes of the diary: of `frog`, which
augments at 700x1050, 250 at 320x480 and 100 at 640x960; of `flips` 2500 and 600.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from torch.utils.data import DataLoader, Dataset

from cloudseg.config.recipe import Recipe
from cloudseg.config.recipe_parts import CutMix, MixUp
from cloudseg.config.size import Size
from cloudseg.dataset.check import check_dataset
from cloudseg.dataset.decoding import load_image
from cloudseg.dataset.demo import make_demo
from cloudseg.dataset.images_table import read_images
from cloudseg.dataset.pixels import build_pixels
from cloudseg.dataset.resizing import resize_image
from cloudseg.runtime.memory import keep_freed_memory
from cloudseg.storage import stores
from cloudseg.storage.files import write_table
from cloudseg.training.data.augment import build_transform
from cloudseg.training.data.dataset import SegmentationDataset
from cloudseg.training.data.images import LabelledImages
from cloudseg.training.data.loader import Loader
from cloudseg.training.data.mixing import MIXING, MixedDataset, cutmix_box, paste
from cloudseg.training.data.sampler import BatchSampler
from cloudseg.training.data.samples import training_samples

DIARY = Path(__file__).parents[2] / "config/diary.yaml"
CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
SIZE = (320, 480)
LEAST_RATIO = 15
MOST_WATCHING = 0.02
MOST_MIXING = 0.5  # ms
MOST_GROWTH = 0.10
# Recipe of the diary and training size; samples a second and core
LEAST_SAMPLES = {
    ("flips", "320x480"): 2500,
    ("flips", "640x960"): 600,
    ("frog", "320x480"): 250,
    ("frog", "640x960"): 100,
}
STEPS = [{"name": name, "p": 0.5} for name in ("HorizontalFlip", "VerticalFlip", "RandomBrightnessContrast")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a data set in the contest's layout; a demo when left out")
    parser.add_argument(
        "--images", type=int, default=220, help="images of the smaller build (default 220, which fill a shard of masks)"
    )
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        report_peak(*arguments.build)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.root or Path(folder, "demo")
        if not arguments.root:
            make_demo(root, train=12, test=2, seed=1)
        passed = [
            compare_loading(root, Path(folder)),
            compare_samples(root, Path(folder)),
            compare_watching(Path(folder)),
            compare_mixing(Path(folder)),
            compare_memory(root, Path(folder), arguments.images),
        ]
    sys.exit(0 if all(passed) else 1)


def compare_loading(root: Path, scratch: Path) -> bool:
    images, report = check_dataset(root, classes=CLASSES, size_of_submission=(350, 525), workers=2)
    report.raise_for_errors()
    build_pixels(
        images, root, scratch / "a.zarr", split="train", size=f"{SIZE[0]}x{SIZE[1]}", classes=CLASSES, threads=2
    )
    group = stores.read(scratch / "a.zarr")
    image, mask = group["image"], group["mask"]
    paths = [root / "train_images" / name for name in group.attrs["ids"]]

    def from_store(row: int) -> None:
        stores.read_images(image, slice(row, row + 1))
        stores.read_images(mask, slice(row, row + 1))

    def with_zarr(row: int) -> None:
        image[row], mask[row]

    def with_opencv(row: int) -> None:
        pixels = cv2.cvtColor(cv2.imread(str(paths[row])), cv2.COLOR_BGR2RGB)
        cv2.resize(pixels, SIZE[::-1], interpolation=cv2.INTER_AREA)

    cv2.setNumThreads(1)
    rows = np.random.default_rng(0).integers(0, len(paths), 40)
    ways: dict[str, Callable[[int], object]] = {
        "JPEG, OpenCV": with_opencv,
        "JPEG, load_image": lambda row: resize_image(load_image(paths[row]), SIZE),
        "store, Zarr's own reader": with_zarr,
        "store, stores.read_images": from_store,
    }
    medians = compare(ways, rows)
    print(f"Loading a {SIZE[0]}x{SIZE[1]} training sample (the store's with its mask), median of {len(rows)}:")
    for name, seconds in medians.items():
        print(f"  {name:26} {1000 * seconds:7.2f} ms")
    jpeg = min(medians["JPEG, OpenCV"], medians["JPEG, load_image"])
    ratio = jpeg / medians["store, stores.read_images"]
    print(f"  the store is {ratio:.1f} times faster than the faster JPEG (bar: {LEAST_RATIO})")
    return ratio >= LEAST_RATIO


def compare_samples(root: Path, scratch: Path, epochs: int = 8) -> bool:
    images, report = check_dataset(root, classes=CLASSES, size_of_submission=(350, 525), workers=2)
    report.raise_for_errors()
    recipes = yaml.safe_load(DIARY.read_text(encoding="utf-8"))["recipes"]
    cv2.setNumThreads(0)
    keep_freed_memory()  # as workers do
    print("Samples a second and core, as a loader's worker makes them, best of 8 epochs:")
    passed = True
    for (name, size), least in LEAST_SAMPLES.items():
        recipe = Recipe(**recipes[name])
        stored = scratch / f"{recipe.canvas or size}.zarr"
        if not stored.exists():
            size_stored = stored.stem
            build_pixels(images, root, stored, split="train", size=size_stored, classes=CLASSES, threads=2)
        known = LabelledImages(stored, range(len(stores.read(stored).attrs["ids"])))
        samples = training_samples(known, recipe, classes=len(CLASSES), size=Size.parse(size).pixels, seed=0)
        seconds = min(seconds_of_epoch(samples, epoch) for epoch in range(1, 1 + epochs))
        read = min(seconds_of_reading(known) for _ in range(epochs))
        rate = len(known) / seconds
        print(f"  {name:5} at {size}: {rate:6.0f} (bar: {least}), {1000 * read / len(known):.2f} ms of it to read")
        passed &= rate >= least
    return passed


def seconds_of_epoch(samples: Dataset, epoch: int) -> float:
    start = time.process_time()
    for index in range(len(samples)):
        samples[epoch, index]
    return time.process_time() - start


def seconds_of_reading(images: LabelledImages) -> float:
    start = time.process_time()
    for index in range(len(images)):
        images[index]
    return time.process_time() - start


class Nothing:
    """Samples that cost nothing, so that what a loader costs is seen."""

    pair = torch.zeros(8, 8, 3), torch.zeros(8, 8, 1)

    def name(self, place: int) -> str:
        return str(place)

    def __len__(self) -> int:
        return 256

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pair


def compare_watching(scratch: Path) -> bool:
    batches = BatchSampler(len(Nothing()), 4)
    ways = [DataLoader(Nothing(), batch_sampler=batches), Loader(Nothing(), batches, 0, "cpu")]
    images = LabelledImages(scratch / "a.zarr", [0] * len(Nothing()))
    ways.append(Loader(SegmentationDataset(images), batches, 0, "cpu"))
    best = [float("inf")] * len(ways)
    for _ in range(15):
        for number, loader in enumerate(ways):
            start = time.process_time()
            for _ in loader:
                pass
            best[number] = min(best[number], (time.process_time() - start) / len(Nothing()))
    plain, watched, sample = best
    share = (watched - plain) / sample
    print(f"Watching over a sample: {1e6 * (watched - plain):.1f} us, {share:.2%} of it (bar: {MOST_WATCHING:.0%})")
    return share <= MOST_WATCHING


def compare_mixing(scratch: Path) -> bool:
    images = LabelledImages(scratch / "a.zarr", [number % 12 for number in range(96)])
    transform = build_transform(STEPS)
    plain = SegmentationDataset(images, transform=transform)
    soft = SegmentationDataset(images, transform=transform, soft_classes=len(CLASSES))
    in_turn, jumbled = (BatchSampler(len(images), 16, shuffle_seed=seed) for seed in (0, 1))
    cutmix = MixedDataset(plain, seed=0, cutmix=CutMix(p=1))
    ways = {
        "not mixed": (plain, in_turn),
        "CutMix, half of them": (MixedDataset(plain, seed=0, cutmix=CutMix(p=0.5)), in_turn),
        "CutMix, all": (cutmix, in_turn),
        "CutMix, all, partner loaded for it": (cutmix, jumbled),
        "soft masks": (soft, in_turn),
        "soft masks, MixUp, all": (MixedDataset(soft, seed=0, mixup=MixUp(p=1)), in_turn),
    }
    seconds = {name: float("inf") for name in ways}
    for epoch in range(1, 9):
        in_turn.epoch = jumbled.epoch = epoch
        for name, (samples, batches) in ways.items():
            start = time.process_time()
            for key in (key for batch in batches for key in batch):
                samples[key]
            seconds[name] = min(seconds[name], (time.process_time() - start) / len(images))
    print(f"Mixing {SIZE[0]}x{SIZE[1]} samples, CPU time of one, best of 8:")
    for name, each in seconds.items():
        print(f"  {name:36} {1000 * each:7.3f} ms")
    whole = 1000 * (seconds["CutMix, all"] - seconds["not mixed"])
    alone = 1000 * pasting_seconds(plain)
    print(f"  CutMix takes {whole:.3f} ms, {alone:.3f} of them to draw and paste (bar: {MOST_MIXING})")
    return max(whole, alone) <= MOST_MIXING


def pasting_seconds(samples: SegmentationDataset, repeats: int = 2000) -> float:
    """Return the CPU seconds to draw a box and paste it, without making any of the two samples."""
    sample, partner = samples[1, 0], samples[1, 1]
    start = time.process_time()
    for index in range(repeats):
        rng = np.random.default_rng([0, 1, index, MIXING])
        paste(sample, partner, cutmix_box(SIZE, 1, rng))
    return (time.process_time() - start) / repeats


def compare(ways: dict[str, Callable[[int], object]], rows: np.ndarray) -> dict[str, float]:
    """Time the ways in turn on each row, so that a busy machine slows all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for row in [0, *rows.tolist()]:
        for name, way in ways.items():
            start = time.perf_counter()
            way(row)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def compare_memory(root: Path, scratch: Path, count: int) -> bool:
    print(f"Peak memory of building a {SIZE[0]}x{SIZE[1]} store:")
    peaks = []
    for images in (count, 10 * count):
        many = scratch / f"many{images}"
        multiply(root, many, images)
        command = [sys.executable, __file__, "--build", str(many), str(scratch / f"{images}.zarr")]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(f"  {images:6} images {peaks[-1] / 2**10:7.0f} MiB")
    growth = peaks[1] / peaks[0] - 1
    print(f"  ten times the images take {100 * growth:.1f} % more (bar: {100 * MOST_GROWTH:.0f} %)")
    return growth < MOST_GROWTH


def multiply(root: Path, out: Path, count: int) -> None:
    """Write a data set of ``count`` training images at the size of the store, copies that differ in bytes."""
    for split in ("train", "test"):
        (out / f"{split}_images").mkdir(parents=True)
    sources = sorted((root / "train_images").iterdir())[:6]
    smaller = [resize_image(load_image(path), SIZE)[..., ::-1] for path in sources]
    data = [cv2.imencode(".jpg", image)[1].tobytes() for image in smaller]
    # A label as long as the contest's: some 300 runs of 100 pixels.
    label = " ".join(f"{320 * column + 20} 100" for column in range(300))
    with (out / "train.csv").open("w") as table:
        table.write("Image_Label,EncodedPixels\n")
        for index in range(count):
            name = f"{index:06}.jpg"
            (out / "train_images" / name).write_bytes(data[index % len(data)] + str(index).encode())
            table.writelines(f"{name}_{label_name},{label}\n" for label_name in CLASSES)
    (out / "test_images" / "x.jpg").write_bytes(data[0])
    rows = "".join(f"x.jpg_{label_name},1 1\n" for label_name in CLASSES)
    (out / "sample_submission.csv").write_text("Image_Label,EncodedPixels\n" + rows)
    images, report = check_dataset(out, classes=CLASSES, size_of_submission=SIZE, workers=2)
    report.raise_for_errors()
    write_table(images, out / "images.tsv")


def report_peak(root: Path, out: Path) -> None:
    """Build a store in this process and print the peak of its resident memory in KiB (Linux only).

    ``getrusage`` would report the peak of the process that started this one if that is higher.
    """
    images = read_images(root / "images.tsv")
    build_pixels(images, root, out, split="train", size=f"{SIZE[0]}x{SIZE[1]}", classes=CLASSES, threads=2)
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


if __name__ == "__main__":
    main()
