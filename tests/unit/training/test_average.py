"""The mean of the networks of some epochs, and the statistics of its norms."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from network_fixtures import small_recipe, small_training, write_training_inputs
from torch import nn
from torch.optim import swa_utils

from cloudseg.config.recipe_parts import Average
from cloudseg.models.checkpoint_file import read_state
from cloudseg.models.preprocessing import normalise
from cloudseg.models.segmenter import Segmenter, build_model
from cloudseg.runtime import devices
from cloudseg.training import average as averaging
from cloudseg.training.average import average_of_epochs
from cloudseg.training.data.fold import load_fold
from cloudseg.training.distributed import SINGLE
from cloudseg.training.train import train
from cloudseg.training.trainer import Trainer

STATISTICS = "running_mean", "running_var", "num_batches_tracked"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_training_inputs(tmp_path_factory.mktemp("inputs"), train=18)


@pytest.fixture(autouse=True)
def settled():
    """Compute as trainings do, whatever ran before: bits depend on the number of threads."""
    devices.set_determinism(1, torch.device("cpu"))


def run(inputs, folder, **keys):
    job = small_training(inputs, folder, **keys)
    train(job)
    return job


@pytest.mark.parametrize("decay", [None, 0.67])
@pytest.mark.parametrize("of", ["last", "best"])
def test_the_mean_is_that_of_the_formula(of, decay):
    rng = np.random.default_rng(0)
    values, weights = rng.random(9), rng.normal(size=(9, 4, 3))
    gathered = average_of_epochs(Average(epochs=4, of=of, decay=decay), 9)
    for epoch in range(9):
        network = {"weight": torch.from_numpy(weights[epoch]).float(), "count": torch.tensor(epoch)}
        gathered.add(epoch + 1, values[epoch], network)
    taken = range(5, 9) if of == "last" else sorted(np.argsort(values)[-4:])
    expected = weights[list(taken)].mean(axis=0)
    if decay is not None:
        expected = weights[taken[0]]
        for epoch in taken[1:]:
            expected = decay * expected + (1 - decay) * weights[epoch]
    mean = gathered.mean()
    assert mean.epochs == [epoch + 1 for epoch in taken]
    np.testing.assert_allclose(mean.network["weight"], expected, rtol=0, atol=1e-6)
    assert mean.network["count"] == taken[-1]


def test_of_epochs_that_are_as_good_the_earlier_take_part_as_with_the_best():
    gathered = average_of_epochs(Average(epochs=2, of="best"), 5)
    for epoch, value in enumerate([0.5, 0.5, 0.4, 0.5, 0.5], start=1):
        gathered.add(epoch, value, {"weight": torch.tensor(0.0)})
    assert gathered.mean().epochs == [1, 2]


def oracle(job, weights):
    """Give a network some weights, and its norms their statistics by torch's own function."""
    model = build_model(job.encoder, job.decoder, 2)
    nn.Module.load_state_dict(model.network, weights)
    recipe = job.recipe
    data = load_fold(job, SINGLE, recipe.batch)
    data.batches.epoch = recipe.epochs
    images = [normalise(image, recipe.normalise.mean, recipe.normalise.std) for image, _ in data.train]
    assert len(images) == 2
    swa_utils.update_bn(images, model)
    return model.network.state_dict()


def test_the_average_is_the_mean_of_the_epochs_with_statistics_of_its_own(inputs, tmp_path):
    recipe = {"schedule": "constant", "learning_rate": 5e-3}
    second, third = (run(inputs, tmp_path / str(epochs), epochs=epochs, **recipe) for epochs in (2, 3))
    job = run(inputs, tmp_path / "average", epochs=3, average={"epochs": 2}, **recipe)
    for name in ("best", "last"):
        assert job.outputs[name].read_bytes() == third.outputs[name].read_bytes()
    networks = [read_state(each.outputs["last"])[0] for each in (second, third)]
    mean = {key: (networks[0][key].double() + networks[1][key].double()) / 2 for key in networks[0]}
    state, about = read_state(job.outputs["average"])
    expected = oracle(job, mean)
    for key, value in state.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)
        if key.endswith(STATISTICS[:2]):  # and they are not the mean of the epochs' own
            assert (value - mean[key]).abs().max() > 1e-4
    assert about == read_state(job.outputs["last"])[1]  # of the last epoch that takes part


def test_the_record_says_what_the_average_is_worth(inputs, tmp_path):
    job = run(inputs, tmp_path, epochs=3, average={"epochs": 2, "of": "best"}, best_by="dice_nonempty")
    record = json.loads(job.outputs["run"].read_text())
    history = pd.read_csv(job.outputs["history"], sep="\t")
    best = history.sort_values("valid_dice_nonempty", ascending=False, kind="stable")["epoch"][:2]
    assert record["average"]["epochs"] == sorted(best)
    assert list(record["average"]["valid"]) == [name for name in history.columns if "dice" in name or "valid" in name]
    assert 0 < record["average"]["valid"]["valid_dice_nonempty"] < 1
    assert set(record["sha256"]) == {"best", "last", "average"}


def test_without_one_nothing_speaks_of_an_average(inputs, tmp_path):
    job = run(inputs, tmp_path, epochs=1)
    assert "average" not in json.loads(job.outputs["run"].read_text())
    assert "averaged" not in torch.load(tmp_path / "training.state", weights_only=True)
    with pytest.raises(ValueError, match="average is None and the outputs are best, last, average; give both"):
        dataclasses.replace(job, outputs=dict.fromkeys(["best", "last", "average"]))


def test_a_mean_of_the_last_epochs_holds_one_network(inputs, tmp_path):
    sizes = {}
    for of, epochs in (("last", 2), ("last", 4), ("best", 2), ("best", 4)):
        run(inputs, tmp_path / f"{of}{epochs}", epochs=4, average={"epochs": epochs, "of": of})
        sizes[of, epochs] = (tmp_path / f"{of}{epochs}/training.state").stat().st_size
    network = (tmp_path / "last2/last.safetensors").stat().st_size
    assert abs(sizes["last", 4] - sizes["last", 2]) < 0.1 * network
    assert sizes["best", 4] - sizes["best", 2] == pytest.approx(2 * network, rel=0.5)


class Layers(nn.Module):
    """A network with norms on either side of what a recipe may freeze."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.decoder = nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))

    def forward(self, image):
        return self.decoder(self.encoder(image))


@pytest.mark.parametrize("frozen", [2, 3])
def test_norms_that_are_frozen_to_the_end_keep_their_statistics(frozen):
    trained = Trainer(Segmenter(Layers(), stride=1), small_recipe(freeze_encoder=frozen), "ab", SINGLE)
    image = torch.randint(256, (4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    trained.begin_epoch(3)
    averaging.renew_statistics(trained, [(image, 2)])
    encoder, decoder = trained.model.network.encoder[1], trained.model.network.decoder[0]
    assert (encoder.num_batches_tracked.item(), decoder.num_batches_tracked.item()) == (0 if frozen == 3 else 2, 2)
    assert (encoder.momentum, decoder.momentum) == (0.1, 0.1)
