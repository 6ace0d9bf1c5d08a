"""Which devices this process may use, each with one name however it was asked for; torch is not imported."""

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cloudseg.errors import DeviceError
from cloudseg.runtime.watchdog import output_of

DRIVER = Path("/proc/driver/nvidia/gpus")
# Each is in the environment of that scheduler's jobs: Slurm, PBS and Torque, LSF, Grid Engine, HTCondor, Flux. A
# Kubernetes pod sees its own devices and its own folders alone: the lease in it works as on a machine of its own.
SCHEDULERS = "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_JOB_SPOOL_DIR", "_CONDOR_JOB_AD", "FLUX_JOB_ID"


class Device(NamedTuple):
    """A device as the driver lists it; its index in the list is its number for ``nvidia-smi``."""

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
    DeviceError : if the variable holds numbers and the devices differ in model: CUDA, which puts the fastest first, may
        count them in another order than ``nvidia-smi``.

    Examples
    --------
    >>> with only_visible(("MIG-b", "MIG-a")):
    ...     visible_devices()
    ['MIG-b', 'MIG-a']
    """
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    job = scheduled_job()
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
        output = getattr(error, "stdout", None) or getattr(error, "stderr", None) or ""
        print(f"nvidia-smi names no devices: {error} {output if isinstance(output, str) else ''}".strip())
        return []
    rows = [line.split(", ", 1) for line in listed.splitlines() if line.startswith("GPU-")]
    return [Device(*row) for row in rows if len(row) == 2]


def _full_name(name: str, known: list[Device]) -> str:
    if name.isdigit():
        return known[int(name)].name if int(name) < len(known) else name
    matches = [device.name for device in known if device.name.startswith(name)]
    return matches[0] if len(matches) == 1 else name


def scheduled_job() -> str:
    """Return the ``NAME=ID`` of the scheduler's job, if this is one that was given devices, or an empty string."""
    given = ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
    if not any(name in os.environ for name in given):
        return ""
    return next((f"{name}={os.environ[name]}" for name in SCHEDULERS if os.environ.get(name)), "")


@contextlib.contextmanager
def only_visible(devices: Iterable[str]) -> Iterator[None]:
    """Let this process and its children see no other devices while the block runs."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
