"""Say what is in a folder, and print the config that fits it."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from pydantic import ValidationError

from cloudseg.config.model import Dataset
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.decoding import ImageError, image_size, load_image
from cloudseg.dataset.describe.parts import LOOKED_AT, Found, find_parts
from cloudseg.dataset.labels.interface import draw_mask
from cloudseg.dataset.labels.opening import open_labels
from cloudseg.errors import DatasetError
from cloudseg.texts import number_of

LONG_SIDE = 384  # pixels of a training size, of images that are larger
MULTIPLE = 32  # what the sides of a training size divide by
ENCODER = "tu-tf_efficientnet_lite0"  # whose weights come as a Python package
RECIPE = {
    "normalise": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},  # of this encoder
    "augmentation": [{"name": "HorizontalFlip", "p": 0.5}],
    "tta": ["identity", "horizontal"],
}
SHARES = [0, "0.01%", "0.03%", "0.1%", "0.3%", "1%", "3%", "10%"]


@dataclass(frozen=True)
class ClassFacts:
    """What masks of a class are like.

    Parameters
    ----------
    present : share of the images that have it.
    areas : of each component, as a share of its image.
    """

    present: float
    areas: Sequence[float]


def describe_folder(root: str | Path) -> Iterator[str]:
    """Yield the lines that say what is in a folder and which config fits it.

    Parameters
    ----------
    root : a folder with images and labels.

    Raises
    ------
    DatasetError : if there are no images, or no labels that fit them.
    """
    found = find_parts(root)
    try:
        folder = ContestFolder(Path(root), Dataset.model_validate(found.dataset(str(root))).layout)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DatasetError(f"{root}: {key}: {first['msg']}, got {first['input']!r:.80}; rename it") from None
    chosen = found.images[:: max(1, len(found.images) // LOOKED_AT)][:LOOKED_AT]
    sizes = Counter(filter(None, (image_size(folder.images("train") / name) for name in chosen)))
    if not sizes:
        raise DatasetError(f"{folder.images('train')}: none of {len(chosen)} images can be read")
    yield f"{number_of(len(found.images), 'training image')} in {found.train_images}/: {_sizes_in_words(sizes)}"
    yield from _colours(folder, chosen)
    if found.test_images is None:
        yield "no test images: networks are trained and scored, and nothing is submitted"
    else:
        tested = len(folder.list_images("test"))
        rows = f"rows of {found.sample_submission}" if found.sample_submission else "a row for each class of each"
        yield f"{number_of(tested, 'test image')} in {found.test_images}/, {rows}"
    yield f"labels: {_labels_in_words(found)}"
    if not found.names_classes:
        yield "the labels name no classes: call them what you like, in this order"
    if isinstance(found.labels, dict) and "ignore" in found.labels:
        yield f"masks have {found.labels['ignore'][0]}, too: taken for what nobody labelled, which is no class"
    facts = _class_facts(folder, found, chosen)
    for label, each in facts.items():
        yield f"  {label}: in {each.present:.0%} of {len(chosen)} images{_areas_in_words(each.areas)}"
    yield ""
    yield from _config(str(root), found, sizes, facts)


def _sizes_in_words(sizes: Counter[tuple[int, int]]) -> str:
    listed = ", ".join(f"{height}x{width}" for (height, width), _ in sizes.most_common(3))
    return listed if len(sizes) <= 3 else f"{listed} and {len(sizes) - 3} more sizes"


def _colours(folder: ContestFolder, chosen: Sequence[str]) -> Iterator[str]:
    """Yield what is to be known of the colours of some images."""
    grey, unread = 0, []
    for name in chosen[:20]:
        try:
            image = load_image(folder.images("train") / name)
            grey += bool((image == image[..., :1]).all())
        except (ImageError, OSError) as error:
            unread.append(str(error))
    if grey:
        yield f"{grey} of {len(chosen[:20])} of them are grey: `channels: gray` in a recipe takes a third of the input"
    if unread:
        yield f"{len(unread)} of {len(chosen[:20])} cannot be used, the first: {unread[0]}"


def _labels_in_words(found: Found) -> str:
    if found.train_table is not None:
        form = found.labels or "understanding-clouds"
        return f"run lengths in {found.train_table}, in the form of the contest {form}"
    form = found.labels if isinstance(found.labels, dict) else {}
    if form["format"] == "coco":
        return f"COCO, in {form.get('file', 'annotations.json')}"
    return f"masks in {form.get('folder', 'train_masks')}/, named {form.get('files', '{image}')}"


def _class_facts(folder: ContestFolder, found: Found, chosen: Sequence[str]) -> dict[str, ClassFacts]:
    """Return what the masks of each class are like, of some images."""
    labels = open_labels(folder, set(chosen), found.classes)
    present: Counter[str] = Counter()
    areas: dict[str, list[float]] = {label: [] for label in found.classes}
    for name in chosen:
        size = image_size(folder.images("train") / name)
        for label, encodings in (labels.read(name) if size else {}).items():
            try:
                mask = draw_mask(encodings, size)
            except ValueError as error:
                where = f"{folder.root}/{encodings[0].file}, image {name}, class {label}"
                raise DatasetError(f"{where}: {error}; mend or remove it, and look again") from None
            present[label] += bool(mask.any())
            _, _, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask), connectivity=8)
            areas[label] += (stats[1:, cv2.CC_STAT_AREA] / mask.size).tolist()
    return {label: ClassFacts(present[label] / len(chosen), areas[label]) for label in found.classes}


def _areas_in_words(areas: Sequence[float]) -> str:
    if not areas:
        return ""
    low, middle, high = (f"{100 * np.quantile(areas, share):.2g} %" for share in (0.05, 0.5, 0.95))
    return f", {number_of(len(areas), 'component')} of {low} to {high} of the image, half below {middle}"


def _config(root: str, found: Found, sizes: Counter[tuple[int, int]], facts: dict[str, ClassFacts]) -> Iterator[str]:
    """Yield the config and the sheet, ready to paste."""
    height, width = sizes.most_common(1)[0][0]
    present = statistics.mean(each.present for each in facts.values())
    decision: dict[str, Any] = {"how": "tune"}
    if present < 0.7:
        decision["presence"] = {"score": {"top": "9.5%"}}
    config = {
        "name": "own",
        "dataset": found.dataset(root),
        "submission_size": f"{height}x{width}",
        "recipes": {"flips": RECIPE},
        "experiments": "own.tsv",
        "min_sizes": SHARES,
        "ensembles": {"all": {"members": "fold >= 0", "checkpoints": ["best", "last"], "decision": decision}},
        "submission": "all",
    }
    yield "The config that fits, to save as own.yaml:"
    yield ""
    # Lists, and mappings of plain values, in one line
    plain = yaml.safe_dump(config, sort_keys=False, width=110, allow_unicode=True, default_flow_style=None)
    yield from plain.splitlines()
    yield ""
    # Terminals copy tabs as blanks
    yield "And its sheet, by this command:"
    yield ""
    row = f"{ENCODER} fpn {training_size(height, width)} flips 5"
    yield f"printf '%s\\t%s\\t%s\\t%s\\t%s\\n' encoder decoder size recipe folds {row} > own.tsv"
    yield ""
    yield "Then: snakemake -n --configfile own.yaml"


def training_size(height: int, width: int) -> str:
    """Return a size to train at: of about these proportions, of at most 384 pixels, in multiples of 32.

    Examples
    --------
    >>> training_size(1400, 2100), training_size(101, 101), training_size(30, 40)
    ('256x384', '96x96', '32x32')
    """
    scale = min(1, LONG_SIDE / max(height, width))
    sides = (max(MULTIPLE, MULTIPLE * round(scale * side / MULTIPLE)) for side in (height, width))
    return "x".join(map(str, sides))
