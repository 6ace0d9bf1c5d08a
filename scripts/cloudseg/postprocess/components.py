"""Connected components of a plane's runs, and the removal of small ones.

No label image is made. Runs that touch belong together (run-based two-scan labelling: He, Chao and Suzuki, 2008), and
one pass with two pointers over the runs finds all pairs that touch, because positions are virtual (see `runs`). The
nodes of the union-find are provisional labels, tens of them where there are thousands of runs.
"""

import numpy as np

from cloudseg.postprocess.arguments import LARGEST_PLANE, mask_of, whole_number
from cloudseg.postprocess.compiling import inlined, kernel, stage
from cloudseg.postprocess.intrinsics import load32, load64, store8, store32, store64
from cloudseg.postprocess.runs import Scratch, address, find_runs, scratch_bytes


@inlined
def find_root(parents, label):
    """Return the representative of a label's set, halving the path on the way."""
    parent = load32(parents, label)
    while parent != label:
        grandparent = load32(parents, parent)
        store32(parents, label, grandparent)
        label = parent
        parent = grandparent
    return label


@stage
def unite(parents, one, two):
    """Join the sets of two labels. The smaller label represents both, so that a parent is never after its child."""
    one = find_root(parents, one)
    two = find_root(parents, two)
    store32(parents, max(one, two), min(one, two))


@stage
def label_runs(runs, count, stride, gap, labels, parents, areas):
    """Give every run a provisional label and every label its area; return the number of labels.

    Runs touch when their positions, one stride apart, overlap (gap 1: 4 neighbours) or also just meet (gap 0: 8
    neighbours). Pointer a stays at the first run that can still touch run b, and never passes b itself. Areas have
    four places per label, taken in turn, so that an addition need not wait for the one just before it.
    """
    a = 0
    number = 0
    for b in range(count):
        start = load32(runs, 2 * b)
        end = load32(runs, 2 * b + 1)
        first, last = start - stride + gap, end - stride - gap
        while load32(runs, 2 * a + 1) < first:
            a += 1
        if load32(runs, 2 * a) <= last:
            label = load32(labels, a)
            while load32(runs, 2 * a + 2) <= last:
                a += 1
                if load32(labels, a) != label:
                    unite(parents, label, load32(labels, a))
        else:
            label = number
            number += 1
            store32(parents, label, label)
            store64(areas, 2 * label, 0)
            store64(areas, 2 * label + 1, 0)
        store32(labels, b, label)
        place = 4 * label + (b & 3)
        store32(areas, place, load32(areas, place) + end - start)
    return number


@stage
def decide_labels(number, parents, areas, min_size):
    """Replace the parent of every label by 1 when its component has at least min_size pixels, else by 0."""
    for label in range(number - 1, -1, -1):  # a parent comes before its children
        area = load32(areas, 4 * label) + load32(areas, 4 * label + 1)
        area += load32(areas, 4 * label + 2) + load32(areas, 4 * label + 3)
        store32(areas, 4 * label, area)
        parent = load32(parents, label)
        if parent != label:
            store32(areas, 4 * parent, load32(areas, 4 * parent) + area)
    for label in range(number):
        parent = load32(parents, label)
        if parent == label:
            store32(parents, label, load32(areas, 4 * label) >= min_size)
        else:
            store32(parents, label, load32(parents, parent))


@stage
def compact_runs(runs, count, labels, kept):
    """Move the runs of kept labels to the front; return how many these are.

    Every run is copied and only the place depends on its label: whether a run stays is hard to predict.
    """
    place = 0
    for run in range(count):
        store64(runs, place, load64(runs, run))
        place += load32(kept, load32(labels, run))
    return place


@stage
def keep_large_components(runs, count, stride, gap, min_size, labels, parents, areas):
    """Move the runs of components of at least min_size pixels to the front; return how many these are."""
    if min_size <= 1:
        return count
    number = label_runs(runs, count, stride, gap, labels, parents, areas)
    decide_labels(number, parents, areas, min_size)
    return compact_runs(runs, count, labels, parents)


def label_bytes(height: int, width: int) -> tuple[int, int, int]:
    """Return the sizes of the labels of a plane's runs and of the parents and areas of these labels."""
    most = width * ((height + 1) // 2) + 16
    return 64 * (most // 16), 64 * (most // 16), 4 * 64 * (most // 16)


@kernel
def keep_large_pixels(
    plane, row_step, column_step, height, width, gap, min_size, bits, edges, runs, labels, parents, areas, mask
):
    """Set the pixels of the components of at least min_size pixels in a column-major mask of zeros."""
    stride = height + 1
    count = find_runs(plane, row_step, column_step, height, width, 1, bits, edges, runs)
    count = keep_large_components(runs, count, stride, gap, min_size, labels, parents, areas)
    for run in range(count):
        start = load32(runs, 2 * run)
        column = start // stride
        for pixel in range(start - column, load32(runs, 2 * run + 1) - column):
            store8(mask, pixel, 1)


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
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity: expected 4 or 8, got {connectivity!r}")
    kept = np.zeros(plane.shape, np.uint8, order="F")
    gap = 1 if connectivity == 4 else 0
    with Scratch.of(*scratch_bytes(*plane.shape), *label_bytes(*plane.shape)) as scratch:
        sections = *scratch.sections, address(kept)
        keep_large_pixels(address(plane), *plane.strides, *plane.shape, gap, min_size, *sections)
    return kept
