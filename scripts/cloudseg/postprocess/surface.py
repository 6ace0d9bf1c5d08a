"""The Dice score of every threshold with every minimum size, in one sweep over the values.

Lowering the threshold from 255 to 1 only ever adds pixels. They are added one by one, in the order of their values, and
components grow by union-find (the component tree of mathematical morphology; Najman and Couprie, 2006), each with its
area and its overlap with the truth. After each value, the components that are large enough are added up by the number
of minimum sizes that they reach. That replaces 256 labellings by one.

Most pixels need no union. The neighbours of a pixel that came before it are known from nine values, for 64 pixels at
once. Where those neighbours form one arc of the ring around the pixel, they are connected to each other already, and
the pixel simply joins them: on real planes this is so for 99 pixels of 100.

Most pixels need not even be added one by one. A row falls into *hills* between its valleys, and every pixel of a hill
is in the component of the hill's peak from its own value on. A peak that has neighbours before it joins their hill; the
others found *basins*, a hundred to a thousand where there are 184,000 pixels. So one histogram of values per basin is
counted, in memory order, and only basins are united: at saddles, the pixels with two or more arcs. White noise, with
too many basins for that, is swept pixel by pixel. Value 0, which every pixel reaches, has a closed form.
"""

from collections.abc import Sequence
from functools import cache, partial

import numpy as np

from cloudseg.postprocess.arguments import UINT8, array_of, in_order, mask_of, thread_count, whole_numbers
from cloudseg.postprocess.compiling import inlined, kernel, stage
from cloudseg.postprocess.components import find_root
from cloudseg.postprocess.intrinsics import (
    RING,
    bit_count,
    copy_64,
    load8,
    load32,
    load64,
    lowest_bit,
    mask_64,
    rings,
    shift_right,
    store8,
    store32,
    store64,
)
from cloudseg.postprocess.runs import Scratch, address

MOST_BASINS = 2048  # with more, histograms leave the cache and are slower than going pixel by pixel
AREA = 2**32 - 1  # an account is one int64: the area below, the overlap with the truth above


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
def sort_pixels(padded, truth, size, begins, order):
    """Write the pixels by falling value, equal ones in memory order: 2 * place + truth (counting sort).

    Four quarters of the plane are counted and placed side by side, so that a run of equal values is not a chain of
    additions to one counter. begins[v] is where the pixels of value 255 - v begin.
    """
    quarter = (size + 3) // 4
    for counter in range(4 * 256):
        store64(begins, counter, 0)
    for first in range(quarter):
        for part in range(4):
            counter = 4 * (255 - load8(padded, first + part * quarter)) + part
            store64(begins, counter, load64(begins, counter) + 1)
    total = 0
    for counter in range(4 * 256):
        count = load64(begins, counter)
        store64(begins, counter, total)
        total += count
    for first in range(quarter):
        for part in range(4):
            place = first + part * quarter
            counter = 4 * (255 - load8(padded, place)) + part
            target = load64(begins, counter)
            store64(begins, counter, target + 1)
            store32(order, target, 2 * place + load8(truth, place))


@inlined
def join(one, two, least, parents, accounts, large, number_large):
    """Unite two components, if they are two; return their root and the number of large ones.

    The larger area wins. It enters the list of large components when it was not in it and now is large enough.
    """
    if one == two:
        return one, number_large
    if load64(accounts, one) & AREA < load64(accounts, two) & AREA:
        one, two = two, one
    before = load64(accounts, one)
    after = before + load64(accounts, two)
    store64(accounts, one, after)
    store32(parents, two, one)
    if before & AREA < least <= after & AREA:
        store32(large, number_large, one)
        number_large += 1
    return one, number_large


@stage
def add_pixels(first, stop, least, order, masks, arcs, labels, parents, accounts, large, number, number_large):
    """Add the pixels of one value; return the number of labels and of large components."""
    for index in range(first, stop):
        entry = load32(order, index)
        place = entry >> 1
        neighbours = arcs + 16 * load8(masks, place)
        offset = load32(neighbours, 0)
        if offset == 0:
            root = number
            number += 1
            store32(parents, root, root)
            store64(accounts, root, 0)
        else:
            root = find_root(parents, load32(labels, place + offset), 1)
            arc = 1
            while arc < 4 and load32(neighbours, arc) != 0:
                other = find_root(parents, load32(labels, place + load32(neighbours, arc)), 1)
                root, number_large = join(root, other, least, parents, accounts, large, number_large)
                arc += 1
        store32(labels, place, root)
        account = load64(accounts, root) + 1 + ((entry & 1) << 32)
        store64(accounts, root, account)
        if account & AREA == least:
            store32(large, number_large, root)
            number_large += 1
    return number, number_large


