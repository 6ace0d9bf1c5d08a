"""Read a submission whole: which rows it has, and what is measured of their masks."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cloudseg.config.labels import CLOUDS, LabelsEntry
from cloudseg.config.names import nearest
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.dataset.labels.tables import EMPTY_TEXTS, TableError, split_label
from cloudseg.errors import DatasetError
from cloudseg.studies.sanity import findings as kinds
from cloudseg.studies.sanity.findings import Findings, Kind
from cloudseg.studies.sanity.measuring import NOTHING, Mask, measure_text
from cloudseg.studies.sanity.reading import TextRow, read_rows

BLOCK = 1024  # rows whose texts are in memory at once
SHARE = 64  # rows that a thread measures at a time
KEPT = 12  # texts that are kept, to find out how they were counted
COLUMNS = ["line", "image", "class", "given", "sound", "area", "components", "smallest", "small", "joined", "text"]


@dataclass(frozen=True)
class Form:
    """What a submission to a data set must be.

    Parameters
    ----------
    rows : (image, class) of each row of the sample submission, in its order.
    train_images : names of the training images.
    classes : names of the classes.
    grid : (height, width) of the masks.
    min_sizes : per class the smallest component that the config's decision keeps, in pixels.
    entry : how it is written.
    """

    rows: Sequence[tuple[str, str]]
    train_images: Sequence[str]
    classes: Sequence[str]
    grid: tuple[int, int]
    min_sizes: Sequence[int]
    entry: LabelsEntry = CLOUDS


@dataclass
class Submission:
    """What was read of a submission.

    Parameters
    ----------
    rows : a row per row of the file that has a class of the config: line, image, class (its number), given (whether it
        has run lengths), sound (whether nothing is wrong with them), area (pixels), components, smallest (pixels),
        small (components below the minimum size), joined (see `Mask`), text (a hash).
    texts : the run lengths of the first masks.
    """

    form: Form
    rows: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    texts: list[str] = field(default_factory=list)

    @property
    def filled(self) -> pd.DataFrame:
        """The rows that have run lengths, readable or not."""
        return self.rows[self.rows["given"].astype(bool)]

    @property
    def masks(self) -> pd.DataFrame:
        """The rows whose mask is known."""
        return self.rows[(self.rows["sound"] & (self.rows["area"] > 0)).astype(bool)]

    @property
    def present(self) -> np.ndarray:
        """Whether an image has a mask of a class, bool (image, class); images in the order of the file."""
        numbers = pd.factorize(self.rows["image"])[0]
        present = np.zeros((numbers.max(initial=-1) + 1, len(self.form.classes)), bool)
        has = self.rows["given"].to_numpy(bool)
        present[numbers[has], self.rows["class"].to_numpy(int)[has]] = True
        return present

    def shares_of(self, number: int) -> np.ndarray:
        """Return the shares of the grid that the masks of a class cover."""
        masks = self.masks
        return masks.loc[masks["class"] == number, "area"].to_numpy(float) / np.prod(self.form.grid)


def read_submission(path: str | Path, form: Form, found: Findings, *, threads: int = 1) -> Submission:
    """Read a file and measure its masks.

    Parameters
    ----------
    path : the file, whatever it is.
    form : what a submission must be.
    found : gets what is odd about the file, its rows and their texts.
    threads : masks are measured by so many threads; the result does not depend on it.

    Raises
    ------
    DatasetError : if there is no such file.
    """
    submission, names = Submission(form), _Names(form, found)
    rows = names.known(read_rows(path, form.classes, found) if form.entry == CLOUDS else _rewritten(path, form, found))
    measured: list[tuple] = []
    with ThreadPoolExecutor(threads) as pool:
        for block in iter(lambda: list(itertools.islice(rows, BLOCK)), []):
            shares = [block[start : start + SHARE] for start in range(0, len(block), SHARE)]
            for results in pool.map(lambda share: [_measure(row, form) for row in share], shares):
                for (row, image, number), (mask, kind, got) in results:
                    if kind is not None:
                        found.add(kind, f"{row.label[:80]!r}: {got}", row.line)
                    given, sound = not _is_empty(row.text), kind in (None, kinds.EMPTY_WORD)
                    measured.append((row.line, image, number, given, sound, *mask, hash(row.text)))
                    if mask.area and len(submission.texts) < KEPT:
                        submission.texts.append(row.text)
    submission.rows = pd.DataFrame(measured, columns=COLUMNS)
    names.finish()
    return submission


def _rewritten(path: str | Path, form: Form, found: Findings) -> Iterator[TextRow]:
    """Yield the rows of a file of another form as the clouds' contest would have them.

    Rows of one image and class are united; where empty masks have no row, those that lack are empty.
    """
    written_as = SubmissionForm(form.entry, form.grid)
    images = {image for image, _ in form.rows} | set(form.train_images)
    rows: dict[str, TextRow] = {}
    try:
        for line, image, label, text in written_as.read(path, images, form.classes):
            name = f"{image or 'an image that is not there'}_{label}"
            try:
                runs = written_as.runs_of(text)
                runs = written_as.united(rows[name].text, runs) if name in rows and rows[name].text else runs
            except ValueError as error:
                found.add(kinds.NOT_RUNS, f"{name[:80]!r}: {error}", line)
                runs = ""
            if name in rows and form.entry.several != "split":
                found.add(kinds.TWICE, f"{name[:80]!r}, first in line {rows[name].line}", line)
            rows[name] = TextRow(rows[name].line if name in rows else line, name, runs)
    except TableError as error:
        found.add(kinds.OTHER_HEADER if error.line == 1 else kinds.BAD_ROW, error.reason, error.line)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: expected a submission (a CSV file), got: {error}") from None
    if form.entry.empty == "no row":
        lacking = {f"{image}_{label}": TextRow(1, f"{image}_{label}", "") for image, label in form.rows}
        rows = {name: rows.get(name, row) for name, row in lacking.items()} | rows
    yield from rows.values()


def _is_empty(text: str) -> bool:
    return text[:9].lower() in EMPTY_TEXTS


NamedRow = tuple[TextRow, str, int]


def _measure(named: NamedRow, form: Form) -> tuple[NamedRow, tuple[Mask, Kind | None, str]]:
    row, _, number = named
    if _is_empty(row.text):
        word = (kinds.EMPTY_WORD, f"{row.text!r} stands for no mask") if row.text else (None, "")
        return named, (NOTHING, *word)
    return named, measure_text(row.text, form.grid, form.min_sizes[number])


class _Names:
    """Hold the names of rows against those that must be there."""

    def __init__(self, form: Form, found: Findings) -> None:
        self._form, self._found = form, found
        self._place = {f"{image}_{label}": place for place, (image, label) in enumerate(form.rows)}
        self._images = {image for image, _ in form.rows}
        self._train = set(form.train_images)
        self._number: Mapping[str, int] = {name: number for number, name in enumerate(form.classes)}
        self._lines: dict[str, int] = {}
        self._last = -1
        self._in_order = True
        self._any = False

    def known(self, rows: Iterator[TextRow]) -> Iterator[NamedRow]:
        """Yield the rows that have a class of the config, once each, and note what is wrong with the others."""
        for row in rows:
            self._any = True
            if row.label in self._lines:
                got = f"{row.label[:80]!r}, first in line {self._lines[row.label]}"
                self._found.add(kinds.TWICE, got, row.line)
                continue
            self._lines[row.label] = row.line
            place = self._place.get(row.label)
            if place is None:
                image, label = split_label(row.label, self._images | self._train, self._form.classes)
                self._refuse(row, image, label)
            else:
                image, label = self._form.rows[place]
                self._note_order(row, place)
            if label in self._number:
                yield row, image or "", self._number[label]

    def _refuse(self, row: TextRow, image: str | None, label: str) -> None:
        """Say why a row is none of the sample's."""
        cell = f"{row.label[:80]!r}"
        if label not in self._number:
            self._found.add(kinds.OTHER_CLASS, f"{cell}{nearest(label, self._form.classes)}", row.line)
        elif image in self._train:
            self._found.add(kinds.TRAINING_IMAGE, cell, row.line)
        else:
            self._found.add(kinds.OTHER_IMAGE, cell, row.line)

    def _note_order(self, row: TextRow, place: int) -> None:
        if self._in_order and place < self._last:
            self._in_order = False
            self._found.add(kinds.ORDER, f"{row.label[:80]!r} stands before it in the sample", row.line)
        self._last = place

    def finish(self) -> None:
        """Note the rows that are missing."""
        if not self._any:
            self._found.add(kinds.EMPTY_FILE, "no row at all", 1)
        missing = [name for name in self._place if name not in self._lines]
        if missing:
            got = f"{len(missing):,} of {len(self._place):,}, the first of them {missing[0]!r}"
            self._found.add(kinds.MISSING, got)
