"""Check a data set before anything is made from it, and list all that is wrong with it at once."""

import contextlib
import itertools
import os
import textwrap
from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from cloudseg.config.classes import EXCLUDED, IMAGE_COLUMNS, MOST_CLASSES
from cloudseg.config.image_tables import read_names
from cloudseg.config.labels import CLOUDS_LAYOUT, Layout
from cloudseg.config.names import nearest
from cloudseg.config.size import OriginalSizes, Size, division_problem
from cloudseg.dataset.check import rules
from cloudseg.dataset.check.coco import check_coco
from cloudseg.dataset.check.images import check_image
from cloudseg.dataset.check.mask_files import check_mask_files
from cloudseg.dataset.check.report import Finding, Report
from cloudseg.dataset.check.tables import check_sample, check_table
from cloudseg.dataset.contest import SPLITS, ContestFolder, Split
from cloudseg.dataset.labels.interface import LabelIndex
from cloudseg.dataset.labels.opening import labels_of
from cloudseg.dataset.labels.order import counted_along_rows
from cloudseg.dataset.labels.rows import LabelRows
from cloudseg.dataset.originals import sample_sizes
from cloudseg.postprocess.arguments import in_order
from cloudseg.runtime.job_progress import counted
from cloudseg.runtime.memory import MemoryBudget
from cloudseg.storage.files import sha256
from cloudseg.texts import number_of


def check_dataset(
    root: str | Path,
    *,
    classes: Sequence[str],
    size_of_submission: tuple[int, int],
    splits: Sequence[Split] = SPLITS,
    workers: int = 1,
    memory: int | None = None,
    min_sizes: Mapping[str, Mapping[str, int]] | None = None,
    exclude: str | Path | None = None,
    sizes: Collection[str] = (),
    layout: Layout | Mapping[str, object] | None = None,
) -> tuple[pd.DataFrame, Report]:
    """Check every image and every label of a data set in the contest's layout, or of one of its splits.

    Every image is decoded and every label is drawn, so what passes will not fail later.

    Parameters
    ----------
    root : folder with ``train_images/``, ``test_images/``, ``train.csv`` and ``sample_submission.csv``.
    classes : names of the classes, 1 to 64.
    size_of_submission : (height, width) in pixels; images of other proportions get a warning.
    splits : what is checked: ``"train"`` (``train_images/`` and ``train.csv``), ``"test"`` (``test_images/`` and
        ``sample_submission.csv``) or both. Of the other one only the names and bytes of images are looked at. Test
        images need not be there, nor their table.
    workers : threads, 1 or more; each decodes an image.
    memory : bytes that the process may take, or None. Where the images of all threads take more, fewer are decoded at
        the same time; one that takes more than all of it is an error.
    min_sizes : for each decision, by its key in the config, the smallest component that it leaves of each class, in
        pixels of the submission grid: true masks that it would remove get a warning.
    exclude : the user's list of training images to leave out, as :func:`~cloudseg.config.image_tables.read_names`
        reads it. Neither they nor their labels are looked at, so they may be what the check would refuse.
    sizes : of the experiment sheet; one that divides the original size (``xN``) and fits not all images is an error.
    layout : what the parts of the folder are called and in which form, or a job's param that says so.

    Returns
    -------
    images : DataFrame, one row per image that could be read, training images first, sorted by name: image,
        split ("train" or "test"), height, width, digest (SHA-256 of the file), labels (a digest of its
        run-length texts; empty for test images), and per class its area in pixels (missing for test images).
        Last those that are left out, of split "excluded", of which nothing else is known.
    report : Report of all errors and warnings. Nothing is raised for them here: print it, then call its
        ``raise_for_errors()``.
    """
    folder = ContestFolder(Path(root), layout)
    report = Report(folder.root)
    classes = _check_classes(classes, report)
    if not folder.has_test:
        report.findings.append(Finding(rules.NO_TEST, "test_images", "no such folder"))
        splits = [split for split in splits if split != "test"]
    names = {split: _list_images(folder, split, report) for split in SPLITS if split in splits}
    listed = {} if exclude is None else read_names(exclude)
    for name in sorted((set(folder.list_images("train")) - listed.keys()) & set(folder.list_images("test"))):
        of_train, of_test = (f"{folder.images_name(split)}/{name}" for split in SPLITS)
        report.findings.append(Finding(rules.SAME_NAME, of_train, f"also {of_test}"))
    for split, of_split in names.items():
        _check_ids(folder, split, of_split, report)

    index = None
    if "train" in names:
        index = _check_labels_of(folder, names["train"], classes, report)
    if "test" in names:
        check_sample(folder, names["test"], classes, report)
    left_out = []
    if exclude is not None and "train" in names:
        _check_list(exclude, listed, names["train"], folder, report)
        left_out = [name for name in names["train"] if name in listed]
        names["train"] = [name for name in names["train"] if name not in listed]
        index = None if index is None else index.without(listed)
    labels = labels_of(folder, LabelRows([], classes) if index is None else index)

    files = ((split, name) for split in names for name in names[split])
    budget = MemoryBudget(memory)
    grid = size_of_submission if min_sizes else None
    found = in_order(lambda file: check_image(folder, *file, labels, budget, grid), files, workers)
    facts: list[tuple[object, ...]] = []
    largest = {label: array("q") for label in classes}
    for image in counted(found, sum(map(len, names.values())), "images"):
        report.findings += image.findings
        if image.facts:
            facts.append(_row(image.facts, classes))
        for label, area in image.parts.items():
            largest[label].extend([area] if area else [])
    images = _tabulate(facts, classes)
    if index is not None:
        _check_labels(images, index, classes, folder, report)
        _check_order(images, classes, folder, report)
    _check_min_sizes(largest, min_sizes or {}, folder, report)
    elsewhere = _train_images_like(folder, names["test"], listed) if list(names) == ["test"] else {}
    _check_pictures(images, size_of_submission, elsewhere, folder, report)
    originals = _original_sizes(images)
    if list(names) == ["test"] and originals:  # which test images must be as large as
        originals = dict(itertools.islice(sample_sizes(folder, listed, files=1).items(), 1)) | originals
    for size in sorted(set(sizes)):
        if problem := division_problem(Size.parse(size), originals):
            report.findings.append(Finding(rules.UNFIT, "the sheet", problem))
    report.seen += _sum_up(images, classes, list(names))
    return _with_left_out(images, left_out), report


