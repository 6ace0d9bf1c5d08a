"""A container has 64 MB of shared memory, and batches of loader processes come through it."""

import os
import subprocess
import sys
import types

import pytest
import torch

from cloudseg.training.data import loader as module
from cloudseg.training.data.loader import Loader

SMALL = 'mount -t tmpfs -o size=16m none /dev/shm && exec "$@"'
LOADS = """
import time
import torch
from cloudseg.training.data.loader import Loader
class Samples:
    def name(self, place):
        return f"image {place}"
    def __len__(self):
        return 48
    def __getitem__(self, key):
        return torch.full((256, 512, 3), key[1], dtype=torch.uint8), torch.zeros((256, 512, 1), dtype=torch.uint8)
class Measured(Samples):
    nbytes = 4 * 256 * 512
batches = [[(0, 4 * number + place) for place in range(4)] for number in range(12)]
def seen(samples):
    for image, mask in Loader(samples(), batches, 4, "cpu"):
        time.sleep(0.2)  # as in a slow training, the workers load as far ahead as they may
        yield image[:, 0, 0, 0].tolist()
assert sum(seen(Measured), []) == list(range(48))
print("all came", flush=True)
held = list(Loader(Samples(), batches, 4, "cpu"))
"""


@pytest.fixture
def small_shared_memory():
    """Return what runs a command where /dev/shm has 16 MiB."""
    isolate = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    command = [*isolate, "sh", "-c", SMALL, "sh"]
    done = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    return command


def test_as_many_workers_load_as_have_room_and_what_has_none_says_so(small_shared_memory):
    done = subprocess.run([*small_shared_memory, sys.executable, "-c", LOADS], capture_output=True, text=True)
    said = "the batches of 4 loader processes may take 21 MiB: loading with 2; the weights will be the same."
    assert said in done.stdout
    assert said in done.stderr  # for who looks at the terminal
    assert "all came" in done.stdout, done.stderr
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: no room for a batch of 4 loader processes in /dev/shm")
    assert "set `workers: 0` or fewer than now, or give the container more (`docker run --shm-size=1g`" in last


@pytest.mark.parametrize(
    ("free", "ranks", "workers"),
    [(None, 1, 4), (10 * 40, 1, 4), (10 * 40 - 1, 1, 3), (4 * 40, 1, 1), (4 * 40 - 1, 1, 0), (0, 1, 0), (800, 2, 4)],
)
def test_workers_that_have_room(monkeypatch, capsys, free, ranks, workers):
    monkeypatch.setattr(module, "_free_shared_memory", lambda: free and free + ranks * module.QUEUES)
    samples = types.SimpleNamespace(nbytes=20)
    assert module._workers_with_room(samples, [[1, 2], [3]], 4, ranks) == workers
    assert bool(capsys.readouterr().out) == (workers < 4)


def test_samples_know_their_bytes(tmp_path):
    from network_fixtures import write_pixels

    from cloudseg.training.data.dataset import SegmentationDataset
    from cloudseg.training.data.images import LabelledImages

    write_pixels(tmp_path / "p.zarr", train=2)
    for size in (None, (8, 12)):
        samples = SegmentationDataset(LabelledImages(tmp_path / "p.zarr", range(2)), size=size)
        assert samples.nbytes == sum(part.nbytes for part in samples[0, 0])


def test_a_loader_without_workers_needs_no_shared_memory(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "share_memory_", lambda self: 1 / 0)
    samples = types.SimpleNamespace(nbytes=20)
    assert len(Loader(samples, [[1, 2]], 0, "cpu")) == 1
