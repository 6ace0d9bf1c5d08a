"""A job that waits for a disk that does not answer ends with the name of the file; one that works, or was stopped, not.

A pipe that nobody writes to stands for the disk: opening or reading it comes back as late.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

from cloudseg.runtime.job_progress import read_progress

JOB = """
import os, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from cloudseg.runtime import job_watchdog
from cloudseg import logged
from cloudseg.runtime.job_watchdog import not_watched
job_watchdog.SAY_AFTER, job_watchdog.JOB_STUCK_AFTER = 0.4, 1.2
LONG = 2.5
pipe = sys.argv[1]
with logged(SimpleNamespace(log=[sys.argv[2]])):
    print("begins", file=sys.__stdout__, flush=True)
"""


def run(tmp_path, code):
    os.mkfifo(tmp_path / "image.jpg")
    indented = "".join(f"    {line}\n" for line in code.strip().splitlines())
    command = [sys.executable, "-c", JOB + indented, str(tmp_path / "image.jpg"), str(tmp_path / "job.log")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begins\n"
    return process


STANDS_STILL = {
    "opening": "Path(pipe).read_bytes()",
    "reading": "os.read(os.open(pipe, os.O_RDWR), 1)",
    "in one thread of several": """
with ThreadPoolExecutor(3) as pool:
    list(pool.map(lambda path: Path(path).read_bytes(), [os.devnull, pipe, os.devnull]))
""",
    "in a table": "from cloudseg.storage.files import read_table; read_table(pipe)",
    "in a shard of a store": """
from cloudseg.storage import stores
store = Path(pipe).with_name("a.zarr")
writer = stores.Writer(store, {"": stores.Spec((2, 4), "uint8", ("image", "x"))}, {})
writer.write(slice(0, 2), np.zeros((2, 4), np.uint8))
writer.finish()
array = stores.read(store)
real = Path.open
Path.open = lambda path, *more, **options: real(Path(pipe) if "/c/" in str(path) else path, *more, **options)
stores.read_images(array, slice(0, 1))
""",
}


@pytest.mark.parametrize("how", STANDS_STILL)
def test_a_job_that_waits_for_a_file_ends_with_its_name(tmp_path, how):
    process = run(tmp_path, STANDS_STILL[how])
    _, terminal = process.communicate(timeout=60)
    assert process.returncode == 1
    said = (tmp_path / "job.log").read_text()
    lines = said.splitlines()
    name = tmp_path / "image.jpg"
    waits = "waiting for {} s, without computing, reading or writing anything, most likely for " + str(name)
    assert lines[0].startswith(waits.format(0))
    assert "more the job ends" in lines[0]
    assert "image.jpg" in read_progress(tmp_path / "job.progress.json").error
    [end] = [line for line in lines if line.startswith("Error: ")]
    assert end.startswith(f"Error: {waits.format(1)}")
    assert end.endswith("check that the disk answers, then run the same command again")
    assert "most recent call first" in said  # where all threads are
    assert f"{tmp_path / 'job.log'}: {lines[0]}" in terminal


WORKS = {
    "computing": """
ends = time.monotonic() + LONG
while time.monotonic() < ends:
    pass
""",
    "computing in a child": """
subprocess.run([sys.executable, "-S", "-c", f"import time; a = time.time()\\nwhile time.time() < a + {LONG}: pass"])
""",
    "reading slowly": """
reader, writer = os.pipe()
code = f"import os, time\\nfor _ in range(25): os.write({writer}, bytes(4096)); time.sleep(0.1)"
child = subprocess.Popen([sys.executable, "-S", "-c", code], pass_fds=[writer])
os.close(writer)
while os.read(reader, 4096):
    pass
""",
    "waiting for a device": """
with not_watched():
    time.sleep(LONG)
""",
    "a little later": "time.sleep(0.6)",
}


@pytest.mark.parametrize("how", WORKS)
def test_a_job_that_works_is_left_alone(tmp_path, how):
    process = run(tmp_path, WORKS[how])
    _, terminal = process.communicate(timeout=60)
    assert process.returncode == 0, terminal
    assert "Error" not in (tmp_path / "job.log").read_text()


def test_the_time_in_which_a_job_is_stopped_does_not_count(tmp_path):
    process = run(tmp_path, "time.sleep(0.6)")
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    _, terminal = process.communicate(timeout=60)
    assert process.returncode == 0, terminal


def test_a_job_whose_log_cannot_be_written_either_ends_all_the_same(tmp_path):
    """Both may lie on the disk that does not answer."""
    code = """
job_watchdog.GRACE = 0.5
reader, writer = os.pipe()
os.set_blocking(writer, False)
while True:
    try:
        os.write(writer, bytes(4096))
    except BlockingIOError:
        break
os.set_blocking(writer, True)
os.dup2(writer, sys.stdout.fileno())
Path(pipe).read_bytes()
"""
    process = run(tmp_path, code)
    _, terminal = process.communicate(timeout=60)
    assert process.returncode == 1
    assert str(tmp_path / "image.jpg") in terminal
