"""Refuse a run whose devices are missing, before it starts and removes the outputs that it will make again."""

from collections.abc import Iterable
from typing import Any

from cloudseg.errors import DeviceError
from cloudseg.runtime.gpus.visible import visible_devices


def refuse_missing_devices(device: str, jobs: Iterable[Any]) -> None:
    """Raise if jobs of this machine insist on more CUDA devices than it has.

    Parameters
    ----------
    device : the config's: ``auto``, ``cuda`` or ``cpu``.
    jobs : the jobs that will run here and ask for devices: their ``rule.name`` and ``resources`` are used.

    Raises
    ------
    DeviceError : if ``cuda`` is asked for and there is no device, none is allowed, or fewer than one job asks for.
    """
    asked = {job.rule.name: job.resources.get("gpu", 0) for job in jobs}
    if device == "cpu" or not asked:
        return
    visible = visible_devices()
    wanted = max(asked.values())
    names = ", ".join(sorted(asked))
    if device == "cuda" and not visible:
        raise DeviceError(
            f"device: cuda, and this machine shows no CUDA device for {names}; nothing was started or removed. "
            "Check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or set `device: auto` or `--config device=cpu`"
        )
    if device == "cuda" and wanted == 0:
        raise DeviceError(
            f"device: cuda, and no GPU is allowed to {names} (`--resources gpu=0`); nothing was started or "
            "removed. Allow GPUs (`--resources gpu=1`), or set `device: auto` or `--config device=cpu`"
        )
    if 0 < len(visible) < wanted:
        raise DeviceError(
            f"a job asks for {wanted} devices, and this machine shows {len(visible)}; nothing was started or removed. "
            "Lower `gpus` in its recipe, or widen CUDA_VISIBLE_DEVICES"
        )
