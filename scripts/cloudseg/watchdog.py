"""How long to wait for what may never come: in seconds in which this process ran.

A clock on the wall goes on while a process is stopped (Ctrl-Z, a suspended Slurm job, a paused machine), and whatever
was waited for would seem late when it goes on. So a wait is made of short ones, and one that took longer than it was
asked to was a stop: it counts for no more than twice its length.
"""

import time
from collections.abc import Callable

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
