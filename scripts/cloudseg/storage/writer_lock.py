"""The lock of a half-written store (``<path>.part``), so that two processes never write the same one."""

import contextlib
import datetime
import fcntl
import os
import platform
from pathlib import Path
from typing import TextIO

from cloudseg.errors import StoreError
from cloudseg.storage.files import make_folder

LOCK_FILE = ".writer"
"""Name of the lock file in the ``.part``: locked by the process that writes there, and names it."""

_LOCKS: dict[tuple[int, Path], TextIO] = {}  # by process id and path: a fork copies it, and a process may lock again


def lock(part: Path) -> None:
    """Make the folder of a half-written store and lock it for this process, until :func:`unlock` or its end.

    Raises
    ------
    StoreError : if another process holds it; it says which one.
    """
    if part.exists() and not part.is_dir():
        part.unlink()
    own = _LOCKS.get((os.getpid(), part.absolute()))
    if own is not None and _is_still_at(own, part / LOCK_FILE):
        return
    unlock(part)
    while True:
        make_folder(part)
        try:
            file = (part / LOCK_FILE).open("a+", encoding="utf-8")
        except FileNotFoundError:  # the other writer has just finished: it renamed the folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise StoreError(
                f"{part}: {holder} is writing this store; let it finish, or end it, then type the same command again"
            ) from None
        except OSError:  # a file system without locks
            pass
        if _is_still_at(file, part / LOCK_FILE):
            break
        file.close()
    file.truncate(0)
    now = datetime.datetime.now().astimezone()
    file.write(f"process {os.getpid()} on {platform.node()} (since {now:%Y-%m-%d %H:%M})\n")
    file.flush()
    _LOCKS[os.getpid(), part.absolute()] = file


def _is_still_at(file: TextIO, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def unlock(part: Path) -> None:
    """Release the lock of a half-written store; nothing happens if this process does not hold it."""
    if (file := _LOCKS.pop((os.getpid(), part.absolute()), None)) is not None:
        file.close()
