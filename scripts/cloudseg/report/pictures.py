"""Tiles of images with the outlines of their masks, and the page of the data set that is made of them."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cloudseg.config.classes import IMAGE_COLUMNS
from cloudseg.dataset.contest import ContestFolder, Root
from cloudseg.dataset.decoding import load_image
from cloudseg.dataset.split import Split
from cloudseg.report.colours import class_colours, rgb
from cloudseg.report.page import Column, Picture, Table, write_page
from cloudseg.storage import per_image, stores

QUALITY = 82  # of JPEG


def dataset_page(
    truth: str | Path,
    table: pd.DataFrame,
    root: Root,
    out: str | Path,
    *,
    split: Split | None = None,
    images: int = 8,
    width: int = 560,
) -> None:
    """Write the page of the data set: some training images with the outlines of their labels, and what classes occur.

    Parameters
    ----------
    truth : store (image, class, y, x) uint8 0/1 with the attributes `ids` and `classes`.
    table : the images table of the training images.
    root : folder in the contest's layout.
    out : page to write.
    split : how even the folds are; None shows nothing of them.
    images : how many to draw, evenly spread over the data set.
    width : of a tile, in pixels, at most.
    """
    masks = stores.read(truth)
    ids, classes = per_image.ids(masks), list(masks.attrs["classes"])
    height, whole = masks.shape[2:]
    size = (max(1, round(height * min(width, whole) / whole)), min(width, whole))
    tiles = []
    for row in np.unique(np.linspace(0, len(ids) - 1, min(images, len(ids))).astype(int)):
        planes = stores.read_images(masks, slice(row, row + 1))[0]
        image = load_image(ContestFolder.of(root).images("train") / ids[row])
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
        planes = np.stack([cv2.resize(plane, size[::-1], interpolation=cv2.INTER_NEAREST) for plane in planes])
        held = ", ".join(name for name, plane in zip(classes, planes, strict=True) if plane.any())
        words = f"{ids[row]}: {held or 'no mask'}"
        tiles.append(Picture(jpeg(outlined(image, planes)), words, words))
    write_page(
        out,
        "dataset.html",
        title="Images and labels",
        classes=classes,
        count=len(ids),
        tiles=tiles,
        width=size[1],
        table=class_table(table),
        split=split,
        split_tables=[] if split is None else [fold_table(split), rate_table(split)],
    )


def class_table(images: pd.DataFrame) -> Table:
    """Return how often each class occurs in the images, and how much of an image it covers there.

    Parameters
    ----------
    images : the images table of one split, with a column of labelled pixels per class.

    Examples
    --------
    >>> images = pd.DataFrame({"image": ["a", "b"], "split": "train", "height": 10, "width": 10})
    >>> images = images.assign(digest="", labels="", Fish=[50, 0])
    >>> [column.cells for column in class_table(images).columns]
    [['Fish'], [1], [50.0], [50.0]]
    """
    labelled = images[[name for name in images.columns if name not in IMAGE_COLUMNS]].fillna(0)
    counts = (labelled > 0).sum()
    areas = 100 * labelled.div(images["height"] * images["width"], axis=0)
    mean = [float(areas.loc[labelled[name] > 0, name].mean()) if counts[name] else None for name in labelled]
    return Table(
        [
            Column("class", list(labelled.columns)),
            Column("images with it", counts.astype(int).tolist(), bar=True),
            Column("% of the images", (100 * counts / max(1, len(images))).tolist(), digits=1),
            Column("% of such an image that it covers", mean, digits=1, bar=True),
        ]
    )


def fold_table(split: Split) -> Table:
    """Return how many images, and groups, each fold has.

    Examples
    --------
    >>> table = fold_table(Split([20, 22], [4, 5], {"Fish": [0.5, 0.4]}, []))
    >>> [(column.head, column.cells) for column in table.shown]
    [('fold', [0, 1]), ('images', [20, 22]), ('groups', [4, 5])]
    """
    folds = list(range(len(split.images)))
    groups = [None] * len(folds) if split.groups is None else split.groups
    return Table([Column("fold", folds), Column("images", split.images, bar=True), Column("groups", groups)])


def rate_table(split: Split) -> Table:
    """Return how far the rate of each class differs between folds.

    Examples
    --------
    >>> [column.cells for column in rate_table(Split([20, 22], None, {"Fish": [0.5, 0.4]}, [])).columns]
    [['Fish'], [40.0], [50.0], [10.0]]
    """
    percent = {name: [100 * rate for rate in rates] for name, rates in split.rates.items()}
    return Table(
        [
            Column("class", list(percent)),
            Column("lowest % of a fold", [min(rates) for rates in percent.values()], digits=1),
            Column("highest %", [max(rates) for rates in percent.values()], digits=1),
            Column("difference", [round(max(rates) - min(rates), 6) for rates in percent.values()], digits=1, bar=True),
        ]
    )


def outlined(image: np.ndarray, masks: np.ndarray, *, thickness: int = 2) -> np.ndarray:
    """Return a copy of an (H, W, 3) RGB image with the outline of each mask (class, H, W) in its class's colour.

    Examples
    --------
    >>> masks = np.zeros((1, 20, 20), np.uint8)
    >>> masks[0, 5:15, 5:15] = 1
    >>> drawn = outlined(np.zeros((20, 20, 3), np.uint8), masks)
    >>> drawn[5, 5].tolist(), drawn[10, 10].tolist()
    ([230, 159, 0], [0, 0, 0])
    """
    drawn = np.array(image, order="C")
    for colour, mask in zip(class_colours(len(masks)), masks, strict=True):
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(drawn, outlines, -1, rgb(colour), thickness)
    return drawn


def jpeg(image: np.ndarray, quality: int = QUALITY) -> bytes:
    """Return an (H, W, 3) RGB uint8 image as the bytes of a JPEG file."""
    done, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OSError(f"an image of {image.shape} could not be written as JPEG")
    return data.tobytes()
