"""From probabilities to run-length text: threshold, connected components, text, one pass over each plane.

A rule, four int64 per class, says what else a mask takes: the least area of a component, the least peak of one, and the
level and area that decide on the whole plane. What is off takes no time.
"""

from array import array
from collections.abc import Sequence
from functools import partial
from itertools import chain, pairwise

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
from cloudseg.postprocess.compiling import kernel, stage
from cloudseg.postprocess.components import keep_large_components, keep_seeded_runs, label_bytes
from cloudseg.postprocess.cut import HIGHEST, NOTHING, level
from cloudseg.postprocess.intrinsics import bit_count, bits_at_least, load8, load64, store64
from cloudseg.postprocess.rle import DIGITS, most_characters, write_runs
from cloudseg.postprocess.runs import Scratch, address, find_runs, scratch_bytes

PLANES_AT_ONCE = 32  # planes whose text is written before it becomes strings: it is still in the cache then


@stage
def reaches_area(plane, row_step, column_step, height, width, level, area):
    """Say whether at least `area` pixels reach a level; lines are counted until they do."""
    lines, line_step, pixels, pixel_step = height, row_step, width, column_step
    if row_step == 1:
        lines, line_step, pixels, pixel_step = width, column_step, height, row_step
    whole = pixels // 64 if pixel_step == 1 else 0
    counted = 0
    for number in range(lines):
        line = plane + number * line_step
        for word in range(whole):
            counted += bit_count(bits_at_least(line + 64 * word, level))
        for pixel in range(64 * whole, pixels):
            counted += load8(line, pixel * pixel_step) >= level
        if counted >= area:
            return True
    return False


@stage
def list_runs(plane, row_step, column_step, height, width, level, rule, sections, ahead):
    """Write the runs of a plane's mask; return how many there are.

    What decides that there are none comes first: the area of the plane, then whether any pixel reaches the high level.
    """
    min_size, high, top_level, top_area = load64(rule, 0), load64(rule, 1), load64(rule, 2), load64(rule, 3)
    bits, edges, runs = load64(sections, 0), load64(sections, 1), load64(sections, 2)
    labels, nodes, seeds = load64(sections, 3), load64(sections, 4), load64(sections, 5)
    if level == NOTHING:
        return 0
    if top_area > 0 and not reaches_area(plane, row_step, column_step, height, width, top_level, top_area):
        return 0
    number = 0
    if high > level:
        number, _ = find_runs(plane, row_step, column_step, height, width, high, bits, edges, seeds, plane)
        if number == 0:
            return 0
    count, ahead = find_runs(plane, row_step, column_step, height, width, level, bits, edges, runs, ahead)
    if high > level:
        return keep_seeded_runs(runs, count, seeds, number, height + 1, 0, min_size, labels, nodes, ahead)
    return keep_large_components(runs, count, height + 1, 0, min_size, labels, nodes, ahead)


@kernel
def segment_planes(
    planes, image_step, class_step, row_step, column_step, classes, height, width, levels, level_step, rules,
    first, stop, sections, digits, ends, room, most,
):  # fmt: skip
    """Write the text of planes first to stop, one after the other, and where each ends; return how many are done.

    It stops early when the room left is less than the most that a plane can need. At `sections` lie the addresses of
    the scratch: the bit matrix, edges, runs, labels, nodes and seeds of a plane, and the text. From the levels of an
    image it is `level_step` to those of the next one.
    """
    runs, text = load64(sections, 2), load64(sections, 6)
    place = text
    last = text + room - most
    done = 0
    while first + done < stop and place <= last:
        image, number = divmod(first + done, classes)
        plane = planes + image * image_step + number * class_step
        level = load64(levels, image * level_step + number)
        image, ahead = divmod(min(first + done + 1, stop - 1), classes)
        ahead = planes + image * image_step + ahead * class_step
        count = list_runs(plane, row_step, column_step, height, width, level, rules + 32 * number, sections, ahead)
        place = write_runs(runs, count, height, width, digits, place)
        store64(ends, done, place - text)
        done += 1
    return done


def segment_some(probabilities: np.ndarray, levels: array, rules: array, some: range) -> list[str]:
    """Return the text of some of the N*C planes; `levels` are one per class, or one per plane."""
    _, classes, height, width = probabilities.shape
    most = most_characters(height, width)
    room = most + 2**18
    ends = array("q", bytes(8 * PLANES_AT_ONCE))
    planes = address(probabilities), *probabilities.strides, classes, height, width
    level_step = classes if len(levels) > classes else 0
    asked = levels.buffer_info()[0], level_step, rules.buffer_info()[0]
    strings: list[str] = []
    bits, edges, runs = scratch_bytes(height, width)
    with Scratch.of(bits, edges, runs, *label_bytes(height, width), runs, room) as scratch:
        sections, text = array("q", scratch.sections), scratch.sections[-1]
        while len(strings) < len(some):
            first = some.start + len(strings)
            done = segment_planes(
                *planes, *asked, first, min(first + PLANES_AT_ONCE, some.stop),
                sections.buffer_info()[0], DIGITS, ends.buffer_info()[0], room, most,
            )  # fmt: skip
            bounds = [0, *ends[:done]]
            characters = scratch.characters(text, bounds[-1])
            strings.extend(str(characters[start:end], "ascii") for start, end in pairwise(bounds))
    return strings


