"""What this process hands down to those that it starts, and what it must not outlive."""

import ctypes
import os
import signal
import sys
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100  # of CPU time per second in /proc


def import_from(folder: Path) -> None:
    """Let the processes that this one starts import from a folder, before any installed copy of what lies there."""
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(os.pathsep.join(paths).split(os.pathsep)))


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent dies (Linux; elsewhere nothing happens).

    A job that outlives its Snakemake would write where the next Snakemake's job writes, and what computes on a leased
    device must not outlive the lease.

    Parameters
    ----------
    parent : the process id of the parent, as the parent knows it; if it is gone already, this process ends here. The
        parent's thread that started this process counts as the parent: it must stay as long as the lease.

    Raises
    ------
    OSError : if the kernel refuses.
    """
    if sys.platform != "linux":
        return
    set_death_signal = 1  # PR_SET_PDEATHSIG in <sys/prctl.h>
    if ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"process {os.getpid()} cannot be made to end with its parent {parent}")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def state_of(process: int) -> str:
    """Return the state of a process as one letter of the kernel's (``man 5 proc``), such as ``T`` for stopped.

    Returns
    -------
    str : empty where there is no such process, or no ``/proc``.

    Examples
    --------
    >>> state_of(os.getpid()) in ("R", "")
    True
    """
    return _stat(process)[0]


def cpu_seconds(process: int, *, itself: bool = True) -> float:
    """Return the CPU time of a process and of all processes that it started, in seconds, to a hundredth.

    Parameters
    ----------
    process : its id.
    itself : False leaves out what the process computed itself.

    Returns
    -------
    float : 0 where there is no such process, or no ``/proc``.

    Examples
    --------
    >>> cpu_seconds(os.getpid()) > 0 or sys.platform != "linux"
    True
    """
    running = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    family = {process}
    while children := {pid for pid, (_, parent, *_) in running.items() if parent in family} - family:
        family |= children
    family &= running.keys()
    ended = sum(running[pid][3] for pid in family)
    return ended + sum(running[pid][2] for pid in family if itself or pid != process)


def _stat(process: int) -> tuple[str, int, float, float]:
    """Return the state of a process, its parent, its CPU seconds and those of its children that have ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return "", 0, 0.0, 0.0
    fields = text.rpartition(")")[2].split()  # the name of the program, in parentheses, may hold anything
    user, system, user_of_children, system_of_children = (int(each) / TICKS for each in fields[11:15])
    return fields[0], int(fields[1]), user + system, user_of_children + system_of_children
