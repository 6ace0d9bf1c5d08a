"""Read a folder in the layout of the Kaggle contest: images, run-length labels, sample submission."""

import csv
import io
import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from cloudseg.files import digest

SUFFIXES = (".jpg", ".jpeg", ".png")
COLUMNS = ["Image_Label", "EncodedPixels"]

Split = Literal["train", "test"]


class ImageError(ValueError):
    """An image file that cannot be used, and why."""


class TableError(ValueError):
    """A CSV file that cannot be used, the line where that shows, and why."""

    def __init__(self, path: str | Path, line: int, reason: str) -> None:
        """Make the message, and keep its parts for a report."""
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
        return sorted(entry.name for entry in self._entries(split) if _is_image(entry))

    def list_others(self, split: Split) -> list[str]:
        """List what else lies in the image folder of ``split``, hidden files left out, sorted as text."""
        names = (entry.name for entry in self._entries(split) if not _is_image(entry))
        return sorted(name for name in names if not name.startswith("."))

    def _entries(self, split: Split) -> list[os.DirEntry[str]]:
        if not self.images(split).is_dir():
            return []
        with os.scandir(self.images(split)) as entries:
            return list(entries)

    def submission_rows(self, classes: Collection[str]) -> list[tuple[str, str]]:
        """List the (image, class) pairs of the sample submission, in its order.

        Parameters
        ----------
        classes : the names of the classes.

        Raises
        ------
        TableError : if the file cannot be read or a row names an image that is not in the test folder.
        """
        known = set(self.list_images("test"))
        pairs = []
        for row in scan_table(self.sample_submission):
            image, label = split_label(row.label, known, classes)
            if image not in known:
                reason = f"{row.label!r} names no image of {self.images('test')}; run the dataset check"
                raise TableError(self.sample_submission, row.line, reason)
            pairs.append((image, label))
        return pairs


def _is_image(entry: os.DirEntry[str]) -> bool:
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
    label : the cell ``Image_Label``.
    cells : number of cells, 2 in a sound row.
    start, stop : the bytes of the row in the file.
    """

    line: int
    label: str
    cells: int
    start: int
    stop: int


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
    end = 0

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
            if header != COLUMNS:
                reason = f"expected the columns {','.join(COLUMNS)}, got {','.join(header)!r:.80}"
                raise TableError(path, 1, reason)
            start, line = end, reader.line_num + 1
            for cells in reader:
                if cells:
                    yield Row(line, cells[0], len(cells), start, end)
                start, line = end, reader.line_num + 1
        except UnicodeDecodeError as error:
            reason = f"expected text in UTF-8, got {error.object[error.start : error.start + 4]!r}"
            raise TableError(path, reader.line_num + 1, reason) from None
        except csv.Error as error:
            raise TableError(path, reader.line_num, f"not a row of CSV ({error})") from None


class Labels:
    r"""The run-length texts of the training images, read from their table when asked for.

    Only the place of each row is kept, because the texts of a large data set fill much memory. Safe in
    threads.

    Parameters
    ----------
    path : the label table.
    rows : image to class to the sound row that :func:`scan_table` found for them.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.csv")
    ...     _ = path.write_text("Image_Label,EncodedPixels\na.jpg_Fish,1 3\na.jpg_Sugar,\n")
    ...     Labels.index(path, {"a.jpg"}, ["Fish", "Sugar"]).texts("a.jpg")
    {'Fish': '1 3'}
    """

    def __init__(self, path: str | Path, rows: Mapping[str, Mapping[str, Row]]) -> None:
        """Keep where the rows are."""
        self._path = Path(path)
        self._rows = rows

    @classmethod
    def index(cls, path: str | Path, known: Collection[str], classes: Collection[str]) -> "Labels":
        """Find the rows of known images and classes in a table that has passed the dataset check."""
        rows: dict[str, dict[str, Row]] = {}
        for row in scan_table(path):
            image, label = split_label(row.label, known, classes)
            if image in known and label in classes and row.cells == 2:
                rows.setdefault(image, {})[label] = row
        return cls(path, rows)

    def row(self, image: str, label: str) -> Row:
        """Return where the row of an image and a class is."""
        return self._rows[image][label]

    def texts(self, image: str) -> dict[str, str]:
        """Read the texts of one image: class to text, classes without a pixel left out, sorted by class."""
        texts: dict[str, str] = {}
        rows = self._rows.get(image)
        if not rows:
            return texts
        with self._path.open("rb") as file:
            for label, row in sorted(rows.items()):
                file.seek(row.start)
                cells = file.read(row.stop - row.start).decode("utf-8")
                text = next(csv.reader(io.StringIO(cells, newline="")))[1].strip()
                if text:
                    texts[label] = text
        return texts


def digest_labels(texts: Mapping[str, str]) -> str:
    """Return 16 hexadecimal digits that change with the labels of an image.

    Parameters
    ----------
    texts : class to run-length text, as :meth:`Labels.texts` returns them.
    """
    return digest(texts)[:16]


def split_label(label: str, known: Collection[str], classes: Collection[str]) -> tuple[str | None, str]:
    """Split a cell ``Image_Label`` into the image and the class, at a known image name.

    Names of images and of classes may hold ``_`` themselves, so the place is where a known name ends; where
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
    places = [place for place, letter in enumerate(label) if letter == "_"]
    splits = [(label[:place], label[place + 1 :]) for place in places]
    # Prefer what is known on both sides, then a known image, then a known class; the longest image first.
    for image, rest in reversed(splits):
        if image in known and rest in classes:
            return image, rest
    for image, rest in reversed(splits):
        if image in known:
            return image, rest
    for image, rest in splits:
        if image and rest in classes:
            return image, rest
    return None, label


