"""A submission as what it says: names and masks, apart from how the file is written."""

import csv
import dataclasses
import functools
import hashlib
import io
import shlex
from collections.abc import Iterable
from pathlib import Path

from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.dataset.labels.tables import EMPTY_TEXTS, HEADER
from cloudseg.errors import DatasetError
from cloudseg.provenance.record import Csv

MOST_DIGITS = 20  # of a number of pixels; Python refuses to read thousands
COMPRESSED = {b"\x1f\x8b": "gunzip -k", b"PK\x03\x04": "unzip"}  # by the first bytes: what unpacks them
LINE_ENDS = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}


@dataclasses.dataclass(frozen=True)
class Content:
    """A submission that was read, whoever wrote it.

    Parameters
    ----------
    sha256 : of the bytes.
    header : the cells of its first line.
    masks : name of a row (``IMAGE_CLASS``) to its run lengths, as :func:`same_runs` returns them, in the order of the
        file. Of a name that is there twice, the first counts.
    rows : lines below the header.
    line_ends : ``LF``, ``CRLF`` or ``CR``, of its first line.
    mark : whether it begins with a byte order mark.
    """

    sha256: str
    header: tuple[str, ...]
    masks: dict[str, str] = dataclasses.field(repr=False)
    rows: int
    line_ends: str
    mark: bool

    @functools.cached_property
    def facts(self) -> Csv:
        """The digests and counts that provenance has."""
        return Csv(
            sha256=self.sha256,
            content=digest_lines(f"{name}\t{mask}" for name, mask in sorted(self.masks.items())),
            names=digest_lines(self.masks),
            names_sorted=digest_lines(sorted(self.masks)),
            rows=self.rows,
            filled=sum(map(bool, self.masks.values())),
        )

    def differences(self, other: "Content") -> list[str]:
        """Return the names of the rows, of this or the other, whose masks differ or that only one has."""
        names = dict.fromkeys([*self.masks, *other.masks])
        return [name for name in names if self.masks.get(name) != other.masks.get(name)]


def read_content(path: str | Path, forms: Iterable[SubmissionForm] = ()) -> Content:
    r"""Read a submission.

    Parameters
    ----------
    path : the file.
    forms : in which it may be written beside that of the clouds' contest: the first one with its columns counts.

    Raises
    ------
    DatasetError : if the file cannot be read, or is no text with commas.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> head = "Image_Label,EncodedPixels"
    >>> texts = f"{head}\na_Fish,1 3\nb_Fish,\n", f"{head}\r\nb_Fish,\r\na_Fish,1 1 2 2\r\n"
    >>> with TemporaryDirectory() as folder:
    ...     for number, text in enumerate(texts):
    ...         _ = Path(folder, f"{number}.csv").write_bytes(text.encode())
    ...     one, two = (read_content(f"{folder}/{number}.csv").facts for number in range(2))
    >>> one.sha256 == two.sha256, one.names == two.names, one.content == two.content, two.filled
    (False, False, True, 1)
    """
    try:
        data = Path(path).read_bytes()
        if unpack := next((program for magic, program in COMPRESSED.items() if data.startswith(magic)), None):
            command = f"{unpack} {shlex.quote(str(path))}"
            raise DatasetError(f"{path}: a compressed file; its bytes are compared, so unpack it first: {command}")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: no CSV file: not UTF-8 text ({error.reason} at byte {error.start})") from error
    csv.field_size_limit(2**31 - 1)
    try:
        lines = [cells for cells in csv.reader(io.StringIO(text, newline="")) if cells]
    except csv.Error as error:
        raise DatasetError(f"{path}: no CSV file ({error})") from error
    rows = lines[1:]
    header = [cell.strip() for cell in lines[0]] if lines else []
    form = next((each for each in forms if not each.is_native and each.header == header), None)
    if form is None:
        masks = {cells[0]: same_runs(cells[1] if len(cells) > 1 else "") for cells in reversed(rows)}
        masks = {cells[0]: masks[cells[0]] for cells in rows}
    else:
        masks = form.read_masks(rows)
    return Content(
        sha256=hashlib.sha256(data).hexdigest(),
        header=tuple(lines[0]) if lines else (),
        masks=masks,
        rows=len(rows),
        line_ends=LINE_ENDS.get(next((end for end in ("\r\n", "\n", "\r") if end in text), "\n"), "LF"),
        mark=data.startswith(b"\xef\xbb\xbf"),
    )


def same_runs(text: str) -> str:
    """Return run lengths in the one form that the same mask always has: in order, none touching the next.

    Parameters
    ----------
    text : start and length of each run, from 1. What is no such text is returned as it is.

    Examples
    --------
    >>> same_runs(" 9 1 1 3 4 2"), same_runs("-1"), same_runs("ha"), len(same_runs("9" * 5000 + " 1"))
    ('1 5 9 1', '', 'ha', 5002)
    """
    if text.strip().lower() in EMPTY_TEXTS:
        return ""
    words = text.split()
    if len(words) % 2 or not all(word.isascii() and word.isdigit() and len(word) < MOST_DIGITS for word in words):
        return text
    numbers = list(map(int, words))
    merged: list[list[int]] = []
    for start, length in sorted(zip(numbers[::2], numbers[1::2], strict=True)):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], start + length)
        else:
            merged.append([start, start + length])
    return " ".join(f"{start} {stop - start}" for start, stop in merged)


def digest_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines of text."""
    hashed = hashlib.sha256()
    for line in lines:
        hashed.update(line.encode(errors="surrogatepass") + b"\n")
    return hashed.hexdigest()


def has_header(content: Content, forms: Iterable[SubmissionForm] = ()) -> bool:
    """Return whether a file has the columns of the clouds' contest, or those of another form."""
    return list(content.header) in [HEADER, *(form.header for form in forms)]
