"""The views of test-time augmentation, as plans: what is done to an image before the network, and inverted after.

A plan is made of plain values, because a recipe is checked while a workflow is parsed: nothing here imports torch. How
an operation is applied to images, and inverted on probabilities, is in :mod:`cloudseg.inference.views`.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NoReturn

from cloudseg.config.recipe import Recipe, Step
from cloudseg.errors import ConfigError

FLIP_AXES = {"identity": (), "horizontal": (3,), "vertical": (2,), "both": (2, 3)}
"""The axes of (N, C, H, W) that a recipe's ``view`` flips; ``both`` is a turn by 180 degrees."""

PADDINGS = {0: "zeros", 1: "border", 2: "reflection", 4: "reflection"}
"""The ``padding_mode`` of ``grid_sample`` outside a rotated image, by OpenCV's border mode. Only the network sees the
padding, which has no weight in the mean, so the half pixel between OpenCV's two reflections does not matter."""

INVERTIBLE = (
    *("HorizontalFlip", "VerticalFlip", "Transpose", "Rotate", "RandomBrightnessContrast", "NoOp"),
    *("RandomCrop", "CenterCrop", "Resize", "OneOf", "Sequential"),
)
"""The transforms of albumentations that :func:`augmentation_variants` makes views of."""

Matrix = tuple[tuple[float, float], tuple[float, float]]
Pixels = tuple[int, int]  # height and width


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation on an image before the network sees it, inverted on the probabilities."""

    NAME: ClassVar[str]

    @property
    def record(self) -> list[Any]:
        """Its name and numbers, as the digest of a store's settings has them."""
        return [self.NAME, *dataclasses.astuple(self)]


@dataclasses.dataclass(frozen=True)
class Flip(Operation):
    """Reverse axes of (N, C, H, W)."""

    NAME = "flip"
    axes: tuple[int, ...]

    @property
    def record(self) -> list[Any]:
        """Its name and axes."""
        return [self.NAME, *self.axes]


@dataclasses.dataclass(frozen=True)
class Transpose(Operation):
    """Swap rows and columns."""

    NAME = "transpose"


@dataclasses.dataclass(frozen=True)
class Scale(Operation):
    """Multiply both sides by a factor."""

    NAME = "scale"
    factor: float


@dataclasses.dataclass(frozen=True)
class BrightnessContrast(Operation):
    """Make contrast x + brightness of every intensity x in 0..1."""

    NAME = "light"
    brightness: float
    contrast: float


@dataclasses.dataclass(frozen=True)
class Warp(Operation):
    """Sample an image through an affine map about its centre, which may leave parts of it out."""

    def matrix(self, aspect: float) -> Matrix:
        """Return the map from coordinates (x, y) in the view, from -1 to 1, to those in the image.

        Parameters
        ----------
        aspect : width of the image divided by its height.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Crop(Warp):
    """Enlarge the middle to the size of the image; ``height`` and ``width`` are parts of the image's."""

    NAME = "crop"
    height: float
    width: float

    def matrix(self, aspect: float) -> Matrix:
        """Return the map from the view to the image."""
        return (self.width, 0.0), (0.0, self.height)


