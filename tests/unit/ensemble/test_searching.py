"""The search of presence, area and levels, against making and scoring every mask."""

from fractions import Fraction

import numpy as np
import pytest
from decision_oracles import (
    blocks_of,
    dice_by_masks,
    dice_of_plane,
    first_best,
    make_images,
    means_of,
    neighbourhood_means,
    plain_rule,
    score_by_hand,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stores import CLASSES

from cloudseg.ensemble import searching
from cloudseg.ensemble.choosing import choices
from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.gates import thresholds
from cloudseg.ensemble.masking import Evidence, ImageRule, PlaneRule, Presence
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.ensemble.searching import Space, search
from cloudseg.ensemble.surface import read_surface
from cloudseg.postprocess import Cut

MIN_SIZES = [0, 4, 9, 20]
SCORES = [PlaneScore("top", 5), PlaneScore("rank", 1), PlaneScore("area", 128)]
FOLD_OF = [0, 0, 0, 0, 2, 2, 2, 5, 5, 5]


def all_dice(planes, truth, min_sizes, highs=(0,)):
    """Return the Dice of each shape, by class: (C, N, 256, high, min_size)."""
    return [
        np.array([dice_of_plane(plane, true, min_sizes, highs) for plane, true in zip(p, t, strict=True)])
        for p, t in zip(planes.swapaxes(0, 1), truth.swapaxes(0, 1), strict=True)
    ]


def presence_means_by_hand(planes, truth, fold_of, folds, space):
    """Return what the neighbourhood of each threshold, level and size scores, by score and class."""
    found = []
    for score in space.scores:
        numerators = score_by_hand(score, planes)
        opens = numerators[..., None] >= thresholds(score, planes[0, 0].size)
        if space.rule.best == "always":
            opens[np.arange(len(planes)), numerators.argmax(axis=1)] = True
        means = [
            means_of(opens[:, number], dice, truth[:, number], fold_of, folds)
            for number, dice in enumerate(all_dice(planes, truth, space.min_sizes))
        ]
        found.append([neighbourhood_means(each, (8, 8, 0, 1)) for each in means])
    return found


def best_of_scores(means, space):
    """Return, per score and class, the mean that the choice of a score looks at."""
    scored = np.array([[each.max() for each in of_score] for of_score in means])
    if space.rule.best == "always":
        scored[:] = np.round(scored.sum(axis=1, keepdims=True), 12)
    return scored


def presence_by_hand(planes, truth, fold_of, folds, space):
    """Return, per class, the rule of the best score, threshold, level and size of all that there are."""
    means = presence_means_by_hand(planes, truth, fold_of, folds, space)
    rules = {}
    for number, which in enumerate(best_of_scores(means, space).argmax(axis=0)):
        (gate, level, _, size), _ = first_best(means[which][number])
        score = space.scores[which]
        presence = Presence(score, int(thresholds(score, planes[0, 0].size)[gate]))
        rules[f"class {number}"] = PlaneRule(Cut(level, space.min_sizes[size]), presence)
    return ImageRule(rules, space.rule.best)


def assert_found(found, expected, planes, truth, fold_of, folds, evidence=None):
    """Check rules against those by hand, expected(images, folds), and Dice against the masks of the rules."""
    fold_of = np.array(fold_of)
    everything, *others = choices(folds)
    for rule, rows in [(found.rule, everything), *zip(found.nested.values(), others, strict=True)]:
        chosen_on = [folds[row] for row in rows]
        assert rule == expected(np.isin(fold_of, chosen_on), chosen_on)
    assert_scored(found, planes, truth, fold_of, folds, evidence)


def assert_scored(found, planes, truth, fold_of, folds, evidence=None):
    """Check the Dice of the tables against the masks of the rules."""
    assert list(found.nested) == (list(folds) if len(folds) > 1 else [])
    assert found.counts.tolist() == [np.count_nonzero(fold_of == fold) for fold in folds]
    tuned = dice_by_masks(lambda fold: found.rule, planes, truth, fold_of, folds, evidence)
    np.testing.assert_allclose(found.tuned, tuned, rtol=0, atol=1e-12)
    if len(folds) > 1:
        nested = dice_by_masks(found.nested.get, planes, truth, fold_of, folds, evidence)
        np.testing.assert_allclose(found.nested_dice, nested, rtol=0, atol=1e-12)
    else:
        assert np.isnan(found.nested_dice).all()
    assert found.is_exact


@pytest.mark.parametrize("best", ["never", "always"])
@pytest.mark.parametrize("seed", range(3))
def test_presence_level_and_size_are_the_best_of_all_masks(best, seed):
    planes, truth = make_images(seed, len(FOLD_OF), classes=2)
    space = Space(plain_rule(2, best), MIN_SIZES, scores=SCORES)
    found = search(blocks_of(planes, truth, FOLD_OF), space, [0, 2, 5], threads=2)
    fold_of = np.array(FOLD_OF)

    def expected(rows, folds):
        return presence_by_hand(planes[rows], truth[rows], fold_of[rows], folds, space)

    assert_found(found, expected, planes, truth, FOLD_OF, [0, 2, 5])


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
    st.integers(1, 3),
    st.sampled_from(["never", "always"]),
    st.sampled_from([[0, 255], [0], [255], [7, 7, 90, 200], [0, 100, 101, 102, 180, 255]]),
)
def test_ties_empty_and_full_planes_are_no_exception(seed, fold_of, classes, best, palette):
    planes, truth = make_images(seed, len(fold_of), classes, shape=(3, 4), palette=palette)
    truth[seed % len(truth)] = seed % 2
    folds = sorted(set(fold_of))
    space = Space(plain_rule(classes, best), MIN_SIZES[:2], scores=SCORES[:2])
    found = search(blocks_of(planes, truth, fold_of), space, folds)

    assert_scored(found, planes, truth, np.array(fold_of), folds)
    for rule, rows in zip([found.rule, *found.nested.values()], choices(folds), strict=True):
        images = np.isin(fold_of, [folds[row] for row in rows])
        some = planes[images], truth[images], np.array(fold_of)[images], [folds[row] for row in rows]
        means = presence_means_by_hand(*some, space)
        scored = best_of_scores(means, space)
        for number, chosen in enumerate(rule.classes.values()):
            which = space.scores.index(chosen.presence.score)
            gate = thresholds(chosen.presence.score, 12).tolist().index(chosen.presence.at_least)
            mean = means[which][number][gate, chosen.cut.level, 0, space.min_sizes.index(chosen.cut.min_size)]
            # Of exact ties the first is not always taken: the 12th digit may be rounded either way
            assert mean == pytest.approx(means[which][number].max(), abs=2e-12)
            assert scored[which, number] == pytest.approx(scored[:, number].max(), abs=2e-12)