@stage
def sum_large(parents, accounts, large, number_large, reached, sums):
    """Add up the large components by the number of sizes that they reach; return how many are still alive."""
    alive = 0
    for index in range(number_large):
        root = load32(large, index)
        store32(large, alive, root)
        if load32(parents, root) == root:
            alive += 1
            account = load64(accounts, root)
            sizes = load32(reached, account & AREA)
            store64(sums, sizes, load64(sums, sizes) + account)
    return alive


@stage
def score(sums, sizes, total, dice):
    """Turn the sums into the Dice of every minimum size, and clear them."""
    account = 0
    for size in range(sizes - 1, -1, -1):
        account += load64(sums, size + 1)
        store64(sums, size + 1, 0)
        pixels = (account & AREA) + total
        dice[size] = 2.0 * shift_right(account, 32) / pixels if pixels else 1.0


@stage
def count_valleys(words, first, last, before):
    """Write how many valleys there are before each word of 64 pixels; return how many there are in all."""
    number = 0
    for word in range(first, last):
        store32(before, word, number)
        number += bit_count(load64(words, 3 * word))
    return number


@inlined
def hill_of(words, before, place):
    """Return the number of the hill of a pixel: the number of valleys up to it."""
    word = place >> 6
    return load32(before, word) + bit_count(load64(words, 3 * word) << (63 - (place & 63)))


@stage
def link_hills(words, first, last, before, valleys, masks, arcs, padded, hills, heads, parents, spans):
    """Link each hill to the hill that its peak joins, or to a new basin, -1 - number; return how many basins.

    The basins whose peaks have one value are a chain: heads[value] is its first, parents[basin] the next one, as long
    as the basin has no pixels; -1 ends it. The histogram of a basin has entries from 0 to the value of its
    peak. spans[basin] is its first place and the least value that is in use, none so far. Hills of zeros go to
    a basin that nobody asks for, MOST_BASINS.
    """
    for value in range(256):
        store64(heads, value, -1)
    for hill in range(valleys + 1):
        store32(hills, hill, -1 - MOST_BASINS)
    basins = 0
    entries = 0
    for word in range(first, last):
        bits = load64(words, 3 * word + 1)
        while bits:
            place = 64 * word + lowest_bit(bits)
            bits &= bits - 1
            hill = hill_of(words, before, place)
            offset = load32(arcs, 4 * load8(masks, place))
            if offset:
                store32(hills, hill, hill_of(words, before, place + offset))
            elif basins == MOST_BASINS:
                return basins + 1
            else:
                value = load8(padded, place)
                store32(hills, hill, -1 - basins)
                store32(spans, 2 * basins, entries)
                store32(spans, 2 * basins + 1, value + 1)
                entries += value + 1
                store32(parents, basins, load64(heads, value))
                store64(heads, value, basins)
                basins += 1
    for basin in (basins, MOST_BASINS):
        store32(spans, 2 * basin, entries)
        store32(spans, 2 * basin + 1, 0)
    return basins


@inlined
def basin_of(hills, hill):
    """Return the basin of a hill, and link all hills on the way to it."""
    end = load32(hills, hill)
    while end >= 0:
        end = load32(hills, end)
    step = load32(hills, hill)
    while step >= 0:
        store32(hills, hill, end)
        hill = step
        step = load32(hills, hill)
    return -1 - end


@stage
def find_basins(words, first, last, padded, hills, spans, starts):
    """Link every hill to its basin, note where the histogram of each hill's basin starts, and the least values.

    A hill lies in one piece, and its least value at one of its ends.
    """
    hill = 0
    begin = 64 * first
    for word in range(first, last + 1):
        bits = load64(words, 3 * word) if word < last else 1
        while bits:
            stop = 64 * word + lowest_bit(bits)
            bits &= bits - 1
            basin = basin_of(hills, hill)
            store32(starts, hill, load32(spans, 2 * basin))
            least = max(min(load8(padded, begin), load8(padded, stop - 1)), 1)
            if least < load32(spans, 2 * basin + 1):
                store32(spans, 2 * basin + 1, least)
            hill += 1
            begin = stop


@stage
def clear_histograms(spans, basins, histograms):
    """Set the entries that are in use to 0."""
    for basin in range(basins):
        start = load32(spans, 2 * basin)
        for entry in range(start + load32(spans, 2 * basin + 1), load32(spans, 2 * basin + 2)):
            store64(histograms, entry, 0)


