"""The Dice of a blend with one more member, for every member that may be added: a step of a greedy search.

What is blended so far is summed once per plane. Each candidate is then added to that sum, the mean is rounded as
`blend` rounds it, and its histogram inside and outside of the truth holds the Dice of all 256 levels: one pass over the
pixels, and no mask is made.
"""

from collections.abc import Sequence

import numpy as np

from cloudseg.postprocess.accounts import AREA
from cloudseg.postprocess.arguments import in_order, thread_count
from cloudseg.postprocess.blend import byte_tables
from cloudseg.postprocess.compiling import kernel, stage

PARTS = 4  # histograms that are counted side by side: the number of cells of a plane is a multiple of it
SHIFT = 40  # bits behind the point of `factor`
IMAGES_AT_ONCE = 16  # per piece of work for a thread; sums are added in this order, whatever the number of threads


@stage
def add_members(planes, members, tables, linear, base):
    """Write the sum of the members' table entries for each cell of planes (K, P).

    The plain mean has linear tables: a product, which takes many cells at once, is the entry.
    """
    base[:] = 0
    for row in range(len(members)):
        plane, table = planes[members[row]], tables[row]
        if linear:
            for cell in range(len(base)):
                base[cell] += table[1] * plane[cell]
        else:
            for cell in range(len(base)):
                base[cell] += table[plane[cell]]


@stage
def read_truth(covered, areas, accounts):
    """Write area and covered area of each cell as one account; return the covered area of the plane."""
    total = 0
    for cell in range(len(covered)):
        total += covered[cell]
        accounts[cell] = areas[cell] + (np.int64(covered[cell]) << 32)
    return total


@stage
def round_blend(base, plane, table, linear, offset, factor, blended):
    """Write the byte of each cell of a blend with one more member."""
    if linear:
        for cell in range(len(base)):
            blended[cell] = ((base[cell] + table[1] * plane[cell] + offset) * factor) >> SHIFT
    else:
        for cell in range(len(base)):
            blended[cell] = ((base[cell] + table[plane[cell]] + offset) * factor) >> SHIFT


@stage
def count_bytes(blended, accounts, histograms):
    """Add up the accounts of the cells by their byte.

    Quarters of the plane are counted side by side, so that a run of equal bytes is not a chain of additions.
    """
    histograms[:] = 0
    quarter = len(blended) // PARTS
    for first in range(quarter):
        for part in range(PARTS):
            cell = first + part * quarter
            histograms[part, blended[cell]] += accounts[cell]


@stage
def add_dice(histograms, total, sums):
    """Add the Dice of each level to sums (256,); 1 where both masks are empty."""
    account = 0
    for value in range(255, -1, -1):
        for part in range(PARTS):
            account += histograms[part, value]
        pixels = (account & AREA) + total
        sums[value] += 2.0 * (account >> 32) / pixels if pixels else 1.0


@kernel
def sum_dice(
    planes, covered, areas, members, tables, added, added_tables, linear, offsets, factor, first, stop, base, blended,
    accounts, histograms, sums,
):  # fmt: skip
    """Add the Dice of images first to stop to sums (A, C, 256), for each candidate that is added."""
    for image in range(first, stop):
        for number in range(planes.shape[1]):
            add_members(planes[image, number], members, tables, linear, base)
            total = read_truth(covered[image, number], areas, accounts)
            for row in range(len(added)):
                plane = planes[image, number, added[row]]
                round_blend(base, plane, added_tables[row], linear, offsets[row], factor, blended)
                count_bytes(blended, accounts, histograms)
                add_dice(histograms, total, sums[row, number])


def dice_of_additions(
    planes: np.ndarray,
    covered: np.ndarray,
    areas: np.ndarray,
    counts: Sequence[int],
    added: Sequence[int],
    /,
    sharpen: float | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """Sum over images the Dice of a blend with one more member, at every level.

    Parameters
    ----------
    planes : uint8 (N, C, K, P), C-contiguous: probabilities of K members in P cells, P a multiple of 4.
    covered : uint16 (N, C, P), C-contiguous: pixels of each cell that are in the truth.
    areas : int64 (P,), pixels of each cell; 0 for a cell that does not count.
    counts : K whole numbers, how often each member is in the blend already; all 0 is legal.
    added : A members; each is added once, by itself.
    sharpen : the power to which probabilities are raised before the mean; None for the plain mean.
    threads : how many threads; None is one. The result does not depend on it.

    Returns
    -------
    float64 (A, C, 256) : the sum over images of the Dice between the truth and the pixels of value >= v, 1 where both
        are empty. Bytes are those of `blend` with the counts as weights.

    Examples
    --------
    >>> planes = np.array([[[[200, 0, 0, 9], [0, 200, 0, 0]]]], np.uint8)
    >>> covered, areas = np.array([[[1, 0, 0, 0]]], np.uint16), np.ones(4, np.int64)
    >>> dice_of_additions(planes, covered, areas, [1, 0], [0, 1])[:, 0, 100].round(3)
    array([1.   , 0.667])
    """
    rounding = _rounding(counts, added, sharpen)
    images, classes, _, cells = planes.shape

    def of_block(first: int) -> np.ndarray:
        sums = np.zeros((len(added), classes, 256))
        base, accounts = np.empty((2, cells), np.int64)
        scratch = base, np.empty(cells, np.uint8), accounts, np.empty((PARTS, 256), np.int64)
        sum_dice(planes, covered, areas, *rounding, first, min(first + IMAGES_AT_ONCE, images), *scratch, sums)
        return sums

    blocks = in_order(of_block, range(0, images, IMAGES_AT_ONCE), thread_count(threads))
    return sum(blocks, np.zeros((len(added), classes, 256)))


def _rounding(counts: Sequence[int], added: Sequence[int], sharpen: float | None) -> tuple[np.ndarray | int, ...]:
    """Return members of the blend and their tables, what is added and its, if they are linear, offsets and the factor.

    (sum of table entries + offset) * factor >> SHIFT is the byte: of the plain mean floor((2 sum + n) / (2 n)), which
    is exact since numerators stay below 2^SHIFT / 2n for n up to 30,000; of a sharpened one what `blend_permuted` does.
    """
    counts, added = np.asarray(counts, np.int64), np.asarray(added, np.int64)
    n = int(counts.sum()) + 1
    members = np.flatnonzero(counts)
    once = np.arange(256)
    if sharpen is None:
        doubled = 2 * once
        tables = np.outer(counts[members], doubled)
        added_tables = np.tile(doubled, (len(added), 1))
        return members, tables, added, added_tables, 1, np.full(len(added), n), -(-(2**SHIFT) // (2 * n))
    of = {times: _entries(times / n, sharpen) for times in {0, *counts[members], *(counts[added] + 1), *counts[added]}}
    tables = np.array([of[times] for times in counts[members]]).reshape(-1, 256)
    added_tables = np.array([of[times + 1] - of[times] for times in counts[added]]).reshape(-1, 256)
    offsets = 2**15 + len(members) + (counts[added] == 0)
    return members, tables, added, added_tables, 0, offsets, 2 ** (SHIFT - 16)


def _entries(share: float, sharpen: float) -> np.ndarray:
    """Return what each byte of a member with a share of the weight adds to a sharpened blend, times 2^16."""
    low, middle, high = byte_tables((share,), sharpen)[0].astype(np.int64)
    return low + 256 * middle + 65536 * high