@pytest.mark.parametrize("seed", range(3))
def test_top_level_area_level_and_size_are_the_best_of_all_masks(seed):
    planes, truth = make_images(seed, len(FOLD_OF), classes=2)
    tops, areas, fold_of = list(range(7, 256, 8)), [0, 1, 3, 9, 20], np.array(FOLD_OF)
    space = Space(plain_rule(2), MIN_SIZES, top_levels=tops, top_areas=areas)
    found = search(blocks_of(planes, truth, FOLD_OF), space, [0, 2, 5])
    opens = (planes[..., None] >= np.array(tops)).sum(axis=(2, 3))[..., None] >= np.array(
        areas
    )  # image, class, top, area
    allowed = (np.array(tops)[:, None, None] >= np.arange(256)) | (np.array(areas) == 0)[:, None]
    dice = all_dice(planes, truth, MIN_SIZES)

    def expected(rows, folds):
        rules = {}
        for number in range(2):
            means = means_of(opens[rows, number], dice[number][rows], truth[rows, number], fold_of[rows], folds)
            smooth = neighbourhood_means(means, (1, 1, 8, 2, 1))
            (top, area, level, _, size), _ = first_best(smooth, allowed[..., None, None])
            top_level = tops[top] if areas[area] else 0
            cut = Cut(level, MIN_SIZES[size], top_level=top_level, top_area=areas[area])
            rules[f"class {number}"] = PlaneRule(cut)
        return ImageRule(rules)

    assert_found(found, expected, planes, truth, FOLD_OF, [0, 2, 5])


