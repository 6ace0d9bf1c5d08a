"""Timeouts that count only the seconds in which this process ran.

The clock goes on while a process is stopped (Ctrl-Z, a suspended Slurm job, a paused machine), and every wait would
have timed out when it resumes. So a wait is made of short ones, and a short one that took longer, because the process
was stopped, counts for no more than twice its length.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence

STUCK_AFTER = 600.0
"""Seconds without progress after which whatever is waited for counts as stuck."""

IDLE = 0.01
"""CPU seconds per second below which a process counts as waiting."""


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
        outputs: list[tuple[str, str]] = []  # stdout and stderr, once the program has ended

        def ends(tick: float) -> bool:
            with contextlib.suppress(subprocess.TimeoutExpired):
                outputs.append(process.communicate(timeout=tick))
            return bool(outputs)

        try:
            if not wait_while_running(ends, seconds):
                raise subprocess.TimeoutExpired(command, seconds)
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, *outputs[0])
        return outputs[0][0]
