"""Give a network the initial weights of a file that `initial_weights` wrote: its encoder's, or those of all of it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.errors import ConfigError
from cloudseg.models.checkpoint_file import load_strictly, read_state

NETWORK = "network"  # the start that is a whole network
State = dict[str, torch.Tensor]


def load_start(
    network: nn.Module,
    weights: str | Path,
    *,
    decoder: str,
    stages: int,
    classes: int | Sequence[str],
    channels: int = 3,
) -> None:
    """Load a file of initial weights into a network that has just been drawn.

    A file of a whole network gives all but the last layer of each head that is not the same: where the classes have
    other names or another order, where the layer has another shape, or where the file has no such head. Such a layer
    stays as it was drawn. A head that the network does not have is left out.

    Parameters
    ----------
    network : of smp, or a classifier; changed in place.
    weights : safetensors file made by :func:`cloudseg.models.weights.initial_weights`.
    decoder : of the network; a file of a whole network must have the same.
    stages : of the encoder that the network has; what a file of an encoder holds beyond them is left out.
    classes : names of the network's classes; a number, where they have no names, fits as many.
    channels : of the images that the network takes, 3 or 1; weights of three colours are summed into one.

    Raises
    ------
    UserError : if the file does not fit, key by key.
    """
    state, metadata = read_state(weights)
    whole = metadata.get("start") == NETWORK
    module = network if whole else network.encoder
    if whole:
        state = _of_network(network, state, metadata, weights, decoder, classes)
    elif stages < 5:
        known = module.state_dict()
        state = {key: value for key, value in state.items() if key in known}
    if channels == 1:
        state = sum_colours(state, module.state_dict())
    load_strictly(module, state, weights)


def _of_network(
    network: nn.Module,
    state: State,
    metadata: Mapping[str, Any],
    weights: str | Path,
    decoder: str,
    classes: int | Sequence[str],
) -> State:
    """Return the state of a whole network, with last layers as they were drawn where the file has no such."""
    header = NetworkHeader.of(metadata, weights)
    if header.decoder != decoder:
        raise ConfigError(
            f"{weights}: expected a network with the decoder {decoder}, got one with {header.decoder}; the start "
            "`network:` takes the decoder, too, and `run:` the encoder alone"
        )
    same_classes = len(header.classes) == classes if isinstance(classes, int) else header.classes == tuple(classes)
    own, layers = network.state_dict(), list(_last_layers(network))
    for layer in layers:
        drawn = {key: value for key, value in own.items() if key.startswith(layer)}
        same = same_classes and all(key in state and state[key].shape == value.shape for key, value in drawn.items())
        state = state if same else state | drawn
    has_head = any(key.startswith("classification_head.") for key in own)
    return {key: value for key, value in state.items() if has_head or not key.startswith("classification_head.")}


def _last_layers(network: nn.Module) -> Iterator[str]:
    """Yield the beginning of the keys of the last layer of each head: what gives one number per class."""
    for name in ("segmentation_head", "classification_head"):
        head = getattr(network, name, None)
        layers = [
            part for part, layer in (head or nn.Identity()).named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
        ]
        yield from (f"{name}.{part}." for part in layers[-1:])


def sum_colours(state: State, own: State) -> State:
    """Sum the weights of the three colours that a first layer sees into one.

    A grey picture is the same in all three colours, so the sum gives what the colours gave together (for the
    normalisation of :func:`cloudseg.models.preprocessing.grey_normalisation`).

    Parameters
    ----------
    state : key to tensor, for colours; one that is grey already stays as it is.
    own : the state of the same network for one channel, to know its first layers by their shapes.

    Returns
    -------
    dict : a new one; (O, 3, h, w) became (O, 1, h, w) wherever ``own`` has that.

    Examples
    --------
    >>> sum_colours({"a": torch.ones(2, 3, 1, 1)}, {"a": torch.zeros(2, 1, 1, 1)})["a"].flatten()
    tensor([3., 3.])
    """
    summed = dict(state)
    for key, value in state.items():
        if value.ndim == 4 and key in own and (value.shape[1], own[key].shape[1]) == (3, 1):
            summed[key] = value.sum(dim=1, keepdim=True)
    return summed
