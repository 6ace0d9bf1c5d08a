"""config/diary.yaml against the diary's own rows, which tests/diary holds character for character."""

import csv
from pathlib import Path

import pytest
import yaml

from cloudseg.config.sheet import KEY
from cloudseg.config.transforms import installed_table, transforms
from cloudseg.config.views import variants_of
from cloudseg.workflow.notices import random_starts
from cloudseg.workflow.plan import Plan

REPO = Path(__file__).parents[3]
CONFIG = yaml.safe_load((REPO / "config/diary.yaml").read_text(encoding="utf-8"))
ENCODERS = {"Resnet34": "resnet34", "Effib3": "efficientnet-b3", "Effib2": "efficientnet-b2"}
DECODERS = {"unet": "unet", "fpn": "fpn", "linknet": "linknet", "psp": "pspnet"}
RECIPES = {"BCEDice": "flips", "Focal": "flips_focal", "FocalDice": "flips_focaldice"}
FIGURES = ("dice_best", "dice_last", "lb_best", "lb_last", "lb_single")


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


DIARY = rows_of(REPO / "tests/diary/diary_experiments.tsv")
SHEET = rows_of(REPO / "config/diary.tsv")
TABLE = [row for row in DIARY if row["where"] == "table"]


@pytest.fixture(scope="module")
def plan():
    return Plan(CONFIG, REPO)


def test_every_row_of_the_tables_is_an_experiment():
    by_line = {row["diary_line"]: row for row in SHEET}
    assert len(TABLE) == 28
    for cells in TABLE:
        row = by_line[cells["line"]]
        assert row["encoder"] == ENCODERS[cells["encoder"]]
        assert row["decoder"] == DECODERS[cells["decoder"].lower()]
        assert row["size"] == cells["size"].lower().replace(" ", "")
        assert row["recipe"] == ("frog" if cells["date"] == "19.11.13" else RECIPES[cells["loss"]])
        assert row["folds"] == cells["kfold"]
        assert row["date"] == cells["date"]
        for name in ("encoder", "size", "decoder", "loss", "kfold", *FIGURES):
            assert row[f"diary_{name}"] == cells[name], (cells["line"], name)


def test_rows_outside_the_tables_stand_there_too():
    lines = {row["line"] for row in TABLE}
    others = {
        (row["encoder"], row["size"], row["recipe"], row["folds"]) for row in SHEET if row["diary_line"] not in lines
    }
    assert others == {
        ("efficientnet-b7", "x4", "flips", "1"),
        ("resnet34", "x4", "flips", "5"),
        ("resnet34", "x4", "flips_grey", "1"),
    }
    assert next(row for row in SHEET if row["diary_line"] == "5")["diary_lb_single"] == "0.652"


def test_the_28_rows_are_43_trainings_and_all_rows_49(plan):
    trained = plan.sheet.runs.drop_duplicates([*KEY, "fold"])
    assert len(trained) == 49
    lines = {int(row["line"]) for row in TABLE}
    assert len(trained.merge(plan.sheet.runs[plan.sheet.runs["diary_line"].isin(lines)][[*KEY, "fold"]])) == 43


def test_the_ensembles_are_those_of_the_diary(plan):
    def runs(name):
        return {member.run for member in plan.ensembles[name].members}

    def of(encoder, decoder, sizes):
        return {f"{encoder}/{decoder}/{size}/frog/fold{fold}" for size, folds in sizes.items() for fold in range(folds)}

    b2_unet = of("efficientnet-b2", "unet", {"640x960": 2, "384x576": 3, "256x384": 3})
    b2_fpn = of("efficientnet-b2", "fpn", dict.fromkeys(["640x960", "384x576", "320x480", "256x384", "64x96"], 3))
    pyramid = dict.fromkeys(["320x480", "384x576", "640x960"], 1)
    assert runs("final-unet") == runs("b2-unet") == b2_unet
    assert runs("final-fpn") == runs("b2-fpn") == b2_fpn
    assert runs("final-unet-fpn") == b2_unet | b2_fpn
    assert runs("final-unet-640") == of("efficientnet-b2", "unet", {"640x960": 2})
    assert runs("resnet34-unet") == of("resnet34", "unet", pyramid)
    assert runs("resnet34-fpn") == of("resnet34", "fpn", pyramid)
    assert runs("resnet34-pspnet") == of("resnet34", "pspnet", dict.fromkeys(["256x384", "384x576", "640x960"], 1))
    everything = plan.sheet.runs[plan.sheet.runs["date"] == "19.11.13"]
    assert len(runs("all")) == len(everything) == 33
    assert runs("all") == runs("all-15-11")


