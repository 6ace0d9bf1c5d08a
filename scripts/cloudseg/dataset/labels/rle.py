"""Labels in a table of run lengths, in any order and with any starts."""

import csv
import io
import json
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from cloudseg.config.labels import CLOUDS, LabelsEntry
from cloudseg.dataset.labels.interface import Encoding, Labels, Shape
from cloudseg.dataset.labels.rows import LabelRows
from cloudseg.dataset.labels.tables import Columns, RowNames, is_empty, scan_table
from cloudseg.postprocess import decode_rle


class RleLabels(Labels):
    r"""The run-length texts of the training images, read from their table when asked for.

    Only the address of each row is kept, because the texts of a large data set fill much memory.

    Parameters
    ----------
    path : the label table.
    rows : where the sound rows of :func:`~cloudseg.dataset.labels.tables.scan_table` are; the masks of several rows
        are united.
    entry : the form of the table.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.csv")
    ...     _ = path.write_text("Image_Label,EncodedPixels\na.jpg_Fish,1 3\na.jpg_Sugar,\n")
    ...     RleLabels.index(path, {"a.jpg"}, ["Fish", "Sugar"]).texts("a.jpg")
    {'Fish': ['1 3']}
    """

    def __init__(self, path: str | Path, rows: LabelRows, entry: LabelsEntry = CLOUDS) -> None:
        self._path = Path(path)
        self._rows = rows
        self._entry = entry
        self._columns = Columns.of_training(entry)
        self._draw = drawing(entry)

    @classmethod
    def index(
        cls, path: str | Path, known: Collection[str], classes: Sequence[str], entry: LabelsEntry = CLOUDS
    ) -> "RleLabels":
        """Find the rows of known images and classes in a table that has passed the dataset check."""
        names, columns = RowNames(entry, known, classes), Columns.of_training(entry)
        sound = ((*names.of(row), row.place) for row in scan_table(path, columns) if row.sound)
        return cls(path, LabelRows(known, classes, sound), entry)

    def read(self, image: str) -> dict[str, list[Encoding]]:
        """Read the rows of one image: class to encodings, sorted by class; empty masks left out."""
        found: dict[str, list[Encoding]] = {}
        by_class = self._rows.of(image)
        if not by_class:
            return found
        with self._path.open("rb") as file:
            for label, rows in sorted(by_class.items()):
                for row in rows:
                    file.seek(row.start)
                    cells = file.read(row.stop - row.start).decode("utf-8")
                    text = next(csv.reader(io.StringIO(cells, newline="")))[self._text].strip()
                    if not is_empty(text, self._columns.empty):
                        encoding = Encoding(text, partial(self._draw, text), self._path.name, row.line)
                        found.setdefault(label, []).append(encoding)
        return found

    @cached_property
    def _text(self) -> int:
        """The position of the run lengths in a row."""
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            positions = self._columns.find(next(csv.reader(file)))
        assert positions is not None  # the rows were found by the same columns
        return positions.text


def drawing(entry: LabelsEntry) -> Callable[[str, Shape], np.ndarray]:
    """Return what draws a text of a form: uint8 (height, width) of 0 and 1; ValueError says what is wrong with it.

    Examples
    --------
    >>> drawing(LabelsEntry(runs="pairs", first=0))("[[1, 3]]", (2, 2))
    array([[0, 1],
           [1, 1]], dtype=uint8)
    """
    decode = partial(decode_rle, order=entry.order, first=entry.first, relative=entry.starts == "relative")
    if entry.runs == "text":
        return decode
    as_text = numbers_of_list if entry.runs == "list" else numbers_of_pairs
    return lambda text, shape: decode(" ".join(map(str, as_text(text))), shape)


def numbers_of_list(text: str) -> list[int]:
    """Return the numbers of a JSON list of starts and lengths.

    Raises
    ------
    ValueError : if it is none.

    Examples
    --------
    >>> numbers_of_list("[1, 3, 9, 2]")
    [1, 3, 9, 2]
    """
    numbers = _json(text, "[1, 3, 9, 2]")
    if not (isinstance(numbers, list) and all(map(_is_whole, numbers))):
        raise ValueError(f"expected a JSON list of whole numbers such as [1, 3, 9, 2], got {text!r:.40}")
    return numbers


def numbers_of_pairs(text: str) -> list[int]:
    """Return the numbers of a JSON list of pairs of start and length, one after the other.

    Raises
    ------
    ValueError : if it is none.

    Examples
    --------
    >>> numbers_of_pairs("[[1, 3], [9, 2]]")
    [1, 3, 9, 2]
    """
    pairs = _json(text, "[[1, 3], [9, 2]]")
    if not (isinstance(pairs, list) and all(isinstance(each, list) and len(each) == 2 for each in pairs)):
        raise ValueError(f"expected a JSON list of pairs such as [[1, 3], [9, 2]], got {text!r:.40}")
    numbers = [number for pair in pairs for number in pair]
    if not all(map(_is_whole, numbers)):
        raise ValueError(f"expected pairs of whole numbers such as [[1, 3], [9, 2]], got {text!r:.40}")
    return numbers


def _json(text: str, such: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"expected a JSON list such as {such}, got {text!r:.40}") from None


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
