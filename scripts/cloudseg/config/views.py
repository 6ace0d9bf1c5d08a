"""The views of test-time augmentation, as plans: what is done to an image before the network, and undone after.

A plan is plain values, because a recipe is checked while a workflow is parsed: nothing here imports torch.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from cloudseg.config.names import require

VIEWS = {"identity": (), "horizontal": (3,), "vertical": (2,), "both": (2, 3)}
"""Flips by name: the axes of (N, C, H, W) that are turned round; ``both`` is a turn by 180 degrees."""

PADDINGS = {0: "zeros", 1: "border", 2: "reflection", 4: "reflection"}
"""What lies outside a turned image, by OpenCV's number of a border. It is only what the network sees beside the
image: no pixel from there is weighed, so the half pixel between its two kinds of reflection does not matter."""

UNDOABLE = (
    *("HorizontalFlip", "VerticalFlip", "Transpose", "Rotate", "RandomBrightnessContrast", "NoOp"),
    *("RandomCrop", "CenterCrop", "Resize", "OneOf", "Sequential"),
)
"""The transforms of albumentations that :func:`views_of` makes views of."""

Move = Sequence[Any]  # its kind, then its numbers
Way = tuple[list[str], list[Move], float]  # names of transforms, their moves in order, weight

STILL: Way = ([], [], 1.0)  # what leaves an image as it is


def recipe_views(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the views that a recipe asks for.

    Parameters
    ----------
    recipe : ``tta``, a list of views or the word ``recipe``; for the word also ``augmentation`` and ``canvas``
        ("HxW", or None).

    Raises
    ------
    ValueError : as :func:`views_of` does.

    Examples
    --------
    >>> recipe_views({"tta": [{"view": "both", "scale": 0.5}]})
    [{'view': 'both', 'scale': 0.5}]
    >>> recipe_views({"tta": "recipe", "augmentation": [{"name": "VerticalFlip"}]})[1]
    {'view': 'VerticalFlip', 'weight': 1.0, 'moves': [('flip', 2)]}
    """
    if recipe["tta"] != "recipe":
        return list(recipe["tta"])
    canvas = recipe.get("canvas")
    return views_of(recipe["augmentation"], tuple(map(int, canvas.split("x"))) if canvas else None)


def views_of(augmentation: Sequence[Mapping[str, Any]], canvas: tuple[int, int] | None = None) -> list[dict[str, Any]]:
    """Turn the augmentation of a recipe into views: every transform for certain, each one alone, and the identity.

    Parameters
    ----------
    augmentation : steps as in a recipe. Their odds do not count, except that a step with ``p: 0`` is switched off.
    canvas : height and width of the images that were augmented, or None for the training size.

    Returns
    -------
    list of dict : ``view`` (a name), ``weight`` and ``moves``. Views that do the same are one.

        - What is drawn from a range is shown at both ends of it, the two sharing the transform's weight: ``Rotate``
          turned by either limit, ``RandomBrightnessContrast`` dark and flat, then bright and crisp.
        - A crop with the ``Resize`` behind it is the crop from the middle.
        - ``OneOf`` gives a view for each of its options, ``Sequential`` one view of all its transforms.

    Raises
    ------
    ValueError : naming the step and its transform, for what cannot be undone.

    Examples
    --------
    >>> steps = [{"name": "HorizontalFlip", "p": 0.5}, {"name": "OneOf", "transforms": [{"name": "NoOp"},
    ...     {"name": "Rotate", "limit": 30}]}]
    >>> [(view["view"], view["weight"]) for view in views_of(steps)]
    [('identity', 1.0), ('HorizontalFlip', 1.0), ('Rotate -30', 0.5), ('Rotate 30', 0.5)]
    >>> views_of([{"name": "ElasticTransform"}])
    Traceback (most recent call last):
    ...
    ValueError: augmentation, step 1: ElasticTransform cannot be undone after prediction ...
    """
    views: list[dict[str, Any]] = []
    for names, moves, weight in [STILL, *itertools.chain.from_iterable(_steps(augmentation, "", canvas))]:
        if all(view["moves"] != moves for view in views):
            views.append({"view": ", ".join(names) or "identity", "weight": weight, "moves": moves})
    return views


