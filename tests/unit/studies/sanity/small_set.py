"""A small labelled set of two classes, a submission to it that looks like it, and the means to spoil it."""

import numpy as np
import pandas as pd

from cloudseg.postprocess import encode_rle
from cloudseg.studies.sanity.check import look_at
from cloudseg.studies.sanity.submission import Form
from cloudseg.studies.sanity.training import Training

CLASSES = ["Fish", "Sugar"]
GRID = (40, 60)
IMAGES = 60


def mask(rng):
    plane = np.zeros(GRID, np.uint8)
    top, left = rng.integers(0, 20), rng.integers(0, 30)
    plane[top : top + rng.integers(8, 20), left : left + rng.integers(8, 30)] = 1
    return plane


def training(images=200, rates=(0.5, 0.7), seed=0):
    rng = np.random.default_rng(seed)
    present = rng.random((images, len(CLASSES))) < rates
    shares = np.array([[mask(rng).mean() for _ in CLASSES] for _ in range(images)]) * present
    rows = [(number, 1, 0, False) for _, number in np.argwhere(present)]
    masks = pd.DataFrame(rows, columns=["class", "components", "small", "same"])
    return Training(CLASSES, [f"train{number}.jpg" for number in range(images)], present, shares, masks)


def form(min_size=20):
    rows = [(f"test{number}.jpg", name) for number in range(IMAGES) for name in CLASSES]
    return Form(rows, training().names, CLASSES, GRID, [min_size] * len(CLASSES))


def rows(rates=(0.5, 0.7), seed=1):
    rng = np.random.default_rng(seed)
    return [
        [f"{image}_{name}", encode_rle(mask(rng)) if rng.random() < rates[CLASSES.index(name)] else ""]
        for image, name in form().rows
    ]


def text_of(lines, header="Image_Label,EncodedPixels"):
    return "\n".join([header, *(",".join(cells) for cells in lines), ""])


def look(path, content, *, own=False, training=training()):  # noqa: B008  # it is only read
    """Write a submission and look at it: the look, and its findings as (title, first line, whether a fault)."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    looked = look_at(path, form(), training, own=own)
    groups = looked.findings.groups()
    return looked, {group.kind.title: (group.first[0].line, group.kind.fault) for group in groups}
