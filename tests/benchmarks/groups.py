"""Compare the out-of-fold Dice of grouped and of ungrouped folds with the Dice on scenes that no network has seen.

    python tests/benchmarks/groups.py [--images 120] [--scenes 20] [--folds 3] [--epochs 20] [--seed 2019]

The demo's images are crops of a few scenes (``dataset.scenes``). Networks of both splits are trained alike, from
ImageNet weights, without augmentation, and predict their own folds and crops of other scenes, drawn from another seed.
Dice is the contest's, the mean over images and classes of masks at 0.5, of the last epoch. The bar: ungrouped folds say
more than new scenes give, and by more than grouped folds do. Five minutes on one core.
"""

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cloudseg.config.recipe import Recipe
from cloudseg.dataset.check import check_dataset
from cloudseg.dataset.demo import CLASSES, make_demo
from cloudseg.dataset.folds import make_folds
from cloudseg.dataset.groups import groups_in_names
from cloudseg.dataset.pixels import build_pixels, build_truth
from cloudseg.dataset.split import describe_split
from cloudseg.inference.predict import PredictionJob, predict
from cloudseg.models.weights import initial_weights
from cloudseg.runtime import devices
from cloudseg.storage import stores
from cloudseg.storage.files import write_table
from cloudseg.training.job import TrainingJob
from cloudseg.training.train import train

ENCODER, DECODER = "tu-tf_efficientnet_lite0", "fpn"
SIZE = (64, 96)
NORM = {"mean": [0.5] * 3, "std": [0.5] * 3}
PATTERN = "^(scene[0-9]+)_"
LEVEL = 128  # of 255: a probability of 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 120), ("scenes", 20), ("folds", 3), ("epochs", 20), ("seed", 2019)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    devices.set_determinism(1, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = write_images(folder / "seen", arguments.images, arguments.scenes, arguments.seed)
        write_images(folder / "new", arguments.images, arguments.images // 2, arguments.seed + 1)
        groups = groups_in_names(images["image"].tolist(), PATTERN)
        found = {
            kind: compare(folder / kind, images, chosen, arguments)
            for kind, chosen in (("ungrouped", None), ("grouped", groups))
        }
    for kind, (out_of_fold, new) in found.items():
        print(f"{kind}: Dice {out_of_fold:.3f} out of fold, {new:.3f} on new scenes ({out_of_fold - new:+.3f})")
    too_much = {kind: out_of_fold - new for kind, (out_of_fold, new) in found.items()}
    sys.exit(0 if too_much["ungrouped"] > max(0, too_much["grouped"]) else 1)


def write_images(folder: Path, count: int, scenes: int, seed: int) -> pd.DataFrame:
    """Write crops, their pixels and their truth; return the table of images."""
    height, width = (3 * side for side in SIZE)
    make_demo(folder / "raw", train=count, test=1, seed=seed, height=height, width=width, scenes=scenes)
    images, _ = check_dataset(folder / "raw", classes=CLASSES, size_of_submission=SIZE, splits=("train",))
    size = f"{SIZE[0]}x{SIZE[1]}"
    build_pixels(images, folder / "raw", folder / "pixels.zarr", split="train", size=size, classes=CLASSES)
    build_truth(images, folder / "raw", folder / "truth.zarr", classes=CLASSES, size=SIZE)
    return images


def compare(
    folder: Path, images: pd.DataFrame, groups: list[str] | None, arguments: argparse.Namespace
) -> tuple[float, float]:
    """Train on each fold of a split; return the Dice out of fold, and the mean of the networks' on new scenes."""
    split = make_folds(images, classes=CLASSES, count=arguments.folds, seed=arguments.seed, groups=groups)
    print(f"{folder.name}: {describe_split(images, split, classes=CLASSES, groups=groups).summary}", flush=True)
    folder.mkdir()
    write_table(split, folder / "folds.tsv")
    initial_weights(ENCODER, "imagenet", folder / "weights.safetensors", seed=arguments.seed)
    dice = []
    for fold in range(arguments.folds):
        recipe = Recipe(epochs=arguments.epochs, batch=4, learning_rate=0.002, normalise=NORM, augmentation=[])
        with contextlib.redirect_stdout(io.StringIO()):
            checkpoint = train_fold(folder, fold, recipe, arguments.seed)
            own = dice_of(folder, checkpoint, recipe, of="seen", folds=folder / "folds.tsv", fold=fold)
            dice.append([own, dice_of(folder, checkpoint, recipe, of="new")])
        print(f"{folder.name}, fold {fold}: {dice[-1][0]:.3f} out of fold, {dice[-1][1]:.3f} on new scenes", flush=True)
    out_of_fold, new = np.mean(dice, axis=0).tolist()
    return out_of_fold, new


def train_fold(folder: Path, fold: int, recipe: Recipe, seed: int) -> Path:
    """Train a network and return the checkpoint of its last epoch."""
    outputs = {name: folder / f"{name}-{fold}.safetensors" for name in ("best", "last")}
    outputs |= {"history": folder / f"{fold}.tsv", "run": folder / f"{fold}.json"}
    job = TrainingJob(
        encoder=ENCODER,
        decoder=DECODER,
        pixels=folder.parent / "seen/pixels.zarr",
        folds=folder / "folds.tsv",
        fold=fold,
        weights=folder / "weights.safetensors",
        recipe=recipe,
        outputs=outputs,
        seed=seed,
        keep_state=False,
    )
    train(job)
    return outputs["last"]


def dice_of(folder: Path, checkpoint: Path, recipe: Recipe, *, of: str, **fold: object) -> float:
    """Return the mean Dice of a network on some images."""
    out = folder / f"{checkpoint.stem}-{of}.zarr"
    pixels, truth = (folder.parent / of / f"{name}.zarr" for name in ("pixels", "truth"))
    outputs = {"last": out}
    job = PredictionJob(
        checkpoints={"last": checkpoint}, pixels=pixels, outputs=outputs, recipe=recipe, size=SIZE, **fold
    )
    predict(job)
    predicted, wanted = stores.read(out), stores.read(truth)
    row_of = {name: row for row, name in enumerate(wanted.attrs["ids"])}
    masks = np.asarray(predicted[:]) >= LEVEL
    true = np.asarray(wanted[:])[[row_of[name] for name in predicted.attrs["ids"]]] > 0
    both, areas = (masks & true).sum((2, 3)), masks.sum((2, 3)) + true.sum((2, 3))
    return float(np.where(areas, 2 * both / np.maximum(areas, 1), 1).mean())


if __name__ == "__main__":
    main()
