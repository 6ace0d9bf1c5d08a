import contextlib
import errno
import fcntl
import getpass
import itertools
import json
import os
import platform
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cloudseg.runtime.gpus import lease as module
from cloudseg.runtime.gpus import queue, visible
from cloudseg.runtime.gpus.lease import lease
from cloudseg.runtime.gpus.locks import Locks
from cloudseg.runtime.gpus.visible import visible_devices

FOUR = ["a", "b", "c", "d"]
PATIENCE = 60  # seconds, for what should not take one
NOBODY = 65534
PROTECTED = Path("/proc/sys/fs/protected_regular")

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


# Many jobs


@pytest.mark.parametrize(("seed", "wanted"), [(1, [1] * 12), (2, [1, 2] * 6), (3, [2, 1, 1] * 4)])
def test_twelve_jobs_on_four_devices_some_killed(start, folder, seed, wanted):
    print(f"seed {seed}")
    rng = random.Random(seed)
    counts = dict(zip((f"job{number}" for number in range(12)), rng.sample(wanted, 12), strict=True))
    names = list(counts)
    killed_holding, killed_early = names[2:5], names[8:10]
    holds = {name: 600 if name in killed_holding + killed_early else rng.uniform(0.3, 0.6) for name in names}
    processes = {name: start(name, counts[name], 1, holds[name]) for name in names}
    # a time after which event each of them is killed
    kills = {name: ("start", rng.uniform(0.1, 0.4)) for name in killed_holding}
    kills |= {name: ("ask", rng.uniform(0.0, 0.8)) for name in killed_early}
    with folder.with_name("log").open("ab", buffering=0) as log:
        limit = time.monotonic() + PATIENCE
        while any(process.poll() is None for process in processes.values()):
            assert time.monotonic() < limit, events(folder)
            for at, name, what, _ in events(folder):
                if name in kills and what == kills[name][0] and time.monotonic() > at + kills[name][1]:
                    del kills[name]
                    log.write(f"{time.monotonic()} {name} killed \n".encode())
                    processes[name].kill()
            time.sleep(0.01)
    seen = events(folder)
    finished = {name for _, name, what, _ in seen if what == "stop"}
    assert finished == set(names) - set(killed_holding) - set(killed_early)
    assert all(processes[name].returncode == 0 for name in finished)

    ends = {name: at for at, name, what, _ in seen if what in ("stop", "killed")}
    starts = {name: (at, devices) for at, name, what, devices in seen if what == "start"}
    assert all(len(set(devices)) == counts[name] for name, (_, devices) in starts.items())
    for device in FOUR:
        held = sorted((at, ends[name]) for name, (at, devices) in starts.items() if device in devices)
        assert len(held) > 1
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(held)), (device, held)
    assert idle_share(seen, counts, starts, ends) < 0.25


def idle_share(seen, counts, starts, ends):
    """Return how much of the devices lay idle while jobs waited, any of which could have used what was free."""
    asks = {name: at for at, name, what, _ in seen if what == "ask"}
    idle = waited = 0.0
    for begin, end in itertools.pairwise(sorted(at for at, *_ in seen)):
        free = 4 - sum(counts[name] for name, (at, _) in starts.items() if at <= begin and end <= ends[name])
        waiting = [name for name in asks if asks[name] <= begin and end <= starts.get(name, [ends[name]])[0]]
        if waiting:
            wanted = [counts[name] for name in waiting]
            waited += (end - begin) * 4
            idle += (end - begin) * min(free, sum(wanted)) * (free >= max(wanted))
    print(f"idle while jobs waited: {idle / waited:.1%}")
    return idle / waited


