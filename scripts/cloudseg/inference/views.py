"""Test-time augmentation: apply the operations of a view to images, and invert them on probabilities."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from cloudseg.config.views import (
    FLIP_AXES,
    BrightnessContrast,
    Crop,
    Flip,
    Matrix,
    Operation,
    Rotate,
    Scale,
    Transpose,
    Variant,
    Warp,
    scaled,
)
from cloudseg.errors import ConfigError
from cloudseg.models.preprocessing import Intensities
from cloudseg.models.probabilities import probabilities_of
from cloudseg.models.resize import resize

UNIT = Intensities()


class Probabilities(NamedTuple):
    """What a network says of images.

    Parameters
    ----------
    planes : (N, classes, H, W) of each pixel; None of a classifier alone.
    values : (N, classes) of each image as a whole; None of a network without a classification head.
    """

    planes: torch.Tensor | None
    values: torch.Tensor | None = None


@torch.inference_mode()
def mean_of_variants(
    model: nn.Module, images: torch.Tensor, variants: Sequence[Variant], intensities: Intensities = UNIT
) -> Probabilities:
    """Return the weighted mean of the probabilities of several views, each inverted.

    A pixel's mean is over the views that saw it: what a crop or a rotation leaves out has no weight. The value of a
    class is the mean over all views.

    Parameters
    ----------
    model : maps images (N, C, H, W) to logits (N, classes, H, W), of any height and width that a view has; or to these,
        or None, and to class logits (N, classes).
    images : (N, C, H, W).
    variants : the views. Of their weights only ratios matter.
    intensities : what black and white are in ``images``.

    Returns
    -------
    Probabilities : float32, 0 to 1.

    Raises
    ------
    ConfigError : for no views, or a pixel that none of them saw.

    Examples
    --------
    >>> variants = [Variant("identity", weight=3), Variant("horizontal", (Flip((3,)),))]
    >>> mean_of_variants(nn.Identity(), torch.tensor([[[[0.0, 50.0]]]]), variants).planes  # equivariant: as one view
    tensor([[[[0.5000, 1.0000]]]])
    """
    if not variants:
        raise ConfigError(f"tta: expected at least one view of {', '.join(FLIP_AXES)}, got none")
    total_weight = sum(variant.weight for variant in variants)
    planes, values, covered = None, None, 0.0
    for variant in variants:
        said = predict_variant(model, images, variant.operations, intensities)
        share = variant.weight / total_weight
        if said.planes is not None:
            seen = footprint(variant.operations, images)
            weight = share if seen is None else seen * share
            planes, covered = _sum(planes, said.planes * weight), covered + weight
        if said.values is not None:
            values = _sum(values, said.values * share)
    if planes is None:
        return Probabilities(None, values)
    planes = planes.contiguous()  # NCHW in memory, faster to resize than the channels-last output of a network
    return Probabilities(_over_views_that_saw(planes, covered, variants), values)


def _sum(total: torch.Tensor | None, more: torch.Tensor) -> torch.Tensor:
    return more if total is None else total + more


def _over_views_that_saw(
    mean: torch.Tensor, covered: float | torch.Tensor, variants: Sequence[Variant]
) -> torch.Tensor:
    if isinstance(covered, float):
        return mean
    if not covered.min() > 0:
        names = ", ".join(variant.name for variant in variants)
        raise ConfigError(f"tta: some pixels are in no view ({names}); add the view `identity`")
    return mean / covered


def predict_variant(
    model: nn.Module, images: torch.Tensor, operations: Sequence[Operation], intensities: Intensities = UNIT
) -> Probabilities:
    """Return the probabilities that a network gives to images after some operations, which are then inverted.

    Parameters
    ----------
    model, images, intensities : as of :func:`mean_of_variants`.
    operations : in the order in which they are applied.

    Returns
    -------
    Probabilities : float32; what the planes say where :func:`footprint` is 0 means nothing.
    """
    sizes = []
    for operation in operations:
        sizes.append(images.shape[-2:])
        images = apply(operation, images, intensities)
    logits = model(images)
    masks, classes = logits if isinstance(logits, tuple) else (logits, None)
    values = None if classes is None else probabilities_of(classes)
    if masks is None:
        return Probabilities(None, values)
    planes = probabilities_of(masks)
    for operation, size in zip(reversed(operations), reversed(sizes), strict=True):
        planes = invert(operation, planes, size)
    return Probabilities(planes, values)


def footprint(operations: Sequence[Operation], images: torch.Tensor) -> torch.Tensor | None:
    """Return which pixels of images are seen through some operations.

    Returns
    -------
    Tensor or None : (1, 1, H, W), 1 where everything that a pixel was interpolated from lay within the image and
        within the view, else 0. None is 1 everywhere.

    Examples
    --------
    >>> footprint([Crop(1, 0.5)], torch.zeros(1, 3, 1, 4)).flatten()
    tensor([0., 1., 1., 0.])
    """
    if not any(isinstance(operation, Warp) for operation in operations):
        return None
    seen, sizes = images.new_ones(1, 1, *images.shape[-2:]), []
    for operation in operations:
        sizes.append(seen.shape[-2:])
        match operation:
            case Rotate():  # nothing outside was seen, whatever the padding
                seen = _fully_seen(_warp(seen, operation.matrix(_aspect(seen)), "zeros"))
            case BrightnessContrast():
                pass
            case _:
                seen = _fully_seen(apply(operation, seen))
    for operation, size in zip(reversed(operations), reversed(sizes), strict=True):
        seen = _fully_seen(invert(operation, seen, size))
    return seen


def apply(operation: Operation, images: torch.Tensor, intensities: Intensities = UNIT) -> torch.Tensor:
    """Apply one operation to images (N, C, H, W).

    Parameters
    ----------
    intensities : what black and white are in ``images``.

    Examples
    --------
    >>> apply(BrightnessContrast(0.25, 1), torch.tensor([[[[0.0, 0.5, 0.75]]]])).flatten()
    tensor([0.2500, 0.7500, 1.0000])
    """
    black, white = intensities
    match operation:
        case Flip(axes):
            return images.flip(axes)
        case Transpose():
            return images.transpose(2, 3)
        case Scale(factor):
            return resize(images, scaled(images.shape[-2:], factor))
        case BrightnessContrast(brightness, contrast):
            intensity = (images - black) / (white - black)
            return black + (contrast * intensity + brightness).clamp(0, 1) * (white - black)
        case Crop():
            return _warp(images, operation.matrix(_aspect(images)), "border")
        case Rotate(padding=padding, fill=fill):
            outside = black + fill / 255 * (white - black)  # subtracted, since grid_sample pads with zeros
            return _warp(images - outside, operation.matrix(_aspect(images)), padding) + outside
    raise TypeError(f"expected an operation of cloudseg.config.views, got {operation!r}")


def invert(operation: Operation, planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Invert one operation on planes (N, C, H, W); 0 where the view showed nothing.

    Parameters
    ----------
    size : height and width before the operation.

    Examples
    --------
    >>> invert(Crop(1, 0.5), torch.ones(1, 1, 1, 4), (1, 4)).flatten()
    tensor([0., 1., 1., 0.])
    """
    match operation:
        case Scale():
            return resize(planes, size)
        case Warp():
            (a, b), (c, d) = operation.matrix(_aspect(planes))
            determinant = a * d - b * c
            inverse = (d / determinant, -b / determinant), (-c / determinant, a / determinant)
            return _warp(planes, inverse, "zeros")
        case BrightnessContrast():
            return planes
    return apply(operation, planes)  # flips and the transpose are their own inverses


def _aspect(planes: torch.Tensor) -> float:
    return planes.shape[-1] / planes.shape[-2]


def _warp(planes: torch.Tensor, matrix: Matrix, padding: str) -> torch.Tensor:
    """Sample (N, C, H, W) bilinearly at the coordinates that an affine map gives, pixels taken as areas."""
    height, width = planes.shape[-2:]
    y, x = ((2 * torch.arange(side, device=planes.device) + 1) / side - 1 for side in (height, width))
    # By hand: affine_grid multiplies matrices, which autocast and TF32 do at ten bits
    (a, b), (c, d) = matrix
    grid = torch.stack([a * x + b * y[:, None], c * x + d * y[:, None]], dim=-1).expand(len(planes), -1, -1, -1)
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _fully_seen(seen: torch.Tensor) -> torch.Tensor:
    """Return 1 where all that a pixel was interpolated from was seen, else 0; 0.999 allows for errors of rounding."""
    return (seen > 0.999).to(seen.dtype)
