"""Choose a few images of a data set, some of every class and some of none, for a smoke run."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from cloudseg.config.image_tables import read_names
from cloudseg.config.labels import Layout
from cloudseg.dataset.contest import SPLITS, ContestFolder, Split
from cloudseg.dataset.fetch import link, write_marker
from cloudseg.dataset.labels.coco import image_name, index_coco, load_coco
from cloudseg.dataset.labels.interface import LabelError, Labels
from cloudseg.dataset.labels.mask_files import MaskFiles, list_files
from cloudseg.dataset.labels.opening import open_labels
from cloudseg.dataset.labels.tables import Columns, Row, RowNames, TableError, scan_table
from cloudseg.storage.files import atomic, write_text


def make_sample(
    root: str | Path,
    folder: Path,
    *,
    classes: Sequence[str],
    images: Mapping[Split, int],
    exclude: str | Path | None = None,
    layout: Layout | Mapping[str, object] | None = None,
) -> str:
    """Make a data set of a few images: links to their files, and the rows of the tables that are theirs.

    Only the tables are read. Where one of them has a row that the dataset check will not pass, all images are taken,
    so that the check reports it with its own line.

    Parameters
    ----------
    root : a data set in the contest's layout; it is only read.
    folder : is made, in the same layout.
    classes : names of the classes.
    images : how many images of each split to take, where there are as many.
    exclude : the user's list of training images that are not to be taken.
    layout : what the parts of the folder are called and in which form; the sample gets the same.

    Returns
    -------
    str : what was taken, for a reader.
    """
    source = ContestFolder(Path(root), layout)
    try:
        names = {split: source.list_images(split) for split in SPLITS if split == "train" or source.has_test}
        is_table = {"train": source.layout.labels.format == "rle", "test": source.has_sample}
        tables = [split for split in names if is_table[split]]
        rows = {split: _rows_of_images(source, split, names[split], classes) for split in tables}
        _refuse_unsound_labels(source, names["train"], classes)
        labels = open_labels(source, set(names["train"]), classes)
    except (TableError, LabelError, OSError) as error:
        link(source.root, folder, source.layout.names)
        return f"all images, since the tables or folders need mending first ({error})"
    left_out = read_names(exclude) if exclude is not None else {}
    kept = [name for name in names["train"] if name not in left_out]
    chosen: dict[Split, list[str]] = {"train": choose(kept, labels, classes, images["train"])}
    if "test" in names:
        chosen["test"] = sorted(_shuffled(names["test"])[: images["test"]])
    sample = ContestFolder(folder, source.layout)
    for split, images_of_split in chosen.items():
        sample.images(split).mkdir(parents=True)
        for name in images_of_split:
            (sample.images(split) / name).symlink_to((source.images(split) / name).resolve())
    for split in tables:
        wanted = set(chosen[split])
        copied = [rows[split][name] for name in names[split] if name in wanted]
        _copy_rows(source.table(split), sample.table(split), copied)
    if source.layout.labels.format == "masks":
        _link_masks(source, sample, chosen["train"], classes)
    if source.layout.labels.format == "coco":
        _copy_annotations(source, sample, set(chosen["train"]))
    write_marker(folder, sample_of=str(root))
    counts = (f"{len(chosen[split])} of {len(names[split])} {split} images" for split in names)
    return f"{', '.join(counts)} of {root}"


def choose(names: Iterable[str], labels: Labels, classes: Sequence[str], count: int) -> list[str]:
    """Take images of each class in turn, and of none, until there are enough.

    Parameters
    ----------
    names : of the images; which of them are taken does not depend on their order.
    labels : of the images.
    classes : names of the classes.
    count : images to take; all, where there are fewer.

    Returns
    -------
    list of str : sorted. With ``count`` above the number of classes each class is there that has an image.
    """
    held = {name: set(labels.read(name)) for name in _shuffled(names)}
    groups = [[name for name in held if label in held[name]] for label in classes]
    groups.append([name for name in held if not held[name]])
    chosen: dict[str, None] = {}
    while len(chosen) < min(count, len(held)):
        for group in groups:
            unchosen = next((name for name in group if name not in chosen), None)
            if unchosen is not None and len(chosen) < count:
                chosen[unchosen] = None
        if not any(name not in chosen for group in groups for name in group):
            break
    return sorted(chosen)


def _shuffled(names: Iterable[str]) -> list[str]:
    """Order names by a digest, since images that follow one another are often alike."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def _rows_of_images(
    folder: ContestFolder, split: Split, names: Sequence[str], classes: Sequence[str]
) -> dict[str, list[Row]]:
    """Find the rows of each image.

    Raises
    ------
    TableError : for a row that names no image or no class, or has other cells than the header.
    """
    path, entry = folder.table(split), folder.layout.labels if split == "train" else folder.layout.submission
    columns = Columns.of_training(entry) if split == "train" else Columns.of_submission(entry)
    names_no_class = split == "test" and entry.sample == "images"
    row_names = RowNames(entry, names, classes)
    rows: dict[str, list[Row]] = {name: [] for name in names}
    for row in scan_table(path, columns):
        image, label = row_names.of(row)
        if image is None or not (label in classes or names_no_class) or row.cells != row.width:
            raise TableError(path, row.line, f"{row.shown!r} is no image and class of this data set")
        rows[image].append(row)
    return rows


