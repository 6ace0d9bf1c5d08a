"""The training on all images: by the recipe of its folds, for as many epochs as these say. Nothing imports torch."""

import statistics
from collections.abc import Iterable
from pathlib import Path

from cloudseg.config.recipe import Recipe
from cloudseg.training.record import RunRecord

# Keys of a recipe that a training on all images has otherwise than its folds
SET_BY_FOLDS = ("epochs", "patience")


def recipe_on_all_images(recipe: Recipe, epochs: int) -> Recipe:
    """Return the recipe of a training on all images: there is no validation that could stop it.

    Parameters
    ----------
    recipe : that of its folds.
    epochs : what :func:`epochs_on_all_images` returns.

    Examples
    --------
    >>> recipe_on_all_images(Recipe(epochs=30, patience=5, schedule="constant"), 12).canonical()
    {'epochs': 12, 'schedule': 'constant'}
    """
    return recipe.model_copy(update=dict(zip(SET_BY_FOLDS, (epochs, 0), strict=True)))


def epochs_on_all_images(recipe: Recipe, runs: Iterable[str | Path]) -> int:
    """Return how many epochs a training on all images takes, from the ``run.json`` of its folds.

    Raises
    ------
    OSError, DamagedFileError : if one of them is not there, or not whole.
    """
    return median_of_best(recipe, [RunRecord.read(run).epochs.best for run in runs])


def median_of_best(recipe: Recipe, best: Iterable[int]) -> int:
    """Return the median of the folds' best epochs, half rounded up, and no fewer than are averaged.

    Examples
    --------
    >>> median_of_best(Recipe(), [9, 4, 30]), median_of_best(Recipe(), [9, 4])
    (9, 7)
    >>> median_of_best(Recipe(average={"epochs": 5}), [3, 4])
    5
    """
    rounded = int(statistics.median(best) + 0.5)
    return max(rounded, recipe.average.epochs if recipe.average else 1)
