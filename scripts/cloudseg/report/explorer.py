"""The explorer: one page that shows what a threshold and a minimum size do, to an image and to the Dice of all."""

import base64
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from cloudseg.dataset.contest import ContestFolder, Root
from cloudseg.dataset.decoding import load_image
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.surface import read_surface
from cloudseg.ensemble.truth import truth_rows
from cloudseg.report.colours import TRUTH, class_colours
from cloudseg.report.explorer_sample import Shown, sample
from cloudseg.report.packing import packed_dice, packed_masks, packed_planes
from cloudseg.report.page import write_page
from cloudseg.report.pictures import jpeg
from cloudseg.storage import per_image, stores

TITLE = "What a threshold does"
IMAGES = 24
MOST_SOURCES = 4
LARGEST = 20_000_000  # bytes of the page
LARGEST_IN_REPORT = 1_500_000  # bytes of one that Chromium shows where the address of a frame holds it, as base64
FRAME = 80_000  # bytes of it for text, style and script
JPEG_QUALITY = 85
FOLDERS = {"valid": "train", "test": "test"}  # where the images of a split of probabilities lie


@dataclass(frozen=True)
class Source:
    """A blend whose probabilities the page cuts.

    Parameters
    ----------
    name : of the ensemble.
    decision : its own.
    surface : store of its Dice, as `cloudseg.ensemble.surface` writes it.
    stores : stores of probabilities (image, class, y, x) uint8, by split: valid and, where there is one, test.
    nested : the leaderboard's Dice of a decision that was chosen, each fold decided by the others; None of other ones.
    """

    name: str
    decision: Decision
    surface: str | Path
    stores: Mapping[str, str | Path]
    nested: float | None = None

    @functools.cached_property
    def arrays(self) -> dict[str, Any]:
        """The stores, opened."""
        return {split: stores.read(path) for split, path in self.stores.items()}

    @functools.cached_property
    def rows(self) -> dict[tuple[str, str], int]:
        """Where each image lies in its store, by split and name."""
        return {
            (split, name): row for split, array in self.arrays.items() for row, name in enumerate(per_image.ids(array))
        }

    def has(self, shown: Shown) -> bool:
        """Return whether there are probabilities of an image."""
        return (shown.split, shown.name) in self.rows

    def planes(self, shown: Shown) -> np.ndarray:
        """Return the probabilities of an image, uint8 (C, H, W)."""
        row = self.rows[shown.split, shown.name]
        return stores.read_images(self.arrays[shown.split], slice(row, row + 1))[0]


def chosen_sources(
    names: Sequence[str], submitted: Sequence[str], dice: Mapping[str, float], most: int = MOST_SOURCES
) -> list[str]:
    """Choose the sources of the page: the submission, then up to two other ensembles and members, the best first.

    Parameters
    ----------
    names : of the submission, then of the config's other ensembles and of the submission's members.
    submitted : the ensembles of the config.
    dice : of each name, out of fold; NaN where there is none.
    most : how many to choose.

    Examples
    --------
    >>> dice = {"all": 0.8, "fpn": 0.7, "unet": 0.9, "1": 0.6, "2": 0.75, "3": float("nan")}
    >>> chosen_sources(list(dice), ["all", "fpn", "unet"], dice, most=5)
    ['all', 'unet', 'fpn', '2', '1']
    """
    first, *rest = names
    rest.sort(key=lambda name: -np.nan_to_num(dice[name], nan=-1.0))
    others = [name for name in rest if name in submitted]
    members = [name for name in rest if name not in submitted]
    return [first, *others[:2], *members, *others[2:]][:most]


def write_explorer(
    sources: Sequence[Source],
    truth: str | Path,
    raw: Root,
    out: str | Path,
    *,
    classes: Sequence[str],
    scores: pd.DataFrame,
    ranked: str = "",
    count: int = IMAGES,
    largest: int = LARGEST,
    whole: str | Path = "",
) -> str:
    """Write the page; what does not fit is left out, sources first, and the page says so.

    Parameters
    ----------
    sources : the blends, the most important first.
    truth : store (image, class, y, x) uint8 0/1 with the attribute `ids`.
    raw : folder in the contest's layout, for the pictures.
    out : the page.
    classes : names, in the order of the stores.
    scores : Dice per image, by which images are chosen, as :func:`cloudseg.ensemble.scores.image_scores` returns them.
    ranked : the blend whose scores they are.
    count : of images.
    largest : bytes that the page may have.
    whole : the page of `LARGEST` bytes, which a smaller one names.

    Returns
    -------
    str : what the page holds, in a sentence.
    """
    tested = next((list(per_image.ids(source.arrays["test"])) for source in sources if "test" in source.arrays), [])
    wanted = [shown for shown in sample(scores, tested, count) if any(source.has(shown) for source in sources)]
    content = Content(sources, truth, raw, largest - FRAME)
    shown = content.add_images(wanted)
    kept = content.add_sources(shown)
    notes = _notes(shown, wanted, [source.name for source in sources if source not in kept], largest, whole)
    data = {
        "classes": list(classes),
        "ranked": ranked,
        "colours": class_colours(len(classes)),
        "truth": TRUTH,
        "height": content.masks.shape[2],
        "width": content.masks.shape[3],
        "sources": [_described(source, classes, scored=content.has_surface(source)) for source in kept],
        "images": [
            image._asdict() | {"sources": [place for place, source in enumerate(kept) if content.holds(source, image)]}
            for image in shown
        ],
    }
    write_page(out, "explorer.html", title=TITLE, data=data, blobs=content.numbered(kept, shown), notes=notes)
    size = Path(out).stat().st_size / 1e6
    return "\n".join([f"{len(shown)} images, {len(kept)} of {len(sources)} sources, {size:.1f} MB", *notes])


