"""Compare a training step and a prediction with what the network alone costs.

    python tests/benchmarks/training.py [--size 96x144] [--decoder fpn] [--repeats 3]

One numerical thread, medians over repeats that alternate, random weights and pixels. The bars: at most 7 % of
a training step's CPU seconds outside forward, backward and the optimiser (reading, augmenting, normalising,
unpacking); at least 0.9 of a prediction's time within the network, the rest being reading, views, resizing, quantising
and waiting for the second thread, which compresses and writes: this one needs an idle second core. The passes are
timed within that very prediction, since a shared machine is a tenth slower or faster from one minute to the next.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.config.recipe import Recipe
from cloudseg.inference.predict import PredictionJob, predict
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.preprocessing import normalise
from cloudseg.models.segmenter import Segmenter, build_model
from cloudseg.runtime import devices
from cloudseg.storage import files, stores
from cloudseg.training.data.augment import build_transform
from cloudseg.training.data.dataset import SegmentationDataset, bits_to_planes
from cloudseg.training.data.images import LabelledImages
from cloudseg.training.data.loader import Loader
from cloudseg.training.data.sampler import BatchSampler
from cloudseg.training.losses import build_loss

ENCODER = "tu-tf_efficientnet_lite0"
CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
NORM = {"mean": [0.5] * 3, "std": [0.5] * 3}
STEPS = [{"name": name, "p": 0.5} for name in ("HorizontalFlip", "VerticalFlip", "RandomBrightnessContrast")]
IMAGES, BATCH, SUBMISSION = 96, 8, (350, 525)
PREDICTED = 2 * IMAGES  # so many that the building of the network is small beside them
MOST_OUTSIDE, LEAST_WITHIN = 0.07, 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="96x144")
    parser.add_argument("--decoder", default="fpn")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    size = tuple(map(int, arguments.size.split("x")))
    devices.set_determinism(1, torch.device("cpu"))
    torch.manual_seed(0)
    model = build_model(ENCODER, arguments.decoder, len(CLASSES)).to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), size, PREDICTED)
        passed = [
            compare_step(model, Path(folder), arguments.repeats),
            compare_prediction(model, arguments.decoder, Path(folder), arguments.repeats),
        ]
    sys.exit(0 if all(passed) else 1)


def write_inputs(folder: Path, size: tuple[int, int], images: int = IMAGES, folds: int = 1) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (images, size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    image = coarse.repeat(8, axis=1).repeat(8, axis=2)
    mask = image[..., 0] >> 4
    blocks = {"image": image, "mask": mask}
    dims = ("image", "y", "x", "band")
    specs = {name: stores.Spec(block.shape, "uint8", dims[: block.ndim]) for name, block in blocks.items()}
    ids = [f"{number}.jpg" for number in range(images)]
    writer = stores.Writer(folder / "pixels.zarr", specs, {"ids": ids, "classes": CLASSES})
    for name, block in blocks.items():
        for rows in writer.missing(name):
            writer.write(rows, block[rows], name)
    writer.finish()
    files.write_text(
        folder / "folds.tsv",
        "image\tfold\n" + "".join(f"{name}\t{number % folds}\n" for number, name in enumerate(ids)),
    )


def compare_step(model: torch.nn.Module, folder: Path, repeats: int) -> bool:
    images = LabelledImages(folder / "pixels.zarr", range(IMAGES))
    samples = SegmentationDataset(images, transform=build_transform(STEPS), seed=1)
    loader = Loader(samples, BatchSampler(IMAGES, BATCH, shuffle_seed=1), 0, "cpu")
    loss_of = build_loss({"bce": 1, "dice": 1})
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    model.train()

    def load() -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(normalise(image, **NORM), bits_to_planes(mask, len(CLASSES))) for image, mask in loader]

    batches = load()

    def learn() -> None:
        for image, target in batches:
            loss_of(model(image), target).backward()
            optimiser.step()
            optimiser.zero_grad()

    outside, network = medians(time.process_time, repeats, load, learn)
    share = outside / (outside + network)
    print(
        f"training: {1e3 * network / IMAGES:.1f} ms a sample in the network, {1e3 * outside / IMAGES:.2f} outside: "
        f"{share:.1%} (at most {MOST_OUTSIDE:.0%})"
    )
    return share <= MOST_OUTSIDE


def compare_prediction(model: torch.nn.Module, decoder: str, folder: Path, repeats: int) -> bool:
    header = NetworkHeader(ENCODER, decoder, tuple(CLASSES))
    checkpoints = {name: folder / f"{name}.safetensors" for name in ("best", "last")}
    for path in checkpoints.values():
        write_state(model.network.state_dict(), path, header.metadata)
    job = PredictionJob(
        checkpoints=checkpoints,
        pixels=folder / "pixels.zarr",
        outputs={name: folder / f"{name}.zarr" for name in checkpoints},
        recipe=Recipe(batch=BATCH, normalise=NORM, precision="float32"),
        size=SUBMISSION,
    )
    predict(job)  # once for the caches
    share = statistics.median(forward_share(job) for _ in range(repeats))
    print(f"prediction: {share:.2f} of its time is forward passes (at least {LEAST_WITHIN})")
    return share >= LEAST_WITHIN


def forward_share(job: PredictionJob) -> float:
    """Return the share of a prediction's time that passes within the network."""
    begun, passes = [], []

    def begin(module: torch.nn.Module, _: object) -> None:
        if isinstance(module, Segmenter):
            begun.append(time.perf_counter())

    def end(module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, Segmenter):
            passes.append(time.perf_counter() - begun.pop())

    hooks = [register_module_forward_pre_hook(begin), register_module_forward_hook(end)]
    started = time.perf_counter()
    try:
        predict(job)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(passes) / (time.perf_counter() - started)


def medians(clock: Callable[[], float], repeats: int, *ways: Callable[[], object]) -> list[float]:
    times: list[list[float]] = [[] for _ in ways]
    for way in ways:
        way()
    for _ in range(repeats):
        for taken, way in zip(times, ways, strict=True):
            started = clock()
            way()
            taken.append(clock() - started)
    return [statistics.median(taken) for taken in times]


if __name__ == "__main__":
    main()
