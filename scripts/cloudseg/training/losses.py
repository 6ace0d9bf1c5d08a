"""The loss of masks, a sum of terms by weight out of smp and of our own, and that of class presence."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, get_args

import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from cloudseg.config.names import require
from cloudseg.config.recipe import Recipe
from cloudseg.config.recipe_checks import FOR_PLANES, NOT_SOFT, WHOLE_BATCH
from cloudseg.config.recipe_parts import LossPlanes
from cloudseg.models.resize import resize

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

DICE_OVER = {"class": (0, 2, 3), "all": (0, 1, 2, 3), "plane": (2, 3)}
"""What a recipe's ``dice_over`` may name, and the dimensions of (N, C, H, W) that it sums over."""


def loss_of_recipe(recipe: Recipe, classes: Sequence[str], grid: tuple[int, int] | None = None) -> Loss:
    """Return the loss of a recipe, or of a stage of one (``recipe.stage_at(epoch)``).

    Parameters
    ----------
    recipe : of its keys ``loss``, ``dice_over``, ``dice_smooth``, ``loss_planes``, ``class_weights`` and
        ``soft_targets`` count.
    classes : names, in the order of the planes.
    grid : (height, width) that the loss is computed at; None computes it at the size of the images.

    Examples
    --------
    >>> loss = loss_of_recipe(Recipe(loss={"bce": 1}, class_weights={"b": 3, "a": 1}), ["a", "b"])
    >>> logits = torch.tensor([-9.0, 0.0]).reshape(1, 2, 1, 1)
    >>> round(loss(logits, torch.zeros(1, 2, 1, 1)).item(), 4)  # the mean of 0.5 * log(1 + exp(-9)) and 1.5 * log(2)
    0.5199
    """
    weights = recipe.class_weights
    return build_loss(
        recipe.loss.terms,
        grid,
        recipe.dice_over,
        dice_smooth=recipe.dice_smooth,
        loss_planes=recipe.loss_planes,
        class_weights=None if weights is None else [weights[name] for name in classes],
        soft_targets=recipe.soft_targets,
    )


def build_loss(
    terms: Mapping[str, float],
    grid: tuple[int, int] | None = None,
    dice_over: str = "class",
    *,
    dice_smooth: float | None = None,
    loss_planes: str = "all",
    class_weights: Sequence[float] | None = None,
    soft_targets: bool = False,
) -> Loss:
    """Return the weighted sum of some losses, computed in float32 whatever the network's precision.

    Parameters
    ----------
    terms : name to weight above 0, such as ``{"bce": 1, "dice": 1}``; the names are those of ``TERMS``. Where one of
        them counts over the whole batch, half a batch is another loss than a whole one: ``lovasz``, ``tversky``, and
        ``dice`` but by ``plane``.
    grid : (height, width) that logits and targets are resized to before they are compared, by
        :func:`to_grid`; None compares them as they come.
    dice_over : what ``dice`` is counted over: each ``class``, ``all`` classes together, or each ``plane``, which is a
        class of an image.
    dice_smooth : pixels that ``dice`` adds to numerator and denominator; None adds 1 over ``all``, else 0.
    loss_planes : ``positive`` gives a plane without truth (:func:`holds_truth`) the loss 0, without a gradient. The
        mean is over all planes still, so that a batch is worth the mean of its halves, and the loss is the share of the
        planes that hold truth times their mean. All terms must then count by plane.
    class_weights : above 0, in the order of the classes; divided by their mean.
    soft_targets : whether targets may lie between 0 and 1.

    Returns
    -------
    callable : (logits, target), both (N, C, H, W), to a float32 scalar; the target is 0 or 1, or in 0..1 if soft.

    Raises
    ------
    ValueError : for no terms, an unknown name, a number out of bounds, or a term that cannot be counted so.

    Notes
    -----
    ``positive`` is the loss of the 1st place of Understanding Clouds (2019), but for its constants.

    Examples
    --------
    >>> logits = torch.zeros(1, 1, 2, 2, dtype=torch.float16)
    >>> loss = build_loss({"bce": 1, "dice": 2})(logits, torch.ones(1, 1, 2, 2))
    >>> round(loss.item(), 4)  # log(2) + 2 * (1 - 2 * 2 / (2 + 4))
    1.3598
    >>> one_of_two = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    >>> loss = build_loss({"bce": 1}, loss_planes="positive")(torch.zeros(1, 2, 1, 1), one_of_two)
    >>> round(loss.item(), 4)  # log(2) / 2
    0.3466
    """
    if not terms:
        raise ValueError(f"a loss needs at least one term of {', '.join(TERMS)}; got none")
    require(dice_over, DICE_OVER, "dice_over")
    require(loss_planes, get_args(LossPlanes), "loss_planes")
    options = _Options(
        dice_over,
        _smooth(dice_over, dice_smooth),
        loss_planes == "positive",
        _of_mean_one(class_weights),
        soft_targets,
    )
    for name, weight in terms.items():
        _require_term(name, weight, options)
    parts = [(float(weight), TERMS[name](options)) for name, weight in sorted(terms.items())]

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # smp's sums overflow float16 and give NaN
        logits, target = logits.float(), target.float()
        if grid is not None:
            logits, target = to_grid(logits, target, grid, soft=soft_targets)
        return sum(weight * part(logits, target) for weight, part in parts)

    return loss


