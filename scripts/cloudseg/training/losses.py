"""Combine the losses of smp by weight."""

from collections.abc import Callable, Mapping

import segmentation_models_pytorch as smp
import torch

from cloudseg.config.names import require
from cloudseg.models.resize import resize

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

TERMS: dict[str, Callable[[], torch.nn.Module]] = {
    "bce": lambda: smp.losses.SoftBCEWithLogitsLoss(ignore_index=None),
    "dice": lambda: smp.losses.DiceLoss("multilabel", from_logits=True),
    "focal": lambda: smp.losses.FocalLoss("multilabel", gamma=2.0),
    "lovasz": lambda: smp.losses.LovaszLoss("multilabel", from_logits=True),
    # With smp's own 0.5 and 0.5 it would be Dice once more
    "tversky": lambda: smp.losses.TverskyLoss("multilabel", from_logits=True, alpha=0.3, beta=0.7),
}
"""What a recipe's ``loss`` may name, over logits z, probabilities p = sigmoid(z) and targets y.

- ``bce``: cross entropy, -y log p - (1 - y) log(1 - p), the mean over all pixels and classes.
- ``focal``: cross entropy times (1 - q)**2, where q is the probability given to the truth; the mean over all
  pixels and classes (Lin and others 2017, equation 4, without its alpha).
- ``dice``: 1 - 2 sum(py) / sum(p + y) per class over the whole batch, the mean over classes (Milletari and
  others 2016). 0 for a class absent from the batch: never use it alone. With ``dice_over: all`` it is
  :func:`dice_over_all`.
- ``tversky``: 1 - TP / (TP + 0.3 FP + 0.7 FN) with soft counts, as Dice is counted but a missed pixel costs more
  than a false one (Salehi and others 2017). 0 for a class absent from the batch: never use it alone.
- ``lovasz``: the Lovasz hinge, the convex extension of 1 - Jaccard on the hinges 1 - z (2y - 1) of all pixels of
  all classes of the batch taken together (Berman and others 2018, algorithm 1). An absent class counts, its
  pixels being false alarms; when no class is in the batch, only the single worst pixel counts.
"""


DICE_OVER = ("class", "all")
"""What a recipe's ``dice_over`` may name."""


def dice_over_all(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return one soft Dice loss of all classes and pixels of a batch, 1 - (2 sum(py) + 1) / (sum(p + y) + 1).

    ``BCEDiceLoss(eps=1.0)`` of smp 0.1 in 2019, less its cross entropy. A large class counts more than a small one, and
    a class absent from the batch counts by its false alarms.

    Parameters
    ----------
    logits, target : (N, C, H, W) float32; the target is 0 or 1.

    Examples
    --------
    >>> round(dice_over_all(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)).item(), 4)  # 1 - (2 * 4 + 1) / (4 + 8 + 1)
    0.3077
    """
    p = logits.sigmoid()
    return 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)


def build_loss(terms: Mapping[str, float], grid: tuple[int, int] | None = None, dice_over: str = "class") -> Loss:
    """Return the weighted sum of some losses, computed in float32 whatever the network's precision.

    Parameters
    ----------
    terms : name to weight above 0, such as ``{"bce": 1, "dice": 1}``; the names are those of ``TERMS``. All but
        ``bce`` and ``focal`` count over the whole batch, so half a batch is another loss than a whole one.
    grid : (height, width) that logits and targets are resized to before they are compared, by
        :func:`to_grid`; None compares them as they come.
    dice_over : what ``dice`` is counted over: each ``class``, or ``all`` classes together.

    Returns
    -------
    callable : (logits, target), both (N, C, H, W), the target 0 or 1, to a float32 scalar.

    Raises
    ------
    ValueError : for no terms, an unknown name or a weight that is not above 0.

    Examples
    --------
    >>> logits = torch.zeros(1, 1, 2, 2, dtype=torch.float16)
    >>> loss = build_loss({"bce": 1, "dice": 2})(logits, torch.ones(1, 1, 2, 2))
    >>> round(loss.item(), 4)  # log(2) + 2 * (1 - 2 * 2 / (2 + 4))
    1.3598
    """
    if not terms:
        raise ValueError(f"a loss needs at least one term of {', '.join(TERMS)}; got none")
    for name, weight in terms.items():
        require(name, TERMS, "loss")
        if not 0 < weight < float("inf"):
            raise ValueError(f"loss {name}: the weight must be above 0, got {weight}")
    require(dice_over, DICE_OVER, "dice_over")
    make = TERMS | ({"dice": lambda: dice_over_all} if dice_over == "all" else {})
    parts = [(float(weight), make[name]()) for name, weight in sorted(terms.items())]

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # smp's sums overflow float16 and give NaN
        logits, target = logits.float(), target.float()
        if grid is not None:
            logits, target = to_grid(logits, target, grid)
        return sum(weight * part(logits, target) for weight, part in parts)

    return loss


def to_grid(logits: torch.Tensor, target: torch.Tensor, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Resize logits and targets to another grid of pixels over the same scene.

    Both are resized as prediction resizes probabilities: bilinearly, pixels taken as areas, smoothed first when an
    axis shrinks, so that every logit has its part in the loss. Of a target a new pixel is in from one half on:
    that is where the logits of a network without a fault would be above 0. Nearest pixels would ask for more than
    a network can give, and sit half a pixel to one side when an axis halves.

    Parameters
    ----------
    logits, target : (N, C, H, W) float32; the target is 0 or 1, augmented and known at this size alone.
    grid : (height, width) to make, in pixels.

    Returns
    -------
    (Tensor, Tensor) : both (N, C, height, width) float32; the target is 0 or 1.

    Examples
    --------
    >>> plane = torch.tensor([[[[0.0, 1.0]]]])
    >>> [each.flatten().tolist() for each in to_grid(plane, plane, (1, 4))]
    [[0.0, 0.25, 0.75, 1.0], [0.0, 0.0, 1.0, 1.0]]
    """
    share = resize(target, grid)
    return resize(logits, grid), (share >= 0.5 - 1e-5).float()  # float32 falls on either side of a half
