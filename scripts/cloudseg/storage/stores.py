"""The contract of every Zarr store of the project, in one place.

A store is a Zarr v3 folder: one array, or a group of arrays, whose first axis counts images. Each image is
one chunk, compressed by zstd with its checksum; chunks lie in shards (one file each) of about 32 MiB of raw
pixels, so a writer needs memory for one shard at a time whatever the number of images. Only codecs of the
Zarr v3 specification are used, so any Zarr reader opens these stores.

Zarr makes and reads the metadata. The shards are written and read here, following the specification of
``sharding_indexed`` (chunks one after another, then a table of their offsets and lengths, then its CRC-32C),
for three reasons that were measured: a random image costs 0.7 ms instead of 2.4, an error can name the file
and the image, and a chunk that is absent is an error where Zarr returns zeros.

A store is written in ``<path>.part`` and renamed when whole; ``complete`` and the count of shard files are
the last things set. ``complete`` is a digest of the metadata of the group and its arrays, which no codec guards;
stores from before that say ``true``. :func:`check` believes nothing else. Each shard is on the disk before it has its
name, and all of them before ``complete`` is set, so a power cut leaves no store that only looks whole.

The ``.part`` also says what made it (``made_with``: the number of the code, versions of libraries). A writer goes on
only with a ``.part`` that it could have begun itself. The finished store does not say it, so that a newer library
makes no store stale. A lock in the ``.part`` keeps a second process from writing the same store.
"""

import contextlib
import datetime
import fcntl
import json
import os
import platform
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import google_crc32c
import numcodecs
import numpy as np
import zarr
from numcodecs.zstd import Zstd
from zarr.codecs import ZstdCodec

from cloudseg.commands import command
from cloudseg.errors import StoreError
from cloudseg.storage.files import advice, atomic, digest, make_folder, sync

SHARD_BYTES = 32 * 2**20
"""Raw bytes that a shard holds at most (but always one image)."""

_LEVEL = 3
_ZSTD = Zstd(level=_LEVEL, checksum=True)
_ABSENT = np.uint64(2**64 - 1)  # the specification's offset and length of a chunk that is not there
_CRC_BYTES = 4
_LOCK = ".writer"  # in a `.part`: locked by the process that writes it, and says which one that is


