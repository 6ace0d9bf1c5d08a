"""How the kernels are compiled: once per machine and version, however many jobs start at once.

A cold compilation takes seconds per public function, loading from numba's cache some hundredths of a second.
"""

from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numba

try:
    import fcntl
except ImportError:  # Windows: jobs that start at once may compile the same kernel twice, no more
    fcntl = None

# A stage is compiled into the kernels that call it. It is not cached by itself, since nobody calls it alone.
stage = numba.njit(nogil=True)
inlined = numba.njit(nogil=True, forceinline=True)

# numba compares its cache with the time of the one file in which a kernel stands, and would go on using it when only
# another file with a stage of the kernel has changed. So the times and sizes of all files here count.
_STAMP = tuple(
    (file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(Path(__file__).parent.glob("*.py"))
)


@contextmanager
def _one_process_at_a_time(folder: str):
    """Hold the lock of a cache folder, so that one job compiles and the others find what it made.

    The system frees the lock of a process that dies. Where a lock cannot be had (some network file systems), jobs
    compile each for themselves: slower, and still right, since numba replaces its files in one step.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock = (Path(folder) / "compiling.lock").open("w")
    except OSError:
        lock = None
    if lock is None or fcntl is None:
        yield
        return
    with lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class kernel:
    """A function that Python calls and numba compiles, on its first call in a process, or loads from its cache.

    Kernels take numbers, addresses among them, and every kernel has one signature. A second one would be compiled at
    some later call, and numba numbers the cache files of a function by signature: jobs that add different signatures
    at once could swap their files.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._dispatcher = numba.njit(nogil=True, cache=True)(function)
        self._dispatcher._cache._cache_file._source_stamp = _STAMP
        self._ready = False

    def __call__(self, *arguments: int | float) -> Any:
        if not self._ready:
            with _one_process_at_a_time(self._dispatcher.stats.cache_path):
                self._dispatcher.compile(tuple(numba.typeof(argument) for argument in arguments))
            self._ready = True
        return self._dispatcher(*arguments)

    def cache_misses(self) -> int:
        """Return how often this process compiled the kernel: once, or never when the cache had it."""
        return sum(self._dispatcher.stats.cache_misses.values())
