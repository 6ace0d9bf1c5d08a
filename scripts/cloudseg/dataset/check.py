"""Check a data set before anything is made from it, and list all that is wrong with it at once."""

import contextlib
import difflib
import hashlib
import os
import textwrap
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import simplejpeg

from cloudseg.dataset.contest import (
    ContestFolder,
    ImageError,
    Labels,
    Row,
    Split,
    TableError,
    TurnedError,
    decode_image,
    decoding_bytes,
    digest_labels,
    scan_table,
    split_label,
)
from cloudseg.dataset.pixels import resize_mask
from cloudseg.errors import DatasetError
from cloudseg.postprocess import decode_rle
from cloudseg.runtime.memory import MemoryBudget
from cloudseg.storage.files import damaged, read_table, sha256

FACTS = ["image", "split", "height", "width", "digest", "labels"]
"""The columns of the images table before those of the classes."""

SPLITS: tuple[Split, Split] = ("train", "test")

MOST_CLASSES = 64  # a mask keeps one bit per class in the widest integer there is


@dataclass(frozen=True)
class Kind:
    """Name a kind of finding: its title, what was expected, how to mend it, and how much it matters.

    An error stops the workflow; what is harmless gets one line for all its findings; the rest are warnings.
    """

    title: str
    expected: str
    mend: str
    error: bool = True
    harmless: bool = False


NO_SUCH_FILE = Kind(
    "missing files and folders",
    "train_images/, test_images/, train.csv and sample_submission.csv in the root",
    "put the file there, or correct `root` in the config",
)
NO_IMAGES = Kind(
    "folders without an image",
    "at least one .jpg, .jpeg or .png file",
    "put the images there, or correct `root` in the config",
)
BAD_CLASSES = Kind(
    "classes of the config that cannot be used",
    f"1 to {MOST_CLASSES} different names, none of them {', '.join(FACTS)}",
    "correct `classes` in the config",
)
BAD_IMAGE = Kind(
    "images that cannot be used",
    "whole JPEG or PNG files of 8 bits per channel, grey or RGB",
    "fetch the file again, or save it as RGB with 8 bits",
)
TOO_LARGE = Kind(
    "images that take more memory than the job has",
    "what the rule asks for (mem_mb), less half a gigabyte",
    "cut the image into tiles, or raise it: --set-resources check:mem_mb=N pixels:mem_mb=N truth:mem_mb=N",
)
TURNED = Kind(
    "images that are turned when they are shown",
    "pictures that are stored upright: by their EXIF orientation some programs turn these and others do not, and "
    "labels fit both ways",
    "labelled as a viewer shows them: `mogrify -auto-orient FILE`; labelled as they are stored: "
    "`exiftool -Orientation#=1 FILE`",
)
DAMAGED = Kind(
    "JPEG files with damaged data",
    "data that decodes without a complaint",
    "fetch the file again, or look whether it is as it should be",
    error=False,
)
BAD_NAME = Kind("names with control characters", "letters, digits, marks and blanks", "rename the file and its rows")
SAME_NAME = Kind("names that are in both image folders", "a name is a training or a test image", "rename or remove one")
BAD_TABLE = Kind(
    "tables that cannot be read",
    "CSV in UTF-8 with the columns Image_Label,EncodedPixels",
    "export the table again, or correct the line",
)
BAD_ROW = Kind(
    "rows that are not two cells",
    "Image_Label,EncodedPixels",
    "correct the row (is there a comma too many, or a quotation mark astray?)",
)
NO_SUCH_IMAGE = Kind(
    "rows that name no image of the folder",
    "<image>_<class>, with an image of train_images/ (train.csv) or test_images/ (sample_submission.csv)",
    "correct the name, put the image there, or remove the row",
)
NO_SUCH_CLASS = Kind(
    "rows that name an unknown class",
    "a class of the config",
    "correct the row, or `classes` in the config",
)
TWICE = Kind("rows that are there twice", "one row per image and class", "remove one of them")
UNITED = Kind(
    "images and classes with several rows",
    "one row per image and class",
    "nothing, if each row is an object: their masks are united; else remove those that are wrong",
    error=False,
)
BAD_TEXT = Kind(
    "labels that are malformed",
    "`start length` pairs of whole numbers, from 1 down the columns, ascending, inside the image",
    "correct or empty the cell (runs past the end: was the label made for an image of another size?)",
)
NOT_IN_SAMPLE = Kind(
    "test images that the sample submission lacks",
    "one row per test image and class in sample_submission.csv",
    "add the rows, or remove the image",
)
NO_ROWS = Kind(
    "images without labels",
    "one row per training image and class in train.csv",
    "nothing, if none of the classes is in it: that is how it will be used",
    error=False,
)
ONLY_MASKS = Kind(
    "images and classes without a row",
    "one row per training image and class in train.csv",
    "no other row is empty either, so they are taken to be without a pixel",
    error=False,
    harmless=True,
)
NO_LABELS = Kind(
    "tables without any label",
    "some pixels of some class: with none, every empty submission scores 1",
    "is train.csv whole, and do its classes stand in the config?",
)
CUT_OFF = Kind(
    "tables whose last line does not end", "a line break at the end", "nothing, if the last row is whole", error=False
)
NEVER = Kind(
    "classes that no training image holds",
    "some pixels of each class",
    "nothing, or take the class out of the config",
    error=False,
)
ALL_BLACK = Kind("images that are all black", "a picture", "nothing, or remove it", error=False)
GREY = Kind("grey images", "RGB", "grey is repeated in the three channels", error=False, harmless=True)
ALPHA = Kind("images with transparency", "RGB", "the transparency is dropped", error=False, harmless=True)
SAME_BYTES = Kind(
    "images with the same bytes as another",
    "each picture once",
    "nothing (training images: they share a fold), or remove one",
    error=False,
)
STRETCHED = Kind(
    "images of other proportions than the submission",
    "height to width as in the submission, within 1 %",
    "nothing: masks are stretched to the size of the submission; or correct that in the config",
    error=False,
)
LOST = Kind(
    "minimum sizes that remove true masks",
    "a `min_size` that the masks of train.csv outlive on the submission grid",
    "paste the line into that decision, or leave it if masks so small are not meant",
    error=False,
)
IGNORED = Kind(
    "files that are not used",
    ".jpg, .jpeg and .png files",
    "convert them if they are images",
    error=False,
    harmless=True,
)


