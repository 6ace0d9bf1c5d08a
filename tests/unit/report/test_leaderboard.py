import math

import numpy as np
import pandas as pd
import pytest

from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.masking import ImageRule
from cloudseg.postprocess import Cut
from cloudseg.report.leaderboard import baselines, common_folds, fold_spread, leaderboard, mean_dice
from cloudseg.report.markdown import escaped, markdown_table
from cloudseg.report.pages import diary_page, page
from cloudseg.storage import stores

ROW = {
    **{"encoder": "resnet34", "decoder": "fpn", "size": "x4", "recipe": "flips", "folds": 2},
    **{"name": "r", "loss": "BCEDice", "best": "b", "last": "l"},
}
FIXED = Decision("fixed", 6, ImageRule.of_cuts({"Fish": Cut(128, 100)}))
TUNED = Decision("tune", 6, ImageRule.of_cuts({"Fish": Cut(128, 100), "Flower": Cut(64, 200)}))


def scores(fixed, tuned=math.nan, nested=math.nan, folds=(0, 1)):
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
            for fold in (*folds, None)
        ]
    ).astype({"fold": "Int64"})


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
    one, two = scores(0.5, folds=(0, 1)), scores(0.6, folds=(1, 2))
    assert common_folds([one], [two, one.iloc[:0]]) == [1]
    assert common_folds([one], [scores(0.6, folds=(2,))]) == [0, 1]  # an odd ensemble does not take all away
    assert mean_dice(one, [1], "fixed") == 0.5
    assert math.isnan(mean_dice(one, [1, 2], "fixed"))  # one of them it does not have
    assert math.isnan(mean_dice(one.iloc[:0], [1], "fixed"))


def made(**more):
    tables = {"b": scores(0.61), "l": scores(0.62), "plain": scores(0.63), "all": scores(0.64, 0.7, 0.66)}
    decisions = {"b": FIXED, "l": FIXED, "plain": FIXED, "all": TUNED}
    row = ROW | more.pop("row", {})
    baseline = {"all empty": {"dice": 0.5, "dice_common": 0.5}}
    return leaderboard([row], {"plain": {}, "all": {"holds_best": True}}, tables, decisions, baseline, [0, 1], **more)


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
    assert text.index("| all ") < text.index("| plain ")  # best first
    assert "| 0.6600 (*) |" in text  # it holds `best` checkpoints
    assert "Dice of 6 images" in text
    assert " on 6 " not in text  # all rows have the same folds
    assert "LB" not in text.split("Dice of 6 images")[0]  # nothing was posted, so there are no such columns


def test_a_score_that_is_too_good_is_marked():
    honest = made(public_scores={"r": {"best": 0.60}, "all": {"single": 0.64}})
    assert honest.loc[0, "dice_minus_lb"] == pytest.approx(0.01)
    assert honest["warning"].isna().all()
    leaking = made(public_scores={"r": {"best": 0.60, "last": 0.58}})
    assert leaking.loc[0, "dice_minus_lb"] == pytest.approx(0.04)
    assert "check for leakage" in page(leaking, ["Fish"], 6, [0, 1])


def test_the_diarys_figures_stand_beside_ours_and_are_marked_likewise():
    theirs = {"diary_dice_best": 0.7524, "diary_dice_last": 0.75429, "diary_lb_best": 0.6289, "diary_lb_last": 0.6289}
    text = page(made(row=theirs | {"diary_lb_single": ""}), ["Fish"], 6, [0, 1])
    assert "0.75240/0.75429" in text
    assert "0.6289/0.6289" in text
    assert "+0.1235, check for leakage" in text


def test_the_spread_of_folds_is_their_standard_deviation():
    table = pd.concat([scores(0.5, folds=(0,)), scores(0.7, folds=(1,)), scores(0.9, folds=(2,))])
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
    text = diary_page(made(row=row, public_scores={"r": {"best": 0.6447}}))
    lines = text.splitlines()
    assert lines[0] == "### 19.11.13"
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        *("Encoder", "Size", "Decoder", "Loss", "KFold", "Avg Dice(best/last)", "LB(best/last)"),
    ]
    assert set(lines[3]) <= set("|:- ")
    assert [cell.strip() for cell in lines[4].strip("|").split("|")] == [
        *("resnet34", "320x480", "fpn", "BCEDice", "2", "0.61000/0.62000", "0.6447/"),
    ]


def by_fold(dice):
    """A table of scores with its own Dice per fold."""
    return pd.concat([scores(value, folds=(fold,)).iloc[:1] for fold, value in enumerate(dice)])


