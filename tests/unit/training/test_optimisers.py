"""Which weights learn, at which rate and by which rule."""

import itertools
import typing

import pytest
import torch
from network_fixtures import small_recipe
from torch import nn

from cloudseg.config.recipe import Recipe
from cloudseg.models.segmenter import Segmenter, build_model
from cloudseg.runtime import devices
from cloudseg.training.distributed import SINGLE
from cloudseg.training.optimisers import OPTIMISERS, build_optimiser, encoder_stages, parameter_groups
from cloudseg.training.trainer import Trainer

DECOUPLED = {"adamw", "nadam", "radam", "adafactor"}


@pytest.fixture(autouse=True)
def settled():
    """Compute as trainings do, whatever ran before: bits depend on the number of threads."""
    devices.set_determinism(1, torch.device("cpu"))


def pixels(seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (4, 32, 64, 3), dtype=torch.uint8, generator=generator)
    return image, torch.randint(4, (4, 32, 64, 1), dtype=torch.uint8, generator=generator)


class TwoParts(nn.Module):
    """A network with an encoder, as those of smp have it."""

    def __init__(self):
        super().__init__()
        # A bias before BatchNorm would have a gradient of rounding errors alone
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.SiLU()
        )
        self.decoder = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))

    def forward(self, image):
        return self.decoder(self.encoder(image))


def small(**recipe):
    torch.manual_seed(1)
    return Trainer(Segmenter(TwoParts(), stride=1), small_recipe(**recipe), "ab", SINGLE)


def state_of(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module, before):
    return {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}


def test_a_recipe_may_name_every_optimiser():
    assert sorted(typing.get_args(Recipe.model_fields["optimiser"].annotation)) == sorted(OPTIMISERS)


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_every_optimiser_learns_and_leaves_the_weights_of_a_norm_undecayed(name):
    rate = {"adadelta": 1.0, "sgd": 0.05, "radam": 0.02}.get(name, 0.005)
    trained = small(optimiser=name, learning_rate=rate, loss={"bce": 1})
    losses = [trained.train_step(*pixels(), learning_rate=rate).item() for _ in range(25)]
    assert losses[-1] < 0.98 * losses[0]
    assert {id(each) for each in trained._optimiser.param_groups[1]["params"]} == {
        id(each) for each in trained.model.parameters() if each.ndim == 1
    }
    assert [group["weight_decay"] for group in trained._optimiser.param_groups] == [0.01, 0]


@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_weights_decay_apart_from_the_gradient_where_torch_can(name):
    """With a gradient of 0 that alone moves them, by a share that no optimiser changes."""
    weight = nn.Parameter(torch.full((2, 2), 3.0))
    groups = parameter_groups(nn.ParameterList([weight]), small_recipe(weight_decay=0.1))
    optimiser = build_optimiser(groups, small_recipe(optimiser=name))
    for settings in optimiser.param_groups:
        settings["lr"] = 0.5
    weight.grad = torch.zeros_like(weight)
    optimiser.step()
    assert (weight[0, 0].item() == pytest.approx(3 * (1 - 0.5 * 0.1))) == (name in DECOUPLED)
    assert weight[0, 0].item() < 3


@pytest.mark.parametrize(
    ("recipe", "momentum"),
    [
        ({"optimiser": "sgd"}, 0.9),
        ({"optimiser": "sgd", "momentum": 0.5}, 0.5),
        ({"optimiser": "sgd", "momentum": 0}, 0),
    ],
)
def test_sgd_is_that_of_the_formula(recipe, momentum):
    """Sutskever and others 2013, as torch has it: v = m v + g, w = w - rate (g + m v)."""
    weight = nn.Parameter(torch.tensor([[1.0]]))
    model = nn.ParameterList([weight])
    optimiser = build_optimiser(parameter_groups(model, small_recipe(weight_decay=0)), small_recipe(**recipe))
    optimiser.param_groups[0]["lr"] = 0.1
    expected, velocity = 1.0, 0.0
    for gradient in (1.0, -3.0, 2.0):
        weight.grad = torch.tensor([[gradient]])
        optimiser.step()
        velocity = momentum * velocity + gradient
        expected -= 0.1 * (gradient + momentum * velocity)
        assert weight.item() == pytest.approx(expected, rel=1e-6)


def stage_of_names(model, size=64, channels=3):
    """Return the number of the stage of each weight of an encoder, by its name."""
    names = {id(weight): name for name, weight in model.network.encoder.named_parameters()}
    stages = encoder_stages(model, torch.zeros(1, channels, size, size))
    found = {names[id(weight)]: number for number, stage in enumerate(stages) for weight in stage}
    assert len(found) == sum(map(len, stages)) == len(names)  # each once
    return found


