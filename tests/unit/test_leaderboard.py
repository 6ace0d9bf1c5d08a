import math

import numpy as np
import pandas as pd
import pytest

from cloudseg import stores
from cloudseg.report.leaderboard import baselines, common_folds, fold_spread, leaderboard, mean_dice
from cloudseg.report.pages import diary_page, page

ROW = {
    **{"encoder": "resnet34", "decoder": "fpn", "size": "x4", "recipe": "flips", "folds": 2},
    **{"name": "r", "loss": "BCEDice", "best": "b", "last": "l"},
}
FIXED = {"how": "fixed", "classes": {"Fish": {"level": 128, "threshold": 0.502, "min_size": 100}}}
TUNED = {
    "how": "tune",
    "classes": {
        "Fish": {"level": 128, "threshold": 0.502, "min_size": 100},
        "Flower": {"level": 64, "threshold": 0.251, "min_size": 200},
    },
}


def scores(fixed, tuned=math.nan, nested=math.nan, folds=("0", "1")):
    return pd.DataFrame(
        [
            {
                "what": "dice",
                "class": "all",
                "fold": fold,
                "fixed": fixed,
                "tuned": tuned,
                "nested": nested,
                "images": 3,
            }
            for fold in (*folds, "all")
        ]
    )


def test_baselines_by_hand(tmp_path):
    truth = np.zeros((4, 2, 2, 5), np.uint8)
    truth[0, 0, 0] = 1  # half of the plane: everywhere scores 2 * 5 / 15
    truth[1, 0] = 1  # all of it: everywhere scores 1
    truth[3, 1, 0, 0] = 1
    spec = stores.Spec(truth.shape, "uint8", ("image", "class", "y", "x"))
    writer = stores.Writer(tmp_path / "truth.zarr", {"": spec}, {"ids": list("abcd")})
    writer.write(slice(0, 4), truth)
    writer.finish()
    folds = pd.DataFrame({"image": list("dcba"), "fold": [2, 1, 0, 0]})
    # fold 0 has a and b, fold 1 has c; fold 2 is not scored
    made = baselines(tmp_path / "truth.zarr", folds, [0, 1])
    assert made["all empty"] == pytest.approx(np.mean([[0, 1], [1, 1]]))
    # class 0: nowhere scores (0 + 1) / 2, everywhere ((10/15 + 1) / 2 + 0) / 2; class 1: nowhere scores 1
    assert made["everywhere or nowhere"] == pytest.approx((max(0.5, (10 / 15 + 1) / 2 / 2) + 1) / 2)


def test_only_folds_that_all_have_are_compared():
    one, two = scores(0.5, folds=("0", "1")), scores(0.6, folds=("1", "2"))
    assert common_folds({"one": one, "two": two, "empty": one.iloc[:0]}) == [1]
    assert mean_dice(one, [1], "fixed") == 0.5
    assert math.isnan(mean_dice(one.iloc[:0], [1], "fixed"))


def made(**more):
    tables = {"b": scores(0.61), "l": scores(0.62), "plain": scores(0.63), "all": scores(0.64, 0.7, 0.66)}
    decisions = {"b": FIXED, "l": FIXED, "plain": FIXED, "all": TUNED}
    row = ROW | more.pop("row", {})
    return leaderboard([row], {"plain": {}, "all": {}}, tables, decisions, {"all empty": 0.5}, [0, 1], **more)


def test_a_tuned_ensemble_shows_its_nested_score_and_says_what_is_optimistic():
    table = made()
    by_name = table.set_index("name")
    assert (by_name.loc["plain", "dice"], by_name.loc["all", "dice"]) == (0.63, 0.66)
    assert by_name.loc["all", "dice_tuned_on_itself"] == 0.7
    assert (table.loc[0, "dice_best"], table.loc[0, "dice_last"]) == (0.61, 0.62)
    text = page(table, ["Fish", "Flower"], 6, [0, 1])
    assert "| resnet34" in text
    assert "0.50/0.25" in text
    assert "100/200" in text
    assert "nan" not in text
    assert "6 images" in text
    assert text.index("| all ") < text.index("| plain ")  # best first
    assert "LB" not in text.split("Dice of 6")[0]  # nothing was posted, so there are no such columns


def test_a_score_that_is_too_good_is_marked():
    honest = made(posted={"r": {"best": 0.60}, "all": {"single": 0.64}})
    assert honest.loc[0, "dice_minus_lb"] == pytest.approx(0.01)
    assert honest["warning"].isna().all()
    leaking = made(posted={"r": {"best": 0.60, "last": 0.58}})
    assert leaking.loc[0, "dice_minus_lb"] == pytest.approx(0.04)
    assert "check for leakage" in page(leaking, ["Fish"], 6, [0, 1])


def test_the_diarys_figures_stand_beside_ours_and_are_marked_likewise():
    theirs = {"diary_dice_best": 0.7524, "diary_dice_last": 0.75429, "diary_lb_best": 0.6289, "diary_lb_last": 0.6289}
    text = page(made(row=theirs | {"diary_lb_single": ""}), ["Fish"], 6, [0, 1])
    assert "0.75240/0.75429" in text
    assert "0.6289/0.6289" in text
    assert "+0.1235, check for leakage" in text


def test_the_spread_of_folds_is_their_standard_deviation():
    table = pd.concat([scores(0.5, folds=("0",)), scores(0.7, folds=("1",)), scores(0.9, folds=("2",))])
    assert fold_spread(table, [0, 1]) == pytest.approx(0.2 / math.sqrt(2))
    assert math.isnan(fold_spread(table, [0]))


def test_days_stand_in_the_order_of_the_diary():
    tables = {"b": scores(0.61), "l": scores(0.62)}
    rows = [
        ROW | {"name": str(line), "date": f"19.11.{day}", "diary_line": line} for line, day in ((96, 13), (5, "04"))
    ]
    text = diary_page(leaderboard(rows, {}, tables, {"b": FIXED, "l": FIXED}, {}, [0, 1]))
    assert [line for line in text.splitlines() if line.startswith("###")] == ["### 19.11.04", "### 19.11.13"]


def test_a_days_table_has_the_diarys_own_columns():
    row = {"date": "19.11.13", "size": "320x480"}
    text = diary_page(made(row=row, posted={"r": {"best": 0.6447}}))
    lines = text.splitlines()
    assert lines[0] == "### 19.11.13"
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        *("Encoder", "Size", "Decoder", "Loss", "KFold", "Avg Dice(best/last)", "LB(best/last)"),
    ]
    assert set(lines[3]) <= set("|:- ")
    assert [cell.strip() for cell in lines[4].strip("|").split("|")] == [
        *("resnet34", "320x480", "fpn", "BCEDice", "2", "0.61000/0.62000", "0.6447/"),
    ]
