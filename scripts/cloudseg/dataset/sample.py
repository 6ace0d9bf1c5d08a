"""Choose a few images of a data set, some of every class and some of none, for a smoke run."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from cloudseg.config.image_tables import read_names
from cloudseg.dataset.contest import SPLITS, ContestFolder, Labels, Row, Split, TableError, scan_table, split_label
from cloudseg.dataset.fetch import link, write_marker
from cloudseg.storage.files import atomic


def make_sample(
    root: str | Path,
    folder: Path,
    *,
    classes: Sequence[str],
    images: Mapping[Split, int],
    exclude: str | Path | None = None,
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

    Returns
    -------
    str : what was taken, for a reader.
    """
    source = ContestFolder(Path(root))
    try:
        names = {split: source.list_images(split) for split in SPLITS if split == "train" or source.has_test}
        rows = {
            split: _rows_of_images(source.table(split), names[split], classes)
            for split in names
            if split == "train" or source.has_sample
        }
    except (TableError, OSError) as error:
        link(source.root, folder)
        return f"all images, since the tables or folders need mending first ({error})"
    labels = Labels.index(source.train_table, set(names["train"]), classes)
    left_out = read_names(exclude) if exclude is not None else {}
    wanted = [name for name in names["train"] if name not in left_out]
    chosen = {"train": choose(wanted, labels, classes, images["train"])}
    if "test" in names:
        chosen["test"] = sorted(_shuffled(names["test"])[: images["test"]])
    sample = ContestFolder(folder)
    for split in names:
        sample.images(split).mkdir(parents=True)
        for name in chosen[split]:
            (sample.images(split) / name).symlink_to((source.images(split) / name).resolve())
        if split in rows:
            own = [rows[split][name] for name in chosen[split]]
            _copy_rows(source.table(split), sample.table(split), own)
    write_marker(folder, sample_of=str(root))
    counts = (f"{len(chosen[split])} of {len(names[split])} {split} images" for split in names)
    return f"{', '.join(counts)} of {root}"


def choose(names: Iterable[str], labels: Labels, classes: Sequence[str], count: int) -> list[str]:
    """Take images of each class in turn, and of none, until there are enough.

    Parameters
    ----------
    names : of the images; which of them are taken does not depend on their order.
    labels : the run-length texts of the images.
    classes : names of the classes.
    count : images to take; all, where there are fewer.

    Returns
    -------
    list of str : sorted. With ``count`` above the number of classes each class is there that has an image.
    """
    held = {name: set(labels.texts(name)) for name in _shuffled(names)}
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


def _rows_of_images(path: Path, names: Sequence[str], classes: Collection[str]) -> dict[str, list[Row]]:
    """Find the rows of each image.

    Raises
    ------
    TableError : for a row that names no image or no class, or has other than two cells.
    """
    rows: dict[str, list[Row]] = {name: [] for name in names}
    for row in scan_table(path):
        image, label = split_label(row.label, rows, classes)
        if image not in rows or label not in classes or row.cells != 2:
            raise TableError(path, row.line, f"{row.label!r} is no image and class of this data set")
        rows[image].append(row)
    return rows


def _copy_rows(path: Path, target: Path, rows: Iterable[Sequence[Row]]) -> None:
    """Write the header of a table and some of its rows, byte for byte and in their order."""
    wanted = sorted((row for of_image in rows for row in of_image), key=lambda row: row.start)
    with path.open("rb") as table, atomic(target) as temporary, temporary.open("wb") as copy:
        copy.write(table.readline())
        for row in wanted:
            table.seek(row.start)
            copy.write(table.read(row.stop - row.start))
