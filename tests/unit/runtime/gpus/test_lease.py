"""A lease of devices, from the beginning of a job to the end of its last process."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from lock_holders import PATIENCE, eventually, is_free, next_line

from cloudseg.runtime.gpus.lease import lease


def test_jobs_share_devices_and_spread_first(start, folder):
    with contextlib.ExitStack() as stack:
        leased = [stack.enter_context(lease(1, jobs_per_device=2, pool=["a", "b"], folder=folder)) for _ in range(4)]
        assert leased == [("a",), ("b",), ("a",), ("b",)]
        assert next_line(start("fifth", 1, 2, 0, pool=["a", "b"])) == "waiting for 1 of 2 devices: a, b"
        with lease(2, jobs_per_device=3, pool=["a", "b"], folder=folder) as devices:
            assert sorted(devices) == ["a", "b"]


CHILDREN = """
import os, subprocess, sys, time
from cloudseg.runtime.gpus.lease import lease
how, folder = sys.argv[1:]
with lease(1, pool=["a"], folder=folder):
    if how == "forked":
        if not (child := os.fork()):
            time.sleep(600)
        if not (brief := os.fork()):
            sys.exit()  # through the end of the lease's block
        os.waitpid(brief, 0)
    else:
        code = "import os, sys, time; from cloudseg.runtime.processes import end_with_parent\\n"
        code += f"end_with_parent({os.getpid()}); print('set', flush=True)\\n" if how == "tied" else ""
        child = subprocess.Popen([sys.executable, "-c", code + "time.sleep(600)"], close_fds=False).pid
    print("child", child, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", ["forked", "started"])
def test_a_child_neither_frees_the_device_nor_keeps_it(start, folder, how):
    parent = start(how, code=CHILDREN)
    assert next_line(parent) == "leased a"
    child = int(next_line(parent).removeprefix("child "))
    try:
        assert not is_free(folder, "a")
        parent.kill()
        parent.wait()
        assert eventually(lambda: is_free(folder, "a"))
        os.kill(child, 0)  # lives
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_that_is_tied_to_its_parent_ends_with_it(start):
    parent = start("tied", code=CHILDREN)
    assert {next_line(parent).split()[0] for _ in range(3)} == {"leased", "child", "set"}
    parent.kill()
    assert parent.communicate(timeout=PATIENCE) == ("", None)  # the child held the other end of the pipe


def test_a_child_that_is_tied_too_late_ends_at_once():
    code = "from cloudseg.runtime.processes import end_with_parent; end_with_parent(2**22 + 1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL


def test_an_error_frees_the_devices_and_gives_the_variable_back(folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "x,y")
    with pytest.raises(KeyError), lease(2, folder=folder):
        assert not is_free(folder, "x") and not is_free(folder, "y")
        raise KeyError
    assert is_free(folder, "x") and is_free(folder, "y")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "x,y"
