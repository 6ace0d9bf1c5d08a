"""What the public functions ask of their arguments, and the pool of threads that they share.

A wrong argument ends here, as a `TypeError` (wrong kind of thing) or a `ValueError` (wrong value) that says what came
and what was expected: the kernels behind check nothing.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from operator import index
from typing import TypeVar

import numpy as np

LARGEST_PLANE = 2**31 - 1  # positions on a plane are int32 in the kernels

BOOL, UINT8 = np.dtype(np.bool_), np.dtype(np.uint8)

Work = TypeVar("Work")
Result = TypeVar("Result")


def array_of(name: str, array: object, dtypes: Sequence[np.dtype], dimensions: int) -> np.ndarray:
    """Return `array` if it is an ndarray of one of the dtypes and of that many dimensions; raise otherwise."""
    if not isinstance(array, np.ndarray) or array.dtype not in dtypes:
        expected = " or ".join(dtype.name for dtype in dtypes)
        got = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name}: expected a NumPy array of {expected}, got {got}")
    if array.ndim != dimensions:
        raise ValueError(f"{name}: expected {dimensions} dimensions, got shape {array.shape}")
    fitting_plane(name, *array.shape[-2:])
    return array


def fitting_plane(name: str, height: int, width: int) -> None:
    """Raise when positions on a plane of this size do not fit the kernels' int32."""
    if (height + 1) * (width + 1) > LARGEST_PLANE:
        raise ValueError(f"{name}: a plane of {height}x{width} is too large, at most about 46340x46340 is possible")


def mask_of(name: str, mask: object, dimensions: int) -> np.ndarray:
    """Return a mask, bool or uint8 with any non-zero value in, as uint8 over the same memory."""
    return array_of(name, mask, (BOOL, UINT8), dimensions).view(np.uint8)


def whole_number(name: str, value: object, least: int) -> int:
    """Return `value` as an int that is at least `least`."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    return number


def flat_list(name: str, values: object) -> list:
    """Return one number or a flat sequence of them as a list."""
    if isinstance(values, (int, float)):  # the usual case, before NumPy is asked: 10 us when its code is not in a cache
        return [values]
    if np.ndim(values) > 1:
        raise ValueError(f"{name}: expected one number or a flat list, got shape {np.shape(values)}")
    return [values] if np.ndim(values) == 0 else list(values)


def whole_numbers(name: str, values: object, least: int) -> list[int]:
    """Return one or more whole numbers, each at least `least` and cut at the largest plane."""
    return [min(whole_number(name, value, least), LARGEST_PLANE) for value in flat_list(name, values)]


def one_per_class(name: str, values: list[int], classes: int) -> array:
    """Return one value per class as int64, from one for all or one for each."""
    if len(values) not in (1, classes):
        raise ValueError(f"{name}: expected one value or {classes} (one per class), got {len(values)}")
    return array("q", values * classes if len(values) == 1 else values)


def thread_count(threads: object) -> int:
    """Return the number of threads, where None is one."""
    return 1 if threads is None else whole_number("threads", threads, 1)


def in_order(work: Callable[[Work], Result], items: Iterable[Work], threads: int) -> Iterator[Result]:
    """Yield work(item) for every item, in the order of the items, on a pool of threads.

    The kernels release the GIL, so that plain threads use all cores. A few items per thread are under way at a time:
    results that nobody has taken yet do not pile up.
    """
    if threads == 1:
        yield from map(work, items)
        return
    waiting = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        under_way = [pool.submit(work, item) for item in islice(waiting, 4 * threads)]
        while under_way:
            yield under_way.pop(0).result()
            under_way.extend(pool.submit(work, item) for item in islice(waiting, 1))
