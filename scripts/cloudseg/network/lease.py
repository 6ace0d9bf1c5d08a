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
child that computes on a device itself must not outlive the job: it calls `cloudseg.processes.end_with_parent`.
"""

import contextlib
import errno
import fcntl
import functools
import itertools
import json
import math
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

DRIVER = Path("/proc/driver/nvidia/gpus")
# In the first of these that everybody may write to. Nothing ages in /run/lock, but Red Hat's is root's alone.
SHARED_FOLDERS = Path("/run/lock"), Path("/tmp")  # noqa: S108 (`_open_folder` checks what lies there)
# Each is in the environment of that scheduler's jobs: Slurm, PBS and Torque, LSF, Grid Engine, HTCondor, Flux. A
# Kubernetes pod sees its own devices and its own folders alone: the lease in it works as on a machine of its own.
SCHEDULERS = "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_JOB_SPOOL_DIR", "_CONDOR_JOB_AD", "FLUX_JOB_ID"
LOOK_EVERY = 0.05  # seconds, for the first LOOK_OFTEN in the queue; the further back, the less often
LOOK_OFTEN = 4
STOPPED_AFTER = 10  # seconds without a look: whoever stopped a waiting job (Ctrl-Z) must not block the others


@contextlib.contextmanager
def lease(
    count: int, *, jobs_per_device: int = 1, pool: Sequence[str] | None = None, folder: str | Path | None = None
) -> Iterator[tuple[str, ...]]:
    """Hold ``count`` distinct devices while the block runs, and let this process and its children see no others.

    It waits until they are free, and says so in one line. A job to which a scheduler has assigned exactly ``count``
    devices keeps those and locks nothing; where its allocation shows more, as to a Snakemake that was started in it,
    the lease is drawn from them. Jobs that should share an allocation of ``count`` devices must be counted by
    Snakemake (``--resources gpu=N``).

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
    ValueError : if there are devices, but fewer than ``count``; for counts out of range; if the lock folder or a file
        in it is not what it must be; if the numbers in CUDA_VISIBLE_DEVICES may mean something else to CUDA.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as locks, lease(2, pool=["a", "b", "c"], folder=locks) as devices:
    ...     print(devices, os.environ["CUDA_VISIBLE_DEVICES"])
    leased a, b
    ('a', 'b') a,b
    """
    if count < 0 or jobs_per_device < 1:
        raise ValueError(
            f"gpu: {count} and jobs_per_device: {jobs_per_device} came, expected at least 0 devices and at least 1 job"
        )
    if count == 0:
        with _visible(()):
            yield ()
        return
    job = "" if pool is not None else _scheduled_job()
    names = list(dict.fromkeys(visible_devices() if pool is None else pool))
    if 0 < len(names) < count:
        raise ValueError(
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
        from cloudseg.network.devices import pick

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
    ValueError : if numbers came and the devices differ, so that CUDA, which puts the fastest first, may count them in
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
        raise ValueError(
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
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout  # noqa: S603
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
    with contextlib.closing(_Locks(folder)) as locks:
        while True:
            with locks.mutex():
                ticket = Ticket(arrival, time.monotonic_ns(), pool, count, jobs_per_device)
                earlier = [other for other in _waiting(locks, place) if other.arrival < arrival]
                taken = _take(locks, ticket, earlier)
                starts_to_wait = not taken and not place
                if starts_to_wait:
                    place = next(name for name in _queue() if locks.try_lock(name))
                if not taken:
                    locks.write(place, json.dumps(ticket._asdict()))
            if taken:
                break
            if starts_to_wait:
                print(f"waiting for {count} of {len(pool)} devices: {', '.join(pool)}")
            ahead = sum(not set(pool).isdisjoint(other.pool) for other in earlier)
            time.sleep(LOOK_EVERY * max(1, (1 + ahead) / LOOK_OFTEN))
        locks.close_all_but(itertools.chain(*taken.values()))
        waited = f" after waiting {(time.monotonic_ns() - arrival) / 1e9:.1f} s" if place else ""
        print(f"leased {', '.join(taken)}{waited}")
        yield list(taken)


def _take(locks: "_Locks", ticket: Ticket, earlier: list[Ticket]) -> dict[str, list[str]]:
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


def _lock_device(locks: "_Locks", name: str, jobs_per_device: int) -> list[str]:
    device = _file_name("device", name)
    if not locks.try_lock(device, fcntl.LOCK_EX if jobs_per_device == 1 else fcntl.LOCK_SH):
        return []
    if jobs_per_device == 1:
        return [device]
    for slot in range(jobs_per_device):
        if locks.try_lock(_file_name(f"slot{slot}", name)):
            return [device, _file_name(f"slot{slot}", name)]
    locks.unlock(device)
    return []


def _jobs_on(locks: "_Locks", name: str) -> float:
    """Return how many jobs share a device; infinity when one has it alone."""
    device = _file_name("device", name)
    if not locks.is_locked(device):
        return 0
    if locks.is_locked(device, fcntl.LOCK_SH):
        return math.inf
    slots = (_file_name(f"slot{slot}", name) for slot in itertools.count())
    return sum(locks.is_locked(slot) for slot in itertools.takewhile(locks.exists, slots))


def _waiting(locks: "_Locks", own_place: str) -> Iterator[Ticket]:
    """Yield the tickets of all other jobs that wait and look for devices."""
    for place in itertools.takewhile(locks.exists, _queue()):
        if place == own_place or not locks.is_locked(place):
            continue
        try:
            ticket = Ticket(**json.loads(locks.read(place)))
        except (ValueError, TypeError):  # written by something else: it has no say
            continue
        if time.monotonic_ns() - ticket.looked < STOPPED_AFTER * 1e9:
            yield ticket


def _queue() -> Iterator[str]:
    return (f"queue{number}" for number in itertools.count())


def _file_name(kind: str, name: str) -> str:
    # a MIG instance of the older drivers is `MIG-GPU-.../1/0`
    return f"{kind}-{name.replace('%', '%25').replace('/', '%2F')}"


# The files


class _Locks:
    """The lock files of a folder, each opened once; all locks go when they are closed or the process ends."""

    def __init__(self, folder: Path):
        self.path = folder
        self.folder = _open_folder(folder)
        self.files: dict[str, int] = {}
        _OPEN.add(self)
        # systemd-tmpfiles removes old files from /tmp, but leaves a folder alone on which there is a lock
        fcntl.flock(self.folder, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        fcntl.flock(self._open("mutex"), fcntl.LOCK_EX)
        try:
            yield
        finally:
            self.unlock("mutex")

    def try_lock(self, name: str, kind: int = fcntl.LOCK_EX) -> bool:
        try:
            fcntl.flock(self._open(name), kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self, name: str) -> None:
        fcntl.flock(self.files[name], fcntl.LOCK_UN)

    def is_locked(self, name: str, kind: int = fcntl.LOCK_EX) -> bool:
        """Say whether others' locks stand in the way of one of this kind; of a file that is not locked here."""
        if not self.try_lock(name, kind):
            return True
        self.unlock(name)
        return False

    def exists(self, name: str) -> bool:
        try:
            self._open(name, create=False)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes:
        return os.pread(self.files[name], 1 << 14, 0)

    def write(self, name: str, text: str) -> None:
        os.ftruncate(self.files[name], os.pwrite(self.files[name], text.encode(), 0))

    def close_all_but(self, names: Iterable[str]) -> None:
        for name in self.files.keys() - set(names):
            os.close(self.files.pop(name))

    def close(self) -> None:
        if self in _OPEN:  # else this is a forked child, which has dropped them
            _OPEN.remove(self)
            self.close_all_but(())
            os.close(self.folder)

    def _open(self, name: str, create: bool = True) -> int:
        if name not in self.files:
            self.files[name] = _open_file(self.folder, self.path, name, create)
        return self.files[name]


