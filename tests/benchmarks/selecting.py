"""Time and peak memory of the search for an ensemble, on made-up planes.

    python tests/benchmarks/selecting.py [--images 5546] [--candidates 24] [--threads 2] [--seed 1]

First a step is compared with plain NumPy on a few images. Then two searches run, each in its own process: `reduced`, of
many candidates on as many images as the contest has, in the cells that fit in the default memory, without stores; and
`whole`, of 4 candidates on 100 images of 350x525, read from stores, every pixel. Both run over five folds and once
without each. The bars: `reduced` under 120 s, `whole` under 60 s, each under 2 GiB.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from cloudseg.ensemble.candidates import MEMORY, Candidates, _least_reduce
from cloudseg.ensemble.selecting import choose
from cloudseg.postprocess import blend
from cloudseg.postprocess.additions import PARTS, dice_of_additions
from cloudseg.postprocess.cells import cell_areas, grid_of
from cloudseg.storage import stores

CONTEST = 350, 525
CLASSES = [f"class {number}" for number in range(4)]
FOLDS = 5
BARS = {"reduced": 120, "whole": 60}
MOST_MEMORY = 2048  # MiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5546)
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=BARS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        sys.exit(0 if {"reduced": reduced, "whole": whole}[arguments.only](arguments) else 1)
    assert_as_numpy(np.random.default_rng(arguments.seed))
    ran = [subprocess.run([sys.executable, *sys.argv, "--only", name], check=False) for name in BARS]
    sys.exit(max(each.returncode for each in ran))


def reduced(arguments: argparse.Namespace) -> bool:
    """Search in cells, as many as fit in the default memory."""
    side = _least_reduce(arguments.images, arguments.candidates, (len(CLASSES), *CONTEST), MEMORY)
    candidates = made_up(arguments, side)
    return search("reduced", candidates, time.perf_counter(), time.process_time())


def whole(arguments: argparse.Namespace) -> bool:
    """Search over every pixel of stores."""
    with tempfile.TemporaryDirectory() as folder:
        paths, members = write_stores(Path(folder), np.random.default_rng(arguments.seed), images=100, candidates=4)
        began, began_cpu = time.perf_counter(), time.process_time()
        candidates = Candidates.read(paths, members, Path(folder) / "truth.zarr", threads=arguments.threads)
        print(f"whole: read in {time.perf_counter() - began:.1f} s", flush=True)
        return search("whole", candidates, began, began_cpu)


def search(name: str, candidates: Candidates, began: float, began_cpu: float) -> bool:
    """Search, say what was chosen and what it took, and return whether the bars are held."""
    found = choose(candidates, tolerance=0)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    steps = [len(choice.path) for choice in (found.chosen, *found.nested.values())]
    scores = ", ".join(f"{kind} {score.in_sample:.4f} ({score.honest:.4f})" for kind, score in found.scores.items())
    print(
        f"{name}: {len(candidates.names)} candidates, {candidates.images} images, {len(candidates.areas)} cells of "
        f"{candidates.reduce} pixels a side; {steps} steps; Dice in sample (honest): {scores}\n"
        f"{name}: {seconds:.1f} s (bar {BARS[name]}), of processors {cpu:.1f} s; peak {memory} MiB (bar {MOST_MEMORY})"
    )
    return seconds <= BARS[name] and memory <= MOST_MEMORY


def made_up(arguments: argparse.Namespace, side: int) -> Candidates:
    """Return candidates that err by themselves around one truth, as networks do."""
    random = np.random.default_rng(arguments.seed)
    grid = grid_of(*CONTEST, side)
    areas = cell_areas(*CONTEST, side).reshape(-1)
    areas = np.pad(areas, (0, -len(areas) % PARTS))
    sizes = [len(part) for part in np.array_split(np.arange(arguments.images), FOLDS)]
    planes = [np.zeros((size, len(CLASSES), arguments.candidates, len(areas)), np.uint8) for size in sizes]
    covered = [np.zeros((size, len(CLASSES), len(areas)), np.uint16) for size in sizes]
    for of_fold, truth in zip(planes, covered, strict=True):
        for image, mask in zip(of_fold, truth, strict=True):
            for members, wanted in zip(image, mask, strict=True):
                field, guesses = fields(random, grid, arguments.candidates)
                wanted[: field.size] = areas[: field.size] * (field.reshape(-1) > 0.6)
                members[:, : field.size] = guesses.reshape(len(guesses), -1)
    names = [f"candidate {number}" for number in range(arguments.candidates)]
    return Candidates(names, list(range(FOLDS)), side, planes, covered, areas, arguments.threads)


def fields(random: np.random.Generator, grid: tuple[int, int], candidates: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth field, and per candidate uint8 probabilities that it is large; later ones err more."""

    def smooth() -> np.ndarray:
        return cv2.resize(random.standard_normal((5, 7), np.float32), grid[::-1], interpolation=cv2.INTER_CUBIC)

    field = smooth()
    errors = 0.7 + 0.6 * np.arange(candidates) / candidates
    guesses = np.stack([128 + 90 * (field - 0.6 + error * smooth()) for error in errors])
    return field, np.clip(guesses, 0, 255).astype(np.uint8)


def write_stores(
    folder: Path, random: np.random.Generator, *, images: int, candidates: int
) -> tuple[list[Path], list[dict[str, object]]]:
    """Write a store of each candidate and fold, and the truth; return the paths and the members."""
    paths, members, truth = [], [], []
    for fold in range(FOLDS):
        ids = [f"{fold}_{image}.jpg" for image in range(images // FOLDS)]
        made = [[fields(random, CONTEST, candidates) for _ in CLASSES] for _ in ids]
        truth.append(np.stack([[(field > 0.6).astype(np.uint8) for field, _ in image] for image in made]))
        for number in range(candidates):
            block = np.stack([[guesses[number] for _, guesses in image] for image in made])
            paths.append(write(folder / f"{number}-{fold}.zarr", block, ids))
            members.append({"candidate": f"candidate {number}", "store": f"{number}/{fold}", "fold": fold})
    ids = [f"{fold}_{image}.jpg" for fold in range(FOLDS) for image in range(images // FOLDS)]
    write(folder / "truth.zarr", np.concatenate(truth), ids)
    return paths, members


def write(path: Path, block: np.ndarray, ids: list[str]) -> Path:
    spec = stores.Spec(block.shape, "uint8", ("image", "class", "y", "x"))
    writer = stores.Writer(path, {"": spec}, {"ids": ids, "classes": CLASSES})
    for rows in writer.missing():
        writer.write(rows, block[rows])
    writer.finish()
    return path


def assert_as_numpy(random: np.random.Generator) -> None:
    """Compare a step with the core's blend and masks of NumPy at every level."""
    planes = random.integers(0, 256, (3, 2, 4, 400), dtype=np.uint8)
    truth = (random.random((3, 2, 400)) < 0.3).astype(np.uint16)
    counts = [2, 0, 1, 0]
    found = dice_of_additions(planes, truth, np.ones(400, np.int64), counts, range(4))
    for added in range(4):
        weights = [count + (number == added) for number, count in enumerate(counts)]
        mean = blend(np.ascontiguousarray(planes.transpose(2, 0, 1, 3)), weights=weights)
        for level in range(256):
            masks = mean >= level
            dice = 2 * (masks & (truth > 0)).sum(axis=2) / (masks.sum(axis=2) + truth.sum(axis=2))
            assert np.allclose(found[added, :, level], dice.sum(axis=0), rtol=0, atol=1e-12)


if __name__ == "__main__":
    main()
