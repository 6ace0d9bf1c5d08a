"""Which images the explorer shows, the most telling first."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import NamedTuple

import pandas as pd


class Shown(NamedTuple):
    """An image of the explorer.

    Parameters
    ----------
    split : valid or test.
    name : of the image.
    dice : the mean over classes under the first source's decision; None for a test image.
    """

    split: str
    name: str
    dice: float | None = None


def sample(scores: pd.DataFrame, tested: Sequence[str], count: int) -> list[Shown]:
    """Choose images, out of fold and of the test, so that a part of the list from its start is a good choice, too.

    Two thirds are out of fold: every other is chosen by its Dice over all classes, the worst and the best first, then
    what lies halfway; the rest likewise among the images that hold a class, class by class. Test images are spread
    over their list. Where one kind is short, the other takes its place.

    Parameters
    ----------
    scores : as :func:`cloudseg.ensemble.scores.image_scores` returns them; it may be empty.
    tested : the test images.
    count : of images in all.

    Examples
    --------
    >>> rows = [(name, 0, "Fish", 9 * (name > "b"), 9, ord(name) / 128) for name in "abcd"]
    >>> scores = pd.DataFrame(rows, columns=["image", "fold", "class", "truth", "kept", "dice"])
    >>> [(shown.split, shown.name) for shown in sample(scores, ["t", "u"], 4)]
    [('valid', 'a'), ('valid', 'c'), ('test', 't'), ('valid', 'd')]
    """
    out_of_fold, of_test = _out_of_fold(scores), (Shown("test", tested[place]) for place in spread(len(tested)))
    turns = chain.from_iterable(zip_longest(out_of_fold, out_of_fold, of_test))
    return list(islice((shown for shown in turns if shown is not None), count))


def _out_of_fold(scores: pd.DataFrame) -> Iterator[Shown]:
    """Yield the images out of fold, each once."""
    dice = scores.groupby("image")["dice"].mean()
    present = scores[scores["truth"] > 0]
    by_class = [own.sort_values(["dice", "image"])["image"].tolist() for _, own in present.groupby("class", sort=False)]
    over_all = _spread_names(dice.reset_index().sort_values(["dice", "image"])["image"].tolist())
    per_class = chain.from_iterable(zip_longest(*map(_spread_names, by_class)))
    names = chain.from_iterable(zip_longest(over_all, per_class))
    for name in dict.fromkeys(name for name in names if name is not None):
        yield Shown("valid", name, float(dice[name]))


def _spread_names(names: Sequence[str]) -> Iterator[str]:
    return (names[place] for place in spread(len(names)))


def spread(count: int) -> list[int]:
    """Return the places of a list, first and last first, then those halfway between, and so on.

    Examples
    --------
    >>> spread(9), spread(1), spread(0)
    ([0, 8, 4, 2, 6, 1, 3, 5, 7], [0], [])
    """
    places = dict.fromkeys([0, count - 1] if count else [])
    parts = 2
    while parts < 2 * count:
        places |= dict.fromkeys(round(part * (count - 1) / parts) for part in range(1, parts, 2))
        parts *= 2
    return list(places)
