"""Accounts of components: what Dice needs to know of one, in one int64.

The area is in the lower half, the overlap with the truth in the upper one, so that one addition joins two components.

The *rank* of a component is how many of the high levels lie above its peak: 0 reaches them all. Without high levels
every rank is 0. Accounts are summed by rank and by the number of minimum sizes that the area reaches.
"""

from cloudseg.postprocess.compiling import inlined, stage
from cloudseg.postprocess.intrinsics import load64, shift_right, store64

AREA = 2**32 - 1  # the bits of an account that hold the area


@inlined
def row_of(sums, sizes, rank):
    """Return the address of the sums of one rank: the `sizes` + 1 numbers of minimum sizes that an area can reach."""
    return sums + 8 * (sizes + 1) * rank


@inlined
def score_rank(sums, sizes, total, dice):
    """Turn the sums of a rank into the Dice of every minimum size, and clear them."""
    account = 0
    for size in range(sizes - 1, -1, -1):
        account += load64(sums, size + 1)
        store64(sums, size + 1, 0)
        pixels = (account & AREA) + total
        dice[size] = 2.0 * shift_right(account, 32) / pixels if pixels else 1.0


@stage
def score(sums, sizes, total, dice, value):
    """Turn the sums into dice[value], of every high level and minimum size, and clear them.

    A component of rank r reaches all high levels but the last r, one for each row of dice[value]. So the sums of a rank
    are added to those of the next one. Those of the last rank, which reaches no high level, stay where they are.
    """
    highs = dice.shape[1]
    for rank in range(highs):
        row = row_of(sums, sizes, rank)
        if rank + 1 < highs:
            following = row_of(sums, sizes, rank + 1)
            for size in range(1, sizes + 1):
                store64(following, size, load64(following, size) + load64(row, size))
        score_rank(row, sizes, total, dice[value, highs - 1 - rank])