def bytes_of(name: str, values: object) -> list[int]:
    """Return one or more whole numbers in 0..255."""
    levels = whole_numbers(name, values, 0)
    if max(levels, default=0) > HIGHEST:
        raise ValueError(f"{name}: expected whole numbers in 0..{HIGHEST}, got {max(levels)}")
    return levels


def levels_of_planes(levels: np.ndarray, shape: tuple[int, int]) -> array:
    """Return a level for each of the N*C planes."""
    if levels.dtype.kind not in "iu":
        raise TypeError(f"levels: expected whole numbers, got dtype {levels.dtype}")
    if levels.shape != shape:
        raise ValueError(f"levels: expected shape {shape}, one per plane, got {levels.shape}")
    if levels.size and not 0 <= levels.min() <= levels.max() <= NOTHING:
        raise ValueError(f"levels: expected whole numbers in 0..{NOTHING}, got {levels.min()} to {levels.max()}")
    return array("q", levels.ravel().tolist())


def levels_of(thresholds: object, levels: object, shape: tuple[int, int]) -> array:
    """Return the levels of the planes, one per class or one per plane, from what `segment` was given."""
    if (thresholds is None) == (levels is None):
        raise TypeError(f"expected either thresholds or levels, got {'neither' if levels is None else 'both'}")
    if levels is None:
        return one_per_class("thresholds", [level(value) for value in flat_list("thresholds", thresholds)], shape[1])
    if isinstance(levels, np.ndarray) and levels.ndim == 2:
        return levels_of_planes(levels, shape)
    return one_per_class("levels", bytes_of("levels", levels), shape[1])


def rules_of(classes: int, **values: list[int]) -> array:
    """Return the numbers of the rules, class by class, from one per class or one for all of each."""
    columns = [one_per_class(name, numbers, classes) for name, numbers in values.items()]
    return array("q", chain.from_iterable(zip(*columns, strict=True)))


def segment(
    probabilities: np.ndarray,
    /,
    thresholds: float | Sequence[float] | None = None,
    min_sizes: int | Sequence[int] = 0,
    threads: int | None = None,
    *,
    levels: int | Sequence[int] | np.ndarray | None = None,
    highs: int | Sequence[int] = 0,
    top_levels: int | Sequence[int] = 0,
    top_areas: int | Sequence[int] = 0,
) -> list[str]:
    """Turn probabilities into the run-length text of their masks, without small components.

    Parameters
    ----------
    probabilities : uint8 (N, C, H, W), in any memory order; 255 is certainty.
    thresholds : in [0, 1], one per class or one for all; a pixel is in when its value >= level(threshold).
    min_sizes : least area in pixels of an 8-connected component, one per class or one for all; 0 keeps everything.
    threads : how many threads; None is one. The result does not depend on it.
    levels : in place of thresholds, whole numbers in 0..255, one per class or one for all: a decision that is kept as
        bytes meets no float. Or an integer array (N, C), one per plane, of 0..256, where 256 keeps no pixel.
    highs : in 0..255, one per class or one for all; the least peak of a component. Up to the level, as the default 0,
        it asks for nothing.
    top_levels, top_areas : in 0..255 and in pixels, one per class or one for all: a plane with fewer than `top_area`
        pixels of at least `top_level` is empty. An area of 0, the default, asks for nothing.

    Returns
    -------
    list of N*C str : `encode_rle` of each mask (`Cut.mask`), in row order (image by image, class by class).

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
    >>> segment(plane[None, None], levels=90, highs=100), segment(plane[None, None], levels=90, top_areas=7)
    (['1 2'], [''])
    """
    probabilities = array_of("probabilities", probabilities, (UINT8,), 4)
    images, classes = probabilities.shape[:2]
    levels = levels_of(thresholds, levels, (images, classes))
    rules = rules_of(
        classes,
        min_sizes=whole_numbers("min_sizes", min_sizes, 0),
        highs=bytes_of("highs", highs),
        top_levels=bytes_of("top_levels", top_levels),
        top_areas=whole_numbers("top_areas", top_areas, 0),
    )
    threads = thread_count(threads)
    planes = images * classes
    # Two parts per thread: to hand one over takes as long as some planes, and with one the slower thread is waited for.
    share = planes if threads == 1 else -(-planes // (2 * threads))
    step = max(share, PLANES_AT_ONCE)
    parts = [range(first, min(first + step, planes)) for first in range(0, planes, step)]
    segmented = in_order(partial(segment_some, probabilities, levels, rules), parts, threads)
    return [string for strings in segmented for string in strings]
