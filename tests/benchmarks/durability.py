"""Time what it costs that files and shards are on the disk before they have their names, against writing without.

python tests/benchmarks/durability.py [--folder FOLDER ON THE DISK TO MEASURE]
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch

from cloudseg.storage import files, stores
from cloudseg.training.state_file import StateFile

REPEATS = 7


def table(folder: Path) -> None:
    """Write one small text, as a table or `run.json` is."""
    files.write_text(folder / "run.json", "{}\n" * 200)


def shards(folder: Path) -> None:
    """Write a store of three whole shards of noise, about 64 MiB after compression."""
    spec = stores.Spec((180, 4, 350, 525), "uint8", ("image", "class", "y", "x"))
    block = np.random.default_rng(0).integers(0, 128, (spec.shard, *spec.shape[1:]), dtype=np.uint8)
    writer = stores.Writer(
        folder / "a.zarr", {"": stores.Spec((3 * spec.shard, *spec.shape[1:]), "uint8", spec.dims)}, {}
    )
    for rows in writer.missing():
        writer.write(rows, block)
    writer.finish()


def state(folder: Path) -> None:
    """Write the state of a training of 100 MB and wait for it, as an epoch's end does on its own thread."""
    file = StateFile(folder / "training.state", "digest")
    file.keep({"weights": torch.zeros(25_000_000)})
    file.close()


def main() -> None:
    """Print milliseconds with and without, in turn, and the calls of fsync."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=".")
    options = parser.parse_args()
    print("milliseconds, minimum / median: on the disk | without waiting | calls of fsync")
    for work in (table, shards, state):
        spent: dict[bool, list[float]] = {True: [], False: []}
        calls = 0
        for _ in range(REPEATS):
            for durable in (True, False):
                with tempfile.TemporaryDirectory(dir=options.folder) as name:
                    fsync = mock.Mock(wraps=os.fsync if durable else None)
                    with mock.patch.object(os, "fsync", fsync):
                        start = time.perf_counter()
                        work(Path(name))
                        spent[durable].append(1e3 * (time.perf_counter() - start))
                    calls = max(calls, fsync.call_count)
                    shutil.rmtree(name)
                    Path(name).mkdir()
        with_, without = (f"{min(each):.1f} / {median(each):.1f}" for each in (spent[True], spent[False]))
        print(f"{work.__name__}: {with_} | {without} | {calls}")


if __name__ == "__main__":
    main()
