"""Predict the validation images of a trained fold, or the test images, in several views, into probability stores."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn
from torch.nn import functional

from cloudseg.config.decoders import DECODERS
from cloudseg.config.views import VIEWS, Move, moves_of, scaled, smallest_side
from cloudseg.models.checkpoint_file import load_strictly, read_state
from cloudseg.models.mixed_precision import autocast
from cloudseg.models.preprocessing import normalise
from cloudseg.models.probabilities import probabilities_of, quantise
from cloudseg.models.resize import resize
from cloudseg.models.segmenter import Segmenter, build_model
from cloudseg.runtime import devices
from cloudseg.runtime.background import BackgroundWriter, with_context
from cloudseg.storage import files, stores
from cloudseg.training.dataset import fold_images

Matrix = tuple[tuple[float, float], tuple[float, float]]

QUEUED = 2  # shards that may wait for the disk while the device goes on


def predict(
    *,
    checkpoints: Mapping[str, str | Path],
    pixels: str | Path,
    outputs: Mapping[str, str | Path],
    views: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    batch: int,
    normalisation: Mapping[str, Sequence[float]],
    folds: str | Path | None = None,
    fold: int = 0,
    precision: str = "auto",
    threads: int = 1,
    device: str | torch.device = "cpu",
    code: int = 0,
    network: Mapping[str, str] | None = None,
) -> None:
    """Write a probability store for each checkpoint.

    Parameters
    ----------
    checkpoints : name (``best``, ``last``) to safetensors file, as written by
        :func:`cloudseg.training.train.train`.
    pixels : pixel store of the size that the network was trained at.
    outputs : name of a checkpoint to the store to write, (image, class, y, x) uint8.
    views : as :func:`cloudseg.config.views.recipe_views` gives them: ``{"view": name, "scale": s, "weight": w}``,
        both 1 when left out, or with ``moves``. Of the weights only ratios matter.
    size : height and width of the submission grid.
    batch : images that the network takes at once. Other batches give other last bits. When the device has no memory
        for so many, all stores are begun anew with half as many; a run that goes on with what such a one left
        takes as many as that did.
    normalisation : ``mean`` and ``std`` of the recipe.
    folds : table with the columns ``image`` and ``fold``: the images of ``fold`` are predicted, in the order of the
        table. None predicts all images of ``pixels``.
    fold : from 0.
    precision : of the recipe.
    threads : numerical threads.
    device : where to compute.
    code : the number of this code. What was begun with other code, other versions of the libraries or another kind of
        processor is not gone on with.
    network : ``encoder`` and ``decoder`` of the run, which a checkpoint must be of; None takes any.

    Raises
    ------
    ValueError : if a checkpoint is of other classes than the pixels or of another network, a view is not known, one
        shows the images smaller than the decoder takes them, or an image cannot be read. An error of the writing
        thread ends the job, too, and names the store and the images that it was writing.
    """
    device = torch.device(device)
    devices.set_determinism(threads, device)
    dtype = devices.compute_dtype(precision, device)
    group = stores.read(pixels)
    attrs = group.attrs.asdict()
    array = group["image"]
    positions = list(range(array.shape[0])) if folds is None else fold_images(folds, fold, attrs["ids"])[1]
    names = [attrs["ids"][position] for position in positions]
    height, width = array.shape[1:3]
    # What decides the bytes besides checkpoint and batch: a store begun with other settings is begun anew
    decides = {
        "pixels": attrs,
        # A scale of 1 left out, so that stores from before there were scales are the same
        "views": [{key: view[key] for key in view if key != "scale" or view[key] != 1} for view in views],
        "size": size,
        "normalisation": normalisation,
        "precision": str(dtype),
        "threads": threads,
        "device": device.type,
    }

    made_with = stores.made_with(code, np, torch, smp, timm) | {"processor": devices.instructions(device)}
    runs = {name: files.sha256(checkpoint) for name, checkpoint in checkpoints.items()}

    def about(name: str, batch: int) -> dict[str, Any]:
        settings = files.digest({**decides, "batch": batch})
        return {"ids": names, "classes": attrs["classes"], "run": runs[name], "settings": settings}

    def batch_begun_with() -> int:
        halves = [batch >> times for times in range(batch.bit_length())]
        fitting = [
            half
            for half in halves
            if any(stores.begun(outputs[name], about(name, half), made_with) for name in checkpoints)
        ]
        # The smallest, since a store that was begun before memory ran out may lie there as well
        return min(fitting, default=batch)

    def write_stores(batch: int) -> None:
        with BackgroundWriter(QUEUED, name="shards") as writing:
            write_each(batch, writing)

    def write_each(batch: int, writing: BackgroundWriter) -> None:
        loaded = None
        for name, checkpoint in checkpoints.items():
            loaded = model, trained = load_checkpoint(checkpoint, attrs["classes"], loaded, network)
            if (side := smallest_side(views, (height, width))) < (least := DECODERS[trained["decoder"]].minimum):
                raise ValueError(
                    f"{pixels}: images of {height}x{width}, which a view of `tta` shrinks to sides of {side} pixels; "
                    f"{trained['decoder']} takes at least {least}; raise its `scale`"
                )
            model.to(device, memory_format=torch.channels_last)
            prepare = partial(normalise, **normalisation, channels=trained.get("channels", 3))
            spec = stores.Spec((len(names), len(attrs["classes"]), *size), "uint8", ("image", "class", "y", "x"))
            writer = stores.Writer(outputs[name], {"": spec}, about(name, batch), made_with=made_with)
            write_shards(writer, partial(block, model, prepare, batch), names, writing)
            print(f"{name}: {len(names)} images", flush=True)

    def block(model: Segmenter, prepare: Callable[[torch.Tensor], torch.Tensor], batch: int, rows: slice) -> np.ndarray:
        black, white = (
            prepare(torch.full((1, 1, 1, 3), value, dtype=torch.uint8, device=device)) for value in (0, 255)
        )
        parts = []
        for start in range(rows.start, rows.stop, batch):
            chosen = range(start, min(start + batch, rows.stop))
            image = np.concatenate([read(positions[row], names[row]) for row in chosen])
            image = prepare(torch.from_numpy(image).to(device))
            with autocast(device, dtype):
                mean = mean_of_views(model, image, views, black, white)
            # One by one, which takes a processor half the time of a whole batch, whose planes at this size are large
            parts += [quantise(resize(one, size)) for one in mean.split(1)]
        return torch.cat(parts).cpu().numpy()

    def read(position: int, name: str) -> np.ndarray:
        try:
            return stores.read_images(array, slice(position, position + 1))
        except ValueError as error:
            raise with_context(f"{pixels}, image {name}", error) from error

    with_fitting_batch(write_stores, batch_begun_with(), device)


def with_fitting_batch(work: Callable[[int], None], batch: int, device: torch.device) -> None:
    """Do work with a batch that the device has memory for: when it runs out, do it anew with half as many.

    Parameters
    ----------
    work : what to do with a number of images at once.
    batch : to begin with, at least 1.
    device : for messages.

    Raises
    ------
    Exception : whatever ``work`` raised; for want of memory only when one image was too much.

    Examples
    --------
    >>> def work(batch):
    ...     if batch > 3:
    ...         raise torch.OutOfMemoryError
    ...     print(f"done with {batch}")
    >>> with_fitting_batch(work, 15, torch.device("cpu"))
    cpu has no memory for 15 images at once: beginning anew with 7
    cpu has no memory for 7 images at once: beginning anew with 3
    done with 3
    """
    while True:
        try:
            return work(batch)
        except (RuntimeError, MemoryError) as error:
            if not devices.ran_out_of_memory(error):
                raise
            if batch == 1:
                error.add_note(
                    f"{device} has no memory for one image: predict on a larger device, let no other job share it, or "
                    "take views of a smaller `scale` in the recipe's `tta`"
                )
                raise
        # After the block, since until then the error keeps the tensors of the batch that was too large
        print(f"{device} has no memory for {batch} images at once: beginning anew with {batch // 2}", flush=True)
        batch //= 2
        torch.cuda.empty_cache()


def load_checkpoint(
    checkpoint: str | Path,
    classes: Sequence[str],
    loaded: tuple[Segmenter, dict[str, Any]] | None = None,
    network: Mapping[str, str] | None = None,
) -> tuple[Segmenter, dict[str, Any]]:
    """Build the network of a checkpoint, ready to predict, and say what it is.

    Parameters
    ----------
    checkpoint : file written by :func:`cloudseg.training.train.train`.
    classes : names that its planes must have.
    loaded : what an earlier call returned for the same classes and is not needed any more: when its network is of the
        same kind, that one gets the weights, which saves building it again.
    network : ``encoder`` and ``decoder`` that the file must be of; None takes any.

    Returns
    -------
    (Segmenter, dict) : the network in evaluation mode, on the CPU or where the one of ``loaded`` is; its ``encoder``,
        ``decoder``, ``classes`` and, where these are not 3, the ``channels`` of the images that it takes.

    Raises
    ------
    ValueError : if the file is not a checkpoint, or one of other classes or of another network.
    """
    state, about = read_state(checkpoint)
    if not {"encoder", "decoder", "classes"} <= set(about):
        raise ValueError(f"{checkpoint}: not a checkpoint of cloudseg; train this run again")
    if network is not None and (came := {key: about[key] for key in network}) != network:
        raise ValueError(f"{checkpoint}: expected a network of {network}, got one of {came}; train this run again")
    if about["classes"] != list(classes):
        raise ValueError(f"{checkpoint}: trained on the classes {about['classes']}, the images have {classes}")
    if loaded is not None and _kind(loaded[1]) == _kind(about):
        model = loaded[0]
    else:
        model = build_model(**_kind(about), classes=len(classes))
    load_strictly(model.network, state, checkpoint)
    return model.eval(), about


def _kind(about: Mapping[str, Any]) -> dict[str, Any]:
    return {"encoder": about["encoder"], "decoder": about["decoder"], "channels": about.get("channels", 3)}


@torch.inference_mode()
def mean_of_views(
    model: nn.Module,
    image: torch.Tensor,
    views: Sequence[Mapping[str, Any]],
    black: torch.Tensor | float = 0.0,
    white: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Return the weighted mean of the probabilities of several views, each undone.

    A pixel's mean is over the views that saw it: outside a crop or a turned image there is nothing to weigh.

    Parameters
    ----------
    model : maps images (N, C, H, W) to logits (N, classes, H, W), of any height and width that a view has.
    image : (N, C, H, W).
    views : ``{"view": name, "scale": s, "weight": w}``, both 1 when left out, or with ``moves``.
    black, white : what the bytes 0 and 255 are in ``image``, to be broadcast to it.

    Returns
    -------
    Tensor : (N, classes, H, W) float32, 0 to 1.

    Raises
    ------
    ValueError : for no views, one that is not known, or a pixel that none of them saw.

    Examples
    --------
    >>> views = [{"view": "identity", "weight": 3}, {"view": "horizontal"}]
    >>> mean_of_views(nn.Identity(), torch.tensor([[[[0.0, 50.0]]]]), views)  # equivariant: as one view
    tensor([[[[0.5000, 1.0000]]]])
    """
    if not views:
        raise ValueError(f"test-time augmentation needs at least one view of {', '.join(VIEWS)}")
    whole = sum(view.get("weight", 1) for view in views)
    mean, covered = None, 0.0
    for view in views:
        probability, seen = probability_of_view(model, image, view, black, white)
        share = view.get("weight", 1) / whole
        weight = share if seen is None else seen * share
        probability = probability * weight
        mean = probability if mean is None else mean + probability
        covered = covered + weight
    mean = mean.contiguous()  # as planes, which are faster to resize than what a network leaves
    if isinstance(covered, float):
        return mean
    if not covered.min() > 0:
        names = ", ".join(view["view"] for view in views)
        raise ValueError(f"pixels that no view sees ({names}); add the view `identity`")
    return mean / covered


