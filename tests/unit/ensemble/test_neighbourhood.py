"""The middle of the best neighbourhood, against sums over boxes by SciPy."""

import numpy as np
import pytest
from decision_oracles import first_best, neighbourhood_means
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cloudseg.ensemble.neighbourhood import best_neighbourhood, box_mean


@given(
    arrays.arrays(
        float, arrays.array_shapes(min_dims=1, max_dims=4, max_side=6), elements=st.sampled_from([0, 0.3, 0.7, 1])
    ),
    st.integers(0, 3),
)
def test_the_best_neighbourhood_is_that_of_sums_over_boxes(values, reach):
    reaches = [reach] * values.ndim
    expected = neighbourhood_means(values, reaches)
    place, mean = best_neighbourhood(values, reaches)
    assert (place, mean) == (first_best(expected)[0], pytest.approx(expected.max(), abs=1e-12))


def test_a_place_that_is_not_allowed_counts_as_a_neighbour_and_is_not_chosen():
    values = np.array([0, 0.2, 0.9, 0, 0])
    assert best_neighbourhood(values, [1], np.array([True, False, False, True, True])) == ((3,), 0.3)


def test_places_that_score_the_same_but_for_the_last_bits_are_equal():
    values = np.array([0.1 + 0.2, 0.3, 0.3])
    assert values[0] > values[1]
    assert best_neighbourhood(values[::-1], [0])[0] == (0,)


def test_a_mean_along_an_axis_leaves_the_values_as_they_are():
    values = np.arange(12.0).reshape(3, 4)
    assert (box_mean(values, 1, axis=1)[0] == [0.5, 1, 2, 2.5]).all()
    assert (values == np.arange(12).reshape(3, 4)).all()
