"""Pictures of masks and probabilities that lie over a photograph, each class a layer of its own.

A layer is a PNG of few colours whose pixels are those of the submission grid, so that what is seen can be counted.
"""

import functools
import io
import math

import cv2
import numpy as np
from PIL import Image

from cloudseg.report.colours import rgb
from cloudseg.report.page import Picture

PHOTO_WIDTH = 400  # pixels
PHOTO_QUALITY = 72  # of JPEG
MOST_SIDE = 640  # pixels of the longer side of a layer: a larger grid is thinned out
OUTLINE = 3  # pixels wide
HEAT_STEP = 2  # pixels of the grid per pixel of a heat map
HEAT_BITS = 4  # of a probability's eight that a heat map shows

# Values of the pixels of a mask
OUT, IN, EDGE = range(3)
# Values of the pixels of a mask over the truth, drawn as nothing, fill, dots and stripes
HIT, MISSED, MISSED_DOT, ADDED, ADDED_STRIPE, HIT_EDGE, MISSED_EDGE = range(1, 8)
KEPT = (HIT, HIT_EDGE, ADDED, ADDED_STRIPE)  # what the mask holds
TRUE = (HIT, HIT_EDGE, MISSED, MISSED_DOT, MISSED_EDGE)  # what the truth holds

FILL, STRIPE, FAINT, OPAQUE = 130, 200, 25, 255  # of 255, how much a colour covers


def photo(data: bytes, size: tuple[int, int], alt: str) -> Picture:
    """Return an image file, made small, as a JPEG.

    Parameters
    ----------
    data : of a JPEG or PNG file that the dataset check has passed.
    size : (height, width) of the grid that masks have; the picture has its shape.
    alt : what it shows.
    """
    height, width = size
    shown = (PHOTO_WIDTH, max(1, round(PHOTO_WIDTH * height / width)))
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", shown)  # a JPEG is decoded at half, a quarter or an eighth where that suffices
        small = image.convert("RGB").resize(shown, reducing_gap=2)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=PHOTO_QUALITY, optimize=True)
    return Picture(file.getvalue(), alt)


def mask_layer(mask: np.ndarray, colour: str) -> bytes:
    """Draw a mask, faintly filled and with an outline, as a PNG.

    Parameters
    ----------
    mask : uint8 (H, W) of 0 and 1.
    colour : ``#rrggbb``.

    Examples
    --------
    >>> png = mask_layer(np.ones((20, 30), np.uint8), "#0072b2")
    >>> drawn = np.asarray(Image.open(io.BytesIO(png)))
    >>> int((drawn == IN).sum()), int((drawn == EDGE).sum())
    (600, 0)
    """
    values = mask + (mask & ~_eroded(mask) & 1)
    return _png(values, [(colour, 0), (colour, FILL), (colour, OPAQUE)])


def outline_layer(mask: np.ndarray, colour: str) -> bytes:
    """Draw the outline of a mask as a PNG; its inside is tinted a little. Parameters are those of `mask_layer`."""
    values = mask + (mask & ~_eroded(mask) & 1)
    return _png(values, [(colour, 0), (colour, FAINT), (colour, OPAQUE)])


def verdict_layer(mask: np.ndarray, truth: np.ndarray, colour: str) -> bytes:
    """Draw a mask over the truth as a PNG: filled where both are, dotted where it lacks, striped where it is too much.

    Parameters
    ----------
    mask, truth : uint8 (H, W) of 0 and 1.
    colour : ``#rrggbb``.

    Examples
    --------
    >>> truth, mask = np.pad(np.ones((2, 20, 40), np.uint8), ((0, 0), (9, 9), (9, 9)))
    >>> drawn = np.asarray(Image.open(io.BytesIO(verdict_layer(np.roll(mask, 7, 1), truth, "#0072b2"))))
    >>> int(np.isin(drawn, KEPT).sum()), int(np.isin(drawn, TRUE).sum()), int((drawn == HIT).sum())
    (800, 800, 420)
    """
    dots, stripes = _patterns(*mask.shape)
    edge = (truth != 0) & (_eroded(truth) == 0)
    hit, missed, added = (mask & truth) != 0, truth > mask, mask > truth
    values = np.zeros(mask.shape, np.uint8)
    values[hit], values[missed], values[added] = HIT, MISSED, ADDED
    values[missed & dots], values[added & stripes] = MISSED_DOT, ADDED_STRIPE
    values[hit & edge], values[missed & edge] = HIT_EDGE, MISSED_EDGE
    covers = (0, FILL, 0, STRIPE, FAINT, STRIPE, OPAQUE, OPAQUE)
    return _png(values, [(colour, cover) for cover in covers])


def heat_layer(plane: np.ndarray, colour: str) -> bytes:
    """Draw probabilities as a PNG: the more certain, the more the colour covers.

    Parameters
    ----------
    plane : uint8 (H, W); 255 is certainty.
    colour : ``#rrggbb``.
    """
    steps = 2**HEAT_BITS
    values = plane[::HEAT_STEP, ::HEAT_STEP] >> 8 - HEAT_BITS
    return _png(values, [(colour, round(0.75 * 255 * step / (steps - 1))) for step in range(steps)])


@functools.lru_cache(1)
def _patterns(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where a grid has dots, and where it has stripes."""
    y, x = np.ogrid[:height, :width]
    return (y % 8 < 3) & ((x + y // 8 % 2 * 4) % 8 < 3), (x + y) % 9 < 4


def _eroded(mask: np.ndarray) -> np.ndarray:
    return cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=OUTLINE)


def _png(values: np.ndarray, palette: list[tuple[str, int]]) -> bytes:
    """Return values as a PNG whose colours are (#rrggbb, how much of 255 it covers)."""
    step = math.ceil(max(values.shape) / MOST_SIDE)
    image = Image.fromarray(np.ascontiguousarray(values[::step, ::step]), "P")
    image.putpalette([part for colour, _ in palette for part in rgb(colour)])
    file = io.BytesIO()
    image.save(file, "PNG", bits=4, transparency=bytes(cover for _, cover in palette), compress_level=6)
    return file.getvalue()