def test_the_decisions_are_those_of_the_diary(plan):
    finals = [row for row in rows_of(REPO / "tests/diary/diary_ensembles.tsv") if row["kind"] == "final"]
    names = ["final-unet", "final-unet-fpn", "final-unet-640", "final-fpn", "all"]
    for name, row in zip(names, finals, strict=True):
        decision = plan.config.ensembles[name].decision
        assert (decision.threshold, decision.min_size) == (float(row["threshold"]), int(row["min_size"]))
        assert decision.sharpened == plan.ensembles[name].sharpen
        assert plan.ensemble(name).decision_rule["thresholds"] == [float(row["threshold"])] * 4
        assert plan.config.ensembles[name].reference == float(row["lb_single"].replace(" ", ""))
        assert plan.ensembles[name].sharpen == 0.5
        assert {member.checkpoint for member in plan.ensembles[name].members} == {"best", "last"}
    later = plan.ensembles["all-15-11"]
    assert (later.decision.threshold, later.decision.min_size, later.sharpen) == (0.65, 10000, 0.5)
    assert plan.ensemble("all-15-11").decision_rule["thresholds"] == [0.65] * 4
    assert plan.ensemble("resnet34-fpn").decision_rule["thresholds"] == pytest.approx([0.4225] * 4)
    assert plan.config.submission == "all"


@pytest.mark.parametrize("name", ["diary.yaml", "kaggle.yaml"])
def test_the_contests_configs_know_how_frequent_the_classes_are(name):
    rates = yaml.safe_load((REPO / "config" / name).read_text(encoding="utf-8"))["class_rates"]
    labelled = {"Fish": 2781, "Flower": 2365, "Gravel": 2939, "Sugar": 3751}  # rows of train.csv that are not empty
    assert rates == {name: round(count / 5546, 4) for name, count in labelled.items()}


def test_one_unet_and_three_fpns_weigh_as_four_models(plan):
    members = plan.ensembles["kit"].members
    weights = {(member.run.split("/")[1], member.fold): member.test_weight for member in members}
    assert weights == {("unet", 0): 1, **{("fpn", fold): 1 for fold in range(3)}}
    out_of_fold = {member.run.split("/")[1]: member.valid_weight for member in members if member.fold == 0}
    assert out_of_fold == {"unet": 1, "fpn": 3}
    decision = plan.ensembles["kit"].decision
    assert (decision.threshold, decision.min_size) == (0.3, 1)


def test_the_dice_of_a_loss_is_that_of_smp_in_2019(plan):
    over = {name: recipe.dice_over for name, recipe in plan.config.recipes.items() if recipe.loss.dice}
    assert over == dict.fromkeys(["flips", "flips_focaldice", "flips_grey", "frog"], "all")


def test_several_cards_share_a_batch(plan):
    assert all(recipe.gpus > 1 for recipe in plan.config.recipes.values())


def test_the_second_augmentation_of_the_frog_crops_rotates_and_rescales(plan):
    """Lines 66 to 68 of the diary: Flip, random_crop_rescale(925, 630), random_crop_rotate_rescale."""
    frog = plan.config.recipes["frog"]
    options = frog.steps[2]["transforms"]
    names = [[part["name"] for part in option.get("transforms", [option])] for option in options]
    assert names == [["NoOp"], ["RandomCrop", "Resize"], ["RandomCrop", "Resize", "Rotate"]]
    views = [variant.name for variant in variants_of(frog)]
    assert [name for name in views if "Rotate" in name] == [
        "RandomCrop 630x925, Rotate -30",
        "RandomCrop 630x925, Rotate 30",
    ]


def test_smoke_keeps_every_experiment_and_shrinks_the_stores():
    made = Plan(CONFIG | {"smoke": True}, REPO)
    assert len(made.sheet.runs.drop_duplicates([*KEY, "fold"])) == 49
    sizes = {size: made.pixel_store("train", size).stored_size for size in made.dataset.sizes}
    assert sizes == {
        **{"640x960": "80x120", "384x576": "48x72", "320x480": "40x60", "256x384": "32x48", "64x96": "32x48"},
        **{"x1": "x8", "x2": "x16", "x4": "x32", "x5": "x40", "700x1050": "700x1050"},
    }
    assert random_starts(made) == ["efficientnet-b2", "efficientnet-b3", "efficientnet-b7", "resnet34"]


def test_the_table_of_transforms_is_that_of_the_installed_library():
    assert transforms() == installed_table(), "run: python -m cloudseg.config.transforms"
