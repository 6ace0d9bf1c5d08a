"""How long to wait for what may never come: in seconds in which this process ran.

A clock on the wall goes on while a process is stopped (Ctrl-Z, a suspended Slurm job, a paused machine), and whatever
was waited for would seem late when it goes on. So a wait is made of short ones, and one that took longer than it was
asked to was a stop: it counts for no more than twice its length.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence

STUCK_AFTER = 600.0
"""Seconds without progress after which whatever is waited for counts as stuck."""

IDLE = 0.01
"""Share of its time that a process computes at most when all that it does is to wait."""


def tick_of(seconds: float) -> float:
    """Return the length of the short waits, in seconds, that make up a wait of ``seconds``.

    Examples
    --------
    >>> tick_of(600), tick_of(1)
    (1.0, 0.05)
    """
    return min(1.0, seconds / 20)


def wait_while_running(wait: Callable[[float], bool], seconds: float) -> bool:
    """Wait until something happens, but no longer than some seconds in which this process ran.

    Parameters
    ----------
    wait : returns whether it happened within a number of seconds, such as ``threading.Event().wait``.
    seconds : in all; those in which this process was stopped do not count.

    Returns
    -------
    bool : whether it happened.

    Examples
    --------
    >>> import threading
    >>> wait_while_running(threading.Event().wait, 0.01)
    False
    """
    waited, tick = 0.0, tick_of(seconds)
    while waited < seconds:
        began = time.monotonic()
        if wait(tick):
            return True
        waited += min(time.monotonic() - began, 2 * tick)
    return False


def output_of(command: Sequence[str], seconds: float) -> str:
    """Run a program and return what it prints, unless it takes longer than some seconds in which this process ran.

    Raises
    ------
    OSError : if there is no such program.
    subprocess.SubprocessError : if it fails, or takes longer; it is killed then.

    Examples
    --------
    >>> output_of(["echo", "here"], 10)
    'here\\n'
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        said: list[tuple[str, str]] = []

        def ends(tick: float) -> bool:
            with contextlib.suppress(subprocess.TimeoutExpired):
                said.append(process.communicate(timeout=tick))
            return bool(said)

        try:
            if not wait_while_running(ends, seconds):
                raise subprocess.TimeoutExpired(command, seconds)
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, *said[0])
        return said[0][0]
