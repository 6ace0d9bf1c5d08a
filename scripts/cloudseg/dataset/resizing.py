"""Resize images and masks: by area along an axis that shrinks, and without a float deciding what a mask holds.

Two kernels do what takes most of the time of a training sample. Where an image shrinks by no whole number, OpenCV goes
through it value by value; :func:`_shrink` makes the same bytes, a pixel at a time and each row once. A mask has all its
classes in the bits of a byte and is mostly flat; :func:`_resize_bits` adds up areas only where an edge runs through a
new pixel.
"""

import math
from functools import lru_cache

import cv2
import numpy as np

from cloudseg.postprocess.compiling import inlined, kernel, stage
from cloudseg.postprocess.intrinsics import (
    add_scaled_16,
    are_one_byte_64,
    copy_64,
    join_64,
    load8,
    load32,
    load_float,
    round_16,
    scale_16,
    store8,
    store32,
    weighted_pixels,
)
from cloudseg.postprocess.runs import address

BANDS = 3
LANES = 64  # bytes that are compared at once


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image: by area along an axis that shrinks, linearly along one that grows.

    Parameters
    ----------
    image : uint8 (H, W, 3), or one plane (H, W).
    size : (height, width) to make, in pixels.

    Returns
    -------
    uint8 (height, width, 3), or (height, width); the bytes of OpenCV's ``INTER_AREA``, then of its ``INTER_LINEAR``.

    Examples
    --------
    >>> resize_image(np.array([[0, 100, 200]], np.uint8), (1, 2))
    array([[ 33, 167]], dtype=uint8)
    """
    height, width = min(size[0], image.shape[0]), min(size[1], image.shape[1])
    if (height, width) != image.shape[:2]:
        image = _shrunk(image, (height, width))
    if (height, width) != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    return image


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize the mask of one class by area, exactly: a new pixel is in where at least half of it was covered.

    Parameters
    ----------
    mask : uint8 (H, W) of 0 and 1, in either memory order.
    size : (height, width) to make, in pixels; any ratio to (H, W), growing included.

    Returns
    -------
    uint8 (height, width) of 0 and 1: in where ``2 * covered >= total``.

    Examples
    --------
    >>> resize_mask(np.array([[1, 1, 0], [0, 0, 0]], np.uint8), (1, 2))
    array([[1, 0]], dtype=uint8)
    """
    if mask.T.flags.c_contiguous:  # as drawn from run-length labels, which go down the columns
        return _resized_bits(mask.T, size[::-1]).T
    return _resized_bits(np.ascontiguousarray(mask), size)


def resize_bitmask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask of many classes, each as :func:`resize_mask` does.

    Parameters
    ----------
    mask : (H, W, B) uint8, bit ``c % 8`` of byte ``c // 8`` for class ``c``.
    size : (height, width) to make, in pixels.

    Returns
    -------
    ndarray : (height, width, B) uint8.

    Examples
    --------
    >>> resize_bitmask(np.array([[[3], [1], [2], [0]]], np.uint8), (1, 2))  # the second class: half of either pixel
    array([[[3],
            [2]]], dtype=uint8)
    """
    planes = [_resized_bits(np.ascontiguousarray(mask[..., byte]), size) for byte in range(mask.shape[2])]
    return planes[0][..., None] if len(planes) == 1 else np.stack(planes, axis=-1)


def resize_soft_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask in 255ths as images are resized: by area where it shrinks.

    Parameters
    ----------
    mask : (H, W, C) uint8.
    size : (height, width) to make, in pixels.

    Examples
    --------
    >>> resize_soft_mask(np.array([[[255, 0], [0, 0]]], np.uint8), (1, 1))
    array([[[128,   0]]], dtype=uint8)
    """
    # OpenCV leaves out the axis of a single class, and takes up to four at once
    planes = [resize_image(np.ascontiguousarray(mask[..., number]), size) for number in range(mask.shape[2])]
    return np.stack(planes, axis=-1)


