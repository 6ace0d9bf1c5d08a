"""Lease devices to jobs: distinct ones, for as long as a job lives, chosen before torch is imported.

Snakemake's ``--resources gpu=4`` only counts. Here each job locks what it computes on (``flock``) in a folder that all
users of the machine share, and the kernel frees the locks however the job dies. What the files there mean:

- ``device-NAME``: one job alone holds it exclusively; jobs that share a device (``jobs_per_device``) hold it shared,
  and each of them one of ``slot0-NAME``, ``slot1-NAME``, ... exclusively.
- ``queue0``, ``queue1``, ...: each job that waits holds one, with its ticket inside.
- ``mutex``: held for the moment in which a job looks and takes, never while it waits.

A job takes all its devices in one such moment or none, so that two jobs can never wait for each other. First come,
first served: what is free goes to the oldest ticket that may use it, so that a job for two devices keeps the first
that comes free until the second does, however many jobs for one stand behind it. That reservation is the only way in
which a device stays idle while jobs wait for it. Tickets whose pools have no device in common do not meet.

The lease is the process's that took it. Its children never keep it: those that are started anew do not inherit the
locks, and forked ones drop theirs at once, so that a loader's worker that outlives a killed job blocks no device. A
child that computes on a device itself must not outlive the job: it calls `cloudseg.runtime.processes.end_with_parent`.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cloudseg.errors import ConfigError, DeviceError
from cloudseg.runtime.gpus.queue import held
from cloudseg.runtime.gpus.visible import only_visible, scheduled_job, visible_devices

if TYPE_CHECKING:
    import torch

# Locks go into the first of these that all users may write to. Nothing removes old files from /run/lock, but on Red Hat
# only root may write there.
SHARED_FOLDERS = Path("/run/lock"), Path("/tmp")  # noqa: S108 (`open_folder` checks what lies there)


@contextlib.contextmanager
def lease(
    count: int, *, jobs_per_device: int = 1, pool: Sequence[str] | None = None, folder: str | Path | None = None
) -> Iterator[tuple[str, ...]]:
    """Hold ``count`` distinct devices while the block runs, and let this process and its children see no others.

    It waits until they are free, says so, and after some seconds says who holds them. A job to which a scheduler has
    assigned exactly ``count`` devices keeps those and locks nothing; where its allocation shows more, as to a Snakemake
    that was started in it, the lease is drawn from them. Jobs that should share an allocation of ``count`` devices must
    be counted by Snakemake (``--resources gpu=N``).

    Parameters
    ----------
    count : devices, >= 0; with 0 torch will see none.
    jobs_per_device : jobs that may share a device, >= 1; they spread over the devices first. A job with 1 shares with
        none, whatever the others say.
    pool : names of the devices; ``visible_devices()`` when None.
    folder : where the locks lie; common to all users of the machine when None. Not to be removed while jobs run.

    Yields
    ------
    tuple of str : the names of the leased devices, which CUDA_VISIBLE_DEVICES holds until the block ends; empty when
        ``count`` is 0 and when there is no device at all, which leaves CUDA_VISIBLE_DEVICES as it was.

    Raises
    ------
    DeviceError : if there are devices, but fewer than ``count``; if the lock folder or a file in it is not what it
        must be; if the numbers in CUDA_VISIBLE_DEVICES may mean something else to CUDA.
    ConfigError : for counts out of range.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as locks, lease(2, pool=["a", "b", "c"], folder=locks) as devices:
    ...     print(devices, os.environ["CUDA_VISIBLE_DEVICES"])
    leased a, b
    ('a', 'b') a,b
    """
    if count < 0 or jobs_per_device < 1:
        raise ConfigError(
            "expected at least 0 devices and at least 1 job on each, got "
            f"gpu: {count} and jobs_per_device: {jobs_per_device}"
        )
    if count == 0:
        with only_visible(()):
            yield ()
        return
    job = "" if pool is not None else scheduled_job()
    names = list(dict.fromkeys(visible_devices() if pool is None else pool))
    if 0 < len(names) < count:
        raise DeviceError(
            f"a job asks for {count} devices, and there are {len(names)}: {', '.join(names)}; lower `gpus` in its "
            "recipe, or widen CUDA_VISIBLE_DEVICES or the allocation"
        )
    if not names:
        yield ()
    elif job and (len(names) == count or "CUDA_VISIBLE_DEVICES" not in os.environ):
        print(f"{', '.join(names)} assigned by {job}")
        yield tuple(names)
    else:
        # Schedulers may number the devices of each allocation from 0: these are not the machine's numbers.
        known_as = {f"{job} {name}" if job else name: name for name in names}
        with held(list(known_as), count, jobs_per_device, Path(folder or _shared_folder())) as taken:
            devices = tuple(known_as[name] for name in taken)
            with only_visible(devices):
                yield devices


@contextlib.contextmanager
def leased(granted: int, *, device: str = "auto", jobs_per_device: int = 1) -> Iterator["torch.device"]:
    """Lease the devices that a job was granted, and yield the one that it computes on.

    torch must not have been imported: it looks for devices once.

    Parameters
    ----------
    granted : GPUs that Snakemake granted the job.
    device, jobs_per_device : as in the config.
    """
    gpus = 0 if device == "cpu" else granted
    with lease(gpus, jobs_per_device=jobs_per_device):
        from cloudseg.runtime.devices import select_device

        yield select_device(device, gpus)


def _shared_folder() -> Path:
    for folder in SHARED_FOLDERS:
        if folder.is_dir() and folder.stat().st_mode & 0o1777 == 0o1777:
            return folder / "cloudseg-devices"
    raise DeviceError(
        f"neither of {', '.join(map(str, SHARED_FOLDERS))} is a folder that all users may write to: none can hold the "
        "locks of the devices; `chmod 1777 /tmp`"
    )
