"""How the kernels are compiled: once per machine and version, however many jobs start at once.

A cold compilation takes seconds per public function, loading from numba's cache some hundredths of a second.
"""

import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numba

try:
    import fcntl
except ImportError:  # Windows: jobs that start at once may compile the same kernel twice, no more
    fcntl = None

LOOK_EVERY = 0.05  # seconds
SAY_AFTER = 10.0  # seconds
NO_CACHE = (
    "kernels are compiled anew in each process, since neither the folder of cloudseg.postprocess nor your cache folder "
    "can be written to; set NUMBA_CACHE_DIR to a folder of your own"
)
WAIT_AT_MOST = 60.0  # seconds; the slowest kernel compiles in some

# A stage is compiled into the kernels that call it. It is not cached by itself, since nobody calls it alone.
stage = numba.njit(nogil=True)
inlined = numba.njit(nogil=True, forceinline=True)


def _stamp(file: Path) -> tuple[str, int, int]:
    return file.name, file.stat().st_mtime_ns, file.stat().st_size


# numba compares its cache with the time of the one file in which a kernel stands, and would go on using it when only
# another file with a stage of the kernel has changed. So the times and sizes of all files here count, too.
_STAMP = tuple(map(_stamp, sorted(Path(__file__).parent.glob("*.py"))))


@contextmanager
def _one_process_at_a_time(folder: str) -> Iterator[None]:
    """Hold the lock of a cache folder, so that one job compiles and the others find what it made.

    The system frees the lock of a process that dies. Where a lock cannot be had (some network file systems), or
    whoever has it does not give it back in time, jobs compile each for themselves: slower, and still right, since
    numba replaces its files in one step.
    """
    lock = _lock(Path(folder) / "compiling.lock") if fcntl else None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Lock a file that all who compile use, and return it open; None where that takes too long or cannot be."""
    began, said = time.monotonic(), False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open(path)
        while not _try_lock(file, path):
            waited = time.monotonic() - began
            if (waited >= SAY_AFTER and not said) or waited >= WAIT_AT_MOST:
                then = "compiling without it" if waited >= WAIT_AT_MOST else f"waiting up to {WAIT_AT_MOST:g} s"
                who = "".join(filter(str.isprintable, os.pread(file, 200, 0).decode(errors="replace")))
                warnings.warn(
                    f"{path}: locked by another process for {waited:.0f} s (the last to write its name there: "
                    f"{who or 'none'}); {then}. `fuser -v {path}` names who has it open",
                    RuntimeWarning,
                    stacklevel=2,
                )
                said = True
            if waited >= WAIT_AT_MOST:
                os.close(file)
                return None
            time.sleep(LOOK_EVERY)
            if not _has_name(file, path):  # removed since it was opened: others lock the one that is there now
                os.close(file)
                file = _open(path)
    except OSError:
        return None
    with suppress(OSError):  # a full disk
        name = f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        os.ftruncate(file, os.pwrite(file, name.encode(), 0))
    return file


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)


def _try_lock(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _has_name(file, path)


def _has_name(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


class kernel:
    """A function that Python calls and numba compiles, on its first call in a process, or loads from its cache.

    Kernels take numbers, addresses among them, and every kernel has one signature. A second one would be compiled at
    some later call, and numba numbers the cache files of a function by signature: jobs that add different signatures
    at once could swap their files.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._dispatcher = numba.njit(nogil=True)(function)
        self._ready = False
        try:
            self._dispatcher.enable_caching()
        except RuntimeError:  # no folder that can be written to: neither the one beside this file, nor the user's own
            self._cached = False
        else:
            self._cached = True
            self._dispatcher._cache._cache_file._source_stamp = (*_STAMP, _stamp(Path(function.__code__.co_filename)))

    def __call__(self, *arguments: int | float) -> Any:
        """Run the kernel, which is compiled, or read from the cache, at the first call."""
        if not self._ready:
            if not self._cached:
                warnings.warn(NO_CACHE, RuntimeWarning, stacklevel=2)
            lock = _one_process_at_a_time(self._dispatcher.stats.cache_path) if self._cached else nullcontext()
            with lock:
                self._dispatcher.compile(tuple(numba.typeof(argument) for argument in arguments))
            self._ready = True
        return self._dispatcher(*arguments)

    def cache_misses(self) -> int:
        """Return how often this process compiled the kernel: once, or never when the cache had it."""
        return sum(self._dispatcher.stats.cache_misses.values())
