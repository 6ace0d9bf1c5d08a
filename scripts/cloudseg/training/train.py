"""Train one network on one fold. Read from top to bottom: this is the order in which it runs."""

import contextlib
import importlib.metadata
import json
import math
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cloudseg.config.batching import images_at_once
from cloudseg.config.decoders import DECODERS
from cloudseg.models.networks import build_model, write_state
from cloudseg.runtime import devices
from cloudseg.storage import files, stores
from cloudseg.training.augment import build_transform
from cloudseg.training.finished import data_digest
from cloudseg.training.learner import Learner
from cloudseg.training.loader import Loader
from cloudseg.training.metrics import ValidationDecision, dice_per_class, masks_left_out
from cloudseg.training.ranks import ALONE, Team
from cloudseg.training.resume import NAME, StateFile, leaving_on_signal
from cloudseg.training.sampler import Batches
from cloudseg.training.samples import CHANNELS, PixelSamples, draw, fold_images
from cloudseg.training.schedules import FOR_ALL_EPOCHS, SCHEDULES, reductions


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
    team: Team = ALONE,
    at_once: int | None = None,
    too_much: Sequence[int] = (),
) -> None:
    """Train a network on all folds but one and keep its best and its last epoch.

    This is what one process does, be it alone or one of several: :func:`cloudseg.training.attempts.train_on` begins it.

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
        - ``gpus``: the size of ``team``, which shares each batch; ``micro_batch``: images that a device sees at once,
          the gradients of the pieces being summed, or None for all of its share;
        - ``learning_rate`` (peak), ``warmup`` (epochs of linear warm-up, may be a fraction), ``schedule``: a name
          of :data:`cloudseg.training.schedules.SCHEDULES`, with ``plateau_patience`` (epochs) and
          ``plateau_factor`` (0 to 1) for ``plateau``, which counts epochs as ``best_by`` does;
        - ``weight_decay`` (AdamW), ``clip`` (largest norm of the gradient);
        - ``patience`` (epochs without a better one before stopping; 0 never stops);
        - ``best_by``: ``dice`` or ``loss`` of the validation images; ``validation``: the decision by which the Dice is
          counted, ``threshold`` and ``min_area`` (share of an image);
        - ``loss``: name to weight; ``dice_over``: ``class`` or ``all``, as of
          :func:`cloudseg.training.losses.build_loss`; ``loss_grid``: ``input`` compares at the training size,
          ``submission`` at ``submission_size``, in training and validation alike;
        - ``augmentation``: steps; ``canvas``: the size at which they are applied, for the record; ``channels``:
          ``rgb`` or ``gray``; ``normalise``: ``mean`` and ``std`` of the three colours;
        - ``precision``: ``auto``, ``float32``, ``bf16`` or ``fp16``; ``channels_last`` and ``compile``: how the network
          is laid out and whether torch compiles it; ``ema``: decay of the moving average of the weights that is
          validated and kept in place of the last ones, or None.
    outputs : paths of ``best`` and ``last`` (safetensors), ``history`` (a line per epoch) and ``run`` (JSON).
    seed : of the decoder's first weights, the order of the batches, the augmentation and dropout.
    canvas_pixels : pixel store of the recipe's ``canvas``, from which images train; None trains from ``pixels``.
        Images are resized to the training size after augmentation. Validation reads ``pixels`` whatever this is.
    submission_size : (height, width) of the submission grid, for ``loss_grid: submission``.
    code : changes when this code means another result; a state of another number is not gone on from.
    keep_state : leave the state of the last epoch beside ``last``, so that more epochs go on from there.
    threads : numerical threads of each process.
    workers : loader processes of each process; the result does not depend on them.
    team : this process's place among those that train together, and its device.
    at_once : images that a device sees at once; None is what the recipe says, as
        :func:`cloudseg.config.batching.images_at_once` reads it.
    too_much : numbers of images at once that have been tried and that the memory was not enough for, for the record.

    Raises
    ------
    ValueError : for a recipe, table or weights that do not fit, and for a loss that is not finite.

    Notes
    -----
    After each epoch the state of the training is written beside ``last`` (:mod:`cloudseg.training.resume`). A training
    that was killed goes on after that epoch and ends with the same bits. One that had finished goes on, too, when
    ``epochs`` has been raised, unless its ``schedule`` depends on their number, as cosine and one_cycle do.

    ``valid_dice`` in the history is a signal for training, not a score: by the decision of the recipe, at training
    size, from one view, 1 for a class absent from both mask and prediction; mean over images, then over classes. The
    decision is the recipe's own: one of an ensemble may be changed, or tuned, without any training done anew.
    ``valid_loss`` is over batches of as many images as a device sees at once. ``learning_rate`` is that of the last
    step of an epoch.

    Several devices see the batches that one would see. What counts over the images that a device sees at once then
    counts over fewer: the losses over a batch, and on the CPU BatchNorm (on CUDA it is synchronised). Without these
    the losses are those of one device, but for the order of sums.
    """
    started = time.perf_counter()
    device = team.device
    devices.settle(threads, device)

    # Data
    group = stores.read(pixels)
    attrs, size = group.attrs.asdict(), group["image"].shape[1:3]
    classes, smallest = attrs["classes"], DECODERS[decoder].minimum
    if min(size) < smallest:
        raise ValueError(f"{pixels}: images of {size[0]}x{size[1]}; {decoder} takes at least {smallest}x{smallest}")
    train_images, valid_images = fold_images(folds, fold, attrs["ids"])
    if len(train_images) < 2:
        raise ValueError(f"{folds}: fold {fold} leaves {len(train_images)} images to train on; two are needed")
    at_once = at_once or images_at_once(recipe)
    share = {"rank": team.rank, "ranks": team.size, "most": at_once}
    train_batches = Batches(
        len(train_images), recipe["batch"], shuffle_seed=seed, drop_last=recipe["drop_last"], **share
    )
    if not len(train_batches):
        why, lower = f"are too few for {team.size} devices", "`gpus`"
        if recipe["drop_last"]:
            why = f"make no batch of {recipe['batch']}, and `drop_last` keeps no other"
            lower = "`batch`, or set `drop_last: false`"
        raise ValueError(
            f"{folds}: the {len(train_images)} images that fold {fold} leaves to train on {why}; lower {lower}"
        )
    if (recipe["canvas"] is None) != (canvas_pixels is None):
        raise ValueError(f"the recipe's canvas is {recipe['canvas']} and its pixels are {canvas_pixels}; give both")
    if canvas_pixels is not None:
        _require_same_images(canvas_pixels, pixels)
    transform = build_transform(recipe["augmentation"])
    train_samples = PixelSamples(canvas_pixels or pixels, train_images, transform=transform, seed=seed, size=size)
    train_loader = Loader(train_samples, train_batches, workers, device, ranks=team.size)
    decision = ValidationDecision.of(recipe["validation"], size)
    own_images = slice(team.rank, None, team.size)
    valid_samples = PixelSamples(pixels, valid_images[own_images])
    _require_masks_to_stay(valid_samples, len(classes), decision, team, pixels)
    valid_loader = Loader(valid_samples, Batches(len(valid_samples), at_once), 0, device)

    # Network
    torch.manual_seed(seed)
    channels = CHANNELS[recipe["channels"]]
    model = build_model(encoder, decoder, len(classes), weights=weights, channels=channels)
    if recipe["loss_grid"] == "submission" and submission_size is None:
        raise ValueError("loss_grid: submission needs the size of the submission grid; none came")
    loss_grid = tuple(submission_size) if recipe["loss_grid"] == "submission" else None
    learner = Learner(model, recipe, len(classes), team, loss_grid)
    about = {"encoder": encoder, "decoder": decoder, "classes": classes}
    if channels != 3:  # a file that does not say is for three, as all were once
        about["channels"] = channels

    # State
    state_file = open_state(
        encoder=encoder,
        decoder=decoder,
        pixels=pixels,
        folds=folds,
        fold=fold,
        weights=weights,
        recipe=recipe,
        outputs=outputs,
        seed=seed,
        submission_size=submission_size,
        code=code,
        threads=threads,
        device=device,
    )
    if team.leads:
        for path in (*outputs.values(), state_file.path):
            files.remove_leftovers(path)

    # Epochs
    schedule = SCHEDULES[recipe["schedule"]]
    steps = recipe["epochs"] * len(train_batches)
    warmup = recipe["warmup"] * len(train_batches)
    history: list[dict[str, Any]] = []
    values: list[float] = []  # what `best_by` says of each epoch; more is better
    best = {"epoch": 0, "value": -math.inf}
    best_network: dict[str, torch.Tensor] = {}
    resumed: list[dict[str, int]] = []
    busy = 0.0  # seconds in which the device had work
    trained: list[float] = []  # seconds of the epochs of this process, in training
    spent: list[float] = []  # and in all
    state = state_file.read(team.say)
    if state is not None and state["epochs"] != recipe["epochs"] and recipe["schedule"] in FOR_ALL_EPOCHS:
        team.say(f"{state_file.path}: of {state['epochs']} epochs, and {recipe['schedule']} depends on their number")
        state = None
    if state is not None and state["at_once"] != at_once:
        team.say(f"{state_file.path}: of {state['at_once']} images at once; training from the beginning")
        state = None
    if state is not None and len(state["history"]) > recipe["epochs"]:
        team.say(f"{state_file.path}: of {len(state['history'])} epochs already; training from the beginning")
        state = None
    if state is not None:
        history, values, best = state["history"], state["values"], state["best"]
        resumed = [*state["resumed"], {"after": len(history), "of": state["epochs"]}]
        learner.load_state_dict(state["learner"])
        best_network = state["best_network"]
        if team.leads:
            write_state(best_network, outputs["best"], {**about, "epoch": best["epoch"]})
            files.write_table(pd.DataFrame(history), outputs["history"])
        team.say(f"going on after epoch {len(history)}, from {state_file.path}")
    del state
    if team.sum(torch.tensor(len(history))).item() != team.size * len(history):
        raise ValueError(f"{state_file.path}: the processes of this training read different states; run it again")

    def enough() -> bool:
        return bool(recipe["patience"]) and len(history) - best["epoch"] >= recipe["patience"]

    def when_stopped() -> str:
        return f"stopped in epoch {len(history) + 1}; the next run goes on after epoch {len(history)}"

    with leaving_on_signal(when_stopped), contextlib.closing(state_file):
        while len(history) < recipe["epochs"] and not enough():
            epoch = len(history) + 1
            epoch_started = time.perf_counter()
            train_batches.epoch = epoch
            # Dropout; no sample has these places
            torch.manual_seed(draw(seed, epoch, len(train_images) + team.rank))
            learner.model.train()
            peak = recipe["learning_rate"]
            if recipe["schedule"] == "plateau":
                peak *= recipe["plateau_factor"] ** reductions(values, recipe["plateau_patience"])
            total, seen = torch.zeros((), device=device), 0
            quiet = None if team.leads else True  # None: on a terminal alone
            progress = tqdm(train_loader, f"epoch {epoch}/{recipe['epochs']}", leave=False, disable=quiet)
            for number, (image, mask) in enumerate(progress):
                rate = peak * schedule((epoch - 1) * len(train_batches) + number, steps, warmup)
                images, pieces = train_batches.images(number), train_batches.pieces(number)
                total += learner.learn(image, mask, rate=rate, images=images, pieces=pieces)
                seen += images
            train_loss = _finite(team.sum(total).item() / seen, "training", epoch, recipe)
            trained.append(time.perf_counter() - epoch_started)

            team.average_buffers(learner.model)
            if learner.kept is not learner.model:
                team.average_buffers(learner.kept)
            valid_loss, dice = _validate(learner, valid_loader, decision, team, len(valid_images), own_images)
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
            spent.append(time.perf_counter() - epoch_started)
            busy = learner.busy.seconds()
            values.append(float(dice.mean()) if recipe["best_by"] == "dice" else -valid_loss)
            if values[-1] > best["value"]:
                best = {"epoch": epoch, "value": values[-1]}
                kept = learner.kept.network.state_dict()
                best_network = {key: value.detach().to("cpu", copy=True) for key, value in kept.items()}
            team.say(
                "epoch {epoch}/{epochs}: learning rate {learning_rate:.2g}, loss {train_loss:.4f} train "
                "{valid_loss:.4f} valid, Dice {valid_dice:.4f}, {seconds:.1f} s{mark}".format(
                    **history[-1], epochs=recipe["epochs"], mark=" (best)" if best["epoch"] == epoch else ""
                )
            )
            if team.leads:
                files.write_table(pd.DataFrame(history), outputs["history"])
                if best["epoch"] == epoch:
                    write_state(best_network, outputs["best"], {**about, "epoch": epoch})
                state_file.write(
                    {
                        **{"epochs": recipe["epochs"], "history": history, "values": values, "best": best},
                        **{"resumed": resumed, "at_once": at_once, "too_much": list(too_much)},
                        "learner": learner.state_dict(),
                    },
                    unchanging={"best_network": best_network},
                )
    machines = _machines(team, busy, sum(spent))
    if not team.leads:
        return
    if enough():
        print(f"stopped: no better epoch in {recipe['patience']}")
    epoch = len(history)
    write_state(learner.kept.network.state_dict(), outputs["last"], {**about, "epoch": epoch})

    # Record
    record = {
        "encoder": encoder,
        "decoder": decoder,
        "fold": fold,
        "recipe": dict(recipe),
        "seed": seed,
        "threads": threads,
        "code": code,
        "loss_size": submission_size and list(submission_size),
        "workers": workers,
        "pixels": str(pixels),
        "canvas_pixels": None if canvas_pixels is None else str(canvas_pixels),
        "folds": str(folds),
        "weights": {"path": str(weights), "sha256": files.sha256(weights)},
        "data": data_digest(pixels, folds),
        "images": {"train": len(train_images), "valid": len(valid_images)},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "precision": str(learner.dtype).removeprefix("torch."),
        "batch": {
            "images": recipe["batch"],
            "devices": team.size,
            "at_once": at_once,
            "pieces": train_batches.pieces(0),
            "too_much": list(too_much),
        },
        "epochs": {"run": epoch, "best": best["epoch"], "resumed": resumed},
        "sha256": {name: files.sha256(outputs[name]) for name in ("best", "last")},
        "seconds": round(time.perf_counter() - started, 1),
        "images_per_second": round(len(trained) * seen / sum(trained), 2) if trained else None,
        "devices": machines,
        "versions": _versions(),
        "commit": _commit(),
    }
    files.write_text(outputs["run"], json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    if not keep_state:
        state_file.path.unlink(missing_ok=True)


def open_state(
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
    device: torch.device,
    submission_size: Sequence[int] | None = None,
    code: int = 0,
    threads: int = 1,
    **_: Any,
) -> StateFile:
    """Return the file of a training's state, which knows by a digest of all that decides an epoch what is its own.

    Parameters
    ----------
    encoder, decoder, pixels, folds, fold, weights, recipe, outputs, seed, submission_size, code, threads : as of
        :func:`train`; its others change nothing. Of the recipe all but ``epochs`` counts.
    device : of the team.
    """
    decides = {"encoder": encoder, "decoder": decoder, "fold": fold, "seed": seed, "threads": threads, "code": code}
    decides |= {"recipe": {key: value for key, value in recipe.items() if key != "epochs"}}
    decides |= {"data": data_digest(pixels, folds), "weights": files.sha256(weights)}
    decides |= {"loss_size": submission_size and list(submission_size), "device": device.type}
    decides |= {"precision": str(devices.precision_type(recipe["precision"], device)), "torch": torch.__version__}
    return StateFile(Path(outputs["last"]).with_name(NAME), files.digest(decides))


def _require_same_images(canvas_pixels: str | Path, pixels: str | Path) -> None:
    """Raise unless two pixel stores hold the same training images and classes, in the same order."""
    canvas, sized = (stores.read(path).attrs.asdict() for path in (canvas_pixels, pixels))
    for what, of in (
        ("training images", lambda attrs: attrs["ids"]),
        ("classes", lambda attrs: attrs["classes"]),
        ("files or labels that they were made from", lambda attrs: attrs.get("data")),
    ):
        if of(canvas) != of(sized):
            raise ValueError(
                f"{canvas_pixels} and {pixels} differ in their {what}, or in the order of these; remove the older "
                "one, so that both are made from the same table of images"
            )


def _require_masks_to_stay(
    samples: PixelSamples, classes: int, decision: ValidationDecision, team: Team, pixels: str | Path
) -> None:
    """Raise when the minimum size takes away more than half of the masks that are to be found."""
    counts = [masks_left_out(samples.mask(place), classes, decision.min_size) for place in range(len(samples))]
    there, left_out = team.sum(torch.tensor(counts, dtype=torch.int64).reshape(-1, 2).sum(0)).tolist()
    if left_out > there / 2:
        raise ValueError(
            f"{pixels}: the recipe's `validation.min_area` ({decision.min_size} pixels at this size) leaves out "
            f"{left_out} of the {there} masks to be found; set it below the smallest of their areas"
        )


def _validate(
    learner: Learner, loader: Loader, decision: ValidationDecision, team: Team, count: int, places: slice
) -> tuple[float, np.ndarray]:
    """Return the mean loss of the validation images and their mean Dice per class, (classes,).

    Of the ``count`` images this process looks at those at ``places``; all processes get the same numbers.
    """
    learner.kept.eval()
    total = torch.zeros((), dtype=torch.float64)
    dice = [torch.zeros(0, learner.classes, dtype=torch.float64)]  # there may be no images for all
    for image, mask in loader:
        loss, logits, target = learner.validate(image, mask)
        total += loss.item() * len(image)
        dice.append(dice_per_class(logits, target, decision))
    dice_NC = team.collect(torch.cat(dice), places, count).cpu().numpy()
    return team.sum(total).item() / count, dice_NC.mean(axis=0)


def _finite(loss: float, which: str, epoch: int, recipe: Mapping[str, Any]) -> float:
    if not math.isfinite(loss):
        raise ValueError(
            f"the {which} loss became {loss} in epoch {epoch}; lower `learning_rate` (now "
            f"{recipe['learning_rate']}) or `clip` (now {recipe['clip']}), lengthen `warmup` (now "
            f"{recipe['warmup']}), or set `precision: float32` (now {recipe['precision']})"
        )
    return loss


def _machines(team: Team, busy: float, seconds: float) -> list[dict[str, Any]]:
    """Return each device of a team with its peak memory and the share of the epochs' seconds in which it was busy."""
    own = torch.tensor([[devices.peak_memory(team.device), busy / seconds if seconds else math.nan]])
    rows = team.collect(own.double(), slice(team.rank, team.rank + 1), team.size).tolist()
    if team.size > 1:
        peaks = [peak / 2**20 for peak, _ in rows]
        apart = max(peaks) / min(peaks) - 1
        team.say(f"peak memory of the ranks: {', '.join(f'{peak:.0f}' for peak in peaks)} MiB, {apart:.1%} apart")
    return [
        {
            "device": team.device.type,
            "name": devices.name(torch.device(team.device.type, number)),
            "peak_memory_mib": round(peak / 2**20),
            "busy": None if math.isnan(share) else round(share, 3),
        }
        for number, (peak, share) in enumerate(rows)
    ]


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