@dataclass(frozen=True)
class Spec:
    """Describe one array of a store.

    Parameters
    ----------
    shape : sizes of all axes; the first counts images and alone may be 0.
    dtype : NumPy name of the type of its values, such as ``"uint8"``.
    dims : one name per axis, kept as the array's ``dimension_names``.

    Raises
    ------
    ValueError : if ``shape`` and ``dims`` differ in length, there is no axis, or an image has no values.
    """

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be stored."""
        if not self.shape or len(self.shape) != len(self.dims) or min(self.shape[1:], default=1) < 1:
            raise ValueError(
                "an array needs a name for each axis and at least one value per image; "
                f"got the shape {self.shape} and the names {self.dims}"
            )

    @property
    def shard(self) -> int:
        """Images in a shard, the last one excepted, which holds the rest."""
        image_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize
        return max(1, min(self.shape[0], SHARD_BYTES // image_bytes))


class Writer:
    """Write a store by whole shards, going on where a killed writer stopped.

    Parameters
    ----------
    path : where the finished store will be; the work is done in ``<path>.part``.
    arrays : name to :class:`Spec`. The name ``""`` alone makes the store one array; other names, such as
        ``"train/image"``, make a group.
    attrs : plain values kept as the attributes of the store. A ``.part`` that holds other arrays or other
        attributes is removed, so whatever decides the content (a digest of the inputs) belongs here.
    made_with : what else decides the bytes, as :func:`made_with` lists it. A ``.part`` that was made with anything else
        is removed, too; the finished store does not keep it.
    threads : images that are compressed at the same time within a shard. It does not change a byte.

    Raises
    ------
    StoreError : if another process is writing this store; it says which one.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name, "a.zarr")
    >>> writer = Writer(path, {"": Spec((5, 2, 3), "uint8", ("image", "y", "x"))}, {"ids": list("abcde")})
    >>> for rows in writer.missing():
    ...     writer.write(rows, np.full((rows.stop - rows.start, 2, 3), 7, "uint8"))
    >>> writer.finish()
    >>> store = read(path)
    >>> store.shape, store.attrs["shards"], int(images(store, slice(4, 5)).sum())
    ((5, 2, 3), 1, 42)
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | Path,
        arrays: Mapping[str, Spec],
        attrs: Mapping[str, Any],
        *,
        made_with: Mapping[str, Any] | None = None,
        threads: int = 1,
    ) -> None:
        if not arrays or ("" in arrays and len(arrays) > 1):
            raise ValueError(f'the arrays of a store are one named "" or several with names; got {sorted(arrays)}')
        if reserved := {"complete", "shards", "made_with"} & set(attrs):
            raise ValueError(f"the attributes {sorted(reserved)} are the writer's own; choose other names")
        self.path = Path(path)
        self.part = _part_of(self.path)
        self._specs = dict(arrays)
        self._attrs = dict(attrs)
        self._threads = threads
        _lock(self.part)
        metadata = _metadata(self._specs, _attrs_of_part(attrs, made_with))
        # Of a store to go on with, only what a killed writer was writing at that moment
        rejected = self.part.rglob(".*") if _holds(self.part, metadata) else self.part.iterdir()
        for leftover in [each for each in rejected if each.name != _LOCK]:
            _remove(leftover)
        if not (self.part / "zarr.json").exists():
            for name, content in metadata.items():
                with atomic(self.part / name) as temporary:
                    temporary.write_bytes(content)
        self._arrays = _arrays(zarr.open(self.part, mode="r"))
        self._lock = threading.Lock()
        self._written: set[tuple[str, int]] = set()

    def missing(self, name: str = "") -> list[slice]:
        """List the image ranges, one per shard, that are not yet safely written.

        A shard file left by an earlier writer counts only if all its images read back (one pass over it).

        Parameters
        ----------
        name : the array, as named in ``arrays``.

        Returns
        -------
        list of slice : ranges along the first axis, in order; empty when the array is whole.
        """
        spec, array = self._specs[name], self._arrays[name]
        ranges = []
        for shard in range(_shards(spec.shape[0], spec.shard)):
            rows = slice(shard * spec.shard, min((shard + 1) * spec.shard, spec.shape[0]))
            if (name, shard) not in self._written and not _reads_back(array, rows):
                ranges.append(rows)
            else:
                self._written.add((name, shard))
        return ranges

    def write(self, images: slice, block: np.ndarray, name: str = "") -> None:
        """Write one whole shard; distinct shards may be written from several threads at once.

        Parameters
        ----------
        images : one of the ranges that :meth:`missing` lists.
        block : the values of these images, of exactly the array's dtype and shape.
        name : the array, as named in ``arrays``.

        Raises
        ------
        ValueError : if the range is not a whole shard, or ``block`` has another shape or dtype.
        """
        spec = self._specs[name]
        label = name or "the array"
        shard, rest = divmod(images.start, spec.shard)
        stop = min(images.start + spec.shard, spec.shape[0])
        if rest or images.stop != stop or images.step not in (None, 1):
            raise ValueError(f"{self.path}: {label} is written by whole shards of {spec.shard} images; got {images}")
        expected = (stop - images.start, *spec.shape[1:])
        if block.shape != expected or block.dtype != np.dtype(spec.dtype):
            raise ValueError(
                f"{self.path}: images {images.start} to {stop - 1} of {label} need {spec.dtype} {expected}; "
                f"got {block.dtype} {block.shape}"
            )
        with atomic(_shard_file(self._arrays[name], shard)) as temporary, temporary.open("wb") as file:
            _encode(block, spec.shard, file, self._threads)
        with self._lock:
            self._written.add((name, shard))

    def finish(self) -> None:
        """Make the store believable and put it in place of ``path``, whatever was there.

        Raises
        ------
        StoreError : if a shard is missing; the ``.part`` stays, for the next writer to go on.
        """
        shards = 0
        for name, spec in self._specs.items():
            if ranges := self.missing(name):
                lines = ", ".join(f"{rows.start} to {rows.stop - 1}" for rows in ranges[:5])
                raise StoreError(f"{self.part}: {name or 'the array'} lacks images {lines}; write them first")
            shards += _shards(spec.shape[0], spec.shard)
        for folder, _, _ in os.walk(self.part):  # names that a killed writer gave may not be on the disk yet
            sync(folder)
        _remove(self.path)
        documents = _documents(self.part)
        root = documents[""]
        root["attributes"] = {**self._attrs, "shards": shards}
        root["attributes"]["complete"] = digest(documents)
        with atomic(self.part / "zarr.json") as temporary:
            temporary.write_text(json.dumps(root, indent=2), encoding="utf-8")
        (self.part / _LOCK).unlink(missing_ok=True)
        self.part.replace(self.path)
        sync(self.path.parent)
        _unlock(self.part)