_OPEN: set[_Locks] = set()


def _drop_locks() -> None:
    # closing a forked copy does not unlock, closing the last one does
    for locks in list(_OPEN):
        locks.close()


os.register_at_fork(after_in_child=_drop_locks)


def _shared_folder() -> Path:
    for folder in SHARED_FOLDERS:
        if folder.is_dir() and folder.stat().st_mode & 0o1777 == 0o1777:
            return folder / "cloudseg-devices"
    raise ValueError(
        f"neither of {', '.join(map(str, SHARED_FOLDERS))} is a folder that all users may write to: none can hold the "
        "locks of the devices; `chmod 1777 /tmp`"
    )


def _open_folder(path: Path) -> int:
    with contextlib.suppress(FileExistsError), _no_umask():
        path.mkdir(0o1777)
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except NotADirectoryError:
        raise ValueError(f"{path}: a link or a file came, expected a folder for device locks; remove it") from None
    status = os.fstat(folder)
    of_others = status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022
    if of_others and not status.st_mode & stat.S_ISVTX:
        os.close(folder)
        raise ValueError(
            f"{path}: mode {stat.S_IMODE(status.st_mode):04o} of user {status.st_uid} came, where others may replace "
            "the locks of devices; expected mode 1777 (`chmod 1777`) or a folder of root's or your own"
        )
    return folder


def _open_file(folder: int, path: Path, name: str, create: bool) -> int:
    """Open a lock file, made with mode 0666 when there is none.

    An existing file is never opened with O_CREAT: where fs.protected_regular is set, the kernel refuses that to all
    but the owners of the file and of the folder.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            file = os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            if not create:
                raise
            try:
                with _no_umask():
                    file = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
            except FileExistsError:  # another job was faster
                file = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise ValueError(
            f"{path / name}: {error.strerror}; expected a file with mode 0666 in a folder with mode 1777: no job can "
            "use the devices of this machine until its owner (or root) removes it or mends its mode"
        ) from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(file)
        raise ValueError(
            f"{path / name}: a special file or a second name of another file came, expected a plain lock file; "
            "its owner (or root) must remove it"
        )
    return file


@contextlib.contextmanager
def _no_umask() -> Iterator[None]:
    # the mode must be right from the first moment: another user's job may open the file in the next
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
