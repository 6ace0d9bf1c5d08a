"""Pictures of the shift between train and test: how well they are told apart, and which training images stand out."""

from pathlib import Path

import cv2
import numpy as np

from cloudseg.dataset.pixels import resize_image
from cloudseg.report.pictures import COLOURS, GAP, LINE, legend, tiled, write_picture
from cloudseg.storage import stores
from cloudseg.studies.shift import GRID, Shift

INK, PALE = (40, 40, 40), (215, 215, 215)
SIDE = 420  # pixels of a square of axes
MARGIN = 70  # pixels around it, for the numbers and the name
TILE = 288  # width of a tile
BARS = 20  # of a histogram


def shift_roc(shift: Shift, out: str | Path) -> None:
    """Draw the ROC curve with its AUC and interval, and beside it the histograms of both sets' scores.

    Parameters
    ----------
    shift : what was found.
    out : picture to write (.png or .jpg).
    """
    panels = [_roc_panel(shift), _histogram_panel(shift)]
    width = sum(panel.shape[1] for panel in panels)
    head = np.full((LINE + 2 * GAP, width, 3), 255, np.uint8)
    _text(head, shift.verdict, MARGIN, LINE, size=0.6)
    counted = legend([f"{split}: {shift.count(split)} images" for split in ("train", "test")], width - MARGIN + GAP)
    counted = cv2.copyMakeBorder(counted, 0, 0, MARGIN - GAP, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    write_picture(np.vstack([head, counted, np.hstack(panels)]), out)


def shift_sheet(shift: Shift, pixels: str | Path, out: str | Path, *, images: int = 8, columns: int = 4) -> None:
    """Draw the most test-like and the most train-like training images, each with its score and weight.

    Parameters
    ----------
    shift : what was found.
    pixels : the pixel store of the training images.
    out : picture to write (.png or .jpg).
    images, columns : how many of either kind (no image is shown twice), and how many side by side.
    """
    store = stores.read(pixels)
    row_of = {image: row for row, image in enumerate(store.attrs["ids"])}
    train = shift.images[shift.images["split"] == "train"].sort_values("score", kind="stable")
    shown = min(images, len(train) // 2)
    note = "" if train["score"].nunique() > 1 else " (all score alike: in no order)"
    width = columns * (TILE + GAP) - GAP
    parts = [np.full((LINE + GAP, width, 3), 255, np.uint8)]
    _text(parts[0], shift.verdict, GAP, LINE - GAP)
    for name, chosen in (("most test-like", train[:shown]), ("most train-like", train.iloc[::-1][:shown])):
        tiles = []
        for image, score, weight in zip(chosen["image"], chosen["score"], chosen["weight"], strict=True):
            row = row_of[image]
            pixel = stores.read_images(store["image"], slice(row, row + 1))[0]
            tiles.append(_captioned(pixel, f"{image}  score {score:.2f}  weight {weight:.2f}"))
        parts += [legend([f"{name} training images{note}"], width), _padded(tiled(tiles, columns), width)]
    write_picture(np.vstack(parts), out)


def _roc_panel(shift: Shift) -> np.ndarray:
    panel = _axes("test images taken for train", "train images recognised")
    cv2.line(panel, _point(0, 0), _point(1, 1), PALE, 1, cv2.LINE_AA)
    points = [_point(0, 0), *(_point(x, y) for x, y in zip(GRID, shift.curve, strict=True)), _point(1, 1)]
    cv2.polylines(panel, [np.array(points)], False, COLOURS[5], 2, cv2.LINE_AA)
    _text(panel, f"AUC {shift.auc:.3f}", *_point(0.52, 0.16), size=0.6)
    _text(panel, f"95 %: {shift.low:.3f} .. {shift.high:.3f}", *_point(0.52, 0.09))
    return panel


def _histogram_panel(shift: Shift) -> np.ndarray:
    shares = {}
    for split in ("train", "test"):
        scores = shift.images.loc[shift.images["split"] == split, "score"]
        shares[split] = np.histogram(scores, BARS, (0, 1))[0] / len(scores)
    highest = max(values.max() for values in shares.values())
    top = np.ceil(highest * 4) / 4
    panel = _axes("score: probability of train, held out", "share of the set's images", top)
    for number, values in enumerate(shares.values()):
        for bar, value in enumerate(values):
            left = (bar + 0.08 + 0.42 * number) / BARS
            if value:
                cv2.rectangle(panel, _point(left, value / top), _point(left + 0.42 / BARS, 0), COLOURS[number], -1)
    cv2.line(panel, _point(0, 0), _point(1, 0), INK, 1)
    return panel


def _axes(across: str, up: str, top: float = 1) -> np.ndarray:
    """Return a white panel with a square of axes from 0 to 1, and to ``top`` upwards."""
    panel = np.full((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, 3), 255, np.uint8)
    for tick in np.linspace(0, 1, 6):
        cv2.line(panel, _point(tick, 0), _point(tick, 1), PALE, 1)
        cv2.line(panel, _point(0, tick), _point(1, tick), PALE, 1)
        x, y = _point(tick, 0)
        _text(panel, f"{tick:.1f}", x - 12, y + 20, size=0.45)
        x, y = _point(0, tick)
        _text(panel, f"{tick * top:.2f}", x - 40, y + 5, size=0.45)
    cv2.rectangle(panel, _point(0, 1), _point(1, 0), INK, 1)
    _text(panel, across, MARGIN, MARGIN + SIDE + 46)
    _text(panel, up, MARGIN, MARGIN - 14)
    return panel


def _point(x: float, y: float) -> tuple[int, int]:
    """Return the pixel of a panel at (x, y), both from 0 to 1, y upwards."""
    return MARGIN + round(float(x) * SIDE), MARGIN + round((1 - float(y)) * SIDE)


def _captioned(image: np.ndarray, caption: str) -> np.ndarray:
    height = max(1, round(image.shape[0] * TILE / image.shape[1]))
    strip = np.full((LINE, TILE, 3), 255, np.uint8)
    _text(strip, caption, 0, 18, size=0.42)
    return np.vstack([resize_image(image, (height, TILE)), strip])


def _padded(picture: np.ndarray, width: int) -> np.ndarray:
    missing = width - picture.shape[1]
    return cv2.copyMakeBorder(picture, 0, 0, 0, missing, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _text(picture: np.ndarray, text: str, x: int, y: int, *, size: float = 0.5) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)
