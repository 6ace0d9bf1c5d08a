"""What the ablation compares: honest scores alone, on images that both ensembles have."""

import math

import pandas as pd
import pytest

from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.masking import ImageRule
from cloudseg.postprocess import Cut
from cloudseg.report.ablation import Decided, ablation, ablation_page, verdict

COLUMNS_OF_REPLICATES = ["ensemble", "decided", "Dice", "seeds", "sd", "over plain"]
RULE = ImageRule.of_cuts({"Fish": Cut(128, 0)})


def decided(name, how, dice, folds):
    """An ensemble of one class whose images, two of each fold, score alike; of two folds it is nested."""
    rows = [{"image": f"{fold}{n}", "fold": fold, "class": "Fish", "dice": dice} for fold in folds for n in range(2)]
    nested = dict.fromkeys(folds, RULE) if how != "fixed" and len(folds) > 1 else {}
    mean = {"fixed": dice, "tuned": dice + 0.1, "nested": dice if nested else math.nan}
    scores = pd.DataFrame([mean] if folds else [], columns=list(mean))
    images = pd.DataFrame(rows, columns=["image", "fold", "class", "dice"])
    return Decided(name, "", Decision(how, len(rows), RULE, nested), scores, images)


def gains(baseline, *others):
    table = ablation([baseline, *others], baseline.name, seed=1)
    return dict(zip(table["ensemble"], table["gain"], strict=True)), verdict(table, baseline.name)


def test_gains_are_over_the_same_images_of_folds_that_both_have():
    found, told = gains(decided("a", "tune", 0.5, [0, 1]), decided("b", "fixed", 0.6, [1]))
    assert found["b"] == pytest.approx(0.1)
    assert math.isnan(found["a"])
    assert told == "More than chance better than a: b; worse: none; of 0 others the interval holds 0."


@pytest.mark.parametrize(
    ("baseline", "other"),
    [
        (decided("a", "tune", 0.5, [0]), decided("b", "fixed", 0.6, [0])),  # chosen on its own images
        (decided("a", "fixed", 0.5, [0]), decided("b", "tune", 0.6, [0])),
        (decided("a", "fixed", 0.5, [0]), decided("b", "fixed", 0.6, [1])),  # other images
        (decided("a", "fixed", 0.5, []), decided("b", "fixed", 0.6, [0])),  # none out of fold
    ],
)
def test_what_is_not_honest_or_has_other_images_is_not_compared(baseline, other):
    found, told = gains(baseline, other)
    assert all(map(math.isnan, found.values()))
    assert told == "Nothing is compared with a: no images are out of fold for both that neither was chosen on."


def test_an_ensemble_alone_is_a_row():
    found, told = gains(decided("a", "fixed", 0.5, [0, 1]))
    assert list(found) == ["a"]
    assert told.startswith("Nothing is compared")


def test_replicates_are_one_row_with_the_mean_and_the_spread_of_their_scores():
    plain = [decided(f"plain-seed{seed}", "tune", dice, [0, 1]) for seed, dice in ((1, 0.50), (2, 0.54))]
    mixed = [decided(f"mixed-seed{seed}", "tune", dice, [0, 1]) for seed, dice in ((1, 0.60), (2, 0.70), (7, 0.80))]
    alone = decided("alone", "tune", 0.40, [0, 1])
    table = ablation([*plain, *mixed, alone], "plain", seed=1).set_index("ensemble")
    assert table["seeds"].to_dict() == {"plain": 2, "mixed": 3, "alone": 1}
    assert table["dice"].to_dict() == pytest.approx({"plain": 0.52, "mixed": 0.70, "alone": 0.40})
    assert table.loc["mixed", "spread"] == pytest.approx(0.1)
    assert math.isnan(table.loc["alone", "spread"])
    assert table.loc["mixed", "gain"] == pytest.approx(0.18)
    assert table.loc["alone", "gain"] == pytest.approx(-0.12)
    page = ablation_page(table.reset_index(), "plain", 4)
    header = next(line for line in page.splitlines() if line.startswith("| ensemble"))
    assert [cell.strip() for cell in header.strip("|").split("|")] == COLUMNS_OF_REPLICATES


def test_a_table_without_replicates_has_no_columns_of_them():
    table = ablation([decided("a", "tune", 0.5, [0, 1]), decided("b", "tune", 0.6, [0, 1])], "a", seed=1)
    assert "seeds" not in table
    assert "in sample" in ablation_page(table, "a", 4)
