"""The rows of a submission in the form that a contest asks for, from run lengths as the core writes them, and back."""

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cloudseg.config.labels import CLOUDS, LabelsEntry
from cloudseg.config.model import Dataset
from cloudseg.dataset.labels.rle import drawing
from cloudseg.dataset.labels.tables import Columns, Positions, RowNames, TableError, image_id, is_empty
from cloudseg.postprocess import decode_rle, encode_rle

Size = tuple[int, int]  # (height, width) of all masks, in pixels


@dataclass(frozen=True)
class SubmissionForm:
    """The form of a submission.

    Parameters
    ----------
    entry : how it is written; by default as in the clouds' contest.
    size : of its masks.

    Examples
    --------
    >>> form = SubmissionForm(LabelsEntry(order="rows", separator="", suffix=False, empty="-"), (2, 3))
    >>> form.rows("a.png", "ship", "2 3"), form.rows("a.png", "ship", "")
    ([['a', '2 1 4 2']], [['a', '-']])
    """

    entry: LabelsEntry
    size: Size

    @cached_property
    def is_native(self) -> bool:
        """Whether it is the form of the clouds' contest, which the core writes."""
        return self.entry == CLOUDS

    @property
    def header(self) -> list[str]:
        """The columns."""
        return list(self.entry.header)

    @classmethod
    def of_config(cls, config: Mapping[str, Any], size: Sequence[int]) -> "SubmissionForm":
        """Return the form that a config, as it is written, asks for, for masks of a size."""
        height, width = size
        dataset = config.get("dataset")
        return cls(
            CLOUDS if dataset is None else Dataset.model_validate(dict(dataset)).layout.submission, (height, width)
        )

    def name(self, image: str, label: str) -> str:
        """Return what tells the rows of an image and a class from others, in one text."""
        named = image_id(image, self.entry)
        return named if self.entry.names_no_class else f"{named}{self.entry.separator or '_'}{label}"

    def read_masks(self, rows: Iterable[Sequence[str]]) -> dict[str, str]:
        """Return the name of each image and class to its run lengths as the core writes them, in the order of the rows.

        Rows of one name are united. What is no mask of this form stays as it is.
        """
        image, label, text, width = self._positions(self.header)
        found: dict[str, str] = {}
        for cells in (cells for cells in rows if len(cells) == width):
            name = cells[image] if label is None else f"{cells[image]}{self.entry.separator or '_'}{cells[label]}"
            try:
                runs = self.runs_of(cells[text])
                found[name] = self.united(found[name], runs) if found.get(name) else runs
            except ValueError:
                found[name] = cells[text]
        return found

    def united(self, runs: str, others: str) -> str:
        """Return the run lengths of the union of two masks, each as the core writes them."""
        return encode_rle(decode_rle(runs, self.size) | decode_rle(others, self.size))

    def rows(self, image: str, label: str, runs: str) -> list[list[str]]:
        """Return the rows of a mask.

        Parameters
        ----------
        image : the name of the image file.
        label : the class.
        runs : as :func:`cloudseg.postprocess.encode_rle` writes them.
        """
        if self.is_native:
            return [[f"{image}_{label}", runs]]
        texts = self._texts(runs) if runs else [] if self.entry.empty == "no row" else [self.entry.empty]
        return [self._row(image, label, text) for text in texts]

    def runs_of(self, text: str) -> str:
        """Return run lengths as the core writes them for the text of a row.

        Raises
        ------
        ValueError : saying what is wrong with the text.
        """
        empty = is_empty(text, self._columns.empty)
        return "" if empty else encode_rle(self._draw(text.strip(), self.size))

    def area(self, text: str) -> int:
        """Return how many pixels the text of a row has."""
        if self.is_native:
            return sum(map(int, text.split()[1::2]))
        return sum(map(int, self.runs_of(text).split()[1::2]))

    def read(
        self, path: str | Path, images: Collection[str], classes: Sequence[str]
    ) -> Iterator[tuple[int, str | None, str, str]]:
        """Go through the rows of a submission that was written in this form.

        Yields
        ------
        line, image, class, text : of each row; the image is None if it is none of `images`.

        Raises
        ------
        TableError : if it has other columns, or a row has other cells.
        """
        names = RowNames(self.entry, images, classes)
        csv.field_size_limit(2**31 - 1)
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            try:
                image, label, text, width = self._positions(header)
            except ValueError as error:
                raise TableError(path, 1, str(error)) from None
            for cells in reader:
                if len(cells) != width:
                    raise TableError(path, reader.line_num, f"expected {width} cells, got {len(cells)}")
                named = names.of_cells(cells[image], None if label is None else cells[label])
                yield reader.line_num, *named, cells[text]

    def _positions(self, header: Sequence[str]) -> Positions:
        positions = self._columns.find(header)
        if positions is None:
            raise ValueError(f"expected the columns {self._columns.words}, got {','.join(header)!r:.80}")
        return positions

    def _row(self, image: str, label: str, text: str) -> list[str]:
        named = image_id(image, self.entry)
        if self.entry.class_column is None and self.entry.separator:
            named = f"{named}{self.entry.separator}{label}"
        cells = {self.entry.image_column: named, self.entry.class_column: label}
        return [cells.get(column, text) for column in self.entry.header]

    def _texts(self, runs: str) -> list[str]:
        """Return the texts of a mask that is not empty, and hold them against it."""
        mask = decode_rle(runs, self.size)
        masks = components(mask) if self.entry.several == "split" else [mask]
        texts = [self._text_of(each) for each in masks]
        drawn = np.zeros(self.size, np.uint8)
        for text in texts:
            drawn |= self._draw(text, self.size)
        if not np.array_equal(drawn, mask):
            raise ValueError("a mask does not decode to what it was made from: a fault of the writer of submissions")
        return texts

    def _text_of(self, mask: np.ndarray) -> str:
        runs = encode_rle(mask if self.entry.order == "columns" else mask.T)
        pairs = np.array(runs.split(), np.int64).reshape(-1, 2)
        starts, lengths = pairs.T - np.array([[1 - self.entry.first], [0]])
        if self.entry.starts == "relative":
            starts[1:] -= (starts + lengths - self.entry.first)[:-1]
        pairs = np.stack([starts, lengths], axis=1)
        if self.entry.runs == "text":
            return " ".join(map(str, pairs.ravel().tolist()))
        return str(pairs.tolist() if self.entry.runs == "pairs" else pairs.ravel().tolist())

    @cached_property
    def _columns(self) -> Columns:
        return Columns.of_submission(self.entry)

    @cached_property
    def _draw(self):  # a function of text and size
        return drawing(self.entry)


def components(mask: np.ndarray) -> list[np.ndarray]:
    """Return the 8-connected components of a mask, each as a mask, in the order of their first pixels along the rows.

    Examples
    --------
    >>> [each.tolist() for each in components(np.array([[0, 0, 1], [1, 1, 0], [0, 0, 0]], np.uint8))]
    [[[0, 0, 1], [1, 1, 0], [0, 0, 0]]]
    >>> [each.tolist() for each in components(np.array([[0, 0, 1], [1, 0, 0]], np.uint8))]
    [[[0, 0, 1], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]]]
    """
    import cv2  # few submissions need it

    labelled = cv2.connectedComponents(np.ascontiguousarray(mask), connectivity=8)[1]
    numbers, first = np.unique(labelled, return_index=True)
    return [(labelled == number).astype(np.uint8) for number in numbers[np.argsort(first)] if number]