def head_loss(class_logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the binary cross entropy of what a classification head says, the mean over images and classes.

    Parameters
    ----------
    class_logits : (N, C), of any precision.
    target : (N, C, H, W) in 0..1, the masks. Of each plane the largest pixel is what the head should say: whether there
        is truth, the probability of a soft pseudo-label, and of a class that MixUp blends in the weight of its image
        (of a class of both images the larger weight, where its masks do not meet).

    Returns
    -------
    Tensor : float32 scalar.

    Examples
    --------
    >>> masks = torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]]])
    >>> round(head_loss(torch.tensor([[0.0, -9.0]]), masks).item(), 4)  # log(2) / 2 and a little
    0.3466
    """
    return functional.binary_cross_entropy_with_logits(class_logits.float(), _largest(target))


def holds_truth(target: torch.Tensor) -> torch.Tensor:
    """Return of each plane whether it holds a pixel of truth; of soft targets, one from one half on.

    So a class that MixUp blends in counts with the image of the larger weight, and one that is next to certainly absent
    from a soft pseudo-label does not count.

    Parameters
    ----------
    target : (N, C, H, W) in 0..1.

    Returns
    -------
    Tensor : (N, C) bool.

    Examples
    --------
    >>> holds_truth(torch.tensor([[[[0.0, 1.0]], [[0.0, 0.4]]]]))
    tensor([[ True, False]])
    """
    return _largest(target) >= 0.5


def to_grid(
    logits: torch.Tensor, target: torch.Tensor, grid: tuple[int, int], *, soft: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resize logits and targets to another grid of pixels over the same scene.

    Both are resized as prediction resizes probabilities: bilinearly, pixels taken as areas, smoothed first when an
    axis shrinks, so that every logit has its part in the loss. Of a target a new pixel is in from one half on:
    that is where the logits of a network without a fault would be above 0. Nearest pixels would ask for more than
    a network can give, and sit half a pixel to one side when an axis halves.

    Parameters
    ----------
    logits, target : (N, C, H, W) float32; the target is 0 or 1, augmented and known at this size alone.
    grid : (height, width) to make, in pixels.
    soft : whether the target lies between 0 and 1, and stays there.

    Returns
    -------
    (Tensor, Tensor) : both (N, C, height, width) float32; the target is 0 or 1 unless it is soft.

    Examples
    --------
    >>> plane = torch.tensor([[[[0.0, 1.0]]]])
    >>> [each.flatten().tolist() for each in to_grid(plane, plane, (1, 4))]
    [[0.0, 0.25, 0.75, 1.0], [0.0, 0.0, 1.0, 1.0]]
    """
    share = resize(target, grid)
    return resize(logits, grid), share if soft else (share >= 0.5 - 1e-5).float()  # float32 falls on either side


