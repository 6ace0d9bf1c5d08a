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
import fcntl
import functools
import itertools
import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudseg.errors import ConfigError, DeviceError
from cloudseg.runtime.gpus.locks import LOOK_EVERY, Locks, Waiting
from cloudseg.runtime.job_watchdog import not_watched
from cloudseg.runtime.watchdog import output_of

if TYPE_CHECKING:
    import torch

DRIVER = Path("/proc/driver/nvidia/gpus")
# In the first of these that everybody may write to. Nothing ages in /run/lock, but Red Hat's is root's alone.
SHARED_FOLDERS = Path("/run/lock"), Path("/tmp")  # noqa: S108 (`_open_folder` checks what lies there)
# Each is in the environment of that scheduler's jobs: Slurm, PBS and Torque, LSF, Grid Engine, HTCondor, Flux. A
# Kubernetes pod sees its own devices and its own folders alone: the lease in it works as on a machine of its own.
SCHEDULERS = "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_JOB_SPOOL_DIR", "_CONDOR_JOB_AD", "FLUX_JOB_ID"
LOOK_OFTEN = 4  # jobs look every LOOK_EVERY seconds; those further back in the queue less often
STOPPED_AFTER = 10  # seconds without a look: whoever stopped a waiting job (Ctrl-Z) must not block the others
LONGEST = 240  # bytes of a file's name; file systems take 255
MOST_NAMED = 8  # devices in a message
CLAIMED = 8  # places of a device that are guarded against the removal of its lock files: of one job alone, all


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
        with _visible(()):
            yield ()
        return
    job = "" if pool is not None else _scheduled_job()
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
        with _held(list(known_as), count, jobs_per_device, Path(folder or _shared_folder())) as held:
            devices = tuple(known_as[name] for name in held)
            with _visible(devices):
                yield devices


@contextlib.contextmanager
def leased(job: Any) -> Iterator["torch.device"]:
    """Lease the devices that a job was granted, and yield the one that it computes on.

    Parameters
    ----------
    job : the object that Snakemake hands to a script; its ``resources`` and the config's ``device`` and
        ``jobs_per_device`` are used. torch must not have been imported: it looks for devices once.
    """
    device = job.config.get("device", "auto")
    gpus = 0 if device == "cpu" else job.resources.get("gpu", 0)
    with lease(gpus, jobs_per_device=job.config.get("jobs_per_device", 1)):
        from cloudseg.runtime.devices import pick

        yield pick(device, gpus)


# Which devices there are


class Device(NamedTuple):
    """A device as the driver lists it; its place in the list is its number for ``nvidia-smi``."""

    name: str
    model: str


def visible_devices() -> list[str]:
    """Return the names of the devices that this process may use, each with one name however it was asked for.

    CUDA_VISIBLE_DEVICES names them when it is set, in its order and, like CUDA, up to the first name that is none
    (``-1``); numbers and the beginnings of UUIDs become UUIDs where the driver tells them. In a scheduler's job they
    stay as they are. Otherwise all devices of the driver are named; MIG instances are found only in the variable.

    Returns
    -------
    list of str : UUIDs (``GPU-...``), else what the variable says; empty when there are none.

    Raises
    ------
    DeviceError : if numbers came and the devices differ, so that CUDA, which puts the fastest first, may count them in
        another order than ``nvidia-smi``.

    Examples
    --------
    >>> with _visible(("MIG-b", "MIG-a")):
    ...     visible_devices()
    ['MIG-b', 'MIG-a']
    """
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    job = _scheduled_job()
    if text is None and job:
        text = os.environ.get("SLURM_STEP_GPUS", os.environ.get("SLURM_JOB_GPUS"))
    if text is None:
        return [device.name for device in driver_devices()]
    words = (word.strip() for word in text.split(","))
    names = list(itertools.takewhile(lambda word: word not in ("", "NoDevFiles") and word[0] != "-", words))
    if job or not any(name.isdigit() or name.startswith("GPU-") for name in names):
        return names
    known = driver_devices()
    models = sorted({device.model for device in known})
    if any(map(str.isdigit, names)) and len(models) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise DeviceError(
            f"CUDA_VISIBLE_DEVICES={text} numbers devices that differ ({', '.join(models)}), and CUDA may count them "
            "otherwise than nvidia-smi; export CUDA_DEVICE_ORDER=PCI_BUS_ID to have both count alike, or name them "
            "by UUID (`nvidia-smi -L`)"
        )
    return [_full_name(name, known) for name in names]


