"""The weighted mean of several members' probabilities, many pixels at a time.

The mean is limited by how fast memory can be read, and so is the weighted one, nearly. Sharpening is a table of 256
entries per member: processors with AVX-512 VBMI look up 64 pixels at once. Others take the vector square root for a
power of 0.5, what the contest's notebooks do, and look up one pixel after the other for any other power. These ways
may differ where the sum is within 1/1000 of a tie, the mean never.
"""

from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from numbers import Real

import numpy as np

from cloudseg.postprocess.arguments import UINT8, in_order, thread_count
from cloudseg.postprocess.compiling import kernel
from cloudseg.postprocess.intrinsics import (
    average_256,
    average_looked_up,
    can_permute_bytes,
    load8,
    load64,
    store8,
    weighted_average,
    weighted_average_of_roots,
)
from cloudseg.postprocess.runs import address

MOST_SHORT = 256  # as many bytes add up to at most 65,280, which fits 16 bits
BLOCK = 256  # all kernels take multiples of so many pixels
PIXELS_AT_ONCE = 2**18  # per piece of work for a thread; a multiple of BLOCK
# Float sums of sharpened values err by less than this. Added to one half, it makes ties round up, as they should.
SLACK = 2**-12


@kernel
def blend_equal(members, count, first, stop, out):
    """Write the mean of up to 256 members for pixels first to stop, a multiple of 256.

    floor((sum + count / 2) / count) is exact in float32 with one half more in the numerator: the numerator is then at
    least one half away from any multiple of count, which is far more than the error of the product.
    """
    scale = np.float32(1 / count)
    half = np.float32((count // 2 + 0.5) / count)
    for place in range(first, stop, 256):
        average_256(members, count, place, scale, half, out + place)


@kernel
def blend_weighted(members, weights, count, roots, first, stop, out):
    """Write the weighted mean of pixels, or of their square roots, for pixels first to stop, a multiple of 64."""
    half = np.float32(0.5 + SLACK)
    for place in range(first, stop, 64):
        if roots:
            weighted_average_of_roots(members, weights, count, place, half, out + place)
        else:
            weighted_average(members, weights, count, place, half, out + place)


@kernel
def blend_permuted(members, tables, count, half, first, stop, out):
    """Write (sum of the members' table entries + half) >> 16 for pixels first to stop, a multiple of 64."""
    for place in range(first, stop, 64):
        average_looked_up(members, tables, count, place, half, out + place)


@kernel
def blend_looked_up(members, tables, divisor, first, stop, out):
    """Write the sum of the members' table entries over divisor, rounded half up, for pixels first to stop."""
    count = tables.shape[0]
    for place in range(first, stop):
        total = 0.5 * divisor
        for member in range(count):
            total += tables[member, load8(load64(members, member), place)]
        store8(out, place, int(total / divisor + SLACK))


@lru_cache(16)
def byte_tables(shares: tuple[float, ...], sharpen: float) -> np.ndarray:
    """Return what each value of each member adds to the sum, times 2^16, as bytes: low, middle, high (M, 3, 256).

    They begin at a multiple of 64 bytes: vectors that straddle two cache lines made the look-up three times slower.
    """
    values = np.outer(shares, 255 * (np.arange(256) / 255) ** sharpen)
    entries = np.floor(2**16 * values + 0.5).astype("<u4").view(np.uint8).reshape(-1, 256, 4)
    memory = np.empty(len(shares) * 768 + 64, np.uint8)
    first = -address(memory) % 64
    tables = memory[first : first + len(shares) * 768].reshape(-1, 3, 256)
    tables[...] = entries[:, :, :3].swapaxes(1, 2)
    return tables


def writer(count: int, weights: np.ndarray | None, sharpen: float | None) -> Callable[[int, int, int, int], None]:
    """Return the function (addresses, first, stop, out) that blends, by the cheapest way that is exact enough."""
    equal = weights is None or bool((weights == weights[0]).all())
    if sharpen is None and equal and count <= MOST_SHORT:
        return lambda members, first, stop, out: blend_equal(members, count, first, stop, out)
    weights = np.ones(count) if weights is None else weights
    shares = weights / weights.max()
    shares /= shares.sum()
    if sharpen is not None and count <= MOST_SHORT and can_permute_bytes():
        tables = byte_tables(tuple(shares.tolist()), float(sharpen))
        half = 2**15 + count  # each entry errs by up to one half: ties must still round up
        return lambda members, first, stop, out: blend_permuted(members, address(tables), count, half, first, stop, out)
    if sharpen == 0.5 or (sharpen is None and not equal):
        roots = int(sharpen is not None)
        factors = (shares * sqrt(255) if roots else shares).astype(np.float32)
        return lambda members, first, stop, out: blend_weighted(
            members, address(factors), count, roots, first, stop, out
        )
    values = np.arange(256.0) if sharpen is None else 255 * (np.arange(256) / 255) ** sharpen
    tables, divisor = (np.tile(values, (count, 1)), float(count)) if equal else (np.outer(shares, values), 1.0)
    return lambda members, first, stop, out: blend_looked_up(members, tables, divisor, first, stop, out)


def addresses_of(members: Sequence[np.ndarray] | np.ndarray) -> array:
    """Return where each member begins, as int64; an array is asked once, since NumPy takes 1 us for each answer."""
    if isinstance(members, np.ndarray):
        first, step = address(members), members.strides[0]
        return array("q", [first + step * number for number in range(len(members))])
    return array("q", [address(member) for member in members])


def blend_flat(
    members: Sequence[np.ndarray] | np.ndarray,
    write: Callable[[int, int, int, int], None],
    out: np.ndarray,
    threads: int,
) -> None:
    """Blend C-contiguous members into a C-contiguous array."""
    whole = out.size // BLOCK * BLOCK
    addresses = addresses_of(members)
    table, target = addresses.buffer_info()[0], address(out)
    if threads == 1:
        write(table, 0, whole, target)
    else:

        def write_part(first):
            write(table, first, min(first + PIXELS_AT_ONCE, whole), target)

        for _ in in_order(write_part, range(0, whole, PIXELS_AT_ONCE), threads):
            pass
    rest = out.size - whole
    if not rest:
        return
    # The last block once more, to one side, and of these only the rest: nothing is read past the end of an array,
    # and nothing twice that was written meanwhile, should `out` be one of the members.
    if not whole:
        padded = np.zeros((len(members), BLOCK), np.uint8)
        for row, member in zip(padded, members, strict=True):
            row[BLOCK - rest :] = member.reshape(-1)
        addresses = addresses_of(padded)
        table = addresses.buffer_info()[0]
    first = max(out.size - BLOCK, 0)
    last = array("B", bytes(BLOCK))
    write(table, first, first + BLOCK, last.buffer_info()[0] - first)
    out.reshape(-1)[whole:] = last[BLOCK - rest :]


def blend(
    members: Sequence[np.ndarray] | np.ndarray,
    /,
    weights: Sequence[float] | None = None,
    sharpen: float | None = None,
    out: np.ndarray | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """Average the members' probabilities.

    Parameters
    ----------
    members : sequence of uint8 arrays of one shape, or one uint8 array with the members first; 255 is certainty.
    weights : one per member, finite, not negative, not all zero; None is equal weights.
    sharpen : power above 0 to which each probability is raised before it is averaged (the contest's temperature
        sharpening is 0.5); None averages the probabilities as they are.
    out : uint8 array of the members' shape to write to; None makes one.
    threads : how many threads; None is one. The result does not depend on it.

    Returns
    -------
    uint8 array of the members' shape: floor(255 x + 0.5) of the weighted mean x; exact for equal weights, within one
    level of the rational result otherwise.

    Examples
    --------
    >>> blend([np.array([10, 255], np.uint8), np.array([11, 255], np.uint8)])
    array([ 11, 255], dtype=uint8)
    """
    stacked = isinstance(members, np.ndarray) and members.ndim > 0
    members = members if stacked else list(members)
    different = members[:1] if stacked else members  # members of one array differ in nothing but their place
    check_members(different)
    weights = None if weights is None else weights_of(weights, len(members))
    if sharpen is not None:
        if not isinstance(sharpen, Real):
            raise TypeError(f"sharpen: expected a number above 0, got {sharpen!r}")
        if not 0 < sharpen < float("inf"):
            raise ValueError(f"sharpen: expected a finite number above 0, got {sharpen!r}")
    out = np.empty_like(members[0]) if out is None else out_of(out, members[0].shape)
    threads = thread_count(threads)
    if weights is not None and not weights.all():
        members = different = [member for member, weight in zip(members, weights, strict=True) if weight > 0]
        weights = weights[weights > 0]
    write = writer(len(members), weights, sharpen)
    if all(each.flags.c_contiguous for each in (*different, out)):
        blend_flat(members, write, out, threads)
        return out
    # Other memory orders: as the first member lies, so that planes in column order need no copy.
    axes = sorted(range(out.ndim), key=lambda axis: -abs(members[0].strides[axis]))
    target = out.transpose(axes)
    blended = target if target.flags.c_contiguous else np.empty(target.shape, np.uint8)
    blend_flat([np.ascontiguousarray(member.transpose(axes)) for member in members], write, blended, threads)
    if blended is not target:
        target[...] = blended
    return out


def check_members(members: Sequence[np.ndarray]) -> None:
    """Raise unless there are members, uint8 arrays of one shape."""
    if not len(members):
        raise ValueError("members: expected at least one array, got none")
    for number, member in enumerate(members):
        if not isinstance(member, np.ndarray):
            raise TypeError(f"members[{number}]: expected a NumPy array of uint8, got {type(member).__name__}")
        if member.dtype != UINT8:
            raise TypeError(f"members[{number}]: expected dtype uint8, got {member.dtype}")
        if member.shape != members[0].shape:
            raise ValueError(f"members[{number}]: expected shape {members[0].shape} of the first, got {member.shape}")


def weights_of(weights: Sequence[float], count: int) -> np.ndarray:
    """Return the members' weights as float64."""
    weights = np.array([float(weight) for weight in weights])
    if len(weights) != count:
        raise ValueError(f"weights: expected {count}, one per member, got {len(weights)}")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise ValueError(f"weights: expected finite numbers of at least 0, not all 0, got {weights.tolist()}")
    return weights


def out_of(out: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array to write to, if it can take the result."""
    if not isinstance(out, np.ndarray) or out.dtype != UINT8:
        raise TypeError(f"out: expected a NumPy array of uint8, got {getattr(out, 'dtype', type(out).__name__)}")
    if out.shape != shape:
        raise ValueError(f"out: expected shape {shape} of the members, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out: expected an array that can be written, got a read-only one")
    return out
