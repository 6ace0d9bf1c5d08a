"""Score a network on validation images while it trains, by a decision of the recipe's own."""

import math

import numpy as np
import torch

from cloudseg.models.probabilities import probabilities_of, quantise
from cloudseg.postprocess import Cut, level, remove_small_components

HALF = Cut(level(0.5), 0)


def dice_per_class(logits: torch.Tensor, target: torch.Tensor, cut: Cut = HALF) -> torch.Tensor:
    """Return the Dice of every image and class, of masks that are made as those of a submission are.

    Parameters
    ----------
    logits, target : (N, C, H, W); the target is 0 or 1.
    cut : how probabilities become masks; threshold 0.5 and no minimum size when left out.

    Returns
    -------
    Tensor : (N, C) float64, on the CPU; 2 |A and B| / (|A| + |B|), 1 where both are empty.

    Examples
    --------
    >>> logits = torch.tensor([[[[9.0, 9.0, -9.0]], [[-9.0, -9.0, 9.0]]]])
    >>> target = torch.tensor([[[[1, 0, 0]], [[0, 0, 0]]]])
    >>> dice_per_class(logits, target)  # in an empty plane one stray pixel costs everything
    tensor([[0.6667, 0.0000]], dtype=torch.float64)
    >>> dice_per_class(logits, target, Cut(level=128, min_size=2))
    tensor([[0.6667, 1.0000]], dtype=torch.float64)
    """
    return PendingDice(logits, target, cut).value()


class PendingDice:
    """The Dice of some images, as of :func:`dice_per_class`, whose planes are on their way to the CPU.

    Between its making and its value the device can work on other images.

    Parameters
    ----------
    logits : None of a network that gives no masks, whose Dice is NaN.
    target, cut : as of :func:`dice_per_class`.
    """

    def __init__(self, logits: torch.Tensor | None, target: torch.Tensor, cut: Cut = HALF) -> None:
        self._shape, self._cut = target.shape[:2], cut
        self._planes: tuple[torch.Tensor, torch.Tensor] | None = None
        self._copied = torch.cuda.Event() if target.device.type == "cuda" else None
        if logits is not None:
            probabilities = quantise(probabilities_of(logits)).to("cpu", non_blocking=True)
            self._planes = probabilities, (target > 0.5).to("cpu", non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def value(self) -> torch.Tensor:
        """Return the Dice; waits for the copies, and for nothing that the device was asked for after them."""
        if self._planes is None:
            return torch.full(self._shape, math.nan, dtype=torch.float64)
        if self._copied is not None:
            self._copied.synchronize()
        planes = zip(*(each.numpy() for each in self._planes), strict=True)
        dice = [[_dice(self._cut.mask(plane), wanted) for plane, wanted in zip(*each, strict=True)] for each in planes]
        return torch.tensor(dice, dtype=torch.float64).reshape(self._shape)


def masks_left_out(mask: np.ndarray, classes: int, min_size: int) -> tuple[int, int]:
    """Return how many classes an image has, and how many of these a minimum size would take away altogether.

    Parameters
    ----------
    mask : (H, W, B) uint8, bit ``c % 8`` of byte ``c // 8`` for class ``c``.
    classes : at most 8 B.
    min_size : pixels that a component needs to stay.

    Examples
    --------
    >>> masks_left_out(np.array([[[3], [1], [0]]], np.uint8), classes=3, min_size=2)
    (2, 1)
    """
    planes = [mask[..., number // 8] >> (number % 8) & 1 for number in range(classes)]
    there = [plane for plane in planes if plane.any()]
    return len(there), sum(not remove_small_components(plane, min_size).any() for plane in there)


def _dice(mask: np.ndarray, truth: np.ndarray) -> float:
    both, pixels = np.count_nonzero(mask & truth), np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * both / pixels if pixels else 1.0
