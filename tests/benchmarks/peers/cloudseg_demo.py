"""This workflow on two cores: the demo's two decoders and its encoder, on all four folds, at 160x240, averaged.

The config and the sheet are all that a user writes. How many epochs fit is told by two trainings of two epochs, before
the time counts, as anybody would try it.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cloudseg.storage import stores

REPOSITORY = Path(__file__).parents[3]
CONFIG = """\
name: {name}
dataset: {{source: path, root: {data}, classes: [Fish, Flower, Gravel, Sugar]}}
submission_size: 350x525
folds: {{count: 4}}
recipes:
  quick:
    epochs: {epochs}
    batch: 4
    learning_rate: 0.002
    normalise: {{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
experiments: {name}.tsv
ensembles:
  all: {{members: fold >= 0, checkpoints: [best, last], decision: {{how: tune}}}}
submission: all
"""
SHEET = """\
encoder\tdecoder\tsize\trecipe\tfolds
tu-tf_efficientnet_lite0\tfpn\t{size}\tquick\t{folds}
tu-tf_efficientnet_lite0\tunet\t{size}\tquick\t{folds}
"""
SIZE, FOLDS, CORES = "160x240", 4, 2
PROBED = 3  # epochs, of which the first is not counted
MARGIN = 0.95  # without it, a budget of 20 minutes took 20.8


def snakemake(out, name, *targets):
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", out]
    subprocess.run([*command, "--cores", str(CORES), *targets, "--configfile", out / f"{name}.yaml"], check=True)


def write_config(out, name, data, epochs, folds, size):
    (out / f"{name}.yaml").write_text(CONFIG.format(name=name, data=data, epochs=epochs))
    (out / f"{name}.tsv").write_text(SHEET.format(size=size, folds=folds))


def runs_of(name, size, folds):
    """Return the folders of the trainings."""
    runs = f"results/{name}/runs/tu-tf_efficientnet_lite0"
    return [f"{runs}/{decoder}/{size}/quick/fold{fold}" for decoder in ("fpn", "unet") for fold in range(folds)]


def seconds_of(out, folder):
    """Return the seconds of an epoch, and those of the rest of a training."""
    history = pd.read_csv(out / folder / "history.tsv", sep="\t")
    [whole] = pd.read_csv(out / folder / "train.benchmark.tsv", sep="\t")["s"]
    return history["seconds"][1:].mean(), whole - history["seconds"].sum()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--size", default=SIZE)
    arguments = parser.parse_args()
    out, data, size = arguments.out.absolute(), arguments.data.absolute(), arguments.size
    out.mkdir(parents=True, exist_ok=True)
    write_config(out, "probe", data, PROBED, 1, size)
    began = time.monotonic()
    probes = runs_of("probe", size, 1)
    snakemake(out, "probe", *(f"{folder}/last.safetensors" for folder in probes))
    probed = [seconds_of(out, folder) for folder in probes]
    epoch, rest = (sum(column) for column in zip(*probed, strict=True))
    once = time.monotonic() - began - max(PROBED * seconds + more for seconds, more in probed)
    epochs = int(((MARGIN * arguments.seconds - once) * CORES / FOLDS - rest) / epoch)
    print(f"{once:.0f} s of preparation, {epoch:.1f} s for an epoch of both: {epochs} epochs")

    began = time.monotonic()
    write_config(out, "hour", data, epochs, FOLDS, size)
    runs = runs_of("hour", size, FOLDS)
    snakemake(out, "hour", *(f"{folder}/last.safetensors" for folder in runs))
    trained = time.monotonic()
    snakemake(out, "hour", *(f"results/hour/ensembles/all/{name}" for name in ("valid.zarr", "test.zarr")))
    facts = {"seconds": trained - began, "predicting": time.monotonic() - trained}
    folds = pd.read_csv(out / "results/hour/dataset/folds.tsv", sep="\t")
    facts["seen"] = epochs * len(runs) * len(folds) * (FOLDS - 1) // FOLDS
    store = out / "results/hour/ensembles/all/test.zarr"
    facts["bytes"] = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    for split in ("valid", "test"):
        (out / split).mkdir()
        array = stores.read(out / f"results/hour/ensembles/all/{split}.zarr")
        for row, name in enumerate(array.attrs["ids"]):
            np.save(out / split / f"{Path(name).stem}.npy", stores.read_images(array, slice(row, row + 1))[0])
    (out / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