def _shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image to no more than its size, by area."""
    (old_height, old_width), (height, width) = image.shape[:2], size
    whole = old_height % height == 0 and old_width % width == 0  # OpenCV has a faster way, with other rounding
    if whole or image.ndim != 3 or image.shape[2] != BANDS:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    image = np.ascontiguousarray(image)
    above, row_weights = _taps(old_height, height)
    before, column_weights = _taps(old_width, width)
    resized = np.empty((height, width, BANDS), np.uint8)
    row_bytes = 16 * width + 64  # four floats a pixel, and what wide stores write behind them
    scratch = np.empty((3, row_bytes), np.uint8)
    last_row = np.empty(BANDS * old_width + 1, np.uint8)
    _shrink(
        *(address(image), old_height, old_width, address(resized), height, width),
        *(address(above), address(row_weights), row_weights.shape[1]),
        *(address(before), address(column_weights), column_weights.shape[1]),
        *(address(scratch), row_bytes, address(last_row)),
    )
    return resized


@lru_cache(maxsize=64)
def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each of ``new`` pixels over ``old`` ones, which old one is its first and what its share of each is.

    The shares are those of OpenCV's ``computeResizeAreaTab``, down to its neglect of less than a thousandth of a pixel.

    Returns
    -------
    (ndarray, ndarray) : int32 (new,) and float32 (new, taps), 0 for old pixels that are not covered.
    """
    scale = 1 / (new / old)
    shares: list[dict[int, float]] = []
    for number in range(new):
        start = number * scale
        end = start + scale
        cell = min(scale, old - start)
        last = min(math.floor(end), old - 1)
        first = min(math.ceil(start), last)
        own = dict.fromkeys(range(first, last), 1 / cell)
        if first - start > 1e-3:
            own[first - 1] = (first - start) / cell
        if end - last > 1e-3:
            own[last] = min(end - last, 1.0, cell) / cell
        shares.append(own)
    taps = max(max(own) - min(own) + 1 for own in shares)
    firsts = np.array([min(min(own), old - taps) for own in shares], np.int32)
    weights = np.zeros((new, taps), np.float32)
    for number, own in enumerate(shares):
        for index, share in own.items():
            weights[number, index - firsts[number]] = share
    return firsts, weights


@stage
def _shrink_row(row, width, before, weights, taps, out):
    """Write four floats for each new pixel of a row: the weighted sums of its bands, and one without meaning."""
    for x in range(width):
        weighted_pixels(row + BANDS * load32(before, x), weights + 4 * taps * x, taps, out + 16 * x)


@stage
def _store_row(sums, width, pixels, out):
    """Round the sums of a row into bytes; `pixels` has room for those of four bytes."""
    for x in range(0, width, 4):
        round_16(sums + 16 * x, pixels + 4 * x)
    for x in range(width - 1):
        store32(out + BANDS * x, 0, load32(pixels, x))
    for band in range(BANDS):
        store8(out + BANDS * (width - 1), band, load8(pixels, 4 * (width - 1) + band))


@kernel
def _shrink(
    image,
    old_height,
    old_width,
    out,
    height,
    width,
    above,
    row_weights,
    row_taps,
    before,
    column_weights,
    column_taps,
    scratch,
    row_bytes,
    last_row,
):
    """Write an image that is smaller along an axis and larger along none, by area."""
    shrunk, sums, pixels = scratch, scratch + row_bytes, scratch + 2 * row_bytes
    known = -1  # the row of the image that `shrunk` is of: one that lies under two new rows is summed once
    for y in range(height):
        begun = False
        for tap in range(row_taps):
            weight = load_float(row_weights, y * row_taps + tap)
            if weight == 0:
                continue
            old_y = load32(above, y) + tap
            if old_y != known:
                row = image + BANDS * old_width * old_y
                if old_y == old_height - 1:  # nothing may be read behind it
                    for byte in range(BANDS * old_width):
                        store8(last_row, byte, load8(row, byte))
                    row = last_row
                _shrink_row(row, width, before, column_weights, column_taps, shrunk)
                known = old_y
            for place in range(0, 16 * width, 64):
                if begun:
                    add_scaled_16(shrunk + place, weight, sums + place)
                else:
                    scale_16(shrunk + place, weight, sums + place)
            begun = True
        _store_row(sums, width, pixels, out + BANDS * width * y)