@pytest.mark.parametrize("seed", range(3))
def test_low_high_and_size_are_the_best_of_all_masks(seed):
    planes, truth = make_images(seed, len(FOLD_OF), classes=2)
    highs, min_sizes, fold_of = list(range(3, 256, 12)), [0, 9], np.array(FOLD_OF)
    space = Space(plain_rule(2), min_sizes, highs=highs)
    found = search(blocks_of(planes, truth, FOLD_OF), space, [0, 2, 5])
    dice = all_dice(planes, truth, min_sizes, highs)

    def expected(rows, folds):
        rules = {}
        for number in range(2):
            always = np.ones(rows.sum(), bool)
            means = means_of(always, dice[number][rows], truth[rows, number], fold_of[rows], folds)
            (level, high, size), _ = first_best(neighbourhood_means(means, (8, 2, 1)))
            cut = Cut(level, min_sizes[size], high=highs[high] if highs[high] > level else 0)
            rules[f"class {number}"] = PlaneRule(cut)
        return ImageRule(rules)

    assert_found(found, expected, planes, truth, FOLD_OF, [0, 2, 5])


def held_rules():
    """Yield rules of two classes and what becomes of the best class."""
    presences = [Presence(PlaneScore("top", 5), 5 * 150), Presence(PlaneScore("area", 100), 20)]
    for best in ("never", "always", "if_empty"):
        yield {f"class {number}": PlaneRule(Cut(1, 0), each) for number, each in enumerate(presences)}, best
    yield (
        {"class 0": PlaneRule(Cut(1, 0, high=170)), "class 1": PlaneRule(Cut(1, 0, top_level=140, top_area=9))},
        "never",
    )
    yield {"class 0": PlaneRule(Cut(1, 0, 170, 140, 9), presences[0]), "class 1": PlaneRule(Cut(1, 0))}, "never"


@pytest.mark.parametrize(("classes", "best"), list(held_rules()))
def test_what_is_held_stays_and_the_rest_is_chosen_with_it(classes, best):
    planes, truth = make_images(5, len(FOLD_OF), classes=2)
    rule, fold_of = ImageRule(classes, best), np.array(FOLD_OF)
    found = search(blocks_of(planes, truth, FOLD_OF), Space(rule, MIN_SIZES), [0, 2, 5])
    masked = planes.copy()
    levels = rule.levels(Evidence.of(planes)) if rule.asks_presence else np.ones(planes.shape[:2])
    for number, held in enumerate(classes.values()):
        closed = (levels[:, number] == 256) | (
            (planes[:, number] >= held.cut.top_level).sum((1, 2)) < held.cut.top_area
        )
        masked[closed, number] = 0
    dice = [
        all_dice(masked[:, [number]], truth[:, [number]], MIN_SIZES, [held.cut.high])[0]
        for number, held in enumerate(classes.values())
    ]
    for each, plane, true in zip(dice, masked.swapaxes(0, 1), truth.swapaxes(0, 1), strict=True):
        none = ~plane.any(axis=(1, 2))  # level 0 would fill what is closed
        each[none, 0] = ~true[none].any(axis=(1, 2))[:, None, None]

    def expected(rows, folds):
        rules = {}
        for (name, held), each, true in zip(classes.items(), dice, truth.swapaxes(0, 1), strict=True):
            means = means_of(np.ones(rows.sum(), bool), each[rows], true[rows], fold_of[rows], folds)
            (level, _, size), _ = first_best(neighbourhood_means(means, (8, 0, 1)))
            cut = Cut(level, MIN_SIZES[size], held.cut.high, held.cut.top_level, held.cut.top_area)
            rules[name] = PlaneRule(cut, held.presence)
        return ImageRule(rules, best)

    assert_found(found, expected, planes, truth, FOLD_OF, [0, 2, 5])


def test_level_and_size_alone_are_what_tuning_decides(surface):
    planes, truth, path = surface
    sums, counts, min_sizes, folds = read_surface(path)
    options = {"how": "tune", "thresholds": [0.5, 0.5], "min_sizes": [0, 0], "tune_min_sizes": min_sizes}
    decision, scores = decide(sums, counts, min_sizes, folds, classes=CLASSES, rule=DecisionRule(**options))
    rule = ImageRule.of_cuts(dict.fromkeys(CLASSES, Cut(0, 0)))
    found = search(blocks_of(planes, truth, [0, 0, 1, 1, 1], size=32), Space(rule, min_sizes), folds)
    assert found.rule == decision.rule
    assert found.nested == decision.nested
    rows = scores[scores["class"].isin(CLASSES) & scores["fold"].notna()].set_index(["fold", "class"])
    for f, fold in enumerate(folds):
        for c, name in enumerate(CLASSES):
            assert found.tuned[f, c] == rows.loc[(fold, name), "tuned"]
            assert found.nested_dice[f, c] == rows.loc[(fold, name), "nested"]