def _check_classes(classes: Sequence[str], report: Report) -> list[str]:
    """Return those names that can be a column of the images table."""
    if not 1 <= len(classes) <= MOST_CLASSES:
        report.findings.append(Finding(rules.BAD_CLASSES, "config", f"{len(classes)} classes"))
    for name, times in Counter(classes).items():
        if times > 1:
            report.findings.append(Finding(rules.BAD_CLASSES, "config", f"{name!r} {times} times"))
        if not name or name in IMAGE_COLUMNS:
            report.findings.append(Finding(rules.BAD_CLASSES, "config", f"{name!r}"))
    return [name for name in dict.fromkeys(classes) if name and name not in IMAGE_COLUMNS]


def _list_images(folder: ContestFolder, split: Split, report: Report) -> list[str]:
    """List the images of a split; a folder without any is a finding, as are names and files that cannot be used."""
    file, no_such_file = folder.images_name(split), rules.of_layout(rules.NO_SUCH_FILE, folder.layout)
    if not folder.images(split).is_dir():
        report.findings.append(Finding(no_such_file, file, "no such folder"))
        return []
    if not os.access(folder.images(split), os.R_OK | os.X_OK):
        report.findings.append(Finding(no_such_file, file, "this user may not read it"))
        return []
    names = folder.list_images(split)
    if not names:
        report.findings.append(Finding(rules.NO_IMAGES, file, "no image in it"))
    report.findings += [Finding(rules.BAD_NAME, file, repr(name)) for name in names if not name.isprintable()]
    report.findings += [Finding(rules.IGNORED, f"{file}/{name}", "") for name in folder.list_others(split)]
    return names


