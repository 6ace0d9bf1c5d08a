"""What lies in a folder: images, masks, tables and annotations, found by their names and contents."""

import contextlib
import csv
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from cloudseg.config.classes import MOST_CLASSES
from cloudseg.config.label_presets import PRESETS
from cloudseg.config.labels import LabelsEntry
from cloudseg.dataset.contest import SUFFIXES
from cloudseg.dataset.labels.coco import image_name, load_coco
from cloudseg.dataset.labels.interface import LabelError
from cloudseg.dataset.labels.mask_files import MASK_SUFFIXES
from cloudseg.dataset.labels.masks import decode_mask
from cloudseg.dataset.labels.tables import Columns, TableError, scan_table, split_label
from cloudseg.errors import DatasetError

DEPTH = 3  # folders below the one that is described
IGNORED = 255  # beside small numbers, what nobody labelled
LOOKED_AT = 200  # rows of a table, and images of a folder
CLOUDS = "understanding-clouds"  # whose form is the default
MASK_WORDS = {"mask", "masks", "label", "labels", "annotation", "annotations", "groundtruth", "gt", "segmentation"}
TEST_WORDS, TRAIN_WORDS = {"test", "tests"}, {"train", "training"}


@dataclass(frozen=True)
class Found:
    """The parts of a data set, as the keys of `dataset` name them.

    Parameters
    ----------
    train_images, test_images : folders below the root, `.` for itself; of test images None, where there are none.
    images : the names of the training images, sorted.
    labels : their form, as a config has it: the name of a contest, keys, or None for the clouds'.
    train_table : the table, where labels are one.
    sample_submission : the rows of a submission, where there are any.
    classes : names, as far as the labels tell them.
    """

    train_images: str
    test_images: str | None
    images: Sequence[str]
    labels: str | dict | None
    train_table: str | None
    sample_submission: str | None
    classes: list[str]

    @property
    def names_classes(self) -> bool:
        """Whether the labels say what the classes are called."""
        form = self.labels if isinstance(self.labels, dict) else {}
        return form.get("format") != "masks" or "{class}" in form.get("files", "")

    def dataset(self, root: str) -> dict:
        """Return the section `dataset` of a config; what is as in the clouds' contest is left out."""
        named = PRESETS.get(self.labels, {}) if isinstance(self.labels, str) else {}
        parts = {
            "train_images": self.train_images,
            "test_images": self.test_images,
            "train_table": self.train_table,
            "sample_submission": self.sample_submission,
        }
        defaults = {
            "train_images": "train_images",
            "test_images": "test_images",
            "train_table": "train.csv",
            "sample_submission": "sample_submission.csv",
        } | {name: named[name] for name in parts if name in named}
        other = {name: given for name, given in parts.items() if given is not None and given != defaults[name]}
        labels = {} if self.labels is None else {"labels": self.labels}
        classes = {} if self.classes == named.get("classes") else {"classes": self.classes}
        return {"source": "path", "root": root, **other, **labels, **classes}