def moves_of(view: Mapping[str, Any]) -> list[Move]:
    """Return what a view does to an image, in order.

    Parameters
    ----------
    view : with ``moves``, or ``view`` (a key of ``VIEWS``) and ``scale`` (1 when left out).

    Returns
    -------
    list of moves

        - ``flip, axes...``: of (N, C, H, W);
        - ``transpose``: rows become columns;
        - ``scale, factor``: both sides are multiplied;
        - ``crop, height, width``: the middle, as parts of the image, is enlarged to the size of the image;
        - ``rotate, degrees, ratio, padding, fill``: counter-clockwise about the middle of an image whose pixels were
          square at this ratio of width to height (None: at its own); ``fill`` is a byte;
        - ``light, brightness, contrast``: intensities x in 0..1 become contrast x + brightness.

    Raises
    ------
    ValueError : for a name that is not known.

    Examples
    --------
    >>> moves_of({"view": "both", "scale": 0.75})
    [('flip', 2, 3), ('scale', 0.75)]
    """
    if "moves" in view:
        return view["moves"]
    require(view["view"], VIEWS, "view")
    scale = view.get("scale", 1)
    return [("flip", *VIEWS[view["view"]])] + [("scale", scale)] * (scale != 1)


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return a height and a width times a factor, halves rounded up.

    Examples
    --------
    >>> scaled((96, 145), 0.5), scaled((96, 144), 1.25)
    ((48, 73), (120, 180))
    """
    return int(size[0] * factor + 0.5), int(size[1] * factor + 0.5)


def smallest_side(views: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> int:
    """Return the smallest height or width, in pixels, at which the network is shown an image of a size.

    Examples
    --------
    >>> smallest_side([{"view": "identity"}, {"view": "vertical", "scale": 0.5}], (96, 144))
    48
    """
    return min(min(scaled(size, view.get("scale", 1))) for view in views)


def _steps(steps: Sequence[Mapping[str, Any]], prefix: str, canvas: tuple[int, int] | None) -> Iterator[list[Way]]:
    """Yield the ways of each step that is switched on, a crop and the Resize behind it as one."""
    left = [(f"{prefix}{place}", step) for place, step in enumerate(steps, start=1) if step.get("p", 1) != 0]
    while left:
        where, step = left.pop(0)
        if step["name"] in ("RandomCrop", "CenterCrop"):
            behind = left.pop(0)[1] if left and left[0][1]["name"] == "Resize" else None
            yield _crop(where, step, behind, canvas)
        else:
            yield _ways(where, step, canvas)


def _one_after_another(ways: Iterator[list[Way]]) -> list[Way]:
    """Combine the ways of the steps of a sequence; they share the weight of one transform."""
    combined = [STILL]
    for each in ways:
        whole = sum(weight for _, _, weight in each)
        combined = [
            (names + new_names, moves + new_moves, weight * new_weight / whole)
            for (names, moves, weight), (new_names, new_moves, new_weight) in itertools.product(combined, each)
        ]
    return combined


def _ways(where: str, step: Mapping[str, Any], canvas: tuple[int, int] | None) -> list[Way]:
    """Return the ways in which one step may be taken for certain."""
    name = step["name"]
    match name:
        case "NoOp":
            return [STILL]
        case "HorizontalFlip":
            return [([name], [("flip", 3)], 1.0)]
        case "VerticalFlip":
            return [([name], [("flip", 2)], 1.0)]
        case "Transpose":
            if canvas and canvas[0] != canvas[1]:
                _refuse(where, name, f"needs a square canvas, and this one is {canvas[0]}x{canvas[1]}")
            return [([name], [("transpose",)], 1.0)]
        case "Rotate":
            return _rotations(where, step, canvas)
        case "RandomBrightnessContrast":
            return _lights(where, step)
        case "Resize":
            _require_canvas(where, step, canvas)
            return [STILL]
        case "OneOf":
            return list(itertools.chain.from_iterable(_steps(step["transforms"], f"{where}.", canvas)))
        case "Sequential":
            return _one_after_another(_steps(step["transforms"], f"{where}.", canvas))
    _refuse(where, name, f"cannot be undone after prediction (what can: {', '.join(UNDOABLE)})")


def _rotations(where: str, step: Mapping[str, Any], canvas: tuple[int, int] | None) -> list[Way]:
    if step.get("crop_border", False):
        _refuse(where, "Rotate", "with crop_border changes the size of the image")
    border, fill = step.get("border_mode", 0), step.get("fill", 0)
    if border not in PADDINGS:
        _refuse(where, "Rotate", f"has border_mode {border}; expected one of {', '.join(map(str, PADDINGS))}")
    if not isinstance(fill, int | float):
        _refuse(where, "Rotate", f"has fill {fill}; expected one number for all channels")
    ratio = canvas[1] / canvas[0] if canvas else None
    angles = [angle for angle in dict.fromkeys(_ends(step.get("limit", (-90, 90)))) if angle % 360]
    return [STILL] * (not angles) + [
        ([f"Rotate {angle:g}"], [("rotate", angle, ratio, PADDINGS[border], fill)], 1 / len(angles)) for angle in angles
    ]


def _lights(where: str, step: Mapping[str, Any]) -> list[Way]:
    name = "RandomBrightnessContrast"
    if not step.get("brightness_by_max", True) or step.get("ensure_safe_range", False):
        _refuse(where, name, "is shown with brightness_by_max: true and ensure_safe_range: false alone")
    brightness, contrast = (_ends(step.get(f"{what}_limit", (-0.2, 0.2))) for what in ("brightness", "contrast"))
    draws = [draw for draw in dict.fromkeys(zip(brightness, contrast, strict=True)) if draw != (0, 0)]
    return [STILL] * (not draws) + [
        ([f"{name} {bright:+g} {crisp:+g}"], [("light", bright, 1 + crisp)], 1 / len(draws)) for bright, crisp in draws
    ]


def _crop(
    where: str, step: Mapping[str, Any], behind: Mapping[str, Any] | None, canvas: tuple[int, int] | None
) -> list[Way]:
    name, (height, width) = step["name"], _pixels(where, step)
    if canvas is None:
        _refuse(where, name, "is a part of a canvas, and the recipe has none; give it `canvas`")
    if behind is None:
        _refuse(where, name, f"needs a Resize to {canvas[0]}x{canvas[1]}, the canvas, right behind it")
    _require_canvas(where, behind, canvas)
    if height > canvas[0] or width > canvas[1]:
        _refuse(where, name, f"takes {height}x{width}, more than the canvas of {canvas[0]}x{canvas[1]} holds")
    if (height, width) == canvas:
        return [STILL]
    return [([f"{name} {height}x{width}"], [("crop", height / canvas[0], width / canvas[1])], 1.0)]


def _require_canvas(where: str, resize: Mapping[str, Any], canvas: tuple[int, int] | None) -> None:
    came = _pixels(where, resize)
    if came != canvas:
        wanted = f"{canvas[0]}x{canvas[1]}, the canvas" if canvas else "a recipe with `canvas`"
        _refuse(where, "Resize", f"makes {came[0]}x{came[1]}; expected {wanted}")


def _pixels(where: str, step: Mapping[str, Any]) -> tuple[int, int]:
    if not {"height", "width"} <= set(step):
        _refuse(where, step["name"], "needs `height` and `width`")
    return step["height"], step["width"]


def _ends(limit: float | Sequence[float]) -> tuple[float, float]:
    """Read a limit as albumentations does: one number reaches as far to either side."""
    if isinstance(limit, int | float):
        return -abs(limit), abs(limit)
    low, high = limit
    return low, high


def _refuse(where: str, name: str, reason: str) -> NoReturn:
    raise ValueError(
        f"augmentation, step {where}: {name} {reason}; change the step, or write the views of `tta` as a list "
        "instead of `recipe`"
    )
