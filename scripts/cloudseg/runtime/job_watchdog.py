"""End a job that stands still, with the name of the file that it waits for.

A read from a disk that does not answer never returns. A watchdog thread checks whether the job and the processes that
it started use CPU time, or read or write anything. While they do not, it counts the seconds in which the job was not
stopped: after ``SAY_AFTER`` it says so, after ``JOB_STUCK_AFTER`` it ends the job.

Waits that may be long (for a device) and those with a watchdog of their own are left out by :func:`not_watched`.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from cloudseg.runtime import job_progress
from cloudseg.runtime.processes import cpu_seconds
from cloudseg.runtime.watchdog import IDLE, STUCK_AFTER

SAY_AFTER = 60.0  # seconds without progress
JOB_STUCK_AFTER = STUCK_AFTER + 60  # seconds; later than the watchdogs of single waits, whose errors say more
LOOKS = 6  # checks in SAY_AFTER
GRACE = 5.0  # seconds to write the last message
NOISE = 1024  # bytes that do not count as progress: a check itself reads some from /proc
# Functions in which a thread waits for another thread, which is named instead
WAITING = {"wait", "get", "join", "acquire", "select", "_wait_for_tstate_lock", "_worker", "_work", "result"}

_opened: dict[int, str] = {}  # by thread: the last file that it opened, or folder that it listed
_not_watched = 0
_hooked = False


@contextlib.contextmanager
def watching(log: TextIO) -> Iterator[None]:
    """Watch this process while the block runs; one that stands still for too long ends with status 1.

    Parameters
    ----------
    log : file that messages are written to; the first one also goes to the terminal.

    Examples
    --------
    >>> with watching(sys.stdout):
    ...     print("at work")
    at work
    """
    _note_opened_files()
    ended = threading.Event()
    # A daemon: nobody waits for a thread that writes to a dead disk
    threading.Thread(target=_watch, args=(log, ended), name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextlib.contextmanager
def not_watched() -> Iterator[None]:
    """Let this process wait as long as it likes while the block runs."""
    global _not_watched
    _not_watched += 1
    try:
        yield
    finally:
        _not_watched -= 1


def _note_opened_files() -> None:
    """Record which file each thread opens: nothing else tells the name of a file that a thread waits for."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_note_opened)
        _hooked = True


def _note_opened(event: str, arguments: tuple) -> None:
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened[threading.get_ident()] = os.fsdecode(arguments[0])


def _watch(log: TextIO, ended: threading.Event) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
    tick = SAY_AFTER / LOOKS
    use, still, say_at = _Use(), 0.0, SAY_AFTER
    began = time.monotonic()
    while not ended.wait(tick):
        passed, began = time.monotonic() - began, time.monotonic()
        if use.has_grown(tick) or _not_watched:
            still, say_at = 0.0, SAY_AFTER
            continue
        still += min(passed, 2 * tick)  # a longer tick means that the process was stopped
        if still >= JOB_STUCK_AFTER:
            _end(f"Error: {_in_words(still)}; check that the disk answers, then run the same command again", log)
        if still >= say_at:
            _say(f"{_in_words(still)}; in {JOB_STUCK_AFTER - still:.0f} s more the job ends", log, say_at == SAY_AFTER)
            say_at *= 2
            use = _Use()  # so that writing to the log is no progress


class _Use:
    """CPU time and I/O of this process and of those that it started, without this thread's."""

    def __init__(self) -> None:
        self._own, self._bytes = _own_cpu_seconds(), _moved_bytes()
        self._children = cpu_seconds(os.getpid(), itself=False)

    def has_grown(self, seconds: float) -> bool:
        """Return whether there was any since the last call, some seconds ago."""
        own, moved = _own_cpu_seconds(), _moved_bytes()
        grown = own - self._own >= IDLE * seconds or moved - self._bytes >= NOISE
        self._own, self._bytes = own, moved
        if not grown:  # last, since it reads /proc of every process
            children = cpu_seconds(os.getpid(), itself=False)
            grown = children - self._children >= IDLE * seconds
            self._children = children
        return grown


def _own_cpu_seconds() -> float:
    return time.process_time() - time.thread_time()


def _moved_bytes() -> int:
    """Return the bytes that this process has read and written, but for this thread (Linux; 0 elsewhere)."""
    try:
        whole, own = (
            sum(int(line.split()[1]) for line in Path(path).read_text().splitlines() if "sys" not in line)
            for path in ("/proc/self/io", f"/proc/self/task/{threading.get_native_id()}/io")
        )
    except (OSError, ValueError):
        return 0
    return whole - own


def _in_words(still: float) -> str:
    lines = []
    for thread, frame in sys._current_frames().items():
        if thread != threading.get_ident() and frame.f_code.co_name not in WAITING:
            name = f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
            lines.append(f"{_opened[thread]}, in {name}" if thread in _opened else f"something in {name}")
    files = "; ".join(lines[:4]) or "another process"
    return f"waiting for {still:.0f} s, without computing, reading or writing anything, most likely for {files}"


def _say(text: str, log: TextIO, on_terminal: bool) -> None:
    if on_terminal and sys.__stderr__ is not None:  # before the log, whose disk may not answer either
        print(f"{log.name}: {text}", file=sys.__stderr__, flush=True)
    writing = threading.Thread(target=print, args=[text], kwargs={"file": log, "flush": True}, daemon=True)
    writing.start()
    writing.join(GRACE / 5)


def _end(text: str, log: TextIO) -> None:
    threading.Timer(GRACE, os._exit, [1]).start()  # in case writing to the log is stuck, too
    _say(text, log, on_terminal=True)
    faulthandler.dump_traceback(log)
    log.flush()
    job_progress.fail(text)
    os._exit(1)
