import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postprocess_oracles import (
    ORDERS,
    dice,
    large_components,
    large_components_by_opencv,
    lay_out,
    patient,
    planes,
    seeded_components,
    smooth_plane,
)
from scipy import ndimage

from cloudseg.postprocess import Cut, decode_rle, dice_sums, dice_surface, dice_values, segment
from cloudseg.postprocess.basins import MOST_BASINS


def brute_force(plane, truth, min_sizes):
    return np.array([[dice(large_components(plane >= v, size), truth) for size in min_sizes] for v in range(256)])


sizes = st.lists(st.integers(0, 40), max_size=6).map(sorted)


@patient
@given(planes(sides=(1, 2, 3, 7, 15, 16, 17, 33)), sizes, st.integers(0, 2**32 - 1), st.sampled_from(ORDERS))
def test_small_planes_by_brute_force(plane, min_sizes, seed, order):
    truth = np.random.default_rng(seed).random(plane.shape) < seed % 11 / 10
    got = dice_surface(lay_out(plane[None, None], order), lay_out(truth[None, None], order), min_sizes)
    assert got.dtype == np.float64
    assert got.shape == (1, 256, len(min_sizes))
    assert (got[0] == brute_force(plane, truth, min_sizes)).all()


def values_by_brute_force(plane, truth, min_sizes, highs):
    """Return the Dice of every level, high level and minimum size, labelling each level once."""
    values = np.empty((256, len(highs), len(min_sizes)))
    for v in range(256):
        labels, _ = ndimage.label(plane >= v, np.ones((3, 3)))
        flat = labels.ravel()
        areas = np.bincount(flat)
        peaks = np.zeros(len(areas), int)
        np.maximum.at(peaks, flat, plane.ravel())
        for j, high in enumerate(highs):
            for k, size in enumerate(min_sizes):
                keep = (areas >= size) & (peaks >= high)
                keep[0] = False
                values[v, j, k] = dice(keep[labels], truth)
    return values


bytes_in_order = st.lists(st.integers(0, 255), max_size=5).map(sorted)


@patient
@given(
    planes(sides=(1, 2, 3, 7, 15, 16, 17, 33)), sizes, bytes_in_order, st.integers(0, 2**32 - 1),
    st.sampled_from(ORDERS),
)  # fmt: skip
def test_small_planes_with_peaks_by_brute_force(plane, min_sizes, highs, seed, order):
    truth = np.random.default_rng(seed).random(plane.shape) < seed % 11 / 10
    got = dice_values(lay_out(plane[None, None], order), lay_out(truth[None, None], order), min_sizes, highs)
    assert got.dtype == np.float64
    assert got.shape == (1, 1, 256, len(highs), len(min_sizes))
    assert (got[0, 0] == values_by_brute_force(plane, truth, min_sizes, highs)).all()


def flat_and_noisy(rng, shape):
    """Return the sigmoid-like plane of a trained network: almost everything at 0 or 255."""
    plane = smooth_plane(rng, shape, 8).astype(int)
    return np.clip(6 * (plane - 128) + 128 + rng.integers(-3, 4, shape), 0, 255).astype(np.uint8)


def many_peaks(rng, shape):
    """Return noise with a peak in every other row and column: so many basins that pixels are added one by one."""
    plane = rng.integers(0, 100, shape, np.uint8)
    plane[::2, ::2] = rng.integers(100, 256, plane[::2, ::2].shape, np.uint8)
    assert plane[::2, ::2].size > MOST_BASINS
    return plane


