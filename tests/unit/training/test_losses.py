import math

import numpy as np
import pytest
import torch

from cloudseg.training.losses import build_loss, to_grid

AXES = (0, 2, 3)  # smp's Dice and Tversky count over the batch


def odds(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def entropy(logits, target):
    return -(target * np.log(odds(logits)) + (1 - target) * np.log(1 - odds(logits)))


def bce(logits, target):
    return entropy(logits, target).mean()


def focal(logits, target):
    of_truth = np.where(target > 0, odds(logits), 1 - odds(logits))
    return ((1 - of_truth) ** 2 * entropy(logits, target)).mean()


def dice(logits, target):
    p, present = odds(logits), target.sum(AXES) > 0
    return ((1 - 2 * (p * target).sum(AXES) / (p + target).sum(AXES)) * present).mean()


def tversky(logits, target):
    p, present = odds(logits), target.sum(AXES) > 0
    both, false, missed = (p * target).sum(AXES), (p * (1 - target)).sum(AXES), ((1 - p) * target).sum(AXES)
    return ((1 - both / (both + 0.3 * false + 0.7 * missed)) * present).mean()


def lovasz(logits, target):
    """Sum errors from the worst down, each times what it adds to 1 - Jaccard when it is made after the worse ones."""
    errors = (1 - logits.astype(np.float64) * (2 * target - 1)).ravel()
    truth, total, before = target.ravel() > 0, 0.0, 0.0
    wrong = np.zeros(truth.size, bool)
    for place in np.argsort(-errors, kind="stable"):
        wrong[place] = True
        predicted = truth ^ wrong
        jaccard_loss = 1 - (predicted & truth).sum() / (predicted | truth).sum()
        total, before = total + max(0.0, errors[place]) * (jaccard_loss - before), jaccard_loss
    return total


BY_HAND = {"bce": bce, "dice": dice, "focal": focal, "lovasz": lovasz, "tversky": tversky}


@pytest.mark.parametrize("terms", [*({name: 1} for name in BY_HAND), {"bce": 0.3, "dice": 2}, {"focal": 2, "dice": 1}])
def test_terms_are_weighted_and_summed(terms):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 2, 5, 7)).astype(np.float32)
    target = rng.integers(0, 2, (3, 2, 5, 7)).astype(np.float32)
    target[:, 1] = 0  # a class absent from the batch
    loss = build_loss(terms)(torch.from_numpy(logits), torch.from_numpy(target))
    expected = sum(weight * BY_HAND[name](logits, target) for name, weight in terms.items())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def dice_of_2019(logits, target, eps=1):
    """smp 0.1: f_score of everything in the batch, without a threshold, in its own words."""
    p = odds(logits)
    both = (p * target).sum()
    false, missed = p.sum() - both, target.sum() - both
    return 1 - (2 * both + eps) / (2 * both + missed + false + eps)


@pytest.mark.parametrize("truth", ["both classes", "one class", "nothing"])
def test_over_all_the_dice_is_that_of_smp_in_2019(truth):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 2, 5, 7)).astype(np.float32)
    target = rng.integers(0, 2, (3, 2, 5, 7)).astype(np.float32)
    target[:, {"both classes": [], "one class": [1], "nothing": [0, 1]}[truth]] = 0
    loss = build_loss({"bce": 1, "dice": 1}, dice_over="all")
    pair = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(target)
    assert loss(*pair).item() == pytest.approx(bce(logits, target) + dice_of_2019(logits, target), rel=1e-5)
    build_loss({"dice": 1}, dice_over="all")(*pair).backward()
    assert torch.count_nonzero(pair[0].grad) == logits.size  # an absent class counts by its false alarms


def test_what_dice_is_counted_over_is_a_known_word():
    with pytest.raises(ValueError, match="no dice_over is called 'al'; nearest: all"):
        build_loss({"dice": 1}, dice_over="al")


@pytest.mark.parametrize("terms", [{"bce": 1, "dice": 1}, {"focal": 1, "lovasz": 1, "tversky": 1}])
@pytest.mark.parametrize("grid", [None, (70, 100)])
def test_half_precision_logits_give_a_finite_float32_loss(terms, grid):
    logits = torch.full((8, 4, 96, 144), 3.0, dtype=torch.float16, requires_grad=True)
    loss = build_loss(terms, grid)(logits, torch.ones(8, 4, 96, 144, dtype=torch.uint8))
    loss.backward()
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("name", "sees"), [("bce", 1), ("focal", 1), ("lovasz", 1), ("dice", 0), ("tversky", 0)])
def test_what_each_term_sees_of_a_false_alarm_in_a_class_that_is_absent(name, sees):
    logits, target = torch.full((1, 2, 8, 8), 20.0, requires_grad=True), torch.zeros(1, 2, 8, 8)
    target[:, 0] = 1
    build_loss({name: 1})(logits, target).backward()
    # Dice and Tversky are blind to it: why they are never used alone
    assert torch.count_nonzero(logits.grad[:, 1]) == sees * 64


def test_of_an_empty_batch_lovasz_sees_the_worst_pixel_alone():
    logits = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    build_loss({"lovasz": 1})(logits, torch.zeros(2, 2, 4, 4)).backward()
    assert torch.count_nonzero(logits.grad) == 1
    assert logits.grad.argmax() == logits.argmax()


def blobs(count=2, size=(64, 96)):
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: size[0], : size[1]]
    masks = np.zeros((count, 3, *size), np.float32)
    for mask in masks.reshape(-1, *size):
        for _ in range(3):
            cy, cx, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(8, 20)
            mask[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 1
    return torch.from_numpy(masks)


@pytest.mark.parametrize("grid", [(32, 48), (35, 52), (70, 105), (128, 192), (50, 120)])
def test_a_faultless_network_is_faultless_on_another_grid(grid):
    target = blobs()
    logits, resized = to_grid(target * 2 - 1, target, grid)
    assert resized.shape == (2, 3, *grid)
    assert set(resized.unique().tolist()) == {0, 1}
    decided = logits.abs() > 1e-4
    assert torch.equal((logits > 0)[decided], (resized > 0)[decided])
    assert resized.mean((2, 3)).numpy() == pytest.approx(target.mean((2, 3)).numpy(), rel=0.05)
    # Nothing moves sideways: mirrored planes give mirrored results
    mirrored = to_grid((target * 2 - 1).flip(2, 3), target.flip(2, 3), grid)
    assert torch.equal(mirrored[1].flip(2, 3), resized)
    assert torch.allclose(mirrored[0].flip(2, 3), logits, atol=1e-4)


@pytest.mark.parametrize("grid", [(10, 14), (40, 60)])
def test_every_logit_has_a_part_in_the_loss_on_another_grid(grid):
    logits = torch.randn(1, 1, 32, 48, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = (torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    loss = build_loss({"bce": 1}, grid)(logits, target)
    resized = to_grid(logits, target, grid)
    assert loss.item() == pytest.approx(bce(*(each.detach().numpy() for each in resized)), rel=1e-5)
    loss.backward()
    assert torch.count_nonzero(logits.grad) == logits.numel()


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "needs at least one term"),
        ({"tversy": 1}, "no loss is called 'tversy'; nearest: tversky"),
        ({"bce": 1, "dicee": 1}, "no loss is called 'dicee'; nearest: dice"),
        ({"bce": 0}, "bce: the weight must be above 0"),
        ({"dice": math.nan}, "dice: the weight must be above 0"),
    ],
)
def test_bad_terms_are_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        build_loss(terms)
