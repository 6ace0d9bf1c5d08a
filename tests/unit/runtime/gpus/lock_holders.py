"""Jobs that hold devices, and what they tell of themselves."""

import fcntl
import time

FOUR = ["a", "b", "c", "d"]
PATIENCE = 60  # seconds, for what should not take one
JOB = """
import os, sys, time
from cloudseg.runtime.gpus.lease import lease
name, count, jobs_per_device, hold, folder = sys.argv[1:]
log = os.open(os.path.dirname(folder) + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(what, devices=()):
    os.write(log, f"{time.monotonic()} {name} {what} {','.join(devices)}\\n".encode())
note("ask")
with lease(int(count), jobs_per_device=int(jobs_per_device), folder=folder) as devices:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(devices) and "torch" not in sys.modules
    note("start", devices)
    time.sleep(float(hold))
    note("stop", devices)
"""


def next_line(process):
    return process.stdout.readline().strip()


def events(folder):
    lines = folder.with_name("log").read_text().splitlines() if folder.with_name("log").exists() else []
    parts = [line.split(" ") for line in lines if line.count(" ") == 3]
    return [(float(at), name, what, devices.split(",") if devices else []) for at, name, what, devices in parts]


def is_free(folder, name):
    """Ask the kernel itself."""
    with (folder / f"device-{name}").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def eventually(condition):
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)
    return True


SOON = "from cloudseg.runtime.gpus import locks; locks.SAY_AFTER = 0.1\n"
HOLDS = """
import fcntl, os, signal, sys
file = os.open(sys.argv[2] + "/" + sys.argv[1], os.O_RDWR if sys.argv[1] else os.O_RDONLY)
fcntl.flock(file, fcntl.LOCK_EX)
print("holds", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
