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
    """A part of a network whose weights can stop learning for some time.

    Those that never learn, such as fixed positions, stay as they are.

    Parameters
    ----------
    part : of the network.

    Examples
    --------
    >>> layer = nn.Conv2d(3, 8, 1)
    >>> part = Freezable(layer)
    >>> part.set_frozen(True)
    >>> [weight.requires_grad for weight in layer.parameters()]
    [False, False]
    """

    def __init__(self, part: nn.Module) -> None:
        self._weights = [weight for weight in part.parameters() if weight.requires_grad]

    def set_frozen(self, frozen: bool) -> None:
        """Let them stay as they are, or learn."""
        for weight in self._weights:
            weight.requires_grad_(not frozen)
