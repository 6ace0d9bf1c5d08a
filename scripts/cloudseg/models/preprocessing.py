"""Turn the bytes of images into what an encoder takes, the same for training, validation and prediction."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from cloudseg.config.checkpoint_header import CHANNELS as CHANNELS

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey picture: ITU-R BT.601, section 2.5.1, as in OpenCV and Pillow."""


class Intensities(NamedTuple):
    """What black and white are in the images that a network takes, to be broadcast to (N, C, H, W)."""

    black: torch.Tensor | float = 0.0
    white: torch.Tensor | float = 1.0


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How the bytes of images become what one network takes: :func:`normalise` with its arguments.

    Examples
    --------
    >>> preprocessing = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.25))
    >>> [each.flatten().tolist() for each in preprocessing.intensities(torch.device("cpu"))]
    [[-1.0, -1.0, -2.0], [1.0, 1.0, 2.0]]
    """

    mean: Sequence[float]
    std: Sequence[float]
    channels: int = 3

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (N, channels, H, W), float32, of bytes (N, H, W, 3)."""
        return normalise(images, self.mean, self.std, self.channels)

    def intensities(self, device: torch.device) -> Intensities:
        """Return what black and white become, (1, channels, 1, 1) each."""
        bytes_ = (torch.full((1, 1, 1, 3), value, dtype=torch.uint8, device=device) for value in (0, 255))
        return Intensities(*map(self, bytes_))


def normalise(images: torch.Tensor, mean: Sequence[float], std: Sequence[float], channels: int = 3) -> torch.Tensor:
    """Turn bytes into what an encoder takes, on the device where they are.

    Parameters
    ----------
    images : (N, H, W, 3) uint8, RGB.
    mean, std : per colour, of intensities in 0..1.
    channels : 3, or 1 for a grey picture, which is the luma of the colours, normalised by the one mean and
        deviation of :func:`grey_normalisation`.

    Returns
    -------
    Tensor : (N, channels, H, W) float32, (value / 255 - mean) / std, channels last in memory.

    Examples
    --------
    >>> white = torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)
    >>> normalise(white, [0.5, 0.5, 0], [0.5, 0.25, 1]).flatten()
    tensor([1., 2., 1.])
    >>> normalise(white, [0.5, 0.5, 0], [0.5, 0.25, 1], channels=1).flatten()
    tensor([1.3333])
    """
    values = images.float()
    if channels == 1:
        red, green, blue = values.unbind(-1)
        values = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[..., None]
        mean, std = ([value] for value in grey_normalisation(mean, std))
    scale = 1 / (255 * torch.tensor(std, dtype=torch.float64))
    shift = -torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)
    # A blocking copy would synchronise with the device at each batch
    scale, shift = (each.float().to(images.device, non_blocking=True) for each in (scale, shift))
    return (values * scale + shift).permute(0, 3, 1, 2)


def grey_normalisation(mean: Sequence[float], std: Sequence[float]) -> tuple[float, float]:
    """Return the mean and deviation of a grey channel for weights that were summed over three colours.

    A colour network sees a grey picture g as (g - mean_c) / std_c in each colour c and weighs these by w_c. One
    channel x with the weight w_1 + w_2 + w_3 is the same when x is the average over the colours,
    ``x = g * average(1 / std) - average(mean / std)``: exactly when the three means and deviations are equal or
    the three weights are, and otherwise as near as one number gets without knowing the weights.

    Parameters
    ----------
    mean, std : per colour, of intensities in 0..1.

    Returns
    -------
    (float, float) : so that x = (g - mean) / std; the deviation is the harmonic mean of the three.

    Examples
    --------
    >>> [round(value, 4) for value in grey_normalisation([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    [0.4488, 0.226]
    """
    grey_std = 1 / np.mean([1 / std_c for std_c in std])
    grey_mean = grey_std * np.mean([mean_c / std_c for mean_c, std_c in zip(mean, std, strict=True)])
    return float(grey_mean), float(grey_std)
