"""One step of learning, and what a recipe may change in it."""

import copy
import functools

import pytest
import torch
from network_fixtures import small_recipe
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from cloudseg.models.segmenter import Segmenter, build_model
from cloudseg.runtime import devices
from cloudseg.training.distributed import SINGLE
from cloudseg.training.trainer import Trainer


@pytest.fixture(autouse=True)
def settled():
    """Compute as trainings do, whatever ran before: bits depend on the number of threads."""
    devices.set_determinism(1, torch.device("cpu"))


def pixels(count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (count, 32, 48, 3), dtype=torch.uint8, generator=generator)
    return image, torch.randint(4, (count, 32, 48, 1), dtype=torch.uint8, generator=generator)


def small(norm=True):
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8) if norm else nn.ReLU(), nn.Conv2d(8, 2, 1)]
    return Segmenter(nn.Sequential(*layers), stride=1)


def trainer(model=None, **recipe):
    return Trainer(model or small(), small_recipe(**recipe), "ab", SINGLE)


def steps(trained, count=5):
    return [trained.train_step(*pixels(seed=seed), learning_rate=0.01).item() for seed in range(count)]


def test_the_average_follows_the_weights_by_its_formula():
    trained = trainer(ema=0.5)
    wanted, share = None, None
    for seed in range(10):
        trained.train_step(*pixels(seed=seed), learning_rate=0.05)
        now = {key: value.detach().double().clone() for key, value in trained.model.state_dict().items()}
        decay = min(0.5, (1 + seed) / (10 + seed))
        share = decay if wanted is None else max(share, decay)
        wanted = now if wanted is None else {key: decay * wanted[key] + (1 - decay) * now[key] for key in now}
    assert share == 0.5  # so both sides of the formula were used
    for key, value in trained.eval_model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), wanted[key], rtol=1e-5, atol=1e-6)
        else:
            assert value == 10
    assert trained.eval_model is not trained.model


def test_the_average_is_what_is_validated():
    trained = trainer(ema=0.9)
    steps(trained)
    trained.eval_model.eval()
    image, mask = pixels()
    _, logits, _ = trained.eval_step(image, mask)
    with torch.no_grad():
        torch.testing.assert_close(logits, trained.eval_model(trained._to_network(image)), rtol=0, atol=0)
        trained.model.eval()
        assert not torch.equal(logits, trained.model(trained._to_network(image)))


def test_micro_batches_give_the_gradient_of_the_whole():
    whole, cut = trainer(small(norm=False), loss={"bce": 1}), trainer(small(norm=False), loss={"bce": 1})
    image, mask = pixels(7)
    for _ in range(3):
        first = whole.train_step(image, mask, learning_rate=1e-3)
        second = cut.train_step(image, mask, learning_rate=1e-3, accumulation_steps=3)
        torch.testing.assert_close(first, second, rtol=1e-5, atol=0)
    for one, other in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_with_norms_micro_batches_are_another_training():
    whole, cut = trainer(), trainer()
    whole.train_step(*pixels(), learning_rate=1e-3)
    cut.train_step(*pixels(), learning_rate=1e-3, accumulation_steps=4)
    assert not torch.equal(whole.model.network[1].running_var, cut.model.network[1].running_var)


@pytest.mark.parametrize("channels_last", [True, False])
def test_layout_is_an_option_that_changes_no_more_than_rounding(channels_last):
    trained = trainer(build_model("tu-test_resnet", "fpn", 2), channels_last=channels_last)
    layouts = {
        value.is_contiguous(memory_format=torch.channels_last)
        for value in trained.model.parameters()
        if value.ndim == 4 and value.shape[1] > 1 and value.shape[2] > 1
    }
    assert layouts == {channels_last}
    assert steps(trainer(channels_last=channels_last), 3) == pytest.approx(steps(trainer(), 3), rel=1e-4)


def depthwise():
    """A network whose depthwise convolution has a class of its own, as those of timm that pad by themselves."""

    class Padded(nn.Conv2d):
        def forward(self, image):
            return nn.functional.conv2d(image, self.weight, self.bias, padding=1, groups=self.groups)

    torch.manual_seed(1)
    layers = nn.Conv2d(3, 8, 3, padding=1), Padded(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)
    return Segmenter(nn.Sequential(*layers), stride=1)


