"""How the learning rate goes over a training, as a share of its peak."""

import math
from collections.abc import Callable, Sequence

from cloudseg.config.recipe import Recipe

PCT_START = 0.3
"""Share of the way up of ``one_cycle`` where a recipe does not say: that of torch's ``OneCycleLR``."""


def cosine(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate at one step: a linear warm-up, then a cosine to zero.

    Loshchilov and Hutter 2017 (SGDR), equation 5 with one period and a minimum of 0; the warm-up is that of Goyal
    and others 2017, section 2.2.

    Parameters
    ----------
    step : from 0.
    steps : of the whole training.
    warmup : steps of warm-up, may be a fraction.

    Examples
    --------
    >>> [round(cosine(step, 10, 4), 2) for step in range(10)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
    """
    if step + 1 < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * max(0.0, step - warmup) / max(1.0, steps - warmup)))


def constant(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate at one step: a linear warm-up, then all of it.

    Parameters
    ----------
    step : from 0.
    steps : of the whole training; it changes nothing.
    warmup : steps of warm-up, may be a fraction.

    Examples
    --------
    >>> [constant(step, 6, 4) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    return (step + 1) / warmup if step + 1 < warmup else 1.0


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate at one step: up, and then down for the rest of the training.

    Smith and Topin 2018 (super-convergence), in the form of torch's ``OneCycleLR``: half a cosine from 1/25 to 1,
    another down to 1/250,000. The learning rate alone; betas stay as they are.

    Parameters
    ----------
    step : from 0.
    steps : of the whole training.
    warmup : steps of the way up, below ``steps``; may be a fraction.

    Examples
    --------
    >>> [round(one_cycle(step, 10, 3), 2) for step in range(10)]
    [0.04, 0.52, 1.0, 0.95, 0.81, 0.61, 0.39, 0.19, 0.05, 0.0]
    """
    lowest, last = 1 / 25, 1 / 25 / 10_000
    top = warmup - 1  # where the peak is, as torch counts; it may lie between two steps
    if 0 < top >= step:
        return _half_cosine(lowest, 1.0, step / top)
    return _half_cosine(1.0, last, (step - top) / (steps - 1 - top))


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "cosine": cosine,
    "constant": constant,
    "one_cycle": one_cycle,
    "plateau": constant,
}
"""What a recipe's ``schedule`` may name; ``plateau`` is also lowered at each of :func:`reductions`."""


def warmup_steps(recipe: Recipe, batches: int) -> float:
    """Return the steps in which the learning rate of a recipe rises.

    Parameters
    ----------
    recipe : its ``epochs`` are those of the schedule.
    batches : steps of an epoch.

    Examples
    --------
    >>> recipe = Recipe(epochs=10, warmup=2, schedule="one_cycle", pct_start=0.1)
    >>> warmup_steps(recipe, 5), warmup_steps(recipe.model_copy(update={"schedule": "cosine"}), 5)
    (5.0, 10)
    """
    if recipe.schedule == "one_cycle":
        return (recipe.pct_start or PCT_START) * (recipe.epochs * batches)
    return recipe.warmup * batches


def reductions(values: Sequence[float], patience: int) -> int:
    """Return how many times a plateau lowered the learning rate during some epochs.

    It is lowered when more than ``patience`` epochs in a row are no better than the best before them, and the
    count then begins anew: the rule of torch's ``ReduceLROnPlateau`` with ``threshold=0`` and no cooldown.

    Parameters
    ----------
    values : of the epochs so far, in order; more is better.
    patience : epochs, from 0.

    Examples
    --------
    >>> [reductions([0.5, 0.6, 0.6, 0.4, 0.6, 0.6, 0.6, 0.6][:epochs], patience=2) for epochs in range(9)]
    [0, 0, 0, 0, 0, 1, 1, 1, 2]
    """
    best, waited, count = -math.inf, 0, 0
    for value in values:
        waited = 0 if value > best else waited + 1
        best = max(best, value)
        if waited > patience:
            waited, count = 0, count + 1
    return count


def _half_cosine(start: float, stop: float, share: float) -> float:
    return stop + (start - stop) * 0.5 * (1 + math.cos(math.pi * share))
