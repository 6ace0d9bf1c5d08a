"""The Dice of a plane at every level, its pixels added by whole basins.

Most pixels need not be added one by one. A row falls into *hills* between its valleys, and every pixel of a hill is in
the component of the hill's peak from its own value on. A peak that has neighbours before it joins their hill; the
others found *basins*, a hundred to a thousand where there are 184,000 pixels. So one histogram of values per basin is
counted, in memory order, and only basins are united: at saddles, the pixels with two or more arcs.
"""

from cloudseg.postprocess.accounts import AREA, row_of, score
from cloudseg.postprocess.compiling import inlined, stage
from cloudseg.postprocess.components import find_root
from cloudseg.postprocess.intrinsics import bit_count, load8, load32, load64, lowest_bit, store32, store64

MOST_BASINS = 2048  # with more, histograms leave the cache and are slower than going pixel by pixel


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


@inlined
def peak_of(spans, basin):
    """Return the value of a basin's peak, the last entry of its histogram."""
    return load32(spans, 2 * basin + 2) - load32(spans, 2 * basin) - 1


@stage
def merge_basins(saddle, value, words, before, hills, masks, arcs, parents, accounts, spans, histograms):
    """Unite the basins that meet at a saddle: the accounts, and the histograms of what is still to come.

    The basin with the higher peak stays, so that its peak is that of the component.
    """
    neighbours = arcs + 16 * load8(masks, saddle)
    place = saddle + load32(neighbours, 0)
    root = find_root(parents, basin_of(hills, hill_of(words, before, place)), 1)
    arc = 1
    while arc < 4 and load32(neighbours, arc) != 0:
        place = saddle + load32(neighbours, arc)
        other = find_root(parents, basin_of(hills, hill_of(words, before, place)), 1)
        arc += 1
        if other != root:
            if peak_of(spans, other) > peak_of(spans, root):
                root, other = other, root
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
def grow_basins(value, parents, accounts, spans, histograms, alive, first, stop, kept, reached, sums):
    """Add the pixels of one value to the components of one rank and their accounts to the sums.

    Those that are still alive move to place `kept` of the list; return the place after them.
    """
    for index in range(first, stop):
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


@inlined
def grow_ranks(value, number, memory, sizes):
    """Add the pixels of one value to all components, rank by rank; return how many are alive.

    The list of those alive ascends by rank: a basin enters it when the sweep comes to its peak. ends[rank] is where the
    components of a rank end, 0 where there have been none.
    """
    ends, current = memory.ends, load32(memory.ranks, value)
    store64(ends, current, number)
    first = 0
    kept = 0
    for rank in range(current + 1):
        stop = max(first, load64(ends, rank))
        kept = grow_basins(
            value, memory.parents, memory.accounts, memory.spans, memory.histograms, memory.alive, first, stop, kept,
            memory.reached, row_of(memory.sums, sizes, rank),
        )  # fmt: skip
        store64(ends, rank, kept)
        first = stop
    return kept


@stage
def sweep_basins(first, last, basins, total, memory, dice):
    """Fill dice[1:] from the basins of the plane."""
    words, before, padded, masks, hills = memory.words, memory.before, memory.padded, memory.masks, memory.hills
    begins, order, starts, spans, alive = memory.begins, memory.order, memory.starts, memory.spans, memory.alive
    parents, accounts, histograms = memory.parents, memory.accounts, memory.histograms
    find_basins(words, first, last, padded, hills, spans, starts)
    clear_histograms(spans, basins, histograms)
    add_histograms(words, first, last, padded, memory.truth, starts, histograms)
    sort_saddles(words, first, last, padded, begins, order)
    for basin in range(basins):
        store64(accounts, basin, 0)
    sizes = dice.shape[2]
    for rank in range(dice.shape[1] + 1):
        store64(memory.ends, rank, 0)
    number = 0
    saddle = 0
    for value in range(255, 0, -1):
        basin = load64(memory.heads, value)
        while basin >= 0:
            store32(alive, number, basin)
            number += 1
            following = load32(parents, basin)
            store32(parents, basin, basin)
            basin = following
        stop = load64(begins, 255 - value)
        for index in range(saddle, stop):
            merge_basins(
                load32(order, index), value, words, before, hills, masks, memory.arcs, parents, accounts, spans,
                histograms,
            )  # fmt: skip
        saddle = stop
        number = grow_ranks(value, number, memory, sizes)
        score(memory.sums, sizes, total, dice, value)
