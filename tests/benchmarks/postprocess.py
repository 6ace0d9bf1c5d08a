"""Compare the core with what people use, in one process, one thread, run by run in turn.

    python tests/benchmarks/postprocess.py [--rounds 15] [--only segment] [--seed 1]

Every comparison takes its rounds in turns (ours, theirs, ours, ...), on planes that change from round to round, and
first asserts that both give the same result. So each side begins its turn with caches full of what the other left.
A turn is a number of planes, which the table names: ours does all of them, theirs, much slower, the first few of the
same, and so finds them in the cache already. Of `segment` both turns take about as long, some milliseconds: a short
turn after a long one would mostly pay for what the other has left in the caches.
The table shows microseconds per plane as minimum / median, the ratios of both, and the bar with the goal behind it; a
bar is reached when the ratio of the medians reaches it. Time is that of the processor in this thread, so that other
jobs on the machine count less; two threads are compared by the clock.
"""

import argparse
import time
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import cc3d
import cv2
import numba
import numpy as np
from pycocotools import mask as coco
from scipy import ndimage
from skimage.morphology import remove_small_objects

from cloudseg.postprocess import (
    blend,
    components,
    decode_rle,
    dice_surface,
    dice_values,
    encode_rle,
    level,
    plane_histograms,
    rle,
    runs,
    segment,
)

cv2.setNumThreads(1)

CONTEST = 350, 525
LARGE = 1400, 2100
THRESHOLD, MIN_SIZE = 0.5, 400
LEVEL = level(THRESHOLD)
MIN_SIZES = np.unique(np.geomspace(1, 40_000, 72).astype(int))[:64]
NUMBERS = [str(number) for number in range(LARGE[0] * LARGE[1] + 1)]


# Planes


def blobs(rng, shape, number=5):
    """Return probabilities of a few soft blobs, as a network draws them."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    field = np.zeros(shape, np.float32)
    for _ in range(number):
        centre, width = rng.random(2) * shape, (0.08 + 0.08 * rng.random()) * shape[0]
        field = np.maximum(field, np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2)))
    wobble = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), shape[0] / 30)
    return field + 0.15 * wobble / wobble.std()


def plane(rng, kind, shape):
    """Return a uint8 plane."""
    if kind == "white noise":
        return rng.integers(0, 256, shape, np.uint8)
    if kind == "checkerboard":
        return (np.indices(shape).sum(0) % 2 * 255).astype(np.uint8)
    if kind in ("all zero", "all one"):
        return np.full(shape, 0 if kind == "all zero" else 255, np.uint8)
    field = blobs(rng, shape)
    if kind == "noisy":
        noise = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 2.5)
        field += 0.15 * noise / noise.std()
    return np.clip(255 * field + 0.5, 0, 255).astype(np.uint8)


def stack(rng, kind, count, shape, columns=False):
    """Return planes as (N, 1, H, W), each of them in row order or in column order; of many, each in four mirrorings."""
    turns = ((1, 1),) if count <= 64 else ((1, 1), (1, -1), (-1, 1), (-1, -1))
    planes = [plane(rng, kind, shape) for _ in range(-(-count // len(turns)))]
    planes = np.stack([each[::up, ::left] for up, left in turns for each in planes])[:count, None]
    return np.ascontiguousarray(planes.swapaxes(2, 3)).swapaxes(2, 3) if columns else planes


# What people use


def text_of(kept):
    """Return the run-length text of a column-major mask, as fast as NumPy can."""
    padded = np.zeros(kept.size + 2, np.uint8)
    padded[1:-1] = kept.reshape(-1)
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    edges[1::2] -= edges[::2]
    edges[::2] += 1
    return " ".join(map(NUMBERS.__getitem__, edges.tolist()))


def by_opencv(plane):
    """Return the text of a plane by the fastest pipeline of OpenCV and NumPy."""
    columns = plane.T if plane.flags.f_contiguous else cv2.transpose(plane)
    mask = (columns >= LEVEL).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_16U)
    keep = (stats[:, cv2.CC_STAT_AREA] >= MIN_SIZE).view(np.uint8)
    keep[0] = 0
    return text_of(np.take(keep, labels))


def by_kaggle(plane):
    """Return the text of a plane by the loop that contest notebooks copy from each other."""
    mask = cv2.threshold(plane.astype(np.float32) / 255, (LEVEL - 0.5) / 255, 1, cv2.THRESH_BINARY)[1]
    number, labels = cv2.connectedComponents(mask.astype(np.uint8))
    predictions = np.zeros(plane.shape, np.float32)
    for component in range(1, number):
        pixels = labels == component
        if pixels.sum() >= MIN_SIZE:
            predictions[pixels] = 1
    flat = np.concatenate([[0], predictions.T.flatten(), [0]])
    edges = np.where(flat[1:] != flat[:-1])[0] + 1
    edges[1::2] -= edges[::2]
    return " ".join(str(number) for number in edges)


def by_cc3d(plane):
    """Return the text of a plane with cc3d's dust."""
    return text_of(cc3d.dust((plane >= LEVEL).view(np.uint8), threshold=MIN_SIZE, connectivity=8).T)


