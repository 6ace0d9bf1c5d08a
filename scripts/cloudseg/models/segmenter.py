"""Build networks that take images of any size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn import functional

from cloudseg.config.checkpoint_header import NetworkHead, NetworkHeader
from cloudseg.config.combinations import takes_any_size
from cloudseg.config.decoders import CLASSIFIER, DECODERS, OWN_OPTIONS, decoder_option_problems, demands
from cloudseg.config.encoders import require_encoder
from cloudseg.config.names import require
from cloudseg.errors import ConfigError
from cloudseg.models.classifier import Classifier
from cloudseg.models.encoder import build_encoder
from cloudseg.models.pyramid import leave_out_finest_level
from cloudseg.models.start import load_start


class Segmenter(nn.Module):
    """A network of smp for images of any size: they are padded to multiples of its stride.

    The image is padded by reflection, as much on either side, and the logits are cropped back. Reflection and not
    zeros: the margin then has the texture and the statistics of the image, which BatchNorm averages over. On either
    side: flipped views then get the same margin.

    Parameters
    ----------
    network : maps (N, channels, H, W) to (N, classes, H, W) for sides that are multiples of ``stride``; with a
        classification head (``aux_params`` of smp) to these and to class logits (N, classes); a :class:`Classifier`
        to None and to class logits.
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
        """Whether the network gives class logits of the image as a whole."""
        return getattr(self.network, "classification_head", None) is not None

    @property
    def has_masks(self) -> bool:
        """Whether the network gives logits of masks."""
        return not isinstance(self.network, Classifier)

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor | None, torch.Tensor]:
        """Return logits (N, classes, H, W) of images (N, channels, H, W) that are already normalised.

        With a classification head they are the first of two; the others are of the classes, (N, classes). Of a
        classifier alone the first is None.
        """
        height, width = image.shape[-2:]
        pad_y, pad_x = -height % self.stride, -width % self.stride
        top, left = pad_y // 2, pad_x // 2
        if pad_y or pad_x:
            image = functional.pad(image, (left, pad_x - left, top, pad_y - top), mode="reflect")
        logits = self.network(image)
        crop = (..., slice(top, top + height), slice(left, left + width))
        if not isinstance(logits, tuple):
            return logits[crop]
        masks, values = logits
        return None if masks is None else masks[crop], values


def model_of(header: NetworkHeader, *, weights: str | Path | None = None) -> Segmenter:
    """Build the network that a header describes, as :func:`build_model` does.

    Parameters
    ----------
    header : of a checkpoint (:meth:`NetworkHeader.of`) or of a recipe (:meth:`NetworkHeader.of_recipe`).
    weights : safetensors file made by :func:`cloudseg.models.weights.initial_weights`, or None.

    Examples
    --------
    >>> model = model_of(NetworkHeader("tu-test_resnet", "classifier", ("Fish", "Sugar")))
    >>> masks, values = model(torch.zeros(2, 3, 40, 50))
    >>> masks is None, values.shape
    (True, torch.Size([2, 2]))
    """
    return build_model(
        header.encoder,
        header.decoder,
        header.classes,
        weights=weights,
        channels=header.channels,
        options=header.options,
        head=header.head,
    )


def build_model(
    encoder: str,
    decoder: str,
    classes: int | Sequence[str],
    *,
    weights: str | Path | None = None,
    channels: int = 3,
    options: Mapping[str, Any] | None = None,
    head: NetworkHead | None = None,
) -> Segmenter:
    """Build a network from torch's random state, and what a file has of it from that file.

    Parameters
    ----------
    encoder : name of an encoder of smp, such as ``resnet34`` or ``tu-test_resnet``.
    decoder : a key of ``DECODERS``.
    classes : number of output planes, or the names of their classes.
    weights : safetensors file made by :func:`cloudseg.models.weights.initial_weights`, of an encoder or of a whole
        network; None for random weights.
    channels : of the images, 3 or 1; weights of three colours are summed into one.
    options : of the decoder, as :func:`cloudseg.config.decoders.decoder_option_problems` takes them.
    head : a classification head beside the masks; that of a classifier alone, where None has the defaults.

    Returns
    -------
    Segmenter : in training mode, on the CPU, in float32; gives logits.

    Raises
    ------
    UserError : for an unknown decoder or encoder, an option that the decoder does not take, an encoder that smp cannot
        combine with it, or weights that do not fit key by key.

    Examples
    --------
    >>> model = build_model("tu-test_resnet", "linknet", 4)
    >>> model(torch.zeros(2, 3, 40, 50)).shape
    torch.Size([2, 4, 40, 50])
    """
    require(decoder, DECODERS, "decoder")
    require_encoder(encoder)
    options = options or {}
    if problems := decoder_option_problems(decoder, options):
        raise ConfigError(f"decoder_options: {problems[0]}")
    count = classes if isinstance(classes, int) else len(classes)
    try:
        network = _network(encoder, decoder, count, channels, options, head)
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"smp cannot build {decoder} on the encoder {encoder!r}: {error}") from error
    asked = demands(decoder, options)
    if weights is not None:
        load_start(network, weights, decoder=decoder, stages=asked.stages, classes=classes, channels=channels)
    return Segmenter(network, network.stride if isinstance(network, Classifier) else asked.stride)


def _network(
    encoder: str, decoder: str, classes: int, channels: int, options: Mapping[str, Any], head: NetworkHead | None
) -> nn.Module:
    any_size = {"dynamic_img_size": True} if takes_any_size(encoder) else {}
    if decoder == CLASSIFIER:
        head = head or NetworkHead()
        return Classifier(build_encoder(encoder, channels=channels, **any_size), classes, head.pooling, head.dropout)
    arguments = {name: value for name, value in options.items() if name not in OWN_OPTIONS.get(decoder, {})}
    if head is not None:
        arguments["aux_params"] = {"classes": classes, "pooling": head.pooling, "dropout": head.dropout}
    if decoder == "dpt":
        arguments |= any_size
    network = smp.create_model(
        decoder, encoder_name=encoder, encoder_weights=None, classes=classes, in_channels=channels, **arguments
    )
    if not options.get("finest_level", True):
        leave_out_finest_level(network, classes)
    return network
