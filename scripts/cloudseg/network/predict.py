"""Predict the validation and test images of a trained fold, flipped and not, into probability stores."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cloudseg import files, stores
from cloudseg.network import devices
from cloudseg.network.models import Segmenter, build_model, load_strictly, read_state
from cloudseg.network.names import require
from cloudseg.network.samples import fold_images, normalise

VIEWS = {"identity": (), "horizontal": (3,), "vertical": (2,), "both": (2, 3)}
"""Views by name: the axes of (N, C, H, W) that are flipped; a flip undoes itself."""

QUEUED = 2  # shards that may wait for the disk while the device goes on


def predict(
    *,
    checkpoints: Mapping[str, str | Path],
    pixels: str | Path,
    folds: str | Path,
    fold: int,
    outputs: Mapping[str, str | Path],
    views: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    batch: int,
    normalisation: Mapping[str, Sequence[float]],
    precision: str = "auto",
    threads: int = 1,
    device: str | torch.device = "cpu",
) -> None:
    """Write a probability store for each checkpoint and split.

    Parameters
    ----------
    checkpoints : name (``best``, ``last``) to safetensors file, as written by
        :func:`cloudseg.network.train.train`.
    pixels : pixel store of the size that the network was trained at.
    folds : table with the columns ``image`` and ``fold``.
    fold : its images, in the order of the table, are the split ``valid``; ``test`` is all of ``test/``.
    outputs : ``{checkpoint}-{split}`` to the store to write, (image, class, y, x) uint8.
    views : ``{"view": name, "weight": w}``; the weight is 1 when left out, and only ratios matter.
    size : height and width of the submission grid.
    batch : images that the network takes at once. Other batches give other last bits.
    normalisation : ``mean`` and ``std`` of the recipe.
    precision : of the recipe.
    threads : numerical threads.
    device : where to compute.

    Raises
    ------
    ValueError : if a checkpoint is of other classes than the pixels, or a view is not known. An error of
        the writing thread ends the job with its own message.
    """
    device = torch.device(device)
    devices.settle(threads, device)
    dtype = devices.precision_type(precision, device)
    group = stores.read(pixels)
    attrs = group.attrs.asdict()
    ids = attrs["ids"]
    _, valid = fold_images(folds, fold, ids["train"])
    splits = {
        "valid": (group["train/image"], valid, [ids["train"][position] for position in valid]),
        "test": (group["test/image"], list(range(len(ids["test"]))), ids["test"]),
    }
    # What decides the bytes besides the checkpoint: a store begun with other settings is begun anew
    settings = files.digest(
        {
            "pixels": attrs,
            "views": views,
            "size": size,
            "batch": batch,
            "normalisation": normalisation,
            "precision": str(dtype),
            "threads": threads,
            "device": device.type,
        }
    )

    def block(model: Segmenter, array: Any, positions: Sequence[int], rows: slice) -> np.ndarray:
        parts = []
        for start in range(rows.start, rows.stop, batch):
            chosen = positions[start : min(start + batch, rows.stop)]
            image = np.concatenate([stores.images(array, slice(at, at + 1)) for at in chosen])
            image = normalise(torch.from_numpy(image).to(device), **normalisation)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                mean = mean_of_views(model, image, views)
            parts.append(quantise(resize(mean, size)).cpu().numpy())
        return np.concatenate(parts)

    for name, checkpoint in checkpoints.items():
        model = load_model(checkpoint, attrs["classes"]).to(device, memory_format=torch.channels_last)
        run = files.sha256(checkpoint)
        for split, (array, positions, names) in splits.items():
            spec = stores.Spec((len(names), len(attrs["classes"]), *size), "uint8", ("image", "class", "y", "x"))
            about = {"ids": names, "classes": attrs["classes"], "run": run, "settings": settings}
            writer = stores.Writer(outputs[f"{name}-{split}"], {"": spec}, about)
            write_shards(writer, partial(block, model, array, positions))
            print(f"{name}, {split}: {len(names)} images", flush=True)


def load_model(checkpoint: str | Path, classes: Sequence[str]) -> Segmenter:
    """Build the network of a checkpoint, ready to predict.

    Parameters
    ----------
    checkpoint : file written by :func:`cloudseg.network.train.train`.
    classes : names that its planes must have.

    Returns
    -------
    Segmenter : in evaluation mode, on the CPU.

    Raises
    ------
    ValueError : if the file is not a checkpoint, or one of other classes.
    """
    state, about = read_state(checkpoint)
    if not {"encoder", "decoder", "classes"} <= set(about):
        raise ValueError(f"{checkpoint}: not a checkpoint of cloudseg; train this run again")
    if about["classes"] != list(classes):
        raise ValueError(f"{checkpoint}: trained on the classes {about['classes']}, the images have {classes}")
    model = build_model(about["encoder"], about["decoder"], len(classes))
    load_strictly(model.network, state, checkpoint)
    return model.eval()


@torch.inference_mode()
def mean_of_views(model: nn.Module, image: torch.Tensor, views: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """Return the weighted mean of the probabilities of several views, each flipped back.

    Parameters
    ----------
    model : maps images (N, 3, H, W) to logits (N, C, H, W).
    image : (N, 3, H, W).
    views : ``{"view": name, "weight": w}``; a weight is 1 when left out.

    Returns
    -------
    Tensor : (N, C, H, W) float32, 0 to 1.

    Raises
    ------
    ValueError : for no views, or one that is not known.

    Examples
    --------
    >>> views = [{"view": "identity", "weight": 3}, {"view": "horizontal"}]
    >>> mean_of_views(nn.Identity(), torch.tensor([[[[0.0, 50.0]]]]), views)  # equivariant: as one view
    tensor([[[[0.5000, 1.0000]]]])
    """
    if not views:
        raise ValueError(f"test-time augmentation needs at least one view of {', '.join(VIEWS)}")
    whole = sum(view.get("weight", 1) for view in views)
    mean = None
    for view in views:
        require(view["view"], VIEWS, "view")
        axes = VIEWS[view["view"]]
        probability = torch.sigmoid(model(image.flip(axes)).float()).flip(axes) * (view.get("weight", 1) / whole)
        mean = probability if mean is None else mean + probability
    return mean


def resize(plane: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize (N, C, H, W) bilinearly, pixels taken as areas; smoothed first along an axis that shrinks.

    Examples
    --------
    >>> resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4)).flatten()
    tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    shrinks = plane.shape[-2] > size[0] or plane.shape[-1] > size[1]
    return functional.interpolate(plane, size, mode="bilinear", align_corners=False, antialias=shrinks)


def quantise(probability: torch.Tensor) -> torch.Tensor:
    """Return floor(255 p + 0.5) as uint8, from float32.

    Examples
    --------
    >>> quantise(torch.tensor([0.0, 0.5, 0.7, 1.0]))
    tensor([  0, 128, 179, 255], dtype=torch.uint8)
    """
    # Making a byte of a number that is not negative drops its fraction, which is floor
    return (probability.float() * 255).add_(0.5).clamp_(0, 255).to(torch.uint8)


def write_shards(writer: stores.Writer, make: Callable[[slice], np.ndarray]) -> None:
    """Make the missing shards of a store and write each in the background while the next is made.

    Parameters
    ----------
    writer : of a store that is one array.
    make : range of images to their block.

    Raises
    ------
    Exception : whatever ``make`` or the writing thread raised; the store is then not finished.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="shards") as thread:
        waiting: deque[Future] = deque()
        for rows in writer.missing():
            block = make(rows)
            if len(waiting) == QUEUED:
                waiting.popleft().result()
            waiting.append(thread.submit(writer.write, rows, block))
        for future in waiting:
            future.result()
    writer.finish()
