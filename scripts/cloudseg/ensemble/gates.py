"""The gates that a search tries: whether a plane is to have a mask at all.

Gates of one family are nested: a plane that passes one passes all that come before. So a plane is told by the last
gate that it passes, and the Dice of all gates is a sum that runs over them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np

from cloudseg.ensemble.choosing import LEVELS, pixels_from, with_cut
from cloudseg.ensemble.masking import Best, Evidence, PlaneRule, Presence
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.postprocess import plane_histograms

THRESHOLDS = 256  # of a score of presence
# The neighbours of a gate to each side: thresholds of presence, top levels and areas
NEAR_THRESHOLDS, NEAR_TOP_LEVELS, NEAR_AREAS = 8, 1, 1


def thresholds(score: PlaneScore, pixels: int) -> np.ndarray:
    """Return the thresholds of a score that a search tries, as numerators: int64 (256,), ascending from 0.

    Those of `top` and `rank` are uniform, one per byte where no classifiers weigh in. Those of `area` are quadratic,
    since small areas tell more.

    Parameters
    ----------
    pixels : of a plane.

    Examples
    --------
    >>> thresholds(PlaneScore("top", 100), 9999)[[0, 1, 128, 255]]
    array([    0,   100, 12800, 25500])
    >>> thresholds(PlaneScore("area", 128), 183750)[[0, 1, 128, 255]]
    array([     0,      3,  46299, 183750])
    """
    power = 2 if score.kind == "area" else 1
    scale, last = score.scale(pixels), (THRESHOLDS - 1) ** power
    return np.array([-(-scale * step**power // last) for step in range(THRESHOLDS)], np.int64)


class Gates(Protocol):
    """Families of nested gates of the planes of an image.

    Attributes
    ----------
    shape : families, and gates of each.
    reaches : neighbours to each side along both.
    """

    shape: tuple[int, int]
    reaches: tuple[int, int]

    def last_passed(self, planes: np.ndarray, evidence: Evidence) -> np.ndarray:
        """Return the last gate that each plane passes, by family: int (N, C, family), -1 where it passes none."""

    def allowed(self) -> np.ndarray | None:
        """Return which level goes with which gate: bool (family, gate, 256); None is each with each."""

    def rule(self, held: PlaneRule, family: int, gate: int, pixels: int) -> PlaneRule:
        """Return what is held with a gate put in."""


@dataclass(frozen=True)
class NoGates:
    """The one gate that every plane passes."""

    shape = (1, 1)
    reaches = (0, 0)

    def last_passed(self, planes: np.ndarray, evidence: Evidence) -> np.ndarray:
        """Return zeros."""
        return np.zeros((*planes.shape[:2], 1), int)

    def allowed(self) -> None:
        """Return that each level goes with each gate."""

    def rule(self, held: PlaneRule, family: int, gate: int, pixels: int) -> PlaneRule:
        """Return what is held."""
        return held


@dataclass(frozen=True)
class PresenceGates:
    """The thresholds of a score of presence: one family.

    Parameters
    ----------
    score : of a plane.
    best : unless `never`, the plane with the highest score of an image passes every gate.
    """

    score: PlaneScore
    best: Best = "never"
    shape = (1, THRESHOLDS)
    reaches = (0, NEAR_THRESHOLDS)

    def last_passed(self, planes: np.ndarray, evidence: Evidence) -> np.ndarray:
        """Return the last threshold that each plane reaches."""
        numerators = np.stack([evidence.numerators(self.score, number) for number in range(planes.shape[1])], axis=1)
        last = np.searchsorted(thresholds(self.score, evidence.pixels), numerators, side="right") - 1
        if self.best != "never":
            last[np.arange(len(last)), np.argmax(numerators, axis=1)] = THRESHOLDS - 1
        return last[:, :, None]

    def allowed(self) -> None:
        """Return that each level goes with each gate."""

    def rule(self, held: PlaneRule, family: int, gate: int, pixels: int) -> PlaneRule:
        """Return what is held with the presence."""
        return replace(held, presence=Presence(self.score, int(thresholds(self.score, pixels)[gate])))


@dataclass(frozen=True)
class TopGates:
    """Least areas of the pixels of a top level: a family per top level.

    Parameters
    ----------
    top_levels, areas : ascending; an area of 0 is no condition.
    """

    top_levels: tuple[int, ...]
    areas: tuple[int, ...]
    reaches = (NEAR_TOP_LEVELS, NEAR_AREAS)

    @property
    def shape(self) -> tuple[int, int]:
        """The top levels and the areas of each."""
        return len(self.top_levels), len(self.areas)

    def last_passed(self, planes: np.ndarray, evidence: Evidence) -> np.ndarray:
        """Return the last area that the pixels of each top level of a plane have."""
        above = pixels_from(plane_histograms(planes))[..., list(self.top_levels)]
        return np.searchsorted(self.areas, above, side="right") - 1

    def allowed(self) -> np.ndarray:
        """Return that a level is up to the top level, and any where there is no condition."""
        is_above = np.array(self.top_levels)[:, None, None] >= np.arange(LEVELS)
        return is_above | (np.array(self.areas) == 0)[:, None]

    def rule(self, held: PlaneRule, family: int, gate: int, pixels: int) -> PlaneRule:
        """Return what is held with the top level and its area."""
        area = self.areas[gate]
        return with_cut(held, top_level=self.top_levels[family] if area else 0, top_area=area)


def ascending(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Return whole numbers as a tuple, and raise unless they ascend.

    Examples
    --------
    >>> ascending("highs", [2, 1])
    Traceback (most recent call last):
    ValueError: highs: expected ascending numbers, got [2, 1]
    """
    if any(first >= second for first, second in pairwise(values)):
        raise ValueError(f"{name}: expected ascending numbers, got {list(values)}")
    return tuple(map(int, values))
