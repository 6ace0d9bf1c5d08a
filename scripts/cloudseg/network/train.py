"""Train one network on one fold. Read from top to bottom: this is the order in which it runs."""

import contextlib
import importlib.metadata
import json
import math
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from cloudseg import files, stores
from cloudseg.network import devices
from cloudseg.network.augment import build_transform
from cloudseg.network.batches import Batches
from cloudseg.network.decoders import DECODERS
from cloudseg.network.losses import Loss, build_loss
from cloudseg.network.models import Segmenter, build_model, write_state
from cloudseg.network.resume import NAME, StateFile, leaving_on_signal
from cloudseg.network.samples import (
    CHANNELS,
    PixelSamples,
    draw,
    fold_images,
    normalise,
    quiet_worker,
    unpack,
)
from cloudseg.network.schedules import FOR_ALL_EPOCHS, SCHEDULES, reductions


def train(
    *,
    encoder: str,
    decoder: str,
    pixels: str | Path,
    folds: str | Path,
    fold: int,
    weights: str | Path,
    recipe: Mapping[str, Any],
    outputs: Mapping[str, str | Path],
    seed: int,
    canvas_pixels: str | Path | None = None,
    submission_size: Sequence[int] | None = None,
    code: int = 0,
    keep_state: bool = True,
    threads: int = 1,
    workers: int = 0,
    device: str | torch.device = "cpu",
) -> None:
    """Train a network on all folds but one and keep its best and its last epoch.

    Parameters
    ----------
    encoder, decoder : names of smp.
    pixels : pixel store of the training size.
    folds : table with the columns ``image`` and ``fold``; the images of ``fold`` validate.
    fold : from 0.
    weights : initial weights of the encoder. The rest of the network is drawn from ``seed`` alone, so every
        fold starts from the same network.
    recipe : all of

        - ``batch`` (images), ``drop_last`` (leave out a last batch that is not full), ``epochs``;
        - ``learning_rate`` (peak), ``warmup`` (epochs of linear warm-up, may be a fraction), ``schedule``: a name
          of :data:`cloudseg.network.schedules.SCHEDULES`, with ``plateau_patience`` (epochs) and
          ``plateau_factor`` (0 to 1) for ``plateau``, which counts epochs as ``best_by`` does;
        - ``weight_decay`` (AdamW), ``clip`` (largest norm of the gradient);
        - ``patience`` (epochs without a better one before stopping; 0 never stops);
        - ``best_by``: ``dice`` or ``loss`` of the validation images;
        - ``loss``: name to weight; ``loss_grid``: ``input`` compares at the training size, ``submission`` at
          ``submission_size``, in training and validation alike;
        - ``augmentation``: steps; ``canvas``: the size at which they are applied, for the record; ``channels``:
          ``rgb`` or ``gray``; ``normalise``: ``mean`` and ``std`` of the three colours;
        - ``precision``: ``auto``, ``float32``, ``bf16`` or ``fp16``.
    outputs : paths of ``best`` and ``last`` (safetensors), ``history`` (a line per epoch) and ``run`` (JSON).
    seed : of the decoder's first weights, the order of the batches, the augmentation and dropout.
    canvas_pixels : pixel store of the recipe's ``canvas``, from which images train; None trains from ``pixels``.
        Images are resized to the training size after augmentation. Validation reads ``pixels`` whatever this is.
    submission_size : (height, width) of the submission grid, for ``loss_grid: submission``.
    code : changes when this code means another result; a state of another number is not gone on from.
    keep_state : leave the state of the last epoch beside ``last``, so that more epochs go on from there.
    threads : numerical threads.
    workers : loader processes; the result does not depend on them.
    device : where to compute, as picked by :func:`cloudseg.network.devices.pick`.

    Raises
    ------
    ValueError : for a recipe, table or weights that do not fit, and for a loss that is not finite.

    Notes
    -----
    After each epoch the state of the training is written beside ``last`` (:mod:`cloudseg.network.resume`). A training
    that was killed goes on after that epoch and ends with the same bits. One that had finished goes on, too, when
    ``epochs`` has been raised, unless its ``schedule`` depends on their number, as cosine and one_cycle do.

    ``valid_dice`` in the history is a signal for training, not a score: threshold 0.5, no minimum size, at
    training size, 1 for a class absent from both mask and prediction; mean over images, then over classes.
    """
    started = time.perf_counter()
    device = torch.device(device)
    devices.settle(threads, device)
    dtype = devices.precision_type(recipe["precision"], device)

    # Data
    group = stores.read(pixels)
    attrs, size = group.attrs.asdict(), group["train/image"].shape[1:3]
    classes, smallest = attrs["classes"], DECODERS[decoder].minimum
    if min(size) < smallest:
        raise ValueError(f"{pixels}: images of {size[0]}x{size[1]}; {decoder} takes at least {smallest}x{smallest}")
    train_images, valid_images = fold_images(folds, fold, attrs["ids"]["train"])
    if len(train_images) < 2:
        raise ValueError(f"{folds}: fold {fold} leaves {len(train_images)} images to train on; two are needed")
    train_batches = Batches(len(train_images), recipe["batch"], shuffle_seed=seed, drop_last=recipe["drop_last"])
    if not len(train_batches):
        raise ValueError(
            f"{folds}: fold {fold} leaves {len(train_images)} images to train on and `drop_last` keeps only batches "
            f"of {recipe['batch']}; lower `batch` or set `drop_last: false`"
        )
    if (recipe["canvas"] is None) != (canvas_pixels is None):
        raise ValueError(f"the recipe's canvas is {recipe['canvas']} and its pixels are {canvas_pixels}; give both")
    if canvas_pixels is not None:
        _require_same_images(canvas_pixels, pixels)
    transform = build_transform(recipe["augmentation"])
    train_samples = PixelSamples(canvas_pixels or pixels, train_images, transform=transform, seed=seed, size=size)
    train_loader = _loader(train_samples, train_batches, workers, device)
    valid_batches = Batches(len(valid_images), recipe["batch"])
    valid_loader = _loader(PixelSamples(pixels, valid_images), valid_batches, 0, device)

    # Network
    torch.manual_seed(seed)
    channels = CHANNELS[recipe["channels"]]
    model = build_model(encoder, decoder, len(classes), weights=weights, channels=channels)
    model.to(device, memory_format=torch.channels_last)  # a quarter faster than planes, on the CPU too
    if recipe["loss_grid"] == "submission" and submission_size is None:
        raise ValueError("loss_grid: submission needs the size of the submission grid; none came")
    loss_of = build_loss(recipe["loss"], tuple(submission_size) if recipe["loss_grid"] == "submission" else None)
    optimiser = torch.optim.AdamW(_parameter_groups(model, recipe["weight_decay"]), fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    about = {"encoder": encoder, "decoder": decoder, "classes": classes}
    if channels != 3:  # a file that does not say is for three, as all were once
        about["channels"] = channels

    # State
    data = files.digest({"pixels": attrs, "folds": Path(folds).read_text(encoding="utf-8")})
    decides = {"encoder": encoder, "decoder": decoder, "fold": fold, "seed": seed, "threads": threads, "code": code}
    decides |= {"recipe": {key: value for key, value in recipe.items() if key != "epochs"}, "data": data}
    decides |= {"weights": files.sha256(weights), "loss_size": submission_size and list(submission_size)}
    decides |= {"device": device.type, "precision": str(dtype), "torch": torch.__version__}
    state_file = StateFile(Path(outputs["last"]).with_name(NAME), files.digest(decides))

    # Epochs
    schedule = SCHEDULES[recipe["schedule"]]
    steps = recipe["epochs"] * len(train_batches)
    warmup = recipe["warmup"] * len(train_batches)
    history: list[dict[str, Any]] = []
    values: list[float] = []  # what `best_by` says of each epoch; more is better
    best = {"epoch": 0, "value": -math.inf}
    best_network: dict[str, torch.Tensor] = {}
    resumed: list[dict[str, int]] = []
    state = state_file.read()
    if state is not None and state["epochs"] != recipe["epochs"] and recipe["schedule"] in FOR_ALL_EPOCHS:
        print(f"{state_file.path}: of {state['epochs']} epochs, and {recipe['schedule']} depends on their number")
        state = None
    if state is not None and len(state["history"]) <= recipe["epochs"]:
        history, values, best = state["history"], state["values"], state["best"]
        resumed = [*state["resumed"], {"after": len(history), "of": state["epochs"]}]
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
        best_network = state["best_network"]
        write_state(best_network, outputs["best"], {**about, "epoch": best["epoch"]})
        files.write_table(pd.DataFrame(history), outputs["history"])
        print(f"going on after epoch {len(history)}, from {state_file.path}")
    del state

    def enough() -> bool:
        return bool(recipe["patience"]) and len(history) - best["epoch"] >= recipe["patience"]

    def when_stopped() -> str:
        return f"stopped in epoch {len(history) + 1}; the next run goes on after epoch {len(history)}"

    with contextlib.closing(state_file), leaving_on_signal(when_stopped):
        while len(history) < recipe["epochs"] and not enough():
            epoch = len(history) + 1
            epoch_started = time.perf_counter()
            train_batches.epoch = epoch
            torch.manual_seed(draw(seed, epoch, len(train_images)))  # dropout; no sample has this place
            model.train()
            peak = recipe["learning_rate"]
            if recipe["schedule"] == "plateau":
                peak *= recipe["plateau_factor"] ** reductions(values, recipe["plateau_patience"])
            total, seen = torch.zeros((), device=device), 0
            progress = tqdm(train_loader, f"epoch {epoch}/{recipe['epochs']}", leave=False, disable=None)
            for step, (image, mask) in enumerate(progress, start=(epoch - 1) * len(train_batches)):
                rate = peak * schedule(step, steps, warmup)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                image, target = _to_network(image, mask, len(classes), recipe, device)
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    logits = model(image)
                loss = loss_of(logits, target)
                scaler.scale(loss).backward()
                scaler.unscale_(optimiser)
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["clip"])
                scaler.step(optimiser)
                scaler.update()
                optimiser.zero_grad()
                total += loss.detach() * len(image)
                seen += len(image)
            train_loss = _finite(total.item() / seen, "training", epoch, recipe)

            valid_loss, dice = _validate(model, valid_loader, loss_of, len(classes), recipe, dtype, device)
            _finite(valid_loss, "validation", epoch, recipe)
            history.append(
                {
                    "epoch": epoch,
                    "learning_rate": float(f"{rate:.6g}"),
                    "train_loss": round(train_loss, 6),
                    "valid_loss": round(valid_loss, 6),
                    "valid_dice": round(float(dice.mean()), 6),
                    **{f"dice_{name}": round(float(value), 6) for name, value in zip(classes, dice, strict=True)},
                    "seconds": round(time.perf_counter() - epoch_started, 2),
                }
            )
            files.write_table(pd.DataFrame(history), outputs["history"])
            values.append(float(dice.mean()) if recipe["best_by"] == "dice" else -valid_loss)
            if values[-1] > best["value"]:
                best = {"epoch": epoch, "value": values[-1]}
                best_network = {
                    key: value.detach().to("cpu", copy=True) for key, value in model.network.state_dict().items()
                }
                write_state(best_network, outputs["best"], {**about, "epoch": epoch})
            print(
                "epoch {epoch}/{epochs}: learning rate {learning_rate:.2g}, loss {train_loss:.4f} train "
                "{valid_loss:.4f} valid, Dice {valid_dice:.4f}, {seconds:.1f} s{mark}".format(
                    **history[-1], epochs=recipe["epochs"], mark=" (best)" if best["epoch"] == epoch else ""
                ),
                flush=True,
            )
            state_file.write(
                {
                    **{"epochs": recipe["epochs"], "history": history, "values": values, "best": best},
                    **{"resumed": resumed, "model": model.state_dict()},
                    **{"optimiser": optimiser.state_dict(), "scaler": scaler.state_dict()},
                },
                unchanging={"best_network": best_network},
            )
    if enough():
        print(f"stopped: no better epoch in {recipe['patience']}")
    epoch = len(history)
    write_state(model.network.state_dict(), outputs["last"], {**about, "epoch": epoch})

    # Record
    record = {
        "encoder": encoder,
        "decoder": decoder,
        "fold": fold,
        "recipe": dict(recipe),
        "seed": seed,
        "threads": threads,
        "workers": workers,
        "pixels": str(pixels),
        "canvas_pixels": None if canvas_pixels is None else str(canvas_pixels),
        "folds": str(folds),
        "weights": {"path": str(weights), "sha256": files.sha256(weights)},
        "data": data,
        "images": {"train": len(train_images), "valid": len(valid_images)},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "precision": str(dtype).removeprefix("torch."),
        "epochs": {"run": epoch, "best": best["epoch"], "resumed": resumed},
        "sha256": {name: files.sha256(outputs[name]) for name in ("best", "last")},
        "seconds": round(time.perf_counter() - started, 1),
        "machine": _machine(device),
        "versions": _versions(),
        "commit": _commit(),
    }
    files.write_text(outputs["run"], json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    if not keep_state:
        state_file.path.unlink(missing_ok=True)


def dice_per_class(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the Dice of every image and class at threshold 0.5.

    Parameters
    ----------
    logits, target : (N, C, H, W); the target is 0 or 1.

    Returns
    -------
    Tensor : (N, C) float64; 2 |A and B| / (|A| + |B|), 1 where both are empty.

    Examples
    --------
    >>> dice_per_class(torch.tensor([[[[1.0, 1.0]], [[-1.0, -1.0]]]]), torch.tensor([[[[1, 0]], [[0, 0]]]]))
    tensor([[0.6667, 1.0000]], dtype=torch.float64)
    """
    predicted, truth = logits >= 0, target > 0.5  # a probability of 0.5 is a logit of 0
    common = (predicted & truth).sum((2, 3)).double()
    sizes = (predicted.sum((2, 3)) + truth.sum((2, 3))).double()
    return torch.where(sizes == 0, 1.0, 2 * common / sizes.clamp_min(1))


def _require_same_images(canvas_pixels: str | Path, pixels: str | Path) -> None:
    """Raise unless two pixel stores hold the same training images and classes, in the same order."""
    canvas, sized = (stores.read(path).attrs.asdict() for path in (canvas_pixels, pixels))
    for what, of in (
        ("training images", lambda attrs: attrs["ids"]["train"]),
        ("classes", lambda attrs: attrs["classes"]),
        ("files or labels that they were made from", lambda attrs: attrs.get("data")),
    ):
        if of(canvas) != of(sized):
            raise ValueError(
                f"{canvas_pixels} and {pixels} differ in their {what}, or in the order of these; remove the older "
                "one, so that both are made from the same table of images"
            )


def _loader(samples: PixelSamples, batches: Batches, workers: int, device: torch.device) -> DataLoader:
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=quiet_worker,
        generator=torch.Generator(),  # else each pass draws a number from the state that dropout uses
    )


def _to_network(
    image: torch.Tensor, mask: torch.Tensor, classes: int, recipe: Mapping[str, Any], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = image.to(device, non_blocking=True), mask.to(device, non_blocking=True)
    return normalise(image, **recipe["normalise"], channels=CHANNELS[recipe["channels"]]), unpack(mask, classes)


def _parameter_groups(model: Segmenter, weight_decay: float) -> list[dict[str, Any]]:
    """Decay the weights of convolutions; pulling biases and norms towards zero only hurts."""
    parameters = list(model.parameters())
    return [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def _validate(
    model: Segmenter,
    loader: DataLoader,
    loss_of: Loss,
    classes: int,
    recipe: Mapping[str, Any],
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[float, np.ndarray]:
    """Return the mean loss of the validation images and their mean Dice per class, (classes,)."""
    model.eval()
    total, dice = 0.0, []
    for image, mask in loader:
        image, target = _to_network(image, mask, classes, recipe, device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(image)
        total += loss_of(logits, target).item() * len(image)
        dice.append(dice_per_class(logits, target).cpu())
    dice_NC = torch.cat(dice).numpy()
    return total / len(dice_NC), dice_NC.mean(axis=0)


def _finite(loss: float, which: str, epoch: int, recipe: Mapping[str, Any]) -> float:
    if not math.isfinite(loss):
        raise ValueError(
            f"the {which} loss became {loss} in epoch {epoch}; lower `learning_rate` (now "
            f"{recipe['learning_rate']}) or `clip` (now {recipe['clip']}), lengthen `warmup` (now "
            f"{recipe['warmup']}), or set `precision: float32` (now {recipe['precision']})"
        )
    return loss


def _machine(device: torch.device) -> dict[str, Any]:
    units = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss counts bytes there, KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units
    name = platform.processor() or platform.machine()
    machine = {"device": device.type, "name": name, "peak_memory_mib": round(peak)}
    if device.type == "cuda":
        machine["name"] = torch.cuda.get_device_name(device)
        machine["peak_device_memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    return machine


def _versions() -> dict[str, str]:
    packages = ("torch", "segmentation-models-pytorch", "timm", "albumentations", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def _commit() -> str | None:
    """Return the git commit of this code, marked when files differ from it, or None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [
        git,
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()  # noqa: S603
    return None
