"""Turn logits into probabilities, and probabilities into the bytes that are stored."""

import torch


def probabilities_of(logits: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of logits, in float32 whatever the network computed in.

    Examples
    --------
    >>> probabilities_of(torch.zeros(1, dtype=torch.float16))
    tensor([0.5000])
    """
    return torch.sigmoid(logits.float())


def quantise(probability: torch.Tensor) -> torch.Tensor:
    """Return floor(255 p + 0.5) as uint8, from float32.

    Examples
    --------
    >>> quantise(torch.tensor([0.0, 0.5, 0.7, 1.0]))
    tensor([  0, 128, 179, 255], dtype=torch.uint8)
    """
    # A cast to integer truncates, which is floor for numbers from 0. torch casts float to uint8 one value at a time; by
    # way of int16 it takes half the time
    return (probability.float() * 255).add_(0.5).clamp_(0, 255).to(torch.int16).to(torch.uint8)