def by_skimage(plane):
    """Return the text of a plane with scikit-image's remove_small_objects."""
    return text_of(remove_small_objects(plane >= LEVEL, max_size=MIN_SIZE - 1, connectivity=2).T)


def by_scipy(plane):
    """Return the text of a plane with SciPy's label."""
    labels, _ = ndimage.label(plane >= LEVEL, np.ones((3, 3)))
    keep = np.bincount(labels.reshape(-1)) >= MIN_SIZE
    keep[0] = False
    return text_of(keep[labels].T)


def surface_by_opencv(probabilities, truth, overlaps_of):
    """Return the Dice surface of one plane: label every threshold, count areas and overlaps, add up by size."""
    dice = np.empty((256, len(MIN_SIZES)))
    total = np.count_nonzero(truth)
    for value in range(256):
        mask = (probabilities >= value).view(np.uint8)
        number, labels = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_16U)
        labels = labels.reshape(-1)
        areas = np.bincount(labels, minlength=number)[1:]
        overlaps = overlaps_of(labels, truth.reshape(-1), number)[1:]
        reached = np.searchsorted(MIN_SIZES, areas, side="right")
        both = (np.bincount(reached, counts, len(MIN_SIZES) + 1) for counts in (areas, overlaps))
        kept, hit = (counts[:0:-1].cumsum()[::-1] for counts in both)
        dice[value] = np.divide(2 * hit, kept + total, out=np.ones(len(MIN_SIZES)), where=kept + total > 0)
    return dice


def overlaps_by_weights(labels, truth, number):
    """Count the truth of every label as one does: with the truth as weights."""
    return np.bincount(labels, truth, number)


def overlaps_by_choice(labels, truth, number):
    """Count the truth of every label among the pixels of the truth alone, which is faster where these are few."""
    return np.bincount(labels[truth != 0], minlength=number)


def mean_by_numpy(members):
    """Return the mean of members in float32."""
    mean = members[0].astype(np.float32)
    for member in members[1:]:
        mean += member
    mean *= np.float32(1 / len(members))
    mean += np.float32(0.5)
    return mean.astype(np.uint8)


def mean_by_one_call(members):
    """Return the mean of members in float32 as NumPy's own mean computes it."""
    return (members.mean(0, np.float32) + np.float32(0.5)).astype(np.uint8)


def roots_by_numpy(members):
    """Return the mean of the members' square roots; ** 0.5 on float32 is NumPy's vectorised square root."""
    mean = members[0].astype(np.float32) ** 0.5
    for member in members[1:]:
        mean += member.astype(np.float32) ** 0.5
    mean *= np.float32(255**0.5 / len(members))
    mean += np.float32(0.5)
    return mean.astype(np.uint8)


