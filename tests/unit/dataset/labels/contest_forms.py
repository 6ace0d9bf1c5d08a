"""Small data sets in the forms of contests, written by an encoder that shares nothing with ours."""

import csv
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

SHAPE = (40, 60)
Masks = Mapping[tuple[str, str], np.ndarray]  # by the stem of the image and the class


def runs(flat: np.ndarray) -> list[tuple[int, int]]:
    """Return start, from 0, and length of each run of ones, pixel by pixel."""
    found, place = [], 0
    for value, group in itertools.groupby(flat.tolist()):
        length = len(list(group))
        found += [(place, length)] if value else []
        place += length
    return found


def down(mask: np.ndarray) -> str:
    """Down the columns, from 1."""
    return " ".join(f"{start + 1} {length}" for start, length in runs(mask.T.ravel()))


def along(mask: np.ndarray) -> str:
    """Along the rows, from 1."""
    return " ".join(f"{start + 1} {length}" for start, length in runs(mask.ravel()))


def relative(mask: np.ndarray) -> str:
    """Down the columns, each start from the end of the run before."""
    end, words = 0, []
    for start, length in runs(mask.T.ravel()):
        words += [str(start - end), str(length)]
        end = start + length
    return " ".join(words)


def objects(mask: np.ndarray) -> list[np.ndarray]:
    """Return the parts that touch each other nowhere, not even at a corner."""
    labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
    return [labelled == number for number in range(1, count + 1)]


@dataclasses.dataclass(frozen=True)
class Form:
    """How a contest writes its files.

    Parameters
    ----------
    classes : as the contest names them.
    suffix : of the image files.
    train, sample : the tables' headers.
    row : returns the cells of a row of the training table for image, class and text.
    sent : the same of a submission.
    encode : of one mask.
    empty : text of an empty mask in a submission, None for no row.
    train_empty : the same in the training table.
    train_parts : whether the training table has a row per object.
    sent_parts : whether a submission has.
    placeholder : rows of the sample submission for an image.
    folders, tables : names of the folders of images and of the tables.
    """

    classes: Sequence[str]
    suffix: str
    train: str
    sample: str
    row: Callable[[str, str, str], list[str]]
    sent: Callable[[str, str, str], list[str]]
    encode: Callable[[np.ndarray], str] = down
    empty: str | None = ""
    train_empty: str | None = ""
    train_parts: bool = False
    sent_parts: bool = False
    placeholder: Callable[[str, Sequence[str]], list[list[str]]] | None = None
    folders: tuple[str, str] = ("train_images", "test_images")
    tables: tuple[str, str] = ("train.csv", "sample_submission.csv")


FORMS = {
    "understanding-clouds": Form(
        ["Fish", "Flower", "Gravel", "Sugar"],
        ".jpg",
        "Image_Label,EncodedPixels",
        "Image_Label,EncodedPixels",
        row=lambda image, label, text: [f"{image}.jpg_{label}", text],
        sent=lambda image, label, text: [f"{image}.jpg_{label}", text],
    ),
    "severstal": Form(
        ["1", "2", "3", "4"],
        ".jpg",
        "ImageId,ClassId,EncodedPixels",
        "ImageId,EncodedPixels,ClassId",
        row=lambda image, label, text: [f"{image}.jpg", label, text],
        sent=lambda image, label, text: [f"{image}.jpg", text, label],
        empty=None,
        train_empty=None,
        placeholder=lambda image, classes: [[f"{image}.jpg", "1 2400", "0"]],
    ),
    "severstal-2019": Form(
        ["1", "2", "3", "4"],
        ".jpg",
        "ImageId_ClassId,EncodedPixels",
        "ImageId_ClassId,EncodedPixels",
        row=lambda image, label, text: [f"{image}.jpg_{label}", text],
        sent=lambda image, label, text: [f"{image}.jpg_{label}", text],
    ),
    "siim-acr": Form(
        ["pneumothorax"],
        ".png",
        "ImageId, EncodedPixels",
        "ImageId,EncodedPixels",
        row=lambda image, label, text: [image, f" {text}"],
        sent=lambda image, label, text: [image, text],
        encode=relative,
        empty="-1",
        train_empty="-1",
        train_parts=True,
        tables=("train-rle.csv", "sample_submission.csv"),
    ),
    "tgs": Form(
        ["salt"],
        ".png",
        "id,rle_mask",
        "id,rle_mask",
        row=lambda image, label, text: [image, text],
        sent=lambda image, label, text: [image, text],
        folders=("train/images", "test/images"),
    ),
    "airbus": Form(
        ["ship"],
        ".jpg",
        "ImageId,EncodedPixels",
        "ImageId,EncodedPixels",
        row=lambda image, label, text: [f"{image}.jpg", text],
        sent=lambda image, label, text: [f"{image}.jpg", text],
        train_parts=True,
        sent_parts=True,
        folders=("train_v2", "test_v2"),
        tables=("train_ship_segmentations_v2.csv", "sample_submission_v2.csv"),
    ),
    "hubmap": Form(
        ["glomerulus"],
        ".png",
        "id,encoding",
        "id,predicted",
        row=lambda image, label, text: [image, text],
        sent=lambda image, label, text: [image, text],
        folders=("train", "test"),
    ),
    "uw-madison": Form(
        ["large_bowel", "small_bowel", "stomach"],
        ".png",
        "id,class,segmentation",
        "id,class,predicted",
        row=lambda image, label, text: [image, label, text],
        sent=lambda image, label, text: [image, label, text],
        encode=along,
        folders=("train", "test"),
    ),
    "contrails": Form(
        ["contrail"],
        ".png",
        "record_id,encoded_pixels",
        "record_id,encoded_pixels",
        row=lambda image, label, text: [image, text],
        sent=lambda image, label, text: [image, text],
        empty="-",
        train_empty="-",
        folders=("train", "test"),
    ),
    "carvana": Form(
        ["car"],
        ".jpg",
        "img,rle_mask",
        "img,rle_mask",
        row=lambda image, label, text: [f"{image}.jpg", text],
        sent=lambda image, label, text: [f"{image}.jpg", text],
        encode=along,
        folders=("train", "test"),
        tables=("train_masks.csv", "sample_submission.csv"),
    ),
}


