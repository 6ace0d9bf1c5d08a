"""Mixed precision: a network computes in bfloat16 or float16, except for the layers that are slow in it."""

import functools

import torch
from torch import nn


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return the autocast context of a type; for float32 it is disabled.

    Parameters
    ----------
    device : where the network is.
    dtype : as :func:`cloudseg.runtime.devices.compute_dtype` gives it.

    Examples
    --------
    >>> layer, image = nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 2, 2)
    >>> with autocast(torch.device("cpu"), torch.bfloat16):
    ...     layer(image).dtype
    torch.bfloat16
    """
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def keep_slow_layers_in_float32(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Make the depthwise convolutions of a network that trains in bfloat16 on a CPU compute in float32.

    oneDNN has no fast backward pass in bfloat16 for depthwise convolutions that have a stride or a 5x5 kernel: these
    take 4 to 50 times as long as in float32, which eats what the other layers gain. Elsewhere nothing is changed.

    Parameters
    ----------
    model : changed in place: the values and keys of its state stay as they are, and copies of it behave like it.
    device : where it trains.
    dtype : of :class:`torch.autocast`.

    Returns
    -------
    Module : the model.

    Examples
    --------
    >>> layers = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1))
    >>> model = keep_slow_layers_in_float32(layers, torch.device("cpu"), torch.bfloat16)
    >>> image = torch.ones(1, 4, 8, 8)
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     model[0](image).dtype, model(image).dtype
    (torch.float32, torch.bfloat16)
    """
    if device.type == "cpu" and dtype == torch.bfloat16:
        for layer in model.modules():
            # Convolutions of timm and smp that pad by themselves are subclasses, too
            if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1:
                # The class is replaced, not `forward`: a deep copy would call the `forward` of the original
                layer.__class__ = _in_float32(type(layer))
    return model


class _Float32:
    """Compute a layer in float32 inside of autocast."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(image.device.type, enabled=False):
            return super().forward(image.float())


@functools.cache
def _in_float32(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_Float32, kind), {"__module__": kind.__module__})
