"""Masks as run-length text, and back.

The text is what contests ask for: `start length` pairs, starts counted from 1, pixels numbered down the columns.
Writing it is mostly writing decimal digits, which is done eight bytes at a time from tables of ready-made digits.
"""

from functools import cache
from typing import Literal

import numpy as np

from cloudseg.postprocess.arguments import fitting_plane, mask_of, whole_number
from cloudseg.postprocess.compiling import inlined, kernel, stage
from cloudseg.postprocess.intrinsics import load8, load32, load64, shift_right, store8, store32, store64
from cloudseg.postprocess.runs import Scratch, address, find_runs, scratch_bytes


def digit_table() -> np.ndarray:
    """Return ready-made digits as little-endian words: 10,000 leading digits, 1,000 times three, 1,000 short numbers.

    A leading number n is its digits, with their count in the upper half of the word. Three digits are `ddd` and a
    blank. A short number is its digits and a blank, with their count in the upper half.
    """

    def word(text, count=0):
        return int.from_bytes(text.encode(), "little") | count << 32

    leading = [word(str(n), len(str(n))) for n in range(10_000)]
    three = [word(f"{n:03d} ") for n in range(1000)]
    short = [word(f"{n} ", len(str(n)) + 1) for n in range(1000)]
    return np.array(leading + three + short, np.int64)


_digit_table = digit_table()  # kept here, since kernels know only its address
DIGITS = address(_digit_table)
THREE, SHORT = 10_000, 11_000  # where the parts of the table begin
MOST_DIGITS = 18  # any two such numbers add up without overflow


@stage
def write_any_number(number, place):
    """Write a number and a blank digit by digit; return the address after it."""
    digits = 1
    power = 10
    while power <= number:
        digits += 1
        power *= 10
    store8(place, digits, 32)
    for digit in range(digits - 1, -1, -1):
        store8(place, digit, 48 + number % 10)
        number //= 10
    return place + digits + 1


@inlined
def write_start(number, digits, place):
    """Write a start and a blank; return the address after it.

    From 1,000 to 9,999,999 it is one store of eight bytes: up to four leading digits, then three, then the blank. The
    division by 1,000 is a multiplication by its rounded-up reciprocal (exact below 2^31).
    """
    thousands = shift_right(number * 274877907, 38)
    if thousands == 0 or thousands >= 10_000:
        return write_any_number(number, place)
    leading = load64(digits, thousands)
    count = shift_right(leading, 32)
    three = load64(digits, THREE + number - 1000 * thousands)
    store64(place, 0, (leading & 0xFFFFFFFF) | (three << (8 * count)))
    return place + count + 4


@inlined
def write_length(number, digits, place):
    """Write a length and a blank; return the address after it."""
    if number >= 1000:
        return write_any_number(number, place)
    short = load64(digits, SHORT + number)
    store32(place, 0, short)
    return place + shift_right(short, 32)


@stage
def write_runs(runs, count, height, width, digits, text):
    """Write runs as text; return the address after its last character.

    The pixel number is the virtual position less the column, and the column a product with the reciprocal of the
    stride (exact while width * stride^2 < 2^48, which a division replaces beyond). A run that goes on in the next
    column is rare: its length is then written again over that of its first part.
    """
    stride = height + 1
    reciprocal = 2**48 // stride + 1
    multiply = width * stride * stride < 2**48 and width < 2**15
    place = text
    length_place = text
    length = 0
    last_end = -1
    for run in range(count):
        start = load32(runs, 2 * run)
        pixels = load32(runs, 2 * run + 1) - start
        column = shift_right(start * reciprocal, 48) if multiply else start // stride
        start -= column
        if start == last_end:
            length += pixels
        else:
            length = pixels
            length_place = write_start(start + 1, digits, place)
        last_end = start + pixels
        place = write_length(length, digits, length_place)
    return place - (count > 0)