def test_each_row_has_the_dice_of_its_own_folds_and_all_compare_on_the_common_ones():
    many, few = by_fold([0.5, 0.6, 0.7, 0.8, 0.9]), by_fold([0.55])
    rows = [ROW | {"name": "many", "folds": 5, "best": "many", "last": "many", "diary_line": 44, "date": "19.11.09"}]
    rows += [ROW | {"name": "few", "folds": 1, "best": "few", "last": "few", "diary_line": 51, "date": "19.11.09"}]
    tables, decisions = {"many": many, "few": few}, {"many": FIXED, "few": FIXED}
    common = common_folds([many, few], [])
    table = leaderboard(rows, {}, tables, decisions, {}, common).set_index("name")
    assert common == [0]
    assert table["dice_last"].tolist() == pytest.approx([0.7, 0.55])
    assert table["dice_common"].tolist() == pytest.approx([0.5, 0.55])
    assert table.loc["many", "fold_spread"] == pytest.approx(np.std([0.5, 0.6, 0.7, 0.8, 0.9], ddof=1))
    text = page(table.reset_index(), ["Fish"], 1109, common)
    assert " on 1109 |" in text
    assert "the images of fold 0" in text
    written = diary_page(table.reset_index())
    assert "0.70000/0.70000" in written  # Avg Dice of the diary is the mean over the KFold folds
    assert "0.55000/0.55000" in written


def test_a_decision_plane_by_plane_has_no_threshold_in_the_table():
    decision = Decision("expected", 6, ImageRule.of_cuts({"Fish": Cut(128, 9)}))
    tables = {"b": scores(0.61), "l": scores(0.62), "e": scores(0.6)}
    table = leaderboard([ROW], {"e": {}}, tables, {"b": FIXED, "l": FIXED, "e": decision}, {}, [0, 1])
    cells = next(line for line in page(table, ["Fish"], 6, [0, 1]).splitlines() if "expected" in line).split("|")
    assert [cell.strip() for cell in cells[1:4]] == ["e", "expected", "by plane"]


def test_a_sharpened_threshold_stands_beside_the_probability_that_it_is():
    sharpened = Decision("fixed", 6, ImageRule.of_cuts({"Fish": Cut(179, 9)}), sharpen=0.5)
    tables = {"b": scores(0.61), "l": scores(0.62), "s": scores(0.6)}
    table = leaderboard([ROW], {"s": {}}, tables, {"b": FIXED, "l": FIXED, "s": sharpened}, {}, [0, 1])
    cells = next(line for line in page(table, ["Fish"], 6, [0, 1]).splitlines() if "p^0.5" in line).split("|")
    assert [cell.strip() for cell in cells[1:5]] == ["s", "fixed", "0.49", "0.70 (p^0.5)"]


HOSTILE = "a|b\n<script>alert(1)</script> [x](javascript:1) `code` \x1b[31m"


def test_foreign_text_ends_as_text_in_every_table():
    row = {"note": HOSTILE, "recipe": HOSTILE, "encoder": HOSTILE, "date": HOSTILE}
    tables = {"b": scores(0.61), "l": scores(0.62), "e": scores(0.6)}
    table = leaderboard([ROW | row], {"e": {"note": HOSTILE}}, tables, dict.fromkeys(tables, FIXED), {}, [0, 1])
    for text in (page(table, [HOSTILE], 6, [0, 1]), diary_page(table)):
        assert "<script" not in text
        assert "\x1b" not in text
        assert "a|b" not in text
        assert "a\\|b" in text
        assert " [x](" not in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert all(line.endswith("|") for line in rows)


def test_a_table_for_the_terminal_is_at_most_120_columns_wide():
    encoder = {"encoder": "tu-tf_efficientnet_lite0", "size": "640x960", "decoder": "deeplabv3plus"}
    name = "tu-tf-efficientnet-lite0-deeplabv3plus-640x960-flips-5"
    rows = [ROW | encoder | {"name": name, "recipe": "flips_focaldice"}]
    gains = {
        "all": {"best_member": f"{name}-last", "best_member_dice": 0.7, "gain": 0.1, "gain_low": 0, "gain_high": 1}
    }
    tables = {"b": scores(0.61), "l": scores(0.62), "all": scores(0.64, 0.7, 0.66)}
    decisions = {"b": FIXED, "l": FIXED, "all": TUNED}
    runs = {name: {"parameters": 12345678, "seconds_per_epoch": 12.3}}
    table = leaderboard(rows, {"all": {}}, tables, decisions, {}, [0, 1], gains=gains, runs=runs)
    text = page(table, ["Fish", "Flower"], 6, [0, 1])
    assert max(map(len, text.splitlines())) <= 120
    assert "| 1 last " in text


