"""Pictures for a person's eyes."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.decoding import load_image
from cloudseg.storage import files, stores

# Colours (R, G, B) that stay apart on dark sea and white cloud; reused from the ninth class on.
COLOURS = [
    *((255, 99, 71), (255, 215, 0), (64, 224, 208), (218, 112, 214)),
    *((124, 252, 0), (30, 144, 255), (255, 165, 0), (255, 105, 180)),
]
GAP = 6  # pixels between pictures
LINE = 26  # height of the legend


def dataset_sheet(truth: str | Path, root: str | Path, out: str | Path, *, images: int = 8, columns: int = 2) -> None:
    """Draw some training images with the outlines of their masks.

    Parameters
    ----------
    truth : store (image, class, y, x) uint8 0/1 with the attributes `ids` and `classes`.
    root : folder in the contest's layout.
    out : picture to write (.png or .jpg).
    images, columns : how many to draw, evenly spread over the data set, and how many side by side.
    """
    masks = stores.read(truth)
    ids, classes = list(masks.attrs["ids"]), list(masks.attrs["classes"])
    height, width = masks.shape[2:]
    rows = np.unique(np.linspace(0, len(ids) - 1, min(images, len(ids))).astype(int))
    tiles = []
    for row in rows:
        image = load_image(ContestFolder(root).images("train") / ids[row])
        tile = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        tiles.append(outlined(tile, stores.read_images(masks, slice(row, row + 1))[0]))
    sheet = np.vstack([legend(classes, columns * width + (columns - 1) * GAP), tiled(tiles, columns)])
    write_picture(sheet, out)


def write_picture(picture: np.ndarray, out: str | Path) -> None:
    """Write an (H, W, 3) RGB uint8 picture atomically, in the format of its suffix."""
    with files.atomic(out) as temporary:
        if not cv2.imwrite(str(temporary), picture[:, :, ::-1]):  # all that OpenCV says of a full disk
            raise OSError(f"{out}: could not be written")


def outlined(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return a copy of an (H, W, 3) RGB image with the outline of each mask (class, H, W) in its class's colour.

    Examples
    --------
    >>> masks = np.zeros((1, 20, 20), np.uint8)
    >>> masks[0, 5:15, 5:15] = 1
    >>> drawn = outlined(np.zeros((20, 20, 3), np.uint8), masks)
    >>> drawn[5, 5].tolist(), drawn[10, 10].tolist()
    ([255, 99, 71], [0, 0, 0])
    """
    drawn = np.ascontiguousarray(image)
    for number, mask in enumerate(masks):
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(drawn, outlines, -1, COLOURS[number % len(COLOURS)], 2)
    return drawn


def tiled(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Return equal (H, W, 3) tiles side by side in rows of `columns`, on white."""
    height, width, _ = tiles[0].shape
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        y, x = number // columns * (height + GAP), number % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = tile
    return sheet


def legend(classes: Sequence[str], width: int) -> np.ndarray:
    """Return a white strip of `width` pixels with the class names in their colours."""
    strip = np.full((LINE, width, 3), 255, np.uint8)
    x = GAP
    for number, name in enumerate(classes):
        cv2.rectangle(strip, (x, 6), (x + 14, 20), COLOURS[number % len(COLOURS)], -1)
        cv2.putText(strip, name, (x + 20, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
        x += 40 + 10 * len(name)
    return strip
