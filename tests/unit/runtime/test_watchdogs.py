"""Whatever stops or stands still, a job ends, and says with which image.

Each scenario is a process of its own, which must end by itself, with its threads and workers: its last error is what
it prints. It is forked from this file run as a script (:func:`serve`), since importing torch takes seconds.
"""

import gc
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from network_fixtures import write_folds, write_pixels

from cloudseg.config.recipe import Recipe
from cloudseg.inference.predict import PredictionJob, predict, write_shards
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.segmenter import build_model
from cloudseg.runtime.background import BackgroundWriter
from cloudseg.storage import stores
from cloudseg.training.data.dataset import SegmentationDataset, sample_seed
from cloudseg.training.data.images import LabelledImages
from cloudseg.training.data.loader import Loader
from cloudseg.training.data.sampler import BatchSampler
from cloudseg.training.signals import exiting_on_signal
from cloudseg.training.state_file import StateFile

WITHIN = 60  # seconds to end in; a scenario takes about one
SOON = 1  # seconds after which a scenario counts as stuck
NINTH = sample_seed(0, 0, 9)


class Meets:
    """A transform that does something to the process that loads the tenth image."""

    def __init__(self, happens):
        self._happens = happens

    def __call__(self, image, mask, number):
        if number == NINTH:
            self._happens()
        return image, mask


def for_ever(*arguments, **more):
    threading.Event().wait()


def loader(folder, workers, happens=lambda: None):
    write_pixels(folder / "p.zarr", train=16)
    data = SegmentationDataset(LabelledImages(folder / "p.zarr", range(16)), transform=Meets(happens))
    return Loader(data, BatchSampler(16, 4), workers, "cpu", stuck_after=SOON)


