"""Read some images of an array at a time: in pieces of so many bytes, or in any order."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cloudseg.storage import layout, shards

if TYPE_CHECKING:
    import zarr

READ_BYTES = 4 * 2**20
"""Raw bytes that are read at once where they are only looked at; a larger image is read alone."""


def pieces(array: "zarr.Array", rows: slice = slice(None), *, most: int | None = None) -> Iterator[slice]:
    """Yield ranges of the images of an array, of at most so many bytes each but of one image at least.

    Parameters
    ----------
    array : of a store.
    rows : of its images, without a step.
    most : bytes; None is `READ_BYTES`.
    """
    first, stop, _ = rows.indices(array.shape[0])
    step = max(1, (most or READ_BYTES) // (math.prod(array.shape[1:]) * array.dtype.itemsize))
    for start in range(first, stop, step):
        yield slice(start, min(start + step, stop))


def read_rows(array: "zarr.Array", rows: Sequence[int]) -> np.ndarray:
    """Read images of one array of a store in any order; each of its shards is opened once.

    A shard begins with a table of its images, which takes longer to read than a small image does.

    Parameters
    ----------
    array : of a store.
    rows : numbers of images, from 0; one may be there twice.

    Returns
    -------
    ndarray : shape ``(rows, ...)``, the array's dtype.

    Raises
    ------
    StoreError : naming the shard file and the image that is absent or fails its checksum.
    IndexError : for a number that is none of an image.
    """
    numbers = np.asarray(rows, np.int64)
    if strange := numbers[(numbers < 0) | (numbers >= array.shape[0])].tolist():
        raise IndexError(f"rows: expected numbers of {array.shape[0]} images, got {strange[0]}")
    block = np.empty((len(numbers), *array.shape[1:]), array.dtype.newbyteorder("<"))
    per_shard, codec = array.shards[0], layout.codec_of(array)
    shard_of = numbers // per_shard
    for shard in np.unique(shard_of).tolist():
        places = np.flatnonzero(shard_of == shard)
        file = layout.shard_file(array, shard)
        shards.read_shard(file, per_shard, numbers[places].tolist(), block, places.tolist(), codec)
    return block
