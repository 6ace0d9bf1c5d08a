"""Compare ways to store probabilities by size, by writing and reading, and by the time of a whole submission.

    python tests/benchmarks/codecs.py --results results/demo [--images 96] [--repeats 3]

The planes are test probabilities of the demo's own models, up to `--images` images of 4 classes at 350x525.
All stores are written and read by plain zarr in blocks of a shard, so that only what is stored differs; the last rows
are the store of this project (its own reading and writing of the same format) and nnU-Net's, a compressed float32
`.npz` per image. `submission` reads the store that way and makes the masks. The bars: at least 7 times smaller and
10 times faster to write than the `.npz`; a codec outside the specification, or without a checksum, would have to win
20 % of the submission's time.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from cloudseg.config.recipe import Recipe
from cloudseg.config.views import IDENTITY
from cloudseg.inference.predictor import Predictor
from cloudseg.models.probabilities import quantise
from cloudseg.postprocess import segment
from cloudseg.storage import stores

LEAST_SMALLER, LEAST_FASTER = 7, 10
SUBMISSION = 350, 525
IMAGES_PER_SHARD = 45  # about 32 MiB of raw planes
OURS = "zstd 3 checksum, image, shard"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="results of the demo: results/demo")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    probabilities = demo_probabilities(arguments.results, arguments.images)
    planes = quantise(torch.from_numpy(probabilities)).numpy()
    ways = candidates(planes, probabilities)
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.repeats):
            for name, (write, read) in ways.items():
                path = Path(folder, "store")
                timed = [seconds(lambda write=write, path=path: write(path))]
                timed.append(seconds(lambda read=read, path=path: [None for _ in read(path)]))
                timed.append(seconds(lambda read=read, path=path: [segment(block, 0.5, 5000) for block in read(path)]))
                figures[name].append(tuple(timed))
                sizes[name] = size_of(path)
                shutil.rmtree(path)
    show(figures, sizes, len(planes), planes.nbytes)


def demo_probabilities(results: Path, images: int) -> np.ndarray:
    """Return (images, class, y, x) float32 probabilities of the demo's models for its test images."""
    checkpoints = sorted(results.glob("runs/*/*/*/*/fold*/best.safetensors"))
    if not checkpoints:
        sys.exit(f"{results}: holds no checkpoints; run the demo first")
    blocks: list[np.ndarray] = []
    for checkpoint in checkpoints:
        record = json.loads((checkpoint.parent / "run.json").read_text(encoding="utf-8"))
        pixels = stores.read(results / "dataset/test" / Path(record["pixels"]).name)
        recipe = Recipe(normalise=record["recipe"]["normalise"], precision="float32")
        predictor = Predictor(checkpoint, recipe, size=SUBMISSION, classes=pixels.attrs["classes"])
        for row in range(pixels["image"].shape[0]):
            image = stores.read_images(pixels["image"], slice(row, row + 1))
            blocks.append(predictor.probabilities(image, [IDENTITY]).numpy())
            if len(blocks) == images:
                return np.concatenate(blocks)
    return np.concatenate(blocks)


Way = tuple[Callable[[Path], None], Callable[[Path], object]]


def candidates(planes: np.ndarray, probabilities: np.ndarray) -> dict[str, Way]:
    """Return how to write and how to read each kind of store, by name."""
    one, plane = (1, *planes.shape[1:]), (1, 1, *planes.shape[2:])
    shard = (IMAGES_PER_SHARD, *planes.shape[1:])
    crc = Crc32cCodec()
    ways = {
        OURS: with_zarr(planes, one, shard, ZstdCodec(level=3, checksum=True)),
        "zstd 1 checksum, image, shard": with_zarr(planes, one, shard, ZstdCodec(level=1, checksum=True)),
        "zstd 9 checksum, image, shard": with_zarr(planes, one, shard, ZstdCodec(level=9, checksum=True)),
        "zstd 3 plain, image, shard": with_zarr(planes, one, shard, ZstdCodec(level=3)),
        "zstd 3 + crc32c, image, shard": with_zarr(planes, one, shard, ZstdCodec(level=3), crc),
        "zstd 3 checksum, plane, shard": with_zarr(planes, plane, shard, ZstdCodec(level=3, checksum=True)),
        "zstd 3 checksum, image, no shard": with_zarr(planes, one, None, ZstdCodec(level=3, checksum=True)),
        "blosc lz4 + crc32c, image, shard": with_zarr(planes, one, shard, blosc("lz4", 5, "noshuffle"), crc),
        "blosc zstd 1 + crc32c, image, shard": with_zarr(planes, one, shard, blosc("zstd", 1, "noshuffle"), crc),
        "blosc zstd 3 bitshuffle, image, shard": with_zarr(planes, one, shard, blosc("zstd", 3, "bitshuffle")),
    }
    return ways | {"this project's store": with_stores(planes), "nnU-Net: float32 .npz": with_npz(probabilities)}


