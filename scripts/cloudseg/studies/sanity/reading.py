"""Read any file that is called a submission, row by row, and note what is odd about it in place of failing."""

import contextlib
import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from cloudseg.dataset.labels.tables import HEADER
from cloudseg.errors import DatasetError
from cloudseg.studies.sanity import findings as kinds
from cloudseg.studies.sanity.findings import Findings

LOST = "\ufffd"  # stands for bytes that are no text
# Characters that are read. A mask of every second pixel of 2100x1400 is a line of 16 million; a file of the contest
# has 30 million. A packed one may unpack to a thousand times its size
LONGEST_LINE, LONGEST_FILE = 2**25, 2**32
ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
ARCHIVE_ERRORS = (OSError, EOFError, RuntimeError, IndexError, zlib.error, zipfile.BadZipFile)
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class TextRow(NamedTuple):
    """A row of a submission: its line, from 1, and its two cells."""

    line: int
    label: str
    text: str


class Columns(NamedTuple):
    """How a line becomes a row: what parts its cells, and which of them are the name and the run lengths."""

    delimiter: str
    cells: int
    label: int
    text: int


def read_rows(path: str | Path, classes: Sequence[str], found: Findings) -> Iterator[TextRow]:
    r"""Go through the rows of a file, whatever it is.

    Plain text, gzip and zip are read, in UTF-8 or UTF-16, with any line ends; the columns may be named, ordered and
    parted in other ways, and may be more than two.

    Parameters
    ----------
    path : the file.
    classes : names of the classes, by which the column of names is known.
    found : gets what is odd.

    Raises
    ------
    DatasetError : if there is no such file, or it cannot be opened.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> found = Findings()
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.csv")
    ...     _ = path.write_bytes(b"EncodedPixels;Image_Label\r\n1 3;a.jpg_Fish\r\n")
    ...     list(read_rows(path, ["Fish"], found))
    [TextRow(line=2, label='a.jpg_Fish', text='1 3')]
    >>> [group.kind.title for group in found.groups()]
    ['columns that no comma parts', 'another header', 'line ends of Windows']
    """
    columns = None
    for line, text in _lines(Path(path), found):
        if columns is None:
            columns, is_header = _columns(line, text, classes, found)
            if is_header:
                continue
        if text.strip():
            row = _row(line, text, columns, found)
            if row is not None:
                yield row


def _lines(path: Path, found: Findings) -> Iterator[tuple[int, str]]:
    """Yield the lines of the file with their numbers, without their ends, and note what the bytes are."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_opened(path, found))
            encoding = _encoding(file, found)
        except ARCHIVE_ERRORS as error:
            if path.is_file() and not isinstance(error, PermissionError):
                found.add(kinds.BROKEN, f"the archive cannot be opened ({error})", 1)
                return
            raise DatasetError(f"{path}: expected a submission (a CSV file), got: {_reason(error)}") from None
        number, ended, left = 0, True, LONGEST_FILE
        reader = stack.enter_context(io.TextIOWrapper(file, encoding, errors="replace", newline=None))
        try:
            for number, line in enumerate(iter(lambda: reader.readline(LONGEST_LINE), ""), 1):
                ended, left = line.endswith("\n"), left - len(line)
                if left < 0 or (len(line) == LONGEST_LINE and not ended):
                    found.add(kinds.TOO_LARGE, f"{'a line' if left >= 0 else 'the file'} goes on and on", number)
                    return
                if LOST in line:
                    found.add(kinds.NOT_UTF8, f"bytes that are no text in {line[:60]!r}", number)
                yield number, line.removesuffix("\n")
        except ARCHIVE_ERRORS as error:
            found.add(kinds.BROKEN, f"the archive ends too early, or is damaged ({error})", number + 1)
        ends = reader.newlines or ()
        if "\r\n" in ends or "\r" in ends:
            found.add(kinds.LINE_ENDS, "carriage returns at the ends of lines", 1)
        if not ended:
            found.add(kinds.CUT_OFF, "the file ends within this line", number)


def _opened(path: Path, found: Findings) -> IO[bytes]:
    """Open a file, or what is packed in it."""
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"\x1f\x8b"):
        found.add(kinds.COMPRESSED, "gzip", 1)
        return gzip.open(path)
    if head == b"PK\x03\x04":
        found.add(kinds.COMPRESSED, "zip", 1)
        archive = zipfile.ZipFile(path)
        return archive.open(archive.infolist()[0])
    return path.open("rb")


def _encoding(file: IO[bytes], found: Findings) -> str:
    """Return the encoding that the first bytes tell."""
    head = file.read(3)
    file.seek(0)
    for mark, encoding in ENCODINGS.items():
        if head.startswith(mark):
            kind = kinds.NOT_UTF8 if encoding == "utf-16" else kinds.BOM
            found.add(kind, f"the file begins with the mark of {encoding.removesuffix('-sig').upper()}", 1)
            return encoding
    return "utf-8"


def _columns(line: int, text: str, classes: Sequence[str], found: Findings) -> tuple[Columns, bool]:
    """Find out from the first line how lines become rows, and whether it is a header."""
    delimiter = "," if "," in text else max(DELIMITERS, key=text.count)
    if delimiter not in text:
        delimiter = ","
    if delimiter != ",":
        found.add(kinds.OTHER_DELIMITER, f"{DELIMITERS[delimiter]} in {text[:60]!r}", line)
    cells = [cell.strip() for cell in _cells(text, delimiter)]
    endings = tuple(f"_{name}" for name in classes)
    row_like = [number for number, cell in enumerate(cells) if cell.endswith(endings)]
    if row_like and HEADER[0] not in cells:
        found.add(kinds.NO_HEADER, f"the first line is a row already: {text[:60]!r}", line)
        return _chosen(delimiter, len(cells), row_like[0], None), False
    if cells != HEADER:
        found.add(kinds.OTHER_HEADER, f"{text[:80]!r}", line)
    names = [cell.casefold() for cell in cells]
    label, runs = (names.index(name.casefold()) if name.casefold() in names else None for name in HEADER)
    return _chosen(delimiter, len(cells), label, runs), True


def _chosen(delimiter: str, cells: int, label: int | None, text: int | None) -> Columns:
    """Choose the columns that are not known by their names: the first for the name, the last other for the runs."""
    if label is None:
        label = 1 if text == 0 else 0
    if text is None:
        text = next((number for number in reversed(range(cells)) if number != label), label + 1)
    return Columns(delimiter, cells, label, text)


def _cells(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)
    csv.field_size_limit(2**31 - 1)
    return next(csv.reader([text], delimiter=delimiter), [])


def _row(line: int, text: str, columns: Columns, found: Findings) -> TextRow | None:
    """Return the row of a line, if it has a name."""
    cells = _cells(text, columns.delimiter)
    if text.count('"') % 2:
        found.add(kinds.BAD_ROW, f"a quotation mark that opens and never closes in {text[:60]!r}", line)
    elif len(cells) != max(columns.cells, 2):
        found.add(kinds.BAD_ROW, f"{len(cells)} cell{'s' * (len(cells) > 1)} in {text[:60]!r}", line)
    if len(cells) <= columns.label:
        return None
    runs = cells[columns.text] if len(cells) > columns.text else ""
    return TextRow(line, cells[columns.label].strip(), runs.strip())


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).lower()
