"""Train on the devices that there are, in smaller pieces where their memory is not enough."""

from collections.abc import Mapping
from typing import Any

import torch

from cloudseg.network.batches import smaller
from cloudseg.network.devices import ran_out_of_memory
from cloudseg.network.ranks import Team, run_together
from cloudseg.network.train import train


def train_on(device: str | torch.device, *, recipe: Mapping[str, Any], **job: Any) -> None:
    """Train a network, and begin anew with half as many images at once when a device has no more memory.

    Of half the images the gradient is summed twice as often before each step. That is a different training, since
    BatchNorm and the losses over a batch see fewer images: it begins anew, and ``run.json`` says so.

    Parameters
    ----------
    device : where to compute, as picked by :func:`cloudseg.network.devices.pick`; with ``gpus`` above 1 in the recipe
        as many of its type, the first of those that this process sees.
    recipe, job : what :func:`cloudseg.network.train.train` takes, but its ``team`` and ``too_much``.

    Raises
    ------
    ValueError : if there are fewer devices than ``gpus``, or memory for fewer than two images.
    RuntimeError : if one of several processes failed.
    """
    device, size = torch.device(device), recipe["gpus"]
    if device.type == "cuda" and torch.cuda.device_count() < size:
        raise ValueError(
            f"the recipe asks for gpus: {size}, and this job was granted {torch.cuda.device_count()}; allow as many "
            f"(`--resources gpu={size}`) or lower `gpus`"
        )
    too_much: list[int] = []
    while True:
        try:
            if size > 1:
                run_together(train, size, device, recipe=recipe, too_much=too_much, **job)
            else:
                train(team=Team(0, 1, device), recipe=recipe, too_much=too_much, **job)
            return
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            said = str(error).partition("\n")[0]
        # Below the handler: the traceback of the error keeps all that the training held
        too_much.append(recipe["micro_batch"] or -(-recipe["batch"] // size))
        half = smaller(recipe["batch"], size, too_much[-1])
        if half is None:
            raise ValueError(
                f"{device}: not enough memory for a batch of {recipe['batch']} on {size} device(s) with "
                f"{too_much[-1]} images at once ({said}); choose a smaller size or network, or leave it more memory"
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        print(
            f"{device}: not enough memory for {too_much[-1]} images at once ({said}); beginning anew with {half}, "
            "a different training: see `batch` in run.json",
            flush=True,
        )
        recipe = {**recipe, "micro_batch": half}