@stage
def add_histograms(words, first, last, padded, truth, starts, histograms):
    """Count the pixels of every basin and value, with the truth among them, as accounts.

    Going hill by hill, the end of each would be mispredicted: from pixel to pixel, the number of the hill is a sum.
    Where eight pixels are equal, as they are in flat parts, they are added at once: additions to one counter wait for
    each other. Zeros are counted where nobody asks for them, entry 0.
    """
    hill = 0
    for word in range(first, last):
        bits = load64(words, 3 * word)
        for place in range(64 * word, 64 * word + 64, 8):
            valleys = bits & 255
            bits >>= 8
            eight = load64(padded + place, 0)
            value = eight & 255
            if valleys == 0 and eight == value * 0x0101010101010101:
                entry = load32(starts, hill) + value
                count = 8 + (bit_count(load64(truth + place, 0)) << 32)
                store64(histograms, entry, load64(histograms, entry) + count)
            else:
                for pixel in range(8):
                    hill += (valleys >> pixel) & 1
                    entry = load32(starts, hill) + load8(padded, place + pixel)
                    count = 1 + (load8(truth, place + pixel) << 32)
                    store64(histograms, entry, load64(histograms, entry) + count)


@stage
def sort_saddles(words, first, last, padded, begins, order):
    """Write the saddles by falling value; begins[255 - v] is where those of value v end."""
    for counter in range(256):
        store64(begins, counter, 0)
    for fill in range(2):
        for word in range(first, last):
            bits = load64(words, 3 * word + 2)
            while bits:
                place = 64 * word + lowest_bit(bits)
                bits &= bits - 1
                counter = 255 - load8(padded, place)
                target = load64(begins, counter)
                store64(begins, counter, target + 1)
                if fill:
                    store32(order, target, place)
        if fill == 0:
            total = 0
            for counter in range(256):
                count = load64(begins, counter)
                store64(begins, counter, total)
                total += count


@stage
def merge_basins(saddle, value, words, before, hills, masks, arcs, parents, accounts, spans, histograms):
    """Unite the basins that meet at a saddle: the accounts, and the histograms of what is still to come."""
    neighbours = arcs + 16 * load8(masks, saddle)
    place = saddle + load32(neighbours, 0)
    root = find_root(parents, basin_of(hills, hill_of(words, before, place)), 1)
    arc = 1
    while arc < 4 and load32(neighbours, arc) != 0:
        place = saddle + load32(neighbours, arc)
        other = find_root(parents, basin_of(hills, hill_of(words, before, place)), 1)
        arc += 1
        if other != root:
            store32(parents, other, root)
            store64(accounts, root, load64(accounts, root) + load64(accounts, other))
            kept, gone = histograms + 8 * load32(spans, 2 * root), histograms + 8 * load32(spans, 2 * other)
            least, least_gone = load32(spans, 2 * root + 1), load32(spans, 2 * other + 1)
            for entry in range(max(least, least_gone), value + 1):
                store64(kept, entry, load64(kept, entry) + load64(gone, entry))
            for entry in range(least_gone, min(least, value + 1)):
                store64(kept, entry, load64(gone, entry))
            store32(spans, 2 * root + 1, min(least, least_gone))


@stage
def grow_basins(value, parents, accounts, spans, histograms, alive, number, reached, sums):
    """Add the pixels of one value to all components and their accounts to the sums; return how many are alive."""
    kept = 0
    for index in range(number):
        root = load32(alive, index)
        store32(alive, kept, root)
        if load32(parents, root) == root:
            kept += 1
            account = load64(accounts, root)
            if value >= load32(spans, 2 * root + 1):
                account += load64(histograms, load32(spans, 2 * root) + value)
                store64(accounts, root, account)
            sizes = load32(reached, account & AREA)
            store64(sums, sizes, load64(sums, sizes) + account)
    return kept


