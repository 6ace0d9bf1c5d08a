"""Nobody who holds the lock of a cache of kernels can keep others from computing."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from cloudseg.postprocess import compiling

HOLDS = """
import os, signal, sys
from cloudseg.postprocess.compiling import _one_process_at_a_time
with _one_process_at_a_time(sys.argv[1]):
    print("holds", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def stopped(tmp_path):
    """Return a process that was stopped while it compiled."""
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def test_a_stopped_job_that_compiles_is_named_and_not_waited_for(tmp_path, stopped, monkeypatch):
    monkeypatch.setattr(compiling, "SAY_AFTER", 0.1)
    monkeypatch.setattr(compiling, "WAIT_AT_MOST", 0.5)
    with pytest.warns(RuntimeWarning) as said, compiling._one_process_at_a_time(str(tmp_path)):
        pass
    texts = [str(each.message) for each in said]
    assert len(texts) == 2
    assert all(f"{tmp_path}/compiling.lock: locked by another process" in text for text in texts)
    assert all(f"process {stopped.pid} on " in text for text in texts)
    assert "waiting up to 0.5 s" in texts[0]
    assert "compiling without it" in texts[1]


def test_it_is_waited_for_while_it_compiles(tmp_path, stopped):
    threading.Timer(0.3, stopped.send_signal, [signal.SIGCONT]).start()
    began = time.monotonic()
    with compiling._one_process_at_a_time(str(tmp_path)):
        assert time.monotonic() - began > 0.2


def test_a_lock_that_was_removed_is_not_the_one_that_others_hold(tmp_path, stopped):
    """Who waited for the file that was removed takes the one that is there."""
    threading.Timer(0.3, (tmp_path / "compiling.lock").unlink).start()
    with compiling._one_process_at_a_time(str(tmp_path)):
        there = os.open(tmp_path / "compiling.lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(there)


READ_ONLY = """
set -e
mount -t tmpfs -o ro none "$1/home"
mount --bind "$1/scripts" "$1/scripts"
mount -o remount,bind,ro "$1/scripts"
cd "$1"
shift
exec "$@"
"""


def test_without_a_folder_for_its_cache_the_core_computes_and_says_what_to_set(tmp_path, repo):
    """Of a container whose user may write to nothing but the working directory."""
    shutil.copytree(repo / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").mkdir()
    isolate = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    code = (
        "import numpy as np; from cloudseg.postprocess import encode_rle; print(encode_rle(np.ones((2, 3), np.uint8)))"
    )
    keep = {key: value for key, value in os.environ.items() if key not in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    done = subprocess.run(
        [*isolate, "sh", "-c", READ_ONLY, "sh", str(tmp_path), sys.executable, "-c", code],
        env=keep | {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path / "scripts")},
        capture_output=True,
        text=True,
        check=False,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert done.stdout == "1 6\n", done.stderr
    assert done.stderr.count("set NUMBA_CACHE_DIR to a folder of your own") == 1


def test_a_link_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "compiling.lock").symlink_to(tmp_path / "precious")
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(compiling._one_process_at_a_time(str(tmp_path)))
    assert (tmp_path / "precious").read_text() == "precious"