def _resized_bits(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a contiguous mask (H, W) with a class in each of its eight bits."""
    resized = np.empty(size, np.uint8)
    rows, columns = (_covered(old, new) for old, new in zip(mask.shape, size, strict=True))
    joined = np.empty((2, mask.shape[1]), np.uint8)
    _resize_bits(
        *(address(mask), *mask.shape, address(resized), *size, address(rows), address(columns)),
        *map(address, joined),
    )
    return resized


@lru_cache(maxsize=64)
def _covered(old: int, new: int) -> np.ndarray:
    """Return int32 (new, 2): the first of the ``old`` pixels that each of ``new`` ones covers, and the one behind."""
    borders = np.arange(new + 1, dtype=np.int64) * old
    return np.stack([borders[:-1] // new, -(-borders[1:] // new)], axis=-1).astype(np.int32)


@inlined
def _overlap(old_pixel, old, pixel, new):
    """Return how much of an old pixel a new one covers along an axis, in parts of which there are old x new."""
    return min((old_pixel + 1) * new, (pixel + 1) * old) - max(old_pixel * new, pixel * old)


@stage
def _covered_bits(mask, old_height, old_width, height, width, y, x, rows, columns, bits):
    """Return which of some bits cover at least half of a new pixel."""
    covered = 0
    for bit in range(8):
        if not bits >> bit & 1:
            continue
        area = 0
        for old_y in range(load32(rows, 2 * y), load32(rows, 2 * y + 1)):
            line = 0
            for old_x in range(load32(columns, 2 * x), load32(columns, 2 * x + 1)):
                inside = load8(mask, old_y * old_width + old_x) >> bit & 1
                line += inside * _overlap(old_x, old_width, x, width)
            area += line * _overlap(old_y, old_height, y, height)
        if 2 * area >= old_height * old_width:
            covered |= 1 << bit
    return covered


@stage
def _join_rows(mask, first, end, old_width, some, every):
    """Join rows of a mask: which bits any of them has at each place, and which all of them have."""
    whole = old_width // LANES * LANES
    for place in range(0, whole, LANES):
        copy_64(mask + first * old_width + place, some + place)
        copy_64(mask + first * old_width + place, every + place)
        for row in range(first + 1, end):
            join_64(mask + row * old_width + place, some + place, every + place)
    for x in range(whole, old_width):
        any_bits, all_bits = 0, 255
        for row in range(first, end):
            value = load8(mask, row * old_width + x)
            any_bits |= value
            all_bits &= value
        store8(some, x, any_bits)
        store8(every, x, all_bits)


@kernel
def _resize_bits(mask, old_height, old_width, out, height, width, rows, columns, some, every):
    """Write a mask at another size, a bit where it covers at least half of a new pixel."""
    for y in range(height):
        _join_rows(mask, load32(rows, 2 * y), load32(rows, 2 * y + 1), old_width, some, every)
        row = out + y * width
        x = 0
        while x < width:
            first, end = load32(columns, 2 * x), load32(columns, 2 * x + 1)
            if first + LANES <= old_width and are_one_byte_64(some + first, every + first):
                value = load8(some, first)
                while x < width and load32(columns, 2 * x + 1) <= first + LANES:
                    store8(row, x, value)
                    x += 1
                continue
            any_bits, all_bits = 0, 255
            for old_x in range(first, end):
                any_bits |= load8(some, old_x)
                all_bits &= load8(every, old_x)
            doubtful = any_bits & ~all_bits
            if doubtful:
                all_bits |= _covered_bits(mask, old_height, old_width, height, width, y, x, rows, columns, doubtful)
            store8(row, x, all_bits)
            x += 1
