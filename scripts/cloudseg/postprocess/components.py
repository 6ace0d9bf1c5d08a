"""Connected components of a plane's runs, and what of them stays: the large ones, those that hold a seed.

No label image is made. Runs that touch belong together (run-based two-scan labelling: He, Chao and Suzuki, 2008), and
one pass with two pointers over the runs finds all pairs that touch, because positions are virtual (see `runs`). The
nodes of the union-find are provisional labels, tens of them where there are thousands of runs.
"""

import numpy as np

from cloudseg.postprocess.arguments import LARGEST_PLANE, mask_of, whole_number
from cloudseg.postprocess.compiling import inlined, kernel, stage
from cloudseg.postprocess.intrinsics import load32, load64, prefetch, store8, store32, store64
from cloudseg.postprocess.runs import Scratch, address, find_runs, scratch_bytes


@inlined
def find_root(parents, label, step):
    """Return the representative of a label's set, halving the path on the way; parents are `step` int32 apart."""
    parent = load32(parents, step * label)
    while parent != label:
        grandparent = load32(parents, step * parent)
        store32(parents, step * label, grandparent)
        label = parent
        parent = grandparent
    return label


@stage
def unite(nodes, one, two):
    """Join the sets of two labels. The smaller label represents both, so that a parent is never after its child."""
    one = find_root(nodes, one, 2)
    two = find_root(nodes, two, 2)
    store32(nodes, 2 * max(one, two), min(one, two))


@stage
def label_runs(runs, count, stride, gap, labels, nodes, ahead):
    """Give every run a provisional label; return the number of labels.

    `nodes` holds int32 pairs: the parent of each label in the union-find, and the area of the runs that have it.

    Runs touch when their positions, one stride apart, overlap (gap 1: 4 neighbours) or also just meet (gap 0: 8
    neighbours). Pointer a stays at the first run that can still touch run b, and never passes b itself.

    Mostly a moves on by one run, at times by none: a sum, not a branch, since which of the two it will be is as hard to
    predict as the plane is noisy, and so is whether a label is new (6.9 instead of 9.5 us for a noisy plane). `end_a`
    is chosen among two ends that were read before, so that a step need not wait for the step before it to read.
    """
    store32(runs, 2 * count, LARGEST_PLANE)  # the start of a run after the last, which nothing touches
    a = 0
    end_a = load32(runs, 1)
    number = 0
    for b in range(count):
        prefetch(ahead, b)
        start = load32(runs, 2 * b)
        end = load32(runs, 2 * b + 1)
        first, last = start - stride + gap, end - stride - gap
        passed = end_a < first
        following = load32(runs, 2 * a + 3)
        end_a = following if passed else end_a
        a += passed
        if end_a < first:
            while load32(runs, 2 * a + 1) < first:
                a += 1
            end_a = load32(runs, 2 * a + 1)
        label = load32(labels, a)
        new = load32(runs, 2 * a) > last
        store64(nodes, number, number)  # its own parent, no area yet; written anew until it is taken
        label = number if new else label
        number += new
        store32(labels, b, label)
        store32(nodes, 2 * label + 1, load32(nodes, 2 * label + 1) + end - start)
        if load32(runs, 2 * a + 2) <= last:
            while load32(runs, 2 * a + 2) <= last:
                a += 1
                if load32(labels, a) != label:
                    unite(nodes, label, load32(labels, a))
            end_a = load32(runs, 2 * a + 1)
    return number


@inlined
def add_areas(number, nodes):
    """Add the area of every label to that of the label that represents its component."""
    for label in range(number - 1, -1, -1):  # a parent comes before its children
        parent = load32(nodes, 2 * label)
        if parent != label:
            area = load32(nodes, 2 * parent + 1) + load32(nodes, 2 * label + 1)
            store32(nodes, 2 * parent + 1, area)


@stage
def decide_labels(number, nodes, min_size, sign):
    """Replace the parent of every label by 1 when sign * area of its component is at least min_size, else by 0."""
    for label in range(number):
        parent = load32(nodes, 2 * label)
        if parent == label:
            store32(nodes, 2 * label, sign * load32(nodes, 2 * label + 1) >= min_size)
        else:
            store32(nodes, 2 * label, load32(nodes, 2 * parent))


@stage
def compact_runs(runs, count, labels, nodes):
    """Move the runs of labels that stay to the front; return how many these are.

    Every run is copied and only the place depends on its label: whether a run stays is hard to predict.
    """
    place = 0
    for run in range(count):
        store64(runs, place, load64(runs, run))
        place += load32(nodes, 2 * load32(labels, run))
    return place


@stage
def keep_large_components(runs, count, stride, gap, min_size, labels, nodes, ahead):
    """Move the runs of components of at least min_size pixels to the front; return how many these are."""
    if min_size <= 1:
        return count
    number = label_runs(runs, count, stride, gap, labels, nodes, ahead)
    add_areas(number, nodes)
    decide_labels(number, nodes, min_size, 1)
    return compact_runs(runs, count, labels, nodes)