@stage
def sweep_basins(
    words, first, last, before, padded, truth, masks, arcs, begins, order, hills, heads, basins, spans, histograms,
    parents, accounts, alive, total, reached, sums, dice,
):  # fmt: skip
    """Fill dice[1:] from the basins of the plane."""
    starts = order  # until the saddles are sorted
    find_basins(words, first, last, padded, hills, spans, starts)
    clear_histograms(spans, basins, histograms)
    add_histograms(words, first, last, padded, truth, starts, histograms)
    sort_saddles(words, first, last, padded, begins, order)
    for basin in range(basins):
        store64(accounts, basin, 0)
    number = 0
    saddle = 0
    for value in range(255, 0, -1):
        basin = load64(heads, value)
        while basin >= 0:
            store32(alive, number, basin)
            number += 1
            following = load32(parents, basin)
            store32(parents, basin, basin)
            basin = following
        stop = load64(begins, 255 - value)
        for index in range(saddle, stop):
            merge_basins(
                load32(order, index), value, words, before, hills, masks, arcs, parents, accounts, spans, histograms
            )
        saddle = stop
        number = grow_basins(value, parents, accounts, spans, histograms, alive, number, reached, sums)
        score(sums, dice.shape[1], total, dice[value])


@stage
def sweep_pixels(
    size, least, reached, arcs, padded, truth, masks, begins, order, labels, parents, accounts, large, total, sums, dice
):
    """Fill dice[1:] pixel by pixel."""
    sort_pixels(padded, truth, size, begins, order)
    number, number_large, first = 0, 0, 0
    for value in range(255, 0, -1):
        stop = load64(begins, 4 * (255 - value) + 3)
        number, number_large = add_pixels(
            first, stop, least, order, masks, arcs, labels, parents, accounts, large, number, number_large
        )
        number_large = sum_large(parents, accounts, large, number_large, reached, sums)
        score(sums, dice.shape[1], total, dice[value])
        first = stop


@kernel
def sweep(
    plane, row_step, column_step, truth_plane, truth_row_step, truth_column_step, height, width,
    least, reached, arcs, padded, truth, masks, words, before, begins, order, labels, parents, accounts, alive,
    spans, histograms, sums, dice,
):  # fmt: skip
    """Fill dice (256, K) for one plane."""
    sizes = dice.shape[1]
    stride = width + 2
    size = stride * (height + 2)
    padded += 64  # vectors may reach this far before the first pixel
    pad_plane(plane, row_step, column_step, height, width, 0, padded)
    pad_plane(truth_plane, truth_row_step, truth_column_step, height, width, 1, truth)
    total = count_pixels(truth, size)
    first, last = stride // 64, (size - stride) // 64 + 1
    for word in range(first, last):
        rings(padded + 64 * word, stride, masks + 64 * word, words + 24 * word)
    for counter in range(sizes + 1):
        store64(sums, counter, 0)
    valleys = count_valleys(words, first, last, before)
    heads = begins + 8 * 256
    basins = link_hills(words, first, last, before, valleys, masks, arcs, padded, labels, heads, parents, spans)
    if basins <= MOST_BASINS:
        sweep_basins(
            words, first, last, before, padded, truth, masks, arcs, begins, order, labels, heads, basins, spans,
            histograms, parents, accounts, alive, total, reached, sums, dice,
        )  # fmt: skip
    else:
        sweep_pixels(
            size, least, reached, arcs, padded, truth, masks, begins, order, labels, parents, accounts, alive, total,
            sums, dice,
        )  # fmt: skip
    whole = load32(reached, height * width)
    store64(sums, whole, height * width + (total << 32))
    score(sums, sizes, total, dice[0])