@dataclass(frozen=True)
class Finding:
    """Say what was found where: a file below the root, a line in it (or None), and what came."""

    kind: Kind
    file: str
    came: str
    line: int | None = None

    def __str__(self) -> str:
        """Return one line for a reader."""
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.came}" if self.came else place


@dataclass
class Report:
    """Gather what a check saw and found.

    Parameters
    ----------
    root : the data set.
    seen : lines that say what there is.
    findings : errors and warnings, in the order in which they were found.

    Examples
    --------
    >>> report = Report(Path("clouds"), ["6 train images"])
    >>> print(report)
    Dataset check of clouds
      6 train images
    No problems found.
    >>> report.findings.append(Finding(TWICE, "train.csv", "a.jpg_Fish, first in line 2", 7))
    >>> print(report)
    Dataset check of clouds
      6 train images
    ERROR: rows that are there twice (1)
      expected: one row per image and class
      to mend:  remove one of them
        train.csv, line 7: a.jpg_Fish, first in line 2
    1 error, 0 warnings.
    """

    root: Path
    seen: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop the workflow."""
        return [finding for finding in self.findings if finding.kind.error]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that are legal, and may well be a mistake."""
        return [finding for finding in self.findings if not finding.kind.error and not finding.kind.harmless]

    @property
    def notes(self) -> list[Finding]:
        """The findings that are unusual and do no harm."""
        return [finding for finding in self.findings if finding.kind.harmless]

    def render(self, most: int | None = 8) -> str:
        """Write the report as text, errors first and what is harmless last, findings grouped by their kind.

        Parameters
        ----------
        most : findings shown of each kind, a warning's kind showing a quarter as many, and what is harmless in one
            line; None shows all.
        """
        by_kind: dict[Kind, list[Finding]] = defaultdict(list)
        for finding in self.errors + self.warnings + self.notes:
            by_kind[finding.kind].append(finding)
        lines = [f"Dataset check of {self.root}", *(f"  {line}" for line in self.seen)]
        for kind, findings in by_kind.items():
            if kind.harmless:
                such = f"{'such as ' if len(findings) > 1 else ''}{findings[0]}"
                lines.append(f"Note: {kind.title} ({len(findings)}), {such}: {kind.mend}")
                lines += [f"    {finding}" for finding in findings] if most is None else []
                continue
            shown = len(findings) if most is None else most if kind.error else max(1, most // 4)
            lines += [
                f"{'ERROR' if kind.error else 'Warning'}: {kind.title} ({len(findings)})",
                f"  expected: {kind.expected}",
                f"  to mend:  {kind.mend}",
                *(f"    {finding}" for finding in findings[:shown]),
            ]
            if len(findings) > shown:
                lines.append(f"    ... and {len(findings) - shown} more")
        if self.findings:
            notes = f", {_count(self.notes, 'note')}" if self.notes else ""
            lines.append(f"{_count(self.errors, 'error')}, {_count(self.warnings, 'warning')}{notes}.")
        else:
            lines.append("No problems found.")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the text that fits a screen."""
        return self.render()

    def raise_for_errors(self) -> None:
        """Raise if there is any error.

        Raises
        ------
        DatasetError : with the count and the first error; the report has the others.
        """
        if self.errors:
            first = self.errors[0]
            raise DatasetError(
                f"{self.root}: the dataset check found {_count(self.errors, 'error')}. The first: "
                f"{first} (expected {first.kind.expected})."
            )


def _count(findings: Sequence[Finding], word: str) -> str:
    return f"{len(findings)} {word}{'' if len(findings) == 1 else 's'}"


def check_dataset(
    root: str | Path,
    *,
    classes: Sequence[str],
    size_of_submission: tuple[int, int],
    splits: Sequence[Split] = SPLITS,
    workers: int = 1,
    memory: int | None = None,
    min_sizes: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[pd.DataFrame, Report]:
    """Check every image and every label of a data set in the contest's layout, or of one of its splits.

    Every image is decoded and every label is drawn, so what passes will not fail later.

    Parameters
    ----------
    root : folder with ``train_images/``, ``test_images/``, ``train.csv`` and ``sample_submission.csv``.
    classes : names of the classes, 1 to 64.
    size_of_submission : (height, width) in pixels; images of other proportions get a warning.
    splits : what is checked: ``"train"`` (``train_images/`` and ``train.csv``), ``"test"`` (``test_images/`` and
        ``sample_submission.csv``) or both. Of the other one only the names and bytes of images are looked at.
    workers : threads, 1 or more; each decodes an image.
    memory : bytes that the process may take, or None. Where the images of all threads take more, fewer are decoded at
        the same time; one that takes more than all of it is an error.
    min_sizes : for each decision, by its place in the config, the smallest component that it leaves of each class, in
        pixels of the submission grid: true masks that it would remove get a warning.

    Returns
    -------
    images : DataFrame, one row per image that could be read, training images first, sorted by name: image,
        split ("train" or "test"), height, width, digest (SHA-256 of the file), labels (a digest of its
        run-length texts; empty for test images), and per class its area in pixels (missing for test images).
    report : Report of all errors and warnings. Nothing is raised for them here: print it, then call its
        ``raise_for_errors()``.
    """
    folder = ContestFolder(Path(root))
    report = Report(folder.root)
    classes = _check_classes(classes, report)
    names = {split: _list(folder, split, report) for split in SPLITS if split in splits}
    for name in sorted(set(folder.list_images("train")) & set(folder.list_images("test"))):
        report.findings.append(Finding(SAME_NAME, f"train_images/{name}", f"also test_images/{name}"))

    rows = None
    if "train" in names:
        rows = _check_table(folder.train_table, names["train"], classes, report, unite=True)
    if "test" in names:
        _check_sample(folder, names["test"], classes, report)
    labels = Labels(folder.train_table, rows or {})

    files = [(split, name) for split in names for name in names[split]]
    budget = MemoryBudget(memory)
    with ThreadPoolExecutor(workers) as pool:
        grid = size_of_submission if min_sizes else None
        looks = list(pool.map(lambda file: _look(folder, *file, labels, budget, grid), files))
    for look in looks:
        report.findings += look.findings
    images = _tabulate(looks, classes)
    if rows is not None:
        _check_labels(images, rows, classes, report)
    _check_min_sizes(looks, min_sizes or {}, report)
    elsewhere = {} if "train" in names else _train_images_like(folder, names["test"])
    _check_pictures(images, size_of_submission, elsewhere, report)
    report.seen += _sum_up(images, classes, list(names))
    return images, report


def read_images(path: str | Path, root: str | Path | None = None, split: Split = "train") -> pd.DataFrame:
    """Read a table that ``write_table`` wrote from :func:`check_dataset`'s images, with the same types.

    Plain ``read_csv`` would take a digest of digits alone for a number.

    Parameters
    ----------
    path : the table (TSV).
    root : the data set that was checked, all of whose images of ``split`` must be in the table; None does not ask.
    split : whose images the table holds.

    Raises
    ------
    DamagedFileError : if the file is cut short, or is no such table. Without ``root`` a cut between two lines goes
        unnoticed.
    """
    names = read_table(path, nrows=0).columns
    texts = {"image", "split", "digest", "labels"}
    types = {name: "str" if name in texts else "Int64" for name in names}
    missing = {name: [""] for name in names if name not in texts}
    if lacking := [name for name in FACTS if name not in names]:
        raise damaged(path, f"it has no column {', '.join(lacking)}")
    images = read_table(path, dtype=types, keep_default_na=False, na_values=missing)
    if root is not None:
        listed = set(images.loc[images["split"] == split, "image"])
        if lacking := [name for name in ContestFolder(Path(root)).list_images(split) if name not in listed]:
            raise damaged(path, f"it lacks {len(lacking)} images of {split}_images/ (the first: {lacking[0]})")
    return images.astype({"height": "int64", "width": "int64"})


@dataclass(frozen=True)
class _Look:
    """What one image showed; ``facts`` is None if it cannot be used.

    ``parts`` has the area of the largest component of each class on the submission grid, where one is asked for.
    """

    facts: dict[str, object] | None
    findings: list[Finding]
    parts: dict[str, int] = field(default_factory=dict)


def _look(
    folder: ContestFolder,
    split: Split,
    name: str,
    labels: Labels,
    budget: MemoryBudget,
    grid: tuple[int, int] | None,
) -> _Look:
    file = f"{split}_images/{name}"
    path = folder.images(split) / name
    wanted = decoding_bytes(path)
    if budget.whole is not None and wanted > budget.whole:
        came = f"{wanted / 1e9:.2f} GB to read it, and {budget.whole / 1e9:.2f} GB for images"
        return _Look(None, [Finding(TOO_LARGE, file, came)])
    with budget.take(wanted):
        return _look_at(path, file, split, labels, grid)


def _look_at(path: Path, file: str, split: Split, labels: Labels, grid: tuple[int, int] | None) -> _Look:
    """Decode an image and draw its labels."""
    name = path.name
    try:
        data = path.read_bytes()
        pixels, kind = decode_image(data)
    except OSError as error:
        gone = path.is_symlink() and not path.exists()
        came = f"a symbolic link to {str(path.readlink())!r:.80}, which is not there" if gone else str(error.strerror)
        return _Look(None, [Finding(BAD_IMAGE, file, came)])
    except ImageError as error:
        return _Look(None, [Finding(TURNED if isinstance(error, TurnedError) else BAD_IMAGE, file, str(error))])
    findings = []
    if complaint := complaint_about_jpeg(data):
        broken = "premature" in complaint.lower()
        findings.append(Finding(BAD_IMAGE if broken else DAMAGED, file, complaint))
    if kind != "rgb":
        findings.append(Finding(GREY if kind == "grey" else ALPHA, file, ""))
    if not pixels.any():
        findings.append(Finding(ALL_BLACK, file, ""))
    height, width = pixels.shape[:2]
    del pixels  # masks take its place
    facts: dict[str, object] = {
        "image": name,
        "split": split,
        "height": height,
        "width": width,
        "digest": hashlib.sha256(data).hexdigest(),
        "labels": "",
    }
    parts: dict[str, int] = {}
    if split == "train":
        facts["labels"] = digest_labels(labels.texts(name))
        for label, rows in labels.read(name).items():
            mask = np.zeros((height, width), np.uint8)
            for row, text in rows:
                try:
                    mask |= decode_rle(text, (height, width))
                except ValueError as error:
                    came = f"{name}_{label} ({height}x{width}): {error}"
                    findings.append(Finding(BAD_TEXT, "train.csv", came, row.line))
            facts[label] = int(mask.sum())
            if grid is not None:
                parts[label] = _largest_part(resize_mask(mask, grid))
    return _Look(facts, findings, parts)


def _largest_part(mask: np.ndarray) -> int:
    """Return the area of the largest 8-connected component of a mask, in pixels."""
    if not mask.any():
        return 0
    areas = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    return int(areas.max())


def complaint_about_jpeg(data: bytes) -> str | None:
    """Return what libjpeg complains of in the bytes of a JPEG file, or None.

    Pillow, like OpenCV, fills what is missing before an end marker with grey and says nothing. An eighth of the size
    is decoded: all data are read, and most of the work is saved.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        return str(error)
    return None


def _check_classes(classes: Sequence[str], report: Report) -> list[str]:
    """Return those names that can be a column of the images table."""
    if not 1 <= len(classes) <= MOST_CLASSES:
        report.findings.append(Finding(BAD_CLASSES, "config", f"{len(classes)} classes"))
    for name, times in Counter(classes).items():
        if times > 1:
            report.findings.append(Finding(BAD_CLASSES, "config", f"{name!r} {times} times"))
        if not name or name in FACTS:
            report.findings.append(Finding(BAD_CLASSES, "config", f"{name!r}"))
    return [name for name in dict.fromkeys(classes) if name and name not in FACTS]


def _list(folder: ContestFolder, split: Split, report: Report) -> list[str]:
    place = f"{split}_images"
    if not folder.images(split).is_dir():
        report.findings.append(Finding(NO_SUCH_FILE, place, "no such folder"))
        return []
    if not os.access(folder.images(split), os.R_OK | os.X_OK):
        report.findings.append(Finding(NO_SUCH_FILE, place, "this user may not read it"))
        return []
    names = folder.list_images(split)
    if not names:
        report.findings.append(Finding(NO_IMAGES, place, "no image in it"))
    report.findings += [Finding(BAD_NAME, place, repr(name)) for name in names if not name.isprintable()]
    report.findings += [Finding(IGNORED, f"{place}/{name}", "") for name in folder.list_others(split)]
    return names


def _check_table(
    path: Path, names: Sequence[str], classes: Sequence[str], report: Report, *, unite: bool
) -> dict[str, dict[str, list[Row]]] | None:
    """Return image to class to sound rows, or None if there is no table to speak of.

    Several rows of one image and class are an error, or a warning where their masks are to be united.
    """
    if not path.is_file():
        report.findings.append(Finding(NO_SUCH_FILE, path.name, "no such file"))
        return None
    known = set(names)
    alike = _names_by_likeness(names)
    rows: dict[str, dict[str, list[Row]]] = {name: {} for name in names}
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 1))
            last = file.read()
        if last not in (b"\n", b"\r"):
            report.findings.append(Finding(CUT_OFF, path.name, "is it whole?"))
        for row in scan_table(path):
            finding = _check_row(row, path.name, known, alike, classes, rows)
            if finding:
                report.findings.append(finding)
    except TableError as error:
        report.findings.append(Finding(BAD_TABLE, path.name, error.reason, error.line))
        return None
    except OSError as error:
        report.findings.append(Finding(BAD_TABLE, path.name, str(error.strerror)))
        return None
    for image, by_class in rows.items():
        for label, several in by_class.items():
            if unite and len(several) > 1:
                lines = ", ".join(str(row.line) for row in several[:5]) + (", ..." if len(several) > 5 else "")
                came = f"'{image}_{label}' {len(several)} times, lines {lines}"
                report.findings.append(Finding(UNITED, path.name, came))
            for row in () if unite else several[1:]:
                came = f"'{image}_{label}', first in line {several[0].line}"
                report.findings.append(Finding(TWICE, path.name, came, row.line))
    return rows


