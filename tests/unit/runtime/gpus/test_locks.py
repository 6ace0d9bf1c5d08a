"""The lock files: who holds them, who stands in the way, and several users of one folder."""

import contextlib
import errno
import getpass
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from lock_holders import HOLDS, JOB, PATIENCE, SOON, eventually, next_line

from cloudseg.runtime.gpus import lease as module
from cloudseg.runtime.gpus.lease import lease
from cloudseg.runtime.gpus.locks import Locks

NOBODY = 65534
PROTECTED = Path("/proc/sys/fs/protected_regular")


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