def load_image(path: str | Path) -> np.ndarray:
    """Load an image file as RGB.

    Parameters
    ----------
    path : a JPEG or PNG file of 8 bits per channel, whatever its suffix.

    Returns
    -------
    uint8 (H, W, 3) : RGB. Grey is repeated in all three channels; transparency is dropped with a warning;
        the orientation in EXIF is ignored, since labels number the pixels as they are stored.

    Raises
    ------
    ImageError : naming the file and why it cannot be used: truncated, 16 bits, neither JPEG nor PNG.
    """
    try:
        pixels, kind = decode_image(Path(path).read_bytes())
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    if kind == "alpha":
        warnings.warn(f"{path}: its transparency is dropped", stacklevel=2)
    return pixels


def decode_image(data: bytes) -> tuple[np.ndarray, Literal["rgb", "grey", "alpha"]]:
    """Decode the bytes of an image file as RGB, as :func:`load_image` does.

    Pillow decodes here, not OpenCV, which fills the rest of a truncated file with grey and goes on.

    Returns
    -------
    pixels : uint8 (H, W, 3), RGB, not writeable.
    kind : what the file holds: "rgb", "grey", or "alpha" (any colours with transparency).

    Raises
    ------
    ImageError : why the bytes cannot be used, without the name of a file.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> Image.new("L", (3, 2), 7).save(file, "png")
    >>> pixels, kind = decode_image(file.getvalue())
    >>> pixels.shape, int(pixels.min()), kind
    ((2, 3, 3), 7, 'grey')
    """
    if not data:
        raise ImageError("an empty file")
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
            if image.format == "PNG" and data[24] == 16:  # Pillow would cut 16-bit colours down silently
                raise ImageError("16 bits per channel")
            if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
                raise ImageError(f"colours of the kind {image.mode}")
            alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
            grey = image.mode in ("1", "L")
            pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except Image.UnidentifiedImageError:
        raise ImageError(f"neither JPEG nor PNG (it begins with {data[:8]!r})") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise error if isinstance(error, ImageError) else ImageError(str(error)) from None
    return pixels, "alpha" if alpha else "grey" if grey else "rgb"
