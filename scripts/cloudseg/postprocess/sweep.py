"""The Dice of one plane at every level with every high level and minimum size, in one sweep over the values.

Lowering the level from 255 to 1 only ever adds pixels, in the order of their values, and components grow by union-find
(the component tree of mathematical morphology; Najman and Couprie, 2006), each with its account: its area and its
overlap with the truth. After each value, the components that are large enough are added up by the number of minimum
sizes that they reach, and by their peak. That replaces 256 labellings by one.

Pixels are added by whole `basins`; of white noise, which has too many of them, pixel by pixel (`pixels`). Level 0,
which every pixel reaches, has a closed form.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from cloudseg.postprocess.accounts import row_of, score
from cloudseg.postprocess.basins import MOST_BASINS, count_valleys, link_hills, sweep_basins
from cloudseg.postprocess.compiling import inlined, kernel, stage
from cloudseg.postprocess.intrinsics import (
    RING,
    bit_count,
    copy_64,
    load8,
    load32,
    load64,
    mask_64,
    rings,
    store8,
    store64,
)
from cloudseg.postprocess.pixels import sweep_pixels


@cache
def arc_table(stride: int) -> np.ndarray:
    """Return for each ring mask the offset of one neighbour per arc, int32 (256, 4), 0 where there are no more arcs.

    Neighbours next to each other on the ring touch. So do the two on both sides of a corner that is not in, hence
    such a corner is filled before arcs are counted.
    """
    table = np.zeros((256, 4), np.int32)
    for mask in range(256):
        member = [mask >> n & 1 for n in range(8)]
        filled = [member[n] or (n % 2 == 0 and member[n - 1] and member[(n + 1) % 8]) for n in range(8)]
        begins = [n for n in range(8) if filled[n] and not filled[n - 1]] or [0] * (mask != 0)
        for arc, begin in enumerate(begins):
            first = next(n % 8 for n in range(begin, begin + 8) if member[n % 8])
            rows, columns = RING[first]
            table[mask, arc] = rows * stride + columns
    return table


@stage
def pad_plane(plane, row_step, column_step, height, width, as_mask, padded):
    """Copy a plane, or its mask of non-zero pixels as 0 and 1, into the middle of a padded one with a border of 0."""
    stride = width + 2
    for place in range(stride + 1):
        store8(padded, place, 0)
    for y in range(height):
        source = plane + y * row_step
        target = padded + (y + 1) * stride + 1
        if column_step == 1 and width >= 64:
            # The last vector ends with the row and overlaps the one before it. 9 us; byte by byte it is 50.
            for x in range(0, width, 64):
                start = min(x, width - 64)
                if as_mask:
                    mask_64(source + start, target + start)
                else:
                    copy_64(source + start, target + start)
        else:
            for x in range(width):
                pixel = load8(source, x * column_step)
                store8(target, x, pixel != 0 if as_mask else pixel)
        store8(target, width, 0)
        store8(target, width + 1, 0)
    for place in range((height + 1) * stride + 1, (height + 2) * stride + 64):
        store8(padded, place, 0)


@stage
def count_pixels(mask, size):
    """Return the number of pixels of a padded mask of 0 and 1."""
    total = 0
    for eight in range((size + 7) // 8):
        total += bit_count(load64(mask, eight))
    return total


@stage
def highest_peak(heads):
    """Return the value of the highest basin, 0 where there is none."""
    value = 255
    while value > 0 and load64(heads, value) < 0:
        value -= 1
    return value


class SweepMemory(NamedTuple):
    """Addresses of the tables and the scratch of a sweep; two names of one section are for memory used in turns."""

    arcs: int  # per ring mask the neighbours, one per arc (`arc_table`)
    reached: int  # per area how many minimum sizes it reaches, int32
    ranks: int  # per value how many high levels lie above it, int32
    padded: int  # the plane with a border of 0
    truth: int  # its truth as 0 and 1, likewise
    masks: int  # per pixel the ring mask: which neighbours come before it
    words: int  # per 64 pixels three words: valleys, peaks, saddles
    before: int  # per word the number of valleys before it
    begins: int  # per value where its pixels, or its saddles, begin in `order`
    heads: int  # per value the first of the basins whose peaks have it
    order: int  # pixels or saddles by falling value
    starts: int  # per hill where its basin's histogram begins; `order` until the saddles are sorted
    labels: int  # per pixel a component
    hills: int  # per hill the hill that its peak joins, or its basin
    parents: int  # union-find of the components or basins
    accounts: int  # their accounts
    large: int  # components that reach the least minimum size
    alive: int  # basins that have not been united with another
    spans: int  # per basin where its histogram begins, and the least value in it
    histograms: int  # per basin and value the account of the pixels that have it
    sums: int  # per rank and number of minimum sizes reached the sum of accounts
    rank_of: int  # per component its rank
    ends: int  # per rank where the basins that are alive end


@inlined
def named(sections, arcs, reached, ranks):
    """Name the sections of scratch that `sweep_bytes` gives the sizes of; their addresses lie at `sections`.

    A named tuple as an argument of the kernel would cost 4 us of each plane, to be taken apart.
    """
    begins, order, labels, alive = load64(sections, 5), load64(sections, 6), load64(sections, 7), load64(sections, 10)
    return SweepMemory(
        arcs, reached, ranks,
        load64(sections, 0) + 64,  # vectors may reach this far before the first pixel
        load64(sections, 1), load64(sections, 2), load64(sections, 3), load64(sections, 4),
        begins, begins + 8 * 256, order, order, labels, labels, load64(sections, 8), load64(sections, 9),
        alive, alive, load64(sections, 11), load64(sections, 12), load64(sections, 13),
        load64(sections, 14), load64(sections, 15),
    )  # fmt: skip


@kernel
def sweep(
    plane, row_step, column_step, truth_plane, truth_row_step, truth_column_step, height, width, least, arcs, reached,
    ranks, sections, dice,
):  # fmt: skip
    """Fill dice (256, J, K) for one plane."""
    memory = named(sections, arcs, reached, ranks)
    padded, truth, masks, words, before = memory.padded, memory.truth, memory.masks, memory.words, memory.before
    highs, sizes = dice.shape[1:]
    stride = width + 2
    size = stride * (height + 2)
    pad_plane(plane, row_step, column_step, height, width, 0, padded)
    pad_plane(truth_plane, truth_row_step, truth_column_step, height, width, 1, truth)
    total = count_pixels(truth, size)
    first, last = stride // 64, (size - stride) // 64 + 1
    for word in range(first, last):
        rings(padded + 64 * word, stride, masks + 64 * word, words + 24 * word)
    for counter in range((highs + 1) * (sizes + 1)):
        store64(memory.sums, counter, 0)
    valleys = count_valleys(words, first, last, before)
    basins = link_hills(
        words, first, last, before, valleys, masks, arcs, padded, memory.hills, memory.heads, memory.parents,
        memory.spans,
    )  # fmt: skip
    if basins <= MOST_BASINS:
        sweep_basins(first, last, basins, total, memory, dice)
        peak = highest_peak(memory.heads)
    else:
        sweep_pixels(size, least, total, memory, dice)
        peak = load8(padded, load32(memory.order, 0) >> 1)
    whole = row_of(memory.sums, sizes, load32(ranks, peak))
    store64(whole, load32(reached, height * width), height * width + (total << 32))
    score(memory.sums, sizes, total, dice, 0)


def sweep_bytes(height: int, width: int, highs: int, sizes: int) -> tuple[int, ...]:
    """Return the sizes of the sections of scratch that `named` names."""
    pixels = -(-(height + 2) * (width + 2) // 64) * 64 + 256
    labels = 64 * (((height + 1) // 2) * ((width + 1) // 2) // 64 + 1)
    planes = (pixels + 64, pixels, pixels, 24 * pixels // 64, 4 * pixels // 64, 8 * 1024)
    spans, histograms = 8 * MOST_BASINS + 64, 2048 * min(labels, MOST_BASINS) + 64
    tables = 4 * pixels, 4 * pixels, 4 * labels, 8 * labels, 4 * labels, spans, histograms
    sums = 64 * ((highs + 1) * (sizes + 1) // 8 + 1)
    return *planes, *tables, sums, 4 * labels, 8 * (highs + 1)
