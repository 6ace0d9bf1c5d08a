"""A memory budget that threads share, so that they do only as much at once as fits; and memory that is used again."""

import contextlib
import ctypes
import sys
import threading
from collections.abc import Iterator

OVERHEAD = 500 * 10**6
"""Bytes that a job takes besides its images: Python, the libraries, one shard of a store."""

# Numbers of glibc's mallopt(3), and what they are set to
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST_KEPT, LARGEST_KEPT = 128 * 2**20, 32 * 2**20  # bytes


def keep_freed_memory() -> None:
    """Keep memory that is freed for what is allocated next, instead of giving it back to the system each time.

    The system clears each page that it gives out. Where every sample or batch takes fresh megabytes, that is a third of
    the time. Does nothing where malloc is not glibc's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, MOST_KEPT)
        mallopt(MMAP_THRESHOLD, LARGEST_KEPT)


class MemoryBudget:
    """Bytes that threads share: a thread waits until enough is left; one that wants more than the whole works alone.

    Parameters
    ----------
    memory : bytes that the job may take, :data:`OVERHEAD` included; None sets no limit.

    Examples
    --------
    >>> budget = MemoryBudget(OVERHEAD + 100)
    >>> with budget.take(60), budget.take(40):
    ...     budget.left
    0
    >>> budget.left
    100
    """

    def __init__(self, memory: int | None = None) -> None:
        self.whole = None if memory is None else max(0, memory - OVERHEAD)
        self.left = self.whole or 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, wanted: int) -> Iterator[None]:
        """Wait until ``wanted`` bytes are left, and hold them until the block ends."""
        if self.whole is None:
            yield
            return
        taken = min(wanted, self.whole)
        with self._changed:
            self._changed.wait_for(lambda: self.left >= taken)
            self.left -= taken
        try:
            yield
        finally:
            with self._changed:
                self.left += taken
                self._changed.notify_all()