def worker_killed(folder):
    for _ in loader(folder, 2, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        pass


def worker_killed_during_a_step(folder):
    for _ in loader(folder, 1, lambda: (time.sleep(0.2), os.kill(os.getpid(), signal.SIGKILL))):
        for_ever()


def worker_killed_between_passes(folder):
    batches = loader(folder, 1)
    assert len(list(batches)) == 4
    [worker] = multiprocessing.active_children()
    worker.kill()
    for_ever()


def worker_crashed(folder):
    for _ in loader(folder, 2, lambda: os.kill(os.getpid(), signal.SIGSEGV)):
        pass


def worker_hangs(folder):
    for _ in loader(folder, 2, for_ever):
        pass


def worker_stopped(folder):
    for _ in loader(folder, 1, lambda: os.kill(os.getpid(), signal.SIGSTOP)):
        pass


def stop_all_for(seconds):
    """Have all processes of a scenario stopped for a while, as Ctrl-Z or a suspended Slurm job does."""
    code = "import os, signal, sys, time; group = int(sys.argv[1]); os.killpg(group, signal.SIGSTOP); "
    code += "time.sleep(float(sys.argv[2])); os.killpg(group, signal.SIGCONT)"
    subprocess.Popen([sys.executable, "-S", "-c", code, str(os.getpgid(0)), str(seconds)], start_new_session=True)


def all_stopped_while_a_batch_is_waited_for(folder, workers=2):
    def happens():
        stop_all_for(3 * SOON)
        time.sleep(0.5)

    assert len(list(loader(folder, workers, happens))) == 4
    print("went on")


def all_stopped_while_this_process_reads(folder):
    all_stopped_while_a_batch_is_waited_for(folder, workers=0)


def all_stopped_while_a_shard_is_written(folder):
    def write(rows, block):
        if rows.start == 4:
            stop_all_for(3 * SOON)
            time.sleep(0.5)
        if rows.start == 6:
            print("went on")

    shards(folder, write, finish=False)


def this_process_hangs(folder):
    for _ in loader(folder, 0, for_ever):
        pass


def main_raises_while_a_worker_is_stopped(folder):
    batches = iter(loader(folder, 1, lambda: os.kill(os.getpid(), signal.SIGSTOP)))
    next(batches)
    raise RuntimeError("train1.jpg is odd")


def flip_a_byte(folder, array):
    """Spoil the ninth image of a store's only shard: images are as large as each other."""
    [shard] = [path for path in (folder / "p.zarr" / array).rglob("*") if path.is_file() and path.name != "zarr.json"]
    data = bytearray(shard.read_bytes())
    index = np.frombuffer(bytes(data[-4 - 16 * 16 : -4]), "<u8").reshape(16, 2)
    data[int(index[9, 0]) + int(index[9, 1]) // 2] ^= 1
    shard.write_bytes(data)


def damaged_sample(folder, workers=0):
    batches = loader(folder, workers)
    flip_a_byte(folder, "image")
    for _ in batches:
        pass


def damaged_sample_in_a_worker(folder):
    damaged_sample(folder, workers=2)


def sample_raises(folder):
    for _ in loader(folder, 2, lambda: {}["no such key"]):
        pass


def damaged_image_in_prediction(folder):
    write_pixels(folder / "p.zarr", train=16)
    write_folds(folder / "folds.tsv", count=16)
    flip_a_byte(folder, "image")
    about = {"encoder": "tu-test_resnet", "decoder": "fpn", "classes": ["a", "b"]}
    model = build_model("tu-test_resnet", "fpn", 2)
    write_state(model.network.state_dict(), folder / "best.safetensors", about)
    job = PredictionJob(
        checkpoints={"best": folder / "best.safetensors"},
        pixels=folder / "p.zarr",
        folds=folder / "folds.tsv",
        fold=1,
        outputs={"best": folder / "best-valid.zarr"},
        recipe=Recipe(tta=["identity"], batch=2, normalise={"mean": [0.5] * 3, "std": [0.5] * 3}),
        size=(20, 30),
    )
    predict(job)


def shards(folder, write, make=lambda rows: np.zeros((2, 4), np.uint8), finish=True):
    stores.SHARD_BYTES = 8  # two images
    writer = stores.Writer(folder / "s.zarr", {"": stores.Spec((16, 4), "uint8", ("image", "x"))}, {})
    writer.write = write
    writer.finish = writer.finish if finish else lambda: None
    with BackgroundWriter(2, stuck_after=SOON) as writing:
        write_shards(writer, make, [f"{number}.jpg" for number in range(16)], writing)


def shard_raises(folder):
    def write(rows, block):
        if rows.start == 4:
            raise PermissionError(13, "Permission denied", "s.zarr/c/2")

    shards(folder, write)


def last_shard_raises(folder):
    def write(rows, block):
        if rows.stop == 16:
            raise ZeroDivisionError

    shards(folder, write)


def finishing_raises(folder):
    """A shard that vanishes between its writing and the end of its store, while the next store is begun."""
    stores.SHARD_BYTES = 8
    writers = [
        stores.Writer(folder / name, {"": stores.Spec((2, 4), "uint8", ("image", "x"))}, {}) for name in ("s.zarr", "t")
    ]
    writers[0].write = lambda rows, block: None
    with BackgroundWriter(2, stuck_after=SOON) as writing:
        for writer in writers:
            write_shards(writer, lambda rows: np.zeros((2, 4), np.uint8), ["0.jpg", "1.jpg"], writing)


def shard_stuck(folder):
    shards(folder, for_ever)


def main_raises_while_a_shard_is_stuck(folder):
    def make(rows):
        if rows.start:
            raise RuntimeError("2.jpg is odd")
        return np.zeros((2, 4), np.uint8)

    shards(folder, for_ever, make)


def states(folder, save):
    torch.save = save
    with_state = StateFile(folder / "training.state", "digest", stuck_after=SOON)
    try:
        for epoch in range(9):
            with_state.keep({"epoch": epoch})
    finally:
        with_state.close()


def state_raises(folder):
    def save(state, path):
        raise RuntimeError("unexpected pos 64 vs 0")

    states(folder, save)


def state_stuck(folder):
    states(folder, for_ever)


def signalled_while_a_state_is_written(folder):
    real = torch.save

    def slow(*arguments):
        time.sleep(0.3)
        real(*arguments)

    torch.save = slow
    state = StateFile(folder / "training.state", "digest")
    with exiting_on_signal(lambda: "the next run goes on"):
        try:
            state.keep({"epoch": 1})
            os.kill(os.getpid(), signal.SIGTERM)
            for_ever()
        finally:
            state.close()


def stuck_and_not_waited_for(folder):
    BackgroundWriter(1).submit("x.zarr, image 3.jpg", for_ever)


IMAGE = "p.zarr, image train9.jpg"

SCENARIOS = {
    worker_killed: (1, rf"RuntimeError: worker \d+, while it read \S+{IMAGE}, died .*Killed\.\); .*memory"),
    worker_killed_during_a_step: (1, rf"RuntimeError: worker \d+, while it read \S+{IMAGE}, died"),
    worker_killed_between_passes: (1, r"RuntimeError: worker \d+, after it read \S+p.zarr, image train15.jpg, died"),
    worker_crashed: (
        1,
        rf"RuntimeError: worker \d+, while it read \S+{IMAGE}, died .*Segmentation fault\.\); a library",
    ),
    worker_hangs: (1, rf"RuntimeError: no batch came in 1 s: worker .*while it read \S+{IMAGE}.*disk"),
    worker_stopped: (1, rf"RuntimeError: no batch came in 1 s: worker .*while it read \S+{IMAGE}"),
    all_stopped_while_a_batch_is_waited_for: (0, "^went on$"),
    all_stopped_while_this_process_reads: (0, "^went on$"),
    all_stopped_while_a_shard_is_written: (0, "^went on$"),
    this_process_hangs: (1, rf"OSError: \S+{IMAGE}: nothing came in 1 s"),
    main_raises_while_a_worker_is_stopped: (1, "RuntimeError: train1.jpg is odd"),
    damaged_sample: (1, rf"StoreError: \S+{IMAGE}: \S+/image/c/0/0/0/0: image 9 cannot be read"),
    damaged_sample_in_a_worker: (1, rf"StoreError: \S+{IMAGE}: \S+/image/c/0/0/0/0: image 9 cannot be read"),
    sample_raises: (1, rf"RuntimeError: \S+{IMAGE}: KeyError: 'no such key'\n(.*\n)*KeyError: 'no such key'"),
    damaged_image_in_prediction: (1, rf"StoreError: \S+{IMAGE}: \S+/image/c/0/0/0/0: image 9 cannot be read"),
    shard_raises: (
        1,
        r"PermissionError: \[Errno 13\] \S+s.zarr, images 4.jpg and 1 more: Permission denied: 's.zarr/c/2'",
    ),
    last_shard_raises: (1, r"RuntimeError: \S+s.zarr, images 14.jpg and 1 more: ZeroDivisionError"),
    finishing_raises: (1, r"StoreError: \S+s.zarr: \S+s.zarr.part: the array lacks images 0 to 1; write them first"),
    shard_stuck: (1, r"TimeoutError: \S+s.zarr, images 0.jpg and 1 more: not done in 1 s, with 1 more waiting; check"),
    main_raises_while_a_shard_is_stuck: (
        1,
        r"RuntimeError: 2.jpg is odd\n(.*\n)*TimeoutError: \S+s.zarr, images 0.jpg",
    ),
    state_raises: (1, r"RuntimeError: \S+training.state: RuntimeError: unexpected pos 64"),
    state_stuck: (1, r"TimeoutError: \S+training.state: not done in 1 s"),
    signalled_while_a_state_is_written: (128 + signal.SIGTERM, "SIGTERM: the next run goes on"),
    stuck_and_not_waited_for: (0, ""),
}


def serve():
    """Run scenarios named on stdin, each in a process forked from this one, and print how each ended."""
    gc.freeze()  # a process that looks at all objects of torch's once more takes a second to end
    for line in sys.stdin:
        name, folder = json.loads(line)
        child = os.fork()
        if not child:
            os.setpgid(0, 0)
            printed = os.open(f"{folder}/printed", os.O_WRONLY | os.O_CREAT)
            os.dup2(printed, 1)
            os.dup2(printed, 2)
            globals()[name](Path(folder))
            return  # and on to the end of an interpreter
        deadline = time.monotonic() + WITHIN
        while (status := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.02)
        if status == (0, 0):
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status[1]) if status[0] else "hangs"), flush=True)


