"""What runs apart ends alone, and takes no more memory than it may."""

import multiprocessing
import os
import resource
import signal
import time

import psutil
import pytest
import torch

from cloudseg.errors import OutOfMemoryError
from cloudseg.runtime.isolation import isolated, memory_limit

CPU = torch.device("cpu")


def test_a_limit_is_met_and_lifted():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_limit(CPU, 100):
        assert resource.getrlimit(resource.RLIMIT_DATA) != before
        torch.ones(50 * 2**18)
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            torch.ones(150 * 2**18)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    torch.ones(150 * 2**18)


def one_of_many(images, how):
    if how == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "leaves":
        os._exit(3)
    if how == "fails":
        raise KeyError("loss")
    return {"images": images}


def test_a_process_that_dies_had_not_enough_memory_and_the_next_goes_on():
    with isolated(one_of_many) as run:
        assert run(2, "ends") == {"images": 2}
        with pytest.raises(OutOfMemoryError) as died:
            run(4, "dies")
        assert str(died.value) == "the process was ended by SIGSEGV"
        with pytest.raises(KeyError, match="loss") as caught:
            run(4, "fails")
        assert "one_of_many" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="ended with exit code 3"):
            run(4, "leaves")
        assert run(3, "ends") == {"images": 3}


def sleep_long(file):
    file.write_text(f"{os.getppid()} {os.getpid()}")
    time.sleep(600)


def work_long(file):
    with isolated(sleep_long) as run:
        run(file)


def test_no_process_outlives_its_job(tmp_path):
    file = tmp_path / "processes"
    job = multiprocessing.get_context("spawn").Process(target=work_long, args=(file,))
    job.start()
    deadline = time.monotonic() + 120
    while not (file.exists() and " " in file.read_text()):
        assert job.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    processes = [psutil.Process(int(number)) for number in file.read_text().split()]
    job.kill()
    job.join()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []
