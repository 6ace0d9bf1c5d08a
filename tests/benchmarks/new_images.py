"""Compare the prediction of new images, from their files to the CSV, with the passes of the networks alone.

    python tests/benchmarks/new_images.py [--size 256x384] [--images 180] [--repeats 3]
    python tests/benchmarks/new_images.py --many 1000 10000 100000

An ensemble of two networks with random weights, each in two views, one numerical thread; images are read, shrunk and
written by other threads, which need an idle second core. The passes are timed within that very prediction. The bar: at
least 0.9 of the time within the networks. `--many` takes a tiny network in place of them, and for each number of images
a process of its own: shards one after the other, then all gathered; seconds and peak memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from cloudseg.bundle.folder import write_masks
from cloudseg.bundle.gather import gather
from cloudseg.bundle.shards import cut_into_shards
from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.config.recipe import Recipe
from cloudseg.dataset.folder import list_images
from cloudseg.ensemble.masking import ImageRule
from cloudseg.inference.ensemble import EnsemblePredictor, EnsembleSettings, Network, Share
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.segmenter import Segmenter, model_of
from cloudseg.postprocess import Cut

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
NORM = {"mean": [0.5] * 3, "std": [0.5] * 3}
IMAGE, MASKS = (350, 525), (350, 525)
LEAST_WITHIN = 0.9
SHARD = 4096
MOST_GROWTH = 2048  # bytes an image: their names, and what hashing and sorting these takes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="256x384")
    parser.add_argument("--images", type=int, default=180)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--many", type=int, nargs="+")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(tiny(arguments.one)))
    elif arguments.many:
        sys.exit(compare_numbers(arguments.many))
    else:
        size = tuple(map(int, arguments.size.split("x")))
        shares = [share_within_networks(size, arguments.images) for _ in range(arguments.repeats)]
        print(f"within the networks, of {arguments.repeats}: {', '.join(f'{share:.3f}' for share in sorted(shares))}")
        sys.exit(0 if sorted(shares)[len(shares) // 2] >= LEAST_WITHIN else 1)


def share_within_networks(size: tuple[int, int], count: int) -> float:
    """Return which part of the time of a prediction is within the passes of its networks."""
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder, "images"), count)
        networks = [("tu-tf_efficientnet_lite0", "fpn"), ("tu-tf_efficientnet_lite0", "unet")]
        predictor = EnsemblePredictor(ensemble(Path(folder), networks, size, ["identity", "horizontal"]))
        names = list_images(images)
        write_masks(predictor, images, names[:8], Path(folder, "warm.csv"))
        within, began = 0.0, 0.0

        def before(module, _):
            nonlocal began
            began = time.perf_counter() if isinstance(module, Segmenter) else began

        def behind(module, *_):
            nonlocal within
            within += time.perf_counter() - began if isinstance(module, Segmenter) else 0

        hooks = [register_module_forward_pre_hook(before), register_module_forward_hook(behind)]
        started = time.perf_counter()
        write_masks(predictor, images, names, Path(folder, "masks.csv"), readers=2)
        whole = time.perf_counter() - started
        for hook in hooks:
            hook.remove()
        print(f"{count / whole:.1f} images a second, {within / whole:.3f} within the networks", flush=True)
        return within / whole


def compare_numbers(counts: list[int]) -> int:
    """Print seconds and memory for each number of images, and return 1 if memory grows."""
    rows = []
    for count in sorted(counts):
        command = [sys.executable, __file__, "--one", str(count)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"images": count, **json.loads(done.stdout.splitlines()[-1])})
        print("{images:>9,} images: {seconds:8.1f} s, {mb:6.0f} MB".format(**rows[-1]), flush=True)
    first, last = rows[0], rows[-1]
    grown = (last["mb"] - first["mb"]) * 1e6 / max(1, last["images"] - first["images"])
    print(f"{grown:.0f} bytes for an image more")
    return int(grown > MOST_GROWTH)


def tiny(count: int) -> dict[str, float]:
    """Predict so many images with a tiny network, and return seconds and the peak of memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder, "images"), count)
        predictor = EnsemblePredictor(ensemble(Path(folder), [("tu-test_resnet", "linknet")], (64, 96), ["identity"]))
        started = time.perf_counter()
        shards = []
        for shard, names in cut_into_shards(list_images(images), SHARD).items():
            shards.append(Path(folder, f"{shard}.csv"))
            write_masks(predictor, images, names, shards[-1], readers=2)
        gather(shards, Path(folder, "masks.csv"), classes=CLASSES)
        seconds = time.perf_counter() - started
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"seconds": seconds, "mb": int(status["VmHWM"].split()[0]) * 1024 / 1e6}


def write_images(folder: Path, count: int) -> Path:
    """Write images like clouds: 32 different ones, and links to them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:07}.jpg"
        if number < 32:
            coarse = rng.integers(0, 256, (20, 30, 3), np.uint8)
            cv2.imwrite(str(path), cv2.resize(coarse, IMAGE[::-1], interpolation=cv2.INTER_CUBIC))
        else:
            os.link(folder / f"{number % 32:07}.jpg", path)
    return folder


def ensemble(folder: Path, networks: list[tuple[str, str]], size: tuple[int, int], tta: list[str]) -> EnsembleSettings:
    """Return an ensemble of networks that have learned nothing."""
    torch.manual_seed(0)
    recipe = Recipe(batch=8, tta=tta, normalise=NORM, precision="float32")
    made = []
    for number, (encoder, decoder) in enumerate(networks):
        header = NetworkHeader(encoder, decoder, tuple(CLASSES))
        file = folder / f"{number}.safetensors"
        write_state(model_of(header).network.state_dict(), file, header.metadata)
        made.append(Network(file, recipe, size, {"encoder": encoder, "decoder": decoder}))
    return EnsembleSettings(
        networks=made,
        where=[Share(number, 1.0) for number in range(len(made))],
        whether=None,
        heads=[],
        classes=CLASSES,
        size=MASKS,
        rule=ImageRule.of_cuts(dict.fromkeys(CLASSES, Cut(128, 5000))),
        sharpen=None,
        grey=None,
        threads=1,
    )


if __name__ == "__main__":
    main()
