"""The codec of one shard file, as the Zarr v3 specification of ``sharding_indexed`` has it.

A shard is its chunks, then a table of their offsets and lengths, then the CRC-32C of the table. It is written and read
here and not by Zarr, since a random image then takes 0.7 ms instead of 2.4, an error can name the file and the image,
and a chunk that is absent is an error where Zarr returns zeros.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec

from cloudseg.errors import StoreError
from cloudseg.storage.files import damaged

LEVEL = 3
"""Compression level of zstd."""

_ZSTD = Zstd(level=LEVEL, checksum=True)
_ABSENT = np.uint64(2**64 - 1)  # the specification's offset and length of a chunk that is not there
_CRC_BYTES = 4


class ChunkCodec(NamedTuple):
    """How the values of one image become the bytes of a chunk, with a checksum, and values again."""

    encode: Callable[[np.ndarray], bytes]
    """Of a contiguous array."""
    decode: Callable[[BinaryIO, int, np.ndarray], None]
    """From where a file stands and with the length of the chunk, into a contiguous array; raises for other bytes."""
    zarr: Crc32cCodec | ZstdCodec
    """What Zarr calls it."""


def _encode_raw(values: np.ndarray) -> bytes:
    data = values.tobytes()
    return data + google_crc32c.value(data).to_bytes(_CRC_BYTES, "little")


def _decode_raw(file: BinaryIO, length: int, out: np.ndarray) -> None:
    values = out.reshape(-1).view(np.uint8)
    if length != values.size + _CRC_BYTES:
        raise ValueError(f"expected {values.size + _CRC_BYTES} bytes, got {length}")
    if file.readinto(values) != values.size:
        raise ValueError("the file is cut short")
    if google_crc32c.value(values) != int.from_bytes(file.read(_CRC_BYTES), "little"):
        raise ValueError("the pixels fail their checksum")


COMPRESSED = ChunkCodec(
    encode=_ZSTD.encode,
    decode=lambda file, length, out: _ZSTD.decode(file.read(length), out=out),
    zarr=ZstdCodec(level=LEVEL, checksum=True),
)
RAW = ChunkCodec(encode=_encode_raw, decode=_decode_raw, zarr=Crc32cCodec())


def write_shard(block: np.ndarray, per_shard: int, file: BinaryIO, threads: int, codec: ChunkCodec) -> None:
    """Write the images of one shard, each a chunk.

    Parameters
    ----------
    block : (images, ...), at most ``per_shard`` images; chunks past them are absent.
    per_shard : chunks of a whole shard.
    file : open for writing.
    threads : images that are encoded at the same time; the bytes do not depend on it.
    codec : of the chunks.
    """
    block = block.astype(block.dtype.newbyteorder("<"), copy=False)
    index = np.full((per_shard, 2), _ABSENT, "<u8")
    offset = 0
    with ThreadPoolExecutor(threads) as pool:
        chunks = pool.map(lambda image: codec.encode(np.ascontiguousarray(image)), block)
        for row, chunk in enumerate(chunks):
            file.write(chunk)
            index[row] = offset, len(chunk)
            offset += len(chunk)
    table = index.tobytes()
    file.write(table + google_crc32c.value(table).to_bytes(_CRC_BYTES, "little"))


def read_shard(
    path: Path, per_shard: int, rows: Iterable[int], out: np.ndarray, places: Iterable[int], codec: ChunkCodec
) -> None:
    """Read images of one shard.

    Parameters
    ----------
    path : the shard file.
    per_shard : chunks of a whole shard.
    rows : the images by their numbers in the whole array, one or more, all of them in this shard.
    out : (images, ...), little-endian.
    places : where in it each of the images goes.
    codec : of the chunks.

    Raises
    ------
    StoreError : naming the file and the image that is absent or fails its checksum.
    """
    rows = list(rows)
    image = rows[0]
    try:
        with path.open("rb") as file:
            table_bytes = 16 * per_shard
            file.seek(-table_bytes - _CRC_BYTES, os.SEEK_END)
            table = file.read(table_bytes)
            if google_crc32c.value(table) != int.from_bytes(file.read(_CRC_BYTES), "little"):
                raise RuntimeError("the table of its chunks fails its checksum")
            index = np.frombuffer(table, "<u8").reshape(per_shard, 2)
            for image, place in zip(rows, places, strict=True):
                offset, length = index[image % per_shard]
                if offset == _ABSENT:
                    raise RuntimeError("it has no such chunk")
                file.seek(int(offset))
                codec.decode(file, int(length), out[place : place + 1])
    except (OSError, RuntimeError, ValueError) as error:
        raise damaged(path, f"image {image} cannot be read ({error})", StoreError) from error