class Content:
    """What the page holds besides its frame: texts that its script unpacks, within a limit of bytes.

    Parameters
    ----------
    sources, truth, raw : as for `write_explorer`.
    largest : bytes of all texts.
    """

    def __init__(self, sources: Sequence[Source], truth: str | Path, raw: Root, largest: int) -> None:
        self.sources = sources
        self.masks = stores.read(truth)
        self.truth = truth
        self.folder = ContestFolder.of(raw)
        self.room = largest
        self.texts: dict[tuple[Any, ...], str] = {}
        self._add(self._of_source(sources[0], [], self.room))

    def add_images(self, wanted: Sequence[Shown]) -> list[Shown]:
        """Add images, each with the first source that has it, as many as fit; return them as they are shown."""
        fitting = []
        for image in wanted:
            source = next(source for source in self.sources if source.has(image))
            if not self._add(self._of_image(image) | self._of_source(source, [image], self.room)):
                break
            fitting.append(image)
        return sorted(fitting, key=lambda image: (image.split == "test", image.dice or 0, image.name))

    def add_sources(self, shown: Sequence[Shown]) -> list[Source]:
        """Add the other probabilities of images, source by source; return the sources that the page holds."""
        for source in self.sources:
            if others := [image for image in shown if source.has(image) and not self.holds(source, image)]:
                self._add(self._of_source(source, others, self.room))
        first, *rest = self.sources
        return [first, *(source for source in rest if any(self.holds(source, image) for image in shown))]

    def holds(self, source: Source, image: Shown) -> bool:
        """Return whether the page has the probabilities of an image."""
        return ("planes", source.name, image) in self.texts

    def has_surface(self, source: Source) -> bool:
        """Return whether the page has the Dice of all images of a source."""
        return ("surface", source.name) in self.texts

    def numbered(self, kept: Sequence[Source], shown: Sequence[Shown]) -> dict[str, str]:
        """Return the texts by the names that the script asks for: `planes-0-3` is of source 0 and image 3."""
        names: dict[Any, int] = {source.name: place for place, source in enumerate(kept)}
        names |= {image: place for place, image in enumerate(shown)}
        return {"-".join([kind, *(str(names[of]) for of in key)]): text for (kind, *key), text in self.texts.items()}

    def _add(self, texts: Mapping[tuple[Any, ...], str]) -> bool:
        """Add texts if all of them fit."""
        size = sum(map(len, texts.values()))
        if size > self.room:
            return False
        self.room -= size
        self.texts |= texts
        return True

    def _of_image(self, image: Shown) -> dict[tuple[Any, ...], str]:
        height, width = self.masks.shape[2:]
        pixels = load_image(self.folder.images(FOLDERS[image.split]) / image.name)
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        texts = {("picture", image): base64.b64encode(jpeg(small, JPEG_QUALITY)).decode()}
        if image.split == "valid":
            [row] = truth_rows([image.name], per_image.ids(self.masks), of=self.sources[0].name, truth=self.truth)
            texts["truth", image] = packed_masks(stores.read_images(self.masks, slice(row, row + 1))[0])
        return texts

    def _of_source(self, source: Source, images: Sequence[Shown], room: int) -> dict[tuple[Any, ...], str]:
        """Pack the probabilities of images and, once, the surface; stop when they exceed the room."""
        texts: dict[tuple[Any, ...], str] = {}
        if not self.has_surface(source):
            texts["surface", source.name] = packed_dice(mean_dice(source))
        for image in images:
            if sum(map(len, texts.values())) <= room:
                texts["planes", source.name, image] = packed_planes(source.planes(image))
        return texts


def mean_dice(source: Source) -> np.ndarray:
    """Return the mean over images, then folds, of the Dice of a source: float64 (class, 256, min_size); 0 of none."""
    sums, counts, _, folds = read_surface(source.surface)
    means = sums / np.maximum(counts, 1)[:, None, None, None]
    return means.mean(axis=0) if folds else np.zeros(sums.shape[1:])


def _described(source: Source, classes: Sequence[str], *, scored: bool) -> dict[str, Any]:
    decision = source.decision
    return {
        "name": source.name,
        "how": decision.how,
        "further": ", ".join(decision.further),
        "sharpen": decision.sharpen,
        "cuts": [[decision.cuts[name].level, decision.cuts[name].min_size] for name in classes],
        "nested": source.nested,
        "minSizes": read_surface(source.surface)[2],
        "scored": scored and decision.n_images > 0,
    }


def _notes(
    shown: Sequence[Shown], wanted: Sequence[Shown], left_out: Sequence[str], largest: int, whole: str | Path
) -> list[str]:
    """Say what was left out."""
    missing = [f"{len(wanted) - len(shown)} of {len(wanted)} images"] if len(shown) < len(wanted) else []
    missing += [f"the probabilities of {', '.join(left_out)}"] if left_out else []
    if not missing:
        return []
    return [
        f"Left out, so that this page has at most {largest / 1e6:g} MB: {' and '.join(missing)}."
        + (f" {whole} holds more." if largest < LARGEST else "")
    ]