def made_with(code: int, *modules: Any) -> dict[str, Any]:
    """Return what made the bytes of a store besides its inputs and settings.

    Parameters
    ----------
    code : the number in ``CODE`` of the rule.
    modules : the libraries whose versions can change the bytes, imported.

    Examples
    --------
    >>> sorted(made_with(1, np, zarr))
    ['code', 'numpy', 'zarr']
    """
    return {"code": code} | {module.__name__: str(module.__version__) for module in modules}


def begun(path: str | Path, attrs: Mapping[str, Any], made_with: Mapping[str, Any] | None = None) -> bool:
    """Return whether a stopped :class:`Writer` of these attributes left a ``.part`` for the next one to go on with."""
    try:
        found = json.loads((_part_of(Path(path)) / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return found == json.loads(json.dumps(_attrs_of_part(attrs, made_with)))


def check(path: str | Path) -> None:
    """Raise unless the store exists, is complete, says of itself what its writer wrote and has all its shard files.

    This reads the metadata and looks at each file's name. :func:`verify` reads every byte.

    Parameters
    ----------
    path : the folder of the store.

    Raises
    ------
    StoreError : naming the file that is absent or unreadable, and what to do.
    """
    _open(Path(path))


def read(path: str | Path) -> "zarr.Array | zarr.Group":
    """Check a store as :func:`check` does and open it for reading.

    Read images with :func:`images`: Zarr's own indexing works too, but it is slower and takes a shard that
    vanished after this check for zeros.

    Parameters
    ----------
    path : the folder of the store.

    Returns
    -------
    zarr.Array or zarr.Group, read-only.

    Raises
    ------
    StoreError : as :func:`check`.
    """
    return _open(Path(path))


def images(array_or_path: "zarr.Array | str | Path", rows: slice) -> np.ndarray:
    """Read some images of one array of a store.

    Safe in threads, which decode in parallel, and in forked or spawned workers.

    Parameters
    ----------
    array_or_path : an array out of :func:`read`, or the path of a store that is one array (which is
        checked and opened at each call).
    rows : range along the first axis, without a step; bounds as in any Python slice.

    Returns
    -------
    ndarray : shape ``(rows, ...)``, the array's dtype.

    Raises
    ------
    StoreError : naming the shard file and the image that is absent or fails its checksum.
    ValueError : if ``rows`` has a step, or the path is that of a group.
    """
    array = array_or_path if isinstance(array_or_path, zarr.Array) else read(array_or_path)
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{array_or_path} is a group; open it with read() and choose one of its arrays")
    start, stop, step = rows.indices(array.shape[0])
    if step != 1:
        raise ValueError(f"images are read in ranges without a step; got {rows}")
    block = np.empty((max(0, stop - start), *array.shape[1:]), array.dtype.newbyteorder("<"))
    per_shard = array.shards[0]
    for first in range(start - start % per_shard, stop, per_shard):
        own = slice(max(start, first), min(stop, first + per_shard))
        _decode(array, own, block[own.start - start : own.stop - start])
    return block


def verify(path: str | Path) -> None:
    """Read every chunk of a store, which finds flipped bytes.

    Parameters
    ----------
    path : the folder of the store.

    Raises
    ------
    StoreError : naming the first file and image that cannot be read.
    """
    for array in _arrays(_open(Path(path))).values():
        for index in range(array.shape[0]):
            images(array, slice(index, index + 1))


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _attrs_of_part(attrs: Mapping[str, Any], made_with: Mapping[str, Any] | None) -> dict[str, Any]:
    # The codec decides the bytes of every store
    return {**attrs, "made_with": {**(made_with or {}), "numcodecs": numcodecs.__version__}}


_LOCKS: dict[tuple[int, Path], TextIO] = {}  # by process, since a fork copies it: a process may write a store twice


def _lock(part: Path) -> None:
    """Make the folder of a half-written store and lock it for this process, until :func:`_unlock` or its end."""
    if part.exists() and not part.is_dir():
        part.unlink()
    own = _LOCKS.get((os.getpid(), part.absolute()))
    if own is not None and _is_still_at(own, part / _LOCK):
        return
    _unlock(part)
    while True:
        make_folder(part)
        try:
            file = (part / _LOCK).open("a+", encoding="utf-8")
        except FileNotFoundError:  # the other writer has just finished: it renamed the folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "another process"
            file.close()
            raise StoreError(
                f"{part}: {who} is writing this store; let it finish, or end it, then type the same command again"
            ) from None
        except OSError:  # a file system without locks
            pass
        if _is_still_at(file, part / _LOCK):
            break
        file.close()
    file.truncate(0)
    now = datetime.datetime.now().astimezone()
    file.write(f"process {os.getpid()} on {platform.node()} (since {now:%Y-%m-%d %H:%M})\n")
    file.flush()
    _LOCKS[os.getpid(), part.absolute()] = file


def _is_still_at(file: TextIO, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _unlock(part: Path) -> None:
    if (file := _LOCKS.pop((os.getpid(), part.absolute()), None)) is not None:
        file.close()


def _metadata(specs: Mapping[str, Spec], attrs: Mapping[str, Any]) -> dict[str, bytes]:
    """Let Zarr write the metadata of an empty store into memory: file name to content."""
    kept: dict[str, Any] = {}
    store = zarr.storage.MemoryStore(store_dict=kept)
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
            compressors=[ZstdCodec(level=_LEVEL, checksum=True)],
            fill_value=0,
            dimension_names=spec.dims,
            attributes=dict(attrs) if name == "" else None,
        )
    return {name: buffer.to_bytes() for name, buffer in kept.items()}


def _holds(part: Path, metadata: Mapping[str, bytes]) -> bool:
    """Whether ``part`` is a store begun with exactly this metadata."""
    if not part.is_dir():
        return False
    found = {file.relative_to(part).as_posix(): file.read_bytes() for file in part.rglob("zarr.json")}
    return found == metadata


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _open(path: Path) -> "zarr.Array | zarr.Group":
    if not (path / "zarr.json").is_file():
        raise StoreError(f"{path}: no store there (it has no zarr.json); to have it made, type: {command()}")
    try:
        documents = _documents(path)
        node = zarr.open(path, mode="r")
        arrays = _arrays(node)
        complete = documents[""]["attributes"].pop("complete", None)
        changed = complete is not True and complete != digest(documents)
    except Exception as error:  # JSON, Zarr and its codecs each have their own
        raise _damaged(path, f"its metadata cannot be read ({error})") from error
    if not (complete is True or isinstance(complete, str)):
        raise _damaged(path, "not complete, its writer was stopped")
    files = [file for array in arrays.values() for file in _shard_files(array)]
    for file in files:
        if not file.is_file():
            raise _damaged(file, "this shard is missing")
    if node.attrs.get("shards") != len(files):
        reason = f"{node.attrs.get('shards')} shards were written, but its arrays have {len(files)}"
        raise _damaged(path, reason)
    if changed:
        raise _damaged(path, "a zarr.json in it is not the one that was written")
    return node


def _damaged(file: Path, reason: str) -> StoreError:
    return StoreError(f"{file}: {reason}; {advice()}")


def _arrays(node: "zarr.Array | zarr.Group") -> "dict[str, zarr.Array]":
    if isinstance(node, zarr.Array):
        return {"": node}
    with warnings.catch_warnings():  # Snakemake leaves a time stamp in each folder that a job made
        warnings.filterwarnings("ignore", message=rf"Object at \.snakemake_timestamp|Object at \{_LOCK}")
        found = {name: item for name, item in node.members(max_depth=None) if isinstance(item, zarr.Array)}
    return dict(sorted(found.items()))


def _documents(store: Path, name: str = "") -> dict[str, Any]:
    """Read the metadata of a group and of all in it, or of one array: name to content of its ``zarr.json``."""
    document = json.loads((store / name / "zarr.json").read_bytes())
    documents = {name: document}
    if document["node_type"] == "group":
        for file in sorted((store / name).glob("*/zarr.json")):
            documents |= _documents(store, file.parent.relative_to(store).as_posix())
    return documents


def _shards(count: int, per_shard: int) -> int:
    return -(-count // per_shard)


def _shard_file(array: "zarr.Array", shard: int) -> Path:
    key = array.metadata.encode_chunk_key((shard, *(0,) * (array.ndim - 1)))
    return array.store.root / array.path / key


def _shard_files(array: "zarr.Array") -> Iterator[Path]:
    return (_shard_file(array, shard) for shard in range(_shards(array.shape[0], array.shards[0])))


def _encode(block: np.ndarray, per_shard: int, file: BinaryIO, threads: int) -> None:
    """Write a shard as ``sharding_indexed`` with its index at the end; rows past the block are absent."""
    block = block.astype(block.dtype.newbyteorder("<"), copy=False)
    index = np.full((per_shard, 2), _ABSENT, "<u8")
    offset = 0
    with ThreadPoolExecutor(threads) as pool:
        chunks = pool.map(lambda image: _ZSTD.encode(np.ascontiguousarray(image)), block)
        for row, chunk in enumerate(chunks):
            file.write(chunk)
            index[row] = offset, len(chunk)
            offset += len(chunk)
    table = index.tobytes()
    file.write(table + google_crc32c.value(table).to_bytes(_CRC_BYTES, "little"))


def _decode(array: "zarr.Array", rows: slice, out: np.ndarray) -> None:
    """Read the images ``rows``, all in one shard, into ``out``."""
    per_shard = array.shards[0]
    path = _shard_file(array, rows.start // per_shard)
    image = rows.start
    try:
        with path.open("rb") as file:
            table_bytes = 16 * per_shard
            file.seek(-table_bytes - _CRC_BYTES, os.SEEK_END)
            table = file.read(table_bytes)
            if google_crc32c.value(table) != int.from_bytes(file.read(_CRC_BYTES), "little"):
                raise RuntimeError("the table of its chunks fails its checksum")
            index = np.frombuffer(table, "<u8").reshape(per_shard, 2)
            for image in range(rows.start, rows.stop):
                offset, length = index[image % per_shard]
                if offset == _ABSENT:
                    raise RuntimeError("it has no such chunk")
                file.seek(int(offset))
                _ZSTD.decode(file.read(int(length)), out=out[image - rows.start : image - rows.start + 1])
    except (OSError, RuntimeError, ValueError) as error:
        raise _damaged(path, f"image {image} cannot be read ({error})") from error


def _reads_back(array: "zarr.Array", rows: slice) -> bool:
    if not _shard_file(array, rows.start // array.shards[0]).is_file():
        return False
    try:
        for index in range(rows.start, rows.stop):
            images(array, slice(index, index + 1))
    except StoreError:
        return False
    return True