@pytest.mark.parametrize(("encoder", "stem"), [("resnet18", ""), ("tu-resnet18", "model.")])
def test_stages_of_a_resnet_are_its_own(encoder, stem):
    for name, stage in stage_of_names(build_model(encoder, "fpn", 2, channels=1), channels=1).items():
        layer = name.removeprefix(stem).split(".")[0]
        assert stage == (int(layer[-1]) if layer.startswith("layer") else 0), name


@pytest.mark.parametrize(
    ("encoder", "decoder", "blocks", "stages"),
    [
        ("efficientnet-b0", "unet", "_blocks.", 5),
        ("mit_b0", "segformer", "block", 4),
        ("tu-test_vit", "dpt", "model.blocks.", 4),
    ],
)
def test_stages_of_other_encoders_part_their_blocks_in_order(encoder, decoder, blocks, stages):
    found = stage_of_names(build_model(encoder, decoder, 2))
    numbers = {name.removeprefix(blocks).split(".")[0]: stage for name, stage in found.items() if blocks in name[:13]}
    in_order = [numbers[number] for number in sorted(numbers, key=int)]
    assert len(in_order) >= stages
    assert in_order == sorted(in_order)
    assert set(found.values()) == set(range(stages))
    stem = [name for name in found if "stem" in name or "patch_embed1" in name or "patch_embed." in name]
    assert stem
    assert {found[name] for name in stem} == {0}


def test_looking_for_stages_changes_nothing():
    model = build_model("tu-test_efficientnet", "fpn", 2)
    before, random = state_of(model), torch.get_rng_state()
    encoder_stages(model, torch.zeros(1, 3, 64, 64))
    assert changed(model, before) == set()
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())
    assert all(weight.grad is None for weight in model.parameters())


def test_each_stage_of_the_encoder_learns_at_its_rate():
    """By SGD without momentum, the clip out of the way: a step is minus the rate times the gradient."""
    rates = {"learning_rate": 0.1, "encoder_learning_rate": 0.02, "layer_decay": 0.5}
    recipe = small_recipe(optimiser="sgd", momentum=0, weight_decay=0, clip=1e9, **rates)
    torch.manual_seed(1)
    model = build_model("tu-resnet18", "fpn", 2)
    trained = Trainer(model, recipe, "ab", SINGLE, image_size=(32, 64))
    gradients = {}
    for name, weight in model.named_parameters():
        weight.register_hook(lambda gradient, name=name: gradients.__setitem__(name, gradient.clone()))
    before = state_of(model)
    trained.train_step(*pixels(), learning_rate=0.05)  # half of its peak, as a schedule has it
    seen = set()
    for name, weight in model.named_parameters():
        layer = name.removeprefix("network.encoder.model.").split(".")[0]
        depth = 5 - (int(layer[-1]) if layer.startswith("layer") else 0)
        rate = 0.05 if not name.startswith("network.encoder.") else 0.01 * 0.5**depth
        torch.testing.assert_close(weight.detach(), before[name] - rate * gradients[name], rtol=1e-5, atol=1e-7)
        seen.add(rate)
    assert len(seen) == 6


def test_without_rates_of_its_own_the_encoder_is_like_the_rest():
    model = build_model("tu-test_resnet", "linknet", 2)
    first, second = parameter_groups(model, small_recipe())
    weights = list(model.parameters())
    assert [id(each) for each in first.parameters] == [id(each) for each in weights if each.ndim > 1]
    assert [id(each) for each in second.parameters] == [id(each) for each in weights if each.ndim == 1]
    assert first.learning_rate(small_recipe(), 0.123) == second.learning_rate(small_recipe(), 0.123) == 0.123


@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "radam"])
def test_a_frozen_encoder_does_not_change_and_then_does(optimiser):
    trained = small(freeze_encoder=2, ema=0.5, optimiser=optimiser)
    encoder, rest = trained.model.network.encoder, trained.model.network.decoder
    for epoch, seeds in itertools.groupby(range(6), lambda seed: 1 + seed // 2):
        trained.begin_epoch(epoch)
        before, rest_before = state_of(encoder), state_of(rest)
        for seed in seeds:
            trained.train_step(*pixels(seed), learning_rate=0.01)
        assert changed(encoder, before) == (set() if epoch <= 2 else set(before))
        assert changed(rest, rest_before) == set(rest_before)
        if epoch == 2:  # which the moving average does not move, either
            assert changed(trained.eval_model.network.encoder, before) == set()
    assert encoder[2].training  # its dropout, too


def test_weights_that_never_learn_stay_so_when_the_encoder_thaws():
    torch.manual_seed(1)
    network = TwoParts()
    network.encoder[1].bias.requires_grad_(False)
    trained = Trainer(Segmenter(network, stride=1), small_recipe(freeze_encoder=1), "ab", SINGLE)
    for epoch in (1, 2):
        trained.begin_epoch(epoch)
        assert not network.encoder[1].bias.requires_grad
    assert network.encoder[0].weight.requires_grad
