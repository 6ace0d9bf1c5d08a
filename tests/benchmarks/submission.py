"""Compare blending and submitting with merely reading the stores, and show that memory does not grow.

    python tests/benchmarks/submission.py --results results/demo [--images 240] [--members 12] [--repeats 5]

The members are test probabilities of the demo's own models, repeated to `--images` images; where there are fewer
than `--members` stores, further ones are mirrored. Reading is plain zarr, shard by shard on two threads, the arrays
thrown away. The bars: blend and submission together at most 1.5 times the wall time of reading the members, the
submission alone at most 1.2 times that of reading the blend, peak memory under 1 GiB for any number of images.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.submission import write_submission
from cloudseg.postprocess import Cut
from cloudseg.storage import stores

THREADS = 2
MOST_TOGETHER, MOST_SUBMIT, MOST_MEMORY = 1.5, 1.2, 1024
CUT = Cut(128, 5000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="results of the demo: results/demo")
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--members", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only-once", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only_once:
        blend_and_submit(sorted(arguments.only_once.glob("member*.zarr")), arguments.only_once)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    zarr.config.set({"threading.max_workers": THREADS, "async.concurrency": THREADS})
    with tempfile.TemporaryDirectory() as folder:
        members = make_members(arguments.results, Path(folder), arguments.images, arguments.members)
        passed = compare(members, Path(folder), arguments.repeats)
        few = peak_memory(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        make_members(arguments.results, Path(folder), 4 * arguments.images, arguments.members)
        many = peak_memory(Path(folder))
    print(
        f"peak memory: {few} MiB for {arguments.images} images, {many} MiB for four times as many (bar {MOST_MEMORY})"
    )
    sys.exit(0 if passed and many <= MOST_MEMORY else 1)


def make_members(results: Path, folder: Path, images: int, members: int) -> list[Path]:
    """Write `members` stores of `images` images from the test stores of the demo's runs."""
    sources = sorted(results.glob("runs/*/*/*/*/fold*/*-test.zarr"))
    if not sources:
        sys.exit(f"{results}: holds no test probabilities; run the demo first")
    paths = []
    for number in range(members):
        array = stores.read(sources[number % len(sources)])
        block = stores.read_images(array, slice(0, array.shape[0]))[..., :: 1 if number < len(sources) else -1]
        paths.append(folder / f"member{number:02}.zarr")
        spec = stores.Spec((images, *block.shape[1:]), "uint8", ("image", "class", "y", "x"))
        attrs = {"ids": [f"{n:05}.jpg" for n in range(images)], "classes": list(array.attrs["classes"]), "run": "x"}
        writer = stores.Writer(paths[-1], {"": spec}, attrs, threads=THREADS)
        for rows in writer.missing():
            writer.write(rows, block[np.arange(rows.start, rows.stop) % len(block)])
        writer.finish()
    return paths


def read_with_zarr(paths: list[Path]) -> None:
    for path in paths:
        array = zarr.open(path, mode="r")
        for start in range(0, array.shape[0], array.shards[0]):
            array[start : start + array.shards[0]]


def blend_and_submit(members: list[Path], folder: Path) -> None:
    blend(members, folder)
    submit(folder)


def blend(members: list[Path], folder: Path) -> None:
    array = stores.read(members[0])
    weights = [{"store": path.name, "fold": 0, "weight": 1.0} for path in members]
    classes, size = list(array.attrs["classes"]), tuple(array.shape[2:])
    blend_stores(members, weights, folder / "blend.zarr", folds=None, classes=classes, size=size, threads=THREADS)


def submit(folder: Path) -> None:
    attrs = stores.read(folder / "blend.zarr").attrs
    sample = [(image, label) for image in attrs["ids"] for label in attrs["classes"]]
    rule = ImageRule.of_cuts(dict.fromkeys(attrs["classes"], CUT))
    write_submission(folder / "blend.zarr", rule, sample, folder / "submission.csv", threads=THREADS)


def compare(members: list[Path], folder: Path, repeats: int) -> bool:
    blend_and_submit(members, folder)  # compiles
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, work in {
            "read members": lambda: read_with_zarr(members),
            "blend": lambda: blend(members, folder),
            "read blend": lambda: read_with_zarr([folder / "blend.zarr"]),
            "submit": lambda: submit(folder),
        }.items():
            started = time.perf_counter()
            work()
            times.setdefault(name, []).append(time.perf_counter() - started)
    print("| work | minimum s | median s |\n| --- | --- | --- |")
    for name, seconds in times.items():
        print(f"| {name} | {min(seconds):.2f} | {statistics.median(seconds):.2f} |")
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    together = (median["blend"] + median["submit"]) / median["read members"]
    alone = median["submit"] / median["read blend"]
    print(f"\nblend and submit / read members: {together:.2f} (bar {MOST_TOGETHER})")
    print(f"submit / read blend: {alone:.2f} (bar {MOST_SUBMIT})")
    return together <= MOST_TOGETHER and alone <= MOST_SUBMIT


def peak_memory(folder: Path) -> int:
    """Return the peak memory in MiB of a process that blends and submits the members in `folder`."""
    command = [sys.executable, __file__, "--results", ".", "--only-once", str(folder)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