def _check_row(
    row: Row,
    file: str,
    known: set[str],
    alike: Mapping[str, str],
    classes: Sequence[str],
    rows: dict[str, dict[str, list[Row]]],
) -> Finding | None:
    """Keep a sound row in ``rows``, or say what is wrong with it."""
    cell = f"{row.label!r:.80}"
    if row.swallowed:
        came = f"one cell in quotation marks from here to line {row.last}, beginning with {cell}"
        return Finding(BAD_ROW, file, came, row.line)
    if row.cells != 2:
        return Finding(BAD_ROW, file, f"{row.cells} cells, beginning with {cell}", row.line)
    image, label = split_label(row.label, known, classes)
    if image is None or image not in known:
        # An empty folder is a finding of its own; that no row fits it says nothing new.
        return Finding(NO_SUCH_IMAGE, file, cell + _what_is_alike(image, alike), row.line) if known else None
    if label not in classes:
        near = difflib.get_close_matches(label, classes, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return Finding(NO_SUCH_CLASS, file, f"{label!r:.40} in {cell}{hint}", row.line)
    rows[image].setdefault(label, []).append(row)
    return None


def _names_by_likeness(names: Sequence[str]) -> dict[str, str]:
    """Return names by what is left of them without case, Unicode form and ending, and by that with the ending."""
    alike = {Path(_plain(name)).stem: name for name in reversed(names)}
    return alike | {_plain(name): name for name in reversed(names)}


def _what_is_alike(image: str | None, alike: Mapping[str, str]) -> str:
    """Say which image of the folder a name that is not there may mean, and how the two differ."""
    plain = _plain((image or "").replace("\\", "/").rpartition("/")[2])
    name = alike.get(plain) or alike.get(Path(plain).stem)
    if image is None or name is None:
        return ""
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", image):
        return "; the folder has it in another Unicode form (NFC or NFD)"
    return f"; the folder has {name!r:.80}"


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _check_sample(folder: ContestFolder, names: Sequence[str], classes: Sequence[str], report: Report) -> None:
    rows = _check_table(folder.sample_submission, names, classes, report, unite=False)
    for name, found in (rows or {}).items():
        missing = [label for label in classes if label not in found]
        if missing:
            came = "no row" if not found else f"no row for {', '.join(missing)}"
            report.findings.append(Finding(NOT_IN_SAMPLE, f"test_images/{name}", came))


def _check_labels(
    images: pd.DataFrame, rows: Mapping[str, Mapping[str, Sequence[Row]]], classes: Sequence[str], report: Report
) -> None:
    every_row = [row for found in rows.values() for several in found.values() for row in several]
    only_masks = bool(every_row) and not any(row.empty for row in every_row)
    for name, found in rows.items():
        missing = [label for label in classes if label not in found]
        if missing:
            came = "no row" if not found else f"no row for {', '.join(missing)}"
            report.findings.append(Finding(ONLY_MASKS if only_masks else NO_ROWS, f"train_images/{name}", came))
    train = images[images["split"] == "train"]
    if len(train) and not (train[list(classes)] > 0).any(axis=None):
        report.findings.append(Finding(NO_LABELS, "train.csv", "no training image has a pixel of any class"))
        return
    for label in classes:
        if len(train) and not (train[label] > 0).any():
            report.findings.append(Finding(NEVER, "train.csv", label))


def _train_images_like(folder: ContestFolder, names: Sequence[str]) -> dict[str, str]:
    """Return digest to file of those training images that are as many bytes long as a test image."""
    sizes = {_size(folder.images("test") / name) for name in names}
    files = [folder.images("train") / name for name in folder.list_images("train")]
    alike = [file for file in files if (size := _size(file)) and size in sizes]
    return {sha256(file): f"train_images/{file.name}" for file in reversed(alike)}


def _size(file: Path) -> int:
    """Return the bytes of a file; 0 for one that is not there."""
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0


def _check_min_sizes(looks: Sequence[_Look], min_sizes: Mapping[str, Mapping[str, int]], report: Report) -> None:
    """Say of each decision how many true masks of each class it would remove, and with which sizes it would not."""
    for place, sizes in min_sizes.items():
        parts = {label: [part for look in looks if (part := look.parts.get(label, 0))] for label in sizes}
        lost = {label: sum(part < sizes[label] for part in parts[label]) for label in sizes}
        if any(lost.values()):
            counts = ", ".join(
                f"{label} {lost[label]} of {len(parts[label])} (below {sizes[label]})" for label in sizes if lost[label]
            )
            kept = ", ".join(f"{label}: {min([size, *parts[label]])}" for label, size in sizes.items())
            report.findings.append(Finding(LOST, place, f"{counts}; min_size: {{{kept}}} keeps all"))


def _check_pictures(
    images: pd.DataFrame, size_of_submission: tuple[int, int], elsewhere: Mapping[str, str], report: Report
) -> None:
    first = dict(elsewhere)
    for image in images.itertuples():
        file = f"{image.split}_images/{image.image}"
        if image.digest in first:
            report.findings.append(Finding(SAME_BYTES, file, f"the same as {first[image.digest]}"))
        first.setdefault(image.digest, file)
    high, wide = size_of_submission
    for (split, height, width), count in images.groupby(["split", "height", "width"]).size().items():
        if abs(height * wide - width * high) > 0.01 * width * high:
            came = f"{count} of {height}x{width}, the submission is {high}x{wide}"
            report.findings.append(Finding(STRETCHED, f"{split}_images", came))


def _tabulate(looks: Sequence[_Look], classes: Sequence[str]) -> pd.DataFrame:
    facts = [look.facts for look in looks if look.facts]
    for image in facts:
        if image["split"] == "train":
            image.update({label: image.get(label, 0) for label in classes})
    images = pd.DataFrame(facts, columns=[*FACTS, *classes])
    return images.astype({"height": "int64", "width": "int64"} | dict.fromkeys(classes, "Int64"))


def _sum_up(images: pd.DataFrame, classes: Sequence[str], splits: Sequence[Split]) -> list[str]:
    lines = []
    for split in splits:
        own = images[images["split"] == split]
        sizes = Counter(f"{height}x{width}" for height, width in zip(own["height"], own["width"], strict=True))
        common = ", ".join(size for size, _ in sizes.most_common(3))
        more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
        lines.append(f"{len(own)} {split} images" + (f" of {common}{more}" if len(own) else ""))
    train = images[images["split"] == "train"]
    if len(train) and classes:
        held = train[list(classes)] > 0
        counts = ", ".join(f"{label} {held[label].sum()}" for label in classes)
        text = f"images that hold each class: {counts}; {100 * held.to_numpy().mean():.0f} % of all pairs"
        lines += textwrap.wrap(text, 100, subsequent_indent="  ")
    return lines
