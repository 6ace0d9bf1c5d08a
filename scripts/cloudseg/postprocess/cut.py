"""Where probabilities are cut into masks: by levels of the stored bytes, and by areas in pixels."""

from dataclasses import dataclass
from math import ceil
from numbers import Real
from typing import Self

import numpy as np

from cloudseg.postprocess.arguments import whole_number
from cloudseg.postprocess.components import fill_holes, keep_seeded_components, remove_small_components

HIGHEST = 255  # the highest level: certainty
NOTHING = 256  # the level that no pixel reaches


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

    A plane with fewer than `top_area` pixels of at least `top_level` is empty. Of any other the pixels of at least
    `level` are in, when their component has at least `min_size` pixels and one of at least `high`. Last, holes are
    filled.

    Parameters
    ----------
    level : in 0..255; a pixel is in when its value is at least the level.
    min_size : least area in pixels of an 8-connected component; 0 keeps everything.
    high : in 0..255; the least peak of a component (hysteresis); up to `level` it asks for nothing.
    top_level : in 0..255; the level that the area of the whole plane is counted at.
    top_area : least number of pixels at the top level on a plane that is not empty; 0 asks for nothing.
    fill_holes : whether holes (background that is not 4-connected to the border) are filled.

    Raises
    ------
    TypeError, ValueError : for anything but whole numbers and a bool, or a number out of its range.

    Examples
    --------
    >>> plane = np.array([[127, 128, 200], [90, 0, 0], [0, 0, 255]], np.uint8)
    >>> Cut(level(0.5), 2).mask(plane)
    array([[0, 1, 1],
           [0, 0, 0],
           [0, 0, 0]], dtype=uint8)
    >>> Cut(90, 0, high=210).mask(plane)
    array([[0, 0, 0],
           [0, 0, 0],
           [0, 0, 1]], dtype=uint8)
    >>> int(Cut(90, 0, top_level=200, top_area=2).mask(plane).sum()), int(Cut(90, 0, 0, 200, 3).mask(plane).sum())
    (5, 0)
    """

    level: int
    min_size: int
    high: int = 0
    top_level: int = 0
    top_area: int = 0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        for name in ("min_size", "top_area"):
            whole_number(name, getattr(self, name), 0)
        for name in ("level", "high", "top_level"):
            if whole_number(name, getattr(self, name), 0) > HIGHEST:
                raise ValueError(f"{name}: expected a whole number in 0..{HIGHEST}, got {getattr(self, name)}")
        if not isinstance(self.fill_holes, bool):
            raise TypeError(f"fill_holes: expected True or False, got {self.fill_holes!r}")

    @classmethod
    def of_share(cls, threshold: float, min_area: float, size: tuple[int, int]) -> Self:
        """Return a cut whose smallest component is a share of the image.

        Parameters
        ----------
        threshold : probability from which a pixel is in.
        min_area : smallest area of a component that stays, as a share of the image, 0 to 1.
        size : height and width of the image in pixels.

        Examples
        --------
        >>> cut = Cut.of_share(0.5, 0.025, (96, 144))
        >>> cut.level, cut.min_size
        (128, 346)
        """
        # Rounded first: 0.07 * 100 is a little more than 7
        return cls(level(threshold), ceil(round(min_area * size[0] * size[1], 6)))

    def mask(self, plane: np.ndarray) -> np.ndarray:
        """Return the mask of a plane, uint8 (H, W) in any memory order, as uint8 (H, W) of 0 and 1."""
        if self.top_area and np.count_nonzero(plane >= self.top_level) < self.top_area:
            return np.zeros_like(plane, order="F")
        pixels = (plane >= self.level).view(np.uint8)
        if self.high > self.level:
            kept = keep_seeded_components(pixels, plane >= self.high, self.min_size)
        else:
            kept = remove_small_components(pixels, self.min_size)
        return fill_holes(kept) if self.fill_holes else kept
