"""From a plane of pixels to its runs: the pixels that reach a level, as (start, end) pairs down the columns.

A plane is never turned into a mask. Sixty-four pixels are compared at once and become the bits of one word; a bit that
differs from the one before it is an edge; edges alternate between starts and ends, so that two in a row are a run.

Positions are *virtual*: y + c * (height + 1) for row y of column c. The one position more per column is never in, hence
a run ends with its column, and two runs of neighbouring columns touch exactly when their positions, one `stride` (=
height + 1) apart, do: what works on runs needs no idea of columns.

The same runs come from planes in any memory order. Where columns lie in one piece, words are made down the columns.
Where rows do, words are made along the rows and their bits transposed, 64x64 of them at a time. All other planes are
read pixel by pixel.
"""

from functools import cache
from itertools import accumulate
from typing import ClassVar

import numpy as np

from cloudseg.postprocess.compiling import inlined, stage
from cloudseg.postprocess.intrinsics import (
    bit_count,
    bits_at_least,
    load8,
    load64,
    lowest_bit,
    prefetch,
    shift_right,
    store32,
    store64,
    transpose_4_2_1,
    transpose_32_16_8,
)

MOST_KEPT = 2**27  # bytes of scratch that are kept after use: a 1400x2100 plane has 70 MB, most of them never touched
COMPARED_AHEAD = 8192  # bytes: further than a page, at whose end the processor's own prefetching stops


@inlined
def words_per_column(height):
    """Return the number of words for a column and at least one bit after it, which ends a run at the last pixel."""
    return height // 64 + 1


