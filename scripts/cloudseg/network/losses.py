"""Combine the losses of smp by weight."""

from collections.abc import Callable, Mapping

import segmentation_models_pytorch as smp
import torch

from cloudseg.network.names import require

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

TERMS: dict[str, Callable[[], torch.nn.Module]] = {
    "bce": lambda: smp.losses.SoftBCEWithLogitsLoss(ignore_index=None),
    "dice": lambda: smp.losses.DiceLoss("multilabel", from_logits=True),
}
"""What a recipe's ``loss`` may name. Dice is 0 for a class absent from the batch: never use it alone."""


def build_loss(terms: Mapping[str, float]) -> Loss:
    """Return the weighted sum of some losses, computed in float32 whatever the network's precision.

    Parameters
    ----------
    terms : name to weight above 0, such as ``{"bce": 1, "dice": 1}``. ``bce`` is the mean over all pixels;
        ``dice`` is 1 - Dice per class over the whole batch, averaged over classes (so half a batch is
        another loss than a whole one).

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
    parts = [(float(weight), TERMS[name]()) for name, weight in sorted(terms.items())]

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # smp's sums overflow float16 and give NaN
        logits, target = logits.float(), target.float()
        return sum(weight * part(logits, target) for weight, part in parts)

    return loss
