import numpy as np
import pytest
import torch

from cloudseg.config.json_schema import json_schema
from cloudseg.config.recipe import Recipe
from cloudseg.training.schedules import SCHEDULES, constant, cosine, one_cycle, reductions, warmup_steps


def torch_rates(steps, make):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimiser)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


def test_cosine_warms_up_to_the_peak_and_goes_down_to_nothing():
    for warmup in (0, 0.5, 1, 7.5, 20):
        rates = np.array([cosine(step, 100, warmup) for step in range(100)])
        assert rates.max() == pytest.approx(1, abs=0.01)
        peak = rates.argmax()
        assert abs(peak - max(0, warmup - 1)) <= 1
        assert (np.diff(rates[: peak + 1]) > 0).all()
        assert (np.diff(rates[peak:]) <= 0).all()
        assert 0 < rates[-1] < 0.01
    assert cosine(0, 1, 5) > 0  # a training shorter than its warm-up


def test_cosine_without_warm_up_is_that_of_torch():
    expected = torch_rates(50, lambda optimiser: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 50))
    assert [cosine(step, 50, 0) for step in range(50)] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("warmup", [0, 0.5, 1, 7.5])
def test_constant_warms_up_as_cosine_does_and_stays(warmup):
    rates = [constant(step, 40, warmup) for step in range(40)]
    rising = [step for step in range(40) if step + 1 < warmup]
    assert [rates[step] for step in rising] == [cosine(step, 40, warmup) for step in rising]
    assert set(rates[len(rising) :]) == {1}


@pytest.mark.parametrize("steps", [4, 10, 37, 100])
@pytest.mark.parametrize("pct_start", [0.033, 0.3, 0.95, None])
def test_one_cycle_is_that_of_torch(steps, pct_start):
    share = {} if pct_start is None else {"pct_start": pct_start}
    expected = torch_rates(
        steps - 1,
        lambda optimiser: torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, steps, cycle_momentum=False, **share),
    )
    warmup = warmup_steps(Recipe(epochs=1, schedule="one_cycle", **share), steps)
    assert [one_cycle(step, steps, warmup) for step in range(steps - 1)] == pytest.approx(expected, abs=1e-12)
    assert one_cycle(steps - 1, steps, warmup) == pytest.approx(1 / 25 / 10_000)


def test_one_cycle_whose_way_up_is_one_step_begins_at_the_peak():
    """Torch divides by zero there."""
    assert [one_cycle(step, 10, 1) for step in (0, 9)] == pytest.approx([1, 1 / 25 / 10_000])


@pytest.mark.parametrize("patience", range(4))
def test_plateau_is_that_of_torch(patience):
    rng = np.random.default_rng(patience)
    for _ in range(20):
        values = rng.integers(0, 12, 30) / 10 + np.arange(30) / 60  # ties, and a slow way up
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, mode="max", factor=0.5, patience=patience, threshold=0, eps=0
        )
        for epoch, value in enumerate(values, start=1):
            scheduler.step(value)
            assert 0.5 ** reductions(values[:epoch], patience) == optimiser.param_groups[0]["lr"]


def test_a_recipe_may_name_every_schedule():
    assert sorted(json_schema(Recipe)["properties"]["schedule"]["enum"]) == sorted(SCHEDULES)