def test_a_job_for_two_is_not_overtaken_by_jobs_for_one(start, folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # leases that end out of order leave it as it was in the middle
    holders = [contextlib.ExitStack() for _ in range(2)]
    for holder in holders:
        holder.enter_context(lease(1, pool=["a", "b"], folder=folder))
    jobs = {}
    for name, count in [("wide", 2), ("narrow", 1), ("thin", 1)]:
        jobs[name] = start(name, count, 1, 0.1, pool=["a", "b"])
        assert next_line(jobs[name]) == f"waiting for {count} of 2 devices: a, b"
    holders[0].close()
    time.sleep(0.5)
    assert not [what for _, _, what, _ in events(folder) if what == "start"]  # the first is kept for the wide one
    holders[1].close()
    assert next_line(jobs["wide"]).startswith("leased a, b after waiting ")
    assert all(process.wait(PATIENCE) == 0 for process in jobs.values())
    assert next(name for _, name, what, _ in events(folder) if what == "start") == "wide"


def test_a_job_that_shares_with_none_is_not_overtaken_by_jobs_that_share(start, folder):
    with lease(1, jobs_per_device=2, pool=["a"], folder=folder):
        alone = start("alone", 1, 1, 0.1, pool=["a"])
        assert next_line(alone).startswith("waiting")
        sharing = start("sharing", 1, 2, 0.1, pool=["a"])
        assert next_line(sharing).startswith("waiting")  # although the device has room for it
    assert alone.wait(PATIENCE) == sharing.wait(PATIENCE) == 0
    assert [name for _, name, what, _ in events(folder) if what == "start"] == ["alone", "sharing"]


def test_a_job_waits_only_for_devices_that_it_may_use(start, folder):
    with lease(1, pool=["a"], folder=folder):
        assert next_line(start("other", 1, 1, 0, pool=["a"])).startswith("waiting for 1 of 1 devices")
        with lease(1, pool=["b"], folder=folder) as devices:
            assert devices == ("b",)
        with lease(1, pool=["a", "b"], folder=folder) as devices:
            assert devices == ("b",)


def test_a_waiting_job_that_was_stopped_blocks_nobody(start, folder, monkeypatch):
    with lease(1, pool=["a"], folder=folder):
        stopped = start("stopped", 1, 1, 0, pool=["a"])
        assert next_line(stopped).startswith("waiting")
        stopped.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(queue, "STOPPED_AFTER", 0.2)
    with lease(1, pool=["a"], folder=folder) as devices:
        assert devices == ("a",)
        stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(PATIENCE) == 0


def odd_tickets():
    """Yield what no job writes: each differs from a ticket that would have to be waited for in one thing."""
    now = time.monotonic_ns()
    sound = {"arrival": 0, "looked": now, "pool": ["a"], "count": 1, "jobs_per_device": 1}
    in_a_day = now + 86400 * 10**9
    yield json.dumps(sound | {"looked": in_a_day})
    for name in ("arrival", "looked", "count", "jobs_per_device"):
        for value in ("x", None, [], {}, 1.5, True, -1):
            yield json.dumps(sound | {name: value})
    for pool in ("a", None, {"a": 1}, [1, "a"], [["a"]], [None], ["a\0"], ["\ud800"], ["a" * 300], []):
        yield json.dumps(sound | {"pool": pool})
    yield json.dumps(sound | {"more": 1})
    yield "[" * 10000
    yield "9" * 5000


def test_a_sound_ticket_has_its_say(folder):
    """Else the odd ones would prove nothing."""
    with lease(1, pool=["a"], folder=folder), lease(1, pool=["b"], folder=folder):
        pass
    sound = {"arrival": 0, "looked": time.monotonic_ns(), "pool": ["a"], "count": 1, "jobs_per_device": 1}
    with (folder / "queue0").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(json.dumps(sound))
        other.flush()
        with lease(1, pool=["a", "b"], folder=folder) as devices:
            assert devices == ("b",)


def test_a_ticket_makes_no_files(folder):
    with lease(1, pool=["a"], folder=folder):
        pass
    names = [f"x{number}" for number in range(50)]
    sound = {"arrival": 0, "looked": time.monotonic_ns(), "pool": names, "count": 50, "jobs_per_device": 1}
    with (folder / "queue0").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(json.dumps(sound))
        other.flush()
        with lease(1, pool=["a"], folder=folder):
            pass
    assert {file.name for file in folder.glob("device-*")} == {"device-a"}


def test_tickets_of_the_dead_and_of_vandals_have_no_say(start, folder):
    with lease(1, pool=["a"], folder=folder):
        dead = start("dead", 1, 1, 0, pool=["a"])
        assert next_line(dead).startswith("waiting")
        dead.kill()
        dead.wait()
    with (folder / "queue0").open("r+") as vandal:
        fcntl.flock(vandal, fcntl.LOCK_EX)
        for text in ("", "no ticket", '{"count": 1}', "[1]", *odd_tickets()):
            vandal.seek(0)
            vandal.truncate()
            vandal.write(text)
            vandal.flush()
            with lease(1, pool=["a"], folder=folder) as devices:
                assert devices == ("a",)


# Whoever stands in the way, and files that vanish


SOON = "from cloudseg.runtime.gpus import locks; locks.SAY_AFTER = 0.1\n"
HOLDS = """
import fcntl, os, signal, sys
file = os.open(sys.argv[2] + "/" + sys.argv[1], os.O_RDWR if sys.argv[1] else os.O_RDONLY)
fcntl.flock(file, fcntl.LOCK_EX)
print("holds", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.parametrize("file", ["mutex", "device-a"])
def test_a_stopped_process_that_holds_a_lock_is_named_with_what_lets_it_go_on(start, folder, file):
    with lease_a(folder):
        pass
    stopped = start(file, code=HOLDS)
    assert next_line(stopped) == "holds"
    job = start("job", 1, 1, 0, code=SOON + JOB, pool=["a"], stderr=subprocess.PIPE)
    seen = []
    while not seen or not seen[-1].startswith("waiting for 0 s"):
        seen.append(next_line(job))
    host = platform.node()
    assert f"process {stopped.pid} of {getpass.getuser()} on {host} ({sys.executable} -c " in seen[-1]
    assert f"which is stopped: `kill -CONT {stopped.pid}` lets it go on" in seen[-1]
    assert job.stderr.readline().strip() == seen[-1]  # for who looks at the terminal
    stopped.send_signal(signal.SIGCONT)
    out, err = job.communicate(timeout=PATIENCE)
    assert "leased a" in out
    assert "waiting" not in err  # once


def test_a_job_that_holds_a_device_is_named_with_its_beginning(start, folder):
    holder = start("holder", 1, 1, 600, pool=["a"])
    assert next_line(holder) == "leased a"
    job = start("job", 1, 1, 0, code=SOON + JOB, pool=["a"])
    assert next_line(job) == "waiting for 1 of 1 devices: a"
    said = next_line(job)
    assert re.fullmatch(
        rf"waiting for 0 s: 1 of 1 devices: a is held by process {holder.pid} of {getpass.getuser()} on "
        rf"{re.escape(platform.node())} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \(.*\): `kill {holder.pid}` ends it. "
        "This job goes on by itself",
        said,
    )
    sharing = [start(f"sharing{number}", 1, 2, 600, pool=["b"]) for number in range(2)]
    assert [next_line(each) for each in sharing] == ["leased b"] * 2
    third = start("third", 1, 2, 0, code=SOON + JOB, pool=["b"])
    next_line(third)
    said = next_line(third)
    assert all(f"process {each.pid} of" in said for each in sharing)
    assert "b is shared by" in said


def test_who_has_the_folder_to_himself_is_not_waited_for(start, folder):
    with lease_a(folder):
        pass
    assert next_line(start("", code=HOLDS)) == "holds"
    with lease_a(folder) as devices:
        assert devices == ("a",)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no names that nobody can remove")
@pytest.mark.parametrize(("holds", "asks"), [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("removed", ["file", "all files", "folder"])
def test_a_lock_file_that_its_owner_removes_lets_no_second_job_in(start, folder, holds, asks, removed):
    holder = start("holder", 1, holds, 600, pool=["a"])
    assert next_line(holder) == "leased a"
    if removed == "folder":
        shutil.rmtree(folder)
    for file in folder.glob("device-*" if removed == "file" else "*"):
        file.unlink()
    job = start("job", 1, asks, 0, code=SOON + JOB, pool=["a"])
    assert next_line(job) == "waiting for 1 of 1 devices: a"
    said = next_line(job)
    assert f"by process {holder.pid} of" in said
    assert "whose lock file was removed" in said or (holds, removed) == (2, "file")  # its slot is still locked
    holder.kill()
    assert next_line(job).startswith("leased a after waiting")


def test_a_file_that_was_removed_is_not_locked_in_place_of_the_one_that_is_there(folder):
    with contextlib.closing(Locks(folder)) as first, contextlib.closing(Locks(folder)) as second:
        assert first.exists("a") is False
        assert not first.is_locked("a")  # opens it
        (folder / "a").unlink()
        assert second.try_lock("a")
        assert not first.try_lock("a")


def test_a_waiting_job_moves_to_the_folder_that_is_there(start, folder):
    with lease_a(folder):
        job = start("job", 1, 1, 0.1, pool=["a"])
        assert next_line(job).startswith("waiting")
        folder.rename(folder.with_name("old"))
        assert eventually(lambda: (folder / "queue0").exists())
    assert next_line(job).startswith("leased a after waiting")
    assert (folder / "device-a").exists()


def test_more_files_of_others_than_a_process_may_open(start, folder):
    with lease_a(folder):
        pass
    for number in range(300):
        (folder / f"queue{number}").touch()
        (folder / f"slot{number}-a").touch()
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
    with lease(1, jobs_per_device=2, pool=["a"], folder=folder):
        job = start("job", 1, 1, 0, code=few + JOB, pool=["a"])
        assert next_line(job).startswith("waiting")
    assert next_line(job).startswith("leased a")


def test_no_room_for_lock_files_is_said_in_one_line(folder, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "open", lambda *a, **b: full() if "dir_fd" in b else os_open(*a, **b))
        with pytest.raises(ValueError, match=r"locks/mutex: No space left on device; make room there"), lease_a(folder):
            pass


os_open = os.open


def test_jobs_share_devices_and_spread_first(start, folder):
    with contextlib.ExitStack() as stack:
        leased = [stack.enter_context(lease(1, jobs_per_device=2, pool=["a", "b"], folder=folder)) for _ in range(4)]
        assert leased == [("a",), ("b",), ("a",), ("b",)]
        assert next_line(start("fifth", 1, 2, 0, pool=["a", "b"])) == "waiting for 1 of 2 devices: a, b"
        with lease(2, jobs_per_device=3, pool=["a", "b"], folder=folder) as devices:
            assert sorted(devices) == ["a", "b"]


# The end of a process, and its children


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


# Which devices


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1,0", ["1", "0"]),
        (" b , a", ["b", "a"]),
        ("MIG-GPU-1/0/0,MIG-2", ["MIG-GPU-1/0/0", "MIG-2"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", ["0"]),
        ("0,,1", ["0"]),
    ],
)
def test_names_in_the_variable(monkeypatch, text, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert visible_devices() == names


def test_a_name_with_slashes_is_locked_in_the_folder(folder):
    with lease(1, pool=["MIG-GPU-1/0/0"], folder=folder):
        assert not is_free(folder, "MIG-GPU-1%2F0%2F0")


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


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    def make(script):
        program = tmp_path / "bin/nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}")

    return make


def test_a_device_has_one_lock_however_it_is_named(driver, folder, monkeypatch):
    driver()
    for text in ("2,3", "GPU-22,GPU-33", "GPU-2,3"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        with lease(1, folder=folder) as devices:
            assert devices == ("GPU-22",)
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
            with lease(3, folder=folder) as others:
                assert others == ("GPU-00", "GPU-11", "GPU-33")
    assert {file.name for file in folder.glob("device-*")} == {f"device-GPU-{n}{n}" for n in range(4)}


def test_numbers_of_devices_that_differ_must_mean_one_thing(driver, monkeypatch):
    driver(models=("T400", "A6000", "A6000", "A6000"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ValueError, match=r"=0 .*\(NVIDIA A6000, NVIDIA T400\).*CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        visible_devices()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert visible_devices() == ["GPU-00"]
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    assert visible_devices() == ["GPU-11"]


def test_an_excluded_device_is_none(driver):
    driver(excluded=[1])
    assert visible_devices() == ["GPU-00", "GPU-22", "GPU-33"]


def test_a_sleeping_driver_is_asked_through_nvidia_smi(driver, nvidia_smi, monkeypatch):
    driver(uuids=["GPU-????????-????"] * 4)
    assert visible_devices() == ["0", "1", "2", "3"]
    nvidia_smi('[ "$1" = --query-gpu=uuid,name ] && for n in 0 1 2 3; do echo "GPU-$n$n, NVIDIA H100, 80GB"; done')
    assert visible_devices() == ["GPU-00", "GPU-11", "GPU-22", "GPU-33"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    assert visible_devices() == ["GPU-33", "7"]


def test_a_broken_driver_names_no_devices_and_says_why(nvidia_smi, folder, capsys):
    nvidia_smi("echo cannot communicate with the driver; exit 9")
    with lease(1, folder=folder) as devices:
        assert devices == ()
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    said = capsys.readouterr().out
    assert "exit status 9" in said and "cannot communicate with the driver" in said
    assert not folder.exists()


def test_no_devices(folder, monkeypatch):
    assert visible_devices() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    with lease(0, folder=folder) as devices:
        assert (devices, os.environ["CUDA_VISIBLE_DEVICES"]) == ((), "")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "a,b"
    assert not folder.exists()


def test_more_than_there_are(folder):
    expected = r"asks for 3 devices, and there are 2: a, b; lower `gpus`"
    with pytest.raises(ValueError, match=expected), lease(3, pool=["a", "b", "a"], folder=folder):
        pass
    with pytest.raises(ValueError, match="gpu: -1"), lease(-1):
        pass
    with pytest.raises(ValueError, match="jobs_per_device: 0"), lease(1, jobs_per_device=0):
        pass


# Schedulers


@pytest.mark.parametrize("scheduler", visible.SCHEDULERS)
def test_what_a_scheduler_assigned_is_believed(driver, folder, monkeypatch, capsys, scheduler):
    driver()
    monkeypatch.setenv(scheduler, "17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for _ in range(2):
        with lease(2, folder=folder) as devices:
            assert (devices, os.environ["CUDA_VISIBLE_DEVICES"]) == (("0", "1"), "0,1")
    assert not folder.exists()
    assert f"0, 1 assigned by {scheduler}=17\n" in capsys.readouterr().out
    with pytest.raises(ValueError, match="3 devices, and there are 2"), lease(3, folder=folder):
        pass


def test_slurm_without_the_variable(folder, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with lease(1, folder=folder) as devices:  # no devices were assigned
        assert devices == ()
    monkeypatch.setenv("SLURM_JOB_GPUS", "2,3")
    with lease(1, folder=folder) as devices:
        assert devices == ("2", "3")
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not folder.exists()


def test_jobs_inside_a_wide_allocation_share_it(folder, monkeypatch):
    def inside(job):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")

    inside("17")
    with lease(1, folder=folder) as first:
        inside("17")
        with lease(1, folder=folder) as second:
            assert (first, second, os.environ["CUDA_VISIBLE_DEVICES"]) == (("0",), ("1",), "1")
            inside("18")  # another allocation: its numbers are of other devices
            with lease(1, folder=folder) as devices:
                assert devices == ("0",)


# The folder, and several users


@pytest.fixture
def common():
    """A folder that all users reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        Path(path).chmod(0o1777)
        yield Path(path)


@pytest.fixture
def protected_regular():
    """Set how strictly the kernel guards files in shared folders, and set it back."""
    before = PROTECTED.read_text() if PROTECTED.exists() else ""

    def protect(level):
        if before.strip() == level:
            return
        try:
            PROTECTED.write_text(level)
        except OSError as error:
            pytest.skip(f"fs.protected_regular is {before.strip() or 'unknown'} and cannot be set to {level}: {error}")

    yield protect
    with contextlib.suppress(OSError):
        PROTECTED.write_text(before)


AS_USER = """
import os, sys
from pathlib import Path
from cloudseg.runtime.gpus.lease import lease
user, device, folder = sys.argv[1:]
os.setgroups([])
os.setgid(int(user))
os.setuid(int(user))  # after the imports: the checkout may be closed to others
os.umask(0o077)
try:
    os.close(os.open(f"{folder}/device-{device}", os.O_RDWR | os.O_CREAT))
    print("may open")
except OSError as error:
    print(type(error).__name__)
with lease(1, pool=[device], folder=folder):
    print(oct(Path(folder, f"device-{device}").stat().st_mode), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("level", ["0", "1", "2"])
@pytest.mark.parametrize("users", [(0, NOBODY), (NOBODY, 0), (NOBODY, NOBODY - 1)])
def test_users_share_a_machine(common, protected_regular, start, level, users):
    protected_regular(level)
    folder = common / "locks"

    def start_as(user, device):
        return start(user, device, code=AS_USER, folder=folder, stdin=subprocess.PIPE)

    first = start_as(users[0], "a")
    assert [next_line(first) for _ in range(3)] == ["FileNotFoundError", "leased a", "0o100666"]
    assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (users[0], 0o1777)
    with first, start_as(users[1], "a") as second:
        assert next_line(second) == "may open"
        assert next_line(second) == "waiting for 1 of 1 devices: a"
        assert first.communicate("\n", timeout=PATIENCE) == ("", None)
        assert next_line(second).startswith("leased a after waiting ")
        second.communicate("\n", timeout=PATIENCE)
    (folder / "device-b").touch()
    (folder / "device-b").chmod(0o666)
    os.chown(folder / "device-b", users[1], users[1])
    with start_as(users[0], "b") as again:
        # what a plain open would have met: the other user's file in the folder of the first
        assert next_line(again) == ("may open" if level == "0" else "PermissionError")
        assert [next_line(again) for _ in range(2)] == ["leased b", "0o100666"]
        again.communicate("\n", timeout=PATIENCE)


def test_the_folder_is_common_to_all_users():
    folder = module._shared_folder()
    assert folder in (Path("/run/lock/cloudseg-devices"), Path("/tmp/cloudseg-devices"))  # noqa: S108
    assert folder.parent.stat().st_mode & 0o1777 == 0o1777


def test_neither_links_nor_special_files_are_followed(folder, tmp_path):
    (tmp_path / "precious").write_text("precious")
    folder.symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"locks: expected a folder .*, got a link or a file"), lease_a(folder):
        pass
    folder.unlink()
    folder.mkdir()
    for make in (
        lambda path: path.symlink_to(tmp_path / "precious"),
        lambda path: path.hardlink_to(tmp_path / "precious"),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
    ):
        path = folder / "device-a"
        make(path)
        with pytest.raises(ValueError, match=r"locks/device-a: .*expected a"), lease_a(folder):
            pass
        path.rmdir() if path.is_dir() else path.unlink()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_in_which_others_may_replace_locks(folder):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ValueError, match=r"locks: expected .*chmod 1777.* got mode 0777 of user \d+"), lease_a(folder):
        pass
    folder.chmod(0o1777)
    with lease_a(folder) as devices:
        assert devices == ("a",)


def lease_a(folder):
    return lease(1, pool=["a"], folder=folder)
