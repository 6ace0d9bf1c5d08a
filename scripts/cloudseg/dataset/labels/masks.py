"""Labels in a folder of masks: images whose pixels say the class."""

import hashlib
import io
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from cloudseg.dataset.decoding import MOST_PIXELS
from cloudseg.dataset.labels.interface import Encoding, Labels, OtherSizeError, Shape
from cloudseg.dataset.labels.mask_files import MaskFiles

FORMATS = ["PNG", "TIFF", "BMP", "GIF"]
ON = (1, 255)  # what programs write where the one class of a file is
MOST_VALUES = 5  # that a message names
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


class MaskLabels(Labels):
    """The masks of the training images, read from their files when asked for.

    Parameters
    ----------
    folder : with the masks.
    shown : the name of the folder, for messages.
    files : the masks.
    """

    pixel_bytes = 8  # what Pillow holds, the values and a mask

    def __init__(self, folder: Path, shown: str, files: MaskFiles) -> None:
        self._folder, self._shown, self._files = folder, shown, files
        entry, classes = files.entry, files.classes
        self._ignored = set(entry.ignore)
        self._is_binary = files.has_class_files or (len(classes) == 1 and entry.values is None)
        numbered = {label: number for number, label in enumerate(classes, 1)}
        self._values: Mapping[str, int] = numbered if entry.values is None else entry.values

    def read(self, image: str) -> dict[str, list[Encoding]]:
        """Read the masks of one image: class to encodings, sorted by class; classes without a pixel are left out.

        A file that cannot be used is an encoding that cannot be drawn; one that has all classes stands under the first.
        """
        found: dict[str, list[Encoding]] = {}
        for label, (file, *_) in self._files.of(image).items():
            shown, name = f"{self._shown}/{file}", label or self._files.classes[0]
            try:
                data = (self._folder / file).read_bytes()
                values = decode_mask(data)
                held = self._held(values, name)
            except (OSError, ValueError) as error:
                reason = str(getattr(error, "strerror", None) or error)
                found.setdefault(name, []).append(Encoding(reason, partial(_refuse, reason), shown))
                continue
            digest = hashlib.sha256(data).hexdigest()
            for name, value in held.items():
                encoding = Encoding(f"{digest} {value}", partial(_draw, values, value), shown)
                found.setdefault(name, []).append(encoding)
        return dict(sorted(found.items()))

    def _held(self, values: np.ndarray, label: str) -> dict[str, int]:
        """Return the classes of a file that have a pixel, and their values.

        Raises
        ------
        ValueError : if there are other values.
        """
        if values.dtype == np.uint8:  # counting takes a tenth of the time of sorting
            counts = np.bincount(values.ravel(), minlength=256)
            pixels = {value: count for value, count in enumerate(counts.tolist()) if count}
        else:
            there, counts = np.unique(values, return_counts=True)
            pixels = dict(zip(there.tolist(), counts.tolist(), strict=True))
        if self._is_binary:
            known = {value: label for value in ON if value not in self._ignored}
        else:
            known = {value: label for label, value in self._values.items()}
        strange = {value: pixels[value] for value in pixels.keys() - known.keys() - self._ignored - {0}}
        held = {known[value]: value for value in pixels if value in known}
        if strange or (self._is_binary and len(pixels.keys() & known.keys()) > 1):
            raise ValueError(f"expected the values {self._in_words(known)}, got {_in_words(strange or pixels)}")
        return held

    def _in_words(self, known: Mapping[int, str]) -> str:
        if self._is_binary:
            return f"0 and {' or '.join(map(str, known))}"
        words = [f"{value} ({label})" for value, label in sorted(known.items())]
        return ", ".join([*([] if 0 in known else ["0"]), *words, *map(str, sorted(self._ignored))])


def _in_words(pixels: Mapping[int, int]) -> str:
    """Return values with the number of their pixels, those of most pixels first."""
    most = sorted(pixels.items(), key=lambda each: (-each[1], each[0]))
    words = [f"{value} in {count} pixel{'s' * (count > 1)}" for value, count in most[:MOST_VALUES]]
    more = [f"{len(most) - MOST_VALUES} more values"] if len(most) > MOST_VALUES else []
    return ", ".join([*words, *more])


def _refuse(reason: str, shape: Shape) -> np.ndarray:
    """Say why a file cannot be drawn."""
    raise ValueError(reason)


def _draw(values: np.ndarray, value: int, shape: Shape) -> np.ndarray:
    if values.shape != shape:
        height, width = values.shape
        swapped = "; are its axes swapped?" if values.shape == shape[::-1] else ""
        raise OtherSizeError(f"the mask is {height}x{width}{swapped}")
    return (values == value).view(np.uint8)


def decode_mask(data: bytes) -> np.ndarray:
    """Decode the bytes of a mask: its values, or, where it has a palette of colours, their numbers in it.

    Returns
    -------
    unsigned or signed integers (H, W).

    Raises
    ------
    ValueError : why the bytes cannot be used.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> Image.fromarray(np.array([[0, 3], [500, 1]], np.uint16)).save(file, "png")
    >>> decode_mask(file.getvalue()).tolist()
    [[0, 3], [500, 1]]
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError(f"{image.n_frames} pictures in one file")
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"more than {MOST_PIXELS / 1e6:.0f} megapixels ({image.height}x{image.width})")
            if image.getexif().get(ORIENTATION, 1) != 1:
                raise ValueError("its EXIF orientation is not upright")
            if image.mode == "F":
                raise ValueError("expected whole numbers, got numbers with a point")
            values = np.asarray(image)
            if image.mode == "P":
                values = _greys_of_palette(values, image.getpalette() or [])
    except Image.UnidentifiedImageError:
        raise ValueError(f"neither PNG, TIFF, BMP nor GIF (it begins with {data[:8]!r})") from None
    except (OSError, SyntaxError, IndexError, TypeError, struct.error) as error:
        raise ValueError(f"cannot be decoded: {error or type(error).__name__}") from None
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[2] > 2 else values[..., :1]
        if (colours != colours[..., :1]).any():
            raise ValueError("expected one value per pixel, got colours; save their numbers in place of them")
        values = colours[..., 0]
    return values.view(np.uint8) if values.dtype == bool else values


def _greys_of_palette(numbers: np.ndarray, palette: Sequence[int]) -> np.ndarray:
    """Return the greys that numbers stand for, if all of a palette are grey: GIF numbers them as it likes."""
    colours = np.zeros((256, 3), np.uint8)
    colours.ravel()[: len(palette)] = palette
    is_grey = bool((colours == colours[:, :1]).all())
    return colours[:, 0][numbers] if is_grey else numbers
