"""Masks by the Dice to be expected of them."""

from itertools import pairwise

import numpy as np
import pytest
from decision_oracles import blocks_of, dice_of_plane, make_images, plain_rule, score_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudseg.ensemble.expecting import best_levels, expect, steps
from cloudseg.ensemble.masking import Evidence, ImageRule
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.postprocess import NOTHING, Cut

SCORE = PlaneScore("top", 5)
FOLD_OF = [0, 0, 0, 0, 2, 2, 2, 5, 5, 5]


def seen(bins, has, dice):
    """Return what `best_levels` takes, of planes one by one."""
    planes, sums = np.zeros((256, 2), int), np.zeros((256, 256))
    np.add.at(planes, (bins, has.astype(int)), 1)
    np.add.at(sums, bins[has], dice[has])
    return planes, sums


def test_what_is_learnt_of_many_planes_is_nearly_what_they_were_drawn_from():
    rng = np.random.default_rng(0)
    bins = rng.integers(0, 256, 20_000)
    presence = 1 / (1 + np.exp((130 - np.arange(256)) / 20))
    has = rng.random(len(bins)) < presence[bins]
    level_of = 60 + np.arange(256) / 2  # the best level rises with x
    dice = 0.8 - ((np.arange(256) - level_of[bins][:, None]) / 200) ** 2 + 0.1 * rng.standard_normal((len(bins), 1))
    levels = best_levels(*seen(bins, has, dice))
    expected = presence * 0.8 > 1 - presence
    assert np.count_nonzero((levels != NOTHING) != expected) <= 3
    assert abs(levels - level_of)[levels != NOTHING].max() < 6


def test_a_mask_is_expected_to_win_more_than_none():
    bins, has = np.full(1000, 90), np.arange(1000) < 600
    for dice, wins in ((0.6, False), (0.7, True)):  # 0.6 * 0.6 < 0.4 < 0.6 * 0.7
        levels = best_levels(*seen(bins, has, np.full((1000, 256), dice)))
        assert (levels[90] != NOTHING) == wins


def test_no_planes_with_the_class_have_no_mask_and_no_planes_without_it_have_all():
    bins, dice = np.array([10, 200, 200]), np.tile(np.arange(256) / 300, (3, 1))
    assert (best_levels(*seen(bins, np.zeros(3, bool), dice)) == NOTHING).all()
    assert (best_levels(*seen(bins, np.ones(3, bool), dice)) > 240).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=1, max_size=12))
def test_a_few_planes_or_one_x_are_enough(drawn):
    bins, has = (np.array(each) for each in zip(*drawn, strict=True))
    levels = best_levels(*seen(bins, has, np.full((len(bins), 256), 0.9)))
    assert levels.shape == (256,)
    assert ((levels >= 0) & (levels <= NOTHING)).all()


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([256, 90, 120])), min_size=1, max_size=20),
    st.lists(st.integers(0, 40), max_size=9),
)
def test_steps_give_each_numerator_the_level_of_its_bin(drawn, numerators):
    at_least = np.array(sorted([0, *(least for least, _ in drawn)]))
    levels = np.array([256, *(level for _, level in drawn)])
    found = steps(at_least, levels)
    reached = [least for least, _ in found]
    assert reached == sorted(set(reached))
    assert all(first != second for (_, first), (_, second) in pairwise(found))
    for numerator in numerators:
        step = [level for least, level in found if least <= numerator]
        assert (step[-1] if step else NOTHING) == levels[np.searchsorted(at_least, numerator, side="right") - 1]


def test_levels_of_planes_are_those_of_their_bins_with_and_without_each_fold():
    planes, truth = make_images(2, len(FOLD_OF), classes=2)
    rule = plain_rule(2, high=120)
    chosen = expect(blocks_of(planes, truth, FOLD_OF), rule, SCORE, [0, 2, 5], threads=2)
    assert list(chosen.nested) == [0, 2, 5]
    numerators = score_by_hand(SCORE, planes)
    bins = numerators // SCORE.number  # 256 thresholds of a mean byte
    for found, left_out in [(chosen.rule, None), *((rule, fold) for fold, rule in chosen.nested.items())]:
        images = np.array([fold != left_out for fold in FOLD_OF])
        levels = found.levels(Evidence.of(planes))
        for number in range(2):
            has = truth[images, number].any(axis=(1, 2))
            dice = [
                dice_of_plane(plane, true, [0], [120])[:, 0, 0]
                for plane, true in zip(planes[images, number], truth[images, number], strict=True)
            ]
            expected = best_levels(*seen(bins[images, number], has, np.array(dice)))
            assert (levels[:, number] == expected[bins[:, number]]).all()
        assert found == ImageRule(found.classes)
        for each in found.classes.values():
            surest = next((level for _, level in reversed(each.steps) if level != NOTHING), 100)
            assert each.cut == Cut(surest, 0, high=120)


def test_planes_that_are_cut_to_nothing_anyway_are_not_learnt_from():
    planes, truth = make_images(2, len(FOLD_OF), classes=1)
    enough = (planes[:, 0] >= 150).sum(axis=(1, 2)) >= 25
    assert 0 < np.count_nonzero(enough) < len(enough)
    some = [fold for fold, kept in zip(FOLD_OF, enough, strict=True) if kept]
    rule = plain_rule(1, top_level=150, top_area=25)
    chosen = expect(blocks_of(planes, truth, FOLD_OF), rule, SCORE, [0, 2, 5])
    without = expect(blocks_of(planes[enough], truth[enough], some), plain_rule(1), SCORE, [0, 2, 5])
    assert chosen.rule.classes["class 0"].steps == without.rule.classes["class 0"].steps


@pytest.mark.parametrize("truth_of", [0, 1])
def test_no_class_anywhere_and_one_everywhere_make_whole_rules(truth_of):
    planes, truth = make_images(3, 3, classes=1)
    chosen = expect(blocks_of(planes, truth * 0 + truth_of, [0, 1, 1]), plain_rule(1), SCORE, [0, 1])
    for rule in (chosen.rule, *chosen.nested.values()):
        levels = rule.levels(Evidence.of(planes))
        assert (levels == (0 if truth_of else NOTHING)).all()
    with pytest.raises(ValueError, match="blocks: expected images to choose on, got none"):
        expect(lambda: iter([]), plain_rule(1), SCORE, [0])
