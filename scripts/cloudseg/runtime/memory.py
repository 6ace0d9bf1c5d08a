"""A memory budget that threads share, so that they do only as much at once as fits."""

import contextlib
import threading
from collections.abc import Iterator

OVERHEAD = 500 * 10**6
"""Bytes that a job takes besides its images: Python, the libraries, one shard of a store."""


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
