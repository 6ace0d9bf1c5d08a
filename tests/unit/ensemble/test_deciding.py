"""Choosing levels and minimum sizes, against a search by hand."""

import numpy as np
import pytest
from score_cells import by_class_and_fold
from small_stores import CLASSES, SIZE

from cloudseg.ensemble.deciding import decide, grid, tune
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.surface import read_surface
from cloudseg.postprocess import Cut, decode_rle, segment


def test_decisions_are_scored_fixed_tuned_and_nested(surface):
    sums, counts, min_sizes, folds = read_surface(surface[2])
    options = {"how": "tune", "thresholds": [0.5, 0.25], "min_sizes": [10, 60], "tune_min_sizes": [0, 60]}
    decision, scores = decide(sums, counts, min_sizes, folds, classes=CLASSES, rule=DecisionRule(**options))
    mean = sums / counts[:, None, None, None]
    rows = by_class_and_fold(scores)
    assert rows.loc[("Fish", 0), "fixed"] == mean[0, 0, 128, 1]
    assert rows.loc[("Flower", 1), "fixed"] == mean[1, 1, 64, 2]
    level, column = tune(mean[1, 0][:, [0, 2]])  # nested: fold 0 is decided by fold 1
    assert rows.loc[("Fish", 0), "nested"] == mean[0, 0, level, [0, 2][column]]
    level, column = tune(mean[:, 0].mean(axis=0)[:, [0, 2]])
    assert decision.plain()["classes"]["Fish"] == {
        "level": level,
        "threshold": round(level / 255, 4),
        "min_size": [0, 60][column],
    }
    assert rows.loc[("all", "all"), "fixed"] == pytest.approx(
        np.mean([rows.loc[(name, fold), "fixed"] for name in CLASSES for fold in (0, 1)])
    )
    assert rows.loc[("all", "all"), "images"] == 5


@pytest.mark.parametrize("how", ["fixed", "tune", "grid"])
def test_one_fold_has_no_nested_score(surface, how):
    sums, counts, min_sizes, folds = read_surface(surface[2])
    options = {"how": how, "thresholds": [0.5, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0, 10], "grid": GRID}
    _, scores = decide(sums[:1], counts[:1], min_sizes, folds[:1], classes=CLASSES, rule=DecisionRule(**options))
    assert scores["nested"].isna().all()
    assert scores["tuned"].notna().all()


GRID = {"thresholds": [number / 20 for number in range(20)], "min_sizes": [0, 60, 10]}


def best_pair_by_hand(p, g, folds_of_images):
    """Segment with every pair of the grid, threshold by threshold; keep the first that none beats."""
    best = (-1.0, None)
    for threshold in GRID["thresholds"]:
        for size in GRID["min_sizes"]:
            texts = segment(p[:, None], threshold, size)
            dice = []
            for text, truth in zip(texts, g, strict=True):
                mask = decode_rle(text, SIZE)
                total = mask.sum() + truth.sum()
                dice.append(1.0 if total == 0 else 2 * (mask & truth).sum() / total)
            score = np.mean([np.mean([dice[i] for i in images]) for images in folds_of_images])
            if score > best[0] + 1e-12:
                best = (score, (threshold, size))
    return best


def test_grid_is_the_best_pair_of_brute_force(surface):
    p, g, path = surface
    sums, counts, min_sizes, folds = read_surface(path)
    options = {"how": "grid", "thresholds": [0.5, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0], "grid": GRID}
    decision, scores = decide(sums, counts, min_sizes, folds, classes=CLASSES, rule=DecisionRule(**options))
    rows = by_class_and_fold(scores)
    images = {0: [0, 1], 1: [2, 3, 4]}
    mean = sums / counts[:, None, None, None]
    for c, name in enumerate(CLASSES):
        score, (threshold, size) = best_pair_by_hand(p[:, c], g[:, c], images.values())
        assert decision.cuts[name] == Cut(int(np.ceil(255 * threshold - 1e-9)), size)
        assert rows.loc[(name, "all"), "tuned"] == pytest.approx(score, abs=1e-12)
        for fold, other in ((0, 1), (1, 0)):
            few = [range(len(images[other]))]
            _, (threshold, size) = best_pair_by_hand(p[images[other], c], g[images[other], c], few)
            chosen = mean[fold, c, int(np.ceil(255 * threshold - 1e-9)), min_sizes.index(size)]
            assert rows.loc[(name, fold), "nested"] == pytest.approx(chosen, abs=1e-12)


def test_grid_takes_a_spike_that_tuning_passes_over_and_the_first_of_equals():
    dice = np.zeros((256, 4))
    dice[100:140] = 0.8
    dice[64, 3] = 0.9  # level(0.25)
    assert grid(dice, GRID["thresholds"], [0, 1, 3]) == (64, 3)
    assert grid(np.ones((256, 4)), [0.5, 0.25], [2, 0]) == (128, 2)
    dice[64, 1] = 0.9 + 1e-15  # the same masks, summed in another order
    assert grid(dice, GRID["thresholds"], [3, 1]) == (64, 3)


def test_a_surface_without_a_size_of_the_grid_is_refused(surface):
    options = {"how": "grid", "thresholds": [0.5, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0]}
    options["grid"] = GRID | {"min_sizes": [0, 100]}
    with pytest.raises(ValueError, match=r"expected the minimum sizes \[100\] in the surface, got \[0, 10, 60\]"):
        decide(*read_surface(surface[2]), classes=CLASSES, rule=DecisionRule(**options))


def test_tuning_prefers_a_plateau_to_a_spike_and_does_not_wander_at_edges():
    dice = np.zeros((256, 4))
    dice[40, 3] = 1.0
    dice[100:140] = 0.8
    level, _ = tune(dice)
    assert 100 <= level < 140
    assert tune(np.ones((256, 4))) == (0, 0)
