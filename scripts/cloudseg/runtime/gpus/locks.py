"""Lock files that all users of a machine share, and who holds them.

The locks are the kernel's (``flock``): they go however a process ends. What the kernel cannot guard is the name of a
file. Whoever owns a lock file or its folder may remove it while a job holds its lock, and the next job would make a
new one and lock that. So a lock counts only when the file that was locked is the one that has the name, and what a
job holds is claimed a second time under a name that no user can remove: an abstract socket of Linux, which is the
kernel's as well, but of one network namespace alone, where the files are of all containers that mount the folder.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import pwd
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cloudseg.runtime.gpus.lock_files import open_file, open_folder
from cloudseg.runtime.processes import state_of

LOOK_EVERY = 0.05  # seconds between two tries
SAY_AFTER = 10.0  # seconds of waiting until the first message; each later one comes after twice as many
SAY_AT_LEAST_EVERY = 600.0  # seconds between two messages


class Waiting:
    """Says what a job waits for: after a short while, and then less and less often.

    The first message also goes to Snakemake's terminal.

    Parameters
    ----------
    after : seconds until it is said for the first time.
    """

    def __init__(self, after: float | None = None) -> None:
        self._began = time.monotonic()
        self._next = SAY_AFTER if after is None else after
        self._told = False

    def say(self, what: Callable[[], str]) -> None:
        """Print ``waiting for N s: WHAT``, if it is time to."""
        waited = time.monotonic() - self._began
        if waited < self._next:
            return
        self._next = waited + min(max(waited, SAY_AFTER), SAY_AT_LEAST_EVERY)
        text = f"waiting for {waited:.0f} s: {what()}"
        print(text, flush=True)
        if not self._told and sys.__stderr__ is not None:
            print(text, file=sys.__stderr__, flush=True)
        self._told = True


class Locks:
    """The lock files of a folder, each opened once; all locks go when they are closed or the process ends.

    Parameters
    ----------
    folder : made with mode 1777 where there is none.

    Raises
    ------
    DeviceError : if the folder, or later a file in it, is not what it must be.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.folder = open_folder(folder)
        self.files: dict[str, int] = {}
        self._claims: dict[str, list[socket.socket]] = {}
        _OPEN.add(self)
        # systemd-tmpfiles removes old files from /tmp, but leaves a locked folder alone. Where another process has it
        # locked exclusively, this one does not wait.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self.folder, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def is_replaced(self) -> bool:
        """Say whether another folder, or none, has the name of this one by now."""
        try:
            return not os.path.samestat(self.path.stat(follow_symlinks=False), os.fstat(self.folder))
        except FileNotFoundError:
            return True

    @contextlib.contextmanager
    def mutex(self, waiting: Waiting) -> Iterator[None]:
        """Hold the file ``mutex`` for a moment; ``waiting`` says who stands in the way."""
        # SIGTSTP (Ctrl-Z, or Slurm before it suspends a job) is held back: all other users would wait for a stopped job
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
        pause = LOOK_EVERY / 32  # seconds; most holders release it within a millisecond
        try:
            while not self.try_lock("mutex"):
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                waiting.say(
                    lambda: (
                        f"{self.path / 'mutex'} is held by {self.holders('mutex')}; no job of any user can take a "
                        "device until it goes on or ends"
                    )
                )
                time.sleep(pause)
                pause = min(2 * pause, LOOK_EVERY)
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
            try:
                yield
            finally:
                self.unlock("mutex")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def try_lock(self, name: str, kind: int = fcntl.LOCK_EX) -> bool:
        """Lock a file, unless others' locks stand in the way; an exclusive one gets a note of who holds it."""
        while True:
            file = self._open(name)
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self.has_its_name(name):
                break
            self.close_file(name)  # removed since it was opened: the file that has its name now counts
        return True

    def note(self, name: str) -> None:
        """Write into a file that is locked here who holds it."""
        facts = {"pid": os.getpid(), "user": _user(os.geteuid()), "host": platform.node()}
        self.write(name, json.dumps(facts | {"since": time.strftime("%Y-%m-%d %H:%M:%S")}))

    def close_file(self, name: str) -> None:
        """Close a file, which frees what is locked by it, and the claim that belongs to it."""
        for claim in self._claims.pop(name, ()):
            claim.close()
        os.close(self.files.pop(name))

    def unlock(self, name: str) -> None:
        """Give up a lock, and the claim that belongs to it."""
        for claim in self._claims.pop(name, ()):
            claim.close()
        fcntl.flock(self.files[name], fcntl.LOCK_UN)

    def is_locked(self, name: str, kind: int = fcntl.LOCK_EX) -> bool:
        """Say whether others' locks stand in the way of one of this kind; of a file that is not locked here."""
        if not self.try_lock(name, kind):
            return True
        self.unlock(name)
        return False

    def exists(self, name: str) -> bool:
        """Say whether there is such a file."""
        try:
            self._open(name, create=False)
        except FileNotFoundError:
            return False
        return True

    def claim(self, name: str, slots: Iterable[int]) -> bool:
        """Take slots of a locked file under a name that nobody can remove, all or none; give them up with its lock.

        Returns
        -------
        bool : False if another process has one of them. True where the kernel has no such names.
        """
        taken: list[socket.socket] = []
        for slot in slots:
            try:
                claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                taken.append(claim)
                claim.bind(self._address(name, slot))
                claim.listen()  # so that others can ask for this process's id
            except OSError as error:
                if sys.platform != "linux" or error.errno != errno.EADDRINUSE:
                    continue
                for claim in taken:
                    claim.close()
                return False
        self._claims[name] = taken
        return True

    def claimed_by(self, name: str, slots: Iterable[int]) -> set[int]:
        """Return the processes that claim slots of a file."""
        found = set()
        for slot in slots:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.setblocking(False)
                client.connect(self._address(name, slot))
                size = struct.calcsize("3i")
                found.add(struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0])
        return found

    def holders(self, name: str, slots: Iterable[int] = ()) -> str:
        """Say in words who holds a file, or slots of it by a claim, and what lets it go on."""
        note = _note(self.read(name)) if self.exists(name) else {}
        lockers = _lockers(self.files[name]) if name in self.files else set()
        pids = sorted(lockers | self.claimed_by(name, slots))
        if not pids and note:
            return f"process {note['pid']} of {note['user']} on {note['host']} since {note['since']}"
        if not pids:
            return f"a process that is not to be seen from here (root may ask `fuser -v {self.path / name}`)"
        return " and ".join(_in_words(pid, note if note.get("pid") == pid else {}) for pid in pids)

    def read(self, name: str) -> bytes:
        """Return what a file holds, up to 16 KiB."""
        return os.pread(self.files[name], 1 << 14, 0)

    def write(self, name: str, text: str) -> None:
        """Replace what a file holds; on a full disk it then holds nothing that could be read."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.files[name], os.pwrite(self.files[name], text.encode(), 0))

    def close_all_but(self, names: Iterable[str]) -> None:
        """Close files, which frees what is locked by them, and their claims."""
        for name in self.files.keys() - set(names):
            self.close_file(name)

    def close(self) -> None:
        """Close all."""
        if self in _OPEN:  # else this is a forked child, which has dropped them
            _OPEN.remove(self)
            self.close_all_but(())
            os.close(self.folder)

    def _open(self, name: str, create: bool = True) -> int:
        if name not in self.files:
            self.files[name] = open_file(self.folder, self.path, name, create)
        return self.files[name]

    def has_its_name(self, name: str) -> bool:
        """Say whether a file that was opened is still the one that has the name."""
        try:
            there = os.stat(name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self.files[name]))

    def _address(self, name: str, slot: int) -> str:
        text = f"{self.path.absolute()} {name} {slot}"
        return f"\0cloudseg-{hashlib.sha256(text.encode()).hexdigest()}"


_OPEN: set[Locks] = set()


def _drop_locks() -> None:
    # A lock goes with the last descriptor of its file, so closing the copies in the child keeps the parent's
    for locks in list(_OPEN):
        locks.close()


os.register_at_fork(after_in_child=_drop_locks)


# Who holds them


def _note(text: bytes) -> dict[str, str | int]:
    """Return what :meth:`Locks.note` wrote; empty for any other content."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(facts, dict) or facts.keys() != {"pid", "user", "host", "since"} or type(facts["pid"]) is not int:
        return {}
    texts = [facts[key] for key in ("user", "host", "since")]
    return facts if all(isinstance(each, str) and each.isprintable() and len(each) < 100 for each in texts) else {}


def _lockers(file: int) -> set[int]:
    """Return the processes that the kernel says hold a lock on an open file, but for this one (Linux)."""
    status = os.fstat(file)
    device_and_inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    rows = (line.split() for line in lines if "->" not in line)  # -> marks a process that waits
    found = {int(row[4]) for row in rows if row[1] == "FLOCK" and row[5] == device_and_inode}
    return {pid for pid in found if pid > 0} - {os.getpid()}  # 0 is a process of another container


def _in_words(pid: int, note: dict) -> str:
    if pid <= 0:
        return "a process of another container"
    try:
        user = _user(Path(f"/proc/{pid}").stat().st_uid)
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
    except OSError:
        user, words = "an unknown user", ""
    command = "".join(letter if letter.isprintable() else "?" for letter in words)
    text = f"process {pid} of {user} on {platform.node()}"
    text += f" since {note['since']}" if note else ""
    text += f" ({command[:77]}...)" if len(command) > 80 else f" ({command})" if command else ""
    if state_of(pid) in ("T", "t"):
        return f"{text}, which is stopped: `kill -CONT {pid}` lets it go on, `kill -KILL {pid}` ends it"
    return f"{text}: `kill {pid}` ends it"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
