"""The page that shows what a recipe's augmentation does to images and masks, and says what its steps are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cloudseg.config.recipe import Recipe
from cloudseg.config.transforms import CHOICES, ODDS
from cloudseg.models.preprocessing import CHANNELS
from cloudseg.report.page import Picture, write_page
from cloudseg.report.pictures import jpeg, outlined
from cloudseg.storage import stores
from cloudseg.training.data.augment import build_transform
from cloudseg.training.data.dataset import SegmentationDataset, bits_to_planes
from cloudseg.training.data.images import LabelledImages


@dataclass(frozen=True)
class Samples:
    """Some training images, as they are stored and as a recipe shows them to the network.

    Parameters
    ----------
    names : of the images.
    classes : their names, in the order of the masks' outlines.
    tiles : per image its tiles, (H, W, 3) uint8 RGB each: the stored one, then one per epoch.
    """

    names: list[str]
    classes: list[str]
    tiles: list[list[np.ndarray]]


def augmented_page(pixels: str | Path, recipe: Recipe, name: str, out: str | Path, *, seed: int) -> None:
    """Write the page of a recipe's augmentation.

    Parameters
    ----------
    pixels : pixel store of the recipe's canvas, or of a training size when it has none.
    recipe : its ``augmentation`` and ``channels``.
    name : of the recipe.
    out : page to write.
    seed : of the draws, as in training.
    """
    samples = augmented_samples(pixels, recipe, seed=seed)
    epochs = [f"epoch {epoch}" for epoch in range(1, len(samples.tiles[0]))]
    rows = []
    for image, tiles in zip(samples.names, samples.tiles, strict=True):
        heads = [f"{image}, as stored", *(f"{image} in {epoch}" for epoch in epochs)]
        rows.append([Picture(jpeg(tile), head) for tile, head in zip(tiles, heads, strict=True)])
    write_page(
        out,
        "augmented.html",
        title=f"Augmentation of {name}",
        classes=samples.classes,
        heads=["as stored", *epochs],
        names=samples.names,
        rows=rows,
        steps=steps_in_words(recipe.steps),
        grey=CHANNELS[recipe.channels] == 1,
    )


def augmented_samples(
    pixels: str | Path, recipe: Recipe, *, seed: int, images: int = 4, draws: int = 6, width: int = 240
) -> Samples:
    """Draw some training images as a recipe shows them to the network, with the outlines of their masks.

    Parameters
    ----------
    pixels : pixel store of the recipe's canvas, or of a training size when it has none.
    recipe : its ``augmentation`` and ``channels``.
    seed : of the draws, as in training.
    images : how many to draw, evenly spread over the data set, with masks where there are any.
    draws : epochs to draw each image in.
    width : of a tile, in pixels; samples are resized to it after augmentation, as to the training size.
    """
    group = stores.read(pixels)
    classes, (_, height, whole) = list(group.attrs["classes"]), group["mask"].shape
    size = (max(1, round(height * width / whole)), width)
    rows = _spread(group["mask"], images)
    plain = SegmentationDataset(LabelledImages(pixels, rows), size=size)
    transform = build_transform(recipe.steps)
    changed = SegmentationDataset(LabelledImages(pixels, rows), transform=transform, seed=seed, size=size)
    grey = CHANNELS[recipe.channels] == 1
    tiles = [
        [
            _tile(*plain[0, index], len(classes), grey=False),
            *(_tile(*changed[epoch, index], len(classes), grey=grey) for epoch in range(1, draws + 1)),
        ]
        for index in range(len(rows))
    ]
    return Samples([group.attrs["ids"][row] for row in rows], classes, tiles)


def _tile(image: Any, mask: Any, classes: int, *, grey: bool) -> np.ndarray:
    tile = image.numpy()
    if grey:
        tile = cv2.cvtColor(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return outlined(tile, bits_to_planes(mask[None], classes)[0].byte().numpy())


def _spread(masks: Any, count: int) -> list[int]:
    """Choose up to ``count`` images, evenly spread, each the next one with a mask if there is one."""
    total = masks.shape[0]
    rows = []
    for start in np.unique(np.linspace(0, total, min(count, total), endpoint=False).astype(int)).tolist():
        labelled = (row for row in range(start, total) if stores.read_images(masks, slice(row, row + 1)).any())
        rows.append(next(labelled, start))
    return sorted(set(rows))


@dataclass(frozen=True)
class StepInWords:
    """A step of an augmentation in words, and the steps that it is made of."""

    words: str
    parts: Sequence["StepInWords"] = ()


def steps_in_words(steps: Sequence[Mapping[str, Any]]) -> list[StepInWords]:
    """Say what each step of an augmentation does, and to how many of the samples.

    Examples
    --------
    >>> flip, one = steps_in_words([
    ...     {"name": "HorizontalFlip", "p": 0.5},
    ...     {"name": "OneOf", "p": 0.25, "transforms": [{"name": "Blur", "p": 3}, {"name": "Rotate", "limit": 9}]},
    ... ])
    >>> flip.words, one.words
    ('HorizontalFlip: in 50 % of the samples', 'OneOf, one of these: in 25 % of the samples')
    >>> [part.words for part in one.parts]
    ['Blur: chosen in 75 %', 'Rotate (limit 9): chosen in 25 %']
    """
    return [_in_words(step, f"in {100 * _odds(step):.3g} % of the samples") for step in steps]


def _in_words(step: Mapping[str, Any], how_often: str) -> StepInWords:
    name, parts = step["name"], list(step.get("transforms", ()))
    settings = [f"{key} {_plain(value)}" for key, value in step.items() if key not in ("name", "p", "transforms")]
    words = f"{name} ({', '.join(settings)})" if settings else name
    if name not in CHOICES:
        return StepInWords(f"{words}: {how_often}")
    kind = {"OneOf": "one of these", "SomeOf": "some of these", "Sequential": "all of these in turn"}[name]
    whole = sum(map(_odds, parts))
    often = {"Sequential": "in {:.3g} % of these", "OneOf": "chosen in {:.3g} %", "SomeOf": "as often as the others"}[
        name
    ]
    share = whole if name == "OneOf" else 1
    told = [_in_words(part, often.format(100 * _odds(part) / share)) for part in parts]
    return StepInWords(f"{words}, {kind}: {how_often}", told)


def _odds(step: Mapping[str, Any]) -> float:
    return float(step.get("p", ODDS.get(step["name"], 1)))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
