"""What every search of a decision shares: how it goes through images, and on which ones each choice is made."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cloudseg.ensemble.blended import Block
from cloudseg.ensemble.masking import Evidence, ImageRule, PlaneRule
from cloudseg.postprocess import NOTHING, dice_values, plane_histograms

LEVELS = 256
# Dice values in memory at once, in bytes; a block of images goes through in parts where it has more
VALUES_AT_ONCE = 2**26

# Gives all blocks anew whenever it is called
Blocks = Callable[[], Iterable[Block]]


@dataclass(frozen=True)
class Chosen:
    """A rule that was chosen, and what is chosen without each fold.

    Parameters
    ----------
    rule : chosen on the images of all folds.
    nested : per fold, what the images of the others choose; empty with fewer than two folds.
    """

    rule: ImageRule
    nested: Mapping[int, ImageRule] = field(default_factory=dict)


def choices(folds: Sequence[int]) -> list[list[int]]:
    """Return the rows of the folds that each choice is made on: all, then without each, where there are two or more.

    Examples
    --------
    >>> choices([3, 4, 5]), choices([7])
    ([[0, 1, 2], [1, 2], [0, 2], [0, 1]], [[0]])
    """
    rows = range(len(folds))
    without = [[other for other in rows if other != row] for row in rows] if len(folds) > 1 else []
    return [list(rows), *without]


def chosen_of(rules: Sequence[ImageRule], folds: Sequence[int]) -> Chosen:
    """Return the rules of `choices`, in its order, by what they were chosen on."""
    return Chosen(rules[0], dict(zip(folds, rules[1:], strict=False)))


def parts(block: Block, values_of_image: int) -> Iterator[Block]:
    """Yield a block in parts of so few images that their Dice values fit into memory, none of them without evidence.

    Parameters
    ----------
    values_of_image : Dice values that a plane has.
    """
    evidence = block.evidence or Evidence.of(block.planes)
    most = max(VALUES_AT_ONCE // (8 * values_of_image), 1)
    for start in range(0, len(block.planes), most):
        some = slice(start, start + most)
        values = None if evidence.values is None else evidence.values[some]
        seen = Evidence(evidence.histograms[some], values)
        yield Block(block.fold, block.planes[some], block.truth[some], seen)


def is_open(rule: ImageRule, planes: np.ndarray, evidence: Evidence) -> np.ndarray:
    """Return which planes a rule makes masks of: those that count as present and have enough pixels of the top level.

    Parameters
    ----------
    planes : uint8 (N, C, H, W).
    evidence : of the same images.

    Returns
    -------
    bool (N, C).
    """
    is_present = rule.levels(evidence) != NOTHING if rule.asks_presence else np.ones(planes.shape[:2], bool)
    cuts = [each.cut for each in rule.classes.values()]
    if any(cut.top_area for cut in cuts):
        above = pixels_from(plane_histograms(planes))
        enough = [above[:, number, cut.top_level] >= cut.top_area for number, cut in enumerate(cuts)]
        is_present &= np.stack(enough, axis=1)
    return is_present


def pixels_from(histograms: np.ndarray) -> np.ndarray:
    """Return the pixels of at least each byte: int64 (..., 256).

    Examples
    --------
    >>> pixels_from(np.eye(256, dtype=int)[2])[:4]
    array([1, 1, 1, 0])
    """
    return np.cumsum(np.asarray(histograms, np.int64)[..., ::-1], axis=-1)[..., ::-1]


def dice_of_class(
    rule: PlaneRule,
    planes: np.ndarray,
    truth: np.ndarray,
    min_sizes: Sequence[int],
    highs: Sequence[int] = (),
    threads: int = 1,
) -> np.ndarray:
    """Return the Dice of every plane of a class for each level, high level and minimum size.

    Parameters
    ----------
    rule : holds the high level where `highs` names none.
    planes, truth : uint8 (N, H, W).

    Returns
    -------
    float64 (N, 256, high, min_size) : of planes that are open; `high` is 1 where `highs` names none.
    """
    named = list(highs) or [rule.cut.high]
    of_shape = {"highs": named} if any(named) else {}
    values = dice_values(planes[:, None], truth[:, None], list(min_sizes), threads=threads, **of_shape)
    return values.reshape(len(planes), LEVELS, len(named), len(min_sizes))


def without_presence(rule: ImageRule) -> ImageRule:
    """Return the rule of planes that all count as present."""
    return ImageRule({name: replace(each, presence=None, steps=()) for name, each in rule.classes.items()})


def with_cuts(rule: ImageRule, **changes: int) -> ImageRule:
    """Return a rule whose cuts have changes."""
    return replace(rule, classes={name: with_cut(each, **changes) for name, each in rule.classes.items()})


def with_cut(rule: PlaneRule, **changes: int) -> PlaneRule:
    """Return the rule of a class whose cut has changes.

    Examples
    --------
    >>> from cloudseg.postprocess import Cut
    >>> with_cut(PlaneRule(Cut(100, 0)), level=50).cut.level
    50
    """
    return replace(rule, cut=replace(rule.cut, **changes))
