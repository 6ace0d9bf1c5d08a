"""Score a network on validation images while it trains, by a decision of the recipe's own."""

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
    probabilities = quantise(probabilities_of(logits)).cpu().numpy()
    truth = target.cpu().numpy() > 0.5
    dice = [
        [_dice(cut.mask(plane), wanted) for plane, wanted in zip(*planes, strict=True)]
        for planes in zip(probabilities, truth, strict=True)
    ]
    return torch.tensor(dice, dtype=torch.float64).reshape(logits.shape[:2])


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