def test_text_that_looks_like_a_number_stays_as_it_is():
    assert "1e5" in markdown_table({"name": ["1e5", "007"]})
    assert "007" in markdown_table({"name": ["1e5", "007"]})
    assert escaped("tu-tf_efficientnet_lite0") == "tu-tf_efficientnet_lite0"


def replicates(lasts):
    """A leaderboard of replicates of one experiment, by seed, of another with one seed, and an ensemble of them."""
    rows = [ROW | {"name": f"r{seed}", "best": "b", "last": f"l{seed}", "seed": seed} for seed in lasts]
    rows.append(ROW | {"name": "other", "recipe": "slow", "best": "b", "last": "b", "seed": None})
    tables = {f"l{seed}": scores(dice) for seed, dice in lasts.items()} | {"b": scores(0.61), "all": scores(0.64)}
    decisions = dict.fromkeys(tables, FIXED)
    return leaderboard(rows, {"all": {"unscored": "2 of 6"}}, tables, decisions, {}, [0, 1])


def test_rows_that_differ_in_their_seed_alone_are_replicates_with_a_spread():
    lasts = {None: 0.62, 7: 0.6, 8: 0.67}
    table = replicates(lasts).set_index("name")
    alike = table.loc[["rNone", "r7", "r8"]]
    assert alike["replicates"].tolist() == [3, 3, 3]
    assert alike["replicate_spread"].tolist() == pytest.approx([np.std(list(lasts.values()), ddof=1)] * 3)
    assert table.loc[["other", "all"], ["replicates", "replicate_spread"]].isna().all(axis=None)
    assert [str(seed) for seed in alike["seed"]] == ["<NA>", "7", "8"]  # 7, not 7.0, in the table
    assert not {"seed", "replicates", "replicate_spread", "unscored"} & {*made().columns}


def test_the_page_has_the_spread_of_replicates_beside_that_of_folds_and_says_who_has_no_score():
    text = page(replicates({None: 0.62, 7: 0.6}), ["Fish"], 6, [0, 1])
    [header] = [line for line in text.splitlines() if line.startswith("|   # |") and "sd of last" in line]
    cells = [cell.strip() for cell in header.strip("|").split("|")]
    assert cells[cells.index("sd of last") :] == ["sd of last", "sd of replicates", "replicates"]
    assert "| 2 of 6 " in text
    assert "Replicates differ in their seed alone" in text
    assert "have no out-of-fold score" in text
    assert "Replicates" not in page(made(), ["Fish", "Flower"], 6, [0, 1])


def with_where_only():
    """Two networks on planes with truth alone beside another, whose best member has a Dice."""
    tables = {name: scores(dice) for name, dice in zip("abcdef", (0.61, 0.62, 0.3, 0.31, 0.63, 0.7), strict=True)}
    rows = [
        ROW | {"name": "w-1", "recipe": "where", "best": "c", "last": "d", "says_where_only": "where, not whether"},
        ROW | {"best": "a", "last": "b", "average": "e"},
    ]
    gains = {"all": {"best_member": "w-1-last", "gain": 0.1, "gain_low": 0.0, "gain_high": 0.2}}
    decisions = dict.fromkeys(tables, FIXED)
    return leaderboard(
        rows, {"all": {}}, tables | {"all": scores(0.7)}, decisions | {"all": FIXED}, {}, [0], gains=gains
    )


def test_networks_that_say_where_only_have_neither_a_dice_nor_a_rank():
    table = with_where_only().set_index("name")
    dice = ["dice_best", "dice_last", "dice_average", "dice_common", "fold_spread"]
    assert table.loc["w-1", dice].isna().all()
    assert table.loc["r", dice[:4]].tolist() == [0.61, 0.62, 0.63, 0.62]
    assert "average" not in table  # the name of a store
    text = page(with_where_only(), ["Fish"], 6, [0, 1], left_out=["e classifier x4 r: they say whether"])
    ours, theirs = (line for line in text.splitlines() if "| resnet34" in line and "| fpn" in line)
    assert ours.split("|")[1].strip() == "1"
    assert theirs.split("|")[1].strip() == ""
    assert "where, not whether" in theirs
    assert "0.3" not in theirs
    assert "w-1-last" in text  # the best member by its name, having no number
    assert "loss_planes: positive" in text
    assert "Not in these tables: e classifier x4 r: they say whether. " in text


def test_a_table_has_an_average_only_where_a_row_has():
    assert not {"dice_average", "says_where_only"} & set(made().columns)
    with_average = made(row={"average": "plain"})
    assert list(with_average.columns).index("dice_average") == list(with_average.columns).index("dice_last") + 1
    assert with_average.loc[0, "dice_average"] == 0.63
