"""Stages of a training: each goes by numbers of its own, and all are one training."""

import json

import pandas as pd
import pytest
import torch
from network_fixtures import result, small_training, write_training_inputs

from cloudseg.training import losses, trainer
from cloudseg.training.finished import STATE
from cloudseg.training.schedules import constant, cosine
from cloudseg.training.train import train


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_training_inputs(tmp_path_factory.mktemp("inputs"))


def run(inputs, out, **recipe):
    train(small_training(inputs, out, **recipe))
    return result(out)


def staged(*stages, **recipe):
    return {"epochs": sum(stage["epochs"] for stage in stages), "stages": stages, **recipe}


def resumed(out):
    return json.loads((out / "run.json").read_text())["epochs"]["resumed"]


def test_stages_that_change_nothing_are_one_training(inputs, tmp_path):
    recipe = {"schedule": "constant", "warmup": 0, "ema": 0.9}
    assert run(inputs, tmp_path / "two", **staged({"epochs": 1}, {"epochs": 2}, **recipe)) == run(
        inputs, tmp_path / "one", epochs=3, **recipe
    )


def test_each_stage_has_its_schedule_its_warm_up_and_its_rates(inputs, tmp_path, monkeypatch):
    rates = []

    class Spy(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    second = {"epochs": 3, "learning_rate": 1e-4, "encoder_learning_rate": 1e-5, "schedule": "constant", "warmup": 1}
    first = {"encoder_learning_rate": 2e-4, "learning_rate": 1e-3, "warmup": 0.5}
    run(inputs, tmp_path, **staged({"epochs": 2}, second, batch=2, **first))
    steps = len(rates) // 5
    assert steps == 2
    shares = [cosine(step, 2 * steps, 0.5 * steps) for step in range(2 * steps)]
    expected = [(1e-3 * share, 2e-4 * share) for share in shares]
    shares = [constant(step, 3 * steps, steps) for step in range(3 * steps)]
    expected += [(1e-4 * share, 1e-5 * share) for share in shares]
    for rest, undecayed, encoder, _ in rates:
        wanted_rest, wanted_encoder = expected.pop(0)
        assert rest == undecayed == pytest.approx(wanted_rest, rel=1e-9)
        assert encoder == pytest.approx(wanted_encoder, rel=1e-9)


def test_a_plateau_waits_anew_in_each_stage(inputs, tmp_path):
    """Nothing gets better at these rates, so each stage lowers its own after its second epoch."""
    recipe = {"learning_rate": 1e-12, "schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.1, "warmup": 0}
    run(inputs, tmp_path, **staged({"epochs": 3}, {"epochs": 3}, best_by="dice", **recipe))
    rates = pd.read_csv(tmp_path / "history.tsv", sep="\t")["learning_rate"]
    assert list(rates) == pytest.approx([1e-12, 1e-12, 1e-13] * 2)


def test_each_stage_has_its_loss(inputs, tmp_path, monkeypatch):
    seen = []

    def loss_of_recipe(recipe, classes, grid):
        seen.append(recipe.loss.terms)
        return losses.loss_of_recipe(recipe, classes, grid)

    monkeypatch.setattr(trainer, "loss_of_recipe", loss_of_recipe)
    run(inputs, tmp_path, **staged({"epochs": 2}, {"epochs": 1, "loss": {"symmetric_lovasz": 1}}, loss={"bce": 1}))
    assert seen == [{"bce": 1}, {"symmetric_lovasz": 1}]
    history = pd.read_csv(tmp_path / "history.tsv", sep="\t")
    assert history["train_loss"][2] > 1.2 * history["train_loss"][1]  # a hinge, and no cross entropy


LOVASZ = {"epochs": 2, "loss": {"symmetric_lovasz": 1}, "learning_rate": 1e-4}


def test_a_stage_that_is_added_goes_on_from_what_was_trained(inputs, tmp_path):
    """A cosine that has come to its end is over, whatever comes after it."""
    run(inputs, tmp_path / "more", epochs=2)
    whole = run(inputs, tmp_path / "whole", **staged({"epochs": 2}, LOVASZ))
    assert run(inputs, tmp_path / "more", **staged({"epochs": 2}, LOVASZ)) == whole
    assert resumed(tmp_path / "more") == [{"after": 2, "of": 2}]
    longer = staged({"epochs": 2}, LOVASZ, {"epochs": 1, "learning_rate": 1e-5})
    assert run(inputs, tmp_path / "more", **longer) == run(inputs, tmp_path / "longer", **longer)
    assert resumed(tmp_path / "more") == [{"after": 2, "of": 2}, {"after": 4, "of": 4}]
    assert torch.load(tmp_path / "more" / STATE, weights_only=True)["stages"][0] == {"epochs": 2}


@pytest.mark.parametrize(
    "change",
    [
        staged({"epochs": 1}, LOVASZ | {"epochs": 3}),  # another stage went by these epochs
        staged({"epochs": 2}, LOVASZ | {"epochs": 3}),  # a cosine that is longer
        staged({"epochs": 2}, LOVASZ | {"learning_rate": 2e-4}),
    ],
)
def test_another_stage_of_epochs_that_are_done_begins_anew(inputs, tmp_path, capsys, change):
    run(inputs, tmp_path, **staged({"epochs": 2}, LOVASZ))
    capsys.readouterr()
    run(inputs, tmp_path, **change)
    assert "of epochs that other stages went by; training from the beginning" in capsys.readouterr().out
    assert resumed(tmp_path) == []


def test_a_last_stage_goes_on_where_its_schedule_permits(inputs, tmp_path):
    last = {"epochs": 1, "schedule": "constant", "learning_rate": 1e-4}
    run(inputs, tmp_path / "more", **staged({"epochs": 1}, last))
    longer = staged({"epochs": 1}, last | {"epochs": 2})
    assert run(inputs, tmp_path / "more", **longer) == run(inputs, tmp_path / "whole", **longer)
    assert resumed(tmp_path / "more") == [{"after": 2, "of": 2}]
