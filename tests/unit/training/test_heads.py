"""Networks that say which classes are in an image, beside masks or alone, and trainings that validate nothing."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from network_fixtures import result, small_recipe, small_training, write_training_inputs
from torch import nn
from torch.nn import functional

from cloudseg.models.segmenter import Segmenter
from cloudseg.runtime import devices
from cloudseg.training.distributed import SINGLE, run_together
from cloudseg.training.train import train
from cloudseg.training.trainer import Trainer


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_training_inputs(tmp_path_factory.mktemp("inputs"), train=18)


@pytest.fixture(autouse=True)
def settled():
    """Compute as trainings do, whatever ran before: bits depend on the number of threads."""
    devices.set_determinism(1, torch.device("cpu"))


class Headed(nn.Module):
    """A network with a classification head, or with nothing else; its masks do not depend on the head."""

    def __init__(self, masks=True):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU())
        self.head = nn.Linear(8, 2)
        self.masks = nn.Conv2d(8, 2, 1) if masks else None

    def forward(self, image):
        features = self.encoder(image)
        return self.masks and self.masks(features), self.head(features.mean((2, 3)))


class Cropping(Segmenter):
    """A segmenter for networks that may give no masks."""

    def forward(self, image):
        return self.network(image)


def trainer(masks=True, **recipe):
    torch.manual_seed(1)
    return Trainer(Cropping(Headed(masks), stride=1), small_recipe(**recipe), "ab", SINGLE)


def pixels():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (4, 16, 24, 3), dtype=torch.uint8, generator=generator)
    mask = torch.randint(4, (4, 16, 24, 1), dtype=torch.uint8, generator=generator)
    mask[:2] &= 1  # no second class in these
    return image, mask


def losses_by_hand(trained):
    """Cross entropy per pixel, and per image of whether a class is in it."""
    image, mask = pixels()
    with torch.no_grad():
        masks, classes = trained.model(trained._to_network(image))
    target = torch.stack([mask[..., 0] & 1, mask[..., 0] >> 1], dim=1).float()
    presence = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    of_masks = None if masks is None else functional.binary_cross_entropy_with_logits(masks, target).item()
    return of_masks, functional.binary_cross_entropy_with_logits(classes, presence).item()


def test_a_head_adds_its_cross_entropy_by_its_weight():
    trained = trainer(loss={"bce": 1}, head={"weight": 0.3})
    of_masks, of_classes = losses_by_hand(trained)
    assert trained.eval_step(*pixels()).loss.item() == pytest.approx(of_masks + 0.3 * of_classes, rel=1e-5)
    assert trained.train_step(*pixels(), learning_rate=0.01) == pytest.approx(4 * (of_masks + 0.3 * of_classes))


def test_a_classifier_learns_by_its_cross_entropy_alone():
    trained = trainer(masks=False)
    _, of_classes = losses_by_hand(trained)
    evaluated = trained.eval_step(*pixels())
    assert evaluated.logits is None
    assert evaluated.loss.item() == pytest.approx(of_classes, rel=1e-5)
    losses = [trained.train_step(*pixels(), learning_rate=0.05).item() for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


def test_of_a_classifier_the_best_epoch_is_that_of_the_least_loss(inputs, tmp_path, capsys):
    recipe = {"best_by": "loss", "epochs": 3, "average": {"epochs": 2, "of": "best"}}
    train(small_training(inputs, tmp_path, job={"decoder": "classifier"}, **recipe))
    history = pd.read_csv(tmp_path / "history.tsv", sep="\t")
    assert history[["valid_dice", "dice_a", "dice_b"]].isna().all(axis=None)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["epochs"]["best"] == history["valid_loss"].idxmin() + 1
    assert list(record["average"]["valid"]) == ["valid_loss"]
    assert "Dice" not in capsys.readouterr().out


HEADED = {"head": {"weight": 0.5, "dropout": 0.5}, "mixup": {"p": 0.7}, "cutmix": {"p": 0.3}}


@pytest.mark.parametrize(
    ("decoder", "recipe"),
    [("linknet", HEADED), ("classifier", {"best_by": "loss", "freeze_encoder": 2, "average": {"epochs": 2}})],
)
def test_heads_and_mixes_go_on_where_they_stopped(inputs, tmp_path, decoder, recipe):
    recipe = {"job": {"decoder": decoder}, "schedule": "constant", **recipe}
    train(small_training(inputs, tmp_path / "whole", epochs=4, **recipe))
    for epochs in (2, 4):
        train(small_training(inputs, tmp_path / "parts", epochs=epochs, **recipe))
    assert json.loads((tmp_path / "parts/run.json").read_text())["epochs"]["resumed"] == [{"after": 2, "of": 2}]
    assert result(tmp_path / "parts") == result(tmp_path / "whole")


@pytest.mark.parametrize("decoder", ["linknet", "classifier"])
def test_ranks_learn_heads_together(inputs, tmp_path, decoder):
    recipe = {"gpus": 2, "epochs": 2, "best_by": "loss", "average": {"epochs": 2}, "freeze_encoder": 1}
    recipe |= {"head": {}} if decoder == "linknet" else {}
    run_together(
        train, 2, torch.device("cpu"), job=small_training(inputs, tmp_path, job={"decoder": decoder}, **recipe)
    )
    history = pd.read_csv(tmp_path / "history.tsv", sep="\t")
    assert np.isfinite(history[["train_loss", "valid_loss"]]).all(axis=None)
    assert list(json.loads((tmp_path / "run.json").read_text())["sha256"]) == ["best", "last", "average"]


def test_a_training_on_all_images_validates_nothing_and_keeps_its_last_network(inputs, tmp_path, capsys):
    recipe = {"average": {"epochs": 2}, "best_by": "dice_nonempty"}
    whole = small_training(inputs, tmp_path / "whole", job={"fold": "all"}, **recipe)
    train(whole)
    assert whole.outputs["best"].read_bytes() == whole.outputs["last"].read_bytes()
    history = pd.read_csv(whole.outputs["history"], sep="\t")
    assert history[["valid_loss", "valid_dice", "dice_a", "dice_b"]].isna().all(axis=None)
    assert np.isfinite(history["train_loss"]).all()
    record = json.loads(whole.outputs["run"].read_text())
    assert (record["fold"], record["images"]) == ("all", {"train": 18, "valid": 0})
    assert record["epochs"] == {"run": 3, "best": 3, "resumed": []}
    assert record["average"] == {"epochs": [2, 3], "valid": {}}
    said = capsys.readouterr().out
    assert "valid" not in said
    assert "(best)" not in said


def test_a_training_on_all_images_goes_on_where_it_stopped(inputs, tmp_path):
    recipe = {"job": {"fold": "all"}, "schedule": "constant", "cutmix": {"p": 1}}
    train(small_training(inputs, tmp_path / "whole", epochs=3, **recipe))
    for epochs in (2, 3):
        train(small_training(inputs, tmp_path / "parts", epochs=epochs, **recipe))
    assert result(tmp_path / "parts") == result(tmp_path / "whole")


def test_soft_masks_train_and_bits_validate(inputs, tmp_path):
    """Targets of MixUp lie between; a recipe of no mixing at all has the same images, and the same validation."""
    still = {"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0, "loss": {"bce": 1}}
    names = {"mixed": {"mixup": {"p": 1}}, "plain": {}}
    for name, mix in names.items():
        train(small_training(inputs, tmp_path / name, **still | mix))
    mixed, plain = (pd.read_csv(tmp_path / name / "history.tsv", sep="\t") for name in names)
    assert np.isfinite(mixed["train_loss"]).all()
    assert (mixed["train_loss"] != plain["train_loss"]).all()
    assert mixed["valid_loss"].to_numpy() == pytest.approx(plain["valid_loss"].to_numpy(), rel=0.05)
