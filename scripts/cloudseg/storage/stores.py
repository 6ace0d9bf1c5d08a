"""The contract of every Zarr store of the project, in one place.

A store is a Zarr v3 folder: one array, or a group of arrays, whose first axis counts images. Each image is
one chunk with a checksum, compressed by zstd or, of pixels, as it is; chunks lie in shards (one file each) of
about 32 MiB of raw pixels, so a writer needs memory for one shard at a time whatever the number of images. Only
codecs of the Zarr v3 specification are used, so any Zarr reader opens these stores.

Zarr makes and reads the metadata; :mod:`cloudseg.storage.shards` writes and reads the shards, following the same
specification.

A store is written in ``<path>.part`` and renamed when whole; ``complete`` and the count of shard files are
the last attributes set. ``complete`` is a digest of the metadata of the group and its arrays, which no codec guards
(``true`` in older stores); without it :func:`check` refuses a store. Each shard is synced to the disk before it gets
its name, and all of them before ``complete`` is set, so a power cut leaves no store that only looks whole.

The ``.part`` also records what made it (``made_with``: the number of the code, versions of libraries). A writer
resumes only a ``.part`` that it could have begun itself. The finished store leaves ``made_with`` out, so that a newer
library makes no store stale. A lock in the ``.part`` keeps a second process from writing the same store.

Where the names of the images are, :mod:`cloudseg.storage.per_image` says.
"""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr

from cloudseg.commands import command
from cloudseg.errors import StoreError
from cloudseg.storage import layout, per_image, shards, writer_lock
from cloudseg.storage.files import atomic, damaged, digest, remove, sync
from cloudseg.storage.some_images import pieces

SHARD_BYTES = 32 * 2**20
"""Raw bytes that a shard holds at most; a larger image has a shard of its own."""