def _check_labels_of(
    folder: ContestFolder, names: Sequence[str], classes: Sequence[str], report: Report
) -> LabelIndex | None:
    """Check where the labels of which images are; None where there are none that can be read."""
    if folder.layout.labels.format == "masks":
        return check_mask_files(folder, names, classes, report)
    if folder.layout.labels.format == "coco":
        return check_coco(folder, names, classes, report)
    return check_table(folder, "train", names, classes, report)


def _check_ids(folder: ContestFolder, split: Split, names: Sequence[str], report: Report) -> None:
    """Report images of a split that tables which name images without a suffix cannot tell apart."""
    entry = folder.layout.labels if split == "train" else folder.layout.submission
    tells_suffixes = entry.suffix and entry.format != "masks"
    first: dict[str, str] = {}
    for name in () if tells_suffixes else names:
        if name != (other := first.setdefault(Path(name).stem, name)):
            report.findings.append(Finding(rules.SAME_ID, f"{folder.images_name(split)}/{name}", f"also {other}"))


def _check_list(
    exclude: str | Path, listed: Mapping[str, int], names: Sequence[str], folder: ContestFolder, report: Report
) -> None:
    """Check that the images that a list leaves out are there, and that it leaves some."""
    known = set(names)
    for name, line in listed.items():
        if name not in known:
            got = f"{name!r:.80}{nearest(name, names)}"
            report.findings.append(Finding(rules.NO_SUCH_EXCLUDED, f"{exclude} (dataset.exclude)", got, line))
    if known and known <= listed.keys():
        report.findings.append(
            Finding(rules.NO_IMAGES, folder.images_name("train"), f"{exclude} leaves all of them out")
        )
    report.seen.append(
        f"{number_of(len(known & listed.keys()), 'train image')} left out by {exclude} (dataset.exclude)"
    )


def _check_labels(
    images: pd.DataFrame, index: LabelIndex, classes: Sequence[str], folder: ContestFolder, report: Report
) -> None:
    rule = rules.of_layout(rules.ONLY_MASKS if len(index) and not index.any_empty else rules.NO_ROWS, folder.layout)
    for name, missing in index.lacking():
        got = f"no {index.word}" + ("" if missing == index.classes else f" for {', '.join(missing)}")
        report.findings.append(Finding(rule, f"{folder.images_name('train')}/{name}", got))
    train, file = images[images["split"] == "train"], folder.layout.labels_name
    if len(train) and not (train[list(classes)] > 0).any(axis=None):
        no_labels = rules.of_layout(rules.NO_LABELS, folder.layout)
        report.findings.append(Finding(no_labels, file, "no training image has a pixel of any class"))
        return
    for label in classes:
        if len(train) and not (train[label] > 0).any():
            report.findings.append(Finding(rules.NEVER, file, label))


def _check_order(images: pd.DataFrame, classes: Sequence[str], folder: ContestFolder, report: Report) -> None:
    """Report run lengths of another form than the clouds' that by their shapes were counted in the other order."""
    if folder.layout == CLOUDS_LAYOUT or report.errors:  # the labels study looks at the clouds' own
        return
    train = images[images["split"] == "train"]
    sizes = dict(zip(train["image"], zip(train["height"], train["width"], strict=True), strict=True))
    along, order = counted_along_rows(folder, sizes, classes), folder.layout.labels.order
    if along is not None and along != (order == "rows"):
        counted = "along the rows" if along else "down the columns"
        got = f"by their shapes, pixels are counted {counted}, and `order` is {order}"
        report.findings.append(Finding(rules.OTHER_ORDER, folder.layout.labels_name, got))


def _train_images_like(folder: ContestFolder, names: Sequence[str], listed: Collection[str]) -> dict[str, str]:
    """Return digest to file of those training images, but the listed, that are as many bytes long as a test image."""
    sizes = {_size(folder.images("test") / name) for name in names}
    files = [folder.images("train") / name for name in folder.list_images("train") if name not in listed]
    alike = [file for file in files if (size := _size(file)) and size in sizes]
    return {sha256(file): f"{folder.images_name('train')}/{file.name}" for file in reversed(alike)}


def _size(file: Path) -> int:
    """Return the bytes of a file; 0 for one that is not there."""
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0