@cache
def most_characters(height: int, width: int) -> int:
    """Return how many bytes the text of a plane can take, with room for wide stores."""
    return width * ((height + 1) // 2) * 2 * (len(str(height * width)) + 1) + 64


@kernel
def encode_plane(plane, row_step, column_step, height, width, bits, edges, runs, digits, text):
    """Write the runs of non-zero pixels as text; return the number of characters."""
    count, _ = find_runs(plane, row_step, column_step, height, width, 1, bits, edges, runs, plane)
    return write_runs(runs, count, height, width, digits, text) - text


def encode_rle(mask: np.ndarray, /) -> str:
    """Write a mask as run-length text.

    Parameters
    ----------
    mask : bool or uint8 (H, W), in any memory order; any non-zero value is in.

    Returns
    -------
    str : pairs `start length`, pixels numbered from 1 down the columns; empty for an empty mask.

    Examples
    --------
    >>> encode_rle(np.array([[0, 1], [1, 1]], np.uint8))
    '2 3'
    """
    plane = mask_of("mask", mask, 2)
    shape = plane.shape
    with Scratch.of(*scratch_bytes(*shape), most_characters(*shape)) as scratch:
        *sections, text = scratch.sections
        length = encode_plane(address(plane), *plane.strides, *shape, *sections, DIGITS, text)
        return str(scratch.characters(text, length), "ascii")


@inlined
def skip_blanks(text, place):
    """Return the address of the next character that is no ASCII white space."""
    while load8(text, place) == 32 or 9 <= load8(text, place) <= 13:
        place += 1
    return place


@stage
def read_number(text, place):
    """Return the number at text[place:] and the place after it; -1 instead of the number when it is none."""
    first = place
    number = 0
    digit = load8(text, place) - 48
    while 0 <= digit <= 9:
        number = 10 * number + digit
        place += 1
        digit = load8(text, place) - 48
    after = load8(text, place)
    ended = after == 0 or after == 32 or 9 <= after <= 13
    return (number if ended and 1 <= place - first <= MOST_DIGITS else -1), place


@kernel
def decode_text(text, size, pixels, offset, relative, mask):
    """Set the pixels of all runs; return 0, or the number of the first pair that is wrong.

    A start plus `offset` counts from 1: from the first pixel, or, if `relative` is 1, from the end of the run before.
    The text ends with a zero byte, which is neither digit nor blank, so that no loop has to watch for the end.
    """
    pair = 0
    last = 0
    place = skip_blanks(text, 0)
    while place < size:
        pair += 1
        start, place = read_number(text, place)
        length, place = read_number(text, skip_blanks(text, place))
        start += offset + relative * last
        if start <= last or length < 1 or start + length - 1 > pixels:
            return pair
        last = start + length - 1
        for pixel in range(start - 1, last):
            store8(mask, pixel, 1)
        place = skip_blanks(text, place)
    return 0


def decode_rle(
    rle: str,
    shape: tuple[int, int],
    /,
    *,
    order: Literal["columns", "rows"] = "columns",
    first: Literal[0, 1] = 1,
    relative: bool = False,
) -> np.ndarray:
    """Read run-length text into a mask.

    Parameters
    ----------
    rle : ASCII digits and white space: pairs `start length`, ascending. Runs that touch are accepted.
    shape : (height, width) of the mask in pixels.
    order : how pixels are numbered, down the columns or along the rows.
    first : the number of the first pixel.
    relative : whether a start counts from the end of the run before in place of the first pixel.

    Returns
    -------
    uint8 (H, W) of 0 and 1, in the order of the text: column-major (Fortran) or row-major (C).

    Raises
    ------
    ValueError : naming the pair that is wrong, and why.

    Examples
    --------
    >>> decode_rle("2 3", (2, 2))
    array([[0, 1],
           [1, 1]], dtype=uint8)
    >>> decode_rle("0 1 1 2", (2, 2), order="rows", first=0, relative=True)
    array([[1, 0],
           [1, 1]], dtype=uint8)
    """
    if not isinstance(rle, str):
        raise TypeError(f"rle: expected str, got {type(rle).__name__}")
    if len(shape) != 2:
        raise ValueError(f"shape: expected (height, width), got {shape!r}")
    height, width = (whole_number("shape", side, 0) for side in shape)
    fitting_plane("shape", height, width)
    mask = np.zeros(height * width, np.uint8)
    text = rle.encode("utf-8", "surrogatepass")
    if text:
        place = address(np.frombuffer(text, np.uint8))
        wrong_pair = decode_text(place, len(text), mask.size, 1 - first, int(relative), address(mask))
        if wrong_pair:
            reason = complaint(text.split(), wrong_pair, mask.size, first, relative)
            raise ValueError(f"rle: pair {wrong_pair} {reason}")
    return mask.reshape((height, width), order="F" if order == "columns" else "C")


def complaint(words: list[bytes], pair: int, pixels: int, first: int = 1, relative: bool = False) -> str:
    """Say what is wrong with a pair, the first wrong one among the words."""
    two = words[2 * pair - 2 : 2 * pair]
    for word in two:
        if not (word.isdigit() and len(word) <= MOST_DIGITS):
            shown = word.decode("utf-8", "surrogatepass")
            return f"has {shown!a:.40}, which is not a number of at most {MOST_DIGITS} digits"
    if len(two) == 1:
        return f"has a start, {int(two[0])}, and no length"
    start, length = map(int, two)
    shown = f"({start} {length})"
    if start < first or length < 1:
        least = "start and length must be at least 1"
        return f"{shown}: {least if first else 'a start must be at least 0, and a length 1'}"
    behind = sum(map(int, words[: 2 * pair - 2])) - first * (pair - 1) if relative else 0  # pixels up to the run before
    if behind + start + length - first > pixels:
        return f"{shown} goes past the end of {pixels} pixels"
    return f"{shown} starts before the pair before it has ended: pairs must ascend and not overlap"
