"""What CutMix and stages draw is a function of (seed, epoch, index): a training ends with the same bits however run."""

import pytest
from network_fixtures import result, small_training, write_training_inputs

from cloudseg.training.train import train

STAGES = [{"epochs": 2, "size": "32x32"}, {"epochs": 1, "augmentation": [{"name": "VerticalFlip", "p": 0.5}]}]
RECIPES = {
    "cutmix": {"cutmix": {"p": 0.7}},
    "stages": {"cutmix": {"p": 0.7}, "stages": STAGES},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_training_inputs(tmp_path_factory.mktemp("inputs"), train=18)


def trained(inputs, out, *, workers=0, **recipe):
    train(small_training(inputs, out, job={"workers": workers}, schedule="constant", **recipe))
    return result(out)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_bits_do_not_depend_on_workers(inputs, tmp_path, recipe):
    alone = trained(inputs, tmp_path / "alone", **recipe)
    assert trained(inputs, tmp_path / "workers", workers=2, **recipe) == alone
    assert trained(inputs, tmp_path / "plain")[0] != alone[0]


def test_a_training_that_goes_on_ends_as_one_that_was_not_stopped(inputs, tmp_path):
    recipe = RECIPES["cutmix"]
    whole = trained(inputs, tmp_path / "whole", epochs=3, **recipe)
    trained(inputs, tmp_path / "parts", epochs=2, **recipe)
    assert trained(inputs, tmp_path / "parts", epochs=3, **recipe) == whole
