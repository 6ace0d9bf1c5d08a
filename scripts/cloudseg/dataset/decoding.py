"""Decode an image file, in the memory that its header tells, or say why it cannot be used."""

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image

from cloudseg.errors import DatasetError

MOST_PIXELS = 2**30
"""Largest image that is decoded, in pixels: 9 GB at 8 bytes each. It replaces Pillow's limit, a sixth of this."""

Image.MAX_IMAGE_PIXELS = None
# glibc keeps freed blocks below 32 MiB in the arena of their thread, so that all threads together would hold as much as
# their images took. Larger blocks go back to the system.
Image.core.set_block_size(64 * 2**20)

STRIP = 256  # rows of an image that are converted to RGB at a time

ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


class ImageError(DatasetError):
    """An image file that cannot be used, and why."""


class TurnedError(ImageError):
    """An image file that programs show in two ways: as it is stored, or turned as its EXIF orientation says."""


def load_image(path: str | Path) -> np.ndarray:
    """Load an image file as RGB.

    Parameters
    ----------
    path : a JPEG or PNG file of 8 bits per channel, whatever its suffix.

    Returns
    -------
    uint8 (H, W, 3) : RGB. Grey is repeated in all three channels; transparency is dropped with a warning.

    Raises
    ------
    ImageError : naming the file and why it cannot be used: truncated, 16 bits, neither JPEG nor PNG, turned by its
        EXIF orientation.
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

    Pillow decodes here, not OpenCV, which fills the rest of a truncated file with grey and goes on. A picture with an
    EXIF orientation other than upright is refused: OpenCV and browsers turn it, Pillow does not, and labels fit both
    ways, so that nobody can tell which way it was labelled. It takes the memory of :func:`decoding_bytes`.

    Returns
    -------
    pixels : uint8 (H, W, 3), RGB, not writeable.
    kind : what the file holds: "rgb", "grey", or "alpha" (any colours with transparency).

    Raises
    ------
    ImageError : why the bytes cannot be used, without the name of a file. For an orientation, its :class:`TurnedError`.

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
    with _opened(io.BytesIO(data)) as image:
        if image.format == "PNG" and data[24] == 16:  # Pillow would cut 16-bit colours down silently
            raise ImageError("16 bits per channel")
        if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
            raise ImageError(f"colours of the kind {image.mode}")
        if image.format == "PNG" and image.n_frames > 1:
            raise ImageError(f"an animation of {image.n_frames} frames")
        if image.width * image.height > MOST_PIXELS:
            raise ImageError(
                f"expected at most {MOST_PIXELS / 1e6:.0f} megapixels, got {image.width * image.height / 1e6:.0f} "
                f"({image.height}x{image.width}); cut it into tiles, or store it smaller"
            )
        image.load()
        if (orientation := _orientation(image)) != 1:
            raise TurnedError(f"its EXIF orientation is {orientation}")
        alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
        grey = image.mode in ("1", "L")
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        for top in range(0, image.height, STRIP):  # in strips: converted at once, three copies would be in memory
            strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
            pixels[top : top + STRIP] = np.asarray(strip.convert("RGB"))
    return pixels, "alpha" if alpha else "grey" if grey else "rgb"


def image_size(file: str | Path) -> tuple[int, int] | None:
    """Return (height, width) of an image file by its header, in pixels; None where that cannot be read."""
    with contextlib.suppress(OSError, ImageError), Path(file).open("rb") as stream, _opened(stream) as image:
        return image.height, image.width
    return None


def decoding_bytes(file: str | Path) -> int:
    """Return about how many bytes of memory it takes to read and decode an image file, as its header tells.

    Pillow holds 4 bytes per pixel and the result 3 (7.6 measured in all); a progressive JPEG adds 6 for its
    coefficients.
    """
    with contextlib.suppress(OSError):
        size = Path(file).stat().st_size
        with contextlib.suppress(ImageError), Path(file).open("rb") as stream, _opened(stream) as image:
            return size + image.width * image.height * (14 if "progressive" in image.info else 8)
        return size
    return 0


@contextlib.contextmanager
def _opened(stream: BinaryIO) -> Iterator[Image.Image]:
    """Yield an image whose pixels are not read yet; whatever Pillow raises, here or in the block, is an ImageError."""
    try:
        with Image.open(stream, formats=["JPEG", "PNG"]) as image:
            yield image
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        stream.seek(0)
        raise ImageError(f"neither JPEG nor PNG (it begins with {stream.read(8)!r})") from None
    except (OSError, SyntaxError, ValueError, IndexError, struct.error) as error:
        raise ImageError(str(error) or type(error).__name__) from None


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) where there is none that programs would heed."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, KeyError, struct.error):  # damaged EXIF, which no program reads
        return 1
    return orientation if orientation in range(2, 9) else 1
