"""From probabilities to run-length text: threshold, connected components, text, one pass over each plane."""

from array import array
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from cloudseg.postprocess.arguments import (
    UINT8,
    array_of,
    flat_list,
    in_order,
    one_per_class,
    thread_count,
    whole_numbers,
)
from cloudseg.postprocess.compiling import kernel
from cloudseg.postprocess.components import keep_large_components, label_bytes
from cloudseg.postprocess.cut import HIGHEST, level
from cloudseg.postprocess.intrinsics import load64, store64
from cloudseg.postprocess.rle import DIGITS, most_characters, write_runs
from cloudseg.postprocess.runs import Scratch, address, find_runs, scratch_bytes

PLANES_AT_ONCE = 32  # planes whose text is written before it becomes strings: it is still in the cache then


@kernel
def segment_planes(
    planes, image_step, class_step, row_step, column_step, classes, height, width, levels, min_sizes, first, stop,
    sections, digits, ends, room, most,
):  # fmt: skip
    """Write the text of planes first to stop, one after the other, and where each ends; return how many are done.

    It stops early when the room left is less than the most that a plane can need. At `sections` lie the addresses of
    the scratch: the bit matrix, edges, runs, labels and nodes of a plane, and the text.
    """
    bits, edges, runs = load64(sections, 0), load64(sections, 1), load64(sections, 2)
    labels, nodes, text = load64(sections, 3), load64(sections, 4), load64(sections, 5)
    place = text
    last = text + room - most
    done = 0
    while first + done < stop and place <= last:
        image, number = divmod(first + done, classes)
        plane = planes + image * image_step + number * class_step
        level = load64(levels, number)
        image, ahead = divmod(min(first + done + 1, stop - 1), classes)
        ahead = planes + image * image_step + ahead * class_step
        count, ahead = find_runs(plane, row_step, column_step, height, width, level, bits, edges, runs, ahead)
        min_size = load64(min_sizes, number)
        count = keep_large_components(runs, count, height + 1, 0, min_size, labels, nodes, ahead)
        place = write_runs(runs, count, height, width, digits, place)
        store64(ends, done, place - text)
        done += 1
    return done


def segment_some(probabilities: np.ndarray, levels: array, min_sizes: array, some: range) -> list[str]:
    """Return the text of some of the N*C planes."""
    _, classes, height, width = probabilities.shape
    most = most_characters(height, width)
    room = most + 2**18
    ends = array("q", bytes(8 * PLANES_AT_ONCE))
    planes = address(probabilities), *probabilities.strides, classes, height, width
    rules = levels.buffer_info()[0], min_sizes.buffer_info()[0]
    strings: list[str] = []
    with Scratch.of(*scratch_bytes(height, width), *label_bytes(height, width), room) as scratch:
        sections, text = array("q", scratch.sections), scratch.sections[-1]
        while len(strings) < len(some):
            first = some.start + len(strings)
            done = segment_planes(
                *planes, *rules, first, min(first + PLANES_AT_ONCE, some.stop),
                sections.buffer_info()[0], DIGITS, ends.buffer_info()[0], room, most,
            )  # fmt: skip
            bounds = [0, *ends[:done]]
            characters = scratch.characters(text, bounds[-1])
            strings.extend(str(characters[start:end], "ascii") for start, end in pairwise(bounds))
    return strings


def segment(
    probabilities: np.ndarray,
    /,
    thresholds: float | Sequence[float] | None = None,
    min_sizes: int | Sequence[int] = 0,
    threads: int | None = None,
    *,
    levels: int | Sequence[int] | None = None,
) -> list[str]:
    """Turn probabilities into the run-length text of their masks, without small components.

    Parameters
    ----------
    probabilities : uint8 (N, C, H, W), in any memory order; 255 is certainty.
    thresholds : in [0, 1], one per class or one for all; a pixel is in when its value >= level(threshold).
    min_sizes : least area in pixels of an 8-connected component, one per class or one for all; 0 keeps everything.
    threads : how many threads; None is one. The result does not depend on it.
    levels : in place of thresholds, whole numbers in 0..255, one per class or one for all: a decision that is kept as
        bytes meets no float.

    Returns
    -------
    list of N*C str : `encode_rle` of each mask, in row order (image by image, class by class).

    Raises
    ------
    TypeError, ValueError : naming the argument, what was expected and what came.

    Examples
    --------
    >>> plane = np.array([[255, 0, 0], [200, 0, 90]], np.uint8)
    >>> segment(plane[None, None], 0.3, 2)
    ['1 2']
    >>> segment(plane[None, None], levels=90), segment(plane[None, None], levels=91)
    (['1 2 6 1'], ['1 2'])
    """
    if (thresholds is None) == (levels is None):
        raise TypeError(f"expected either thresholds or levels, got {'neither' if levels is None else 'both'}")
    name = "thresholds" if levels is None else "levels"
    if levels is None:
        levels = [level(value) for value in flat_list(name, thresholds)]
    else:
        levels = whole_numbers(name, levels, 0)
        if max(levels, default=0) > HIGHEST:
            raise ValueError(f"levels: expected whole numbers in 0..{HIGHEST}, got {max(levels)}")
    probabilities = array_of("probabilities", probabilities, (UINT8,), 4)
    images, classes = probabilities.shape[:2]
    levels = one_per_class(name, levels, classes)
    min_sizes = one_per_class("min_sizes", whole_numbers("min_sizes", min_sizes, 0), classes)
    threads = thread_count(threads)
    planes = images * classes
    # Two parts per thread: to hand one over takes as long as some planes, and with one the slower thread is waited for.
    share = planes if threads == 1 else -(-planes // (2 * threads))
    step = max(share, PLANES_AT_ONCE)
    parts = [range(first, min(first + step, planes)) for first in range(0, planes, step)]
    segmented = in_order(partial(segment_some, probabilities, levels, min_sizes), parts, threads)
    return [string for strings in segmented for string in strings]
