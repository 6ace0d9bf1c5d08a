"""The transforms of albumentations and their arguments, as a table, so that a typo is found without importing it.

    python -m cloudseg.config.transforms     # makes the table anew; a test holds it against the installed library

Parsing a workflow must not take the second that the import of albumentations costs, in every job.
"""

import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cloudseg.config.names import nearest

TABLE = Path(__file__).with_name("augmentation.json")
CHOICES = ("OneOf", "Sequential", "SomeOf")


@cache
def transforms() -> dict[str, dict[str, bool]]:
    """Return the arguments of every transform that changes images, and masks with them, and whether they are needed."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def augmentation_problems(steps: Sequence[Mapping[str, Any]], prefix: str = "") -> Iterator[str]:
    """Yield the unknown names in an augmentation: the step, the name and the nearest known names.

    Parameters
    ----------
    steps : as in a recipe: ``name``, the transform's own arguments, and the ``transforms`` that a choice is made of.
    prefix : the number of the step that these steps are part of, with a full stop.

    Examples
    --------
    >>> list(augmentation_problems([{"name": "HorizontalFlip"}, {"name": "Rotate", "limits": 30}]))
    ["step 2: Rotate has no argument 'limits' (nearest: limit)"]
    """
    for number, step in enumerate(steps, start=1):
        where, name = f"step {prefix}{number}", step.get("name", "")
        if name not in transforms():
            yield f"{where}: no transform {name!r}{nearest(name, transforms())}"
            continue
        if name in UNUSABLE:
            yield f"{where}: {name} needs more than an image and its mask; take another"
        for argument in step:
            if argument not in ("name", *transforms()[name]):
                yield f"{where}: {name} has no argument {argument!r}{nearest(argument, transforms()[name])}"
        needed = [argument for argument, must in transforms()[name].items() if must and argument not in step]
        if needed and name not in CHOICES:
            yield f"{where}: {name} needs {', '.join(needed)}"
        if name in CHOICES:
            if not isinstance(step.get("transforms"), list) or not all(isinstance(s, dict) for s in step["transforms"]):
                yield f"{where}: {name} needs `transforms`, a list of steps"
            else:
                yield from augmentation_problems(step["transforms"], f"{prefix}{number}.")


Size = tuple[int, int]
IMPOSSIBLE = (0, 0)  # the size of an image that a crop is too large for

# What transforms do to the size of an image, if they do not keep it. A test runs every transform of albumentations.
_CROPS = ("AtLeastOneBBoxRandomCrop", "CenterCrop", "CropNonEmptyMaskIfExists", "RandomCrop", "Resize")
GIVEN = {  # the size in these arguments
    **dict.fromkeys(_CROPS, ("height", "width")),
    **dict.fromkeys(("RandomResizedCrop", "RandomSizedCrop"), ("size",)),
}
SWAPPING = {"D4", "RandomRotate90", "SquareSymmetry", "Transpose"}  # height and width change places
VARYING = {"Crop", "LongestMaxSize", "Pad", "RandomCropFromBorders", "RandomScale", "SmallestMaxSize"}  # any size
VARYING_WITH = {  # any size, if an argument has this value
    **{"Affine": ("fit_output", True), "CropAndPad": ("keep_size", False), "Perspective": ("keep_size", False)},
    "Rotate": ("crop_border", True),
}
# Transforms that need boxes, volumes, other images or fonts, which no sample has
UNUSABLE = {
    *("BBoxSafeRandomCrop", "CenterCrop3D", "CoarseDropout3D", "CubicSymmetry", "FDA"),
    *("HistogramMatching", "MaskDropout", "Mosaic", "OverlayElements", "PadIfNeeded3D", "RandomCrop3D"),
    *("PixelDistributionAdaptation", "RandomCropNearBBox", "RandomSizedBBoxSafeCrop", "TextImage"),
}
ODDS = {"OneOf": 0.5, "Sequential": 0.5}  # their `p` where a recipe does not say; of all others here, 1


def size_problem(steps: Sequence[Mapping[str, Any]], size: Size) -> str | None:
    """Return how an augmentation changes the size of images, or None when it ends with the size that it began with.

    Parameters
    ----------
    steps : as in a recipe, without :func:`augmentation_problems`.
    size : (height, width) of the images in pixels.

    Examples
    --------
    >>> crop = {"name": "RandomCrop", "height": 300, "width": 400}
    >>> size_problem([crop], (320, 480))
    'step 1: RandomCrop makes 300x400 of 320x480; end with {name: Resize, height: 320, width: 480}'
    >>> size_problem([crop, {"name": "Resize", "height": 320, "width": 480}], (320, 480)) is None
    True
    """
    sizes: set[Size | None] = {size}
    culprit = None
    for number, step in enumerate(steps, start=1):
        before, sizes = sizes, _sizes_after([step], sizes)
        if sizes == {size}:
            culprit = None
        elif culprit is None or before == {size}:
            culprit = f"step {number}: {_changing(step)}"
    if culprit is None:
        return None
    if IMPOSSIBLE in sizes:
        return f"{culprit} is larger than the image that it gets; set pad_if_needed, or take a smaller one"
    other = next((f"{new[0]}x{new[1]}" for new in sizes - {size} if new), "another size")
    height, width = size
    fix = f"end with {{name: Resize, height: {height}, width: {width}}}"
    return f"{culprit} makes {other} of {height}x{width}; {fix}"


def _sizes_after(steps: Sequence[Mapping[str, Any]], sizes: set[Size | None], *, surely: bool = False) -> set:
    """Return the sizes that images of some sizes can have after some steps; None is one that is not known here.

    With `surely` the first step is applied whatever its `p`, as the one that `OneOf` has chosen.
    """
    for step in steps:
        name = step["name"]
        odds = 1 if surely else step.get("p", ODDS.get(name, 1))
        parts = step.get("transforms", [])
        if name == "OneOf":
            chosen = [part for part in parts if part.get("p") != 0]
            made = set().union(*(_sizes_after([part], sizes, surely=True) for part in chosen))
        elif name == "SomeOf":
            made = set(sizes)
            for part in parts:
                made |= _sizes_after([part], made)
        elif name == "Sequential":
            made = _sizes_after(parts, sizes)
        else:
            made = set().union(*(_sizes_made(step, size) for size in sizes))
        sizes = made if odds == 1 else made | sizes if odds else sizes
    return sizes


def _sizes_made(step: Mapping[str, Any], size: Size | None) -> set[Size | None]:
    """Return the sizes that one transform can make of one."""
    name = step["name"]
    if size == IMPOSSIBLE:
        return {size}
    if name in GIVEN:
        given = [step.get(argument) for argument in GIVEN[name]]
        given = given[0] if len(GIVEN[name]) == 1 else given
        if not isinstance(given, list) or len(given) != 2 or not all(isinstance(side, int) for side in given):
            return {None}
        cropped = name in ("CenterCrop", "RandomCrop") and not step.get("pad_if_needed") and size is not None
        fits = not cropped or (given[0] <= size[0] and given[1] <= size[1])
        return {tuple(given) if fits else IMPOSSIBLE}
    if name == "PadIfNeeded" and size:
        minimums = [step.get(argument, 1024) for argument in ("min_height", "min_width")]
        large = all(minimum and minimum <= side for minimum, side in zip(minimums, size, strict=True))
        return {size if large else None}
    if name in SWAPPING and size:
        return {size, size[::-1]}
    argument, value = VARYING_WITH.get(name, ("name", None))
    return {None} if name in VARYING or step.get(argument) == value else {size}


def _changing(step: Mapping[str, Any]) -> str:
    """Return the name of the first transform in a step that does not keep the size."""
    inner = [_changing(part) for part in step.get("transforms", ())]
    changes = step["name"] in {*GIVEN, *SWAPPING, *VARYING, *VARYING_WITH, "PadIfNeeded"}
    return next(filter(None, inner), step["name"] if changes else "")


def installed_transforms() -> dict[str, type]:
    """Return the classes of the installed albumentations that the table is about, by name."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # read at import, which would look for updates on the network
    import albumentations

    kinds = (albumentations.ImageOnlyTransform, albumentations.DualTransform)
    found = {
        name: member
        for name, member in vars(albumentations).items()
        if inspect.isclass(member) and issubclass(member, kinds) and member not in kinds
    }
    return dict(sorted(found.items())) | {name: getattr(albumentations, name) for name in CHOICES}


def arguments_of(transform: type) -> dict[str, bool]:
    """Return the names of the arguments that a transform takes in a recipe, and whether it needs them."""
    parameters = inspect.signature(transform).parameters
    return {name: each.default is inspect.Parameter.empty for name, each in parameters.items() if name != "strict"}


def installed_table() -> dict[str, dict[str, bool]]:
    """Return the table as the installed albumentations has it."""
    return {name: arguments_of(transform) for name, transform in sorted(installed_transforms().items())}


if __name__ == "__main__":
    rows = (f"  {json.dumps(name)}: {json.dumps(arguments)}" for name, arguments in installed_table().items())
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
