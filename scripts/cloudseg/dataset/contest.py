"""Read a folder in the layout of the Kaggle contest: images, run-length labels, sample submission."""

import csv
import io
import itertools
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloudseg.dataset.label_rows import LabelRows, Place
from cloudseg.errors import DatasetError
from cloudseg.storage.files import digest

SUFFIXES = (".jpg", ".jpeg", ".png")
HEADER = ["Image_Label", "EncodedPixels"]
"""The columns of train.csv, sample_submission.csv and submission.csv."""

LONGEST_NAME = 255  # characters of a file name, the limit of common file systems

EMPTY_TEXTS = {"", "-1", "nan", "none", "null"}
"""Texts, in either case, that stand for a mask without a pixel."""

Split = Literal["train", "test"]
SPLITS: tuple[Split, Split] = ("train", "test")


class TableError(DatasetError):
    """A CSV file that cannot be used: the line where that shows, and why."""

    def __init__(self, path: str | Path, line: int, reason: str) -> None:
        super().__init__(f"{path}, line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True)
class ContestFolder:
    """Name the parts of a data set that lies in the contest's layout.

    Parameters
    ----------
    root : the folder with ``train_images/``, ``test_images/``, ``train.csv`` and ``sample_submission.csv``.

    Examples
    --------
    >>> ContestFolder(Path("clouds")).images("train").as_posix()
    'clouds/train_images'
    """

    root: Path

    def __post_init__(self) -> None:
        """Take text as well as a path."""
        object.__setattr__(self, "root", Path(self.root))

    @property
    def train_table(self) -> Path:
        """The labels of the training images."""
        return self.root / "train.csv"

    @property
    def sample_submission(self) -> Path:
        """The rows that a submission must have, in their order; its run-length texts are placeholders."""
        return self.root / "sample_submission.csv"

    @property
    def has_test(self) -> bool:
        """Whether there is a folder of test images, or a sample submission, which speaks of some."""
        return self.has_sample or os.path.lexists(self.images("test"))

    @property
    def has_sample(self) -> bool:
        """Whether there is a sample submission, be it one that can be read or not."""
        return os.path.lexists(self.sample_submission)

    def table(self, split: Split) -> Path:
        """Return the table whose rows name the images of ``split``."""
        return self.train_table if split == "train" else self.sample_submission

    def images(self, split: Split) -> Path:
        """Return the folder with the images of ``split``."""
        return self.root / f"{split}_images"

    def list_images(self, split: Split) -> list[str]:
        """List the image files of ``split`` by name, sorted as text; none where there is no folder.

        Returns
        -------
        list of str : the files that end in .jpg, .jpeg or .png in either case; what they are is decided by
            their content when they are read. Hidden files are left out. A symbolic link that leads nowhere is listed,
            so that the image that it stands for is missed.
        """
        return self._names(split, is_image)

    def list_others(self, split: Split) -> list[str]:
        """List what else lies in the image folder of ``split``, hidden files left out, sorted as text."""
        return self._names(split, lambda entry: not (is_image(entry) or entry.name.startswith(".")))

    def _names(self, split: Split, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
        try:
            with os.scandir(self.images(split)) as entries:
                return sorted(entry.name for entry in entries if is_wanted(entry))
        except OSError:  # the dataset check will say why
            return []

    def submission_rows(self, classes: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield the (image, class) pairs of the sample submission, in its order.

        Parameters
        ----------
        classes : the names of the classes; without a sample submission each image has all of them, in this order.

        Raises
        ------
        TableError : if the file cannot be read or a row names an image that is not in the test folder.
        """
        known = set(self.list_images("test"))
        if not self.has_sample:
            yield from itertools.product(sorted(known), classes)
            return
        for row in scan_table(self.sample_submission):
            image, label = split_label(row.label, known, classes)
            if image not in known:
                reason = f"{row.label!r} names no image of {self.images('test')}; run the dataset check"
                raise TableError(self.sample_submission, row.line, reason)
            yield image, label


def is_image(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry of a folder is an image file by its name, or a link that leads nowhere."""
    hidden = entry.name.startswith(".")
    if hidden or not entry.name.lower().endswith(SUFFIXES):
        return False
    return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())


@dataclass(frozen=True, slots=True)
class Row:
    """Say where one row of a label table is; its run-length text stays in the file.

    Parameters
    ----------
    line : line in the file, from 1, at which the row begins.
    label : the cell ``Image_Label``, cut short where the row is not sound.
    cells : number of cells, 2 in a sound row.
    start, stop : the bytes of the row in the file.
    last : line in the file at which the row ends.
    empty : whether its text says that there is no pixel.
    swallowed : whether it holds other rows, because a quotation mark is astray.
    """

    line: int
    label: str
    cells: int
    start: int
    stop: int
    last: int
    empty: bool
    swallowed: bool

    @property
    def sound(self) -> bool:
        """Whether it is two cells of one row."""
        return self.cells == 2 and not self.swallowed

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.line, self.start, self.stop, self.empty)


def scan_table(path: str | Path) -> Iterator[Row]:
    r"""Go through the rows of ``train.csv`` or ``sample_submission.csv`` without keeping their texts.

    A byte order mark, either line end and blank lines are fine.

    Parameters
    ----------
    path : a UTF-8 CSV file with the columns ``Image_Label,EncodedPixels``.

    Yields
    ------
    Row : in the order of the file.

    Raises
    ------
    TableError : if the columns are others, or the file is no such CSV; with the line where that shows.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.csv")
    ...     _ = path.write_text("Image_Label,EncodedPixels\na.jpg_Fish,1 3\na.jpg_Sugar,\n")
    ...     [(row.line, row.label) for row in scan_table(path)]
    [(2, 'a.jpg_Fish'), (3, 'a.jpg_Sugar')]
    """
    # The largest label that fits an image is far longer than the 131,072 characters that csv allows.
    csv.field_size_limit(2**31 - 1)
    end, line = 0, 1

    def lines(file: io.BufferedReader) -> Iterator[str]:
        nonlocal end
        for line in file:
            encoding = "utf-8-sig" if end == 0 else "utf-8"
            end += len(line)
            yield line.decode(encoding)

    with Path(path).open("rb") as file:
        reader = csv.reader(lines(file), strict=True)
        try:
            header = next(reader, [])
            if header != HEADER:
                reason = f"expected the columns {','.join(HEADER)}, got {','.join(header)!r:.80}"
                raise TableError(path, 1, reason)
            start, line = end, reader.line_num + 1
            for cells in reader:
                if cells:
                    # A CSV row may span lines, but a name has no line break and run lengths have no comma
                    swallowed = "\n" in cells[0] or any("\n" in cell and "," in cell for cell in cells[1:])
                    label = cells[0][: LONGEST_NAME * 2] if swallowed else cells[0]
                    empty = len(cells) == 2 and _is_empty(cells[1])
                    yield Row(line, label, len(cells), start, end, reader.line_num, empty, swallowed)
                start, line = end, reader.line_num + 1
        except UnicodeDecodeError as error:
            reason = f"expected text in UTF-8, got {error.object[error.start : error.start + 4]!r}"
            raise TableError(path, reader.line_num + 1, reason) from None
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise TableError(path, line, "a quotation mark opens a cell that never ends") from None
            if "new-line character" in str(error):
                reason = "a line that ends with a carriage return alone; save the table with usual line ends"
                raise TableError(path, reader.line_num, reason) from None
            begun = f", whose quotation marks begin in line {line}" if line != reader.line_num else ""
            raise TableError(path, reader.line_num, f"not a row of CSV ({error}){begun}") from None


def _is_empty(text: str) -> bool:
    """Return whether a text stands for an empty mask; only the beginning of a long text is read."""
    return text[:99].strip().lower() in EMPTY_TEXTS


class Labels:
    r"""The run-length texts of the training images, read from their table when asked for.

    Only the address of each row is kept, because the texts of a large data set fill much memory. Safe in
    threads.

    Parameters
    ----------
    path : the label table.
    rows : where the sound rows of :func:`scan_table` are; the masks of several rows are united.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.csv")
    ...     _ = path.write_text("Image_Label,EncodedPixels\na.jpg_Fish,1 3\na.jpg_Sugar,\n")
    ...     Labels.index(path, {"a.jpg"}, ["Fish", "Sugar"]).texts("a.jpg")
    {'Fish': ['1 3']}
    """

    def __init__(self, path: str | Path, rows: LabelRows) -> None:
        self._path = Path(path)
        self._rows = rows

    @classmethod
    def index(cls, path: str | Path, known: Collection[str], classes: Collection[str]) -> "Labels":
        """Find the rows of known images and classes in a table that has passed the dataset check."""
        sound = ((*split_label(row.label, known, classes), row.place) for row in scan_table(path) if row.sound)
        return cls(path, LabelRows(known, classes, sound))

    def read(self, image: str) -> dict[str, list[tuple[Place, str]]]:
        """Read the rows of one image: class to rows with their texts, sorted by class; empty masks left out."""
        found: dict[str, list[tuple[Place, str]]] = {}
        by_class = self._rows.of(image)
        if not by_class:
            return found
        with self._path.open("rb") as file:
            for label, rows in sorted(by_class.items()):
                for row in rows:
                    file.seek(row.start)
                    cells = file.read(row.stop - row.start).decode("utf-8")
                    text = next(csv.reader(io.StringIO(cells, newline="")))[1].strip()
                    if not _is_empty(text):
                        found.setdefault(label, []).append((row, text))
        return found

    def texts(self, image: str) -> dict[str, list[str]]:
        """Read the texts of one image: class to texts, in order, classes without a pixel left out."""
        return {label: sorted({text for _, text in rows}) for label, rows in self.read(image).items()}


def digest_labels(texts: Mapping[str, Sequence[str]]) -> str:
    """Return 16 hexadecimal digits that change with the labels of an image.

    Parameters
    ----------
    texts : class to run-length texts, as :meth:`Labels.texts` returns them.
    """
    return digest(texts)[:16]


def split_label(label: str, known: Collection[str], classes: Collection[str]) -> tuple[str | None, str]:
    """Split a cell ``Image_Label`` into the image and the class, at a known image name.

    Names of images and of classes may hold ``_`` themselves, so it is split where a known name ends; where
    several do, the one whose rest is a known class counts.

    Parameters
    ----------
    label : such as ``"0011165.jpg_Fish"``.
    known : names of the images; a set makes this fast.
    classes : names of the classes.

    Returns
    -------
    image : str, or None when the cell begins with no known name and ends in no known class; a name that is
        not in ``known`` is the one before a known class.
    label : str, the class, known or not; the whole cell when ``image`` is None.

    Examples
    --------
    >>> split_label("a_b.jpg_Fish", {"a_b.jpg"}, ["Fish"])
    ('a_b.jpg', 'Fish')
    >>> split_label("a_b.jpg_Fihs", {"a_b.jpg"}, ["Fish"])
    ('a_b.jpg', 'Fihs')
    >>> split_label("c.jpg_Fish", {"a_b.jpg"}, ["Fish"])
    ('c.jpg', 'Fish')
    """
    longest_class = max(map(len, classes), default=0)
    # No name is longer than the longest known one, so a cell of megabytes costs no more to split than a name
    before_class = range(max(0, len(label) - longest_class - 1), len(label))
    known_class = [index for index in before_class if label[index] == "_" and label[index + 1 :] in classes]
    # Prefer what is known on both sides, then a known image, then a known class; the longest image first.
    for index in reversed(known_class):
        if label[:index] in known:
            return label[:index], label[index + 1 :]
    for index in reversed(range(min(len(label), LONGEST_NAME + 1))):
        if label[index] == "_" and label[:index] in known:
            return label[:index], label[index + 1 :]
    for index in known_class:
        if index:
            return label[:index], label[index + 1 :]
    return None, label
