"""Whatever a rule asks: the masks that are scored are those of the decision, and honest is without the fold."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from small_stores import CLASSES, SIZE, planes, write

from cloudseg.ensemble.decide_blend import Stores, decide_blend, decision_of
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.score_tables import read_image_scores, read_scores, write_scores
from cloudseg.ensemble.submission import write_submission
from cloudseg.ensemble.surface import measure
from cloudseg.ensemble.whether import write_whether
from cloudseg.postprocess import decode_rle
from cloudseg.storage.files import write_table

IDS = [f"{number}.jpg" for number in range(12)]
FOLDS = [0] * 5 + [2] * 3 + [3] * 4
PIXELS = SIZE[0] * SIZE[1]
NUMBERS = {"thresholds": [0.5, 0.25], "min_sizes": [10, 60], "tune_min_sizes": [0, 20, 60]}
TOP = {"scores": [{"top": 60}], "thresholds": None, "pixels": PIXELS}
GRID = {"thresholds": [0.25, 0.5, 0.75], "min_sizes": [0, 60]}
ASKED = {
    "presence": {"how": "tune", "presence": TOP},
    "scores": {"how": "tune", "presence": TOP | {"scores": [{"top": 60}, {"rank": 5}, {"area": 0.6}]}},
    "best": {"how": "tune", "presence": TOP, "best": "always"},
    "if empty": {"how": "tune", "presence": TOP, "best": "if_empty"},
    "held presence": {"how": "tune", "presence": TOP | {"thresholds": [0.7, 0.6]}},
    "triplet": {"how": "tune", "plane_min": "tune"},
    "held triplet": {"how": "tune", "plane_min": {"thresholds": [0.6, 0.6], "areas": [40, 90]}},
    "hysteresis": {"how": "tune", "high": "tune"},
    "held high": {"how": "tune", "high": [0.8, 0.9]},
    "holes": {"how": "tune", "fill_holes": True},
    "grid and holes": {"how": "grid", "grid": GRID, "fill_holes": True},
    "rate": {"how": "rate", "rates": "training"},
    "pixels": {"how": "rate", "rates": [0.3, 0.4], "rate_of": "pixels"},
    "expected": {"how": "expected", "presence": TOP},
    "fixed": {
        "how": "fixed",
        "presence": TOP | {"thresholds": [0.7, 0.6]},
        "best": "if_empty",
        "plane_min": {"thresholds": [0.6, 0.6], "areas": [4, 9]},
        "high": [0.8, 0.9],
        "fill_holes": True,
    },
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decided")
    p = planes(3, len(IDS))
    truth = (p.astype(int) + planes(4, len(IDS)) > 330).astype(np.uint8)
    truth[::3, 0] = 0
    p[::3, 0] //= 2
    write(folder / "valid.zarr", p, IDS, fold=FOLDS)
    order = np.random.default_rng(1).permutation(len(IDS))
    write(folder / "truth.zarr", truth[order], [IDS[number] for number in order])
    write(folder / "test.zarr", planes(9, 7), [f"t{number}.jpg" for number in range(7)], fold=[None] * 7)
    return Stores(folder / "valid.zarr", folder / "truth.zarr")


def surface_of(stores, folds=(0, 2, 3)):
    return measure(stores.blend, stores.truth, folds=list(folds), min_sizes=[0, 10, 20, 60])


def decided(stores, asked, folds=(0, 2, 3)):
    rule = DecisionRule(**NUMBERS, **ASKED[asked])
    return decide_blend(stores, rule, classes=CLASSES, surface=surface_of(stores, folds), threads=2)


@pytest.mark.parametrize("asked", ASKED)
def test_scores_are_those_of_the_images_and_the_decision_reads_back(stores, asked, tmp_path):
    decision, scores, images = decided(stores, asked)
    honest = "fixed" if asked == "fixed" else "nested"
    means = images.groupby(["fold", "class"])["dice"].mean()
    parts = scores[(scores["class"] != "all") & scores["fold"].notna()]
    for _, row in parts.iterrows():
        assert row[honest] == pytest.approx(means[row["fold"], row["class"]], abs=1e-12)
    assert scores.iloc[-1][honest] == pytest.approx(means.groupby("fold").mean().mean(), abs=1e-12)
    assert set(decision.nested) == (set() if asked == "fixed" else {0, 2, 3})
    (tmp_path / "decision.yaml").write_text(yaml.safe_dump(decision.plain(), sort_keys=False))
    assert Decision.read(tmp_path / "decision.yaml", CLASSES) == decision
    write_scores(scores, tmp_path / "scores.tsv")
    write_table(images, tmp_path / "images.tsv")
    assert len(read_scores(tmp_path / "scores.tsv", decision)) == len(scores)
    assert len(read_image_scores(tmp_path / "images.tsv", decision)) == 24
    rule = DecisionRule(**NUMBERS, **ASKED[asked])
    assert decision_of(stores, rule, classes=CLASSES, surface=surface_of(stores)) == decision


@pytest.mark.parametrize("asked", [name for name in ASKED if name != "fixed"])
def test_a_fold_is_decided_as_if_it_were_not_there(stores, asked):
    whole, rest = decided(stores, asked).decision, decided(stores, asked, folds=(0, 3)).decision
    assert whole.nested[2] == rest.rule


def test_a_grid_chooses_of_its_own_numbers_also_where_holes_are_filled(stores):
    asked, decision = ASKED["grid and holes"], decided(stores, "grid and holes").decision
    plain = DecisionRule(**NUMBERS, **asked | {"fill_holes": False})
    without = decide_blend(stores, plain, classes=CLASSES, surface=surface_of(stores)).decision
    for fold in (None, 0, 2, 3):
        for filled, other in zip(*(each.rule_for(fold).classes.values() for each in (decision, without)), strict=True):
            assert filled.cut == replace(other.cut, fill_holes=True)
            assert filled.cut.level in (64, 128, 192)


@pytest.mark.parametrize("asked", ["presence", "triplet", "hysteresis"])
def test_what_is_chosen_beside_level_and_size_scores_no_less_on_its_own_images(stores, asked):
    plain = decide_blend(
        stores, DecisionRule("tune", **NUMBERS), classes=CLASSES, surface=surface_of(stores)
    ).scores.iloc[-1]["tuned"]
    # The best neighbourhood, not the best point: it may lose what a lone spike has
    assert decided(stores, asked).scores.iloc[-1]["tuned"] > plain - 0.05


@pytest.mark.parametrize("asked", ASKED)
def test_a_submission_has_the_masks_of_the_decision(stores, asked, tmp_path):
    decision = decided(stores, asked).decision
    test = stores.blend.parent / "test.zarr"
    sample = [(f"t{number}.jpg", name) for number in range(7) for name in CLASSES]
    write_submission(test, decision.rule, sample, tmp_path / "submission.csv")
    rows = pd.read_csv(tmp_path / "submission.csv", keep_default_na=False)
    masks = np.concatenate([decision.rule.masks(image) for image in planes(9, 7)])
    for text, mask in zip(rows["EncodedPixels"], masks, strict=True):
        np.testing.assert_array_equal(decode_rle(text, SIZE), mask)


def test_members_that_say_whether_are_asked_in_place_of_those_that_say_where(stores, tmp_path):
    paths, members = [], []
    for fold in (0, 2, 3):
        rows = [row for row, own in enumerate(FOLDS) if own == fold]
        nothing = np.zeros((len(rows), len(CLASSES), *SIZE), np.uint8)
        paths.append(write(tmp_path / f"{fold}.zarr", nothing, [IDS[row] for row in rows], fold=[fold] * len(rows)))
        members.append({"store": str(fold), "fold": fold, "weight": 1.0})
    options = {"folds": [0, 2, 3], "classes": CLASSES, "size": SIZE, "allow_squeezed": True}
    write_whether(paths, members, tmp_path / "whether.zarr", **options)
    assert decided(stores, "held presence").images["kept"].any()
    whether = Stores(stores.blend, stores.truth, tmp_path / "whether.zarr")
    assert not decided(whether, "held presence").images["kept"].any()