@dataclasses.dataclass(frozen=True)
class Rotate(Warp):
    """Turn an image counter-clockwise about its middle.

    Parameters
    ----------
    degrees : the angle.
    aspect : width divided by height at which the pixels are square; None is that of the image itself.
    padding : one of ``PADDINGS``.
    fill : the byte outside the image where ``padding`` is zeros.
    """

    NAME = "rotate"
    degrees: float
    aspect: float | None
    padding: str
    fill: float

    def matrix(self, aspect: float) -> Matrix:
        """Return the map from the view to the image."""
        aspect = self.aspect or aspect
        sine, cosine = math.sin(math.radians(self.degrees)), math.cos(math.radians(self.degrees))
        return (cosine, -sine / aspect), (sine * aspect, cosine)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One view of an image: a name, what is done to the image in order, and its weight in the mean of the views.

    Examples
    --------
    >>> half = Variant("half", (Flip((3,)), Scale(0.5)))
    >>> half.scale, half.weight
    (0.5, 1)
    """

    name: str
    operations: tuple[Operation, ...] = ()
    weight: float = 1

    @property
    def scale(self) -> float:
        """What the sides of the image are multiplied by."""
        return math.prod(each.factor for each in self.operations if isinstance(each, Scale))


IDENTITY = Variant("identity")
FLIPS = tuple(Variant(name, (Flip(axes),) if axes else ()) for name, axes in FLIP_AXES.items())
"""The image as it is and its three flips."""


def variants_of(recipe: Recipe) -> tuple[Variant, ...]:
    """Return the views that a recipe's ``tta`` asks for.

    Raises
    ------
    ConfigError : as :func:`augmentation_variants` does, when ``tta`` is the word ``recipe``.

    Examples
    --------
    >>> variants_of(Recipe(tta=[{"view": "both", "scale": 0.5}]))
    (Variant(name='both', operations=(Flip(axes=(2, 3)), Scale(factor=0.5)), weight=1),)
    >>> variants_of(Recipe(tta="recipe", augmentation=[{"name": "VerticalFlip"}]))[1]
    Variant(name='VerticalFlip', operations=(Flip(axes=(2,)),), weight=1)
    """
    if recipe.tta == "recipe":
        return augmentation_variants(recipe.augmentation, recipe.canvas and recipe.canvas.pixels)
    variants = []
    for view in recipe.tta:
        flip = [Flip(axes)] if (axes := FLIP_AXES[view.view]) else []
        variants.append(Variant(view.view, (*flip, *([Scale(view.scale)] * (view.scale != 1))), view.weight))
    return tuple(variants)


def record_of_views(recipe: Recipe) -> list[dict[str, Any]]:
    """Return the views of a recipe as plain values, as the digest of a store's settings has them.

    Examples
    --------
    >>> record_of_views(Recipe(tta=["identity", {"view": "both", "scale": 0.5}]))
    [{'view': 'identity', 'weight': 1}, {'view': 'both', 'scale': 0.5, 'weight': 1}]
    >>> record_of_views(Recipe(tta="recipe", augmentation=[{"name": "VerticalFlip"}]))[1]
    {'view': 'VerticalFlip', 'weight': 1, 'moves': [['flip', 2]]}
    """
    if recipe.tta != "recipe":
        # A scale of 1 is left out, as stores of before there were scales have it
        return [view.model_dump(exclude={"scale"} if view.scale == 1 else None) for view in recipe.tta]
    return [
        {"view": each.name, "weight": each.weight, "moves": [operation.record for operation in each.operations]}
        for each in variants_of(recipe)
    ]


def augmentation_variants(augmentation: Sequence[Step], canvas: Pixels | None = None) -> tuple[Variant, ...]:
    """Turn the augmentation of a recipe into views: every transform for certain, each one alone, and the identity.

    Parameters
    ----------
    augmentation : steps of a recipe. Their odds do not count, except that a step with ``p: 0`` is switched off.
    canvas : height and width of the images that were augmented, or None for the training size.

    Returns
    -------
    tuple of Variant : views that do the same are one.

        - What is drawn from a range is applied at both ends of it, the two sharing the transform's weight: ``Rotate``
          turned by either limit, ``RandomBrightnessContrast`` dark and flat, then bright and crisp.
        - A crop with the ``Resize`` behind it is the crop from the middle.
        - ``OneOf`` gives a view for each of its options, ``Sequential`` one view of all its transforms.

    Raises
    ------
    ConfigError : naming the step and its transform, for what cannot be undone.

    Examples
    --------
    >>> rotation = {"name": "OneOf", "transforms": [{"name": "NoOp"}, {"name": "Rotate", "limit": 30}]}
    >>> steps = Recipe(augmentation=[{"name": "HorizontalFlip", "p": 0.5}, rotation]).augmentation
    >>> [(variant.name, variant.weight) for variant in augmentation_variants(steps)]
    [('identity', 1), ('HorizontalFlip', 1), ('Rotate -30', 0.5), ('Rotate 30', 0.5)]
    >>> augmentation_variants([Step(name="ElasticTransform")])
    Traceback (most recent call last):
    ...
    cloudseg.errors.ConfigError: augmentation, step 1: ElasticTransform cannot be undone after prediction ...
    """
    different: dict[tuple[Operation, ...], Variant] = {}
    for variant in [IDENTITY, *itertools.chain.from_iterable(_of_steps(augmentation, "", canvas))]:
        different.setdefault(variant.operations, variant)
    return tuple(different.values())


def scaled(size: Pixels, factor: float) -> Pixels:
    """Return a height and a width times a factor, halves rounded up.

    Examples
    --------
    >>> scaled((96, 145), 0.5), scaled((96, 144), 1.25)
    ((48, 73), (120, 180))
    """
    return int(size[0] * factor + 0.5), int(size[1] * factor + 0.5)


def smallest_side(variants: Sequence[Variant], size: Pixels) -> int:
    """Return the smallest height or width, in pixels, at which the network sees an image of a size.

    Examples
    --------
    >>> smallest_side(variants_of(Recipe(tta=["identity", {"view": "vertical", "scale": 0.5}])), (96, 144))
    48
    """
    return min(min(scaled(size, variant.scale)) for variant in variants)


def _of_steps(steps: Sequence[Step], prefix: str, canvas: Pixels | None) -> Iterator[list[Variant]]:
    """Yield the variants of each step that is switched on, a crop and the Resize behind it as one."""
    remaining = [(f"{prefix}{number}", step) for number, step in enumerate(steps, start=1) if step.p != 0]
    while remaining:
        where, step = remaining.pop(0)
        if step.name in ("RandomCrop", "CenterCrop"):
            resize = remaining.pop(0)[1] if remaining and remaining[0][1].name == "Resize" else None
            yield _of_crop(where, step, resize, canvas)
        else:
            yield _of_step(where, step, canvas)


def _one_after_another(steps: Iterator[list[Variant]]) -> list[Variant]:
    """Combine the variants of the steps of a sequence; they share the weight of one transform."""
    combined = [([], Variant(""))]
    for variants in steps:
        total_weight = sum(variant.weight for variant in variants)
        combined = [
            (
                [*names, *([variant.name] if variant.operations else [])],
                Variant("", before.operations + variant.operations, before.weight * variant.weight / total_weight),
            )
            for (names, before), variant in itertools.product(combined, variants)
        ]
    return [dataclasses.replace(variant, name=", ".join(names) or IDENTITY.name) for names, variant in combined]


def _of_step(where: str, step: Step, canvas: Pixels | None) -> list[Variant]:
    """Return the variants of one step that is applied for certain."""
    match step.name:
        case "NoOp":
            return [IDENTITY]
        case "HorizontalFlip":
            return [Variant(step.name, (Flip((3,)),))]
        case "VerticalFlip":
            return [Variant(step.name, (Flip((2,)),))]
        case "Transpose":
            if canvas and canvas[0] != canvas[1]:
                _refuse(where, step, f"needs a square canvas, and this one is {canvas[0]}x{canvas[1]}")
            return [Variant(step.name, (Transpose(),))]
        case "Rotate":
            return _of_rotation(where, step, canvas)
        case "RandomBrightnessContrast":
            return _of_light(where, step)
        case "Resize":
            _require_canvas(where, step, canvas)
            return [IDENTITY]
        case "OneOf":
            return list(itertools.chain.from_iterable(_of_steps(step.transforms, f"{where}.", canvas)))
        case "Sequential":
            return _one_after_another(_of_steps(step.transforms, f"{where}.", canvas))
    _refuse(where, step, f"cannot be undone after prediction (what can: {', '.join(INVERTIBLE)})")


def _of_rotation(where: str, step: Step, canvas: Pixels | None) -> list[Variant]:
    arguments = step.arguments
    if arguments.get("crop_border", False):
        _refuse(where, step, "with crop_border changes the size of the image")
    border, fill = arguments.get("border_mode", 0), arguments.get("fill", 0)
    if border not in PADDINGS:
        _refuse(where, step, f"takes border_mode {', '.join(map(str, PADDINGS))} as a view, got {border}")
    if not isinstance(fill, int | float):
        _refuse(where, step, f"takes one `fill` for all channels as a view, got {fill}")
    aspect = canvas[1] / canvas[0] if canvas else None
    angles = [angle for angle in dict.fromkeys(_ends(arguments.get("limit", (-90, 90)))) if angle % 360]
    return [
        Variant(f"Rotate {angle:g}", (Rotate(angle, aspect, PADDINGS[border], fill),), 1 / len(angles))
        for angle in angles
    ] or [IDENTITY]


def _of_light(where: str, step: Step) -> list[Variant]:
    arguments = step.arguments
    if not arguments.get("brightness_by_max", True) or arguments.get("ensure_safe_range", False):
        _refuse(where, step, "is shown with brightness_by_max: true and ensure_safe_range: false alone")
    brightness, contrast = (_ends(arguments.get(f"{what}_limit", (-0.2, 0.2))) for what in ("brightness", "contrast"))
    draws = [draw for draw in dict.fromkeys(zip(brightness, contrast, strict=True)) if draw != (0, 0)]
    return [
        Variant(f"{step.name} {bright:+g} {crisp:+g}", (BrightnessContrast(bright, 1 + crisp),), 1 / len(draws))
        for bright, crisp in draws
    ] or [IDENTITY]


def _of_crop(where: str, step: Step, resize: Step | None, canvas: Pixels | None) -> list[Variant]:
    height, width = _pixels(where, step)
    if canvas is None:
        _refuse(where, step, "is a part of a canvas, and the recipe has none; give it `canvas`")
    if resize is None:
        _refuse(where, step, f"needs a Resize to {canvas[0]}x{canvas[1]}, the canvas, right behind it")
    _require_canvas(where, resize, canvas)
    if height > canvas[0] or width > canvas[1]:
        _refuse(where, step, f"takes {height}x{width}, more than the canvas of {canvas[0]}x{canvas[1]} holds")
    if (height, width) == canvas:
        return [IDENTITY]
    return [Variant(f"{step.name} {height}x{width}", (Crop(height / canvas[0], width / canvas[1]),))]


def _require_canvas(where: str, resize: Step, canvas: Pixels | None) -> None:
    made = _pixels(where, resize)
    if made != canvas:
        wanted = f"{canvas[0]}x{canvas[1]}, the canvas" if canvas else "a recipe with `canvas`"
        _refuse(where, resize, f"makes {made[0]}x{made[1]}; expected {wanted}")


def _pixels(where: str, step: Step) -> Pixels:
    arguments = step.arguments
    if not {"height", "width"} <= set(arguments):
        _refuse(where, step, "needs `height` and `width`")
    return arguments["height"], arguments["width"]


def _ends(limit: float | Sequence[float]) -> tuple[float, float]:
    """Read a limit as albumentations does: one number reaches as far to either side."""
    if isinstance(limit, int | float):
        return -abs(limit), abs(limit)
    low, high = limit
    return low, high


def _refuse(where: str, step: Step, reason: str) -> NoReturn:
    raise ConfigError(
        f"augmentation, step {where}: {step.name} {reason}; change the step, or write the views of `tta` as a list "
        "instead of `recipe`"
    )