# Timing


@dataclass
class Row:
    """One line of the table: seconds per plane of both sides, and the ratios asked for."""

    work: str
    against: str
    planes: str
    ours: list
    theirs: list
    bar: float | None = None
    goal: float | None = None

    def show(self):
        ours, theirs = ([1e6 * f(seconds) for f in (min, median)] for seconds in (self.ours, self.theirs))
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        asked = "" if self.bar is None else f"{self.bar:g}x" + ("" if self.goal is None else f", {self.goal:g}x")
        met = (
            ""
            if self.bar is None
            else ("goal" if ratios[1] >= (self.goal or 1e9) else "yes" if ratios[1] >= self.bar else "NO")
        )
        print(
            f"| {self.work} | {self.against} | {self.planes} "
            f"| {ours[0]:.1f} / {ours[1]:.1f} | {theirs[0]:.0f} / {theirs[1]:.0f} "
            f"| {ratios[0]:.1f}x / {ratios[1]:.1f}x | {asked} | {met} |",
            flush=True,
        )


def compare(work, against, ours, theirs, batches, their_share=1, bar=None, goal=None, planes=1):
    """Time ours(batch) and theirs(item) for the first items of each batch, in turns, a new batch each round.

    `planes` is how many planes an item is.
    """
    seconds = [], []
    for batch in batches:
        start = time.thread_time()
        ours(batch)
        middle = time.thread_time()
        for item in batch[:their_share]:
            theirs(item)
        seconds[0].append((middle - start) / len(batch) / planes)
        seconds[1].append((time.thread_time() - middle) / their_share / planes)
    turn = f"{len(batch) * planes}, {their_share * planes}"
    # the first round warms up
    Row(work, against, turn, seconds[0][1:], seconds[1][1:], bar, goal).show()


def rounds_of(pool, size, rounds, rng):
    """Yield batches drawn anew from a pool."""
    for _ in range(rounds + 1):
        yield (
            pool[rng.permutation(len(pool))[:size]]
            if isinstance(pool, np.ndarray)
            else [pool[i] for i in rng.permutation(len(pool))[:size]]
        )


def memory_order_kept(pool, size, rounds, rng):
    """Yield consecutive planes of a pool from a place drawn anew, as views, so that the memory order stays."""
    for _ in range(rounds + 1):
        first = int(rng.integers(0, len(pool) - size + 1))
        yield pool[first : first + size]