def probability_of_view(
    model: nn.Module,
    image: torch.Tensor,
    view: Mapping[str, Any],
    black: torch.Tensor | float = 0.0,
    white: torch.Tensor | float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the probabilities that a network gives to one view, undone, and which pixels it saw.

    Parameters
    ----------
    model, image, black, white : as of :func:`mean_of_views`.
    view : one of its views.

    Returns
    -------
    (Tensor, Tensor or None) : probabilities (N, classes, H, W), float32; and (1, 1, H, W), 1 where everything that
        a pixel was interpolated from lay within the image and within the view, else 0. None is 1 everywhere.
    """
    moves = moves_of(view)
    shown, before = image, []
    for move in moves:
        before.append(shown.shape[-2:])
        shown = show(shown, move, black, white)
    probability = probabilities_of(model(shown))
    for move, size in zip(reversed(moves), reversed(before), strict=True):
        probability = undo(probability, move, size)
    return probability, seen_pixels(moves, image)


def seen_pixels(moves: Sequence[Move], image: torch.Tensor) -> torch.Tensor | None:
    """Return which pixels of an image take part when moves are done and undone, (1, 1, H, W); None if all do."""
    if not any(move[0] in ("crop", "rotate") for move in moves):
        return None
    seen, before = image.new_ones(1, 1, *image.shape[-2:]), []
    for move in moves:
        before.append(seen.shape[-2:])
        if move[0] == "rotate":  # whatever the image is continued with outside
            seen = _whole(_warp(seen, _matrix(move, seen), "zeros"))
        elif move[0] != "light":
            seen = _whole(show(seen, move))
    for move, size in zip(reversed(moves), reversed(before), strict=True):
        seen = _whole(undo(seen, move, size))
    return seen


def show(
    image: torch.Tensor, move: Move, black: torch.Tensor | float = 0.0, white: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """Do one move of :func:`cloudseg.config.views.moves_of` to images (N, C, H, W).

    Examples
    --------
    >>> show(torch.tensor([[[[0.0, 0.5, 0.75]]]]), ("light", 0.25, 1)).flatten()
    tensor([0.2500, 0.7500, 1.0000])
    """
    match move:
        case ["flip", *axes]:
            return image.flip(axes)
        case ["transpose"]:
            return image.transpose(2, 3)
        case ["scale", factor]:
            return resize(image, scaled(image.shape[-2:], factor))
        case ["light", brightness, contrast]:
            intensity = (image - black) / (white - black)
            return black + (contrast * intensity + brightness).clamp(0, 1) * (white - black)
        case ["crop", _, _]:
            return _warp(image, _matrix(move, image), "border")
        case ["rotate", _, _, padding, fill]:
            outside = black + fill / 255 * (white - black)  # zeros are padded, so what is outside must be 0
            return _warp(image - outside, _matrix(move, image), padding) + outside
    raise ValueError(f"no such move: {move}")


def undo(plane: torch.Tensor, move: Move, size: tuple[int, int]) -> torch.Tensor:
    """Undo one move in planes (N, C, H, W), which ``size`` (height, width) had before; 0 where nothing was shown.

    Examples
    --------
    >>> undo(torch.ones(1, 1, 1, 4), ("crop", 1, 0.5), (1, 4)).flatten()
    tensor([0., 1., 1., 0.])
    """
    match move:
        case ["scale", _]:
            return resize(plane, size)
        case ["crop" | "rotate", *_]:
            (a, b), (c, d) = _matrix(move, plane)
            whole = a * d - b * c
            return _warp(plane, ((d / whole, -b / whole), (-c / whole, a / whole)), "zeros")
        case ["light", *_]:
            return plane
    return show(plane, move)  # flips and the transpose undo themselves


def _matrix(move: Move, image: torch.Tensor) -> Matrix:
    """Return where a view looks: a place (x, y) in the view, each from -1 to 1, to the place in the image."""
    match move:
        case ["crop", height, width]:
            return (width, 0.0), (0.0, height)
        case ["rotate", degrees, ratio, *_]:
            ratio = ratio or image.shape[-1] / image.shape[-2]
            sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
            return (cosine, -sine / ratio), (sine * ratio, cosine)
    raise ValueError(f"no map of places: {move}")


def _warp(plane: torch.Tensor, matrix: Matrix, padding: str) -> torch.Tensor:
    """Look at (N, C, H, W) through a map of places, bilinearly, pixels taken as areas."""
    height, width = plane.shape[-2:]
    y, x = ((2 * torch.arange(side, device=plane.device) + 1) / side - 1 for side in (height, width))
    # By hand: affine_grid multiplies matrices, which autocast and TF32 do at ten bits
    (a, b), (c, d) = matrix
    places = torch.stack([a * x + b * y[:, None], c * x + d * y[:, None]], dim=-1).expand(len(plane), -1, -1, -1)
    return functional.grid_sample(plane, places, mode="bilinear", padding_mode=padding, align_corners=False)


def _whole(seen: torch.Tensor) -> torch.Tensor:
    """Keep the pixels all of whose parts were seen; the sums of their shares differ from 1 in the last bits."""
    return (seen > 0.999).to(seen.dtype)


def write_shards(
    writer: stores.Writer, make: Callable[[slice], np.ndarray], names: Sequence[str], writing: BackgroundWriter
) -> None:
    """Make the missing shards of a store and have each written, and the store finished, while the next is made.

    Parameters
    ----------
    writer : of a store that is one array.
    make : range of images to their block.
    names : of all images, for errors.
    writing : what writes; it may have more to write, before and after.

    Raises
    ------
    Exception : whatever ``make`` raised; the store is then not finished. Or an error of what was submitted earlier,
        which names the store and the images; those of this store may come up later, when ``writing`` is closed.
    """
    for rows in writer.missing():
        block = make(rows)
        more = rows.stop - rows.start - 1
        about = f"{writer.path}, image{'s' if more else ''} {names[rows.start]}{f' and {more} more' if more else ''}"
        writing.submit(about, writer.write, rows, block)
    writing.submit(str(writer.path), writer.finish)
