"""Build augmentations from a recipe, each call seeded by its caller.

albumentations seeds itself once per process: under loader workers its draws repeat (6 different ones of 36).
Here every call is seeded, so a draw depends on nothing but its number.
"""

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cloudseg.config.names import require
from cloudseg.config.transforms import CHOICES, arguments_of, installed_transforms
from cloudseg.errors import ConfigError


class Augmentation:
    """Transform images together with their masks.

    Parameters
    ----------
    compose : an albumentations ``Compose`` that keeps the size of images.
    names : the transforms in it, for messages.
    """

    def __init__(self, compose: Any, names: Sequence[str]) -> None:
        self._compose = compose
        self._names = ", ".join(names)

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Transform one image and its mask.

        Parameters
        ----------
        image : (H, W, 3) uint8.
        mask : (H, W, B) uint8; its pixels are moved whole and never mixed, so bits of classes stay bits.
        seed : 0 to 2**32 - 1; the same seed gives the same result in any process.

        Returns
        -------
        (ndarray, ndarray) : of the same shapes and types. Mask pixels from outside the image are 0.

        Raises
        ------
        ConfigError : if a transform fails, or changes the size or type of an image.
        """
        # Not set_random_seed, which starts every transform at the same number: two flips of odds 1/2 would
        # always come together
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        try:
            result = self._compose(image=image, mask=mask)
        except Exception as error:  # whatever a library's transform raises, the recipe's step is to blame
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(f"augmentation ({self._names}) fails on {image.shape[:2]} pixels: {reason}") from error
        new_image, new_mask = result["image"], result["mask"].reshape(*result["mask"].shape[:2], -1)
        for before, after in ((image, new_image), (mask, new_mask)):
            if before.shape != after.shape or before.dtype != after.dtype:
                raise ConfigError(
                    f"augmentation ({self._names}): {before.dtype} {before.shape} became "
                    f"{after.dtype} {after.shape}; take transforms that keep size and type"
                )
        return new_image, new_mask


def build_transform(steps: Sequence[Mapping[str, Any]]) -> Augmentation:
    """Build the augmentation of a recipe with albumentations.

    Parameters
    ----------
    steps : in order; ``name`` is a class of albumentations that changes images (and masks with them),
        ``p`` its odds, the rest its own arguments. No steps leave images as they are.
        A step may hold others as ``transforms``: those of ``Sequential`` come one after another, ``SomeOf``
        takes ``n`` of them with equal odds, and ``OneOf`` one, with odds in proportion to their ``p``.

    Returns
    -------
    Augmentation

    Raises
    ------
    ConfigError : naming the step (``3.2`` is the second within the third): an unknown transform or argument (with
        the nearest names), a value that albumentations refuses, or a transform that would mix the pixels of masks.

    Examples
    --------
    >>> transform = build_transform([{"name": "HorizontalFlip", "p": 1}])
    >>> image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    >>> mask = np.array([[[1], [2]]], np.uint8)
    >>> transform(image, mask, seed=7)[1].ravel()
    array([2, 1], dtype=uint8)
    >>> build_transform([{"name": "OneOf", "transforms": [{"name": "NoOp"}, {"name": "HorizontalFlp"}]}])
    Traceback (most recent call last):
    ...
    cloudseg.errors.ConfigError: augmentation, step 1.2: no transform is called 'HorizontalFlp'; nearest: ...
    """
    transforms = _transforms(steps)
    import albumentations

    return Augmentation(albumentations.Compose(transforms), [_said(step) for step in steps])


def value_problems(steps: Sequence[Mapping[str, Any]], marks: Path) -> list[str]:
    """List the values in an augmentation that albumentations refuses.

    Parameters
    ----------
    steps : as in a recipe, without problems of :func:`cloudseg.config.transforms.augmentation_problems`.
    marks : folder that remembers which augmentations are sound, since importing albumentations takes two seconds.
    """
    version = importlib.metadata.version("albumentations")
    mark = marks / f"augmentation-{hashlib.sha256(f'{version} {json.dumps(steps)}'.encode()).hexdigest()[:16]}"
    if mark.exists():
        return []
    try:
        build_transform(steps)
    except ValueError as error:
        return [str(error)]
    with contextlib.suppress(OSError):  # without the mark the question is asked again
        marks.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return []


def _transforms(steps: Sequence[Mapping[str, Any]], parent: str = "") -> list[Any]:
    """Make the transforms of some steps; ``parent`` is the number of the step that they are part of."""
    known = installed_transforms()
    transforms = []
    for number, step in enumerate(steps, start=1):
        where = f"{parent}.{number}" if parent else f"{number}"
        parts = _transforms(_steps_within(step, where), where)
        try:
            transforms.append(_transform(step, parts, known))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"augmentation, step {where}: {_in_words(error)}") from error
    return transforms


def _in_words(error: Exception) -> str:
    """Return what is wrong with the arguments of a transform in one line; pydantic writes several for each."""
    cause = error.__cause__  # albumentations passes the text of pydantic's error on
    if not hasattr(cause, "errors"):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}, got {one['input']!r}" for one in cause.errors())


def _steps_within(step: Mapping[str, Any], where: str) -> Sequence[Mapping[str, Any]]:
    """Return the steps that a step holds."""
    if not isinstance(step, Mapping):
        raise ConfigError(f"augmentation, step {where}: expected a mapping with a `name`, got {step!r}")
    if step.get("name") not in CHOICES:
        return []
    parts = step.get("transforms")
    if not isinstance(parts, list | tuple) or not parts:
        raise ConfigError(
            f"augmentation, step {where}: {step['name']} needs `transforms`, a list of at least one step; got {parts!r}"
        )
    return parts


def _transform(step: Mapping[str, Any], parts: Sequence[Any], known: Mapping[str, Any]) -> Any:
    """Make the transform of one step, ``parts`` being those of the steps within it."""
    require(step.get("name", ""), known, "transform")
    name, make = step["name"], known[step["name"]]
    accepted = arguments_of(make)
    arguments = {key: value for key, value in step.items() if key != "name"}
    for argument in arguments:
        require(argument, accepted, f"argument of {name}")
    if name not in CHOICES:
        if arguments.get("mask_interpolation", 0) != 0:
            raise ValueError("mask_interpolation mixes the classes of neighbours; leave it out")
        if arguments.get("area_for_downscale") == "image_mask":
            raise ValueError("area_for_downscale: image_mask mixes the classes of neighbours; take image")
        # Some take no `strict`; a value that they do not know is then the first image's to find
        strict = {"strict": True} if "strict" in inspect.signature(make).parameters else {}
        return make(**arguments, **strict)
    # What albumentations checks of other transforms it believes of these
    if not 0 <= (odds := arguments.get("p", 1)) <= 1:
        raise ValueError(f"{name}: p must be from 0 to 1, got {odds}")
    if name == "OneOf" and not any(part.p for part in parts):
        raise ValueError("OneOf chooses in proportion to the p of its transforms, and all are 0; set one above 0")
    most = math.inf if arguments.get("replace") else len(parts)
    if not isinstance(chosen := arguments.get("n", 1), int) or not 1 <= chosen <= most:
        raise ValueError(f"{name}: n must be a whole number from 1 to {most}, got {chosen}")
    return make(**arguments | {"transforms": parts})


def _said(step: Mapping[str, Any]) -> str:
    """Return a step's name, with those of the steps within it."""
    parts = ", ".join(_said(part) for part in step.get("transforms", ()))
    return f"{step['name']}({parts})" if parts else step["name"]