def compare_segment(rng, rounds):
    bars = {"smooth": (45, 100), "noisy": (35, 60)}
    for shape, kinds, count in (
        (CONTEST, ("smooth", "noisy", "all zero", "all one", "white noise", "checkerboard"), 256),
        (LARGE, ("smooth", "noisy"), 4),
    ):
        for kind in kinds:
            for columns in (False, True):
                pool = stack(rng, kind, count + count // 4, shape, columns)
                assert segment(pool[:3], THRESHOLD, MIN_SIZE) == [by_opencv(planes[0]) for planes in pool[:3]]
                bar, goal = bars.get(kind, (1, None)) if shape == CONTEST else (None, None)
                order = "columns" if columns else "rows"
                compare(
                    f"segment {shape[0]}x{shape[1]} {kind}, {order}",
                    "OpenCV + NumPy",
                    lambda planes: segment(planes, THRESHOLD, MIN_SIZE),
                    lambda planes: by_opencv(planes[0]),
                    memory_order_kept(pool, count, rounds, rng),
                    max(count // 32, 1),
                    bar,
                    goal,
                )
    pool = stack(rng, "smooth", 320, CONTEST)
    expected = segment(pool, THRESHOLD, MIN_SIZE)
    for name, theirs in (
        ("Kaggle loop", by_kaggle),
        ("cc3d dust", by_cc3d),
        ("scikit-image", by_skimage),
        ("SciPy label", by_scipy),
    ):
        assert [theirs(planes[0]) for planes in pool[:3]] == expected[:3], name
        compare(
            "segment smooth, rows",
            name,
            lambda planes: segment(planes, THRESHOLD, MIN_SIZE),
            lambda planes, theirs=theirs: theirs(planes[0]),
            memory_order_kept(pool, 256, rounds, rng),
            4,
            60,
            120,
        )


def compare_rules(rng, rounds):
    """Compare a plain cut with hysteresis, and with an area that decides on the plane; a ratio below 1 is the cost."""
    for kind in ("smooth", "noisy"):
        pool = stack(rng, kind, 320, CONTEST)
        areas = np.count_nonzero(pool >= 160, axis=(1, 2, 3))
        for name, rule in (
            ("a high level", {"highs": 180}),
            ("an area that all planes reach", {"top_levels": 160, "top_areas": int(areas.min())}),
            ("an area that half of them reach", {"top_levels": 160, "top_areas": int(np.median(areas))}),
        ):
            compare(
                f"segment with {name}, {kind}",
                "segment without",
                lambda turn, rule=rule: segment(turn[0], levels=LEVEL, min_sizes=MIN_SIZE, **rule),
                lambda planes: segment(planes, levels=LEVEL, min_sizes=MIN_SIZE),
                (planes[None] for planes in memory_order_kept(pool, 256, rounds, rng)),
                planes=256,
            )


def compare_histograms(rng, rounds):
    for kind in ("smooth", "noisy", "white noise", "all zero"):
        pool = stack(rng, kind, 64, CONTEST)
        for name, theirs in (
            ("NumPy bincount", lambda planes: np.bincount(planes[0].reshape(-1), minlength=256)),
            ("OpenCV calcHist", lambda planes: cv2.calcHist([planes[0]], [0], None, [256], [0, 256]).reshape(-1)),
        ):
            assert (plane_histograms(pool[:1])[0, 0] == theirs(pool[0])).all()
            compare(
                f"plane_histograms, {kind}",
                name,
                plane_histograms,
                theirs,
                memory_order_kept(pool, 32, rounds, rng),
                32,
                2 if "NumPy" in name else None,
            )


def compare_rle(rng, rounds):
    masks = [np.asfortranarray(plane(rng, "smooth", CONTEST) >= LEVEL) for _ in range(32)]
    texts = [encode_rle(mask) for mask in masks]
    counts = [coco.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    assert all(text == text_of(mask.T) for mask, text in zip(masks, texts, strict=True))
    assert all((decode_rle(t, CONTEST) == coco.decode(c)).all() for t, c in zip(texts, counts, strict=True))

    def idiom(mask):
        flat = np.concatenate([[0], mask.T.flatten(), [0]])
        edges = np.where(flat[1:] != flat[:-1])[0] + 1
        edges[1::2] -= edges[::2]
        return " ".join(str(number) for number in edges)

    assert idiom(masks[0]) == texts[0]

    def each(f):
        return lambda items: [f(item) for item in items]

    compare(
        "encode_rle smooth, columns",
        "NumPy idiom",
        each(encode_rle),
        idiom,
        rounds_of(masks, 16, rounds, rng),
        4,
        10,
        40,
    )
    rows = [np.ascontiguousarray(mask) for mask in masks]
    compare(
        "encode_rle smooth, rows", "NumPy idiom", each(encode_rle), idiom, rounds_of(rows, 16, rounds, rng), 4, 10, 40
    )
    compare(
        "decode_rle smooth",
        "pycocotools, counts",
        each(lambda both: decode_rle(both[0], CONTEST)),
        lambda both: coco.decode(both[1]),
        rounds_of(list(zip(texts, counts, strict=True)), 16, rounds, rng),
        16,
        1,
    )


def compare_surface(rng, rounds):
    for kind, bar, goal in (("smooth", 400, 1000), ("noisy", 300, 700), ("white noise", 1, None)):
        pool = stack(rng, kind, 16, CONTEST)
        pairs = np.stack([pool, (np.roll(pool, 25, 3) >= LEVEL).astype(np.uint8)], 1)
        for name, overlaps_of in (
            ("OpenCV labels + bincounts", overlaps_by_weights),
            ("the same, truth selected", overlaps_by_choice),
        ):
            ours = dice_surface(pairs[:1, 0], pairs[:1, 1], MIN_SIZES)[0]
            assert (ours == surface_by_opencv(*pairs[0, :, 0], overlaps_of)).all()
            compare(
                f"dice_surface 256 x {len(MIN_SIZES)}, {kind}",
                name,
                lambda pairs: dice_surface(pairs[:, 0], pairs[:, 1], MIN_SIZES),
                lambda pair, overlaps_of=overlaps_of: surface_by_opencv(*pair[:, 0], overlaps_of),
                rounds_of(pairs, 8, max(rounds // 3, 3), rng),
                1,
                bar if overlaps_of is overlaps_by_weights else None,
                goal,
            )


def compare_values(rng, rounds):
    """Compare the surface of every image by peak and size with that by size alone; a ratio below 1 is the cost."""
    highs, sizes = np.linspace(0, 255, 16).astype(int), MIN_SIZES[::4]
    for kind in ("smooth", "noisy", "white noise"):
        pool = stack(rng, kind, 16, CONTEST)
        pairs = np.stack([pool, (np.roll(pool, 25, 3) >= LEVEL).astype(np.uint8)], 1)
        compare(
            f"dice_values 256 x {len(highs)} x {len(sizes)}, {kind}",
            f"256 x {len(sizes)}",
            lambda turn: dice_values(turn[0, :, 0], turn[0, :, 1], sizes, highs),
            lambda pairs: dice_values(pairs[:, 0], pairs[:, 1], sizes),
            (pairs[None] for pairs in rounds_of(pairs, 8, rounds, rng)),
            planes=8,
        )


def compare_blend(rng, rounds):
    for name, planes in (("an image of 4 planes", 4), ("a plane", 1)):
        stacks = [stack(rng, "noisy", 8 * planes, CONTEST).reshape(8, planes, *CONTEST) for _ in range(6)]
        assert (blend(stacks[0]) == mean_by_numpy(stacks[0])).all()
        difference = blend(stacks[0], sharpen=0.5).astype(int) - roots_by_numpy(stacks[0])
        assert abs(difference).max() <= 1
        batches = list(rounds_of(stacks, 4, 2 * rounds, rng))
        scratch = np.empty_like(stacks[0][0])
        for what, settings, against, theirs, bar in (
            ("mean", {}, "NumPy float32", mean_by_numpy, 8),
            ("mean", {}, "NumPy mean(dtype=float32)", mean_by_one_call, 8),
            ("mean", {}, "reading all members (8 copies)", lambda m, to=scratch: [np.copyto(to, x) for x in m], None),
            ("sharpened 0.5", {"sharpen": 0.5}, "NumPy **0.5", roots_by_numpy, 4),
            ("weighted", {"weights": range(1, 9)}, "NumPy float32, equal weights", mean_by_numpy, None),
            ("sharpened 0.7", {"sharpen": 0.7}, "NumPy **0.5", roots_by_numpy, None),
        ):
            compare(
                f"blend 8, {what}, {name}",
                against,
                lambda stacks, settings=settings: [blend(members, **settings) for members in stacks],
                theirs,
                batches,
                4,
                bar,
                planes=planes,
            )


def compare_threads(rng, rounds):
    planes = np.concatenate([stack(rng, "noisy", 32, CONTEST)] * 8)
    truth = planes >= 150
    for name, work in (
        ("segment", lambda threads: segment(planes, THRESHOLD, MIN_SIZE, threads=threads)),
        ("dice_surface", lambda threads: dice_surface(planes, truth, MIN_SIZES, threads=threads)),
    ):
        seconds = {1: [], 2: []}
        for _ in range(max(rounds // 2, 3)):
            for threads, taken in seconds.items():
                start = time.perf_counter()
                work(threads)
                taken.append((time.perf_counter() - start) / len(planes))
        Row(f"{name}, noisy, two threads", "one thread", "256, 256", seconds[2], seconds[1], 1.7).show()


@numba.njit(nogil=True)
def stages(planes, count, columns, height, width, last, bits, edges, found, labels, nodes, digits, text):
    """Run the stages of `segment` up to the last on planes that lie one after the other."""
    for number in range(count):
        first = planes + number * height * width
        if columns:
            words = runs.list_edges_of_columns(first, height, height, width, 128, edges)
        else:
            runs.pack_rows(first, width, height, width, 128, bits)
            words, _ = runs.list_edges_of_bits(bits, height, width, edges, first)
        if last >= 1:
            n = runs.extract_runs(edges, words, found, first)
        if last >= 2:
            labelled = components.label_runs(found, n, height + 1, 0, labels, nodes, first)
        if last >= 3:
            components.add_areas(labelled, nodes)
            components.decide_labels(labelled, nodes, 400, 1)
            n = components.compact_runs(found, n, labels, nodes)
        if last >= 4:
            rle.write_runs(found, n, height, width, digits, text)


def show_stages(rng, rounds):
    print("\nStages of segment, microseconds per 350x525 plane, minimum / median, each less those before it\n")
    print("| planes | copy of the plane | edges | runs | labels | keep | text |")
    print("|---|---|---|---|---|---|---|")
    sizes = *runs.scratch_bytes(*CONTEST), *components.label_bytes(*CONTEST), rle.most_characters(*CONTEST)
    scratch = runs.Scratch(sizes)
    *sections, text = scratch.sections
    target = np.empty(CONTEST, np.uint8)
    for kind in ("smooth", "noisy"):
        for columns in (True, False):
            planes = np.ascontiguousarray(
                stack(rng, kind, 32, CONTEST, columns).swapaxes(2, 3) if columns else stack(rng, kind, 32, CONTEST)
            )
            taken = [[] for _ in range(6)]
            for _ in range(3 * rounds):
                start = time.perf_counter()
                for member in planes[:, 0].reshape(-1, *CONTEST):
                    np.copyto(target, member)
                taken[0].append(1e6 * (time.perf_counter() - start) / len(planes))
                for last in range(5):
                    start = time.perf_counter()
                    stages(runs.address(planes), len(planes), columns, *CONTEST, last, *sections, rle.DIGITS, text)
                    taken[last + 1].append(1e6 * (time.perf_counter() - start) / len(planes))
            low, mid = [min(t) for t in taken[1:]], [median(t) for t in taken[1:]]
            steps = [
                f"{b - a:.1f} / {d - c:.1f}"
                for (a, b), (c, d) in zip(pairwise([0, *low]), pairwise([0, *mid]), strict=True)
            ]
            order = "columns" if columns else "rows"
            print(
                f"| {kind}, {order} | {min(taken[0]):.1f} / {median(taken[0]):.1f} | {' | '.join(steps)} |", flush=True
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print("| work | against | planes a turn | ours, us per plane | theirs | ratio | at least, goal | reached |")
    print("|---|---|---|---|---|---|---|---|")
    for name, part in (
        ("segment", compare_segment),
        ("rules", compare_rules),
        ("histograms", compare_histograms),
        ("rle", compare_rle),
        ("surface", compare_surface),
        ("values", compare_values),
        ("blend", compare_blend),
        ("threads", compare_threads),
        ("stages", show_stages),
    ):
        if options.only in name:
            part(rng, options.rounds)


if __name__ == "__main__":
    main()
