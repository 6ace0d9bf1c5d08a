"""Write on another thread, and raise its errors, or that a write is stuck, where the tasks are submitted."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from cloudseg.runtime.watchdog import STUCK_AFTER, wait_while_running


class BackgroundWriter:
    """A thread that writes one thing after another while its owner goes on.

    It takes tasks in the order of :meth:`submit` and ends at the first error, which its owner gets from its next call.
    The interpreter does not wait for it: a write that is stuck on a dead disk cannot keep a job alive.

    Parameters
    ----------
    max_queued : tasks that may be unfinished at once, the running one among them; at least 1.
    stuck_after : seconds that the owner waits for one task; those in which the process is stopped do not count.
    name : of the thread.

    Examples
    --------
    >>> done = []
    >>> with BackgroundWriter(2) as background:
    ...     for number in range(4):
    ...         background.submit(f"number {number}", done.append, number)
    >>> done
    [0, 1, 2, 3]
    >>> with BackgroundWriter(1) as background:
    ...     background.submit("a.zarr, image b.jpg", int, "x")
    Traceback (most recent call last):
    ValueError: a.zarr, image b.jpg: invalid literal for int() with base 10: 'x'
    """

    def __init__(self, max_queued: int, *, stuck_after: float = STUCK_AFTER, name: str = "background") -> None:
        self._max_queued, self._stuck_after = max_queued, stuck_after
        self._unfinished: deque[_Task] = deque()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        # A daemon thread: the interpreter joins all others before it ends
        self._thread = threading.Thread(target=_work, args=(self._tasks,), name=name, daemon=True)
        self._reported = self._closed = False

    def submit(self, label: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Hand a task to the thread, after waiting until there is room for it.

        Parameters
        ----------
        label : the file and the part of it that is written, for errors.
        function, arguments : what to call; its result is dropped.

        Raises
        ------
        Exception : the error of an earlier task, as :func:`with_context` makes it.
        TimeoutError : if there is no room because an earlier task is stuck.
        RuntimeError : after :meth:`close`.
        """
        if self._closed:
            raise RuntimeError(f"{label}: submitted after close()")
        while self._unfinished and (len(self._unfinished) >= self._max_queued or self._unfinished[0].done):
            self._finish_first()
        if self._thread.ident is None:
            self._thread.start()
        task = _Task(label, function, arguments)
        self._unfinished.append(task)
        self._tasks.put(task)

    def wait(self) -> None:
        """Wait for all tasks; raises as :meth:`submit`."""
        while self._unfinished:
            self._finish_first()

    def close(self) -> None:
        """Finish all tasks and end the thread; raises as :meth:`submit`, but no error a second time."""
        try:
            if not self._reported:
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
        """Close, whatever ended the block: a task that is finished now need not be run again."""
        self.close()

    def _finish_first(self) -> None:
        task = self._unfinished[0]
        # A signal handler may raise between any two of these lines, so none may depend on being run exactly once: the
        # flag is read first, and the lock is one that only this thread takes
        if not task.done and not wait_while_running(task.wait, self._stuck_after):
            self._reported = True
            raise TimeoutError(
                f"{task.label}: not done in {self._stuck_after:g} s, with {len(self._unfinished) - 1} more waiting; "
                "check that its disk answers and has room, then run the job again"
            )
        if task.error is not None:
            self._reported = True
            raise with_context(task.label, task.error) from task.error
        self._unfinished.popleft()


class _Task:
    """A task and how it ended."""

    def __init__(self, label: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.label = label
        self.done = False
        self.error: BaseException | None = None
        self.running = threading.Lock()
        self.running.acquire()
        self._call = function, arguments

    def wait(self, seconds: float) -> bool:
        return self.running.acquire(timeout=seconds)

    def run(self) -> None:
        function, arguments = self._call
        del self._call  # frees a shard of pixels: the owner may look at this task much later
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
        del task  # frees its pixels while the thread waits for the next one


def with_context(label: str, error: BaseException) -> Exception:
    """Return an error of the same kind whose message begins with a label.

    Parameters
    ----------
    label : the file and the part of it that was written.
    error : the original.

    Returns
    -------
    Exception : an ``OSError`` stays one and keeps its number and file, a ``ValueError`` stays of
        its class, or of its nearest base that takes one message, and anything else becomes a ``RuntimeError`` that
        says what it was.

    Examples
    --------
    >>> with_context("a.zarr, image b.jpg", OSError(28, "No space left on device"))
    OSError(28, 'a.zarr, image b.jpg: No space left on device')
    >>> with_context("a.zarr, image b.jpg", KeyError("mask"))
    RuntimeError("a.zarr, image b.jpg: KeyError: 'mask'")
    """
    message = str(error).removeprefix(f"{label}: ")
    for kind in (each for each in type(error).__mro__ if issubclass(each, ValueError)):
        with contextlib.suppress(TypeError):  # some classes take more than a message
            return kind(f"{label}: {message}")
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, f"{label}: {error.strerror}", *filter(None, [error.filename]))
    if isinstance(error, OSError):
        return OSError(f"{label}: {message}")
    return RuntimeError(f"{label}: {type(error).__name__}: {message}")
