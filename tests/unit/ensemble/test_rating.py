"""Levels by rate, against counting masks."""

from fractions import Fraction

import numpy as np
import pytest
from decision_oracles import blocks_of, make_images, plain_rule
from hypothesis import given
from hypothesis import strategies as st

from cloudseg.ensemble.choosing import choices
from cloudseg.ensemble.masking import ImageRule, PlaneRule, Presence
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.ensemble.rating import nearest_level, rate
from cloudseg.postprocess import Cut

FOLD_OF = [0, 0, 0, 0, 2, 2, 2, 5, 5, 5]
FOLDS = [0, 2, 5]


def shares(rule, planes, number, share):
    """Return the share that is in at each level, by the masks themselves, or by the pixels of planes that count."""
    held = list(rule.classes.values())[number]
    counts = np.ones(len(planes), bool)
    if held.presence:
        top = np.sort(planes[:, number].reshape(len(planes), -1).astype(int), axis=1)[:, -held.presence.score.number :]
        counts = top.sum(axis=1) >= held.presence.at_least
    if share == "pixels":
        return [Fraction(int((planes[counts, number] >= level).sum()), planes[:, number].size) for level in range(256)]
    cuts = [Cut(level, held.cut.min_size, held.cut.high) for level in range(256)]
    masks = [[cut.mask(plane).any() for plane in planes[counts, number]] for cut in cuts]
    return [Fraction(int(sum(each)), len(planes)) for each in masks]


RULES = [
    plain_rule(2),
    ImageRule(
        {
            "class 0": PlaneRule(Cut(100, 6), Presence(PlaneScore("top", 5), 5 * 140)),
            "class 1": PlaneRule(Cut(100, 9, high=160), Presence(PlaneScore("top", 3), 3 * 150)),
        }
    ),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("share", ["images", "pixels"])
@pytest.mark.parametrize("rates", [None, {"class 0": 0.3, "class 1": 0.7}, {"class 0": 0, "class 1": 1}])
def test_the_share_at_a_level_is_the_nearest_to_the_rate_with_and_without_each_fold(rule, share, rates):
    planes, truth = make_images(1, len(FOLD_OF), classes=2)
    chosen = rate(blocks_of(planes, truth, FOLD_OF), rule, FOLDS, rates=rates, share=share, threads=2)
    everything, *others = choices(FOLDS)
    assert list(chosen.nested) == FOLDS
    for found, rows in [(chosen.rule, everything), *zip(chosen.nested.values(), others, strict=True)]:
        images = np.isin(FOLD_OF, [FOLDS[row] for row in rows])
        for number, name in enumerate(rule.classes):
            true = truth[images, number] if share == "pixels" else truth[images, number].any(axis=(1, 2))
            wanted = Fraction(int(true.sum()), true.size) if rates is None else Fraction(str(rates[name]))
            apart = [abs(each - wanted) for each in shares(rule, planes[images], number, share)]
            level = max(level for level in range(256) if apart[level] == min(apart))
            held = rule.classes[name]
            assert found.classes[name] == PlaneRule(Cut(level, held.cut.min_size, held.cut.high), held.presence)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.fractions(0, 1, max_denominator=20))
def test_of_levels_that_are_equally_near_the_highest_is_taken(inside, wanted):
    apart = [abs(Fraction(count, 9) - wanted) for count in inside]
    level = nearest_level(inside, 9, wanted)
    assert apart[level] == min(apart)
    assert min(apart) not in apart[level + 1 :]


def test_a_rate_is_the_decimal_number_that_was_written():
    planes = np.repeat(np.arange(10, dtype=np.uint8) * 20, 9).reshape(10, 1, 3, 3)
    blocks = blocks_of(planes, planes * 0, [0] * 10)
    # 0.15 is as far from 0.1 as from 0.2; the nearest binary number is below it
    assert rate(blocks, plain_rule(1), [0], rates={"class 0": 0.15}).rule.classes["class 0"].cut.level == 180


def test_one_fold_has_nothing_nested_and_no_images_choose_nothing():
    planes, truth = make_images(1, 1, classes=1)
    assert rate(blocks_of(planes, truth, [3]), plain_rule(1), [3]).nested == {}
    with pytest.raises(ValueError, match="blocks: expected images to choose on, got none"):
        rate(lambda: iter([]), plain_rule(1), [0])