@inlined
def words_per_row_of_bits(height, width):
    """Return how many words stand side by side in a row of the bit matrix; the transpose takes eight at a time."""
    return ((width + 63) // 64 * words_per_column(height) + 7) // 8 * 8


@cache
def scratch_bytes(height: int, width: int) -> tuple[int, int, int]:
    """Return the sizes of the bit matrix, the list of edges and the runs of a plane, with room for wide stores."""
    words = height // 64 + 1
    bits = 64 * 8 * ((width + 63) // 64 * words + 8)
    edges = 16 * (width * words + 4)
    runs = 8 * width * ((height + 1) // 2) + 64
    return tuple(-(-size // 64) * 64 for size in (bits, edges, runs))


def address(array: np.ndarray) -> int:
    """Return where the first element of an array lies."""
    return array.__array_interface__["data"][0]


class Scratch:
    """Memory that kernels write to, in sections that begin at 64-byte boundaries; `sections` are their addresses.

    To be used in a `with`: memory is kept for the next call, since the first touch of fresh pages costs as much as
    a plane. Whoever uses it has taken it off the list, so that threads never share it.
    """

    _spare: ClassVar[list["Scratch"]] = []

    def __init__(self, sizes: tuple[int, ...]) -> None:
        memory = np.empty(sum(sizes) + 64, np.uint8)
        self.sizes = sizes
        self._bytes = memoryview(memory)
        self._first = address(memory)
        first = -(-self._first // 64) * 64
        self.sections = [first + before for before in accumulate(sizes[:-1], initial=0)]

    @classmethod
    def of(cls, *sizes: int) -> "Scratch":
        """Return scratch with sections of these sizes in bytes."""
        spare = cls._spare.pop() if cls._spare else None
        return spare if spare is not None and spare.sizes == sizes else cls(sizes)

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._bytes) <= MOST_KEPT and len(self._spare) < 4:
            self._spare.append(self)

    def characters(self, place: int, length: int) -> memoryview:
        """Return the bytes that a kernel wrote at an address, as they are until the next kernel."""
        first = place - self._first
        return self._bytes[first : first + length]


@inlined
def last_word(line_end, rest, level):
    """Return the bits of the last rest < 64 pixels of a line of at least 64, without reading past its end."""
    return shift_right(shift_right(bits_at_least(line_end - 64, level), 63 - rest), 1)


@inlined
def list_edges(word, before, position, edges, count):
    """Append the bits of a word that differ from the bit before them, if any; return the new length of the list.

    The store is unconditional and only the length depends on the data: a branch here would be mispredicted for every
    second word with an edge (6.5 instead of 10.7 us for a plane with some noise). `before` is read from memory again:
    carried over from the word before, it makes LLVM shift two words at once, which is slow (0.9 us of a plane).
    """
    changes = word ^ ((word << 1) + before)
    store64(edges, 2 * count, changes)
    store64(edges, 2 * count + 1, position)
    return count + (changes != 0)


@stage
def list_edges_of_columns(plane, column_step, height, width, level, edges):
    """List the words with an edge of a plane whose columns lie in one piece of at least 64 pixels; return how many."""
    whole, rest = height // 64, height % 64
    count = 0
    for column in range(width):
        line = plane + column * column_step
        position = column * (height + 1)
        count = list_edges(bits_at_least(line, level), 0, position, edges, count)
        for y in range(64, 64 * whole, 64):
            prefetch(line + y + COMPARED_AHEAD, 0)
            before = load8(line, y - 1) >= level
            count = list_edges(bits_at_least(line + y, level), before, position + y, edges, count)
        before = load8(line, 64 * whole - 1) >= level
        count = list_edges(last_word(line + height, rest, level), before, position + 64 * whole, edges, count)
    return count


@stage
def list_edges_of_bits(bits, height, width, edges, ahead):
    """List the words with an edge of a plane that was packed into a bit matrix; return how many, and `ahead`."""
    words = words_per_column(height)
    down = 8 * ((width + 63) // 64)
    step = words_per_row_of_bits(height, width)
    count = 0
    for column in range(width):
        line = bits + 8 * (column % 64 * step + column // 64)
        position = column * (height + 1)
        count = list_edges(load64(line, 0), 0, position, edges, count)
        for place in range(line + down, line + words * down, down):
            prefetch(ahead, 0)
            ahead += 64
            before = load8(place - down, 7) >> 7
            position += 64
            count = list_edges(load64(place, 0), before, position, edges, count)
    return count, ahead


@stage
def pack_rows(plane, row_step, height, width, level, bits):
    """Fill the bit matrix of a plane whose rows lie in one piece of at least 64 pixels.

    Words are made along the rows. Word i of row y goes to row y % 64 of the matrix, to the place that belongs to the
    64x64 block (y // 64, i); then all blocks are transposed together, eight side by side in a vector (Warren, Hacker's
    Delight, 7-3: six stages, each swaps the off-diagonal halves of smaller blocks). Two passes of three stages keep
    eight rows in registers. The transpose costs 1.1 us of a 350x525 plane, all that row order costs is about 4 us.
    """
    across = (width + 63) // 64
    step = words_per_row_of_bits(height, width)
    whole, rest = width // 64, width % 64
    for y in range(height):
        line = plane + y * row_step
        place = bits + 8 * (y % 64 * step + y // 64 * across)
        for index in range(whole):
            store64(place, index, bits_at_least(line + 64 * index, level))
        if rest:
            store64(place, whole, last_word(line + width, rest, level))
    for y in range(height % 64, 64):
        for index in range(across):
            store64(bits, y * step + height // 64 * across + index, 0)
    for place in range(bits, bits + 8 * step, 64):
        for row in range(8):
            transpose_32_16_8(place + 8 * row * step, 64 * step)
        for row in range(0, 64, 8):
            transpose_4_2_1(place + 8 * row * step, 8 * step)


@stage
def pack_pixels(plane, row_step, column_step, height, width, level, bits):
    """Fill the bit matrix of any plane, pixel by pixel."""
    across = (width + 63) // 64
    step = words_per_row_of_bits(height, width)
    for column in range(width):
        place = bits + 8 * (column % 64 * step + column // 64)
        line = plane + column * column_step
        for index in range(words_per_column(height)):
            word = 0
            for y in range(64 * index, min(64 * index + 64, height)):
                word |= (load8(line, y * row_step) >= level) << (y % 64)
            store64(place, index * across, word)


@inlined
def extract_edges(word, position, first, last, runs, n):
    """Write the positions of edges first to last of a word, which begins with the first of these; return the rest."""
    for edge in range(first, last):
        store32(runs, n + edge, position + lowest_bit(word))
        word &= word - 1
    return word


@stage
def extract_runs(edges, count, runs, ahead):
    """Write the positions of all listed edges to `runs`, int32 (start, end) pairs; return the number of runs.

    Four edges are taken from each word whatever it holds, or eight: the place after the last edge is overwritten by
    the next word. Of noisy planes every second word has more than two edges and every seventh more than four, so that
    a branch after two would be mispredicted all the time (3 us of a plane).
    """
    n = 0
    for index in range(count):
        prefetch(ahead, index)
        word = load64(edges, 2 * index)
        position = load64(edges, 2 * index + 1)
        found = bit_count(word)
        word = extract_edges(word, position, 0, 4, runs, n)
        if found > 4:
            word = extract_edges(word, position, 4, 8, runs, n)
            extract_edges(word, position, 8, found, runs, n)
        n += found
    return n // 2


@stage
def find_runs(plane, row_step, column_step, height, width, level, bits, edges, runs, ahead):
    """Write the runs of the pixels at or above the level; return how many there are, and where `ahead` has come to.

    `plane` is the address of the first pixel, steps are in bytes, `bits`, `edges` and `runs` are addresses of scratch.
    `ahead` is where the next plane lies: comparing waits for memory, what comes after it does not, and so asks for the
    next plane meanwhile, line by line (7 of 35 us for a noisy plane that the nearer caches do not hold).
    """
    if row_step == 1 and height >= 64:
        count = list_edges_of_columns(plane, column_step, height, width, level, edges)
    else:
        if column_step == 1 and width >= 64:
            pack_rows(plane, row_step, height, width, level, bits)
        else:
            pack_pixels(plane, row_step, column_step, height, width, level, bits)
        count, ahead = list_edges_of_bits(bits, height, width, edges, ahead)
    return extract_runs(edges, count, runs, ahead), ahead + 64 * count
