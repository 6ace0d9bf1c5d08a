"""The Dice score of every threshold with every minimum size and peak: the surface that decisions are chosen on."""

from array import array
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from cloudseg.postprocess.arguments import UINT8, array_of, in_order, mask_of, thread_count, whole_numbers
from cloudseg.postprocess.cut import HIGHEST
from cloudseg.postprocess.runs import Scratch, address
from cloudseg.postprocess.sweep import arc_table, sweep, sweep_bytes


class Measure(NamedTuple):
    """What a sweep asks of components, as tables."""

    least: int  # the least minimum size that asks for anything
    reached: np.ndarray  # per area how many minimum sizes it reaches, int32
    ranks: np.ndarray  # per value how many high levels lie above it, int32 (256,)
    shape: tuple[int, int, int]  # of the Dice of a plane: levels, high levels, minimum sizes


def measure_of(min_sizes: np.ndarray, highs: np.ndarray, pixels: int) -> Measure:
    """Return the tables of minimum sizes and high levels, both ascending, for planes of that many pixels."""
    bounds = np.minimum(min_sizes, pixels + 1)
    reached = np.repeat(np.arange(len(bounds) + 1, dtype=np.int32), np.diff(bounds, prepend=0, append=pixels + 1))
    ranks = (highs > np.arange(256)[:, None]).sum(1, dtype=np.int32)
    least = max(int(min_sizes[0]), 1) if len(min_sizes) else 1
    return Measure(least, reached, ranks, (256, len(highs), len(min_sizes)))


def dice_of_image(probabilities: np.ndarray, truth: np.ndarray, measure: Measure, image: int) -> np.ndarray:
    """Return the Dice of one image: float64 (C, 256, J, K)."""
    _, classes, height, width = probabilities.shape
    if probabilities.strides[3] > probabilities.strides[2]:  # the order of the axes changes no component
        probabilities, truth = probabilities.swapaxes(2, 3), truth.swapaxes(2, 3)
        height, width = width, height
    dice = np.empty((classes, *measure.shape))
    arcs = arc_table(width + 2)
    tables = address(arcs), address(measure.reached), address(measure.ranks)
    with Scratch.of(*sweep_bytes(height, width, *measure.shape[1:])) as scratch:
        sections = array("q", scratch.sections)
        for number in range(classes):
            plane, truth_plane = probabilities[image, number], truth[image, number]
            sweep(
                address(plane), *plane.strides, address(truth_plane), *truth_plane.strides, height, width,
                measure.least, *tables, sections.buffer_info()[0], dice[number],
            )  # fmt: skip
    return dice


def ascending(name: str, values: Sequence[int]) -> np.ndarray:
    """Return whole numbers from 0 that ascend as int64."""
    numbers = np.array(whole_numbers(name, values, 0), np.int64)
    if (np.diff(numbers) < 0).any():
        raise ValueError(f"{name}: expected ascending numbers, got {numbers.tolist()}")
    return numbers


def planes_and_truth(probabilities: object, truth: object) -> tuple[np.ndarray, np.ndarray]:
    """Return both as uint8 of one shape (N, C, H, W)."""
    probabilities = array_of("probabilities", probabilities, (UINT8,), 4)
    truth = mask_of("truth", truth, 4)
    if truth.shape != probabilities.shape:
        raise ValueError(f"truth: expected shape {probabilities.shape} of the probabilities, got {truth.shape}")
    return probabilities, truth


