import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import ORDERS, cut_mask, large_components, lay_out, patient, planes

from cloudseg.postprocess import NOTHING, Cut

BYTES, AREAS = st.integers(0, 255), st.integers(0, 300)


@patient
@given(planes(), BYTES, AREAS, BYTES, BYTES, st.integers(0, 5000), st.booleans(), st.sampled_from(ORDERS))
def test_a_mask_is_what_all_conditions_leave(plane, level, min_size, high, top_level, top_area, fill_holes, order):
    cut = Cut(level, min_size, high, top_level, top_area, fill_holes)
    mask = cut.mask(lay_out(plane, order))
    assert mask.dtype == np.uint8
    assert mask.shape == plane.shape
    assert mask.flags.f_contiguous
    assert (mask == cut_mask(plane, level, min_size, high, top_level, top_area, fill_holes)).all()


@patient
@given(planes(), BYTES, AREAS, st.integers(0, 255))
def test_a_high_level_up_to_the_level_and_a_top_area_of_0_ask_for_nothing(plane, level, min_size, top_level):
    plain = Cut(level, min_size).mask(plane)
    assert (plain == large_components(plane >= level, min_size)).all()
    for high in (0, level // 2, level):
        assert (Cut(level, min_size, high, top_level).mask(plane) == plain).all()


@patient
@given(planes(), BYTES, BYTES)
def test_a_plane_is_empty_from_one_pixel_too_few_on(plane, level, top_level):
    area = int((plane >= top_level).sum())
    plain = Cut(level, 0).mask(plane)
    assert (Cut(level, 0, top_level=top_level, top_area=area).mask(plane) == plain).all()
    assert not Cut(level, 0, top_level=top_level, top_area=area + 1).mask(plane).any()


def test_no_byte_reaches_nothing():
    assert np.iinfo(np.uint8).max + 1 == NOTHING


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"high": 256}, ValueError, "high: expected a whole number in 0..255, got 256"),
        ({"high": -1}, ValueError, "high: expected at least 0, got -1"),
        ({"high": 0.7}, TypeError, "high: expected a whole number, got 0.7"),
        ({"top_level": 256}, ValueError, "top_level: expected a whole number in 0..255, got 256"),
        ({"top_level": None}, TypeError, "top_level: expected a whole number, got None"),
        ({"top_area": -1}, ValueError, "top_area: expected at least 0, got -1"),
        ({"top_area": 0.1}, TypeError, "top_area: expected a whole number, got 0.1"),
        ({"fill_holes": 1}, TypeError, "fill_holes: expected True or False, got 1"),
    ],
)
def test_wrong_settings(settings, error, match):
    with pytest.raises(error, match=match):
        Cut(128, 0, **settings)