def _copy_rows(path: Path, target: Path, rows: Iterable[Sequence[Row]]) -> None:
    """Write the header of a table and some of its rows, byte for byte and in their order."""
    wanted = sorted((row for of_image in rows for row in of_image), key=lambda row: row.start)
    target.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as table, atomic(target) as temporary, temporary.open("wb") as copy:
        copy.write(table.readline())
        for row in wanted:
            table.seek(row.start)
            copy.write(table.read(row.stop - row.start))


def _refuse_unsound_labels(source: ContestFolder, images: Sequence[str], classes: Sequence[str]) -> None:
    """Raise for labels outside of a table with a fault that the dataset check finds before it looks at images.

    Raises
    ------
    LabelError : with one of the faults.
    """
    entry, shown = source.layout.labels, source.layout.labels_name
    if entry.format == "masks":
        files = MaskFiles(entry, images, classes, list_files(source.labels)[0])
        if wrong := [*files.strangers, *(several[1] for _, several in files.several())]:
            raise LabelError(f"{shown}/{wrong[0]}", "of no image, or one of several of an image")
    if entry.format == "coco":
        problems = index_coco(load_coco(source.labels, shown), images, classes, source.list_images("test"))[1]
        if wrong := [each.got for each in problems if each.kind != "other class"]:
            raise LabelError(shown, wrong[0])


def _link_masks(source: ContestFolder, sample: ContestFolder, images: Sequence[str], classes: Sequence[str]) -> None:
    """Link the masks of some images."""
    files = MaskFiles(source.layout.labels, images, classes, list_files(source.labels)[0])
    sample.labels.mkdir(parents=True, exist_ok=True)
    for file in (file for image in images for several in files.of(image).values() for file in several):
        (sample.labels / file).parent.mkdir(parents=True, exist_ok=True)
        (sample.labels / file).symlink_to((source.labels / file).resolve())


def _copy_annotations(source: ContestFolder, sample: ContestFolder, images: Collection[str]) -> None:
    """Write the entries of some images."""
    content = load_coco(source.labels, source.layout.labels_name)
    kept = [each for each in content["images"] if image_name(str(each["file_name"])) in images]
    numbers = {each["id"] for each in kept}
    annotations = [each for each in content["annotations"] if each["image_id"] in numbers]
    text = json.dumps({"images": kept, "annotations": annotations, "categories": content["categories"]})
    sample.labels.parent.mkdir(parents=True, exist_ok=True)
    write_text(sample.labels, text + "\n")
