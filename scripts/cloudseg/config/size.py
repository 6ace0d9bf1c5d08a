"""The size of images: ``HxW`` in pixels, or ``xN``, the original size divided by N."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from cloudseg.errors import ConfigError

CONTEST_IMAGE = (1400, 2100)  # height and width in pixels of the contest's images and the demo's
OriginalSizes = Mapping[tuple[int, int], str]
"""The sizes (height, width) that images have, each with what has it; empty where none is known."""


@dataclass(frozen=True)
class Size:
    """A height and a width in pixels, or what the original size is divided by.

    Examples
    --------
    >>> str(Size(320, 480)), str(Size(divisor=4))
    ('320x480', 'x4')
    """

    height: int = 0
    width: int = 0
    divisor: int = 0
    """0 where height and width are given."""

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Return the size that a text means.

        Raises
        ------
        ConfigError : if it is neither HxW nor xN, or has no pixels.

        Examples
        --------
        >>> Size.parse("320x480"), Size.parse("x4")
        (Size(height=320, width=480, divisor=0), Size(height=0, width=0, divisor=4))
        """
        found = re.fullmatch(r"([0-9]{0,5})x([0-9]{1,5})", text)
        if not found:
            raise ConfigError(
                f"size {text!r}: expected HxW in pixels, such as 320x480, or xN for the original size divided "
                "by N, such as x4"
            )
        size = cls(int(found[1]), int(found[2])) if found[1] else cls(divisor=int(found[2]))
        if not size.divisor and not (size.height and size.width):
            raise _without_pixels(text)
        return size

    def __str__(self) -> str:
        return f"x{self.divisor}" if self.divisor else f"{self.height}x{self.width}"

    def of(self, original: tuple[int, int] | None) -> tuple[int, int]:
        """Return height and width in pixels, halves rounded up.

        Parameters
        ----------
        original : (height, width) that all images have, or None if they have several sizes.

        Raises
        ------
        ConfigError : if this needs an original size that is not there, or leaves nothing of it.

        Examples
        --------
        >>> Size.parse("x8").of((1400, 2100)), Size.parse("320x480").of(None)
        ((175, 263), (320, 480))
        """
        if not self.divisor:
            return self.height, self.width
        if original is None:
            raise _several_sizes(self)
        height, width = ((2 * side + self.divisor) // (2 * self.divisor) for side in original)
        if not height or not width:
            raise _without_pixels(self)
        return height, width

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of HxW in pixels."""
        return self.of(None)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read the size from text, and write it as text."""

        def read(value: Any) -> Size:
            if isinstance(value, str):
                return cls.parse(value)
            if not isinstance(value, cls):
                raise PydanticKnownError("string_type")
            return value

        return core_schema.no_info_plain_validator_function(read, serialization=core_schema.to_string_ser_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the text."""
        return {"type": "string"}


def division_problem(size: Size, originals: OriginalSizes) -> str | None:
    """Return why a size fits no images of these original sizes; None if it does, or if nothing is known.

    Examples
    --------
    >>> division_problem(Size.parse("x99"), {(40, 60): "a.jpg"})
    "size 'x99': expected a height and a width of at least 1 pixel of images of 40x60 (a.jpg)"
    >>> division_problem(Size.parse("x4"), {(1400, 2100): "a.jpg"}), division_problem(Size.parse("x4"), {})
    (None, None)
    """
    if not size.divisor or not originals:
        return None
    found = ", ".join(f"{height}x{width} ({named})" for (height, width), named in [*originals.items()][:3])
    if len(originals) > 1:
        return str(_several_sizes(size, f": {found}{', ...' if len(originals) > 3 else ''}"))
    try:
        size.of(next(iter(originals)))
    except ConfigError as error:
        return f"{error} of images of {found}"
    return None


def _several_sizes(size: Size, found: str = "") -> ConfigError:
    return ConfigError(
        f"size {str(size)!r} divides the original size, but the images have several sizes{found}; write the size "
        "as HxW, such as 320x480"
    )


def _without_pixels(size: "Size | str") -> ConfigError:
    return ConfigError(f"size {str(size)!r}: expected a height and a width of at least 1 pixel")


CONTEST_SIZE = Size(350, 525)  # of the masks in the contest's submission
