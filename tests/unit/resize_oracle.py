"""What resizing a mask means, in exact fractions."""

from fractions import Fraction

import numpy as np


def resize_by_fractions(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The definition in exact fractions, a pixel at a time."""

    def overlaps(old: int, new: int) -> list[list[Fraction]]:
        step = Fraction(old, new)
        return [
            [max(Fraction(0), min((j + 1) * step, i + 1) - max(j * step, i)) for i in range(old)] for j in range(new)
        ]

    rows, columns = overlaps(mask.shape[0], size[0]), overlaps(mask.shape[1], size[1])
    total = Fraction(mask.shape[0], size[0]) * Fraction(mask.shape[1], size[1])
    out = np.zeros(size, np.uint8)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            covered = sum(row[i] * column[j] for i, j in zip(*np.nonzero(mask), strict=True) if row[i] and column[j])
            out[y, x] = 2 * covered >= total
    return out