def driver_devices() -> list[Device]:
    """Return the devices of the NVIDIA driver in the order of ``nvidia-smi``; empty without a driver.

    They are read from /proc, since ``nvidia-smi`` takes seconds where the driver wakes all devices first; it is asked
    where /proc has no UUIDs (a driver asleep) or no devices (Windows' Linux).
    """
    devices = []
    for path in sorted(DRIVER.glob("*/information")):  # their names are bus addresses
        fields = dict(line.split(":", 1) for line in path.read_text(errors="replace").splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in fields.items()}
        if facts.get("GPU Excluded") != "Yes":
            devices.append(Device(facts.get("GPU UUID", "?"), facts.get("Model", "unknown")))
    if devices and not any("?" in device.name for device in devices):
        return devices
    numbered = [Device(str(number), device.model) for number, device in enumerate(devices)]
    return _ask_nvidia_smi() or numbered


def _ask_nvidia_smi() -> list[Device]:
    if not (program := shutil.which("nvidia-smi")):
        return []
    command = [str(Path(program).resolve()), "--query-gpu=uuid,name", "--format=csv,noheader"]
    try:
        listed = output_of(command, 30)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stdout", None) or getattr(error, "stderr", None) or ""
        print(f"nvidia-smi names no devices: {error} {said if isinstance(said, str) else ''}".strip())
        return []
    rows = [line.split(", ", 1) for line in listed.splitlines() if line.startswith("GPU-")]
    return [Device(*row) for row in rows if len(row) == 2]


def _full_name(name: str, known: list[Device]) -> str:
    if name.isdigit():
        return known[int(name)].name if int(name) < len(known) else name
    matches = [device.name for device in known if device.name.startswith(name)]
    return matches[0] if len(matches) == 1 else name


def _scheduled_job() -> str:
    """Return what tells a scheduler's job that was given devices from all others, or an empty string."""
    given = ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
    if not any(name in os.environ for name in given):
        return ""
    return next((f"{name}={os.environ[name]}" for name in SCHEDULERS if os.environ.get(name)), "")


@contextlib.contextmanager
def _visible(devices: Iterable[str]) -> Iterator[None]:
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


# Waiting for them and taking them


class Ticket(NamedTuple):
    """What a job wants that waits."""

    arrival: int  # nanoseconds on the machine's clock
    looked: int  # the same, when it last looked
    pool: list[str]
    count: int
    jobs_per_device: int


@contextlib.contextmanager
def _held(pool: list[str], count: int, jobs_per_device: int, folder: Path) -> Iterator[list[str]]:
    """Wait for ``count`` of the ``pool`` and hold them while the block runs."""
    arrival = time.monotonic_ns()
    place = ""  # in the queue
    waiting, waits = Waiting(), False
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as until_taken:
        until_taken.enter_context(not_watched())
        locks = stack.enter_context(contextlib.closing(Locks(folder)))
        while True:
            with locks.mutex(waiting):
                ticket = Ticket(arrival, time.monotonic_ns(), pool, count, jobs_per_device)
                earlier = [other for other in _waiting(locks, place) if other.arrival < arrival]
                taken = _take(locks, ticket, earlier)
                if not taken and not (place and locks.has_its_name(place)):
                    place = next(name for name in _queue() if locks.try_lock(name))
                if not taken:
                    locks.write(place, json.dumps(ticket._asdict()))
            if taken:
                break
            if not waits:
                print(f"waiting for {count} of {len(pool)} devices: {', '.join(pool)}", flush=True)
            waits = True
            waiting.say(functools.partial(_in_words, locks, ticket, earlier))
            ahead = sum(not set(pool).isdisjoint(other.pool) for other in earlier)
            time.sleep(LOOK_EVERY * max(1, (1 + ahead) / LOOK_OFTEN))
            if locks.is_replaced():  # by its owner: who comes now looks into another folder
                locks.close()
                locks, place = stack.enter_context(contextlib.closing(Locks(folder))), ""
        locks.close_all_but(itertools.chain(*taken.values()))
        waited = f" after waiting {(time.monotonic_ns() - arrival) / 1e9:.1f} s" if waits else ""
        print(f"leased {', '.join(taken)}{waited}", flush=True)
        until_taken.close()
        yield list(taken)


def _in_words(locks: Locks, ticket: Ticket, earlier: list[Ticket]) -> str:
    """Say who has the devices that a ticket waits for."""
    names = ticket.pool[:MOST_NAMED]
    held = "; ".join(f"{name} is {_use_in_words(locks, name)}" for name in names)
    more = f"; and {len(ticket.pool) - len(names)} more devices" if len(ticket.pool) > len(names) else ""
    jobs = len(earlier)
    queue = f"; {jobs} job{'s' if jobs > 1 else ''} came before this one" if jobs else ""
    return f"{ticket.count} of {len(ticket.pool)} devices: {held}{more}{queue}. This job goes on by itself"


def _use_in_words(locks: Locks, name: str) -> str:
    device = _file_name("device", name)
    if busy := _busy_slots(locks, name):
        return "shared by " + ", ".join(locks.holders(slot) for slot in busy)
    if locks.is_locked(device):
        return f"held by {locks.holders(device)}"
    if locks.claimed_by(device, range(CLAIMED)):
        return f"held by {locks.holders(device, range(CLAIMED))}, whose lock file was removed"
    return "free, and kept for a job that came before"


