import math

import numpy as np
import pytest
import torch

from cloudseg.network.losses import build_loss


def by_hand(logits, target, bce, dice):
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    axes = (0, 2, 3)  # over the batch, as smp does
    overlap = 1 - 2 * (p * target).sum(axes) / (p + target).sum(axes)
    return bce * entropy + dice * (overlap * (target.sum(axes) > 0)).mean()


@pytest.mark.parametrize("terms", [{"bce": 1}, {"dice": 1}, {"bce": 0.3, "dice": 2}])
def test_terms_are_weighted_and_summed(terms):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 2, 5, 7)).astype(np.float32)
    target = rng.integers(0, 2, (3, 2, 5, 7)).astype(np.float32)
    target[:, 1] = 0  # a class absent from the batch
    loss = build_loss(terms)(torch.from_numpy(logits), torch.from_numpy(target))
    assert loss.item() == pytest.approx(by_hand(logits, target, terms.get("bce", 0), terms.get("dice", 0)), rel=1e-5)


def test_half_precision_logits_give_a_finite_float32_loss():
    logits = torch.full((8, 4, 96, 144), 3.0, dtype=torch.float16, requires_grad=True)
    loss = build_loss({"bce": 1, "dice": 1})(logits, torch.ones(8, 4, 96, 144, dtype=torch.uint8))
    loss.backward()
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    assert torch.isfinite(logits.grad).all()


def test_dice_alone_does_not_see_a_false_alarm_and_bce_does():
    everywhere, nowhere = torch.full((1, 1, 8, 8), 20.0), torch.zeros(1, 1, 8, 8)
    assert build_loss({"dice": 1})(everywhere, nowhere) == 0  # why it is never used alone
    assert build_loss({"bce": 1, "dice": 1})(everywhere, nowhere) > 10


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "needs at least one term"),
        ({"bce": 1, "dicee": 1}, "no loss is called 'dicee'; nearest: dice"),
        ({"bce": 0}, "bce: the weight must be above 0"),
        ({"dice": math.nan}, "dice: the weight must be above 0"),
    ],
)
def test_bad_terms_are_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        build_loss(terms)
