"""Which images a person is shown: the worst, those in the middle, the best, some by chance, and those of each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cloudseg.ensemble.scores import class_dice

WORST, MIDDLE, BEST, RANDOM = 3, 2, 3, 3
MOST_CLASSES = 8  # that have images of their own: those with the lowest Dice
EVEN, MOST, FEWEST = 6, 2, 2  # test images: spread evenly, and those with the most and the fewest predicted pixels


@dataclass(frozen=True)
class Choice:
    """Images that are shown together.

    Parameters
    ----------
    title : of the section.
    images : names and, for each, a few words on why it was chosen.
    of_class : whether the title is the name of a class, whose images these are.
    """

    title: str
    images: list[tuple[str, str]]
    of_class: bool = False


def out_of_fold_choices(scores: pd.DataFrame, *, seed: int) -> list[Choice]:
    """Choose out-of-fold images by their Dice.

    Parameters
    ----------
    scores : what `cloudseg.ensemble.scores.image_scores` returns.
    seed : of those chosen by chance.

    Examples
    --------
    >>> rows = [(name, 0, "Fish", 9, 9, dice) for name, dice in zip("abcdefgh", range(8), strict=True)]
    >>> scores = pd.DataFrame(rows, columns=["image", "fold", "class", "truth", "kept", "dice"])
    >>> [(choice.title, [image for image, _ in choice.images]) for choice in out_of_fold_choices(scores, seed=1)][:3]
    [('Lowest Dice', ['a', 'b', 'c']), ('In the middle', ['d', 'e']), ('Highest Dice', ['h', 'g', 'f'])]
    """
    if scores.empty:
        return []
    images = scores.groupby("image", sort=False).agg(
        dice=("dice", "mean"), truth=("truth", "sum"), kept=("kept", "sum")
    )
    ranked = _ranked(images)
    first = max(0, (len(ranked) - MIDDLE) // 2)
    shown = _best(images)
    random = np.random.default_rng(seed).choice(len(ranked), min(RANDOM, len(ranked)), replace=False)
    return [
        Choice("Lowest Dice", _numbered(ranked[:WORST], "lowest")),
        Choice("In the middle", [(image, "near the median") for image in ranked[first : first + MIDDLE]]),
        Choice("Highest Dice", _numbered(shown[:BEST], "highest")),
        Choice("By chance", [(ranked[place], "drawn by chance") for place in random]),
        *_choices_of_classes(scores),
    ]


def _choices_of_classes(scores: pd.DataFrame) -> list[Choice]:
    """Choose the worst and the best image of each class, of the classes with the lowest Dice where there are many."""
    if scores["class"].nunique() < 2:
        return []
    chosen = []
    for name in lowest_classes(scores):
        images = scores[scores["class"] == name].set_index("image")
        ends = [(_ranked(images)[0], "lowest Dice of this class")]
        ends += [(best, "highest Dice of this class") for best in _best(images)[:1] if best != ends[0][0]]
        chosen.append(Choice(name, ends, of_class=True))
    return chosen


def lowest_classes(scores: pd.DataFrame, most: int = MOST_CLASSES) -> list[str]:
    """Return the classes in their order or, where they are more than `most`, those with the lowest Dice."""
    dice = class_dice(scores)
    lowest = set(sorted(dice, key=dice.get)[:most])
    return [name for name in dice if name in lowest]


def _ranked(images: pd.DataFrame) -> list[str]:
    """Return images from the lowest Dice; of equals, the one with the most pixels first."""
    pixels = images["truth"] + images["kept"]
    return list(images.assign(pixels=-pixels).sort_values(["dice", "pixels"], kind="stable").index)


def _best(images: pd.DataFrame) -> list[str]:
    """Return images from the highest Dice, those with a truth first: that nothing was found in nothing shows little."""
    has = images["truth"] > 0
    ordered = images.assign(no_truth=~has, size=-images["truth"], loss=-images["dice"])
    return list(ordered.sort_values(["no_truth", "loss", "size"], kind="stable").index)


def _numbered(images: Sequence[str], word: str) -> list[tuple[str, str]]:
    places = ["", "second ", "third "]
    return [(image, f"{place}{word}") for image, place in zip(images, places, strict=False)]


def submitted_choices(pixels: Mapping[str, int]) -> list[Choice]:
    """Choose test images: evenly spread, and those with the most and the fewest predicted pixels.

    Parameters
    ----------
    pixels : per image the predicted pixels of all classes.

    Examples
    --------
    >>> [len(choice.images) for choice in submitted_choices({str(number): number for number in range(100)})]
    [6, 4]
    >>> submitted_choices({})
    []
    """
    if not pixels:
        return []
    images = list(pixels)
    places = np.unique(np.linspace(0, len(images) - 1, min(EVEN, len(images))).astype(int))
    ranked = sorted(images, key=lambda image: -pixels[image])
    ends = [(image, "most predicted pixels") for image in ranked[:MOST]]
    ends += [(image, "fewest predicted pixels") for image in ranked[MOST:][-FEWEST:]]
    return [
        Choice("Test images, evenly spread", [(images[place], "evenly spread") for place in places]),
        Choice("Test images with the most and the fewest predicted pixels", ends),
    ]