def sweep_bytes(height: int, width: int, sizes: int) -> tuple[int, ...]:
    """Return the sizes of the scratch of `sweep`, from `padded` to `sums`."""
    pixels = -(-(height + 2) * (width + 2) // 64) * 64 + 256
    labels = 64 * (((height + 1) // 2) * ((width + 1) // 2) // 64 + 1)
    planes = (pixels + 64, pixels, pixels, 24 * pixels // 64, 4 * pixels // 64, 8 * 1024)
    spans, histograms = 8 * MOST_BASINS + 64, 2048 * min(labels, MOST_BASINS) + 64
    return *planes, 4 * pixels, 4 * pixels, 4 * labels, 8 * labels, 4 * labels, spans, histograms, 8 * sizes + 64


def dice_of_image(
    probabilities: np.ndarray, truth: np.ndarray, min_sizes: np.ndarray, reached: np.ndarray, image: int
) -> np.ndarray:
    """Return the Dice of one image: float64 (C, 256, K)."""
    _, classes, height, width = probabilities.shape
    if probabilities.strides[3] > probabilities.strides[2]:  # the order of the axes changes no component
        probabilities, truth = probabilities.swapaxes(2, 3), truth.swapaxes(2, 3)
        height, width = width, height
    dice = np.empty((classes, 256, len(min_sizes)))
    least = max(int(min_sizes[0]), 1)
    arcs = arc_table(width + 2)
    with Scratch.of(*sweep_bytes(height, width, len(min_sizes))) as scratch:
        for number in range(classes):
            plane, truth_plane = probabilities[image, number], truth[image, number]
            sweep(
                address(plane), *plane.strides, address(truth_plane), *truth_plane.strides, height, width,
                least, address(reached), address(arcs), *scratch.sections, dice[number],
            )  # fmt: skip
    return dice


def dice_sums(
    probabilities: np.ndarray,
    truth: np.ndarray,
    min_sizes: Sequence[int],
    groups: Sequence[int],
    /,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the Dice of every class, threshold and minimum size over groups of images.

    Parameters
    ----------
    probabilities : uint8 (N, C, H, W), in any memory order; 255 is certainty.
    truth : bool or uint8 (N, C, H, W), in any memory order; any non-zero value is in.
    min_sizes : K least areas in pixels of an 8-connected component, ascending, equal ones allowed.
    groups : N whole numbers from 0: the group (fold) of each image.
    threads : how many threads; None is one. The result does not depend on it.

    Returns
    -------
    sums : float64 (G, C, 256, K), with G one more than the largest group: sums[g, c, v, k] is the sum over the images
        of group g of the Dice between truth and the pixels of value >= v in components of at least min_sizes[k]
        pixels; 1 where both are empty. Threshold t of `segment` is v = level(t).
    counts : int64 (G,), the images of each group.

    Examples
    --------
    >>> planes = np.array([[[[200, 0]]], [[[0, 100]]]], np.uint8)
    >>> sums, counts = dice_sums(planes, planes > 0, [0], [0, 1])
    >>> sums[:, 0, 101, 0], counts
    (array([1., 0.]), array([1, 1]))
    """
    probabilities = array_of("probabilities", probabilities, (UINT8,), 4)
    truth = mask_of("truth", truth, 4)
    if truth.shape != probabilities.shape:
        raise ValueError(f"truth: expected shape {probabilities.shape} of the probabilities, got {truth.shape}")
    min_sizes = np.array(whole_numbers("min_sizes", min_sizes, 0), np.int64)
    if (np.diff(min_sizes) < 0).any():
        raise ValueError(f"min_sizes: expected ascending sizes, got {min_sizes.tolist()}")
    images, classes, height, width = probabilities.shape
    groups = np.array(whole_numbers("groups", groups, 0), np.int64)
    if len(groups) != images:
        raise ValueError(f"groups: expected {images}, one per image, got {len(groups)}")
    counts = np.bincount(groups)
    sums = np.zeros((len(counts), classes, 256, len(min_sizes)))

    threads = thread_count(threads)
    if not sums.size:
        return sums, counts
    bounds = np.minimum(min_sizes, height * width + 1)
    reached = np.repeat(
        np.arange(len(bounds) + 1, dtype=np.int32), np.diff(bounds, prepend=0, append=height * width + 1)
    )
    dice_of = partial(dice_of_image, probabilities, truth, min_sizes, reached)
    for group, dice in zip(groups, in_order(dice_of, range(images), threads), strict=True):
        sums[group] += dice
    return sums, counts


def dice_surface(
    probabilities: np.ndarray, truth: np.ndarray, min_sizes: Sequence[int], /, threads: int | None = None
) -> np.ndarray:
    """Score every threshold with every minimum size.

    Parameters
    ----------
    probabilities : uint8 (N, C, H, W), in any memory order; 255 is certainty.
    truth : bool or uint8 (N, C, H, W), in any memory order; any non-zero value is in.
    min_sizes : K least areas in pixels of an 8-connected component, ascending, equal ones allowed.
    threads : how many threads; None is one. The result does not depend on it.

    Returns
    -------
    float64 (C, 256, K) : the mean over images of the Dice between truth and the mask that `segment` makes at level v
        with min_sizes[k]; 1 where both are empty; NaN when there are no images.

    Examples
    --------
    >>> plane = np.array([[[[255, 0, 90]]]], np.uint8)
    >>> dice_surface(plane, plane > 100, [1])[0, [91, 90, 0], 0]
    array([1.        , 0.66666667, 0.5       ])
    """
    sums, counts = dice_sums(probabilities, truth, min_sizes, np.zeros(len(probabilities), int), threads)
    if not len(counts):
        return np.full((probabilities.shape[1], 256, len(np.atleast_1d(min_sizes))), np.nan)
    return sums[0] / counts[0]
