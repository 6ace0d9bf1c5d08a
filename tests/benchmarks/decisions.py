"""Time the search of a decision on a contest's worth of synthetic Dice values, and measure its memory.

    python tests/benchmarks/decisions.py [--images 5546] [--threads 2] [--only presence]

The values of planes are drawn, so that what is measured is the search alone, beyond the sweep that gives them. First
the product: one class, 256 gates, 256 levels, 64 minimum sizes, one thread, held against the matrix product of gates
and values, which is timed beside it. Then whole nested searches of four classes and five folds, each in a process of
its own. Two threads on a machine without other work take a little more than half of the processor's seconds.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np

from cloudseg.ensemble import choosing, searching
from cloudseg.ensemble.blended import Block
from cloudseg.ensemble.gate_tables import GateTable
from cloudseg.ensemble.masking import Evidence, ImageRule
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.ensemble.searching import Space, search
from cloudseg.postprocess import Cut

IMAGES, CLASSES, FOLDS, GATES, LEVELS, SIZES, BLOCK = 5546, 4, 5, 256, 256, 64, 32
SIDE = 64  # of the planes, which only tell the areas of their top levels
MOST_SECONDS = {"product": 3, "search": 60}
MOST_MEMORY = 2048  # MiB
MIN_SIZES = np.unique(np.geomspace(1, 40_000, 72).astype(int))[:SIZES].tolist()
SPACES = {
    "level and size": {},
    "presence, one score": {"scores": [PlaneScore("top", 400)]},
    "presence, three scores": {"scores": [PlaneScore("top", 400), PlaneScore("rank", 1), PlaneScore("area", 128)]},
    "presence and the best class": {"scores": [PlaneScore("top", 400)], "best": "always"},
    "top level and area": {"top_levels": list(range(7, 256, 8)), "top_areas": [50 * step for step in range(32)]},
    "low and high": {"highs": list(range(3, 256, 4))},
}


def drawn_values(shape):
    """Return Dice values of a block of images, or of the part of one that is in memory at once."""
    return np.random.default_rng(0).random((min(BLOCK, choosing.VALUES_AT_ONCE // (8 * np.prod(shape))), *shape))


def compare_product(images):
    """Time the table of one class with one thread, and the matrix product, and check that they agree."""
    values, gates = drawn_values((LEVELS, 1, SIZES)), np.random.default_rng(1).integers(0, GATES, images)
    is_empty = np.arange(images) % 2 == 0
    blocks = [slice(start, min(start + BLOCK, images)) for start in range(0, images, BLOCK)]
    table = GateTable(1, (1, GATES), (LEVELS, 1, SIZES))
    start = time.thread_time()
    for block in blocks:
        size = block.stop - block.start
        table.add(0, 0, gates[block], values[:size], is_empty[block])
    table.finish([images])
    ours = time.thread_time() - start
    flat = values.reshape(BLOCK, -1)
    product = np.zeros((GATES, flat.shape[1]))
    start = time.process_time()
    for block in blocks:
        passes = (gates[block] >= np.arange(GATES)[:, None]).astype(float)
        product += passes @ flat[: block.stop - block.start]
        product += ((1 - passes) @ is_empty[block])[:, None]
    product /= images
    theirs = time.process_time() - start
    assert np.allclose(table.dice.reshape(product.shape), product, rtol=0, atol=1e-12)
    met = "yes" if ours <= MOST_SECONDS["product"] else "NO"
    print(f"| product, one class of a fold | | {ours:.2f} | | {MOST_SECONDS['product']} s | {met} |")
    print(f"| the same by matrix products | | {theirs:.2f} | | | |", flush=True)


def synthetic_blocks(images):
    """Yield blocks of planes whose scores are drawn."""
    rng = np.random.default_rng(2)
    planes = rng.integers(0, 256, (BLOCK, CLASSES, SIDE, SIDE), np.uint8)
    for fold in range(FOLDS):
        for start in range(0, images // FOLDS, BLOCK):
            size = min(BLOCK, images // FOLDS - start)
            peaks = rng.integers(1, 256, (size, CLASSES, 1, 1))
            some = (planes[:size] * (peaks / 255)).astype(np.uint8)
            yield Block(fold, some, some > 200, Evidence.of(some))


def search_alone(name, images, threads):
    """Search a space with drawn values; print the seconds, those of the processor and the peak memory in MiB."""
    options = dict(SPACES[name])
    rule = ImageRule.of_cuts({f"class {number}": Cut(0, 0) for number in range(CLASSES)})
    rule = ImageRule(rule.classes, options.pop("best", "never"))
    space = Space(rule, MIN_SIZES, **options)
    blocks = list(synthetic_blocks(images))
    values = drawn_values(space.shape)
    give = mock.Mock(side_effect=lambda rule, planes, *_: values[: len(planes)])
    start, start_of_processor = time.perf_counter(), time.process_time()
    with mock.patch.object(searching, "dice_of_class", give):
        search(lambda: blocks, space, range(FOLDS), threads=threads)
    seconds, of_processor = time.perf_counter() - start, time.process_time() - start_of_processor
    [peak] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    print(seconds, of_processor, int(peak) / 1024)


def show_search(name, options):
    """Print the line of a space, searched in another process."""
    words = ["--images", str(options.images), "--threads", str(options.threads), "--alone", name]
    done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
    seconds, of_processor, peak = map(float, done.stdout.split())
    met = "yes" if seconds <= MOST_SECONDS["search"] and peak <= MOST_MEMORY else "NO"
    bars = f"{MOST_SECONDS['search']} s, {MOST_MEMORY} MiB"
    print(f"| {name} | {seconds:.1f} | {of_processor:.1f} | {peak:.0f} | {bars} | {met} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        search_alone(options.alone, options.images, options.threads)
        return
    print("| work | seconds | of the processor | peak memory, MiB | at most | reached |\n|---|---|---|---|---|---|")
    if options.only in "product":
        compare_product(options.images)
    for name in SPACES:
        if options.only in name:
            show_search(name, options)


if __name__ == "__main__":
    main()