def find_parts(root: str | Path) -> Found:
    """Find the images and the labels of a folder.

    Raises
    ------
    DatasetError : if there is no such folder, no image in it, or no labels that fit them.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    folders = dict(_folders_of_images(root))
    if not folders:
        raise DatasetError(f"{root}: no folder of images in it, down to {DEPTH} folders; expected JPEG or PNG files")
    candidates, test = _split(folders)
    for train in candidates:
        names = folders[train]
        for find in (_table, _coco, _masks):
            found = find(root, train, names)
            if found is not None:
                labels, table, classes = found
                sample = next((name for name in _files(root, ".csv") if "sample" in name.lower()), None)
                return Found(train, test, names, labels, table, sample, classes)
    train, names = candidates[0], folders[candidates[0]]
    tables = ", ".join([*_files(root, ".csv"), *_files(root, ".json")][:5]) or "no CSV and no JSON"
    raise DatasetError(
        f"{root}: no labels found for the {len(names)} images of {train}/ ({names[0]} and so on); there are {tables}. "
        "Labels are a CSV of run lengths, masks that are named as their images, or a COCO file: docs/labels.md"
    )


def _folders_of_images(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders below the root that hold images, as paths in it, with the names of these, sorted."""
    for path, folders, names in os.walk(root):
        within = PurePath(path).relative_to(root)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and len(within.parts) < DEPTH)
        images = sorted(name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        if images:
            yield within.as_posix(), images


def _split(folders: dict[str, list[str]]) -> tuple[list[str], str | None]:
    """Return the folders that may hold the training images, the likeliest first, and that of the test images."""
    tests = [name for name in folders if _words(name) & TEST_WORDS]
    others = [name for name in folders if name not in tests] or [*folders]

    def rank(name: str) -> tuple[bool, bool, int, str]:
        last = _words(PurePath(name).name)
        return bool(last & MASK_WORDS), not _words(name) & TRAIN_WORDS, -len(folders[name]), name

    return sorted(others, key=rank), next((name for name in tests if name not in others), None)


def _words(path: str) -> set[str]:
    """Return the words of a path, in lower case.

    Examples
    --------
    >>> sorted(_words("contest/train_v2 Images"))
    ['contest', 'images', 'train', 'v']
    """
    return set(re.findall(r"[a-z]+", path.lower()))


def _files(root: Path, suffix: str) -> list[str]:
    """List the files of a kind in the folder and in those right below it, nearest first."""
    found = [path for path in root.rglob(f"*{suffix}") if len(path.relative_to(root).parts) <= 2]
    return [path.relative_to(root).as_posix() for path in sorted(found, key=lambda path: (len(path.parts), str(path)))]


Guess = tuple[str | dict | None, str | None, list[str]]


def _table(root: Path, train: str, names: Sequence[str]) -> Guess | None:
    """Return the form of a table of run lengths: that of the contest whose columns it has, and whose rows fit."""
    for table in (name for name in _files(root, ".csv") if "sample" not in name.lower()):
        for contest, preset in PRESETS.items():
            entry = LabelsEntry(**preset["labels"])
            classes = _classes_of_table(root / table, entry, names)
            if classes is not None:
                return None if contest == CLOUDS else contest, table, classes or list(preset["classes"])
    return None


def _classes_of_table(path: Path, entry: LabelsEntry, names: Sequence[str]) -> list[str] | None:
    """Return the classes of a table in the order in which they come first, if most of its rows name an image."""
    known = {name if entry.suffix else PurePath(name).stem for name in names}
    classes: dict[str, None] = {}
    rows = fitting = 0
    try:
        for row in scan_table(path, Columns.of_training(entry)):
            image, label = row.label, row.class_name
            if label is None and entry.separator:
                image, label = split_label(row.label, known, (), entry.separator)
            rows += 1
            fitting += image in known
            if label is not None and image in known:
                classes.setdefault(label)
            if rows >= LOOKED_AT and fitting < rows / 2:
                break
    except (TableError, OSError, UnicodeDecodeError, csv.Error):
        return None
    return list(classes) if rows and fitting >= rows / 2 else None


def _coco(root: Path, train: str, names: Sequence[str]) -> Guess | None:
    """Return the form of a COCO file that names images of the folder."""
    known = set(names)
    for file in _files(root, ".json"):
        try:
            content = load_coco(root / file, file)
            images = {image_name(str(image["file_name"])) for image in content["images"]}
            classes = [str(category["name"]) for category in content["categories"]]
        except (LabelError, KeyError, TypeError):
            continue
        if images & known and classes:
            form = {"format": "coco"} if file == "annotations.json" else {"format": "coco", "file": file}
            return form, None, classes
    return None


def _masks(root: Path, train: str, names: Sequence[str]) -> Guess | None:
    """Return the form of masks that are named after the images: one file of each, or one of each class."""
    patterns = _patterns(root, train, names)
    if not patterns:
        return None
    folders = [pattern.partition("{image}")[0].rpartition("/")[0] for pattern in patterns]
    folder = os.path.commonpath(folders) or "."
    within = [PurePath(pattern).relative_to(folder).as_posix() for pattern in patterns]
    form: dict = {"format": "masks"} | ({} if folder == "train_masks" else {"folder": folder})
    if len(within) == 1:
        values = _values(root, patterns, names)
        form |= {} if within[0] == "{image}" else {"files": within[0]}
        if len(values) > MOST_CLASSES:
            raise DatasetError(
                f"{root / folder}: its masks have {len(values)} values, {', '.join(map(str, values[:9]))} and so on; "
                f"expected one for each class, at most {MOST_CLASSES}: were they smoothed, or once saved as JPEG?"
            )
        if len(values) > 1 and values[-1] == IGNORED and values[-2] < MOST_CLASSES:
            values, form["ignore"] = values[:-1], [IGNORED]
        if len(values) < 2 and "ignore" not in form:
            return form, None, ["class"]
        classes = {f"class {value}": value for value in values}
        numbered = values == list(range(1, len(values) + 1))
        return form | ({} if numbered else {"values": classes}), None, list(classes)
    first, last = _common_ends(within)
    classes = [pattern[len(first) : len(pattern) - len(last)] for pattern in within]
    if not all(classes):
        return None
    return form | {"files": f"{first}{{class}}{last}"}, None, classes


def _patterns(root: Path, train: str, names: Sequence[str]) -> list[str]:
    """Return the paths of masks with `{image}` in place of the name of an image; none where few images have any."""
    stems = {PurePath(name).stem for name in names}
    images_of: dict[str, set[str]] = {}
    for path, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _words(name) & TEST_WORDS)
        within = PurePath(path).relative_to(root)
        for file in map(PurePath, files):
            is_image = within.as_posix() == train and file.stem in stems
            if file.suffix.lower() in MASK_SUFFIXES and not is_image and (found := _pattern(within / file.stem, stems)):
                pattern, image = found
                images_of.setdefault(pattern, set()).add(image)
    if len(set().union(*images_of.values())) < len(stems) / 2:
        return []
    most = max(map(len, images_of.values()))
    return sorted(pattern for pattern, images in images_of.items() if len(images) > most / 10)


