"""Build the encoders of smp and timm."""

from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from torch import nn


def build_encoder(encoder: str, *, pretrained: bool = False, channels: int = 3, **arguments: Any) -> nn.Module:
    """Build an encoder in all its stages; a vision transformer, which smp has for `dpt` alone, as `dpt` has it.

    Parameters
    ----------
    encoder : name of an encoder of smp, or ``tu-`` and the name of a model of timm.
    pretrained : with ImageNet weights, from the hub or its cache; else drawn from torch's random state.
    channels : of the images, 3 or 1.
    arguments : of a vision transformer in timm.

    Examples
    --------
    >>> build_encoder("tu-test_resnet").out_channels, build_encoder("tu-test_vit").out_channels
    ([3, 32, 32, 48, 192, 96], [64, 64, 64, 64])
    """
    if not encoder.startswith("tu-"):
        return smp.encoders.get_encoder(encoder, channels, weights="imagenet" if pretrained else None)
    try:
        return smp.encoders.get_encoder(encoder, channels, weights=True if pretrained else None)
    except ValueError:  # its features do not halve from stage to stage
        name = encoder.removeprefix("tu-")
        return TimmViTEncoder(name, pretrained=pretrained, in_channels=channels, **arguments)
