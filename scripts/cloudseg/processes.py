"""What this process hands down to those that it starts, and what it must not outlive."""

import ctypes
import os
import signal
import sys
from pathlib import Path


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
