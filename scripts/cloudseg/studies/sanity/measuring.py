"""Measure the mask of a row: its area, its components, and whether its pixels were counted down columns as high."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cloudseg.dataset.labels.order import continued
from cloudseg.postprocess import component_areas, decode_rle
from cloudseg.studies.sanity import findings as kinds
from cloudseg.studies.sanity.findings import Kind

MOST_DIGITS = 18  # numbers that fit 64 bits, and whose sums do
HIGHEST = 3000  # pixels of a column that is looked for
JOINED, RISEN = 0.85, 0.1  # share of the pixels that go on a column later, and how many more than at some step before


class Mask(NamedTuple):
    """What is measured of a mask.

    `joined` is the share of its pixels whose neighbour in the next column is in the mask, too: nearly 1 for a shape,
    and little more than chance where pixels were counted in another order.
    """

    area: int
    components: int
    smallest: int
    small: int  # components below the minimum size
    joined: float


NOTHING = Mask(0, 0, 0, 0, 0.0)


def measure_text(text: str, grid: tuple[int, int], min_size: int) -> tuple[Mask, Kind | None, str]:
    """Measure the mask of a row.

    Parameters
    ----------
    text : run lengths, which may be anything.
    grid : (height, width) in pixels.
    min_size : in pixels, below which a component counts as small.

    Returns
    -------
    mask, kind, got : what is wrong with the text, if anything. Of runs outside the grid or out of order the pixels
        inside are measured; of what is no run, nothing.

    Examples
    --------
    >>> mask, kind, got = measure_text("1 2 9 1", (2, 3), 0)
    >>> mask.area, kind.title, got
    (2, 'runs outside the grid', 'pair 2 (9 1) goes past the last pixel, 6')
    """
    try:
        return measure_mask(decode_rle(text, grid), min_size), None, ""
    except ValueError:
        kind, got, runs = what_is_wrong(text, grid[0] * grid[1])
    return measure_mask(_painted(runs, grid), min_size), kind, got


def measure_mask(mask: np.ndarray, min_size: int) -> Mask:
    """Measure a uint8 mask (H, W) of 0 and 1; fastest in column-major order.

    Examples
    --------
    >>> measure_mask(np.array([[1, 1, 0, 1], [1, 1, 0, 0]], np.uint8), 2)[:4]
    (5, 2, 1, 1)
    """
    flat = mask.reshape(-1, order="F")
    area = int(np.count_nonzero(flat))
    if not area:
        return NOTHING
    areas = component_areas(mask)
    joined = continued(flat, mask.shape[0]) / area
    return Mask(area, len(areas), int(areas.min()), int((areas < min_size).sum()), joined)


def column_height(texts: Sequence[str], pixels: int) -> int | None:
    """Tell from run lengths alone how high the columns are that they were counted down, if that can be told.

    A shape goes on in the next column, so the text resembles itself one column later. It also does one pixel later;
    hence a step is sought at which it does so again, after it did less.

    Parameters
    ----------
    texts : of some masks; those that cannot be read are left out.
    pixels : of the grid.

    Examples
    --------
    >>> from cloudseg.postprocess import encode_rle
    >>> disc = (np.hypot(*np.mgrid[-20:20, -30:30]) < 15).astype(np.uint8)
    >>> column_height([encode_rle(disc)], disc.size), column_height([encode_rle(disc.T)], disc.size)
    (40, 60)
    """
    flats = [_painted(what_is_wrong(text, pixels)[2], (pixels, 1)).ravel() for text in texts]
    area = sum(map(np.count_nonzero, flats))
    if not area:
        return None
    steps = range(1, min(HIGHEST, pixels))
    alike = np.array([sum(continued(flat, step) for flat in flats) for step in steps]) / area
    again = np.flatnonzero((alike > JOINED) & (alike > np.minimum.accumulate(alike) + RISEN))
    if not again.size:
        return None
    first = int(again[0])
    return steps[first + int(alike[first : first + first // 5 + 2].argmax())]


def what_is_wrong(text: str, pixels: int) -> tuple[Kind, str, np.ndarray]:
    """Say which pair of a text is wrong, and return the pairs, int64 (pair, 2), as far as they are numbers.

    Examples
    --------
    >>> kind, got, runs = what_is_wrong("5 2 3 1", 9)
    >>> kind.title, got, runs.tolist()
    ('runs that overlap or do not ascend', 'pair 2 (3 1) starts before the pair before it has ended', [[5, 2], [3, 1]])
    """
    words = text.split()
    for number, word in enumerate(words):
        if not (word.isascii() and word.isdigit() and len(word) <= MOST_DIGITS):
            return kinds.NOT_RUNS, f"{word[:30]!r} in pair {number // 2 + 1} is no whole number", _none()
    if len(words) % 2:
        return kinds.NOT_RUNS, f"the last start, {words[-1]}, has no length", _none()
    runs = np.array(words, np.int64).reshape(-1, 2)
    ends = runs.sum(axis=1) - 1
    for kind, wrong, reason in (
        (kinds.NOT_RUNS, (runs < 1).any(axis=1), "has a number below 1"),
        (kinds.OUTSIDE, ends > pixels, f"goes past the last pixel, {pixels}"),
        (kinds.UNSORTED, np.append(False, runs[1:, 0] <= ends[:-1]), "starts before the pair before it has ended"),
    ):
        if wrong.any():
            pair = int(wrong.argmax())
            return kind, f"pair {pair + 1} ({runs[pair, 0]} {runs[pair, 1]}) {reason}", runs
    return kinds.NOT_RUNS, f"a blank that is none of ASCII in {text[:30]!r}", runs


def _none() -> np.ndarray:
    return np.empty((0, 2), np.int64)


def _painted(runs: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Draw what of the runs lies inside the grid."""
    pixels = grid[0] * grid[1]
    changes = np.zeros(pixels + 1, np.int32)
    np.add.at(changes, (runs[:, 0] - 1).clip(0, pixels), 1)
    np.add.at(changes, (runs.sum(axis=1) - 1).clip(0, pixels), -1)
    return (changes[:-1].cumsum() > 0).astype(np.uint8).reshape(grid, order="F")