def dtypes_seen(trained):
    """What the convolutions of the trained network, and of the one that is validated, compute in."""
    seen = {}

    def look(key):
        def hook(layer, arguments, out):
            seen.setdefault(key, out.dtype)

        return hook

    for which, model in (("model", trained.model), ("eval_model", trained.eval_model)):
        for name, layer in model.network.named_children():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(look((which, name)))
    trained.train_step(*pixels(), learning_rate=0.01)
    trained.eval_model.eval()
    trained.eval_step(*pixels())
    return seen


def test_depthwise_convolutions_stay_in_float32_when_a_cpu_trains_in_bfloat16():
    half, single = torch.bfloat16, torch.float32
    expected = {"0": half, "1": single, "3": half}
    seen = dtypes_seen(trainer(depthwise(), precision="bf16", ema=0.5))
    assert seen == {(which, name): dtype for which in ("model", "eval_model") for name, dtype in expected.items()}
    assert set(dtypes_seen(trainer(depthwise(), precision="float32")).values()) == {single}


def test_in_float32_no_layer_is_touched():
    model = depthwise()
    kinds = [type(layer) for layer in model.modules()]
    trainer(model, precision="float32")
    assert [type(layer) for layer in model.modules()] == kinds


def test_bfloat16_learns_what_float32_does():
    halves, singles = (trainer(depthwise(), precision=precision, ema=0.5) for precision in ("bf16", "float32"))
    assert steps(halves) == pytest.approx(steps(singles), rel=0.01)
    assert halves.state_dict()["model"].keys() == singles.state_dict()["model"].keys()
    for key, value in singles.eval_model.state_dict().items():  # the average is of its own weights
        # A bias before BatchNorm has a gradient of rounding errors alone, which Adam makes whole steps of
        if key != "network.1.bias":
            torch.testing.assert_close(halves.eval_model.state_dict()[key], value, rtol=0.1, atol=0.02)


def test_half_precision_learns_with_a_scaler_and_losses_in_float32():
    trained = trainer(precision="fp16")
    assert trained.dtype == torch.float16
    losses = steps(trained)
    assert trained.state_dict()["scaler"]["scale"] > 1
    assert losses == pytest.approx(steps(trainer()), rel=0.01)
    assert all(value.dtype == torch.float32 for value in trained.model.parameters())


def test_a_gradient_that_overflows_is_left_out_and_the_scale_halved():
    trained = trainer(precision="fp16")
    trained._scaler._init_scale = 2.0**60  # the loss times this is beyond float16
    before = [value.detach().clone() for value in trained.model.parameters()]
    trained.train_step(*pixels(), learning_rate=0.01)
    assert all(torch.equal(one, other) for one, other in zip(before, trained.model.parameters(), strict=True))
    assert trained.state_dict()["scaler"]["scale"] == 2.0**59


def test_a_compiled_network_learns_the_same(monkeypatch):
    """Of torch's compiler the part that reads our code; what makes C++ of it takes half a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    assert steps(trainer(compile=True), 3) == pytest.approx(steps(trainer(), 3), rel=1e-4)


def test_a_network_is_compiled_for_the_size_of_each_stage(monkeypatch):
    """torch compiles eight of them and no more, and then computes as if nobody had asked for it."""
    compiled = CompileCounterWithBackend("eager")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=compiled))
    sizes = [f"{32 + 2 * number}x48" for number in range(10)]
    trained = trainer(compile=True, epochs=10, stages=[{"epochs": 1, "size": size} for size in sizes])
    image, mask = pixels()
    counts = []
    for epoch in range(1, 11):
        trained.begin_epoch(epoch)
        rows = 12 + 2 * epoch
        trained.train_step(image[:, :rows], mask[:, :rows], learning_rate=0.01)
        counts.append(compiled.frame_count)
    assert counts == sorted(set(counts))


def test_the_state_holds_all_that_the_next_step_depends_on():
    recipe = {"ema": 0.9, "precision": "fp16"}
    one, other = trainer(**recipe), trainer(**recipe)
    steps(one, 3)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    one.train_step(*pixels(seed=9), learning_rate=0.01)
    other.train_step(*pixels(seed=9), learning_rate=0.01)
    for which in ("model", "eval_model"):
        states = (getattr(each, which).state_dict() for each in (one, other))
        for value, same in zip(*(state.values() for state in states), strict=True):
            assert torch.equal(value, same)


def test_busy_seconds_are_those_of_the_steps():
    trained = trainer()
    assert trained.busy.seconds() == 0
    steps(trained, 2)
    assert trained.busy.seconds() > 0
