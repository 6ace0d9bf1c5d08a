"""Masks of images: whether before where, against plain loops over pixels."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudseg.ensemble.masking import BEST, Evidence, ImageRule, PlaneRule, Presence
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.postprocess import NOTHING, Cut, decode_rle
from cloudseg.postprocess import level as level_of

SIZE = (6, 9)
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=100, deadline=None)


@st.composite
def rules(draw, classes):
    """A rule of each class: some ask for presence, some by steps, some for nothing."""
    made = {}
    for number in range(classes):
        cut = Cut(
            draw(st.integers(0, 255)), draw(st.integers(0, 12)), draw(st.sampled_from([0, 150, 250])),
            draw(st.sampled_from([0, 100])), draw(st.sampled_from([0, 3, 30])), draw(st.booleans()),
        )  # fmt: skip
        kind = draw(st.sampled_from(["top", "rank", "area"]))
        score = PlaneScore(kind, draw(st.integers(1, 54)))
        scale = score.scale(54)
        asked = draw(st.sampled_from(["nothing", "threshold", "steps"]))
        presence = None if asked == "nothing" else Presence(score, draw(st.integers(0, scale)))
        reached = draw(st.lists(st.integers(0, scale), min_size=1, max_size=3, unique=True).map(sorted))
        steps = tuple((numerator, draw(st.sampled_from([0, 90, 200, NOTHING]))) for numerator in reached)
        made[f"c{number}"] = PlaneRule(cut, presence, steps if asked == "steps" else ())
    return ImageRule(made, draw(st.sampled_from(BEST)))


def planes_of(seed, images, classes):
    random = np.random.default_rng(seed)
    high = random.integers(1, 256, (images, classes, 1, 1))
    return (random.random((images, classes, *SIZE)) * high).astype(np.uint8)


def levels_by_loop(rule, planes):
    """The level of each plane of an image, None of one that does not count."""
    levels, scores = [], []
    for plane, each in zip(planes, rule.classes.values(), strict=True):
        if each.presence is None:
            levels.append(each.cut.level)
            scores.append(0.0)
            continue
        score = each.presence.score
        numerator = int(score.numerators(np.bincount(plane.ravel(), minlength=256)))
        scores.append(numerator / score.scale(plane.size))
        if each.steps:
            passed = [level for reached, level in each.steps if numerator >= reached]
            levels.append(passed[-1] if passed and passed[-1] != NOTHING else None)
        else:
            levels.append(each.cut.level if numerator >= each.presence.at_least else None)
    if rule.best == "always" or (rule.best == "if_empty" and all(level is None for level in levels)):
        best = scores.index(max(scores))
        levels[best] = list(rule.classes.values())[best].cut.level
    return levels


@quick
@given(rules(3), seeds)
def test_a_mask_is_the_cut_of_a_plane_that_counts_and_empty_else(rule, seed):
    for planes in planes_of(seed, 3, 3):
        masks = rule.masks(planes)
        asked = rule.asks_presence
        for mask, plane, level, each in zip(
            masks, planes, levels_by_loop(rule, planes), rule.classes.values(), strict=True
        ):
            level = level if asked else each.cut.level
            wanted = np.zeros(SIZE) if level is None else dataclasses.replace(each.cut, level=level).mask(plane)
            np.testing.assert_array_equal(mask, wanted)


@quick
@given(rules(2), seeds)
def test_texts_are_those_of_the_masks_image_by_image(rule, seed):
    planes = planes_of(seed, 5, 2)
    texts = iter(rule.texts(planes))
    for image in planes:
        for mask in rule.masks(image):
            np.testing.assert_array_equal(decode_rle(next(texts), SIZE), mask)


@quick
@given(rules(2), seeds, seeds)
def test_evidence_of_others_decides_whether_and_the_planes_decide_where(rule, seed, other):
    planes, others = planes_of(seed, 4, 2), planes_of(other, 4, 2)
    evidence = Evidence.of(others)
    texts = iter(rule.texts(planes, evidence))
    for row, image in enumerate(planes):
        levels = levels_by_loop(rule, others[row])
        for mask, level in zip(rule.masks(image, evidence.of_image(row)), levels, strict=True):
            np.testing.assert_array_equal(decode_rle(next(texts), SIZE), mask)
            assert level is not None or not mask.any() or not rule.asks_presence


def test_the_first_of_classes_with_equal_scores_is_the_best():
    rule = PlaneRule(Cut(1, 0), Presence(PlaneScore("rank", 1), 255))
    planes = np.full((3, *SIZE), 200, np.uint8)
    masks = ImageRule(dict.fromkeys("abc", rule), "always").masks(planes)
    assert masks.any(axis=(1, 2)).tolist() == [True, False, False]


def test_the_best_class_is_found_across_scores_of_different_scales():
    rules = {
        "a": PlaneRule(Cut(1, 0), Presence(PlaneScore("top", 10), 2550)),  # 0.5 of the largest
        "b": PlaneRule(Cut(1, 0), Presence(PlaneScore("area", 100), 54)),  # 1 of the plane
    }
    planes = np.stack([np.full(SIZE, 128), np.where(np.arange(54).reshape(SIZE) < 40, 200, 0)]).astype(np.uint8)
    masks = ImageRule(rules, "if_empty").masks(planes)
    assert masks.any(axis=(1, 2)).tolist() == [False, True]


def test_no_image_and_64_classes_are_no_special_case():
    rule = ImageRule({str(number): PlaneRule(Cut(9, 0), Presence(PlaneScore("rank", 1), 9)) for number in range(64)})
    assert rule.texts(np.zeros((0, 64, *SIZE), np.uint8)) == []
    assert rule.texts(np.zeros((1, 64, *SIZE), np.uint8)) == [""] * 64


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ImageRule({}, "sometimes"), "best: expected one of never, always, if_empty, got 'sometimes'"),
        (lambda: PlaneRule(Cut(1, 0), None, ((1, 2),)), "expected the score that they are of, got no presence"),
        (
            lambda: PlaneRule(Cut(1, 0), Presence(PlaneScore("rank", 1), 1), ((5, 2), (5, 3))),
            "expected ascending numerators",
        ),
    ],
)
def test_a_rule_that_means_nothing_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_threshold_of_presence_is_exact_where_a_float_would_not_be():
    score = PlaneScore("top", 17500)
    assert score.at_least(0.7, 183750) == 3123750
    assert level_of(0.7) == 179