def test_presence_is_read_from_other_members_and_classifiers():
    planes, truth = make_images(7, len(FOLD_OF), classes=2)
    values = np.where(truth.any(axis=(2, 3)), 200, 40).astype(np.uint8)
    evidence = Evidence(Evidence.of(255 - planes).histograms, values)
    space = Space(plain_rule(2), [0], scores=[PlaneScore("top", 5, Fraction(100))])
    found = search(blocks_of(planes, truth, FOLD_OF, evidence), space, [0, 2, 5])
    scored = dice_by_masks(lambda fold: found.rule, planes, truth, FOLD_OF, [0, 2, 5], evidence)
    np.testing.assert_allclose(found.tuned, scored, rtol=0, atol=1e-12)
    levels = found.rule.levels(evidence)
    assert ((levels != 256) == truth.any(axis=(2, 3))).all()


def test_if_empty_is_chosen_as_if_always():
    planes, truth = make_images(3, len(FOLD_OF), classes=2)
    found = {
        best: search(
            blocks_of(planes, truth, FOLD_OF), Space(plain_rule(2, best), MIN_SIZES, scores=SCORES[:1]), [0, 2, 5]
        )
        for best in ("always", "if_empty")
    }
    assert found["if_empty"].rule == ImageRule(found["always"].rule.classes, "if_empty")
    assert found["always"].is_exact
    assert not found["if_empty"].is_exact


@pytest.mark.parametrize("space", [{"scores": SCORES}, {"highs": [50, 150]}, {"top_levels": [99], "top_areas": [0, 9]}])
def test_memory_changes_the_passes_and_not_the_result(space, monkeypatch):
    planes, truth = make_images(4, len(FOLD_OF), classes=3)
    calls, give = [], blocks_of(planes, truth, FOLD_OF, size=10)

    def blocks():
        calls.append(1)
        return give()

    found = search(blocks, Space(plain_rule(3), MIN_SIZES, **space), [0, 2, 5])
    monkeypatch.setattr(searching, "TABLES_AT_ONCE", 1)
    monkeypatch.setattr("cloudseg.ensemble.choosing.VALUES_AT_ONCE", 1)
    again = search(blocks, Space(plain_rule(3), MIN_SIZES, **space), [0, 2, 5], threads=2)
    assert len(calls) == 1 + 3 * len(space.get("scores", [1]))
    assert again.rule == found.rule
    assert again.nested == found.nested
    np.testing.assert_allclose(again.nested_dice, found.nested_dice, rtol=0, atol=1e-12)


def test_64_classes_are_each_chosen_for_themselves():
    planes, truth = make_images(6, images=4, classes=64)
    space = {"min_sizes": [0, 9], "scores": SCORES[:1]}
    found = search(blocks_of(planes, truth, [0, 0, 1, 1]), Space(plain_rule(64), **space), [0, 1])
    for number in (0, 31, 63):
        own = slice(number, number + 1)
        alone = search(blocks_of(planes[:, own], truth[:, own], [0, 0, 1, 1]), Space(plain_rule(1), **space), [0, 1])
        assert found.rule.classes[f"class {number}"] == alone.rule.classes["class 0"]
        assert (found.nested_dice[:, own] == alone.nested_dice).all()


def test_what_is_nested_does_not_see_its_fold():
    planes, truth = make_images(8, len(FOLD_OF), classes=2)
    found = search(blocks_of(planes, truth, FOLD_OF), Space(plain_rule(2), MIN_SIZES, scores=SCORES), [0, 2, 5])
    rows = np.array(FOLD_OF) != 2
    without = search(
        blocks_of(planes[rows], truth[rows], np.array(FOLD_OF)[rows].tolist()),
        Space(plain_rule(2), MIN_SIZES, scores=SCORES),
        [0, 5],
    )
    assert found.nested[2] == without.rule


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"scores": SCORES, "highs": [5]},
            "space: expected at most one of scores, top_levels, highs, got scores and highs",
        ),
        ({"top_levels": [5]}, "top_levels, top_areas: expected both or none of them, got one"),
        ({"highs": [9, 3]}, r"highs: expected ascending numbers, got \[9, 3\]"),
        ({"rule": plain_rule(1, "always")}, "best: expected a score of presence with `always`, got none"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Space(**{"rule": plain_rule(1), "min_sizes": [0], **wrong})


def test_no_images_choose_nothing():
    with pytest.raises(ValueError, match="blocks: expected images to choose on, got none"):
        search(lambda: iter([]), Space(plain_rule(1), [0]), [0, 1])