def _check_min_sizes(
    largest: Mapping[str, Sequence[int]],
    min_sizes: Mapping[str, Mapping[str, int]],
    folder: ContestFolder,
    report: Report,
) -> None:
    """Report how many true masks each decision would remove per class, and the sizes at which it removes none.

    `largest` has the area of the largest component of each true mask, by class.
    """
    for key, sizes in min_sizes.items():
        areas = {label: largest.get(label, ()) for label in sizes}
        lost = {label: sum(area < sizes[label] for area in areas[label]) for label in sizes}
        if any(lost.values()):
            counts = ", ".join(
                f"{label} {lost[label]} of {len(areas[label])} (below {sizes[label]})" for label in sizes if lost[label]
            )
            harmless = ", ".join(f"{label}: {min([size, *areas[label]])}" for label, size in sizes.items())
            lost_masks = rules.of_layout(rules.LOST, folder.layout)
            report.findings.append(Finding(lost_masks, key, f"{counts}; min_size: {{{harmless}}} keeps all"))


def _check_pictures(
    images: pd.DataFrame,
    size_of_submission: tuple[int, int],
    elsewhere: Mapping[str, str],
    folder: ContestFolder,
    report: Report,
) -> None:
    first = dict(elsewhere)
    for image in images.itertuples():
        file = f"{folder.images_name(image.split)}/{image.image}"
        if image.digest in first:
            report.findings.append(Finding(rules.SAME_BYTES, file, f"the same as {first[image.digest]}"))
        first.setdefault(image.digest, file)
    high, wide = size_of_submission
    for (split, height, width), count in images.groupby(["split", "height", "width"]).size().items():
        if abs(height * wide - width * high) > 0.01 * width * high:
            got = f"{count} of {height}x{width}, the submission is {high}x{wide}"
            report.findings.append(Finding(rules.STRETCHED, folder.images_name(split), got))


def _original_sizes(images: pd.DataFrame) -> OriginalSizes:
    """Return the sizes of the images, the most frequent first, and how many of each split have each."""
    counts = images.groupby(["height", "width", "split"], sort=False).size().sort_values(ascending=False)
    found: dict[tuple[int, int], list[str]] = {}
    for (height, width, split), count in counts.items():
        found.setdefault((height, width), []).append(number_of(count, f"{split} image"))
    return {size: ", ".join(words) for size, words in found.items()}


def _row(facts: Mapping[str, object], classes: Sequence[str]) -> tuple[object, ...]:
    """Return the row of an image in the images table."""
    nothing = 0 if facts["split"] == "train" else None
    return (*(facts[name] for name in IMAGE_COLUMNS), *(facts.get(label, nothing) for label in classes))


def _tabulate(rows: Sequence[tuple[object, ...]], classes: Sequence[str]) -> pd.DataFrame:
    images = pd.DataFrame(rows, columns=[*IMAGE_COLUMNS, *classes])
    return images.astype({"height": "int64", "width": "int64"} | dict.fromkeys(classes, "Int64"))


def _with_left_out(images: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the table with a row for each image that is left out."""
    nothing = {"split": EXCLUDED, "height": 0, "width": 0, "digest": "", "labels": ""}
    rows = pd.DataFrame([{"image": name, **nothing} for name in names], columns=images.columns)
    return pd.concat([images, rows.astype(images.dtypes)], ignore_index=True) if names else images


def _sum_up(images: pd.DataFrame, classes: Sequence[str], splits: Sequence[Split]) -> list[str]:
    lines = []
    for split in splits:
        own = images[images["split"] == split]
        sizes = Counter(f"{height}x{width}" for height, width in zip(own["height"], own["width"], strict=True))
        common = ", ".join(size for size, _ in sizes.most_common(3))
        more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
        lines.append(number_of(len(own), f"{split} image") + (f" of {common}{more}" if len(own) else ""))
    train = images[images["split"] == "train"]
    if len(train) and classes:
        held = train[list(classes)] > 0
        counts = ", ".join(f"{label} {held[label].sum()}" for label in classes)
        text = f"images that hold each class: {counts}; {100 * held.to_numpy().mean():.0f} % of all pairs"
        lines += textwrap.wrap(text, 100, subsequent_indent="  ")
    return lines
