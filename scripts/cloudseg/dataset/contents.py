"""Digests of what a data set holds: jobs run again when its contents change, not when times or paths do."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloudseg.dataset.contest import ContestFolder, Root, Split
from cloudseg.storage.files import digest, sha256, write_text

RACY = 2 * 10**9
"""Nanoseconds after its last change in which a file is not cached: two changes within a clock tick have equal times."""

Known = dict[str, list[int | str]]
"""Path to size, mtime, ctime and inode, and then the digest of the file that had these."""


def digest_contents(root: Root, split: Split, cache: str | Path | None = None) -> str:
    """Return 64 hexadecimal digits that change with the images of a split and their labels, and with nothing else.

    What counts of an image is its name and its bytes, of the table its text without a byte order mark and with
    either line end. Other files do not count. Files that the cache does not know are read, in parallel.

    Parameters
    ----------
    root : a folder in the contest's layout, or one with its own. Files that are missing or cannot be read count as
        such.
    split : ``"train"``, with ``train.csv``, or ``"test"``, with ``sample_submission.csv``.
    cache : file that keeps the digest of each file with its size, times and inode; written where that is possible.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     image = Path(folder, "test_images/a.jpg")
    ...     image.parent.mkdir()
    ...     _ = image.write_bytes(b"a picture")
    ...     before = digest_contents(folder, "test")
    ...     image.touch()
    ...     image.with_name(".DS_Store").touch()
    ...     digest_contents(folder, "test") == before
    True
    """
    folder = ContestFolder.of(root)
    names = folder.list_images(split)
    labels = folder.label_files() if split == "train" else [folder.sample_submission]
    digests = digest_files([*map(str, labels), *(f"{folder.images(split)}/{name}" for name in names)], cache)
    images = dict(zip(map(_shown, names), digests[len(labels) :], strict=True))
    if split == "train" and folder.layout.labels.format == "masks":
        within = (_shown(str(file.relative_to(folder.labels))) for file in labels)
        return digest({"masks": dict(zip(within, digests, strict=False)), "images": images})
    return digest({"table": digests[0], "images": images})


def _shown(name: str) -> str:
    """Return a file name, which need not be valid UTF-8, as text that is."""
    return name.encode(errors="backslashreplace").decode()


def digest_files(files: Sequence[str], cache: str | Path | None = None) -> list[str]:
    """Return the SHA-256 of each file, in order; of a table as if it had plain line ends and no byte order mark.

    Parameters
    ----------
    files : different paths. A file that cannot be read has an empty digest.
    cache : as of :func:`digest_contents`, for these files alone.
    """
    known = _read_cache(cache)
    facts = {file: _facts(file) for file in files}
    unknown = [file for file in files if file not in known or known[file][:-1] != facts[file]]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read = dict(zip(unknown, pool.map(_digest_file, unknown), strict=True))
    digests = {file: read[file] if file in read else known[file][-1] for file in files}
    before = time.time_ns() - RACY
    settled = {
        file: [*facts[file], digests[file]] for file in files if digests[file] and max(facts[file][1:3]) < before
    }
    if settled != known:
        _write_cache(cache, settled)
    return list(digests.values())


def _facts(file: str) -> list[int | str]:
    try:
        stat = os.stat(file)  # noqa: PTH116  # a Path for each of ten thousand files takes as long as the call
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _digest_file(file: str) -> str:
    try:
        return _digest_table(file) if file.endswith(".csv") else sha256(file)
    except OSError:
        return ""


def _digest_table(file: str) -> str:
    hashed = hashlib.sha256()
    with Path(file).open("rb") as stream:
        for number, line in enumerate(stream):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
            hashed.update(text.removesuffix(b"\n").removesuffix(b"\r") + b"\n")
    return hashed.hexdigest()


def _read_cache(cache: str | Path | None) -> Known:
    """Return what an earlier call wrote; empty if there is no cache or it cannot be read."""
    try:
        known = json.loads(Path(cache).read_bytes()) if cache is not None else {}
        return known if isinstance(known, dict) and all(isinstance(entry, list) for entry in known.values()) else {}
    except (OSError, ValueError):
        return {}


def _write_cache(cache: str | Path | None, known: Known) -> None:
    """Write the cache, if its folder can be written to; without one, the next call digests every file again."""
    if cache is not None:
        with contextlib.suppress(OSError):
            write_text(cache, json.dumps(known, separators=(",", ":")) + "\n")
