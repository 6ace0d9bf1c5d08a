"""The Dice of a plane at every level, its pixels added one by one by falling value.

Most pixels need no union. The neighbours of a pixel that came before it are known from nine values, for 64 pixels at
once. Where those neighbours form one arc of the ring around the pixel, they are connected to each other already, and
the pixel simply joins them: on real planes this is so for 99 pixels of 100.
"""

from cloudseg.postprocess.accounts import AREA, row_of, score
from cloudseg.postprocess.compiling import inlined, stage
from cloudseg.postprocess.components import find_root
from cloudseg.postprocess.intrinsics import load8, load32, load64, store32, store64


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
def join(one, two, least, parents, accounts, rank_of, ranked, large, number_large):
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
    if ranked:
        store32(rank_of, one, min(load32(rank_of, one), load32(rank_of, two)))
    if before & AREA < least <= after & AREA:
        store32(large, number_large, one)
        number_large += 1
    return one, number_large


@stage
def add_pixels(first, stop, rank, ranked, least, memory, number, number_large):
    """Add the pixels of one value; return the number of labels and of large components. New ones have the rank."""
    order, masks, arcs, labels, parents = memory.order, memory.masks, memory.arcs, memory.labels, memory.parents
    accounts, rank_of, large = memory.accounts, memory.rank_of, memory.large
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
            if ranked:
                store32(rank_of, root, rank)
        else:
            root = find_root(parents, load32(labels, place + offset), 1)
            arc = 1
            while arc < 4 and load32(neighbours, arc) != 0:
                other = find_root(parents, load32(labels, place + load32(neighbours, arc)), 1)
                root, number_large = join(root, other, least, parents, accounts, rank_of, ranked, large, number_large)
                arc += 1
        store32(labels, place, root)
        account = load64(accounts, root) + 1 + ((entry & 1) << 32)
        store64(accounts, root, account)
        if account & AREA == least:
            store32(large, number_large, root)
            number_large += 1
    return number, number_large


@stage
def sum_large(memory, number_large, ranked, sizes):
    """Add up the large components by rank and number of sizes that they reach; return how many are still alive."""
    parents, accounts, rank_of, large = memory.parents, memory.accounts, memory.rank_of, memory.large
    reached, sums = memory.reached, memory.sums
    alive = 0
    for index in range(number_large):
        root = load32(large, index)
        store32(large, alive, root)
        if load32(parents, root) == root:
            alive += 1
            account = load64(accounts, root)
            row = row_of(sums, sizes, load32(rank_of, root)) if ranked else sums
            place = load32(reached, account & AREA)
            store64(row, place, load64(row, place) + account)
    return alive


@stage
def sweep_pixels(size, least, total, memory, dice):
    """Fill dice[1:] pixel by pixel."""
    begins, sizes = memory.begins, dice.shape[2]
    ranked = load32(memory.ranks, 0) > 0  # otherwise no rank is kept: a twentieth of the time
    sort_pixels(memory.padded, memory.truth, size, begins, memory.order)
    number, number_large, first = 0, 0, 0
    for value in range(255, 0, -1):
        stop = load64(begins, 4 * (255 - value) + 3)
        rank = load32(memory.ranks, value)
        number, number_large = add_pixels(first, stop, rank, ranked, least, memory, number, number_large)
        number_large = sum_large(memory, number_large, ranked, sizes)
        score(memory.sums, sizes, total, dice, value)
        first = stop
