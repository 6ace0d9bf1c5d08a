"""The page that shows what a recipe's augmentation does to images and masks, and says what its steps are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cloudseg.config.recipe import Recipe
from cloudseg.config.recipe_parts import Stage
from cloudseg.config.transforms import CHOICES, ODDS
from cloudseg.models.preprocessing import CHANNELS
from cloudseg.report.page import Picture, write_page
from cloudseg.report.pictures import jpeg, outlined
from cloudseg.storage import per_image, stores
from cloudseg.training.data.dataset import SegmentationDataset, planes_of
from cloudseg.training.data.images import classes_of, images_of
from cloudseg.training.data.samples import first_epochs, training_samples


@dataclass(frozen=True)
class Samples:
    """Some training images, as they are stored and as a recipe shows them to the network.

    Parameters
    ----------
    names : of the images.
    epochs : that are shown, from 1.
    classes : their names, in the order of the masks' outlines.
    tiles : per image its tiles, (H, W, 3) uint8 RGB each: the stored one, then one per epoch.
    """

    names: list[str]
    epochs: list[int]
    classes: list[str]
    tiles: list[list[np.ndarray]]


def augmented_page(pixels: str | Path, recipe: Recipe, name: str, out: str | Path, *, seed: int) -> None:
    """Write the page of a recipe's augmentation.

    Parameters
    ----------
    pixels : pixel store of the recipe's canvas, or of a training size when it has none.
    recipe : its ``augmentation``, mixes, stages, ``brightness`` and ``channels``.
    name : of the recipe.
    out : page to write.
    seed : of the draws, as in training.
    """
    samples = augmented_samples(pixels, recipe, seed=seed)
    epochs = [f"epoch {epoch}" for epoch in samples.epochs]
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
        stages=stages_in_words(recipe),
        mixes=mixes_in_words(recipe),
        soft=recipe.soft_targets,
        grey=CHANNELS[recipe.channels] == 1,
    )


def augmented_samples(
    pixels: str | Path, recipe: Recipe, *, seed: int, images: int = 4, draws: int = 6, width: int = 240
) -> Samples:
    """Draw some training images as a recipe shows them to the network, with the outlines of their masks.

    Parameters
    ----------
    pixels : pixel store of the recipe's canvas, or of a training size when it has none.
    recipe : its ``augmentation``, mixes, stages, ``brightness`` and ``channels``.
    seed : of the draws, as in training.
    images : how many to draw, evenly spread over the data set, with masks where there are any.
    draws : epochs to draw each image in, those of :func:`shown_epochs`.
    width : of a tile, in pixels; samples are resized to it after augmentation, as to the training size.
    """
    group = stores.read(pixels)
    names = per_image.ids(group)
    total, height, whole = group["mask"].shape
    size = (max(1, round(height * width / whole)), width)
    rows, epochs = _spread(group["mask"], images), shown_epochs(recipe, draws)
    # Whatever is not drawn may be mixed into what is
    others = sorted(set(range(total)) - set(rows))
    stored = images_of(pixels, [*rows, *others], recipe.brightness)
    classes = classes_of(group.attrs["classes"], recipe.brightness)
    plain = SegmentationDataset(stored, size=size)
    changed = training_samples(stored, _of_one_size(recipe), classes=len(classes), size=size, seed=seed)
    tiles = [
        [
            _tile(*plain[0, index], classes),
            *(_tile(*changed[epoch, index], classes, recipe) for epoch in epochs),
        ]
        for index in range(len(rows))
    ]
    return Samples([names[row] for row in rows], epochs, classes, tiles)


def shown_epochs(recipe: Recipe, count: int) -> list[int]:
    """Return up to ``count`` epochs, from 1: the first ones, or as many of each stage.

    Examples
    --------
    >>> staged = Recipe(epochs=9, stages=[{"epochs": 1}, {"epochs": 8}])
    >>> shown_epochs(Recipe(), 6), shown_epochs(staged, 6)
    ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4])
    """
    if not recipe.stages:
        return list(range(1, count + 1))
    each = max(1, count // len(recipe.stages))
    begun = zip(first_epochs(recipe), recipe.stages, strict=True)
    return [first + number for first, stage in begun for number in range(min(each, stage.epochs))][:count]


def _of_one_size(recipe: Recipe) -> Recipe:
    """Return a recipe whose stages have no size of their own, since all tiles have one."""
    if not recipe.stages:
        return recipe
    return recipe.model_copy(update={"stages": [stage.model_copy(update={"size": None}) for stage in recipe.stages]})


def _tile(image: Any, mask: Any, classes: Sequence[str], recipe: Recipe | None = None) -> np.ndarray:
    """Draw a sample as it is stored or, by a recipe, as the network sees it."""
    tile = image.numpy()
    if recipe and CHANNELS[recipe.channels] == 1:
        tile = cv2.cvtColor(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    planes = planes_of(mask[None], len(classes), soft=recipe is not None and recipe.soft_targets)[0]
    return outlined(tile, (planes >= 0.5).byte().numpy())


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


@dataclass(frozen=True)
class StageInWords:
    """The steps of the augmentation of a stage, and which epochs it has; a training without stages is one, unnamed."""

    title: str
    steps: Sequence[StepInWords]


def stages_in_words(recipe: Recipe) -> list[StageInWords]:
    """Say what the augmentation does in each stage of a recipe.

    Examples
    --------
    >>> stages = [{"epochs": 2, "size": "64x96", "augmentation": []}, {"epochs": 1}]
    >>> [(stage.title, len(stage.steps)) for stage in stages_in_words(Recipe(epochs=3, stages=stages))]
    [('Epochs 1 to 2, at 64x96', 0), ('Epoch 3', 3)]
    """
    if not recipe.stages:
        return [StageInWords("", steps_in_words(recipe.steps))]
    begun = zip(first_epochs(recipe), recipe.stages, strict=True)
    return [StageInWords(_title(first, stage), steps_in_words(recipe.stage_at(first).steps)) for first, stage in begun]


def _title(first: int, stage: Stage) -> str:
    last = first + stage.epochs - 1
    epochs = f"Epoch {first}" if first == last else f"Epochs {first} to {last}"
    return f"{epochs}, at {stage.size}" if stage.size else epochs


def mixes_in_words(recipe: Recipe) -> list[str]:
    """Say how samples are mixed with others, after the steps of the augmentation.

    Examples
    --------
    >>> mixes_in_words(Recipe(cutmix={"p": 0.5}))
    ['CutMix (alpha 1): in 50 % of the samples a rectangle is that of another training image, with its masks']
    """
    mixes = []
    if mix := recipe.cutmix:
        what = "a rectangle is that of another training image, with its masks"
        mixes.append(f"CutMix (alpha {mix.alpha:g}): in {100 * mix.p:.3g} % of the samples {what}")
    if mix := recipe.mixup:
        what = "image and masks are blended with those of another training image"
        mixes.append(f"MixUp (alpha {mix.alpha:g}): in {100 * mix.p:.3g} % of the samples {what}")
    return mixes


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