def draw(rng: np.random.Generator, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return a mask of some objects, one of which is cut by the right and lower border, or of none."""
    mask = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(0, 4)):
        y, x = rng.integers(0, shape[0] - 6), rng.integers(0, shape[1] - 6)
        mask[y : y + rng.integers(2, 14), x : x + rng.integers(2, 14)] = 1
    return mask


def masks_of(images: Sequence[str], classes: Sequence[str], seed: int) -> Masks:
    """Return masks of images, some of which are empty and one of which is full."""
    rng = np.random.default_rng(seed)
    masks = {(image, label): draw(rng) for image in images for label in classes}
    masks[images[0], classes[0]] = draw(rng) | (np.indices(SHAPE).sum(0) % 37 == 0)
    masks[images[1], classes[-1]] = np.zeros(SHAPE, np.uint8)
    masks[images[2], classes[0]] = np.ones(SHAPE, np.uint8)
    return {key: mask.astype(np.uint8) for key, mask in masks.items()}


def write_images(folder: Path, names: Sequence[str], seed: int) -> None:
    """Write pictures of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name in names:
        Image.fromarray(rng.integers(1, 255, (*SHAPE, 3), np.uint8)).save(folder / name)


def write_table(path: Path, header: str, rows: Sequence[Sequence[str]]) -> None:
    """Write a table as the csv module does, with the header as it is."""
    with path.open("w", newline="") as file:
        file.write(header + "\n")
        csv.writer(file, lineterminator="\n").writerows(rows)


def rows_of(form: Form, masks: Masks, *, sent: bool) -> list[list[str]]:
    """Return the rows of a training table, or of a submission."""
    make, parts = (form.sent, form.sent_parts) if sent else (form.row, form.train_parts)
    empty = form.empty if sent else form.train_empty
    rows = []
    for (image, label), mask in masks.items():
        each = objects(mask) if parts else [mask] if mask.any() else []
        texts = [form.encode(part.astype(np.uint8)) for part in each] or ([] if empty is None else [empty])
        rows += [make(image, label, text) for text in texts]
    return rows


def write_contest(root: Path, form: Form, train: Sequence[str], test: Sequence[str], seed: int = 0) -> Masks:
    """Write a data set in a contest's form, and return its training masks."""
    write_images(root / form.folders[0], [image + form.suffix for image in train], seed)
    write_images(root / form.folders[1], [image + form.suffix for image in test], seed + 1)
    masks = masks_of(train, form.classes, seed)
    write_table(root / form.tables[0], form.train, rows_of(form, masks, sent=False))
    placeholder = form.placeholder or (lambda image, classes: [form.sent(image, each, "1 1") for each in classes])
    rows = [row for image in test for row in placeholder(image, form.classes)]
    write_table(root / form.tables[1], form.sample, rows)
    return masks
