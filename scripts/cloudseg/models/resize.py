"""Resize planes of pixels: images, logits and probabilities alike."""

import torch
from torch.nn import functional


def resize(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize (N, C, H, W) bilinearly, pixels taken as areas; smoothed first along an axis that shrinks.

    Examples
    --------
    >>> resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4)).flatten()
    tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    shrinks = planes.shape[-2] > size[0] or planes.shape[-1] > size[1]
    return functional.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=shrinks)
