"""config/winners.yaml against what the teams' posts tell, which stands here once more."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from cloudseg.workflow.plan import Plan

REPO = Path(__file__).parents[3]
CONFIG = yaml.safe_load((REPO / "config/winners.yaml").read_text(encoding="utf-8"))
with (REPO / "config/winners.tsv").open(encoding="utf-8", newline="") as file:
    SHEET = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))

WSL = {"32x8d": "tu-resnext101_32x8d.fb_wsl_ig1b_ft_in1k", "32x16d": "tu-resnext101_32x16d.fb_wsl_ig1b_ft_in1k"}
# Encoder, decoder and height of each network; the 13th's FPA is a PAN here
NETWORKS = {
    "1": [
        *[("efficientnet-b1", "unet", 384), ("resnet34", "unet", 384), (WSL["32x8d"], "unet", 384)],
        *[(WSL["32x8d"], "fpn", height) for height in (384, 384, 544, 576)],
        *[("resnet34", "fpn", height) for height in (384, 576, 768)],
        *[(WSL["32x16d"], "fpn", 384)] * 2,
    ],
    "3": [
        *[("densenet121", "fpn", 384), ("efficientnet-b1", "classifier", 384), ("efficientnet-b5", "unet", 384)],
        *[("inceptionresnetv2", "fpn", 384), ("efficientnet-b7", "unet", 384)],
        *[("efficientnet-b7", "fpn", 384)] * 2,
    ],
    "5": [("efficientnet-b1", "unet", 416), ("efficientnet-b3", "fpn", 352), ("resnet50", "unet", 352)],
    "13": [
        *[("resnet34", "unet", 320)] * 2,
        *[(encoder, "unet", 320) for encoder in ("resnet18", "inceptionresnetv2", "se_resnext50_32x4d")],
        *[(encoder, "pan", 320) for encoder in ("resnet34", "resnet18")],
    ],
}


@pytest.fixture(scope="module")
def plan():
    return Plan(CONFIG, REPO)


def of_place(place):
    return [row for row in SHEET if row["place"] == place]


@pytest.mark.parametrize("place", NETWORKS)
def test_a_place_has_the_networks_that_its_team_tells_of(place):
    rows = [(row["encoder"], row["decoder"], int(row["size"].split("x")[0])) for row in of_place(place)]
    assert Counter(rows) == Counter(NETWORKS[place])


def test_twelve_seven_three_and_seven_networks_are_97_trainings(plan):
    assert Counter(row["place"] for row in SHEET) == {"1": 12, "3": 7, "5": 3, "13": 7}
    assert Counter(plan.sheet.runs["place"]) == {1: 12, 3: 7 * 5, 5: 3 * 5, 13: 7 * 5}


def test_a_note_says_what_is_different_or_that_nothing_is():
    notes = {(row["place"], row["network"], row["encoder"]): row["note"] for row in SHEET}
    assert [key for key, note in notes.items() if len(note.split()) < 2] == []
    # Those that have a part in place of one that there is not
    for row in of_place("13"):
        assert ("CBAM" in row["note"], "seed" in row["note"]) == (True, bool(row["seed"]))
    assert {row["network"] for row in of_place("1") if "head" in row["note"]} == {
        row["network"] for row in of_place("1") if CONFIG["recipes"][row["recipe"]].get("head")
    }
    assert [row["network"] for row in SHEET if row["note"] == "as theirs"] == ["seg1"]


def test_every_recipe_and_every_row_is_used(plan):
    assert {row["recipe"] for row in SHEET} == set(CONFIG["recipes"])
    members = {member.run for name in CONFIG["ensembles"] for member in plan.ensembles[name].members}
    assert len(members) == 97 - 5  # the classifier says only whether


@pytest.mark.parametrize(
    ("name", "networks"), [("first", 12), ("third", 5), ("third-labels", 1), ("fifth", 3), ("thirteenth", 7)]
)
def test_an_ensemble_takes_its_masks_from_the_networks_of_its_place(plan, name, networks):
    runs = {member.run for member in plan.ensembles[name].members}
    assert len({re.sub(r"/fold\d+", "/fold", run) for run in runs}) == networks
    checkpoint = {"first": "average", "third-labels": "last"}.get(name, "best")
    assert {member.checkpoint for member in plan.ensembles[name].members} == {checkpoint}


def test_rates_and_averages_of_the_first_place(plan):
    recipes = {name: recipe for name, recipe in plan.config.recipes.items() if name.startswith("first")}
    assert {recipe.learning_rate for recipe in recipes.values()} == {0.00025}
    assert {recipe.encoder_learning_rate for recipe in recipes.values()} == {0.000025}
    assert {(recipe.average.epochs, recipe.average.decay) for recipe in recipes.values()} == {(5, 0.67)}
    assert {recipe.loss_planes for recipe in recipes.values()} == {"positive"}
    deep = {row["recipe"] for row in of_place("1") if "resnext" in row["encoder"]}
    assert {name: recipe.epochs for name, recipe in recipes.items()} == {
        name: 15 if name in deep else 30 for name in recipes
    }
    with_heads = [row for row in of_place("1") if recipes[row["recipe"]].head]
    assert [row["decoder"] for row in with_heads] == ["unet"] * 3
    assert plan.config.ensembles["first"].decision.presence.classifiers == len(with_heads)


def test_cycles_of_the_third_place_double_and_end_low(plan):
    rates = [plan.config.recipes["third_shape"].stage_at(epoch) for epoch in range(1, 36)]
    lengths = [stage.epochs for stage in plan.config.recipes["third_shape"].stages]
    assert (lengths, [stage.learning_rate for stage in rates[29:33]]) == ([10, 20, 2, 3], [0.0005, 1e-5, 1e-5, 5e-6])
    share = plan.config.recipes["third_classes"].pseudo.share
    assert share * 3698 == pytest.approx(835, rel=0.02)


def test_the_fifth_place_weighs_four_to_one_to_two(plan):
    weights = Counter()
    for member in plan.ensembles["fifth"].members:
        weights[member.run.split("/")[0]] += member.test_weight
    total = sum(weights.values())
    assert {encoder: 7 * weight / total for encoder, weight in weights.items()} == pytest.approx(
        {"efficientnet-b1": 4, "efficientnet-b3": 1, "resnet50": 2}
    )