@stage
def negate_seeded_areas(runs, count, seeds, number_seeds, labels, nodes):
    """Negate the area of every component with a run that overlaps one of the seeds' runs.

    Both lists ascend, and so one pass with two pointers finds the runs that overlap.
    """
    store32(seeds, 2 * number_seeds, LARGEST_PLANE)  # a seed after the last, which overlaps nothing
    store32(seeds, 2 * number_seeds + 1, LARGEST_PLANE)
    seed = 0
    for run in range(count):
        start = load32(runs, 2 * run)
        while load32(seeds, 2 * seed + 1) <= start:
            seed += 1
        if load32(seeds, 2 * seed) < load32(runs, 2 * run + 1):
            root = find_root(nodes, load32(labels, run), 2)
            store32(nodes, 2 * root + 1, -abs(load32(nodes, 2 * root + 1)))


@stage
def keep_seeded_runs(runs, count, seeds, number_seeds, stride, gap, min_size, labels, nodes, ahead):
    """Move the runs of components of at least min_size pixels that hold a seed to the front; return how many these are.

    Runs of seeds are listed as those of the mask are. The area of a component with a seed is negated, so that one
    comparison asks for the seed and the size.
    """
    number = label_runs(runs, count, stride, gap, labels, nodes, ahead)
    add_areas(number, nodes)
    negate_seeded_areas(runs, count, seeds, number_seeds, labels, nodes)
    decide_labels(number, nodes, min_size, -1)
    return compact_runs(runs, count, labels, nodes)


