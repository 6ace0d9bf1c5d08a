"""The middle of the best neighbourhood: a choice that is not a lone spike."""

from collections.abc import Iterator, Sequence

import numpy as np

DIGITS = 12  # of a mean Dice: sums of the same terms in another order differ beyond these


def box_mean(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """Return the mean of each value and of its neighbours along an axis, of fewer at the edges.

    Parameters
    ----------
    values : float64, of any shape.
    reach : neighbours to each side.
    axis : 0 or more.

    Examples
    --------
    >>> box_mean(np.array([0.0, 3, 0, 0]), 1, axis=0)
    array([1.5, 1. , 1. , 0. ])
    """
    count = values.shape[axis]
    sums = np.cumsum(values, axis=axis)
    along = np.moveaxis(sums, axis, 0)
    means = np.empty_like(sums)
    means_along = np.moveaxis(means, axis, 0)
    inner = max(count - reach, 0)  # so many places have their last neighbour inside, and as many their first
    means_along[:inner] = along[count - inner :]
    means_along[inner:] = along[-1]
    means_along[count - inner + 1 :] -= along[: max(inner - 1, 0)]
    widths = np.minimum(np.arange(count) + reach + 1, count) - np.maximum(np.arange(count) - reach, 0)
    means /= widths.reshape([-1 if number == axis else 1 for number in range(values.ndim)])
    return means


def best_neighbourhood(
    values: np.ndarray, reaches: Sequence[int], allowed: np.ndarray | None = None
) -> tuple[tuple[int, ...], float]:
    """Choose the place in the middle of the best neighbourhood, the first one where several are equal.

    Parameters
    ----------
    values : float64, of any shape.
    reaches : neighbours to each side along each axis; there are fewer at the edges.
    allowed : bool, broadcast to the shape of the values: the places that may be chosen; None is all. The others
        count as neighbours all the same.

    Returns
    -------
    place : an index per axis.
    mean : of its neighbourhood, to 12 digits, so that equal choices are equal.

    Examples
    --------
    >>> best_neighbourhood(np.array([0.9, 0, 0, 0, 0.6, 0.6, 0.6, 0]), [1])
    ((5,), 0.6)
    """
    smooth = values.copy()
    for axis, reach in enumerate(reaches):
        for slab in _slabs(smooth, axis):
            slab[...] = box_mean(slab, reach, axis)
    np.round(smooth, DIGITS, out=smooth)
    if allowed is not None:
        np.copyto(smooth, -np.inf, where=~allowed)
    place = np.unravel_index(np.argmax(smooth), smooth.shape)
    return tuple(map(int, place)), float(smooth[place])


def _slabs(values: np.ndarray, axis: int) -> Iterator[np.ndarray]:
    """Yield views that make up an array and are whole along an axis: what is made of one fits into a cache."""
    others = [other for other, length in enumerate(values.shape) if length > 1 and other != axis]
    if values.shape[axis] == 1:
        return
    if not others:
        yield values
        return
    for place in range(values.shape[others[0]]):
        yield values[(slice(None),) * others[0] + (slice(place, place + 1),)]
