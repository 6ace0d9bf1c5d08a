import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import (
    ORDERS,
    dice,
    large_components,
    large_components_by_opencv,
    lay_out,
    patient,
    planes,
    smooth_plane,
)

from cloudseg.postprocess import decode_rle, dice_sums, dice_surface, segment


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


def flat_and_noisy(rng, shape):
    """Return the sigmoid-like plane of a trained network: almost everything at 0 or 255."""
    plane = smooth_plane(rng, shape, 8).astype(int)
    return np.clip(6 * (plane - 128) + 128 + rng.integers(-3, 4, shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["smooth", "noisy", "flat", "white", "checkerboard"])
@pytest.mark.parametrize("shape", [(100, 150), (129, 64), (64, 129)])
def test_larger_planes(kind, shape):
    rng = np.random.default_rng(shape[0])
    plane = {
        "smooth": lambda: smooth_plane(rng, shape, 6),
        "noisy": lambda: smooth_plane(rng, shape, 6, 0.1),
        "flat": lambda: flat_and_noisy(rng, shape),
        "white": lambda: rng.integers(0, 256, shape, np.uint8),
        "checkerboard": lambda: (np.indices(shape).sum(0) % 2 * 200 + 3).astype(np.uint8),
    }[kind]()
    truth = smooth_plane(rng, shape, 6) > 140
    min_sizes = [0, 1, 1, 2, 5, 30, 300, 2000, 10**9]
    got = dice_surface(plane[None, None], truth[None, None], min_sizes)[0]
    for v in rng.choice(256, 40, replace=False):
        row = [dice(large_components_by_opencv(plane >= v, size), truth) for size in min_sizes]
        assert got[v].tolist() == row, v


@pytest.mark.parametrize("shape", [(350, 525), (700, 1050)])
def test_a_large_white_noise_plane(shape):
    rng = np.random.default_rng(1)
    plane = rng.integers(0, 256, shape, np.uint8)
    truth = rng.random(shape) < 0.3
    got = dice_surface(plane[None, None], truth[None, None], [0, 3, 100])[0]
    for v in (0, 1, 90, 128, 200, 255):
        row = [dice(large_components_by_opencv(plane >= v, size), truth) for size in (0, 3, 100)]
        assert got[v].tolist() == row


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


@pytest.mark.parametrize("shape", [(1, 1, 0, 3), (1, 1, 3, 0), (1, 0, 3, 3)])
def test_no_pixels(shape):
    none = np.zeros(shape, np.uint8)
    assert (dice_surface(none, none, [0, 1]) == 1).all()


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
