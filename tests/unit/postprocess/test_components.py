import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import (
    ORDERS,
    PATTERNS,
    large_components,
    large_components_by_opencv,
    lay_out,
    patient,
    pattern,
    planes,
    seeded_components,
)
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold

from cloudseg.postprocess import component_areas, fill_holes, keep_seeded_components, remove_small_components


@patient
@given(planes(), st.integers(0, 255), st.integers(0, 60), st.sampled_from((4, 8)), st.sampled_from(ORDERS))
def test_components_are_those_of_scipy_and_opencv(plane, level, min_size, connectivity, order):
    mask = np.where(plane >= level, np.maximum(plane, 1), 0).astype(np.uint8)
    kept = remove_small_components(lay_out(mask, order), min_size, connectivity)
    assert kept.dtype == np.uint8
    assert kept.shape == mask.shape
    assert (kept == large_components(mask, min_size, connectivity)).all()
    assert (kept == large_components_by_opencv(mask, min_size, connectivity)).all()


@patient
@given(planes(), st.integers(0, 255), st.sampled_from((4, 8)), st.sampled_from(ORDERS))
def test_areas_are_those_of_opencv(plane, level, connectivity, order):
    mask = (plane >= level).astype(np.uint8)
    statistics = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)[2]
    areas = component_areas(lay_out(mask, order), connectivity)
    assert sorted(areas) == sorted(statistics[1:, cv2.CC_STAT_AREA])


@patient
@given(
    planes(), st.integers(0, 255), st.floats(0, 1), st.integers(0, 60), st.sampled_from((4, 8)), st.randoms(),
    st.sampled_from(ORDERS), st.sampled_from(ORDERS),
)  # fmt: skip
def test_components_with_seeds_are_those_of_scipy(
    plane, level, share, min_size, connectivity, random, order, seeds_order
):
    mask = np.where(plane >= level, np.maximum(plane, 1), 0).astype(np.uint8)
    rng = np.random.default_rng(random.getrandbits(32))
    seeds = (rng.random(plane.shape) < share**4) * rng.integers(1, 256, plane.shape)
    seeds = seeds.astype(np.uint8)  # inside the mask and outside of it
    kept = keep_seeded_components(lay_out(mask, order), lay_out(seeds, seeds_order), min_size, connectivity)
    assert kept.dtype == np.uint8
    assert (kept == seeded_components(mask, seeds, min_size, connectivity)).all()


@patient
@given(planes(), st.integers(0, 255), st.integers(0, 255), st.sampled_from(ORDERS))
def test_seeds_above_a_high_level_are_a_threshold_with_hysteresis(plane, low, high, order):
    low, high = sorted((low, high))
    plane = lay_out(plane, order)
    kept = keep_seeded_components(plane >= low, plane >= high, connectivity=4)
    # scikit-image takes what is above a level, and joins pixels through their sides
    assert (kept == apply_hysteresis_threshold(plane, low - 0.5, high - 0.5)).all()


@patient
@given(planes(), st.integers(0, 255), st.sampled_from(ORDERS))
def test_filled_holes_are_those_of_scipy(plane, level, order):
    mask = np.where(plane >= level, np.maximum(plane, 1), 0).astype(np.uint8)
    filled = fill_holes(lay_out(mask, order))
    assert filled.dtype == np.uint8
    assert (filled == ndimage.binary_fill_holes(mask)).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("value", [0, 1])
def test_planes_without_an_inside_have_no_holes(shape, value):
    mask = np.full(shape, value, np.uint8)
    assert (fill_holes(mask) == mask).all()
    assert (keep_seeded_components(mask, mask) == mask).all()


def test_a_hole_is_closed_by_corners_and_left_open_by_sides():
    diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)
    assert fill_holes(diamond).sum() == 5
    diamond[0, 1] = 0
    assert fill_holes(diamond).sum() == 3


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (63, 70), (64, 64), (65, 63), (128, 129)])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_hard_patterns(name, shape, connectivity):
    for flipped in (np.s_[:, :], np.s_[::-1, :], np.s_[:, ::-1]):
        mask = pattern(name, *shape)[flipped]
        for min_size in (2, int(mask.sum()), int(mask.sum()) + 1):
            kept = remove_small_components(mask, min_size, connectivity)
            assert (kept == large_components(mask, min_size, connectivity)).all()
            for seeds in (mask & (np.arange(mask.size).reshape(mask.shape) % 37 == 0), mask ^ 1):
                kept = keep_seeded_components(mask, seeds, min_size, connectivity)
                assert (kept == seeded_components(mask, seeds, min_size, connectivity)).all()
        assert (fill_holes(mask) == ndimage.binary_fill_holes(mask)).all()


def test_components_that_meet_late():
    """Many chains that are joined only in the last column: every one must learn its root."""
    for depth in range(2, 9):
        side = 2**depth
        mask = np.zeros((2 * side, side + 2), np.uint8)
        for tooth in range(side):
            mask[2 * tooth, : side - (tooth & -tooth) % side] = 1
        mask[::2, side:] = 1
        mask[:, side + 1] = 1
        for min_size in (1, side, int(mask.sum())):
            assert (remove_small_components(mask, min_size) == large_components(mask, min_size)).all()


def test_default_is_8_neighbours():
    assert remove_small_components(np.eye(3, dtype=np.uint8), 3).sum() == 3
    assert remove_small_components(np.eye(3, dtype=np.uint8), 3, connectivity=4).sum() == 0


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((np.zeros((2, 2), np.int32), 1), TypeError, "int32"),
        ((np.zeros(2, bool), 1), ValueError, r"\(2,\)"),
        ((np.zeros((2, 2), bool), -1), ValueError, "-1"),
        ((np.zeros((2, 2), bool), 1.5), TypeError, "1.5"),
        ((np.zeros((2, 2), bool), 1, 6), ValueError, "4 or 8"),
    ],
)
def test_wrong_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        remove_small_components(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((np.zeros((2, 2), np.int32), np.zeros((2, 2), bool)), TypeError, "mask.*int32"),
        ((np.zeros((2, 2), bool), np.zeros((2, 2))), TypeError, "seeds.*float64"),
        ((np.zeros((2, 2), bool), np.zeros((2, 3), bool)), ValueError, r"seeds.*\(2, 2\) of the mask, got \(2, 3\)"),
        ((np.zeros((2, 2), bool), np.zeros((2, 2), bool), -1), ValueError, "min_size.*-1"),
        ((np.zeros((2, 2), bool), np.zeros((2, 2), bool), 0, 6), ValueError, "4 or 8"),
    ],
)
def test_wrong_seeds(arguments, error, match):
    with pytest.raises(error, match=match):
        keep_seeded_components(*arguments)


def test_holes_are_of_a_mask():
    with pytest.raises(TypeError, match=r"mask.*float64"):
        fill_holes(np.zeros((2, 2)))