def _pattern(path: PurePath, stems: Collection[str]) -> tuple[str, str] | None:
    """Return the path of a mask with `{image}` for the image that its name, or a folder of it, names, and that image.

    Examples
    --------
    >>> _pattern(PurePath("masks/a1_mask"), {"a1"}), _pattern(PurePath("a1/Fish"), {"a1"})
    (('masks/{image}_mask', 'a1'), ('{image}/Fish', 'a1'))
    """
    stem = _longest_known(path.name, stems)
    if stem is not None:
        return (path.parent / path.name.replace(stem, "{image}", 1)).as_posix(), stem
    named = [part for part in path.parts if part in stems]
    if len(named) != 1:
        return None
    return "/".join("{image}" if part in stems else part for part in path.parts), named[0]


def _longest_known(stem: str, stems: Collection[str]) -> str | None:
    """Return the longest name of an image that the name of a file holds, not as a part of a word or of a number.

    Examples
    --------
    >>> _longest_known("10_mask", {"1", "10"}), _longest_known("mask100", {"1", "10"})
    ('10', None)
    """
    for length in range(len(stem), 0, -1):
        for first in range(len(stem) - length + 1):
            last = first + length
            if stem[first:last] in stems and not _goes_on(stem, first) and not _goes_on(stem, last):
                return stem[first:last]
    return None


def _goes_on(text: str, place: int) -> bool:
    """Return whether a word or a number goes on at a place of a text.

    Examples
    --------
    >>> _goes_on("mask10", 4), _goes_on("mask10", 5), _goes_on("mask10", 6)
    (False, True, False)
    """
    both = text[place - 1 : place + 1] if 0 < place < len(text) else ""
    return both.isdigit() or both.isalpha()


def _common_ends(texts: Sequence[str]) -> tuple[str, str]:
    """Return what texts begin and end with alike, up to the last and from the first character that is no letter.

    Examples
    --------
    >>> _common_ends(["{image}_Fish", "{image}_Flower"]), _common_ends(["Fish/{image}", "Fog/{image}"])
    (('{image}_', ''), ('', '/{image}'))
    """
    first = _common_beginning(texts)
    return first, _common_beginning([text[len(first) :][::-1] for text in texts])[::-1]


def _common_beginning(texts: Sequence[str]) -> str:
    common = os.path.commonprefix(list(texts))  # noqa: RUF071 (of texts, not of paths)
    return re.sub(r"[A-Za-z0-9]*$", "", common)


def _values(root: Path, patterns: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the values other than 0 of some masks, sorted."""
    found: set[int] = set()
    for name in names[:: max(1, len(names) // LOOKED_AT)]:
        for suffix in MASK_SUFFIXES:
            path = root / (patterns[0].replace("{image}", PurePath(name).stem) + suffix)
            with contextlib.suppress(OSError, ValueError):
                found |= set(np.unique(decode_mask(path.read_bytes())).tolist())
    return sorted(found - {0})
