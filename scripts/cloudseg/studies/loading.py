"""The load-time table: a training sample out of its file, resized as it is read, and out of a pixel store."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from cloudseg.config.recipe import Recipe
from cloudseg.config.reference import Reference
from cloudseg.dataset.contest import ContestFolder, Root
from cloudseg.dataset.decoding import load_image
from cloudseg.dataset.labels.interface import draw_mask
from cloudseg.dataset.labels.opening import open_labels
from cloudseg.dataset.resizing import resize_image, resize_mask
from cloudseg.errors import DatasetError
from cloudseg.models.segmenter import build_model
from cloudseg.runtime import devices
from cloudseg.runtime.job_progress import counting
from cloudseg.storage import per_image, stores
from cloudseg.training.data.dataset import SegmentationDataset
from cloudseg.training.data.images import LabelledImages
from cloudseg.training.data.loader import Loader
from cloudseg.training.data.sampler import BatchSampler
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.trainer import Trainer

REFERENCE = Reference.read()
LEARNING_RATE = 1e-4  # of steps that are timed and then forgotten

Key = tuple[str, str]  # way, and "loader" or "epoch"

COLUMNS = [
    *("way", "size", "images", "loader_seconds", "loader_ratio", "epoch_seconds", "epoch_ratio"),
    *(f"{REFERENCE.name}_minutes", f"{REFERENCE.name}_ratio"),
]


class FileSamples(Dataset):
    """Training images with their masks, decoded from their files and run-length labels at each access.

    Parameters
    ----------
    root : a data set in the contest's layout that passed the dataset check.
    images : rows of its images table, of training images.
    classes : names of the classes; bit ``c % 8`` of byte ``c // 8`` of a mask pixel is class ``c``.
    size : (height, width) to resize to after decoding, or None.
    """

    def __init__(
        self,
        root: Root,
        images: pd.DataFrame,
        classes: list[str],
        size: tuple[int, int] | None = None,
    ) -> None:
        self._folder = ContestFolder.of(root)
        self._images = images.to_dict("records")
        self._classes = classes
        self._size = size
        self._labels = open_labels(self._folder, {row["image"] for row in self._images}, classes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def name(self, index: int) -> str:
        """Return the file of one image, for messages."""
        return str(self._folder.images("train") / self._images[index]["image"])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one image (H, W, 3) and its mask (H, W, B), both uint8."""
        row = self._images[index]
        shape = (row["height"], row["width"])
        image = load_image(self._folder.images("train") / row["image"])
        size = self._size or shape
        if self._size:
            image = resize_image(image, size)
        mask = np.zeros((*size, -(-len(self._classes) // 8)), np.uint8)
        encodings = self._labels.read(row["image"])
        for bit, name in enumerate(self._classes):
            if name in encodings:
                plane = draw_mask(encodings[name], shape)
                plane = resize_mask(plane, size) if self._size else plane
                mask[..., bit // 8] |= plane << (bit % 8)
        return torch.from_numpy(np.array(image)), torch.from_numpy(mask)


def loading_table(
    *,
    images: pd.DataFrame,
    root: Root,
    pixels: str | Path,
    encoder: str,
    decoder: str,
    normalisation: Mapping[str, Any],
    count: int = 8,
    batch: int = 2,
    repeats: int = 3,
    seed: int = 0,
    threads: int = 1,
    workers: int = 0,
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    """Time three ways of getting training samples, by the loader alone and within an epoch of training.

    The ways are those of the reference's table: decode an image and train at its full size; decode it and
    resize it to the training size; read it at the training size from a pixel store. An epoch is real: loading,
    forward, backward and a step of the optimiser, from random weights, without augmentation.

    Parameters
    ----------
    images : the images table of the dataset check.
    root : the data set that was checked.
    pixels : the pixel store at the training size.
    encoder, decoder : names of smp, of the network that is trained.
    normalisation : ``mean`` and ``std`` of a recipe.
    count : training images that are timed, the first ones of the most common size.
    batch : images in a step; what two images of full size take must fit in memory.
    repeats : times that everything is timed, in turn, so that a busy machine slows all ways alike; medians count.
    seed : of the weights.
    threads : numerical threads.
    workers : loader processes.
    device : where to train.

    Returns
    -------
    DataFrame : a row per way: way, size ("HxW" that is trained at), images, seconds per image of the loader and of
        the epoch (which includes loading) with their ratios to the first way, and the reference's minutes and ratios.

    Raises
    ------
    DatasetError : if the store and the table have too few images in common for one batch.

    Notes
    -----
    The reference's minutes are of its own machine and network, so the ratios alone compare; how much of an epoch is
    loading, and with it the ratio, depends on both.
    """
    device = torch.device(device)
    devices.set_determinism(threads, device)
    ways = _ways(images, Path(root), Path(pixels), count, batch)
    classes = stores.read(pixels).attrs["classes"]
    torch.manual_seed(seed)
    model = build_model(encoder, decoder, len(classes))
    trainer = Trainer(model, Recipe(normalise=normalisation), classes, ProcessGroup(0, 1, device))
    train_step = partial(trainer.train_step, learning_rate=LEARNING_RATE)
    jobs = {}
    for name, samples in ways.items():
        loader = Loader(samples, BatchSampler(len(samples), batch), workers, device)
        jobs |= {(name, "loader"): partial(_pass, loader, None), (name, "epoch"): partial(_pass, loader, train_step)}
    seconds = _medians(jobs, repeats)
    n_images = len(ways["original"])
    rows = []
    for name, samples in ways.items():
        row = {"way": name, "size": "x".join(map(str, samples[0, 0][0].shape[:2])), "images": n_images}
        for what in ("loader", "epoch"):
            row[f"{what}_seconds"] = seconds[name, what] / n_images
            row[f"{what}_ratio"] = seconds[name, what] / seconds["original", what]
        minutes = REFERENCE.minutes[name]
        reference = {
            f"{REFERENCE.name}_minutes": minutes,
            f"{REFERENCE.name}_ratio": minutes / REFERENCE.minutes["original"],
        }
        rows.append(row | reference)
    return pd.DataFrame(rows, columns=COLUMNS)


def chosen_images(images: pd.DataFrame, stored: Sequence[str], count: int) -> pd.DataFrame:
    """Return the first training images of the most common size that a pixel store has too.

    Parameters
    ----------
    images : table with the columns image, split, height and width.
    stored : names of the store's training images.
    count : at most so many are returned.

    Examples
    --------
    >>> table = pd.DataFrame({"image": list("abcd"), "split": "train", "height": [9, 5, 5, 5], "width": 7})
    >>> chosen_images(table, ["d", "b", "a"], 8)["image"].tolist()
    ['b', 'd']
    """
    usable = images[(images["split"] == "train") & images["image"].isin(stored)]
    sizes = list(zip(usable["height"], usable["width"], strict=True))
    most_common = max(sizes, key=sizes.count, default=None)
    return usable[[size == most_common for size in sizes]].head(count)


def loading_verdict(table: pd.DataFrame) -> str:
    """Say in a sentence which way of reading is the fastest, and by what factor.

    Parameters
    ----------
    table : what :func:`loading_table` returns.

    Examples
    --------
    >>> loading_verdict(pd.DataFrame({"way": ["original", "resized store"], "loader_seconds": [0.1, 0.004]}))
    '"resized store" is the fastest to read: 25 times as fast as "original"'
    """
    fastest, *others = table.sort_values("loader_seconds", kind="stable").itertuples()
    factors = [f'{way.loader_seconds / fastest.loader_seconds:.3g} times as fast as "{way.way}"' for way in others]
    return f'"{fastest.way}" is the fastest to read: {", ".join(factors)}'


def loading_page(table: pd.DataFrame, title: str) -> str:
    """Write the load-time table as Markdown.

    Parameters
    ----------
    table : what :func:`loading_table` returns.
    title : what was trained, where; a line.

    Examples
    --------
    >>> row = {"way": "original", "size": "1400x2100", "images": 8, "loader_seconds": 0.1, "loader_ratio": 1}
    >>> row |= {"epoch_seconds": 2.5, "epoch_ratio": 1, "diary_minutes": 24, "diary_ratio": 1}
    >>> rows = [row, row | {"epoch_seconds": 2}, row | {"epoch_seconds": 1, "epoch_ratio": 0.4, "diary_minutes": 11}]
    >>> print("\\n".join(loading_page(pd.DataFrame(rows), "fpn").splitlines()[-3:]))
    | original | 1400x2100 | 100.0 | 1 | 1000.0 | 0.4 | 11 | 1 |
    <BLANKLINE>
    An epoch from the store takes 0.50 of one that decodes and resizes (the diary: 0.46).
    """
    lines = [
        "# Time to load a training sample",
        "",
        loading_verdict(table),
        "",
        f"{title}; {table['images'].iloc[0]} images, milliseconds an image, ratios to the first row. An epoch is "
        "loading, forward, backward and a step of the optimiser. Minutes and last ratio: the "
        f"{REFERENCE.name}'s, {REFERENCE.date}",
        "",
        f"| Way | Size | Loader | Ratio | Epoch | Ratio | {REFERENCE.name.capitalize()} (min) | Ratio |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: |",
    ]
    minutes, ratios = (table[f"{REFERENCE.name}_{what}"] for what in ("minutes", "ratio"))
    lines += [
        f"| {row.way} | {row.size} | {1e3 * row.loader_seconds:.1f} | {row.loader_ratio:.3g} "
        f"| {1e3 * row.epoch_seconds:.1f} | {row.epoch_ratio:.3g} | {their_minutes} | {their_ratio:.3g} |"
        for row, their_minutes, their_ratio in zip(table.itertuples(), minutes, ratios, strict=True)
    ]
    # Not against the first row: where the network is slow at full size, as on a CPU, it hides what storing saves
    decoded, stored = table.iloc[1], table.iloc[2]
    lines += [
        "",
        f"An epoch from the store takes {stored['epoch_seconds'] / decoded['epoch_seconds']:.2f} of one that decodes "
        f"and resizes (the {REFERENCE.name}: {minutes.iloc[2] / minutes.iloc[1]:.2f}).",
    ]
    return "\n".join(lines) + "\n"


def _ways(images: pd.DataFrame, root: Path, pixels: Path, count: int, batch: int) -> dict[str, Dataset]:
    """Return the samples of the three ways: the same images, whole batches of them."""
    group = stores.read(pixels)
    classes, size = list(group.attrs["classes"]), tuple(group["image"].shape[1:3])
    stored = per_image.ids(group)
    rows = chosen_images(images, stored, count)
    if len(rows) < batch:
        raise DatasetError(
            f"{pixels}: expected at least {batch} training images of one size (a batch), got {len(rows)}; lower "
            f"`batch` or raise the number of images (now {count})"
        )
    rows = rows.head(len(rows) - len(rows) % batch)  # BatchNorm fails on a last batch of one
    index_of = {name: index for index, name in enumerate(stored)}
    return {
        "original": _AnyEpoch(root, rows, classes),
        "decode, then resize": _AnyEpoch(root, rows, classes, size),
        "resized store": SegmentationDataset(LabelledImages(pixels, [index_of[name] for name in rows["image"]])),
    }


class _AnyEpoch(FileSamples):
    """Samples by (epoch, index), as the loader asks for them; all epochs are the same."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        return super().__getitem__(key[1])


def _pass(
    loader: Loader, train_step: Callable[[torch.Tensor, torch.Tensor], Any] | None, batches: int | None = None
) -> None:
    """Iterate over a loader, or over its first batches, and train on each if there is a ``train_step``."""
    for image, mask in itertools.islice(loader, batches):
        if train_step is not None:
            train_step(image, mask)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _medians(jobs: Mapping[Key, Callable[..., None]], repeats: int) -> dict[Key, float]:
    """Time jobs in turn, so that a busy machine slows all alike; the first turn, of one batch, warms up."""
    seconds: dict[Key, list[float]] = {job: [] for job in jobs}
    with counting((1 + repeats) * len(jobs), "timings") as done:
        for turn in range(1 + repeats):
            for job, work in jobs.items():
                start = time.perf_counter()
                work(batches=None if turn else 1)
                if turn:
                    seconds[job].append(time.perf_counter() - start)
                done(1)
            print(f"turn {turn} of {repeats}{'' if turn else ' (warming up)'}", flush=True)
    return {job: statistics.median(spent) for job, spent in seconds.items()}
