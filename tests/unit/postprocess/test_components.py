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
)

from cloudseg.postprocess import component_areas, remove_small_components


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


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (63, 70), (64, 64), (65, 63), (128, 129)])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_hard_patterns(name, shape, connectivity):
    for flipped in (np.s_[:, :], np.s_[::-1, :], np.s_[:, ::-1]):
        mask = pattern(name, *shape)[flipped]
        for min_size in (2, int(mask.sum()), int(mask.sum()) + 1):
            kept = remove_small_components(mask, min_size, connectivity)
            assert (kept == large_components(mask, min_size, connectivity)).all()


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