def label_bytes(height: int, width: int) -> tuple[int, int]:
    """Return the sizes of the labels of a plane's runs and of the nodes of these labels."""
    most = width * ((height + 1) // 2) + 32
    return 64 * (most // 16), 2 * 64 * (most // 16)


def gap_of(connectivity: object) -> int:
    """Return by how much the positions of two runs that touch must overlap, 4 neighbours: 1, 8 neighbours: 0."""
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity: expected 4 or 8, got {connectivity!r}")
    return 1 if connectivity == 4 else 0


@stage
def set_runs(runs, count, stride, mask):
    """Set the pixels of runs in a column-major mask."""
    for run in range(count):
        start = load32(runs, 2 * run)
        column = start // stride
        for pixel in range(start - column, load32(runs, 2 * run + 1) - column):
            store8(mask, pixel, 1)


@kernel
def keep_large_pixels(
    plane, row_step, column_step, height, width, gap, min_size, bits, edges, runs, labels, nodes, mask
):
    """Set the pixels of the components of at least min_size pixels in a column-major mask of zeros."""
    count, _ = find_runs(plane, row_step, column_step, height, width, 1, bits, edges, runs, plane)
    count = keep_large_components(runs, count, height + 1, gap, min_size, labels, nodes, plane)
    set_runs(runs, count, height + 1, mask)


def remove_small_components(mask: np.ndarray, min_size: int, /, connectivity: int = 8) -> np.ndarray:
    """Remove the connected components that have fewer than `min_size` pixels.

    Parameters
    ----------
    mask : bool or uint8 (H, W), in any memory order; any non-zero value is in.
    min_size : least area in pixels of a component that stays; 0 and 1 keep everything.
    connectivity : 4 or 8 neighbours; default 8.

    Returns
    -------
    uint8 (H, W) of 0 and 1, in column-major (Fortran) order.

    Examples
    --------
    >>> remove_small_components(np.array([[1, 0, 0], [1, 0, 1]], np.uint8), 2)
    array([[1, 0, 0],
           [1, 0, 0]], dtype=uint8)
    """
    plane = mask_of("mask", mask, 2)
    min_size = min(whole_number("min_size", min_size, 0), LARGEST_PLANE)
    gap = gap_of(connectivity)
    kept = np.zeros(plane.shape, np.uint8, order="F")
    with Scratch.of(*scratch_bytes(*plane.shape), *label_bytes(*plane.shape)) as scratch:
        sections = *scratch.sections, address(kept)
        keep_large_pixels(address(plane), *plane.strides, *plane.shape, gap, min_size, *sections)
    return kept


@kernel
def keep_seeded_pixels(
    plane, row_step, column_step, seeds, seed_row_step, seed_column_step, height, width, gap, min_size,
    bits, edges, runs, labels, nodes, seed_runs, mask,
):  # fmt: skip
    """Set the pixels of the components that hold a seed and are large enough in a column-major mask of zeros."""
    number, _ = find_runs(seeds, seed_row_step, seed_column_step, height, width, 1, bits, edges, seed_runs, plane)
    count, _ = find_runs(plane, row_step, column_step, height, width, 1, bits, edges, runs, plane)
    count = keep_seeded_runs(runs, count, seed_runs, number, height + 1, gap, min_size, labels, nodes, plane)
    set_runs(runs, count, height + 1, mask)


def keep_seeded_components(
    mask: np.ndarray, seeds: np.ndarray, min_size: int = 0, /, connectivity: int = 8
) -> np.ndarray:
    """Keep the connected components that hold a seed and have at least `min_size` pixels.

    With the pixels above a low level as the mask and those above a high level as seeds this is a threshold with
    hysteresis.

    Parameters
    ----------
    mask : bool or uint8 (H, W), in any memory order; any non-zero value is in.
    seeds : bool or uint8 (H, W), in any memory order; any non-zero value is a seed. One outside the mask is none.
    min_size : least area in pixels of a component that stays; default 0, which keeps any with a seed.
    connectivity : 4 or 8 neighbours; default 8.

    Returns
    -------
    uint8 (H, W) of 0 and 1, in column-major (Fortran) order.

    Raises
    ------
    TypeError, ValueError : naming the argument, what was expected and what came.

    Examples
    --------
    >>> plane = np.array([[120, 200, 0, 0], [0, 0, 0, 140], [190, 0, 0, 150]], np.uint8)
    >>> keep_seeded_components(plane >= 100, plane >= 180)
    array([[1, 1, 0, 0],
           [0, 0, 0, 0],
           [1, 0, 0, 0]], dtype=uint8)
    >>> keep_seeded_components(plane >= 100, plane >= 180, 2)
    array([[1, 1, 0, 0],
           [0, 0, 0, 0],
           [0, 0, 0, 0]], dtype=uint8)
    """
    plane, seeds = mask_of("mask", mask, 2), mask_of("seeds", seeds, 2)
    if seeds.shape != plane.shape:
        raise ValueError(f"seeds: expected shape {plane.shape} of the mask, got {seeds.shape}")
    min_size = min(whole_number("min_size", min_size, 0), LARGEST_PLANE)
    gap = gap_of(connectivity)
    kept = np.zeros(plane.shape, np.uint8, order="F")
    *scratch, runs = scratch_bytes(*plane.shape)
    with Scratch.of(*scratch, runs, *label_bytes(*plane.shape), runs) as memory:
        sections = *memory.sections, address(kept)
        both = address(plane), *plane.strides, address(seeds), *seeds.strides
        keep_seeded_pixels(*both, *plane.shape, gap, min_size, *sections)
    return kept


def fill_holes(mask: np.ndarray, /) -> np.ndarray:
    """Fill the holes of a mask: background that no path through the sides of pixels (4 neighbours) joins to the border.

    Parameters
    ----------
    mask : bool or uint8 (H, W), in any memory order; any non-zero value is in.

    Returns
    -------
    uint8 (H, W) of 0 and 1, in column-major (Fortran) order.

    Raises
    ------
    TypeError, ValueError : naming the argument, what was expected and what came.

    Examples
    --------
    >>> fill_holes(np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1]], np.uint8))
    array([[1, 1, 1, 0],
           [1, 1, 1, 0],
           [1, 1, 1, 1]], dtype=uint8)
    """
    background = mask_of("mask", mask, 2) == 0
    border = np.ones_like(background)
    border[1:-1, 1:-1] = False
    outside = keep_seeded_components(background, border, connectivity=4)
    return np.bitwise_xor(outside, 1, out=outside)


@stage
def list_areas(number, nodes, areas):
    """Write the area of each component; return how many there are."""
    components = 0
    for label in range(number - 1, -1, -1):  # a parent comes before its children
        parent = load32(nodes, 2 * label)
        area = load32(nodes, 2 * label + 1)
        if parent == label:
            store64(areas, components, area)
            components += 1
        else:
            store32(nodes, 2 * parent + 1, area + load32(nodes, 2 * parent + 1))
    return components


@kernel
def measure_plane(plane, row_step, column_step, height, width, gap, bits, edges, runs, labels, nodes, areas):
    """Write the areas of the components of the non-zero pixels; return how many there are."""
    count, _ = find_runs(plane, row_step, column_step, height, width, 1, bits, edges, runs, plane)
    return list_areas(label_runs(runs, count, height + 1, gap, labels, nodes, plane), nodes, areas)


def component_areas(mask: np.ndarray, /, connectivity: int = 8) -> np.ndarray:
    """Return the areas of the connected components.

    Parameters
    ----------
    mask : bool or uint8 (H, W), in any memory order; any non-zero value is in.
    connectivity : 4 or 8 neighbours; default 8.

    Returns
    -------
    int64 (component,) : in pixels, in no order that means anything.

    Examples
    --------
    >>> sorted(component_areas(np.array([[1, 0, 0], [1, 0, 1]], np.uint8)).tolist())
    [1, 2]
    """
    plane = mask_of("mask", mask, 2)
    gap = gap_of(connectivity)
    height, width = plane.shape
    areas = np.empty(((height + 1) // 2) * width + 1, np.int64)
    with Scratch.of(*scratch_bytes(height, width), *label_bytes(height, width)) as scratch:
        count = measure_plane(address(plane), *plane.strides, height, width, gap, *scratch.sections, address(areas))
    return areas[:count].copy()
