import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import ORDERS, lay_out, patient, planes, smooth_plane

from cloudseg.postprocess import plane_histograms


@patient
@given(planes(), st.sampled_from(ORDERS))
def test_a_histogram_is_what_numpy_counts(plane, order):
    got = plane_histograms(lay_out(plane[None, None], order))
    assert got.dtype == np.int64
    assert got.tolist() == [[np.bincount(plane.ravel(), minlength=256).tolist()]]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_every_plane_has_its_own_histogram(order, threads):
    rng = np.random.default_rng(2)
    stack = np.stack([[smooth_plane(rng, (71, 93), 3, 0.2) for _ in range(3)] for _ in range(17)])
    got = plane_histograms(lay_out(stack, order), threads)
    expected = [[np.bincount(plane.ravel(), minlength=256) for plane in image] for image in stack]
    assert (got == expected).all()


def test_a_large_flat_plane_fills_one_counter():
    plane = np.broadcast_to(np.uint8(255), (1, 1, 3000, 3001))
    assert plane_histograms(plane)[0, 0].tolist() == [0] * 255 + [3000 * 3001]


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (2, 0, 5, 6), (2, 3, 0, 6), (2, 3, 6, 0)])
def test_without_pixels_all_counts_are_zero(shape):
    got = plane_histograms(np.zeros(shape, np.uint8))
    assert got.shape == (*shape[:2], 256)
    assert not got.any()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((np.zeros((1, 1, 2, 2)),), TypeError, "planes.*uint8.*float64"),
        ((np.zeros((2, 2), np.uint8),), ValueError, r"planes.*4 dimensions.*\(2, 2\)"),
        ((np.zeros((1, 1, 2, 2), np.uint8), 0), ValueError, "threads.*0"),
    ],
)
def test_wrong_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        plane_histograms(*arguments)
