"""Where things are in a store: its metadata, its arrays and the files of their shards."""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr
from zarr.codecs import Crc32cCodec

from cloudseg.storage import per_image, shards
from cloudseg.storage.writer_lock import LOCK_FILE

if TYPE_CHECKING:
    from cloudseg.storage.stores import Spec

_ONE_FOLDER = {"name": "default", "separator": "."}
"""How shards of many images are named: `c.7.0.0.0`. Zarr's usual `c/7/0/0/0` takes three folders for each."""


def metadata(specs: "Mapping[str, Spec]", attrs: Mapping[str, Any]) -> dict[str, bytes]:
    """Let Zarr write the metadata of an empty store into memory: file name to content."""
    buffers: dict[str, Any] = {}
    store = zarr.storage.MemoryStore(store_dict=buffers)
    if "" not in specs:
        zarr.create_group(store, attributes=dict(attrs))
    for name, spec in specs.items():
        zarr.create_array(
            store,
            name=name or None,
            shape=spec.shape,
            dtype=spec.dtype,
            chunks=(1, *spec.shape[1:]),
            shards=(spec.shard, *spec.shape[1:]),
            filters=None,
            compressors=[codec_of_spec(spec).zarr],
            fill_value=0,
            dimension_names=spec.dims,
            chunk_key_encoding=_ONE_FOLDER if spec.shape[0] > per_image.FEW else None,
            attributes=dict(attrs) if name == "" else None,
        )
    return {name: buffer.to_bytes() for name, buffer in buffers.items()}


def codec_of_spec(spec: "Spec") -> shards.ChunkCodec:
    """Return how the chunks of an array are to be written."""
    return shards.COMPRESSED if spec.compressed else shards.RAW


def codec_of(array: "zarr.Array") -> shards.ChunkCodec:
    """Return how the chunks of an array were written; before there were raw ones, all were compressed."""
    return shards.RAW if isinstance(array.compressors[0], Crc32cCodec) else shards.COMPRESSED


def arrays(node: "zarr.Array | zarr.Group") -> "dict[str, zarr.Array]":
    """Return the arrays of a store by name, sorted; a store that is one array has the name ``""``."""
    if isinstance(node, zarr.Array):
        return {"": node}
    with warnings.catch_warnings():  # Snakemake leaves a time stamp in each folder that a job made
        others = rf"\.snakemake_timestamp|\{LOCK_FILE}|{per_image.FILE}"
        warnings.filterwarnings("ignore", message=f"Object at ({others})")
        found = {name: item for name, item in node.members(max_depth=None) if isinstance(item, zarr.Array)}
    return dict(sorted(found.items()))


def documents(store: Path, name: str = "") -> dict[str, Any]:
    """Read the metadata of a group and of all in it, or of one array: name to content of its ``zarr.json``."""
    document = json.loads((store / name / "zarr.json").read_bytes())
    found = {name: document}
    if document["node_type"] == "group":
        for file in sorted((store / name).glob("*/zarr.json")):
            found |= documents(store, file.parent.relative_to(store).as_posix())
    return found


def guarded(documents: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the metadata the attribute ``complete`` is a digest of.

    Raw chunks are told as compressed ones, so that the same images have the same digest either way: trainings and
    predictions are known by it.
    """
    return {name: _as_if_compressed(document) for name, document in documents.items()}


def _as_if_compressed(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if document["node_type"] != "array":
        return document
    [sharding] = document["codecs"]
    raw, compressed = shards.RAW.zarr.to_dict(), shards.COMPRESSED.zarr.to_dict()
    inner = [compressed if codec == raw else codec for codec in sharding["configuration"]["codecs"]]
    return {**document, "codecs": [{**sharding, "configuration": {**sharding["configuration"], "codecs": inner}}]}


def shard_count(n_images: int, per_shard: int) -> int:
    """Return how many shards a number of images takes."""
    return -(-n_images // per_shard)


def shard_file(array: "zarr.Array", shard: int) -> Path:
    """Return the file of a shard, numbered from 0."""
    key = array.metadata.encode_chunk_key((shard, *(0,) * (array.ndim - 1)))
    return array.store.root / array.path / key


def shard_files(array: "zarr.Array") -> Iterator[Path]:
    """Yield the files of all shards, in order."""
    return (shard_file(array, shard) for shard in range(shard_count(array.shape[0], array.shards[0])))
