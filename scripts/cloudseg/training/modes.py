"""Which parts of a network learn, and in which mode they compute."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside a `with` block; each of its modules is as before after that.

    Examples
    --------
    >>> model = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(2).eval())
    >>> with evaluating(model):
    ...     print(model.training)
    False
    >>> [module.training for module in model]
    [True, False]
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Freezable:
    """A part of a network that can stop learning for some time, its norms' statistics and dropout included.

    Weights that never learn, such as fixed positions, stay as they are.

    Parameters
    ----------
    part : of the network.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
    >>> encoder = Freezable(model[:2])
    >>> encoder.set_frozen(True)
    >>> [weight.requires_grad for weight in model.parameters()], [layer.training for layer in model]
    ([False, False, False, False, True, True], [False, False, True])
    >>> encoder.set_frozen(False)
    >>> all(weight.requires_grad for weight in model.parameters()), model[1].training
    (True, True)
    """

    def __init__(self, part: nn.Module) -> None:
        self._part = part
        self._weights = [weight for weight in part.parameters() if weight.requires_grad]

    def set_frozen(self, frozen: bool) -> None:
        """Let it stay as it is, or learn."""
        self._part.train(not frozen)
        for weight in self._weights:
            weight.requires_grad_(not frozen)
