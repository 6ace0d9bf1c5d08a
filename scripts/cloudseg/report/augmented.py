"""Show what a recipe's augmentation does to images and masks."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cloudseg.config.recipe import Recipe
from cloudseg.models.preprocessing import CHANNELS
from cloudseg.report.pictures import GAP, legend, outlined, tiled, write_picture
from cloudseg.storage import stores
from cloudseg.training.data.augment import build_transform
from cloudseg.training.data.dataset import SegmentationDataset, bits_to_planes


def augmented_sheet(
    pixels: str | Path,
    recipe: Recipe,
    out: str | Path,
    *,
    seed: int,
    images: int = 4,
    draws: int = 6,
    width: int = 240,
) -> None:
    """Draw some training images as a recipe shows them to the network, with the outlines of their masks.

    Parameters
    ----------
    pixels : pixel store of the recipe's canvas, or of a training size when it has none.
    recipe : its ``augmentation`` and ``channels``.
    out : picture to write (.png or .jpg): a row per image, first as it is, then as drawn in ``draws`` epochs.
    seed : of the draws, as in training.
    images : how many to draw, evenly spread over the data set, with masks where there are any.
    draws : augmented samples of each image.
    width : of a tile, in pixels; samples are resized to it after augmentation, as to the training size.
    """
    group = stores.read(pixels)
    classes, (_, height, whole) = group.attrs["classes"], group["mask"].shape
    size = (max(1, round(height * width / whole)), width)
    rows = _spread(group["mask"], images)
    plain = SegmentationDataset(pixels, rows, size=size)
    changed = SegmentationDataset(pixels, rows, transform=build_transform(recipe.steps), seed=seed, size=size)
    grey = CHANNELS[recipe.channels] == 1
    tiles = []
    for index in range(len(rows)):
        for image, mask in (plain[0, index], *(changed[epoch, index] for epoch in range(1, draws + 1))):
            tile = image.numpy()
            if grey:
                tile = cv2.cvtColor(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            tiles.append(outlined(tile, bits_to_planes(mask[None], len(classes))[0].byte().numpy()))
    columns = 1 + draws
    sheet = np.vstack([legend(classes, columns * (width + GAP) - GAP), tiled(tiles, columns)])
    write_picture(sheet, out)


def _spread(masks: Any, count: int) -> list[int]:
    """Choose up to ``count`` images, evenly spread, each the next one with a mask if there is one."""
    total = masks.shape[0]
    rows = []
    for start in np.unique(np.linspace(0, total, min(count, total), endpoint=False).astype(int)).tolist():
        labelled = (row for row in range(start, total) if stores.read_images(masks, slice(row, row + 1)).any())
        rows.append(next(labelled, start))
    return sorted(set(rows))
