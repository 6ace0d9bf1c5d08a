"""Where probabilities are cut into masks: a level of the stored bytes, and the least area of a component."""

from dataclasses import dataclass
from math import ceil
from numbers import Real

import numpy as np

from cloudseg.postprocess.arguments import whole_number
from cloudseg.postprocess.components import remove_small_components

HIGHEST = 255  # the highest level: certainty


def level(threshold: float, /) -> int:
    """Turn a threshold on probabilities into the level that a stored uint8 value must reach.

    Parameters
    ----------
    threshold : in [0, 1].

    Returns
    -------
    int : ceil(255 threshold - 1e-9), in 0..255; a pixel is in when its value is at least the level. The 1e-9 keeps a
        threshold such as 3 * 0.2 = 0.6000000000000001 at the level of 0.6.

    Examples
    --------
    >>> level(0.5), level(0.7), level(0), level(1)
    (128, 179, 0, 255)
    """
    if not isinstance(threshold, (float, Real)):  # float first: an abstract class is slow to ask
        raise TypeError(f"threshold: expected a number in [0, 1], got {threshold!r}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold: expected a number in [0, 1], got {threshold!r}")
    return max(ceil(255 * float(threshold) - 1e-9), 0)


@dataclass(frozen=True)
class Cut:
    """How the probabilities of a class become masks.

    Parameters
    ----------
    level : in 0..255; a pixel is in when its value is at least the level.
    min_size : least area in pixels of an 8-connected component; 0 keeps everything.

    Raises
    ------
    TypeError, ValueError : for anything but whole numbers, or a number out of its range.

    Examples
    --------
    >>> Cut(level(0.5), 2).mask(np.array([[127, 128, 200], [90, 0, 0], [0, 0, 255]], np.uint8))
    array([[0, 1, 1],
           [0, 0, 0],
           [0, 0, 0]], dtype=uint8)
    """

    level: int
    min_size: int

    def __post_init__(self) -> None:
        whole_number("min_size", self.min_size, 0)
        if whole_number("level", self.level, 0) > HIGHEST:
            raise ValueError(f"level: expected a whole number in 0..{HIGHEST}, got {self.level}")

    def mask(self, plane: np.ndarray) -> np.ndarray:
        """Return the mask of a plane, uint8 (H, W) in any memory order, as uint8 (H, W) of 0 and 1."""
        return remove_small_components((plane >= self.level).view(np.uint8), self.min_size)
