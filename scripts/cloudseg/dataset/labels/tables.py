"""Go through the rows of label tables and sample submissions, and tell which image and class a row names."""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from cloudseg.config.labels import LabelsEntry
from cloudseg.dataset.labels.rows import Place
from cloudseg.errors import DatasetError

HEADER = ["Image_Label", "EncodedPixels"]
"""The columns of train.csv, sample_submission.csv and submission.csv in the clouds' contest."""

LONGEST_NAME = 255  # characters of a file name, the limit of common file systems

EMPTY_TEXTS = {"", "-1", "nan", "none", "null"}
"""Texts, in either case, that stand for a mask without a pixel."""


class TableError(DatasetError):
    """A CSV file that cannot be used: the line where that shows, and why."""

    def __init__(self, path: str | Path, line: int, reason: str) -> None:
        super().__init__(f"{path}, line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True)
class Columns:
    """Which columns of a table count.

    Parameters
    ----------
    image : the column that names the image, or the image and the class.
    label : the column of the class, if it has one.
    text : the column of the run lengths.
    whole : all columns in their order, if there must be no others.
    empty : texts, in lower case, that stand for a mask without a pixel.
    """

    image: str = HEADER[0]
    label: str | None = None
    text: str = HEADER[1]
    whole: tuple[str, ...] | None = tuple(HEADER)
    empty: frozenset[str] = frozenset(EMPTY_TEXTS)

    @classmethod
    def of_training(cls, entry: LabelsEntry) -> "Columns":
        """Return those of a table of labels; the clouds' own has no others."""
        whole = tuple(HEADER) if list(entry.train_columns) == HEADER else None
        return cls(entry.image_column, entry.class_column, entry.text_column, whole, _empty_texts(entry))

    @classmethod
    def of_submission(cls, entry: LabelsEntry) -> "Columns":
        """Return those of a sample submission and of a submission."""
        text = entry.submission_text_column
        return cls(entry.image_column, entry.class_column, text, entry.header, _empty_texts(entry))

    @property
    def words(self) -> str:
        """The columns, for a message."""
        return ",".join(self.whole or (name for name in (self.image, self.label, self.text) if name is not None))

    def find(self, header: Sequence[str]) -> "Positions | None":
        """Return where the columns are in a header; None where they are not, or not once."""
        names = [name.strip() for name in header]
        wanted = [self.image, self.text, *([] if self.label is None else [self.label])]
        others = self.whole is not None and names != list(self.whole)
        if others or any(names.count(name) != 1 for name in wanted):
            return None
        label = None if self.label is None else names.index(self.label)
        return Positions(names.index(self.image), label, names.index(self.text), len(names))


def _empty_texts(entry: LabelsEntry) -> frozenset[str]:
    return frozenset(EMPTY_TEXTS | {entry.empty} | (set() if entry.runs == "text" else {"[]"}))


class Positions(NamedTuple):
    """Where the columns of a table are, from 0, and how many there are."""

    image: int
    label: int | None
    text: int
    width: int


CONTEST = Columns()


class Row(NamedTuple):
    """Say where one row of a label table is; its run-length text stays in the file.

    Parameters
    ----------
    line : line in the file, from 1, at which the row begins.
    label : the cell that names the image, or the image and the class, cut short where the row is not sound.
    cells : number of cells.
    start, stop : the bytes of the row in the file.
    last : line in the file at which the row ends.
    empty : whether its text says that there is no pixel.
    swallowed : whether it holds other rows, because a quotation mark is astray.
    width : number of cells in a sound row.
    class_name : the cell that names the class, if it has a column of its own.
    """

    line: int
    label: str
    cells: int
    start: int
    stop: int
    last: int
    empty: bool
    swallowed: bool
    width: int
    class_name: str | None

    @property
    def sound(self) -> bool:
        """Whether it is all cells of one row."""
        return self.cells == self.width and not self.swallowed

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.line, self.start, self.stop, self.empty)

    @property
    def shown(self) -> str:
        """The cells that name image and class, for a message."""
        return self.label if self.class_name is None else f"{self.label},{self.class_name}"


