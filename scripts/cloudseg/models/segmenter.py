"""Build segmentation networks that take images of any size."""

from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn import functional

from cloudseg.config.decoders import DECODERS
from cloudseg.config.encoders import require_encoder
from cloudseg.config.names import require
from cloudseg.errors import ConfigError
from cloudseg.models.checkpoint_file import load_strictly, read_state


class Segmenter(nn.Module):
    """A network of smp for images of any size: they are padded to multiples of its stride.

    The image is padded by reflection, as much on either side, and the logits are cropped back. Reflection and not
    zeros: the margin then has the texture and the statistics of the image, which BatchNorm averages over. On either
    side: flipped views then get the same margin.

    Parameters
    ----------
    network : maps (N, channels, H, W) to (N, classes, H, W) for sides that are multiples of ``stride``; with a
        classification head (``aux_params`` of smp) to these and to class logits (N, classes).
    stride : pixels; 1 for a network that takes any size.

    Examples
    --------
    >>> Segmenter(nn.Conv2d(3, 2, 1), stride=32)(torch.zeros(1, 3, 40, 50)).shape
    torch.Size([1, 2, 40, 50])
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network = network  # checkpoints hold its state alone, under smp's own names
        self.stride = stride

    @property
    def has_head(self) -> bool:
        """Whether the network gives class logits beside those of the masks."""
        return getattr(self.network, "classification_head", None) is not None

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return logits (N, classes, H, W) of images (N, channels, H, W) that are already normalised.

        With a classification head they are the first of two; the others are of the classes, (N, classes).
        """
        height, width = image.shape[-2:]
        pad_y, pad_x = -height % self.stride, -width % self.stride
        top, left = pad_y // 2, pad_x // 2
        if pad_y or pad_x:
            image = functional.pad(image, (left, pad_x - left, top, pad_y - top), mode="reflect")
        logits = self.network(image)
        crop = (..., slice(top, top + height), slice(left, left + width))
        return (logits[0][crop], logits[1]) if isinstance(logits, tuple) else logits[crop]


def build_model(
    encoder: str, decoder: str, classes: int, *, weights: str | Path | None = None, channels: int = 3
) -> Segmenter:
    """Build a network, its encoder from a file and the rest from torch's random state.

    Parameters
    ----------
    encoder : name of an encoder of smp, such as ``resnet34`` or ``tu-test_resnet``.
    decoder : a key of ``DECODERS``.
    classes : number of output planes.
    weights : safetensors file made by :func:`cloudseg.models.weights.initial_weights`, or None for random
        weights.
    channels : of the images, 3 or 1; weights of three colours are summed into one, by :func:`sum_colours`.

    Returns
    -------
    Segmenter : in training mode, on the CPU, in float32; gives logits.

    Raises
    ------
    UserError : for an unknown decoder or encoder, an encoder that smp cannot combine with it, or weights that do not
        fit the encoder key by key.

    Examples
    --------
    >>> model = build_model("tu-test_resnet", "linknet", 4)
    >>> model(torch.zeros(2, 3, 40, 50)).shape
    torch.Size([2, 4, 40, 50])
    """
    require(decoder, DECODERS, "decoder")
    require_encoder(encoder)
    try:
        network = smp.create_model(
            decoder, encoder_name=encoder, encoder_weights=None, classes=classes, in_channels=channels
        )
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"smp cannot build {decoder} on the encoder {encoder!r}: {error}") from error
    if weights is not None:
        state, _ = read_state(weights)
        known = network.encoder.state_dict()
        if DECODERS[decoder].stages < 5:
            state = {key: value for key, value in state.items() if key in known}
        if channels == 1:
            state = sum_colours(state, known)
        load_strictly(network.encoder, state, weights)
    return Segmenter(network, DECODERS[decoder].stride)


def sum_colours(state: dict[str, torch.Tensor], grey: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Sum the weights of the three colours that a first layer sees into one.

    A grey picture is the same in all three colours, so the sum gives what the colours gave together (for the
    normalisation of :func:`cloudseg.models.preprocessing.grey_normalisation`).

    Parameters
    ----------
    state : key to tensor, of an encoder for colours; one that is grey already stays as it is.
    grey : the state of the same encoder for one channel, to know its first layers by their shapes.

    Returns
    -------
    dict : a new one; (O, 3, h, w) became (O, 1, h, w) wherever ``grey`` has that.

    Examples
    --------
    >>> sum_colours({"a": torch.ones(2, 3, 1, 1)}, {"a": torch.zeros(2, 1, 1, 1)})["a"].flatten()
    tensor([3., 3.])
    """
    summed = dict(state)
    for key, value in state.items():
        if value.ndim == 4 and key in grey and (value.shape[1], grey[key].shape[1]) == (3, 1):
            summed[key] = value.sum(dim=1, keepdim=True)
    return summed