def blosc(name: str, level: int, shuffle: str) -> BloscCodec:
    return BloscCodec(cname=name, clevel=level, shuffle=shuffle, typesize=1)


def with_zarr(planes: np.ndarray, chunks: tuple, shards: tuple | None, *codecs: object) -> Way:
    def write(path: Path) -> None:
        array = zarr.create_array(
            path, shape=planes.shape, dtype="uint8", chunks=chunks, shards=shards, compressors=codecs,
            config={"write_empty_chunks": True},
        )  # fmt: skip
        for start in range(0, len(planes), IMAGES_PER_SHARD):
            array[start : start + IMAGES_PER_SHARD] = planes[start : start + IMAGES_PER_SHARD]

    def read(path: Path) -> object:
        array = zarr.open(path, mode="r")
        return (array[start : start + IMAGES_PER_SHARD] for start in range(0, len(planes), IMAGES_PER_SHARD))

    return write, read


def with_stores(planes: np.ndarray) -> Way:
    def write(path: Path) -> None:
        spec = stores.Spec(planes.shape, "uint8", ("image", "class", "y", "x"))
        writer = stores.Writer(path, {"": spec}, {})
        for rows in writer.missing():
            writer.write(rows, planes[rows])
        writer.finish()

    def read(path: Path) -> object:
        array = stores.read(path)
        starts = range(0, len(planes), IMAGES_PER_SHARD)
        return (stores.read_images(array, slice(start, min(start + IMAGES_PER_SHARD, len(planes)))) for start in starts)

    return write, read


def with_npz(probabilities: np.ndarray) -> Way:
    def write(path: Path) -> None:
        path.mkdir()
        for number, image in enumerate(probabilities):
            np.savez_compressed(path / f"{number}.npz", probabilities=image)

    def read(path: Path) -> object:
        for number in range(len(probabilities)):
            with np.load(path / f"{number}.npz") as file:
                yield np.floor(file["probabilities"][None] * 255 + 0.5).astype(np.uint8)

    return write, read


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def show(figures: dict, sizes: dict, images: int, raw: int) -> None:
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()
    }
    print(f"{images} images, {raw / 1e6:.0f} MB raw; medians\n")
    print(
        "| store | MB | raw / store | write ms/image | read ms/image | submission ms/image | submission / first row |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (write, read, submission) in medians.items():
        milliseconds = [f"{1e3 * one / images:.2f}" for one in (write, read, submission)]
        cells = [f"{sizes[name] / 1e6:.1f}", f"{raw / sizes[name]:.1f}", *milliseconds]
        print(f"| {name} | {' | '.join(cells)} | {submission / medians[OURS][2]:.2f} |")
    npz, ours = "nnU-Net: float32 .npz", "this project's store"
    smaller, faster = sizes[npz] / sizes[ours], medians[npz][0] / medians[ours][0]
    print(
        f"\nthis project's store is {smaller:.1f} times smaller than the .npz (bar {LEAST_SMALLER}) "
        f"and {faster:.1f} times faster to write (bar {LEAST_FASTER})"
    )
    sys.exit(0 if smaller >= LEAST_SMALLER and faster >= LEAST_FASTER else 1)


if __name__ == "__main__":
    main()