def soft_dice(
    logits: torch.Tensor,
    target: torch.Tensor,
    dims: tuple[int, ...] = DICE_OVER["plane"],
    smooth: float = 0.0,
    *,
    soft: bool = False,
) -> torch.Tensor:
    """Return soft Dice losses, 1 - (2 sum(py) + smooth) / (sum(p + y) + smooth), of sums over some dimensions.

    What holds no truth counts by its false alarms, 1 - smooth / (sum(p) + smooth); without smoothing that would be
    1 whatever is predicted, and 0 takes its place. Over all dimensions and with a smoothing of 1 it is ``BCEDiceLoss``
    of smp 0.1 in 2019, less its cross entropy.

    Parameters
    ----------
    logits, target : (N, C, H, W) float32; the target is 0 or 1.
    dims : a value of ``DICE_OVER``.
    smooth : pixels, from 0 on.
    soft : whether the target may lie between 0 and 1: sum(min(p, y)) then takes the place of sum(py), which is the same
        for 0 and 1. So the loss is least at p = y; the product would have every p become 0 or 1 (Wang and others 2023,
        "Dice Semimetric Losses").

    Returns
    -------
    Tensor : of the other dimensions, float32.

    Examples
    --------
    >>> soft_dice(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2), smooth=1)  # 1 - (2 * 2 + 1) / (2 + 4 + 1)
    tensor([[0.2857, 0.2857]])
    """
    p = logits.sigmoid()
    both = (torch.minimum(p, target) if soft else p * target).sum(dims)
    truth = target.sum(dims)
    if smooth:
        return 1 - (2 * both + smooth) / (p.sum(dims) + truth + smooth)
    return (1 - 2 * both / (p.sum(dims) + truth).clamp_min(1e-7)) * (truth > 0)  # the bound: no 0 / 0


