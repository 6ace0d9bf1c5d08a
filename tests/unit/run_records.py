"""Runs as a training leaves them, without training."""

import json
from pathlib import Path

EPOCH = "{epoch}\t0.002\t0.9\t0.8\t{dice}\t{dice}\t{seconds}\n"
HEAD = "epoch\tlearning_rate\ttrain_loss\tvalid_loss\tvalid_dice\tdice_Fish\tseconds\n"


def write_history(folder: Path, dices: list[float], seconds: float = 2.0) -> None:
    """Write the history of some epochs."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [EPOCH.format(epoch=number, dice=dice, seconds=seconds) for number, dice in enumerate(dices, start=1)]
    (folder / "history.tsv").write_text(HEAD + "".join(rows))


def write_record(folder: Path, recipe: dict, *, seed: int = 2019, code: int = 2, seconds: float = 50.0) -> None:
    """Write the record of a finished training."""
    record = {
        "encoder": "tu-test_resnet",
        "decoder": "fpn",
        "fold": 0,
        "recipe": recipe,
        "seed": seed,
        "threads": 1,
        "code": code,
        "workers": 0,
        "pixels": "pixels.zarr",
        "canvas_pixels": None,
        "folds": "folds.tsv",
        "weights": {"path": "imagenet.safetensors", "sha256": "0"},
        "data": "0",
        "images": {"train": 75, "valid": 25},
        "parameters": 1000,
        "precision": "float32",
        "batch": {"images": 4, "devices": 1, "at_once": 4, "pieces": 1, "too_much": []},
        "epochs": {"run": 4, "best": 3, "resumed": []},
        "sha256": {"best": "0", "last": "0"},
        "seconds": seconds,
        "images_per_second": 31.5,
        "devices": [],
        "versions": {},
        "commit": None,
    }
    (folder / "run.json").write_text(json.dumps(record) + "\n")
