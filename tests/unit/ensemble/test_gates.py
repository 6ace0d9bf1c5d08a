"""The gates that a search tries."""

from fractions import Fraction

import numpy as np
import pytest
from decision_oracles import make_images
from hypothesis import given
from hypothesis import strategies as st

from cloudseg.ensemble.gates import PresenceGates, TopGates, ascending, thresholds
from cloudseg.ensemble.masking import Evidence, ImageRule, PlaneRule
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.postprocess import NOTHING, Cut

scores = st.builds(
    PlaneScore,
    st.sampled_from(["top", "rank", "area"]),
    st.integers(1, 255),
    st.sampled_from([Fraction(0), Fraction(1), Fraction(5, 2)]),
)


@given(scores, st.integers(1, 10**6))
def test_thresholds_are_the_numerators_that_reach_a_grid_of_scores(score, pixels):
    grid = [Fraction(step, 255) ** (2 if score.kind == "area" else 1) for step in range(256)]
    numerators, scale = thresholds(score, pixels).tolist(), score.scale(pixels)
    for numerator, least in zip(numerators, grid, strict=True):
        assert Fraction(numerator - 1, scale) < least <= Fraction(numerator, scale)


@pytest.mark.parametrize("score", [PlaneScore("top", 5), PlaneScore("rank", 3), PlaneScore("area", 90)])
@pytest.mark.parametrize("best", ["never", "always"])
def test_a_plane_passes_the_gates_whose_rules_give_it_a_level(score, best):
    planes, _ = make_images(1, images=8, classes=3)
    evidence = Evidence.of(planes)
    gates = PresenceGates(score, best)
    passed = gates.last_passed(planes, evidence)[..., 0]
    for gate in (0, 1, 40, 100, 128, 200, 255):
        rules = {str(number): gates.rule(PlaneRule(Cut(9, 0)), 0, gate, evidence.pixels) for number in range(3)}
        levels = ImageRule(rules, best).levels(evidence)
        assert ((passed >= gate) == (levels != NOTHING)).all()


def test_a_plane_passes_the_areas_that_its_pixels_of_each_top_level_have():
    planes, _ = make_images(2, images=8, classes=2)
    gates = TopGates((50, 120, 200), (0, 1, 5, 20))
    passed = gates.last_passed(planes, Evidence.of(planes))
    for family, top in enumerate(gates.top_levels):
        pixels = (planes >= top).sum(axis=(2, 3))
        for gate, area in enumerate(gates.areas):
            assert ((passed[..., family] >= gate) == (pixels >= area)).all()


def test_no_area_is_no_top_level():
    gates = TopGates((50, 120), (0, 10))
    assert gates.rule(PlaneRule(Cut(9, 3)), 1, 0, 99).cut == Cut(9, 3)
    assert gates.rule(PlaneRule(Cut(9, 3)), 1, 1, 99).cut == Cut(9, 3, top_level=120, top_area=10)
    allowed = gates.allowed()
    assert allowed[:, 0].all()
    assert np.flatnonzero(~allowed[0, 1]).tolist() == list(range(51, 256))


def test_numbers_that_do_not_ascend_are_refused():
    with pytest.raises(ValueError, match=r"areas: expected ascending numbers, got \[3, 3\]"):
        ascending("areas", [3, 3])
