"""The optimisers of torch, and which weights learn at which rate."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from cloudseg.config.recipe import Recipe
from cloudseg.models.segmenter import Segmenter
from cloudseg.training.modes import evaluating

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adadelta": lambda groups, recipe: torch.optim.Adadelta(groups),
    "adafactor": lambda groups, recipe: torch.optim.Adafactor(groups),
    "adagrad": lambda groups, recipe: torch.optim.Adagrad(groups, fused=True),
    "adam": lambda groups, recipe: torch.optim.Adam(groups, fused=True),
    "adamax": lambda groups, recipe: torch.optim.Adamax(groups),
    "adamw": lambda groups, recipe: torch.optim.AdamW(groups, fused=True),
    "nadam": lambda groups, recipe: torch.optim.NAdam(groups, decoupled_weight_decay=True),
    "radam": lambda groups, recipe: torch.optim.RAdam(groups, decoupled_weight_decay=True),
    "rmsprop": lambda groups, recipe: torch.optim.RMSprop(groups, momentum=recipe.momentum or 0.0),
    "sgd": lambda groups, recipe: _sgd(groups, 0.9 if recipe.momentum is None else recipe.momentum),
}
"""What a recipe's ``optimiser`` may name, fused where torch has that and it works.

Weight decay is apart from the gradient (Loshchilov and Hutter 2019) in ``adamw``, ``nadam``, ``radam`` and
``adafactor``; in the others it is added to it, so ``adam`` is another one than ``adamw``.
"""


class ParameterGroup(NamedTuple):
    """Weights that learn at one rate."""

    parameters: list[nn.Parameter]
    weight_decay: float
    depth: int | None = None
    """Of the encoder: how many stages lie behind it, from 1 for the last; None for the rest of the network."""

    def learning_rate(self, recipe: Recipe, of_rest: float) -> float:
        """Return the learning rate of these weights in a step.

        Parameters
        ----------
        recipe : what the epoch goes by.
        of_rest : the learning rate of the rest of the network in that step.

        Examples
        --------
        >>> recipe = Recipe(learning_rate=0.01, encoder_learning_rate=0.001, layer_decay=0.5)
        >>> [ParameterGroup([], 0, depth).learning_rate(recipe, of_rest=0.004) for depth in (None, 1, 2)]
        [0.004, 0.0002, 0.0001]
        """
        if self.depth is None:
            return of_rest
        encoder_share = (recipe.encoder_learning_rate or recipe.learning_rate) / recipe.learning_rate
        return of_rest * encoder_share * (recipe.layer_decay or 1) ** self.depth


def parameter_groups(model: Segmenter, recipe: Recipe, image: torch.Tensor | None = None) -> list[ParameterGroup]:
    """Part the weights of a network by their learning rates and by whether they decay.

    Biases and norms do not: pulling them towards zero only hurts.

    Parameters
    ----------
    model : its network has an ``encoder`` where the recipe has rates of its own for that.
    recipe : by which it is trained.
    image : as of :func:`encoder_stages`, for a recipe with ``layer_decay``.
    """
    if recipe.encoder_learning_rate is None and recipe.layer_decay is None:
        return list(_by_decay(list(model.parameters()), recipe.weight_decay))
    encoder = model.network.encoder
    stages = encoder_stages(model, image) if recipe.layer_decay else [list(encoder.parameters())]
    of_encoder = set(encoder.parameters())
    rest = [parameter for parameter in model.parameters() if parameter not in of_encoder]
    groups = [*_by_decay(rest, recipe.weight_decay)]
    for depth, stage in enumerate(reversed(stages), start=1):
        groups += _by_decay(stage, recipe.weight_decay, depth)
    return groups


def build_optimiser(groups: list[ParameterGroup], recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe; its parameter groups are in the order of ``groups``."""
    given = [{"params": group.parameters, "weight_decay": group.weight_decay} for group in groups]
    return OPTIMISERS[recipe.optimiser](given, recipe)


def encoder_stages(model: Segmenter, image: torch.Tensor) -> list[list[nn.Parameter]]:
    """Part the weights of an encoder by the first of its feature maps that depends on them.

    That holds for any encoder of smp and timm: a convolutional network has a stage for each resolution, a vision
    transformer one for each of the depths that its decoder looks at, with the blocks up to there. Weights on which no
    feature map depends never learn; they are put to the last stage.

    Parameters
    ----------
    model : no weight, statistic or gradient of it is changed.
    image : (1, channels, H, W) of a size that it takes; the values do not matter.

    Returns
    -------
    list of list of Parameter : from the first stage to the last, none of them empty.

    Examples
    --------
    >>> from cloudseg.models.segmenter import build_model
    >>> [len(stage) for stage in encoder_stages(build_model("resnet18", "fpn", 2), torch.zeros(1, 3, 64, 96))]
    [3, 12, 15, 15, 15]
    """
    left = dict(model.network.encoder.named_parameters())
    stages = []
    for feature_map in _feature_maps(model, image):
        gradients = torch.autograd.grad(feature_map.sum(), left.values(), retain_graph=True, allow_unused=True)
        found = [name for name, gradient in zip(list(left), gradients, strict=True) if gradient is not None]
        stages.append([left.pop(name) for name in found])
        if not left:
            break
    stages = [stage for stage in stages if stage]
    return [*stages[:-1], [*stages[-1], *left.values()]]


def _feature_maps(model: Segmenter, image: torch.Tensor) -> list[torch.Tensor]:
    """Return what the encoder makes of an image, as far as it depends on any weight."""
    seen: list[Any] = []
    hook = model.network.encoder.register_forward_hook(lambda encoder, given, made: seen.append(made))
    with torch.enable_grad(), evaluating(model):
        model(image)
    hook.remove()
    return [value for value in _tensors(seen) if value.requires_grad]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield tensors out of lists of lists: vision transformers give class tokens beside their feature maps."""
    if isinstance(value, torch.Tensor):
        yield value
    else:
        for item in value:
            yield from _tensors(item)


def _by_decay(
    parameters: list[nn.Parameter], weight_decay: float, depth: int | None = None
) -> Iterator[ParameterGroup]:
    yield ParameterGroup([each for each in parameters if each.ndim > 1], weight_decay, depth)
    yield ParameterGroup([each for each in parameters if each.ndim <= 1], 0.0, depth)


def _sgd(groups: list[dict[str, Any]], momentum: float) -> torch.optim.Optimizer:
    # Not fused: torch's fails on weights that begin to learn later than others, as those of a frozen encoder do
    return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0)