@settings(patient, max_examples=10)
@given(sizes, bytes_in_order, st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_planes_of_many_peaks_by_brute_force(min_sizes, highs, seed, step):
    rng = np.random.default_rng(seed)
    plane = many_peaks(rng, (91, 97)) // step * step  # the larger the step, the more ties
    truth = rng.random(plane.shape) < seed % 11 / 10
    got = dice_values(plane[None, None], truth[None, None], min_sizes, highs)[0, 0]
    assert (got == values_by_brute_force(plane, truth, min_sizes, highs)).all()


@pytest.mark.parametrize("kind", ["smooth", "noisy", "flat", "white", "checkerboard", "dots"])
@pytest.mark.parametrize("shape", [(100, 150), (129, 64), (64, 129)])
def test_larger_planes(kind, shape):
    rng = np.random.default_rng(shape[0])
    plane = {
        "smooth": lambda: smooth_plane(rng, shape, 6),
        "noisy": lambda: smooth_plane(rng, shape, 6, 0.1),
        "flat": lambda: flat_and_noisy(rng, shape),
        "white": lambda: rng.integers(0, 256, shape, np.uint8),
        "checkerboard": lambda: (np.indices(shape).sum(0) % 2 * 200 + 3).astype(np.uint8),
        "dots": lambda: many_peaks(rng, shape),
    }[kind]()
    truth = smooth_plane(rng, shape, 6) > 140
    min_sizes = [0, 1, 1, 2, 5, 30, 300, 2000, 10**9]
    got = dice_surface(plane[None, None], truth[None, None], min_sizes)[0]
    for v in rng.choice(256, 40, replace=False):
        row = [dice(large_components_by_opencv(plane >= v, size), truth) for size in min_sizes]
        assert got[v].tolist() == row, v
    highs = [0, 100, 180, 180, 230, 254]
    values = dice_values(plane[None, None], truth[None, None], min_sizes, highs)[0, 0]
    assert (values[:, 0] == got).all()
    for v in rng.choice(256, 12, replace=False):
        rows = [
            [dice(seeded_components(plane >= v, plane >= high, size), truth) for size in min_sizes] for high in highs
        ]
        assert values[v].tolist() == rows, v


@pytest.mark.parametrize("shape", [(350, 525), (700, 1050)])
def test_a_large_white_noise_plane(shape):
    rng = np.random.default_rng(1)
    plane = rng.integers(0, 256, shape, np.uint8)
    truth = rng.random(shape) < 0.3
    got = dice_surface(plane[None, None], truth[None, None], [0, 3, 100])[0]
    for v in (0, 1, 90, 128, 200, 255):
        row = [dice(large_components_by_opencv(plane >= v, size), truth) for size in (0, 3, 100)]
        assert got[v].tolist() == row


@pytest.mark.parametrize("kind", ["basins", "pixels"])
def test_values_are_those_of_cuts(kind):
    rng = np.random.default_rng(9)
    shape = (2, 2, 110, 130)
    dots = np.stack([[many_peaks(rng, shape[2:]) for _ in range(2)] for _ in range(2)])
    smooth = np.stack([[smooth_plane(rng, shape[2:], 5) for _ in range(2)] for _ in range(2)])
    probabilities = dots if kind == "pixels" else smooth
    truth = smooth >= 150
    highs, min_sizes = [0, 60, 200, 250], [0, 4, 400]
    values = dice_values(probabilities, truth, min_sizes, highs)
    for v, j, k in np.ndindex(8, 4, 3):
        cut = Cut(36 * v, min_sizes[k], highs[j])
        for n, c in np.ndindex(2, 2):
            assert values[n, c, 36 * v, j, k] == dice(cut.mask(probabilities[n, c]), truth[n, c])


@pytest.mark.parametrize("value", [0, 1, 200, 255])
def test_a_flat_plane_has_its_value_for_a_peak(value):
    plane = np.full((1, 1, 5, 6), value, np.uint8)
    got = dice_values(plane, plane >= 0, [0, 30, 31], [0, 1, 200, 255])[0, 0]
    for v, (j, high) in itertools.product(range(256), enumerate((0, 1, 200, 255))):
        stays = v <= value and high <= value
        assert got[v, j].tolist() == [stays, stays, False]


def test_what_segment_and_scoring_would_give():
    rng = np.random.default_rng(7)
    shape = (5, 2, 60, 80)
    probabilities = np.stack([[smooth_plane(rng, shape[2:], 4, 0.1) for _ in range(2)] for _ in range(5)])
    truth = rng.random(shape) < 0.5
    truth[1, 1] = False
    surface = dice_surface(probabilities, truth, [10, 200])
    for v in (0, 1, 100, 255):
        for k, min_size in enumerate((10, 200)):
            texts = segment(probabilities, v / 255, min_size)
            scores = [dice(decode_rle(t, shape[2:]), g) for t, g in zip(texts, truth.reshape(10, 60, 80), strict=True)]
            assert np.allclose(surface[:, v, k], np.reshape(scores, (5, 2)).mean(0), rtol=1e-14)


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("order", ORDERS)
def test_groups_and_threads(threads, order):
    rng = np.random.default_rng(3)
    probabilities = np.stack([[smooth_plane(rng, (40, 50), 3, 0.1) for _ in range(2)] for _ in range(11)])
    truth = (rng.random(probabilities.shape) < 0.4).astype(np.uint8) * rng.integers(1, 256, dtype=np.uint8)
    groups = np.array([0, 1, 3, 3, 1, 0, 0, 3, 1, 1, 0])
    sums, counts = dice_sums(probabilities, truth, [0, 4, 50], groups)
    assert sums.shape == (4, 2, 256, 3)
    assert counts.tolist() == [4, 4, 0, 3]
    assert (sums[2] == 0).all()
    for group in (0, 1, 3):
        mean = dice_surface(probabilities[groups == group], truth[groups == group], [0, 4, 50])
        assert (sums[group] / counts[group] == mean).all()
    values = dice_values(probabilities, truth, [0, 4, 50])
    peaks = dice_values(lay_out(probabilities, order), lay_out(truth, order), [0, 4, 50], [0, 255], threads=threads)
    assert (peaks[:, :, :, 0] == values).all()
    for group in (0, 1, 3):
        added = np.zeros_like(sums[group])
        for image in np.flatnonzero(groups == group):
            added += values[image]
        assert (added == sums[group]).all()
    again, _ = dice_sums(lay_out(probabilities, order), lay_out(truth, order), [0, 4, 50], groups, threads=threads)
    assert (again == sums).all()


def test_both_empty_is_one():
    nothing = np.zeros((1, 1, 5, 5), np.uint8)
    got = dice_surface(nothing, nothing, [0, 26])[0]
    assert (got[1:] == 1).all()
    assert got[0].tolist() == [0, 1]


def test_no_images():
    none = np.zeros((0, 2, 5, 6), np.uint8)
    surface = dice_surface(none, none, [1, 2, 3])
    assert surface.shape == (2, 256, 3)
    assert np.isnan(surface).all()
    sums, counts = dice_sums(none, none, [1, 2, 3], [])
    assert sums.shape == (0, 2, 256, 3)
    assert counts.shape == (0,)
    assert dice_values(none, none, [1, 2, 3]).shape == (0, 2, 256, 3)
    assert dice_values(none, none, [1, 2, 3], [128]).shape == (0, 2, 256, 1, 3)


@pytest.mark.parametrize("shape", [(1, 1, 0, 3), (1, 1, 3, 0), (1, 0, 3, 3)])
def test_no_pixels(shape):
    none = np.zeros(shape, np.uint8)
    assert (dice_surface(none, none, [0, 1]) == 1).all()
    assert (dice_values(none, none, [0, 1], [0, 200]) == 1).all()


P = np.zeros((2, 3, 4, 5), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((P.astype(float), P, [0], [0, 0]), TypeError, "probabilities.*float64"),
        ((P, P.astype(int), [0], [0, 0]), TypeError, "truth.*int64"),
        ((P, P[:1], [0], [0, 0]), ValueError, r"truth.*\(2, 3, 4, 5\).*\(1, 3, 4, 5\)"),
        ((P[0], P[0], [0], [0, 0]), ValueError, "4 dimensions"),
        ((P, P, [2, 1], [0, 0]), ValueError, "ascending"),
        ((P, P, [-1, 1], [0, 0]), ValueError, "-1"),
        ((P, P, [0.5], [0, 0]), TypeError, "0.5"),
        ((P, P, [0], [0]), ValueError, "groups.*expected 2"),
        ((P, P, [0], [0, -1]), ValueError, "groups.*-1"),
    ],
)
def test_wrong_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        dice_sums(*arguments)
    with pytest.raises((TypeError, ValueError), match="threads"):
        dice_surface(P, P, [0], threads=-1)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((P, P[:1], [0]), ValueError, r"truth.*\(2, 3, 4, 5\).*\(1, 3, 4, 5\)"),
        ((P, P, [2, 1]), ValueError, r"min_sizes: expected ascending numbers, got \[2, 1\]"),
        ((P, P, [0], [2, 1]), ValueError, r"highs: expected ascending numbers, got \[2, 1\]"),
        ((P, P, [0], [2, 256]), ValueError, "highs: expected whole numbers in 0..255, got 256"),
        ((P, P, [0], [-1]), ValueError, "highs: expected at least 0, got -1"),
        ((P, P, [0], [0.5]), TypeError, "highs: expected a whole number, got 0.5"),
        ((P, P, [0], None, 0), ValueError, "threads.*0"),
    ],
)
def test_wrong_arguments_of_values(arguments, error, match):
    with pytest.raises(error, match=match):
        dice_values(*arguments)