@dataclass(frozen=True)
class Spec:
    """Describe one array of a store.

    Parameters
    ----------
    shape : sizes of all axes; the first counts images and alone may be 0.
    dtype : NumPy name of the type of its values, such as ``"uint8"``.
    dims : one name per axis, kept as the array's ``dimension_names``.
    most : images in a shard at most, however small they are. What is made together with larger arrays takes their
        ``shard``, so that a killed writer leaves as much of it as of them.
    compressed : whether an image is compressed by zstd. Photographs shrink to no less than 0.8 of their bytes, and to
        read one then takes seven times as long.

    Raises
    ------
    ValueError : if ``shape`` and ``dims`` differ in length, there is no axis, or an image has no values.
    """

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    most: int | None = None
    compressed: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be stored."""
        if not self.shape or len(self.shape) != len(self.dims) or min(self.shape[1:], default=1) < 1:
            raise ValueError(
                "expected one name per axis and at least one value per image, "
                f"got shape {self.shape} and names {self.dims}"
            )

    @property
    def shard(self) -> int:
        """Images in a shard, the last one excepted, which holds the rest."""
        image_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize
        return max(1, min(self.shape[0], SHARD_BYTES // image_bytes, self.most or self.shape[0]))


class Writer:
    """Write a store by whole shards, going on where a killed writer stopped.

    Parameters
    ----------
    path : where the finished store will be; the work is done in ``<path>.part``.
    arrays : name to :class:`Spec`. The name ``""`` alone makes the store one array; other names, such as
        ``"train/image"``, make a group.
    attrs : plain values kept as the attributes of the store. A ``.part`` that holds other arrays or other
        attributes is removed, so whatever decides the content (a digest of the inputs) belongs here. ``ids`` are the
        names of the images, ``fold`` is one of each.
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
    >>> store.shape, store.attrs["shards"], int(read_images(store, slice(4, 5)).sum())
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
            raise ValueError(f'arrays: expected one named "" or several with other names, got {sorted(arrays)}')
        if reserved := {"complete", "shards", "made_with"} & set(attrs):
            raise ValueError(f"the attributes {sorted(reserved)} are the writer's own; choose other names")
        self.path = Path(path)
        self.part = _part_of(self.path)
        self._specs = dict(arrays)
        self._attrs = per_image.attributes(attrs)
        self._threads = threads
        writer_lock.lock(self.part)
        metadata = layout.metadata(self._specs, _attrs_of_part(self._attrs, made_with))
        # Temporary files of a killed writer, or the whole part if this writer cannot resume it
        rejected = self.part.rglob(".*") if _holds(self.part, metadata) else self.part.iterdir()
        for leftover in [each for each in rejected if each.name != writer_lock.LOCK_FILE]:
            remove(leftover)
        if not (self.part / "zarr.json").exists():
            if isinstance(self._attrs.get("ids"), dict):
                per_image.write_ids(attrs["ids"], self.part)
            for name, content in metadata.items():
                with atomic(self.part / name) as temporary:
                    temporary.write_bytes(content)
        self._arrays = layout.arrays(zarr.open(self.part, mode="r"))
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
        for shard in range(layout.shard_count(spec.shape[0], spec.shard)):
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
            raise ValueError(f"{self.path}: {label}: expected a whole shard of {spec.shard} images, got {images}")
        expected = (stop - images.start, *spec.shape[1:])
        if block.shape != expected or block.dtype != np.dtype(spec.dtype):
            raise ValueError(
                f"{self.path}: images {images.start} to {stop - 1} of {label}: expected {spec.dtype} {expected}, "
                f"got {block.dtype} {block.shape}"
            )
        with atomic(layout.shard_file(self._arrays[name], shard)) as temporary, temporary.open("wb") as file:
            shards.write_shard(block, spec.shard, file, self._threads, layout.codec_of_spec(spec))
        with self._lock:
            self._written.add((name, shard))

    def finish(self) -> None:
        """Mark the store as complete and move it to ``path``, replacing what is there.

        Raises
        ------
        StoreError : if a shard is missing; the ``.part`` stays, for the next writer to go on.
        """
        written = 0
        for name, spec in self._specs.items():
            if ranges := self.missing(name):
                missing = ", ".join(f"{rows.start} to {rows.stop - 1}" for rows in ranges[:5])
                raise StoreError(f"{self.part}: {name or 'the array'} lacks images {missing}; write them first")
            written += layout.shard_count(spec.shape[0], spec.shard)
        for folder, _, _ in os.walk(self.part):  # a killed writer may have renamed shards without a sync
            sync(folder)
        remove(self.path)
        documents = layout.documents(self.part)
        root = documents[""]
        root["attributes"] = {**self._attrs, "shards": written}
        root["attributes"]["complete"] = digest(layout.guarded(documents))
        with atomic(self.part / "zarr.json") as temporary:
            temporary.write_text(json.dumps(root, indent=2), encoding="utf-8")
        (self.part / writer_lock.LOCK_FILE).unlink(missing_ok=True)
        self.part.replace(self.path)
        sync(self.path.parent)
        writer_lock.unlock(self.part)


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
    """Return whether a stopped :class:`Writer` of these attributes left a ``.part`` that the next one resumes."""
    try:
        found = json.loads((_part_of(Path(path)) / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return found == json.loads(json.dumps(_attrs_of_part(per_image.attributes(attrs), made_with)))


def check(path: str | Path) -> None:
    """Raise unless the store exists, is complete, has the metadata that its writer wrote and all its shard files.

    Only metadata and file names are read. :func:`verify` reads every byte.

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

    Read images with :func:`read_images`: Zarr's own indexing works too, but it is slower and takes a shard that
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


def read_images(array_or_path: "zarr.Array | str | Path", rows: slice) -> np.ndarray:
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
        raise ValueError(f"rows: expected a range without a step, got {rows}")
    block = np.empty((max(0, stop - start), *array.shape[1:]), array.dtype.newbyteorder("<"))
    per_shard, codec = array.shards[0], layout.codec_of(array)
    if start >= stop:
        return block
    for first in range(start - start % per_shard, stop, per_shard):
        own = range(max(start, first), min(stop, first + per_shard))
        file = layout.shard_file(array, own.start // per_shard)
        shards.read_shard(file, per_shard, own, block, range(own.start - start, own.stop - start), codec)
    return block


def verify(path: str | Path) -> None:
    """Read every chunk of a store, and the names of its images, which finds flipped bytes.

    Parameters
    ----------
    path : the folder of the store.

    Raises
    ------
    StoreError : naming the first file and image that cannot be read.
    """
    if per_image.has_file(node := _open(Path(path))):
        per_image.ids(node)
    for array in layout.arrays(node).values():
        for rows in pieces(array):
            read_images(array, rows)


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _attrs_of_part(attrs: Mapping[str, Any], made_with: Mapping[str, Any] | None) -> dict[str, Any]:
    # The version of the codec, which decides the bytes of every store, always counts
    return {**attrs, "made_with": {**(made_with or {}), "numcodecs": numcodecs.__version__}}


def _holds(part: Path, metadata: Mapping[str, bytes]) -> bool:
    """Whether ``part`` is a store begun with exactly this metadata."""
    if not part.is_dir():
        return False
    found = {file.relative_to(part).as_posix(): file.read_bytes() for file in part.rglob("zarr.json")}
    return found == metadata


def _open(path: Path) -> "zarr.Array | zarr.Group":
    if not (path / "zarr.json").is_file():
        raise StoreError(f"{path}: no store there (it has no zarr.json); to have it made, type: {command()}")
    try:
        documents = layout.documents(path)
        node = zarr.open(path, mode="r")
        arrays = layout.arrays(node)
        complete = documents[""]["attributes"].pop("complete", None)
        changed = complete is not True and complete != digest(layout.guarded(documents))
    except Exception as error:  # JSON, Zarr and its codecs each raise their own classes
        raise damaged(path, f"its metadata cannot be read ({error})", StoreError) from error
    if not (complete is True or isinstance(complete, str)):
        raise damaged(path, "not complete, its writer was stopped", StoreError)
    files = [file for array in arrays.values() for file in layout.shard_files(array)]
    for file in files:
        if not file.is_file():
            raise damaged(file, "this shard is missing", StoreError)
    if per_image.has_file(node) and not (path / per_image.FILE).is_file():
        raise damaged(path / per_image.FILE, "the names of the images are missing", StoreError)
    if node.attrs.get("shards") != len(files):
        reason = f"expected {node.attrs.get('shards')} shards, got {len(files)} in its arrays"
        raise damaged(path, reason, StoreError)
    if changed:
        raise damaged(path, "a zarr.json in it is not the one that was written", StoreError)
    return node


def _reads_back(array: "zarr.Array", rows: slice) -> bool:
    if not layout.shard_file(array, rows.start // array.shards[0]).is_file():
        return False
    try:
        for piece in pieces(array, rows):
            read_images(array, piece)
    except StoreError:
        return False
    return True
