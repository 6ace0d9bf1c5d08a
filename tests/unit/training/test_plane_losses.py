"""Losses of recipes: by plane, of planes that hold truth alone, by class weights, with smoothing, of soft targets."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import yaml

from cloudseg.config.reading import read_config
from cloudseg.config.recipe import Recipe
from cloudseg.config.recipe_checks import recipe_problems
from cloudseg.training.losses import (
    TERMS,
    build_loss,
    head_loss,
    holds_truth,
    loss_of_recipe,
    symmetric_lovasz,
    to_grid,
)

CLASSES = ["a", "b", "c"]
WEIGHTS = {"c": 5, "a": 1, "b": 3}  # not in the order of the classes
SHAPE = (4, 3, 5, 7)
POSITIVE = {"loss_planes": "positive", "dice_over": "plane", "dice_smooth": 1}


def pair(seed=0, *, soft=False, shape=SHAPE):
    """Logits, and a target with planes of many kinds: of some pixels, of one, of none, of all."""
    rng = np.random.default_rng(seed)
    logits = (2 * rng.normal(size=shape)).astype(np.float32)
    target = (rng.uniform(size=shape) < rng.uniform(0.1, 0.9, (*shape[:2], 1, 1))).astype(np.float32)
    target[0, 0] = target[1:3, 1] = target[:, 2] = 0
    target[1, 2, 0, 0] = target[3, 0] = 1
    if soft:
        target = (rng.integers(0, 256, shape) * target / 255).astype(np.float32)
    return torch.from_numpy(logits).requires_grad_(), torch.from_numpy(target)


def value_and_gradient(loss, logits, target):
    logits = logits.detach().requires_grad_()
    value = loss(logits, target)
    value.backward()
    return value.detach(), logits.grad


# The definitions, of one plane or of any other set of pixels, in float64


def probability(z):
    return 1 / (1 + np.exp(-z))


def entropy(z, y):
    return -(y * np.log(probability(z)) + (1 - y) * np.log(1 - probability(z)))


def bce(z, y):
    return entropy(z, y).mean()


def focal(z, y):
    return ((1 - np.exp(-entropy(z, y))) ** 2 * entropy(z, y)).mean()


def dice(z, y, smooth):
    p = probability(z)
    if not smooth and not y.any():
        return 0.0
    return 1 - (2 * np.minimum(p, y).sum() + smooth) / (p.sum() + y.sum() + smooth)


def tversky(z, y):
    p = probability(z)
    both = np.minimum(p, y).sum()
    return 1 - both / (both + 0.3 * (p.sum() - both) + 0.7 * (y.sum() - both)) if y.any() else 0.0


def jaccard_loss(inside, truth):
    union = (inside | truth).sum()
    return 1 - (inside & truth).sum() / union if union else 0.0


def lovasz(z, y):
    """The Lovasz extension as an integral: of the Jaccard loss of all that errs by more than t, over t from 0 up."""
    hinges, truth = np.maximum(1 - z * (2 * y - 1), 0).ravel(), y.ravel() > 0
    levels = np.unique(np.append(hinges, 0))
    # Between two levels the same pixels are wrong
    return sum((b - a) * jaccard_loss(truth ^ (hinges > a), truth) for a, b in itertools.pairwise(levels))


def both_ways(z, y):
    return (lovasz(z, y) + lovasz(-z, 1 - y)) / 2


OF_PLANE = {"bce": bce, "focal": focal, "dice": dice, "symmetric_lovasz": both_ways}


def mean_by_hand(of_plane, logits, target, *, weights=None, positive=False):
    z, y = logits.detach().double().numpy(), target.double().numpy()
    weights = np.array(weights or [1] * z.shape[1]) / np.mean(weights or 1)
    values = [
        weights[c] * of_plane(z[n, c], y[n, c]) * (not positive or y[n, c].max() >= 0.5)
        for n, c in np.ndindex(z.shape[:2])
    ]
    return np.mean(values)


CASES = [  # smoothing is of Dice alone, and the Lovasz hinge needs masks
    *itertools.product(["bce", "focal"], [None], [False, True]),
    *itertools.product(["dice"], [None, 1, 10], [False, True]),
    ("symmetric_lovasz", None, False),
]


@pytest.mark.parametrize(("name", "smooth", "soft"), CASES)
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("weights", [None, [1, 3, 5]])
def test_each_term_by_plane_is_the_mean_of_its_definition(name, smooth, soft, positive, weights):
    logits, target = pair(soft=soft)
    options = {"dice_over": "plane", "dice_smooth": smooth, "class_weights": weights, "soft_targets": soft}
    loss = build_loss({name: 1}, loss_planes="positive" if positive else "all", **options)
    of_plane = (lambda z, y: dice(z, y, smooth or 0)) if name == "dice" else OF_PLANE[name]
    expected = mean_by_hand(of_plane, logits, target, weights=weights, positive=positive)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [None, [1, 3, 5]])
@pytest.mark.parametrize("smooth", [None, 0, 10])
@pytest.mark.parametrize("soft", [False, True])
def test_dice_of_classes_and_of_all_pixels(weights, smooth, soft):
    logits, target = pair(soft=soft)
    target[:, 2] = 0  # absent from the batch
    z, y = logits.detach().double().numpy(), target.double().numpy()
    by_class = [dice(z[:, c], y[:, c], smooth or 0) for c in range(3)]
    loss = build_loss({"dice": 1}, dice_smooth=smooth, class_weights=weights, soft_targets=soft)
    assert loss(logits, target).item() == pytest.approx(np.average(by_class, weights=weights), rel=1e-5)
    over_all = build_loss({"dice": 1}, dice_over="all", dice_smooth=smooth, soft_targets=soft)
    assert over_all(logits, target).item() == pytest.approx(dice(z, y, 1 if smooth is None else smooth), rel=1e-5)


@pytest.mark.parametrize("weights", [None, [1, 3, 5]])
def test_tversky_weighs_classes_and_takes_soft_targets(weights):
    logits, target = pair(soft=True)
    z, y = logits.detach().double().numpy(), target.double().numpy()
    loss = build_loss({"tversky": 1}, class_weights=weights, soft_targets=True)
    expected = np.average([tversky(z[:, c], y[:, c]) for c in range(3)], weights=weights)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_without_smoothing_saturated_logits_of_an_empty_plane_give_a_finite_dice():
    logits, target = torch.full(SHAPE, -200.0), torch.zeros(SHAPE)  # the sigmoid is 0 in float32
    for over in ("class", "plane"):
        value, gradient = value_and_gradient(build_loss({"dice": 1}, dice_over=over), logits, target)
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("terms", [{"bce": 0.75, "dice": 0.25}, {"symmetric_lovasz": 1}, {"focal": 2, "dice": 1}])
@pytest.mark.parametrize("weights", [None, [1, 3, 5]])
def test_by_plane_a_batch_is_worth_the_mean_of_its_halves(terms, weights):
    """So it makes no difference how micro-batches or ranks cut it; a mean over the positive planes alone would not do.

    The shares need not be equal: the trainer weighs each by its images.
    """
    logits, target = pair()
    loss = build_loss(terms, class_weights=weights, **POSITIVE)
    value, gradient = value_and_gradient(loss, logits, target)
    assert holds_truth(target).sum(1).unique().numel() > 1  # the images hold unlike numbers of classes
    for cut in (1, 2):
        parts = [value_and_gradient(loss, logits[part], target[part]) for part in (slice(cut), slice(cut, None))]
        shares = cut / len(target), 1 - cut / len(target)
        torch.testing.assert_close(value, sum(share * part[0] for share, part in zip(shares, parts, strict=True)))
        together = torch.cat([share * part[1] for share, part in zip(shares, parts, strict=True)])
        torch.testing.assert_close(gradient, together)


@pytest.mark.parametrize("name", ["bce", "dice", "focal", "symmetric_lovasz"])
def test_planes_without_truth_are_left_out_whatever_is_predicted_there(name):
    logits, target = pair()
    loss = build_loss({name: 1}, **POSITIVE)
    value, gradient = value_and_gradient(loss, logits, target)
    empty = ~(target.flatten(2) > 0).any(-1)
    assert not gradient[empty].any()
    assert (gradient[~empty].flatten(1) != 0).any(1).all()
    changed = torch.where(empty[..., None, None], 30.0, logits.detach())
    assert loss(changed, target) == value
    assert loss(logits, torch.zeros(SHAPE)) == 0
    everywhere = value_and_gradient(build_loss({name: 1}, dice_over="plane", dice_smooth=1), logits, target)
    assert torch.equal(everywhere[1][~empty], gradient[~empty])


def test_a_plane_whose_last_pixel_another_grid_loses_is_left_out():
    target = torch.zeros(1, 2, 32, 48)
    target[0, 0, 5, 5] = target[0, 1, :16] = 1
    _, gradient = value_and_gradient(build_loss({"bce": 1}, (8, 12), **POSITIVE), torch.zeros_like(target), target)
    assert not gradient[0, 0].any()
    assert gradient[0, 1].all()


def smp_by_plane(logits, target):
    """The Lovasz hinge of smp, which counts each image apart where there is one class."""
    loss = smp.losses.LovaszLoss("binary", per_image=True)
    return (
        loss(logits.flatten(0, 1), target.flatten(0, 1)) + loss(-logits.flatten(0, 1), 1 - target.flatten(0, 1))
    ) / 2


def test_the_symmetric_lovasz_has_value_and_gradient_of_smp_by_plane():
    logits, target = pair(shape=(4, 3, 40, 60))
    value, gradient = value_and_gradient(build_loss({"symmetric_lovasz": 1}), logits, target)
    expected = value_and_gradient(smp_by_plane, logits, target)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1])


def test_the_symmetric_lovasz_treats_a_mask_and_its_complement_alike():
    logits, target = pair()
    torch.testing.assert_close(symmetric_lovasz(logits, target), symmetric_lovasz(-logits, 1 - target))
    # Of an empty plane every false alarm has a part, where the plain hinge sees the worst pixel alone
    _, gradient = value_and_gradient(build_loss({"symmetric_lovasz": 1}), logits, torch.zeros(SHAPE))
    assert torch.equal(gradient != 0, logits > -1)


def as_before(terms, dice_over):
    """The losses of a recipe without the keys that came later, in the words of then."""
    parts = {
        "bce": smp.losses.SoftBCEWithLogitsLoss(ignore_index=None),
        "dice": smp.losses.DiceLoss("multilabel", from_logits=True),
        "focal": smp.losses.FocalLoss("multilabel", gamma=2.0),
        "lovasz": smp.losses.LovaszLoss("multilabel", from_logits=True),
        "tversky": smp.losses.TverskyLoss("multilabel", from_logits=True, alpha=0.3, beta=0.7),
    }

    def dice_over_all(logits, target):
        p = logits.sigmoid()
        return 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)

    parts |= {"dice": dice_over_all} if dice_over == "all" else {}
    return lambda logits, target: sum(weight * parts[name](logits, target) for name, weight in sorted(terms.items()))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("terms", "dice_over"),
    [
        ({"bce": 1.0, "dice": 1.0}, "class"),
        ({"dice": 0.3, "bce": 0.7}, "all"),
        ({"tversky": 1.0, "focal": 2.0, "lovasz": 0.2}, "class"),
    ],
)
def test_recipes_without_the_later_keys_keep_every_bit(terms, dice_over, layout):
    logits, target = pair(shape=(4, 3, 96, 144))
    logits = logits.detach().to(memory_format=layout)
    recipe = Recipe(loss=terms, dice_over=dice_over)
    value, gradient = value_and_gradient(loss_of_recipe(recipe, CLASSES), logits, target)
    expected = value_and_gradient(as_before(terms, dice_over), logits, target)
    assert torch.equal(value, expected[0])
    assert torch.equal(gradient, expected[1])


def test_the_keys_of_a_recipe_and_of_its_stages_reach_the_loss():
    stage = {"epochs": 1, "loss": {"symmetric_lovasz": 1}, "loss_planes": "all"}
    keys = {"dice_over": "plane", "dice_smooth": 10, "loss_planes": "positive", "class_weights": WEIGHTS}
    recipe = Recipe(epochs=3, stages=[{"epochs": 2}, stage], loss={"bce": 0.5, "dice": 2}, **keys)
    logits, target = pair()
    weights = [WEIGHTS[name] for name in CLASSES]
    first = [
        mean_by_hand(of_plane, logits, target, weights=weights, positive=True)
        for of_plane in (bce, lambda z, y: dice(z, y, 10))
    ]
    second = mean_by_hand(both_ways, logits, target, weights=weights)
    for epoch, expected in ((2, 0.5 * first[0] + 2 * first[1]), (3, second)):
        loss = loss_of_recipe(recipe.stage_at(epoch), CLASSES)
        assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_the_mean_of_class_weights_does_not_count():
    logits, target = pair()
    values = [
        build_loss({"bce": 1, "dice": 1}, class_weights=weights)(logits, target) for weights in ([1, 2, 6], [2, 4, 12])
    ]
    torch.testing.assert_close(*values)
    plain, equal = (
        build_loss({"bce": 1, "tversky": 1}, class_weights=each)(logits, target) for each in (None, [4] * 3)
    )
    torch.testing.assert_close(plain, equal)


@pytest.mark.parametrize("dice_over", ["class", "all", "plane"])
@pytest.mark.parametrize("terms", [{"bce": 1}, {"focal": 1}, {"dice": 1}, {"tversky": 1}])
def test_of_soft_targets_the_loss_is_least_where_the_probabilities_are_theirs(terms, dice_over):
    """A product of p and y in the place of their minimum would have Dice prefer probabilities of 0 and 1."""
    target = pair(soft=True)[1].clamp(0.02, 0.98)
    loss = build_loss(terms, dice_over=dice_over, soft_targets=True)
    right, rng = torch.logit(target), torch.Generator().manual_seed(0)
    best = loss(right, target)
    others = [right + size * torch.randn(SHAPE, generator=rng) for size in (0.01, 0.1, 1) for _ in range(5)]
    others += [
        30 * (target >= 0.5).float() - 15,
        *(torch.logit(target.clamp(low, high)) for low, high in ((0.3, 1), (0, 0.6))),
    ]
    assert all(loss(other, target) > best for other in others)


@pytest.mark.parametrize("dice_over", ["class", "all", "plane"])
def test_of_masks_it_makes_no_difference_that_they_might_be_soft(dice_over):
    logits, target = pair()
    hard, soft = (
        build_loss({"bce": 1, "dice": 1}, dice_over=dice_over, dice_smooth=1, soft_targets=soft)
        for soft in (False, True)
    )
    for one, other in zip(
        value_and_gradient(hard, logits, target), value_and_gradient(soft, logits, target), strict=True
    ):
        assert torch.equal(one, other)


def test_soft_targets_stay_soft_on_another_grid():
    target = (
        torch.tensor([[[[1.0, 0.0, 0.2, 0.2], [0.4, 0.0, 0.2, 0.2]]]]).repeat_interleave(8, 2).repeat_interleave(8, 3)
    )
    resized = to_grid(target, target, (2, 4), soft=True)[1]
    assert 0 < resized[0, 0, 1, 0] < 0.5
    assert resized.mean().item() == pytest.approx(target.mean().item(), rel=0.02)
    assert to_grid(target, target, (2, 4))[1].unique().tolist() == [0, 1]
    logits = torch.logit(target.clamp(0.1, 0.9)).requires_grad_()
    loss = build_loss({"bce": 1}, (2, 4), soft_targets=True)(logits, target)
    z, y = (each.detach().double().numpy() for each in to_grid(logits, target, (2, 4), soft=True))
    assert loss.item() == pytest.approx(bce(z, y), rel=1e-5)


def test_a_blended_class_counts_with_the_image_of_the_larger_weight():
    masks = torch.zeros(2, 2, 4, 4)  # of two images with one class each
    masks[0, 0, :2] = masks[1, 1, 2:] = 1
    target = torch.stack([0.7 * masks[0] + 0.3 * masks[1], 0.3 * masks[0] + 0.7 * masks[1]])
    assert holds_truth(target).tolist() == [[True, False], [False, True]]
    _, gradient = value_and_gradient(head_loss, torch.zeros(2, 2), target)
    torch.testing.assert_close(gradient, (0.5 - torch.tensor([[0.7, 0.3], [0.3, 0.7]])) / 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_loss_of_a_head_is_the_entropy_of_presence_in_float32(dtype):
    target = pair()[1]
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=SHAPE[:2])).to(dtype).requires_grad_()
    loss = head_loss(logits, target)
    present = target.numpy().reshape(*SHAPE[:2], -1).any(-1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(bce(logits.detach().double().numpy(), present), rel=1e-5)
    loss.backward()
    assert logits.grad.dtype == dtype


@pytest.mark.parametrize("options", [POSITIVE, {"dice_over": "plane", "class_weights": [1, 3, 5]}])
def test_half_precision_gives_finite_losses_in_float32(options):
    logits = torch.full((2, 3, 160, 240), 12.0, dtype=torch.float16, requires_grad=True)
    target = torch.ones(2, 3, 160, 240, dtype=torch.uint8)
    target[:, 1] = 0
    loss = build_loss({"bce": 1, "dice": 1, "focal": 1, "symmetric_lovasz": 1}, **options)(logits, target)
    (1024 * loss).backward()
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    assert torch.isfinite(logits.grad).all()


CONFIG = yaml.safe_load((Path(__file__).parents[3] / "config/config.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def config():
    return read_config(CONFIG)


KEYS = {
    "loss": [{"bce": 1, name: 1} for name in TERMS],
    "dice_over": ["class", "all", "plane"],
    "loss_planes": ["all", "positive"],
    "class_weights": [None, {"Fish": 2, "Flower": 1, "Gravel": 1, "Sugar": 1}],
    "mixup": [None, {}],
}


@pytest.mark.parametrize("values", [*itertools.product(*KEYS.values())], ids=str)
def test_what_a_config_may_ask_for_is_what_can_be_counted(values, config):
    recipe = Recipe(**dict(zip(KEYS, values, strict=True)))
    refused = [line for line in recipe_problems(recipe, config) if not line.startswith("dice_over")]
    try:
        loss_of_recipe(recipe, config.dataset.classes)
    except ValueError as error:
        assert refused, str(error)
    else:
        # A Dice that the loss does not have matters to neither
        assert not refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_planes": "positve"}, "no loss_planes is called 'positve'; nearest: positive"),
        ({"dice_smooth": -1}, "dice_smooth: expected a number from 0 on, got -1"),
        ({"dice_smooth": math.nan}, "dice_smooth: expected a number from 0 on, got nan"),
        ({"class_weights": [1, 0]}, "class_weights: expected numbers above 0, got 1, 0"),
        ({"loss_planes": "positive"}, "loss dice: it counts over more than a plane"),
        ({"dice_over": "all", "class_weights": [1, 2]}, "loss dice: it counts all classes together"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_loss({"bce": 1, "dice": 1}, **options)
