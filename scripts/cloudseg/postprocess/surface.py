"""The Dice score of every threshold with every minimum size: the surface that decisions are chosen on."""

from array import array
from collections.abc import Sequence
from functools import partial

import numpy as np

from cloudseg.postprocess.arguments import UINT8, array_of, in_order, mask_of, thread_count, whole_numbers
from cloudseg.postprocess.runs import Scratch, address
from cloudseg.postprocess.sweep import arc_table, sweep, sweep_bytes


def dice_of_image(
    probabilities: np.ndarray, truth: np.ndarray, min_sizes: np.ndarray, reached: np.ndarray, image: int
) -> np.ndarray:
    """Return the Dice of one image: float64 (C, 256, K)."""
    _, classes, height, width = probabilities.shape
    if probabilities.strides[3] > probabilities.strides[2]:  # the order of the axes changes no component
        probabilities, truth = probabilities.swapaxes(2, 3), truth.swapaxes(2, 3)
        height, width = width, height
    dice = np.empty((classes, 256, len(min_sizes)))
    least = max(int(min_sizes[0]), 1)
    arcs = arc_table(width + 2)
    with Scratch.of(*sweep_bytes(height, width, len(min_sizes))) as scratch:
        sections = array("q", scratch.sections)
        for number in range(classes):
            plane, truth_plane = probabilities[image, number], truth[image, number]
            sweep(
                address(plane), *plane.strides, address(truth_plane), *truth_plane.strides, height, width,
                least, address(arcs), address(reached), sections.buffer_info()[0], dice[number],
            )  # fmt: skip
    return dice


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
    probabilities = array_of("probabilities", probabilities, (UINT8,), 4)
    truth = mask_of("truth", truth, 4)
    if truth.shape != probabilities.shape:
        raise ValueError(f"truth: expected shape {probabilities.shape} of the probabilities, got {truth.shape}")
    min_sizes = np.array(whole_numbers("min_sizes", min_sizes, 0), np.int64)
    if (np.diff(min_sizes) < 0).any():
        raise ValueError(f"min_sizes: expected ascending sizes, got {min_sizes.tolist()}")
    images, classes, height, width = probabilities.shape
    groups = np.array(whole_numbers("groups", groups, 0), np.int64)
    if len(groups) != images:
        raise ValueError(f"groups: expected {images}, one per image, got {len(groups)}")
    counts = np.bincount(groups)
    sums = np.zeros((len(counts), classes, 256, len(min_sizes)))

    threads = thread_count(threads)
    if not sums.size:
        return sums, counts
    bounds = np.minimum(min_sizes, height * width + 1)
    reached = np.repeat(
        np.arange(len(bounds) + 1, dtype=np.int32), np.diff(bounds, prepend=0, append=height * width + 1)
    )
    dice_of = partial(dice_of_image, probabilities, truth, min_sizes, reached)
    for group, dice in zip(groups, in_order(dice_of, range(images), threads), strict=True):
        sums[group] += dice
    return sums, counts


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