def dice_sums(
    probabilities: np.ndarray,
    truth: np.ndarray,
    min_sizes: Sequence[int],
    groups: Sequence[int],
    /,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the Dice of every class, threshold and minimum size over groups of images.

    Parameters
    ----------
    probabilities : uint8 (N, C, H, W), in any memory order; 255 is certainty.
    truth : bool or uint8 (N, C, H, W), in any memory order; any non-zero value is in.
    min_sizes : K least areas in pixels of an 8-connected component, ascending, equal ones allowed.
    groups : N whole numbers from 0: the group (fold) of each image.
    threads : how many threads; None is one. The result does not depend on it.

    Returns
    -------
    sums : float64 (G, C, 256, K), with G one more than the largest group: sums[g, c, v, k] is the sum over the images
        of group g of the Dice between truth and the pixels of value >= v in components of at least min_sizes[k]
        pixels; 1 where both are empty. Threshold t of `segment` is v = level(t).
    counts : int64 (G,), the images of each group.

    Examples
    --------
    >>> planes = np.array([[[[200, 0]]], [[[0, 100]]]], np.uint8)
    >>> sums, counts = dice_sums(planes, planes > 0, [0], [0, 1])
    >>> sums[:, 0, 101, 0], counts
    (array([1., 0.]), array([1, 1]))
    """
    probabilities, truth = planes_and_truth(probabilities, truth)
    min_sizes = ascending("min_sizes", min_sizes)
    images, classes, height, width = probabilities.shape
    groups = np.array(whole_numbers("groups", groups, 0), np.int64)
    if len(groups) != images:
        raise ValueError(f"groups: expected {images}, one per image, got {len(groups)}")
    counts = np.bincount(groups)
    sums = np.zeros((len(counts), classes, 256, len(min_sizes)))

    threads = thread_count(threads)
    if not sums.size:
        return sums, counts
    dice_of = partial(dice_of_image, probabilities, truth, measure_of(min_sizes, np.zeros(1, int), height * width))
    for group, dice in zip(groups, in_order(dice_of, range(images), threads), strict=True):
        sums[group] += dice[:, :, 0]
    return sums, counts


def dice_values(
    probabilities: np.ndarray,
    truth: np.ndarray,
    min_sizes: Sequence[int],
    /,
    highs: Sequence[int] | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """Score every image at every threshold with every minimum size, and every high level.

    Parameters
    ----------
    probabilities : uint8 (N, C, H, W), in any memory order; 255 is certainty.
    truth : bool or uint8 (N, C, H, W), in any memory order; any non-zero value is in.
    min_sizes : K least areas in pixels of an 8-connected component, ascending, equal ones allowed.
    highs : J least peaks of a component, in 0..255, ascending, equal ones allowed; None asks for no peak.
    threads : how many threads; None is one. The result does not depend on it.

    Returns
    -------
    float64 (N, C, 256, K), or (N, C, 256, J, K) with `highs` : entry [n, c, v, j, k] is the Dice between truth and the
        pixels of value >= v in components of at least min_sizes[k] pixels, one of them >= highs[j]; 1 where both are
        empty. That is the mask of Cut(v, min_sizes[k], highs[j]).

    Raises
    ------
    TypeError, ValueError : naming the argument, what was expected and what came.

    Examples
    --------
    >>> planes = np.array([[[[200, 0, 90, 90]]], [[[0, 100, 0, 0]]]], np.uint8)
    >>> dice_values(planes, planes > 0, [0, 2])[:, 0, [90, 91]].tolist()
    [[[1.0, 0.8], [0.5, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]
    >>> dice_values(planes, planes > 0, [0], [0, 150])[:, 0, 90, :, 0].tolist()
    [[1.0, 0.5], [1.0, 0.0]]
    """
    probabilities, truth = planes_and_truth(probabilities, truth)
    min_sizes = ascending("min_sizes", min_sizes)
    peaks = ascending("highs", [0] if highs is None else highs)
    if len(peaks) and peaks[-1] > HIGHEST:
        raise ValueError(f"highs: expected whole numbers in 0..{HIGHEST}, got {peaks[-1]}")
    images, classes, height, width = probabilities.shape
    measure = measure_of(min_sizes, peaks, height * width)
    values = np.empty((images, classes, *measure.shape))
    threads = thread_count(threads)
    if values.size:
        dice_of = partial(dice_of_image, probabilities, truth, measure)
        for image, dice in enumerate(in_order(dice_of, range(images), threads)):
            values[image] = dice
    return values[..., 0, :] if highs is None else values


def dice_surface(
    probabilities: np.ndarray, truth: np.ndarray, min_sizes: Sequence[int], /, threads: int | None = None
) -> np.ndarray:
    """Score every threshold with every minimum size.

    Parameters
    ----------
    probabilities : uint8 (N, C, H, W), in any memory order; 255 is certainty.
    truth : bool or uint8 (N, C, H, W), in any memory order; any non-zero value is in.
    min_sizes : K least areas in pixels of an 8-connected component, ascending, equal ones allowed.
    threads : how many threads; None is one. The result does not depend on it.

    Returns
    -------
    float64 (C, 256, K) : the mean over images of the Dice between truth and the mask that `segment` makes at level v
        with min_sizes[k]; 1 where both are empty; NaN when there are no images.

    Examples
    --------
    >>> plane = np.array([[[[255, 0, 90]]]], np.uint8)
    >>> dice_surface(plane, plane > 100, [1])[0, [91, 90, 0], 0]
    array([1.        , 0.66666667, 0.5       ])
    """
    sums, counts = dice_sums(probabilities, truth, min_sizes, np.zeros(len(probabilities), int), threads)
    if not len(counts):
        return np.full((probabilities.shape[1], 256, len(np.atleast_1d(min_sizes))), np.nan)
    return sums[0] / counts[0]