def _take(locks: Locks, ticket: Ticket, earlier: list[Ticket]) -> dict[str, list[str]]:
    """Lock all that ``ticket`` wants, the least used first, or nothing; return the lock files of each device."""
    jobs_on = functools.cache(functools.partial(_jobs_on, locks))
    reserved: set[str] = set()

    def least_used(pool: list[str], jobs_below: float) -> list[str]:
        return sorted((name for name in pool if name not in reserved and jobs_on(name) < jobs_below), key=jobs_on)

    for other in sorted(earlier, key=lambda other: other.arrival):
        # A job that shares with none can use a shared device only when that has emptied: nobody else may come in.
        jobs_below = other.jobs_per_device if other.jobs_per_device > 1 else math.inf
        reserved.update(least_used(other.pool, jobs_below)[: other.count])
    taken: dict[str, list[str]] = {}
    for name in least_used(ticket.pool, ticket.jobs_per_device):
        if len(taken) < ticket.count and (files := _lock_device(locks, name, ticket.jobs_per_device)):
            taken[name] = files
    if len(taken) < ticket.count:
        for file in itertools.chain(*taken.values()):
            locks.unlock(file)
        return {}
    return taken


def _lock_device(locks: Locks, name: str, jobs_per_device: int) -> list[str]:
    device = _file_name("device", name)
    if not locks.try_lock(device, fcntl.LOCK_EX if jobs_per_device == 1 else fcntl.LOCK_SH):
        return []
    if jobs_per_device == 1 and locks.claim(device, range(CLAIMED)):
        locks.note(device)
        return [device]
    for slot in range(jobs_per_device if jobs_per_device > 1 else 0):
        file = _file_name(f"slot{slot}", name)
        if locks.try_lock(file):
            if locks.claim(device, {slot} & set(range(CLAIMED))):
                locks.note(file)
                return [device, file]
            locks.unlock(file)
    locks.unlock(device)
    return []


def _jobs_on(locks: Locks, name: str) -> float:
    """Return how many jobs share a device; infinity when one has it alone."""
    device = _file_name("device", name)
    if not locks.exists(device) or not locks.is_locked(device):  # another job's ticket may name what there is not
        return 0
    if locks.is_locked(device, fcntl.LOCK_SH):
        return math.inf
    return len(_busy_slots(locks, name))


def _busy_slots(locks: Locks, name: str) -> list[str]:
    busy = []
    slots = (_file_name(f"slot{slot}", name) for slot in itertools.count())
    for slot in itertools.takewhile(locks.exists, slots):
        if locks.is_locked(slot):
            busy.append(slot)
        locks.close_file(slot)  # there may be more of them than a process may open
    return busy


def _waiting(locks: Locks, own_place: str) -> Iterator[Ticket]:
    """Yield the tickets of all other jobs that wait and look for devices."""
    for place in itertools.takewhile(locks.exists, _queue()):
        if place == own_place:
            continue
        ticket = _read_ticket(locks.read(place)) if locks.is_locked(place) else None
        locks.close_file(place)  # there may be more of them than a process may open
        # One that was written in the future is of another clock, or a lie
        if ticket and ticket.looked <= time.monotonic_ns() < ticket.looked + STOPPED_AFTER * 1e9:
            yield ticket


def _read_ticket(text: bytes) -> Ticket | None:
    """Return a ticket that another job wrote; None for what no job writes, which has no say."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or facts.keys() != set(Ticket._fields):
        return None
    ticket = Ticket(**facts)
    numbers = ticket.arrival, ticket.looked, ticket.count, ticket.jobs_per_device
    if any(type(number) is not int for number in numbers) or not isinstance(ticket.pool, list):
        return None
    names = all(isinstance(name, str) and name.isprintable() for name in ticket.pool)
    names = names and all(len(_file_name("device", name).encode()) <= LONGEST for name in ticket.pool)
    sound = 0 <= ticket.arrival <= ticket.looked and 1 <= ticket.count <= len(ticket.pool)
    return ticket if names and sound and ticket.jobs_per_device >= 1 else None


def _queue() -> Iterator[str]:
    return (f"queue{number}" for number in itertools.count())


def _file_name(kind: str, name: str) -> str:
    # a MIG instance of the older drivers is `MIG-GPU-.../1/0`
    return f"{kind}-{name.replace('%', '%25').replace('/', '%2F')}"


def _shared_folder() -> Path:
    for folder in SHARED_FOLDERS:
        if folder.is_dir() and folder.stat().st_mode & 0o1777 == 0o1777:
            return folder / "cloudseg-devices"
    raise DeviceError(
        f"neither of {', '.join(map(str, SHARED_FOLDERS))} is a folder that all users may write to: none can hold the "
        "locks of the devices; `chmod 1777 /tmp`"
    )