def scan_table(path: str | Path, columns: Columns = CONTEST) -> Iterator[Row]:
    r"""Go through the rows of a label table or a sample submission without keeping their texts.

    A byte order mark, either line end, blank lines and blanks around the names of columns are fine.

    Parameters
    ----------
    path : a UTF-8 CSV file.
    columns : that it has; by default ``Image_Label,EncodedPixels``.

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
            positions = columns.find(header)
            if positions is None:
                reason = f"expected the columns {columns.words}, got {','.join(header)!r:.80}"
                raise TableError(path, 1, reason)
            image, label, text, width = positions
            start, line = end, reader.line_num + 1
            for cells in reader:
                if cells:
                    fits = len(cells) == width
                    name = cells[image] if image < len(cells) else cells[0]
                    # A CSV row may span lines, but a name has no line break and run lengths in lines have no comma
                    swallowed = "\n" in name or any("\n" in cell and "," in cell for cell in cells)
                    empty = fits and is_empty(cells[text], columns.empty)
                    class_name = cells[label] if label is not None and fits else None
                    name = name[: LONGEST_NAME * 2] if swallowed else name
                    last = reader.line_num
                    yield Row(line, name, len(cells), start, end, last, empty, swallowed, width, class_name)
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


def is_empty(text: str, empty: Collection[str] = EMPTY_TEXTS) -> bool:
    """Return whether a text stands for an empty mask; only the beginning of a long text is read."""
    return text[:99].strip().lower() in empty


class RowNames:
    """Tell which image and class the rows of a table name.

    Parameters
    ----------
    entry : the form of the table.
    names : of the image files.
    classes : names of the classes.

    Examples
    --------
    >>> row = Row(2, "a", 3, 0, 9, 2, False, False, 3, "Fish")
    >>> RowNames(LabelsEntry(class_column="class", suffix=False), ["a.jpg"], ["Fish"]).of(row)
    ('a.jpg', 'Fish')
    """

    def __init__(self, entry: LabelsEntry, names: Collection[str], classes: Sequence[str]) -> None:
        self._entry, self._classes = entry, classes
        self._name_of = {image_id(name, entry): name for name in names}

    def of(self, row: Row) -> tuple[str | None, str]:
        """Return the file of the image, None if there is none, and the class, known or not."""
        image, label = self.said(row.label, row.class_name)
        return self._name_of.get(image), label

    def of_cells(self, cell: str, class_name: str | None) -> tuple[str | None, str]:
        """Return the same for the cell that names the image, and that of the class, if it has one of its own."""
        image, label = self.said(cell, class_name)
        return self._name_of.get(image), label

    def said(self, cell: str, class_name: str | None) -> tuple[str | None, str]:
        """Return what the cells say of the image, None if it cannot be told from the class, and of the class."""
        if class_name is not None:
            return cell, class_name
        if not self._entry.separator:
            return cell, self._classes[0]
        return split_label(cell, self._name_of, self._classes, self._entry.separator)


def image_id(name: str, entry: LabelsEntry) -> str:
    """Return what a table calls an image file."""
    return name if entry.suffix else PurePath(name).stem


def split_label(
    label: str, known: Collection[str], classes: Collection[str], separator: str = "_"
) -> tuple[str | None, str]:
    """Split a cell ``Image_Label`` into the image and the class, at a known image name.

    Names of images and of classes may hold the separator themselves, so it is split where a known name ends; where
    several do, the one whose rest is a known class counts.

    Parameters
    ----------
    label : such as ``"0011165.jpg_Fish"``.
    known : names of the images; a set makes this fast.
    classes : names of the classes.
    separator : the character between image and class.

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
    known_class = [index for index in before_class if label[index] == separator and label[index + 1 :] in classes]
    # Prefer what is known on both sides, then a known image, then a known class; the longest image first.
    for index in reversed(known_class):
        if label[:index] in known:
            return label[:index], label[index + 1 :]
    for index in reversed(range(min(len(label), LONGEST_NAME + 1))):
        if label[index] == separator and label[:index] in known:
            return label[:index], label[index + 1 :]
    for index in known_class:
        if index:
            return label[:index], label[index + 1 :]
    return None, label
