"""A power cut at any moment: what was not synced is gone, and what has its final name must be whole all the same.

A model of a disk stands between the code and the kernel: it keeps the bytes of a file, and the names in a folder, as
they were at their last `os.fsync`. Before every call that changes something it builds the two folders that a power cut
at that moment could leave: one where nothing unsynced was kept, and one where all names were and no unsynced bytes,
as on a file system with a journal for its names alone.
"""

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from cloudseg.dataset.demo import make_demo
from cloudseg.errors import StoreError
from cloudseg.models.checkpoint_file import read_state, write_state
from cloudseg.storage import files, stores
from cloudseg.training.state_file import StateFile


class Disk:
    """What would be left of a folder after a power cut."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, inspect) -> None:
        self.root, self._inspect, self._after = root, inspect, root.with_name(root.name + "-after")
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._kept: list[int] = []  # open, so that no number of an inode is used twice
        self.crashes = 0
        self._remember(root)
        for name in ("fsync", "replace", "rmdir"):
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name, call):
        def watched(*arguments, **options):
            self.crash()
            if name != "fsync":
                return call(*arguments, **options)
            path = Path(f"/proc/self/fd/{arguments[0]}").readlink()
            if path.is_relative_to(self.root):
                self._remember(path)

        return watched

    def _remember(self, path: Path) -> None:
        self._keep(path)
        if path.is_dir():
            entries = list(os.scandir(path))
            for entry in entries:
                self._keep(entry.path)
            self._names[path.stat().st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            self._bytes[path.stat().st_ino] = path.read_bytes()

    def _keep(self, path) -> None:
        self._kept.append(os.open(path, os.O_PATH))

    def crash(self) -> None:
        """Inspect both folders that a power cut now could leave."""
        if self._inspect is None or self._after.exists():  # the latter: what inspects may change its copy
            return
        for leave in (self.leave_what_was_synced, self.leave_names):
            self._inspect(leave())
            shutil.rmtree(self._after)
            self.crashes += 1

    def leave_what_was_synced(self) -> Path:
        self._after.mkdir()
        kinds = {os.fstat(number).st_ino: stat.S_ISDIR(os.fstat(number).st_mode) for number in self._kept}

        def leave(inode: int, path: Path) -> None:
            if kinds[inode]:
                path.mkdir(exist_ok=True)
                for name, below in self._names.get(inode, {}).items():
                    leave(below, path / name)
            else:
                path.write_bytes(self._bytes.get(inode, b""))

        leave(self.root.stat().st_ino, self._after)
        return self._after

    def leave_names(self) -> Path:
        def copy(source: str, target: str) -> None:
            Path(target).write_bytes(self._bytes.get(Path(source).stat().st_ino, b""))

        return shutil.copytree(self.root, self._after, copy_function=copy, dirs_exist_ok=True)

    def close(self) -> None:
        for number in self._kept:
            os.close(number)


@pytest.fixture
def make_disk(tmp_path, monkeypatch):
    made = []

    def make(inspect=None):
        (tmp_path / "disk").mkdir(exist_ok=True)
        made.append(Disk(tmp_path / "disk", monkeypatch, inspect))
        return made[-1]

    yield make
    monkeypatch.undo()
    for disk in made:
        disk.close()


SPEC = stores.Spec((4, 24), "uint8", ("image", "x"))
OLD, NEW = np.full(SPEC.shape, 1, "uint8"), np.arange(96, dtype="uint8").reshape(SPEC.shape)


def write_store(path, values, stop=None):
    writer = stores.Writer(path, {"a": SPEC}, {"seed": int(values[-1, -1])})
    for rows in writer.missing("a")[:stop]:
        writer.write(rows, values[rows], "a")
    if stop is None:
        writer.finish()


@pytest.fixture
def several_shards(monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 24)


def believed(path):
    """Return the values of a store that passes its check; None where it does not."""
    try:
        stores.check(path)
    except StoreError:
        return None
    return stores.read_images(stores.read(path)["a"], slice(None))


def test_a_store_that_passes_its_check_after_a_power_cut_is_whole(make_disk, several_shards):
    def inspect(folder):
        found = believed(folder / "a.zarr")
        assert found is None or np.array_equal(found, OLD) or np.array_equal(found, NEW)

    disk = make_disk(inspect)
    write_store(disk.root / "a.zarr", OLD)
    write_store(disk.root / "a.zarr", NEW)
    assert disk.crashes > 40
    for leave in (disk.leave_what_was_synced, disk.leave_names):
        folder = leave()
        np.testing.assert_array_equal(believed(folder / "a.zarr"), NEW)
        assert [path.name for path in folder.iterdir()] == ["a.zarr"]
        shutil.rmtree(folder)


def test_shards_that_a_killed_writer_left_are_synced_by_the_next(make_disk, several_shards):
    disk = make_disk()
    write_store(disk.root / "a.zarr", NEW, stop=1)
    disk._names = {disk.root.stat().st_ino: {}}  # killed after each rename, before the name was synced
    write_store(disk.root / "a.zarr", NEW)
    np.testing.assert_array_equal(believed(disk.leave_what_was_synced() / "a.zarr"), NEW)


def test_after_a_power_cut_the_next_writer_makes_the_store_whole(make_disk, several_shards):
    def inspect(folder):
        write_store(folder / "a.zarr", NEW)
        np.testing.assert_array_equal(believed(folder / "a.zarr"), NEW)

    write_store(make_disk(inspect).root / "a.zarr", NEW)


def small_text(path, number):
    files.write_text(path, json.dumps({"number": number}) + "\n")


def checkpoint(path, number):
    write_state({"weight": torch.full((3, 5), float(number))}, path, {"epoch": number})


def training_state(path, number):
    state = StateFile(path, "digest")
    state.keep({"epoch": number, "weights": torch.full((3, 5), float(number))})
    state.close()


@pytest.mark.parametrize(
    ("write", "name", "read"),
    [
        (small_text, "run.json", lambda path: files.read_json(path)["number"]),
        (checkpoint, "best.safetensors", lambda path: read_state(path)[1]["epoch"]),
        (training_state, "training.state", lambda path: StateFile(path, "digest").read()["epoch"]),
    ],
    ids=["json", "checkpoint", "state"],
)
def test_a_file_is_whole_after_a_power_cut_or_not_there(make_disk, write, name, read):
    done = []

    def inspect(folder):
        path = folder / "deep/folder" / name
        found = read(path) if path.exists() else None
        # What was done before stays, and what is being done is there or not
        assert found in ([*done[-1:], len(done) + 1] if done else [None, 1])

    disk = make_disk(inspect)
    for number in (1, 2):
        write(disk.root / "deep/folder" / name, number)
        done.append(number)
        assert read(disk.leave_what_was_synced() / "deep/folder" / name) == number
        shutil.rmtree(disk._after)
    assert disk.crashes >= 12


def test_the_demos_images_are_all_there_or_none(make_disk):
    def inspect(folder):
        if (folder / "raw").exists():
            assert all(path.stat().st_size for path in (folder / "raw").rglob("*") if path.is_file())
            assert len(list((folder / "raw").rglob("*.jpg"))) == 2

    disk = make_disk(inspect)
    make_demo(disk.root / "raw", train=1, test=1, height=70, width=105, workers=1)
    assert len(list(disk.leave_what_was_synced().rglob("*.jpg"))) == 2
