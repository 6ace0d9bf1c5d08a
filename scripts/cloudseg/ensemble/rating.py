"""Set levels by rate: so that as many images, or pixels, have a class as are known or held to have it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from cloudseg.ensemble.blended import Block
from cloudseg.ensemble.choosing import (
    LEVELS,
    Blocks,
    Chosen,
    choices,
    chosen_of,
    dice_of_class,
    is_open,
    parts,
    pixels_from,
    with_cut,
)
from cloudseg.ensemble.masking import ImageRule
from cloudseg.postprocess import plane_histograms

Share = Literal["images", "pixels"]


def rate(
    blocks: Blocks,
    rule: ImageRule,
    folds: Sequence[int],
    *,
    rates: Mapping[str, float] | None = None,
    share: Share = "images",
    threads: int = 1,
) -> Chosen:
    """Choose, for each class, the level at which the share that is in is nearest to a rate; of equals the higher level.

    Parameters
    ----------
    blocks : gives the images, block by block.
    rule : what is held: all but the levels.
    folds : those of the blocks. All images count alike, whatever the sizes of their folds.
    rates : per class, in [0, 1]; None is that of the truth of the images that it is chosen on.
    share : `images`: those whose mask is not empty; `pixels`: those of at least the level, of planes that count. No
        minimum size and no high level is asked of a pixel.
    threads : the result does not depend on it.

    Raises
    ------
    ValueError : when there is no image to choose on.
    """
    counts = _Counts.of(blocks, rule, folds, share, threads)
    if not counts.all.any():
        raise ValueError("blocks: expected images to choose on, got none")
    rules = []
    for rows in choices(folds):
        inside, true, total = (each[rows].sum(axis=0) for each in (counts.inside, counts.true, counts.all))
        planes = {}
        for number, (name, held) in enumerate(rule.classes.items()):
            wanted = Fraction(int(true[number]), max(int(total), 1)) if rates is None else Fraction(str(rates[name]))
            planes[name] = with_cut(held, level=nearest_level(inside[number], int(total), wanted))
        rules.append(ImageRule(planes, rule.best))
    return chosen_of(rules, folds)


def nearest_level(inside: Sequence[int], total: int, wanted: Fraction) -> int:
    """Return the level whose share is nearest to the one that is wanted; of equals the highest.

    Parameters
    ----------
    inside : how many are in at each level.
    total : how many there are.

    Examples
    --------
    >>> nearest_level([8, 6, 6, 2, 0], 8, Fraction(1, 2))
    3
    """
    apart = [abs(count * wanted.denominator - wanted.numerator * total) for count in map(int, inside)]
    return max(range(len(apart)), key=lambda level: (-apart[level], level))


@dataclass(frozen=True)
class _Counts:
    """Images, or pixels, of each fold and class: in at each level, in the truth, and all there are."""

    inside: np.ndarray  # int64 (fold, class, 256)
    true: np.ndarray  # int64 (fold, class)
    all: np.ndarray  # int64 (fold,)

    @classmethod
    def of(cls, blocks: Blocks, rule: ImageRule, folds: Sequence[int], share: Share, threads: int) -> "_Counts":
        classes = len(rule.classes)
        counts = cls(*(np.zeros((len(folds), *shape), np.int64) for shape in ((classes, LEVELS), (classes,), ())))
        for block in blocks():
            for part in parts(block, LEVELS):
                counts._add(folds.index(part.fold), part, rule, share, threads)
        return counts

    def _add(self, fold: int, part: Block, rule: ImageRule, share: Share, threads: int) -> None:
        planes = part.planes
        inside = (_masks_that_hold if share == "images" else _pixels_inside)(rule, planes, threads)
        self.inside[fold] += (inside * is_open(rule, planes, part.evidence)[..., None]).sum(axis=0)
        true = np.count_nonzero(part.truth, axis=(2, 3))
        self.true[fold] += (true > 0 if share == "images" else true).sum(axis=0)
        self.all[fold] += len(planes) * (1 if share == "images" else planes.shape[2] * planes.shape[3])


def _masks_that_hold(rule: ImageRule, planes: np.ndarray, threads: int) -> np.ndarray:
    """Return whether the mask of each plane and level holds a pixel: int (N, C, 256)."""
    nothing = np.zeros((len(planes), *planes.shape[2:]), np.uint8)
    holds = [
        # Against an empty truth an empty mask scores 1 and any other 0
        dice_of_class(each, planes[:, number], nothing, [each.cut.min_size], threads=threads)[:, :, 0, 0] == 0
        for number, each in enumerate(rule.classes.values())
    ]
    return np.stack(holds, axis=1).astype(np.int64)


def _pixels_inside(rule: ImageRule, planes: np.ndarray, threads: int) -> np.ndarray:
    """Return the pixels of each plane of at least each level: int64 (N, C, 256)."""
    return pixels_from(plane_histograms(planes))
