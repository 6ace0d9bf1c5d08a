"""One exact whole number per plane, by which it is decided whether a class is there at all, before where it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Self

import numpy as np

LARGEST_DENOMINATOR = 10**9  # of a threshold as a ratio: 0.1 + 0.2 is the threshold 0.3


@dataclass(frozen=True)
class PlaneScore:
    """A number of a plane, read from its histogram: numerator over scale is the score, from 0 to 1.

    Parameters
    ----------
    kind : `top`: the mean of the largest `number` pixels (Understanding Clouds, 1st place); `rank`: the pixel that
        `number` pixels reach, so that 1 is the largest one; `area`: the share of pixels at or above the byte `number`.
    number : pixels of `top` and `rank`, from 1 on; the byte of `area`, 0 to 255.
    classifiers : how much the value of classifiers weighs beside this score, which weighs 1; 0 is not at all.

    Raises
    ------
    ValueError : for a kind or a number that there is not.

    Examples
    --------
    >>> plane = np.array([[255, 200], [100, 0]], np.uint8)
    >>> histogram = np.bincount(plane.ravel(), minlength=256)
    >>> scores = PlaneScore("top", 2), PlaneScore("rank", 2), PlaneScore("area", 100)
    >>> [(int(score.numerators(histogram)), score.scale(4)) for score in scores]
    [(455, 510), (200, 255), (3, 4)]
    """

    kind: Literal["top", "rank", "area"]
    number: int
    classifiers: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        least, most = {"top": (1, math.inf), "rank": (1, math.inf), "area": (0, 255)}[self.kind]
        if not least <= self.number <= most:
            raise ValueError(f"{self.kind}: expected a whole number from {least} to {most}, got {self.number}")
        if self.classifiers < 0:
            raise ValueError(f"classifiers: expected a weight of 0 or more, got {self.classifiers}")

    def scale(self, pixels: int) -> int:
        """Return the numerator of a score of 1 on planes of so many pixels."""
        own = self._own_scale(pixels)
        return 255 * own * sum(self.classifiers.as_integer_ratio()) if self.classifiers else own

    def numerators(self, histograms: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """Return the numerator of each plane.

        Parameters
        ----------
        histograms : whole numbers (..., 256), pixels of each plane by byte.
        values : uint8 (...), what classifiers say of each plane; 255 is certainty. Needed where they weigh anything.

        Returns
        -------
        int64 (...) : of (H v / 255 + s) / (H + 1) with H of `classifiers`, v of `values` and s the score of the plane.
        """
        histograms = np.asarray(histograms, np.int64)
        own = self._own_numerators(histograms)
        if not self.classifiers:
            return own
        if values is None:
            raise ValueError("values: expected those of the classifiers that weigh in this score, got none")
        weight, one = self.classifiers.as_integer_ratio()
        pixels = int(histograms.sum(axis=-1).max(initial=0))
        return weight * self._own_scale(pixels) * np.asarray(values, np.int64) + 255 * one * own

    def at_least(self, threshold: float, pixels: int) -> int:
        """Return the least numerator whose score reaches a threshold.

        Examples
        --------
        >>> PlaneScore("top", 17500).at_least(0.7, 183750), PlaneScore("rank", 1).at_least(3 * 0.2, 9)
        (3123750, 153)
        """
        return math.ceil(Fraction(threshold).limit_denominator(LARGEST_DENOMINATOR) * self.scale(pixels))

    def __str__(self) -> str:
        """Say what it is, for people."""
        words = {
            "top": f"mean of the {self.number:,} largest pixels" if self.number > 1 else "largest pixel",
            "rank": f"pixel that {self.number:,} reach" if self.number > 1 else "largest pixel",
            "area": f"share of pixels from level {self.number} on",
        }[self.kind]
        return words + (f", with classifiers weighing {self.classifiers}" if self.classifiers else "")

    def _own_scale(self, pixels: int) -> int:
        return {"top": 255 * self.number, "rank": 255, "area": pixels}[self.kind]

    def _own_numerators(self, histograms: np.ndarray) -> np.ndarray:
        at_or_above = np.cumsum(histograms[..., ::-1], axis=-1)[..., ::-1]
        if self.kind == "area":
            return at_or_above[..., self.number]
        if self.kind == "rank":
            return np.count_nonzero(at_or_above[..., 1:] >= self.number, axis=-1)
        # A byte is the number of levels from 1 on that it reaches
        return np.minimum(at_or_above[..., 1:], self.number).sum(axis=-1)

    def plain(self) -> dict[str, Any]:
        """Return the score as `decision.yaml` has it."""
        return {self.kind: self.number, **({"classifiers": str(self.classifiers)} if self.classifiers else {})}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """Return the score that `plain` wrote.

        Examples
        --------
        >>> PlaneScore.read(PlaneScore("area", 128, Fraction(3, 2)).plain())
        PlaneScore(kind='area', number=128, classifiers=Fraction(3, 2))
        """
        [(kind, number)] = [(key, value) for key, value in plain.items() if key != "classifiers"]
        return cls(kind, number, Fraction(plain.get("classifiers", 0)))
