"""Train on the devices that there are, in smaller pieces where their memory is not enough."""

from collections.abc import Mapping
from typing import Any

import torch

from cloudseg.config.batching import images_at_once, smaller
from cloudseg.runtime.devices import ran_out_of_memory
from cloudseg.training.ranks import Team, run_together
from cloudseg.training.train import open_state, train


def train_on(device: str | torch.device, *, recipe: Mapping[str, Any], **job: Any) -> None:
    """Train a network, and begin anew with half as many images at once when a device has no more memory.

    Of half the images the gradient is summed twice as often before each step. That is a different training, since
    BatchNorm and the losses over a batch see fewer images: it begins anew, and ``run.json`` says so.

    Parameters
    ----------
    device : where to compute, as picked by :func:`cloudseg.runtime.devices.pick`; with ``gpus`` above 1 in the recipe
        as many of its type, the first of those that this process sees.
    recipe, job : what :func:`cloudseg.training.train.train` takes, but its ``team``, ``at_once`` and ``too_much``. One
        that was stopped goes on with as many images at once as its state says.

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
    state_file = open_state(recipe=recipe, device=device, **job)
    begun = state_file.read(lambda said: None)  # the training will say it
    state_file.close()
    at_once = begun["at_once"] if begun else images_at_once(recipe)
    too_much = begun["too_much"] if begun else []
    del begun
    while True:
        attempt = {"recipe": recipe, "at_once": at_once, "too_much": too_much, **job}
        try:
            if size > 1:
                run_together(train, size, device, **attempt)
            else:
                train(team=Team(0, 1, device), **attempt)
            return
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            said = str(error).partition("\n")[0]
        # Below the handler: the traceback of the error keeps all that the training held
        too_much = [*too_much, at_once]
        half = smaller(recipe["batch"], size, at_once)
        if half is None:
            raise ValueError(
                f"{device}: not enough memory for a batch of {recipe['batch']} on {size} device(s) with {at_once} "
                f"images at once ({said}); choose a smaller size or network, or leave it more memory"
            )
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        print(
            f"{device}: not enough memory for {at_once} images at once ({said}); beginning anew with {half}, a "
            "different training: see `batch` in run.json",
            flush=True,
        )
        at_once = half
