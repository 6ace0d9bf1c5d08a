"""The histogram of every plane: how many of its pixels have each of the 256 values.

It says exactly what any score of presence says (the mean of the K largest pixels, a percentile, an area), in two
kilobytes for a plane. Eight pixels are read at once, and each goes to a table of its own, since additions to one
counter wait for each other. Eight equal ones, as there are in flat parts, are added at once.
"""

from functools import partial

import numpy as np

from cloudseg.postprocess.arguments import UINT8, array_of, in_order, thread_count
from cloudseg.postprocess.compiling import inlined, kernel, stage
from cloudseg.postprocess.intrinsics import load8, load32, load64, shift_right, store32, store64
from cloudseg.postprocess.runs import Scratch, address

TABLES = 8


@inlined
def count(tables, table, value, pixels):
    """Add pixels of a value to the counter of one table."""
    counter = 256 * table + value
    store32(tables, counter, load32(tables, counter) + pixels)


@stage
def count_eights(line, eights, tables):
    """Count the pixels of a line that lies in one piece, eight at a time."""
    for index in range(eights):
        eight = load64(line, index)
        value = eight & 255
        if eight == value * 0x0101010101010101:
            count(tables, index % TABLES, value, 8)
        else:
            for pixel in range(8):
                count(tables, pixel, shift_right(eight, 8 * pixel) & 255, 1)


@kernel
def count_values(plane, row_step, column_step, height, width, tables, histogram):
    """Write the histogram of one plane, 256 int64."""
    lines, line_step, pixels, pixel_step = height, row_step, width, column_step
    if row_step == 1:
        lines, line_step, pixels, pixel_step = width, column_step, height, row_step
    for counter in range(256 * TABLES):
        store32(tables, counter, 0)
    eights = pixels // 8 if pixel_step == 1 else 0
    for number in range(lines):
        line = plane + number * line_step
        count_eights(line, eights, tables)
        for pixel in range(8 * eights, pixels):
            count(tables, pixel % TABLES, load8(line, pixel * pixel_step), 1)
    for value in range(256):
        total = 0
        for table in range(TABLES):
            total += load32(tables, 256 * table + value)
        store64(histogram, value, total)


def histograms_of_image(probabilities: np.ndarray, histograms: np.ndarray, image: int) -> None:
    """Write the histograms of one image."""
    with Scratch.of(4 * 256 * TABLES) as scratch:
        for plane, histogram in zip(probabilities[image], histograms[image], strict=True):
            count_values(address(plane), *plane.strides, *plane.shape, *scratch.sections, address(histogram))


def plane_histograms(planes: np.ndarray, /, threads: int | None = None) -> np.ndarray:
    """Count the pixels of every plane by their values.

    Parameters
    ----------
    planes : uint8 (N, C, H, W), in any memory order.
    threads : how many threads; None is one.

    Returns
    -------
    int64 (N, C, 256) : entry v is how many pixels of the plane are v.

    Raises
    ------
    TypeError, ValueError : naming the argument, what was expected and what came.

    Examples
    --------
    >>> histograms = plane_histograms(np.array([[[[0, 255, 7], [7, 7, 0]]]], np.uint8))
    >>> histograms[0, 0, [0, 7, 255]], histograms.shape
    (array([2, 3, 1]), (1, 1, 256))
    """
    planes = array_of("planes", planes, (UINT8,), 4)
    histograms = np.empty((*planes.shape[:2], 256), np.int64)
    for _ in in_order(partial(histograms_of_image, planes, histograms), range(len(planes)), thread_count(threads)):
        pass
    return histograms
