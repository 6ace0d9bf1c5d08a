"""Do slow things, such as writing to a disk, on another thread, where an error or a standstill does not stay unseen."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from cloudseg.runtime.watchdog import STUCK_AFTER, wait_while_running


class Background:
    """A thread that does one thing after another while its owner goes on.

    It takes what :meth:`submit` hands it in that order and ends at the first error, which the owner meets at its next
    call. The interpreter does not wait for it: what is stuck on a dead disk cannot keep a job alive.

    Parameters
    ----------
    most : things that may be unfinished at once, the one that is being done among them; at least 1.
    stuck_after : seconds that the owner waits for one thing; those in which the process is stopped do not count.
    name : of the thread.

    Examples
    --------
    >>> done = []
    >>> with Background(2) as background:
    ...     for number in range(4):
    ...         background.submit(f"number {number}", done.append, number)
    >>> done
    [0, 1, 2, 3]
    >>> with Background(1) as background:
    ...     background.submit("a.zarr, image b.jpg", int, "x")
    Traceback (most recent call last):
    ValueError: a.zarr, image b.jpg: invalid literal for int() with base 10: 'x'
    """

    def __init__(self, most: int, *, stuck_after: float = STUCK_AFTER, name: str = "background") -> None:
        self._most, self._stuck_after = most, stuck_after
        self._unfinished: deque[_Task] = deque()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        # A daemon, since an interpreter joins all other threads before it ends
        self._thread = threading.Thread(target=_work, args=(self._tasks,), name=name, daemon=True)
        self._told = self._closed = False

    def submit(self, about: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Have something done, after waiting until there is room for it.

        Parameters
        ----------
        about : the file and what of it, for errors.
        function, arguments : what to call; its result is dropped.

        Raises
        ------
        Exception : an error of an earlier thing, as :func:`named` makes it.
        TimeoutError : if there is no room because an earlier thing is stuck.
        RuntimeError : after :meth:`close`.
        """
        if self._closed:
            raise RuntimeError(f"{about}: submitted after close()")
        while self._unfinished and (len(self._unfinished) >= self._most or self._unfinished[0].done):
            self._finish_first()
        if self._thread.ident is None:
            self._thread.start()
        task = _Task(about, function, arguments)
        self._unfinished.append(task)
        self._tasks.put(task)

    def wait(self) -> None:
        """Return when everything is done; raises as :meth:`submit`."""
        while self._unfinished:
            self._finish_first()

    def close(self) -> None:
        """Finish what waits and end the thread; raises as :meth:`submit`, but nothing that was raised before."""
        try:
            if not self._told:
                self.wait()
        finally:
            self._closed = True
            self._tasks.put(None)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, whatever ended the block: what is finished now need not be made again."""
        self.close()

    def _finish_first(self) -> None:
        task = self._unfinished[0]
        # A handler of a signal may raise between any two lines here, so nothing may depend on their being run once:
        # the flag is asked first, and the lock is one that only this thread takes
        if not task.done and not wait_while_running(task.wait, self._stuck_after):
            self._told = True
            raise TimeoutError(
                f"{task.about}: not done in {self._stuck_after:g} s, with {len(self._unfinished) - 1} more waiting; "
                "check that its disk answers and has room, then run the job again"
            )
        if task.error is not None:
            self._told = True
            raise named(task.about, task.error) from task.error
        self._unfinished.popleft()


class _Task:
    """Something to do, and how it went."""

    def __init__(self, about: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.about = about
        self.done = False
        self.error: BaseException | None = None
        self.running = threading.Lock()
        self.running.acquire()
        self._call = function, arguments

    def wait(self, seconds: float) -> bool:
        return self.running.acquire(timeout=seconds)

    def run(self) -> None:
        function, arguments = self._call
        del self._call  # a shard of pixels; its owner may look at this task much later
        try:
            function(*arguments)
        except BaseException as error:
            self.error = error
        self.done = True
        self.running.release()


def _work(tasks: "queue.SimpleQueue[_Task | None]") -> None:
    while (task := tasks.get()) is not None:
        task.run()
        if task.error is not None:
            return
        del task  # not to be kept while waiting for the next one


def named(about: str, error: BaseException) -> Exception:
    """Return an error of the same kind whose message begins with what it is about.

    Parameters
    ----------
    about : the file and what of it.
    error : the original.

    Returns
    -------
    Exception : an ``OSError`` stays one and keeps its number and file, a ``ValueError`` stays of
        its class, or of the nearest one that is made of a message, and anything else becomes a ``RuntimeError`` that
        says what it was.

    Examples
    --------
    >>> named("a.zarr, image b.jpg", OSError(28, "No space left on device"))
    OSError(28, 'a.zarr, image b.jpg: No space left on device')
    >>> named("a.zarr, image b.jpg", KeyError("mask"))
    RuntimeError("a.zarr, image b.jpg: KeyError: 'mask'")
    """
    said = str(error).removeprefix(f"{about}: ")
    for kind in (each for each in type(error).__mro__ if issubclass(each, ValueError)):
        with contextlib.suppress(TypeError):  # a few are made of more than a message
            return kind(f"{about}: {said}")
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, f"{about}: {error.strerror}", *filter(None, [error.filename]))
    if isinstance(error, OSError):
        return OSError(f"{about}: {said}")
    return RuntimeError(f"{about}: {type(error).__name__}: {said}")
