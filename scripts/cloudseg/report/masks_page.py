"""The page that shows an ensemble's masks: over the truth out of fold, and on test images as they are submitted."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cloudseg.dataset.contest import ContestFolder, Root, Split
from cloudseg.dataset.images_table import read_images
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.ensemble.blended import Blended
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.truth import truth_rows
from cloudseg.errors import DatasetError, StoreError
from cloudseg.report import layers
from cloudseg.report.choices import Choice, out_of_fold_choices, submitted_choices
from cloudseg.report.colours import class_colour
from cloudseg.report.page import Picture, write_page
from cloudseg.storage import per_image, stores

MOST_LAYERS = 8  # classes that a picture shows, those with the most pixels
MOST_ROWS = 12  # classes of an image that the table below it lists, likewise


@dataclass(frozen=True)
class Layer:
    """A class of a picture: its number, what is drawn of it, and how many pixels of the grid that is."""

    number: int
    pixels: int
    picture: Picture


@dataclass(frozen=True)
class Tile:
    """A photograph and what lies over it."""

    title: str
    kind: str  # truth, member, blend or final
    layers: list[Layer]


@dataclass(frozen=True)
class Row:
    """What a class scores on an image; pixels of the grid."""

    number: int
    name: str
    kept: int
    truth: int | None = None
    dice: float | None = None
    member_dice: float | None = None


@dataclass(frozen=True)
class Card:
    """An image, its tiles and its scores."""

    image: str
    split: Split
    photo: Picture = field(repr=False)
    tiles: list[Tile] = field(repr=False)
    rows: list[Row]
    dice: float | None = None
    fold: int | None = None

    @property
    def listed(self) -> list[Row]:
        """The rows of the classes with the most pixels, in the order of the classes."""
        largest = sorted(self.rows, key=lambda row: -(row.kept + (row.truth or 0)))[:MOST_ROWS]
        return sorted(largest, key=lambda row: row.number)


@dataclass(frozen=True)
class Section:
    """Cards that are shown together: (card, why, whether it is shown here first)."""

    title: str
    shown: list[tuple[Card, str, bool]]
    of_class: int | None = None


class MaskSource:
    """The masks that are scored, or submitted, of the images of a store.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 with the attributes `ids`, `classes` and `fold`.
    decision : how it becomes masks; out of fold, images are cut by what was chosen on the other folds.
    whether : what tells whether a class is there, as :class:`cloudseg.ensemble.blended.Blended` reads it.
    """

    def __init__(self, blend: str | Path, decision: Decision, whether: str | Path | None = None) -> None:
        self.decision = decision
        self.blended = Blended(blend, whether)
        self.path = blend
        self.classes = self.blended.classes
        self.size = tuple(self.blended.store.shape[2:])
        self._row_of = {image: row for row, image in enumerate(self.blended.ids)}

    def fold(self, image: str) -> int | None:
        """Return the fold of an image; None of a test image."""
        return self.blended.fold_of[self._row_of[image]]

    def planes_and_masks(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities and masks of an image, each uint8 (class, H, W).

        Raises
        ------
        StoreError : when the store does not hold the image.
        """
        if image not in self._row_of:
            raise StoreError(f"{self.path}: expected the image {image}, got none; delete it and run again")
        one = slice(self._row_of[image], self._row_of[image] + 1)
        planes = self.blended.planes(one)[0]
        return planes, self.decision.rule_for(self.fold(image)).masks(planes, self.blended.evidence(one))


class Photos:
    """The image files of a split, each held against what was checked.

    Parameters
    ----------
    root : the data set in the contest's layout.
    split : train or test.
    table : of the dataset check, with the digest of each file.
    size : (height, width) of the grid of masks.
    """

    def __init__(self, root: Root, split: Split, table: str | Path, size: tuple[int, int]) -> None:
        self._folder = ContestFolder.of(root).images(split)
        images = read_images(table)
        self._digests = dict(zip(images["image"], images["digest"], strict=True))
        self._size = size

    def of(self, image: str) -> Picture:
        """Return an image as a small picture.

        Raises
        ------
        DatasetError : when the file is not the one that was checked.
        """
        path = self._folder / image
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self._digests.get(image):
            raise DatasetError(f"{path}: not the file that was checked; run the dataset check again")
        return layers.photo(data, self._size, image)


@dataclass(frozen=True)
class OutOfFold:
    """The cards of out-of-fold images."""

    photos: Photos
    blend: MaskSource
    member: MaskSource | None
    truth: str | Path

    def card(self, image: str) -> Card:
        """Return the card of an image."""
        store = stores.read(self.truth)
        [row] = truth_rows([image], per_image.ids(store), of=self.blend.path, truth=self.truth)
        truth = stores.read_images(store, slice(row, row + 1))[0]
        planes, masks = self.blend.planes_and_masks(image)
        dice = _dice(masks, truth)
        tiles = [
            Tile("truth", "truth", _layers("outline", truth)),
            Tile("blend: probability", "blend", _heat(planes)),
            Tile("final mask over the truth", "final", _verdicts(masks, truth)),
        ]
        seen, member_dice = masks | truth, [None] * len(dice)
        if self.member is not None:
            _, member = self.member.planes_and_masks(image)
            tiles.insert(1, Tile("best member's mask", "member", _layers("mask", member)))
            seen, member_dice = seen | member, _dice(member, truth)
        rows = [
            Row(number, name, int(masks[number].sum()), int(truth[number].sum()), dice[number], member_dice[number])
            for number, name in enumerate(self.blend.classes)
            if seen[number].any()
        ]
        return Card(image, "train", self.photos.of(image), tiles, rows, float(np.mean(dice)), self.blend.fold(image))


