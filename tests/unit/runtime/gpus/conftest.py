"""A folder of locks, a driver of its own, and processes that end with their test."""

import os
import signal
import subprocess
import sys

import pytest
from lock_holders import FOUR, JOB, PATIENCE

from cloudseg.runtime.gpus import visible


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch, tmp_path):
    for name in (*visible.SCHEDULERS, "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(visible, "DRIVER", tmp_path / "no driver")
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture(autouse=True)
def alarm():
    """A lease that waits for ever in a test's own process must not."""

    def stop(*_):
        raise TimeoutError("the test took too long")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(2 * PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "locks"


@pytest.fixture
def start(folder):
    """Start a process that prints; whatever still runs at the end is killed."""
    started = []

    def start(*words, code=JOB, pool=FOUR, folder=folder, **options):
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(pool), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-c", code, *map(str, words), str(folder)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Four devices as the driver lists them; the last bus address is that of device 3."""

    def make(models=("H100",) * 4, uuids=("GPU-00", "GPU-11", "GPU-22", "GPU-33"), excluded=()):
        for number, (model, uuid) in enumerate(zip(models, uuids, strict=True)):
            device = tmp_path / f"driver/0000:{(number + 1) * 0x19:02x}:00.0"
            device.mkdir(parents=True)
            left_out = "Yes" if number in excluded else "No"
            text = f"Model: \t\t NVIDIA {model}\nIRQ:   \t\t 18\nGPU UUID: \t {uuid}\nBus Location: \t {device.name}\n"
            (device / "information").write_text(text + f"Device Minor: \t {3 - number}\nGPU Excluded:\t {left_out}\n")
        monkeypatch.setattr(visible, "DRIVER", tmp_path / "driver")

    return make