def symmetric_lovasz(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the symmetric Lovasz hinge of each plane, (L(z, y) + L(-z, 1 - y)) / 2.

    L(z, y) is the convex extension of 1 - Jaccard on the hinges 1 - z (2y - 1) of the plane's pixels (Berman and others
    2018, algorithm 1). The second half is that of the complement, whose hinges are the same: of a plane without truth
    L(z, y) sees the worst pixel alone, and the complement sees all.

    Parameters
    ----------
    logits, target : (N, C, H, W) float32; the target is 0 or 1.

    Returns
    -------
    Tensor : (N, C) float32, from 0.

    Examples
    --------
    >>> symmetric_lovasz(torch.tensor([[[[3.0, -3.0]], [[-3.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]]))
    tensor([[0.0000, 0.7500]])
    """
    logits, target = logits.flatten(2), target.flatten(2)
    hinges, order = torch.sort(1 - logits * (2 * target - 1), dim=-1, descending=True)
    truth = target.gather(-1, order) > 0.5
    missed = truth.cumsum(-1, dtype=torch.int32)
    pixels = torch.arange(1, truth.shape[-1] + 1, dtype=torch.int32, device=truth.device)
    false, inside = pixels - missed, missed[..., -1:]
    steps = _jaccard_steps(inside, missed, false) + _jaccard_steps(pixels[-1] - inside, false, missed)
    return (hinges.relu() * steps).sum(-1) / 2


def _jaccard_steps(inside: torch.Tensor, missed: torch.Tensor, false: torch.Tensor) -> torch.Tensor:
    """Return what each error adds to 1 - Jaccard, from counts of the errors made until then."""
    loss = 1 - (inside - missed) / (inside + false)
    return torch.diff(loss, dim=-1, prepend=torch.zeros_like(loss[..., :1]))


def _largest(target: torch.Tensor) -> torch.Tensor:
    return target.float().amax((2, 3))


def _bce_of_planes(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))


def _focal_of_planes(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - torch.exp(-entropy)) ** 2 * entropy).mean((2, 3))


class _Options(NamedTuple):
    """How the terms of a loss are counted."""

    dice_over: str
    dice_smooth: float
    positive: bool
    class_weights: list[float] | None
    soft_targets: bool

    def mean(self, of_planes: Loss) -> Loss:
        """Return the mean of what (logits, target) give by plane, (N, C), or by class, (C,)."""

        def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            values = of_planes(logits, target)
            if self.class_weights:
                values = values * values.new_tensor(self.class_weights)
            if self.positive:
                values = values.where(holds_truth(target), 0)
            return values.mean()

        return loss


def _bce(options: _Options) -> Loss:
    if options.positive or options.class_weights:
        return options.mean(_bce_of_planes)
    return smp.losses.SoftBCEWithLogitsLoss(ignore_index=None)


def _focal(options: _Options) -> Loss:
    if options.positive or options.class_weights:
        return options.mean(_focal_of_planes)
    return smp.losses.FocalLoss("multilabel", gamma=2.0)


def _dice(options: _Options) -> Loss:
    over, smooth = options.dice_over, options.dice_smooth
    if over == "class" and not smooth:
        return smp.losses.DiceLoss("multilabel", from_logits=True, class_weights=options.class_weights)
    dice = functools.partial(soft_dice, dims=DICE_OVER[over], smooth=smooth, soft=options.soft_targets)
    return dice if over == "all" else options.mean(dice)


def _lovasz(options: _Options) -> Loss:
    return smp.losses.LovaszLoss("multilabel", from_logits=True)


def _symmetric_lovasz(options: _Options) -> Loss:
    return options.mean(symmetric_lovasz)


def _tversky(options: _Options) -> Loss:
    # With smp's own 0.5 and 0.5 it would be Dice once more
    weights = options.class_weights
    return smp.losses.TverskyLoss("multilabel", from_logits=True, alpha=0.3, beta=0.7, class_weights=weights)


TERMS: dict[str, Callable[[_Options], Loss]] = {
    "bce": _bce,
    "dice": _dice,
    "focal": _focal,
    "lovasz": _lovasz,
    "symmetric_lovasz": _symmetric_lovasz,
    "tversky": _tversky,
}
"""What a recipe's ``loss`` may name, over logits z, probabilities p = sigmoid(z) and targets y.

- ``bce``: cross entropy, -y log p - (1 - y) log(1 - p), the mean over all pixels and classes.
- ``focal``: cross entropy E times (1 - exp(-E))**2; the mean over all pixels and classes. Of a target of 0 or 1
  exp(-E) is the probability given to the truth (Lin and others 2017, equation 4, without its alpha); of a soft one
  the loss is least at p = y, too.
- ``dice``: 1 - 2 sum(py) / sum(p + y) per class over the whole batch, the mean over classes (Milletari and
  others 2016). 0 for a class absent from the batch: never use it alone. :func:`soft_dice` is the same over other
  dimensions, or with smoothing.
- ``tversky``: 1 - TP / (TP + 0.3 FP + 0.7 FN) with soft counts, as Dice is counted but a missed pixel costs more
  than a false one (Salehi and others 2017). 0 for a class absent from the batch: never use it alone.
- ``lovasz``: the Lovasz hinge, the convex extension of 1 - Jaccard on the hinges 1 - z (2y - 1) of all pixels of
  all classes of the batch taken together (Berman and others 2018, algorithm 1). An absent class counts, its
  pixels being false alarms; when no class is in the batch, only the single worst pixel counts.
- ``symmetric_lovasz``: the mean over planes of :func:`symmetric_lovasz`.

Soft targets are right for all but the last two: smp, too, counts sum(min(p, y)) in the place of sum(py), see
:func:`soft_dice`.
"""


def _require_term(name: str, weight: float, options: _Options) -> None:
    require(name, TERMS, "loss")
    if not 0 < weight < float("inf"):
        raise ValueError(f"loss {name}: the weight must be above 0, got {weight}")
    over = options.dice_over if name == "dice" else None
    if options.positive and (name not in FOR_PLANES or over in ("class", "all")):
        raise ValueError(f"loss {name}: it counts over more than a plane, so `loss_planes: positive` leaves none out")
    if options.class_weights and (name in WHOLE_BATCH or over == "all"):
        raise ValueError(f"loss {name}: it counts all classes together, which `class_weights` cannot weigh")
    if options.soft_targets and name in NOT_SOFT:
        raise ValueError(f"loss {name}: its targets must be 0 or 1, and these lie between")


def _smooth(dice_over: str, smooth: float | None) -> float:
    if smooth is None:
        return 1.0 if dice_over == "all" else 0.0
    if not 0 <= smooth < float("inf"):
        raise ValueError(f"dice_smooth: expected a number from 0 on, got {smooth}")
    return float(smooth)


def _of_mean_one(weights: Sequence[float] | None) -> list[float] | None:
    if weights is None:
        return None
    if not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(f"class_weights: expected numbers above 0, got {', '.join(map(str, weights))}")
    return [weight * len(weights) / sum(weights) for weight in weights]