@dataclass(frozen=True)
class Submitted:
    """The cards of test images."""

    photos: Photos
    blend: MaskSource

    def card(self, image: str) -> Card:
        """Return the card of an image."""
        planes, masks = self.blend.planes_and_masks(image)
        tiles = [
            Tile("image", "image", []),
            Tile("blend: probability", "blend", _heat(planes)),
            Tile("final mask, as submitted", "final", _layers("mask", masks)),
        ]
        rows = [
            Row(number, name, int(mask.sum()))
            for number, (name, mask) in enumerate(zip(self.blend.classes, masks, strict=True))
            if mask.any()
        ]
        return Card(image, "test", self.photos.of(image), tiles, rows)


def submitted_pixels(
    submission: str | Path, images: Sequence[str], classes: Sequence[str], form: SubmissionForm
) -> dict[str, int]:
    """Return how many pixels a submission predicts on each image, all classes together.

    Parameters
    ----------
    submission : the CSV file.
    images, classes : whose rows are added up; rows that it does not have count nothing.
    form : of the submission.
    """
    pixels = dict.fromkeys(images, 0)
    for _, image, label, text in form.read(submission, images, classes):
        if image is not None and label in classes:
            pixels[image] += form.area(text)
    return pixels


def write_masks_page(
    out_of_fold: OutOfFold,
    submitted: Submitted | None,
    *,
    scores: pd.DataFrame,
    pixels: Mapping[str, int],
    ensemble: str,
    member: str,
    seed: int,
    page: str | Path,
    sheet: str | Path,
) -> None:
    """Write the page and the contact sheet of an ensemble.

    Parameters
    ----------
    out_of_fold, submitted : what makes the cards; None where there are no test images.
    scores : of the out-of-fold images, `images.tsv`.
    pixels : of the test images, `submitted_pixels`.
    ensemble, member : the name of the ensemble, and of its best member.
    seed : of the images that are drawn by chance.
    page, sheet : the files to write, HTML and SVG.
    """
    classes = out_of_fold.blend.classes
    valid = _sections(out_of_fold_choices(scores, seed=seed), out_of_fold, classes)
    test = [] if submitted is None else _sections(submitted_choices(pixels), submitted, classes)
    height, width = out_of_fold.blend.size
    values = {
        "title": f"Masks of {ensemble}",
        "ensemble": ensemble,
        "member": member,
        "classes": classes,
        "valid": valid,
        "test": test,
        "images": scores["image"].nunique(),
        "decision": out_of_fold.blend.decision,
        "grid": {"height": height, "width": width},
    }
    write_page(page, "masks.html", **values)
    cards = [section.shown[0][0] for section in [*valid[:3], *test[:1]]]
    numbers = sorted({row.number for card in cards for row in card.rows})[:MOST_LAYERS]
    write_page(sheet, "masks.svg", **values, cards=cards, legend={number: classes[number] for number in numbers})


def _sections(choices: Sequence[Choice], source: OutOfFold | Submitted, classes: Sequence[str]) -> list[Section]:
    """Return the sections of some choices; an image is drawn once, where it comes first."""
    cards: dict[str, Card] = {}
    sections = []
    for choice in choices:
        shown = []
        for image, why in choice.images:
            is_first = image not in cards
            if is_first:
                cards[image] = source.card(image)
            shown.append((cards[image], why, is_first))
        of_class = classes.index(choice.title) if choice.of_class else None
        sections.append(Section(choice.title, shown, of_class))
    return sections


def _dice(masks: np.ndarray, truth: np.ndarray) -> list[float]:
    both = np.count_nonzero(masks & truth, axis=(1, 2))
    total = np.count_nonzero(masks, axis=(1, 2)) + np.count_nonzero(truth, axis=(1, 2))
    return [2 * int(inside) / int(each) if each else 1.0 for inside, each in zip(both, total, strict=True)]


def _layers(kind: str, masks: np.ndarray) -> list[Layer]:
    draw = layers.outline_layer if kind == "outline" else layers.mask_layer
    return [
        Layer(number, int(masks[number].sum()), _png(draw(masks[number], class_colour(number))))
        for number in _largest(np.count_nonzero(masks, axis=(1, 2)))
    ]


def _verdicts(masks: np.ndarray, truth: np.ndarray) -> list[Layer]:
    return [
        Layer(
            number,
            int(masks[number].sum()),
            _png(layers.verdict_layer(masks[number], truth[number], class_colour(number))),
        )
        for number in _largest(np.count_nonzero(masks | truth, axis=(1, 2)))
    ]


def _heat(planes: np.ndarray) -> list[Layer]:
    visible = planes >> (8 - layers.HEAT_BITS)
    return [
        Layer(
            number,
            int(np.count_nonzero(visible[number])),
            _png(layers.heat_layer(planes[number], class_colour(number))),
        )
        for number in _largest(visible.sum(axis=(1, 2)))
    ]


def _largest(pixels: np.ndarray) -> list[int]:
    """Return the classes with the most pixels, in the order of the classes; those without any are left out."""
    return sorted(number for number in np.argsort(-pixels, kind="stable")[:MOST_LAYERS].tolist() if pixels[number])


def _png(data: bytes) -> Picture:
    return Picture(data, "", kind="image/png")