@pytest.fixture(scope="module")
def server():
    command = [sys.executable, __file__]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()
        assert process.wait(WITHIN) == 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_job_ends_and_says_where(server, tmp_path, scenario):
    code, message = SCENARIOS[scenario]
    server.stdin.write(json.dumps([scenario.__name__, str(tmp_path)]) + "\n")
    server.stdin.flush()
    ended = json.loads(server.stdout.readline())
    printed = (tmp_path / "printed").read_text(errors="replace")
    assert ended == code, printed
    assert re.search(message, printed), printed
    if scenario is signalled_while_a_state_is_written:
        assert StateFile(tmp_path / "training.state", "digest").read() == {"epoch": 1}


def test_an_error_in_the_background_is_raised_at_the_next_call_and_once_more_by_no_close():
    done, raised = [], threading.Event()

    def fail():
        raised.set()
        raise OSError(28, "No space left on device")

    background = BackgroundWriter(3)
    background.submit("a.zarr, image 1.jpg", done.append, 1)
    background.submit("a.zarr, image 2.jpg", fail)
    assert raised.wait(10)
    with pytest.raises(OSError, match=r"a\.zarr, image 2\.jpg: No space left on device") as error:
        while True:  # there is room, and yet
            background.submit("a.zarr, image 3.jpg", done.append, 3)
    assert error.value.errno == error.value.__cause__.errno == 28
    background.close()
    assert done == [1]
    with pytest.raises(RuntimeError, match=r"image 4\.jpg: submitted after close"):
        background.submit("a.zarr, image 4.jpg", done.append, 4)


def test_what_waits_is_finished_when_the_owner_raises():
    done = []

    def slow(number):
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(ZeroDivisionError), BackgroundWriter(3) as background:
        for number in range(3):
            background.submit(f"image {number}", slow, number)
        raise ZeroDivisionError
    assert done == [0, 1, 2]


if __name__ == "__main__":
    serve()
