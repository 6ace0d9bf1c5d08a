"""From the probabilities of images to their masks: first whether a class is there, then where.

Everything that scores, shows or submits masks makes them here, so that all of them mean the same.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.postprocess import NOTHING, Cut, encode_rle, plane_histograms, segment

Best = Literal["never", "always", "if_empty"]
BEST = get_args(Best)


@dataclasses.dataclass(frozen=True)
class Presence:
    """When a plane counts at all: from a numerator of its score on.

    Parameters
    ----------
    score : of the plane.
    at_least : the least numerator of a plane that counts.
    """

    score: PlaneScore
    at_least: int


@dataclasses.dataclass(frozen=True)
class PlaneRule:
    """How the planes of one class become masks.

    Parameters
    ----------
    cut : how a plane that counts becomes a mask.
    presence : when it counts; None is always.
    steps : ascending (numerator, level), where the level depends on the score of `presence`: that of the last step
        which a plane reaches, in place of the cut's; before the first it does not count.
    """

    cut: Cut
    presence: Presence | None = None
    steps: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse steps that say nothing of a plane, or two things."""
        reached = [numerator for numerator, _ in self.steps]
        if reached != sorted(set(reached)):
            raise ValueError(f"steps: expected ascending numerators, got {reached}")
        if self.steps and self.presence is None:
            raise ValueError("steps: expected the score that they are of, got no presence")

    def levels(self, numerators: np.ndarray) -> np.ndarray:
        """Return the level of each plane by the numerator of its score: int64, `NOTHING` where it does not count."""
        if self.presence is None:
            return np.full(len(numerators), self.cut.level)
        if not self.steps:
            return np.where(numerators >= self.presence.at_least, self.cut.level, NOTHING)
        reached, levels = zip(*self.steps, strict=True)
        return np.array([NOTHING, *levels])[np.searchsorted(reached, numerators, side="right")]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What tells whether a class is there: of the planes themselves, or of members that are asked for nothing else.

    Parameters
    ----------
    histograms : whole numbers (N, C, 256), pixels of each plane by byte.
    values : uint8 (N, C), what classifiers say of each plane; None where there are none.
    """

    histograms: np.ndarray
    values: np.ndarray | None = None

    @classmethod
    def of(cls, planes: np.ndarray) -> "Evidence":
        """Return that of planes, uint8 (N, C, H, W)."""
        return cls(plane_histograms(planes))

    def of_image(self, row: int) -> "Evidence":
        """Return that of one image."""
        values = None if self.values is None else self.values[row : row + 1]
        return Evidence(self.histograms[row : row + 1], values)

    def numerators(self, score: PlaneScore, number: int) -> np.ndarray:
        """Return the numerators of a score, int64 (N,), for the planes of a class."""
        values = None if self.values is None else self.values[:, number]
        return score.numerators(self.histograms[:, number], values)

    @property
    def pixels(self) -> int:
        """The pixels of a plane."""
        return int(self.histograms[0, 0].sum())


@dataclasses.dataclass(frozen=True)
class ImageRule:
    """How the planes of an image become masks.

    Parameters
    ----------
    classes : the rule of each class by its name, in the order of the stores.
    best : whether the class with the highest score of an image (of equals the first) counts as present: `never` for
        that reason alone, `always`, or `if_empty`, where no class is present.

    Examples
    --------
    >>> rule = ImageRule({"Fish": PlaneRule(Cut(100, 0), Presence(PlaneScore("rank", 1), 201))})
    >>> planes = np.array([[[200, 90]], [[210, 90]]], np.uint8)[:, None]
    >>> rule.texts(planes), rule.masks(planes[1]).tolist()
    (['', '1 1'], [[[1, 0]]])
    """

    classes: Mapping[str, PlaneRule]
    best: Best = "never"

    def __post_init__(self) -> None:
        """Refuse a word that means nothing."""
        if self.best not in BEST:
            raise ValueError(f"best: expected one of {', '.join(BEST)}, got {self.best!r}")

    @classmethod
    def of_cuts(cls, cuts: Mapping[str, Cut]) -> "ImageRule":
        """Return the rule that cuts every plane of a class alike."""
        return cls({name: PlaneRule(cut) for name, cut in cuts.items()})

    @property
    def asks_presence(self) -> bool:
        """Whether planes are asked at all whether they count."""
        return any(rule.presence for rule in self.classes.values())

    def levels(self, evidence: Evidence) -> np.ndarray:
        """Return the level of each plane, int64 (N, C): `NOTHING` of one that does not count."""
        rules = list(self.classes.values())
        numerators = self._numerators(evidence)
        levels = np.stack([rule.levels(each) for rule, each in zip(rules, numerators, strict=True)], axis=1)
        if self.best == "never" or not len(levels):
            return levels
        scores = self._scores(numerators, evidence.pixels)
        wanting = np.ones(len(levels), bool) if self.best == "always" else (levels == NOTHING).all(axis=1)
        best = np.argmax(scores, axis=1)[wanting]
        levels[wanting, best] = np.array([rule.cut.level for rule in rules])[best]
        return levels

    def presence_scores(self, planes: np.ndarray, evidence: Evidence | None = None) -> np.ndarray:
        """Return the score of presence of each class of an image, (C,) from 0 to 1; NaN of one that is not asked.

        Parameters
        ----------
        planes, evidence : as for `masks`.
        """
        if not self.asks_presence:
            return np.full(len(self.classes), np.nan)
        seen = evidence or Evidence.of(planes[None])
        scores = self._scores(self._numerators(seen), seen.pixels)[0]
        return np.where([rule.presence is not None for rule in self.classes.values()], scores, np.nan)

    def _numerators(self, evidence: Evidence) -> list[np.ndarray]:
        """Return the numerators of the planes of each class; 0 of a class that is not asked."""
        return [
            evidence.numerators(rule.presence.score, number)
            if rule.presence
            else np.zeros(len(evidence.histograms), np.int64)
            for number, rule in enumerate(self.classes.values())
        ]

    def _scores(self, numerators: list[np.ndarray], pixels: int) -> np.ndarray:
        """Return the score of each plane, float64 (N, C)."""
        scales = [rule.presence.score.scale(pixels) if rule.presence else 1 for rule in self.classes.values()]
        return np.stack(numerators, axis=1) / np.array(scales, np.float64)

    def masks(self, planes: np.ndarray, evidence: Evidence | None = None) -> np.ndarray:
        """Return the masks of an image.

        Parameters
        ----------
        planes : uint8 (C, H, W).
        evidence : of this one image; None is that of the planes themselves.

        Returns
        -------
        uint8 (C, H, W) of 0 and 1.
        """
        levels = self._levels_of(planes[None], evidence)[0]
        masks = np.zeros(planes.shape, np.uint8)
        for mask, plane, level, rule in zip(masks, planes, levels.tolist(), self.classes.values(), strict=True):
            if level != NOTHING:
                mask[:] = dataclasses.replace(rule.cut, level=level).mask(plane)
        return masks

    def texts(self, planes: np.ndarray, evidence: Evidence | None = None) -> list[str]:
        """Return the run-length text of each mask, image by image and class by class.

        Parameters
        ----------
        planes : uint8 (N, C, H, W).
        evidence : of these images; None is that of the planes themselves.
        """
        cuts = [rule.cut for rule in self.classes.values()]
        if any(cut.fill_holes for cut in cuts):
            each = [self.masks(image, evidence and evidence.of_image(row)) for row, image in enumerate(planes)]
            return [encode_rle(mask) for masks in each for mask in masks]
        return segment(
            planes,
            levels=self._levels_of(planes, evidence),
            min_sizes=[cut.min_size for cut in cuts],
            highs=[cut.high for cut in cuts],
            top_levels=[cut.top_level for cut in cuts],
            top_areas=[cut.top_area for cut in cuts],
        )

    def _levels_of(self, planes: np.ndarray, evidence: Evidence | None) -> np.ndarray:
        if not self.asks_presence:
            return np.tile([rule.cut.level for rule in self.classes.values()], (len(planes), 1))
        return self.levels(evidence or Evidence.of(planes))
