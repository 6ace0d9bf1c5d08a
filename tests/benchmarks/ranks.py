"""Compare one device with two that share each batch: images a second, and the peak memory of each.

    python tests/benchmarks/ranks.py [--encoder tu-tf_efficientnet_lite0] [--decoder fpn] [--size 96x144] [--rounds 3]

In turns, real trainings of three epochs on random pixels, as a job runs them, each in a process of its own: with
one device, and with two that take half of each batch. On CUDA if there are two devices, else with two
processes of one numerical thread on the CPU, which then needs two idle cores. The bar is for the memory: the two
ranks within 5 % of each other.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from training import NORM, STEPS, write_inputs

from cloudseg.models.weights import initial_weights

MOST_APART = 0.05
BATCH, EPOCHS = 16, 3
TRAIN = """
import json, sys
from cloudseg.config.recipe import Recipe
from cloudseg.training.oom_retry import train_with_oom_retry
from cloudseg.training.job import TrainingJob
job = json.loads(sys.argv[1])
device = job.pop("device")
recipe = Recipe(**job.pop("recipe"))
train_with_oom_retry(TrainingJob(recipe=recipe, **job), device)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    parser.add_argument("--decoder", default="fpn")
    parser.add_argument("--size", default="96x144")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.device_count() > 1 else "cpu"
    records: dict[int, list[dict]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, tuple(map(int, arguments.size.split("x"))), images=96, folds=3)
        initial_weights(arguments.encoder, "none", folder / "weights.safetensors", seed=1)
        for _ in range(arguments.rounds):
            for gpus, seen in records.items():
                seen.append(train(folder, arguments, device, gpus))
    one, two = (statistics.median(record["images_per_second"] for record in seen) for seen in records.values())
    apart = [max(peaks) / min(peaks) - 1 for peaks in map(memory, records[2])]
    print(f"{arguments.decoder} on {arguments.encoder}, {arguments.size}, batches of {BATCH}, {device}")
    print(f"images a second: {one:.1f} with one, {two:.1f} with two: {two / one:.2f} times as many")
    alone, together = (" and ".join(map(str, memory(seen[0]))) for seen in records.values())
    print(f"peak memory: {alone} MiB with one, {together} with two")
    print(f"the two are {max(apart):.1%} apart at most (at most {MOST_APART:.0%})")
    sys.exit(0 if max(apart) <= MOST_APART else 1)


def train(folder: Path, arguments: argparse.Namespace, device: str, gpus: int) -> dict:
    """Train in a process of its own and return its record."""
    recipe = {"epochs": EPOCHS, "batch": BATCH, "gpus": gpus, "normalise": NORM, "augmentation": STEPS}
    names = {"best": "best.safetensors", "last": "last.safetensors", "history": "history.tsv", "run": "run.json"}
    job = {
        **{"device": device, "encoder": arguments.encoder, "decoder": arguments.decoder, "recipe": recipe, "fold": 0},
        **{"pixels": str(folder / "pixels.zarr"), "folds": str(folder / "folds.tsv"), "seed": 1, "keep_state": False},
        **{"weights": str(folder / "weights.safetensors")},
        "outputs": {key: str(folder / file) for key, file in names.items()},
    }
    subprocess.run([sys.executable, "-c", TRAIN, json.dumps(job)], check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "run.json").read_text())


def memory(record: dict) -> list[int]:
    return [device["peak_memory_mib"] for device in record["devices"]]


if __name__ == "__main__":
    main()
