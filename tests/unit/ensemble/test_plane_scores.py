"""Scores of planes against sorted pixels and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.workflow.decision_rule import rank_of

planes = st.lists(st.integers(0, 255), min_size=1, max_size=40).map(lambda pixels: np.array(pixels, np.uint8))
quick = settings(max_examples=150, deadline=None)


def histogram_of(plane):
    return np.bincount(plane, minlength=256)


def score_by_sorting(score, plane):
    """The score of a plane as a fraction, from its sorted pixels."""
    falling = sorted(map(int, plane), reverse=True)
    if score.kind == "top":
        return Fraction(sum(falling[: score.number]), 255 * score.number)
    if score.kind == "rank":
        return Fraction(falling[score.number - 1], 255)
    return Fraction(sum(pixel >= score.number for pixel in falling), len(falling))


@st.composite
def scored(draw):
    plane = draw(planes)
    kind = draw(st.sampled_from(["top", "rank", "area"]))
    number = draw(st.integers(0, 255) if kind == "area" else st.integers(1, len(plane)))
    return PlaneScore(kind, number), plane


@quick
@given(scored())
def test_a_score_is_that_of_the_sorted_pixels(drawn):
    score, plane = drawn
    numerator = int(score.numerators(histogram_of(plane)))
    assert Fraction(numerator, score.scale(len(plane))) == score_by_sorting(score, plane)


@quick
@given(scored(), st.integers(0, 255), st.fractions(0, 5, max_denominator=9))
def test_classifiers_weigh_beside_the_plane_as_heads_do(drawn, value, weight):
    score, plane = drawn
    with_heads = PlaneScore(score.kind, score.number, weight)
    numerator = int(with_heads.numerators(histogram_of(plane), np.uint8(value)))
    wanted = (weight * Fraction(value, 255) + score_by_sorting(score, plane)) / (weight + 1)
    assert Fraction(numerator, with_heads.scale(len(plane))) == wanted


@quick
@given(scored(), st.integers(0, 1000))
def test_a_numerator_reaches_a_threshold_just_when_the_score_does(drawn, thousandths):
    score, plane = drawn
    reached = int(score.numerators(histogram_of(plane))) >= score.at_least(thousandths / 1000, len(plane))
    assert reached == (score_by_sorting(score, plane) >= Fraction(thousandths, 1000))


@pytest.mark.parametrize("score", [PlaneScore("top", 3), PlaneScore("rank", 2), PlaneScore("area", 9, Fraction(3, 2))])
def test_scores_of_many_planes_are_those_of_each_and_a_score_reads_back(score):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 50), np.uint8)
    histograms = np.stack([[histogram_of(plane) for plane in image] for image in pixels])
    values = np.arange(12, dtype=np.uint8).reshape(4, 3)
    together = score.numerators(histograms, values)
    assert together.shape == (4, 3)
    assert int(together[2, 1]) == int(score.numerators(histograms[2, 1], values[2, 1]))
    assert PlaneScore.read(score.plain()) == score


def test_numbers_of_the_contests_planes_are_whole_and_far_from_overflow():
    score = PlaneScore("area", 128, Fraction(999_999_999, 1_000_000_000))
    pixels = 1400 * 2100
    histogram = np.zeros(256, int)
    histogram[255] = pixels
    assert int(score.numerators(histogram, np.uint8(255))) == score.scale(pixels) < 2**63


@pytest.mark.parametrize(("kind", "number"), [("top", 0), ("rank", 0), ("area", 256), ("area", -1)])
def test_a_number_that_a_score_cannot_have_is_refused(kind, number):
    with pytest.raises(ValueError, match=f"{kind}: expected a whole number from"):
        PlaneScore(kind, number)


def test_classifiers_that_weigh_and_are_not_there_are_missed():
    with pytest.raises(ValueError, match="expected those of the classifiers"):
        PlaneScore("rank", 1, Fraction(1)).numerators(np.ones(256, int))


@quick
@given(planes, st.sampled_from([0, 0.5, 5, 37.5, 50, 95, 99.9, 100]))
def test_a_percentile_is_that_of_numpy(plane, percentile):
    rank = rank_of(percentile, len(plane))
    wanted = np.percentile(plane, percentile, method="inverted_cdf")
    assert math.isclose(int(PlaneScore("rank", rank).numerators(histogram_of(plane))), wanted)
