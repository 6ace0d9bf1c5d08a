"""Mean Dice of every gate with every shape of a mask, summed over images that pass by in blocks."""

from collections.abc import Sequence
from functools import reduce

import numpy as np


class GateTable:
    """The Dice of one class by fold, gate and shape.

    What a gate closes scores 1 where the truth is empty, else 0, whatever the shape. So a plane's Dice values are
    added once, at the last gate that it passes, and one running sum over the gates makes the table: no product of
    gates and planes is needed.

    Parameters
    ----------
    folds : how many.
    gates : families, and gates of each.
    shape : levels, high levels, minimum sizes.

    Examples
    --------
    >>> table = GateTable(1, (1, 2), (1, 1, 1))
    >>> dice = np.array([0.5, 0.25]).reshape(2, 1, 1, 1)
    >>> table.add(0, 0, last_passed=np.array([1, 0]), dice=dice, is_empty=np.array([False, True]))
    >>> table.finish([2])
    >>> table.mean([0]).ravel()
    array([0.375, 0.75 ])
    """

    def __init__(self, folds: int, gates: tuple[int, int], shape: tuple[int, int, int]) -> None:
        self.dice = np.zeros((folds, *gates, *shape))
        self.empty = np.zeros((folds, gates[0], gates[1] + 1), np.int64)  # by one more than the last gate passed

    @staticmethod
    def bytes_of(folds: int, gates: tuple[int, int], shape: tuple[int, int, int]) -> int:
        """Return the bytes of a table."""
        return 8 * folds * int(np.prod(gates)) * int(np.prod(shape))

    def add(self, fold: int, family: int, last_passed: np.ndarray, dice: np.ndarray, is_empty: np.ndarray) -> None:
        """Add planes to a family of gates.

        Parameters
        ----------
        fold : the row of the fold.
        last_passed : int (N,), the last gate that each plane passes; -1 where it passes none.
        dice : float64 (N, level, high, min_size).
        is_empty : bool (N,), of the truth.
        """
        np.add.at(self.empty[fold, family], last_passed[is_empty] + 1, 1)
        for gate in np.unique(last_passed[last_passed >= 0]):
            # A block is summed before it is added, as `dice_sums` does it, to the last bit
            self.dice[fold, family, gate] += reduce(np.add, (dice[n] for n in np.flatnonzero(last_passed == gate)))

    def finish(self, counts: Sequence[int]) -> None:
        """Turn sums into means, once all planes are added.

        Parameters
        ----------
        counts : planes of each fold.
        """
        for dice, empty, count in zip(self.dice, self.empty, counts, strict=True):
            for gate in reversed(range(dice.shape[1] - 1)):
                dice[:, gate] += dice[:, gate + 1]
            dice += np.cumsum(empty, axis=1)[:, :-1, None, None, None]
            dice /= max(count, 1)

    def mean(self, rows: Sequence[int]) -> np.ndarray:
        """Return the mean over some folds: float64 (family, gate, level, high, min_size)."""
        total = self.dice[rows[0]].copy()
        for row in rows[1:]:
            total += self.dice[row]
        total /= len(rows)
        return total
