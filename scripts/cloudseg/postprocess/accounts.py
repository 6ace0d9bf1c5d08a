"""Accounts of components: what Dice needs to know of one, in one int64.

The area is in the lower half, the overlap with the truth in the upper one, so that one addition joins two components.
"""

from cloudseg.postprocess.compiling import stage
from cloudseg.postprocess.intrinsics import load64, shift_right, store64

AREA = 2**32 - 1  # the bits of an account that hold the area


@stage
def score(sums, sizes, total, dice):
    """Turn the sums into the Dice of every minimum size, and clear them."""
    account = 0
    for size in range(sizes - 1, -1, -1):
        account += load64(sums, size + 1)
        store64(sums, size + 1, 0)
        pixels = (account & AREA) + total
        dice[size] = 2.0 * shift_right(account, 32) / pixels if pixels else 1.0
