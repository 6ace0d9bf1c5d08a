"""What a recipe may not ask for: keys that would do nothing, or that contradict each other."""

import copy
from pathlib import Path

import pytest
import yaml

from cloudseg.config.reading import read_config
from cloudseg.config.recipe import LATER, Recipe
from cloudseg.errors import ConfigError
from cloudseg.storage import files

DEMO = yaml.safe_load((Path(__file__).parents[3] / "config/config.yaml").read_text(encoding="utf-8"))
WEIGHTS = {"Fish": 2, "Flower": 1, "Gravel": 1, "Sugar": 1}
TWO_STAGES = [{"epochs": 2}, {"epochs": 2}]


def problems_of(**recipe):
    config = copy.deepcopy(DEMO)
    config["recipes"]["quick"] = {"epochs": 4, **recipe}
    try:
        read_config(config)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        ({"stages": [{"epochs": 2}, {"epochs": 3}]}, "quick.stages: their epochs are 2 + 3 = 5, expected `epochs` = 4"),
        ({"stages": [{"epochs": 4}]}, "quick.stages: expected at least 2 entries, got 1"),
        ({"stages": [{"epoch": 4}, {"epochs": 2}]}, "stages.0: unknown key 'epoch' (nearest: epochs)"),
        ({"stages": [{"epochs": 2}, {"epochs": 2, "loss": {"dice": 1}}]}, "stages.1.loss: dice alone says nothing"),
        (
            {"stages": [{"epochs": 2}, {"epochs": 2, "augmentation": [{"name": "Flip"}]}]},
            "quick.stages.1.augmentation: step 1: ",
        ),
        ({"stages": [{"epochs": 2}, {"epochs": 2, "loss": {"bce": 1}}], "best_by": "loss"}, "quick.best_by: losses of"),
        ({"stages": TWO_STAGES, "patience": 2, "schedule": "constant"}, "quick.patience: expected 0 with `stages`"),
        (
            {"stages": [{"epochs": 2, "learning_rate": 0.1}, {"epochs": 2}], "encoder_learning_rate": 0.01},
            "stages.0: give both `learning_rate` and `encoder_learning_rate`",
        ),
        (
            {"stages": [{"epochs": 2, "encoder_learning_rate": 0.1}, {"epochs": 2}]},
            "expected the recipe's own `encoder_learning_rate` beside it",
        ),
        ({"loss": {"bce": 1}, "dice_smooth": 10}, "quick.dice_smooth: expected the term `dice` in `loss` beside it"),
        ({"loss": {"bce": 1}, "dice_over": "plane"}, "quick.dice_over: expected the term `dice` in `loss` beside it"),
        (
            {"stages": [{"epochs": 2, "loss": {"bce": 1}}, {"epochs": 2, "loss": {"focal": 1}}], "dice_smooth": 10},
            "quick.dice_smooth: expected the term `dice` in `loss` beside it, got bce, focal",
        ),
        ({"loss": {"dice": 1}, "dice_over": "plane"}, "quick.loss: dice alone says nothing about a class"),
        ({"loss_planes": "positive"}, "quick.loss_planes: expected `dice_over: plane` beside it, got class"),
        ({"loss_planes": "positive", "loss": {"lovasz": 1}}, "quick.loss_planes: lovasz counts over more than a plane"),
        ({"mixup": {}, "loss": {"bce": 1, "symmetric_lovasz": 1}}, "mixup: masks lie between 0 and 1, and symmetric"),
        ({"mixup": {"p": 0.6}, "cutmix": {}}, "quick.mixup: an image is mixed in one way at most"),
        ({"class_weights": {"Fish": 2}}, "class_weights: expected one number per class (Fish, Flower, Gravel, Sugar)"),
        ({"class_weights": dict.fromkeys(WEIGHTS, 2)}, "quick.class_weights: all are equal, which changes nothing"),
        ({"class_weights": WEIGHTS, "dice_over": "all"}, "quick.class_weights: dice over all counts all classes"),
        ({"momentum": 0.9}, "quick.momentum: expected `optimiser: rmsprop or sgd` beside it, got adamw"),
        ({"optimiser": "adam_w"}, "quick.optimiser: expected one of adamw, adam,"),
        ({"pct_start": 0.1}, "quick.pct_start: expected `schedule: one_cycle` beside it, got cosine"),
        ({"freeze_encoder": 5}, "quick.freeze_encoder: expected at most the 4 epochs of the training, got 5"),
        ({"freeze_encoder": 4, "encoder_learning_rate": 0.1}, "quick.encoder_learning_rate: the encoder is frozen in"),
        ({"freeze_encoder": 4, "layer_decay": 0.8}, "quick.layer_decay: the encoder is frozen in all 4 epochs"),
        ({"encoder_learning_rate": 0.001}, "quick.encoder_learning_rate: it is that of the whole network"),
        ({"average": {"epochs": 5}}, "quick.average.epochs: expected at most the 4 epochs of the training, got 5"),
        ({"average": {"of": "first"}}, "quick.average.of: expected one of last, best"),
        ({"brightness": 115, "head": {}}, "quick.head: expected none beside `brightness`"),
        ({"head": {"weight": 0}}, "quick.head.weight: expected more than 0, got 0"),
        ({"pseudo": {"ensemble": "al"}}, "quick.pseudo.ensemble: no ensemble 'al' in the config (nearest: all)"),
        ({"pseudo": {"ensemble": "all", "certain": [0.7, 0.1]}}, "pseudo.certain: expected the lower probability"),
        ({"pseudo": {"ensemble": "all", "soft": True, "min_area": 0.1}}, "pseudo.min_area: probabilities have no comp"),
        ({"start": "network:fpn/96x144"}, "quick.start: expected imagenet, none, file:PATH"),
    ],
)  # fmt: skip
def test_what_would_do_nothing_or_contradicts_is_refused(recipe, complaint):
    assert complaint in problems_of(**recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        {"loss": {"dice": 1}, "dice_over": "plane", "loss_planes": "positive", "best_by": "dice_nonempty"},
        {"loss": {"dice": 1}, "dice_over": "plane", "dice_smooth": 10},
        {"loss": {"dice": 1}, "dice_smooth": 10},
        {"stages": [{"epochs": 2}, {"epochs": 2, "loss": {"symmetric_lovasz": 1}}], "dice_smooth": 10},
        {"stages": [{"epochs": 2}, {"epochs": 2, "learning_rate": 0.1, "schedule": "one_cycle"}], "pct_start": 0.1},
        {"cutmix": {}, "mixup": {"p": 0.5}},
        {"freeze_encoder": 1, "encoder_learning_rate": 1e-4, "layer_decay": 0.9, "optimiser": "sgd", "momentum": 0.95},
        {"average": {"epochs": 3, "decay": 0.67}},
        {"class_weights": WEIGHTS},
    ],
)
def test_what_the_winners_did_is_taken(recipe):
    assert problems_of(**recipe) == ""


def test_records_and_states_of_older_recipes_stay_as_they_are():
    recipe = Recipe(epochs=4, loss={"bce": 1, "lovasz": 0.5}, ema=0.99, canvas="70x105")
    # As the code wrote it before there were later keys
    before = "1d2297bcb7dc0a50675fbaa9794171ec1d25d319f626d6fecc118d9e5163e4a5"
    assert files.digest(recipe.model_dump(mode="json", exclude={"epochs"})) == before
    assert not set(LATER) & set(recipe.model_dump())
    assert set(LATER) < set(Recipe.model_fields)


def test_a_later_key_is_written_when_it_is_not_at_its_default():
    recipe = Recipe(optimiser="sgd", cutmix={"p": 0.5}, stages=[{"epochs": 10}, {"epochs": 20, "loss": {"bce": 1}}])
    assert recipe.canonical() == {
        "cutmix": {},
        "optimiser": "sgd",
        "stages": [{"epochs": 10}, {"epochs": 20, "loss": {"bce": 1}}],
    }
    assert Recipe(**recipe.canonical()) == recipe
    assert recipe.model_dump(mode="json")["cutmix"] == {"p": 0.5, "alpha": 1}
