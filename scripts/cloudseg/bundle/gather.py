"""Join the tables of shards into one, sorted by image."""

import csv
import heapq
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice, repeat
from operator import itemgetter
from pathlib import Path
from typing import TextIO

from cloudseg.dataset.labels.tables import HEADER
from cloudseg.errors import DamagedFileError
from cloudseg.storage.files import atomic

MOST_OPEN = 256
"""Files that are read at the same time: systems allow a process about a thousand."""

Image = tuple[str, list[list[str]]]  # its name, and a row for each class


def gather(shards: Sequence[str | Path], out: str | Path, *, classes: Sequence[str]) -> int:
    """Write the rows of all shards, image by image in the order of their names; memory is that of an image a shard.

    Parameters
    ----------
    shards : files with a row for each class of an image, sorted by image, as
        :func:`~cloudseg.bundle.folder.write_masks` writes them.
    out : the file to write.
    classes : names, in the order of the rows.

    Returns
    -------
    int : the rows.

    Raises
    ------
    DamagedFileError : for a shard that is not whole.
    """
    if len(shards) > MOST_OPEN:
        with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
            parts = [shards[first : first + MOST_OPEN] for first in range(0, len(shards), MOST_OPEN)]
            joined = [Path(folder, f"{number}.csv") for number in range(len(parts))]
            for part, path in zip(parts, joined, strict=True):
                gather(part, path, classes=classes)
            return gather(joined, out, classes=classes)
    csv.field_size_limit(2**31 - 1)
    rows = 0
    with ExitStack() as stack:
        file = stack.enter_context(stack.enter_context(atomic(out)).open("w", newline="", encoding="utf-8"))
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        opened = [stack.enter_context(Path(shard).open(newline="", encoding="utf-8")) for shard in shards]
        images = map(images_of, opened, shards, repeat(classes))
        for _, of_image in heapq.merge(*images, key=itemgetter(0)):
            writer.writerows(of_image)
            rows += len(of_image)
    return rows


def images_of(file: TextIO, shard: str | Path, classes: Sequence[str]) -> Iterator[Image]:
    """Yield the images of a shard, and see that each has a row for each class."""
    reader = csv.reader(file)
    if next(reader, None) != HEADER:
        raise _damaged(shard, f"expected the columns {','.join(HEADER)}")
    while of_image := list(islice(reader, len(classes))):
        labels = [row[0] if len(row) == 2 else "a row that is none" for row in of_image]
        name = labels[0].removesuffix(f"_{classes[0]}")
        if labels != [f"{name}_{label}" for label in classes]:
            raise _damaged(shard, f"expected a row for each class of {name}, got {', '.join(labels)}")
        yield name, of_image


def _damaged(shard: str | Path, reason: str) -> DamagedFileError:
    return DamagedFileError(f"{shard}: {reason}; remove it and run the same command again")
