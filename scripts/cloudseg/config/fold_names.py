"""What runs are called among those of their experiment: `0` by their fold, `0-seed7` of a replicate, `all`."""

import re
from typing import Literal

ALL = "all"
"""The fold of a training on all images, which has none to validate on."""
Fold = int | Literal["all"]
PATTERN = r"(?:\d+|all)(?:-seed\d+)?"


def seed_words(seed: int | None) -> list[str]:
    """Return what names a seed of a replicate, after all else; nothing for a run with the config's own.

    Examples
    --------
    >>> seed_words(7), seed_words(None)
    (['seed7'], [])
    """
    return [] if seed is None else [f"seed{seed}"]


def fold_name(fold: Fold, seed: int | None = None) -> str:
    """Return what a run is called among those of its experiment.

    Parameters
    ----------
    fold : that it does not see, from 0; `all` of a training on all images.
    seed : of a replicate; None is the config's own.

    Examples
    --------
    >>> fold_name(0), fold_name(0, 7), fold_name("all")
    ('0', '0-seed7', 'all')
    """
    return "-".join([str(fold), *seed_words(seed)])


def parse_fold_name(name: str) -> tuple[Fold, int | None]:
    """Return fold and seed of what :func:`fold_name` made.

    Raises
    ------
    ValueError : for any other text.

    Examples
    --------
    >>> parse_fold_name("0"), parse_fold_name("12-seed7"), parse_fold_name("all-seed7")
    ((0, None), (12, 7), ('all', 7))
    """
    if not re.fullmatch(PATTERN, name):
        raise ValueError(f"expected the name of a fold, such as 0, 0-seed7 or all, got {name!r}")
    fold, _, seed = name.partition("-seed")
    return ALL if fold == ALL else int(fold), int(seed) if seed else None


def fold_order(fold: Fold) -> tuple[bool, int]:
    """Return what folds are sorted by: their number, and the training on all images last.

    Examples
    --------
    >>> sorted([10, "all", 9], key=fold_order)
    [9, 10, 'all']
    """
    return (True, 0) if fold == ALL else (False, fold)


def experiment_words(encoder: str, decoder: str, size: str, recipe: str, seed: int | None = None) -> tuple[str, ...]:
    """Return the words that tell an experiment from all others: a replicate has one more, its seed.

    Examples
    --------
    >>> experiment_words("resnet34", "fpn", "x4", "quick"), experiment_words("resnet34", "fpn", "x4", "quick", 7)
    (('resnet34', 'fpn', 'x4', 'quick'), ('resnet34', 'fpn', 'x4', 'quick', 'seed7'))
    """
    return encoder, decoder, size, recipe, *seed_words(seed)
