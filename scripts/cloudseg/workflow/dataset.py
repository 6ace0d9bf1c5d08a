"""The dataset of a plan: where the images lie, how many there are, and at which sizes they are stored."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloudseg.config.decoders import demands
from cloudseg.config.image_tables import read_names
from cloudseg.config.model import Config, Dataset, ExperimentRow
from cloudseg.config.recipe import Recipe
from cloudseg.config.size import CONTEST_IMAGE, CONTEST_SIZE, OriginalSizes, Size
from cloudseg.config.smoke import smoke_size
from cloudseg.config.views import variants_of
from cloudseg.dataset.contents import digest_contents
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.tables import table_digests
from cloudseg.storage import files
from cloudseg.workflow import paths
from cloudseg.workflow.costs import Work

SPLITS = ("train", "test")
# Bytes on disk of a byte in memory, measured: of probabilities, and of where images are black
PROBABILITIES_COMPRESSED, BLACK_COMPRESSED = 0.15, 0.01


class DatasetPlan:
    """The images of a config.

    Parameters
    ----------
    config : the config.
    experiments : the rows of its experiment sheet, whose sizes and recipes say how images are stored.
    """

    def __init__(self, config: Config, experiments: Sequence[ExperimentRow]) -> None:
        self.config = config
        self.experiments = experiments
        self.source = config.dataset.source
        self.classes = list(config.dataset.classes)
        self.folds = config.folds.count
        self.submission_size = config.submission_size.pixels

    @property
    def class_rates(self) -> dict[str, float] | None:
        """The share of test images that hold each class, if known."""
        rates = self.config.class_rates
        return None if rates is None else dict(rates)

    @property
    def raw(self) -> str:
        """The folder with the images and CSV files."""
        return "<results>/dataset/raw" if self.is_made else self.config.dataset.root

    @property
    def user_folder(self) -> ContestFolder:
        """The folder that the config names."""
        return ContestFolder(Path(self.config.dataset.root), self.config.dataset.layout)

    @property
    def layout_params(self) -> dict[str, Any]:
        """The layout of the images and labels as a param, if it is another than the clouds'."""
        layout = self.config.dataset.layout.params
        return {"layout": layout} if layout else {}

    @property
    def is_made(self) -> bool:
        """Whether the workflow makes the folder of images: the demo's images, or links to files of the user's."""
        return self.source != "path" or self.config.smoke

    @property
    def making_rule(self) -> str:
        """The rule that makes that folder."""
        return {"demo": "demo", "kaggle": "fetch", "path": "sample"}[self.source]

    @property
    def demo(self) -> dict[str, float]:
        """How many demo images of each split to make, how far those of test are shifted, what all are cut out of."""
        dataset = self.config.dataset
        shift = {"shift": dataset.shift} if dataset.shift else {}
        scenes = {"scenes": dataset.scenes} if dataset.scenes else {}
        return self.expected | shift | scenes

    @functools.cached_property
    def has_test(self) -> bool:
        """Whether there are test images; a folder of the user's may have none, and then nothing of them is planned."""
        return self.source != "path" or self.user_folder.has_test

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that there are images of."""
        return SPLITS if self.has_test else SPLITS[:1]

    @property
    def test_images(self) -> list[str]:
        """The table of the test images; none where there are none."""
        return [paths.TEST_IMAGES] if self.has_test else []

    @property
    def expected(self) -> dict[str, int]:
        """How many images of each split the config expects."""
        return {"train": self.config.dataset.train, "test": self.config.dataset.test}

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """How many images each split has, for estimates: counted where they lie, else as the config says."""
        counts = dict.fromkeys(SPLITS, 0)
        for split in self.splits:
            expected = self.expected[split]
            folder = self.user_folder
            found = 0 if self.source == "demo" else len(folder.list_images(split))
            left = max(0, (found or expected) - (len(self.excluded) if split == "train" else 0))
            counts[split] = min(left, expected) if self.config.smoke else left
        return counts

    @functools.cached_property
    def excluded(self) -> list[str]:
        """The training images that are left out, sorted."""
        path = self.config.dataset.exclude
        return [] if path is None else sorted(read_names(path))

    @property
    def digests(self) -> list[str]:
        """A digest of the images and the table of each split, of which a smoke run takes a sample."""
        return [self.digest(split) for split in SPLITS] + ([files.digest(self.excluded)] if self.excluded else [])

    def digest(self, split: str) -> str:
        """Return a digest of the images and the table of a split, where they lie before the workflow runs."""
        folder = self.user_folder
        return digest_contents(folder, split, digest_cache(folder.root, split))

    @functools.cached_property
    def canvases(self) -> set[str]:
        """The sizes that recipes augment at."""
        recipes = [self.config.recipes[row.recipe] for row in self.experiments]
        return {str(recipe.canvas) for recipe in recipes if recipe.canvas}

    @functools.cached_property
    def trained(self) -> set[tuple[str, ...]]:
        """The experiments that some row trains."""
        return {row.experiment for row in self.experiments}

    @functools.cached_property
    def rows_on_all_images(self) -> dict[tuple[str, ...], ExperimentRow]:
        """The row that trains an experiment on all images, too, of those that some row does."""
        return {row.experiment: row for row in self.experiments if row.full}

    @property
    def sizes(self) -> list[str]:
        """The sizes at which training images are stored."""
        return sorted({*(row.size for row in self.experiments), *self.canvases})

    @property
    def trained_test_sizes(self) -> set[str]:
        """The sizes at which test images train, too."""
        recipes = self.config.recipes
        rows = [(row, recipes[row.recipe]) for row in self.experiments]
        return {str(recipe.canvas or row.size) for row, recipe in rows if recipe.trains_on_test}

    @property
    def smallest_size(self) -> str:
        """The size at which adversarial validation looks at the images."""
        return min(self.sizes, key=estimated_pixels)

    @functools.cached_property
    def split_params(self) -> dict[str, Any]:
        """What the split is made from beside the labels, as params; nothing where there is nothing else.

        What the user's tables say decides, not when they were written.
        """
        groups = self.config.folds.groups
        tables = {name: digest for name, digest in self.table_digests.items() if name != "exclude"}
        return ({} if groups is None else {"groups": groups}) | tables

    @functools.cached_property
    def table_digests(self) -> dict[str, str]:
        """Digests of the user's tables that decide which images train: `exclude`, and `table` and `file` of folds."""
        return table_digests(self.config.dataset.model_dump(), self.config.folds.model_dump())

    @property
    def split_tables(self) -> dict[str, str]:
        """The user's tables that it is made from, as inputs."""
        folds = self.config.folds
        return {name: path for name, path in (("table", folds.table), ("file", folds.file)) if path is not None}

    @property
    def split_facts(self) -> dict[str, str]:
        """The file that says how even the split is, where more than the labels decide it, as an output or an input."""
        return {"split": paths.SPLIT_FACTS} if self.split_params else {}

    @property
    def fold_weights(self) -> str | list[str]:
        """The table of how much each training image looks like the test images, if folds are balanced by that too."""
        return paths.SHIFT_SCORES if self.config.folds.stratify_by == "shift" else []

    def probability_megabytes(self, images: float) -> int:
        """Return about how many MB the probabilities of so many images take."""
        height, width = self.submission_size
        return 1 + int(images * len(self.classes) * height * width * PROBABILITIES_COMPRESSED / 1e6)

    # What the jobs have to do that see all images of a split, or of both

    @property
    def train_work(self) -> Work:
        """The training images."""
        return self._work("train")

    @property
    def test_work(self) -> Work:
        """The test images."""
        return self._work("test")

    @property
    def work(self) -> Work:
        """The images of both splits."""
        return self._work(*SPLITS)

    @property
    def shift_work(self) -> Work:
        """The images of both splits at the smallest size."""
        return dataclasses.replace(self.work, megapixels=self.work.images * estimated_megapixels(self.smallest_size))

    def _work(self, *splits: str) -> Work:
        images = sum(self.counts[split] for split in splits)
        return self.with_masks(Work(images=images), images)

    def with_masks(self, work: Work, images: float) -> Work:
        """Return work that has to do with the masks, on the submission grid, of so many images."""
        classes, pixels = len(self.classes), math.prod(self.submission_size)
        return dataclasses.replace(
            work,
            masks=classes * images,
            mask_scale=max(1, pixels / math.prod(CONTEST_SIZE.pixels)),
            image_megabytes=classes * pixels / 1e6,
        )


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a split (train or test)."""

    dataset: DatasetPlan
    split: str

    @property
    def contents(self) -> str:
        """A digest of the images and their table, so that a change of them, and nothing else, reruns the check.

        Snakemake asks again before the job runs, when a contest's files have been fetched. The demo's are described by
        what they are made from.
        """
        dataset = self.dataset
        contents = json.dumps(dataset.demo) if dataset.source == "demo" else dataset.digest(self.split)
        left_out = self.exclude and self.split == "train"
        return f"{contents} without {files.digest(dataset.excluded)}" if left_out else contents

    @property
    def exclude(self) -> list[str]:
        """The user's list of training images to leave out; a smoke run's are chosen among the others."""
        config = self.dataset.config
        return [] if config.dataset.exclude is None or config.smoke else [config.dataset.exclude]

    @property
    def work(self) -> Work:
        """What the check has to do."""
        return self.dataset.test_work if self.split == "test" else self.dataset.train_work


@dataclasses.dataclass(frozen=True)
class PixelStore:
    """The images of a split, stored at a size."""

    dataset: DatasetPlan
    split: str
    size: str  # as in the sheet, HxW or xN

    @property
    def stored_size(self) -> str:
        """The size of the stored images: the one in its name, or less in a smoke run.

        Steps of an augmentation may have sizes of their own, so a canvas is what it says. `xN` of a user's own images
        is left alone, since their size is not known here.
        """
        dataset, size = self.dataset, self.size
        known = not size.startswith("x") or dataset.source == "demo"
        if not dataset.config.smoke or size in dataset.canvases or not known:
            return size
        recipes = dataset.config.recipes
        wanted = [
            demands(row.decoder, recipes[row.recipe].decoder_options).minimum / min(scales(recipes[row.recipe]))
            for row in dataset.experiments
            if row.size == size
        ]
        return str(smoke_size(Size.parse(size), math.ceil(max(wanted))))

    @property
    def original_sizes(self) -> list[str]:
        """The table of the training images, which the test images must be as large as, where a size divides."""
        divides = self.split == "test" and self.size.startswith("x")
        return [paths.TRAIN_IMAGES] if divides else []

    @property
    def megabytes(self) -> int:
        """About how many MB the store takes."""
        height, width = estimated_pixels(self.size)
        return 1 + int(self.dataset.counts[self.split] * height * width * 3 / 1e6)

    @property
    def work(self) -> Work:
        """What storing the images has to do."""
        images = Images(self.dataset, self.split).work
        return dataclasses.replace(images, megapixels=images.images * estimated_megapixels(self.stored_size))


@dataclasses.dataclass(frozen=True)
class BlackStore:
    """Where the images of a split are black, at most as bright as a level of grey, on the submission grid."""

    dataset: DatasetPlan
    split: str  # train or test
    grey: int

    @property
    def megabytes(self) -> int:
        """About how many MB the store takes."""
        height, width = self.dataset.submission_size
        return 1 + int(self.dataset.counts[self.split] * height * width * BLACK_COMPRESSED / 1e6)

    @property
    def work(self) -> Work:
        """What finding it has to do."""
        return Images(self.dataset, self.split).work


def original_sizes(dataset: Dataset) -> OriginalSizes:
    """Return the original sizes of a config's images, as far as they are known before anything runs."""
    if dataset.source != "demo":
        from cloudseg.dataset.originals import sample_sizes  # Pillow, which most plans do without

        left_out = read_names(dataset.exclude) if dataset.exclude else ()
        if found := sample_sizes(ContestFolder(Path(dataset.root), dataset.layout), left_out):
            return found
    return {} if dataset.source == "path" else {CONTEST_IMAGE: "the contest's"}


def scales(recipe: Recipe) -> list[float]:
    """Return what each view of a recipe multiplies the sides of an image by."""
    return [variant.scale for variant in variants_of(recipe)]


def estimated_pixels(size: str) -> tuple[int, int]:
    """Return height and width of a size; of `xN` as if the originals had the contest's 1400x2100, rounded down.

    Examples
    --------
    >>> estimated_pixels("96x144"), estimated_pixels("x8")
    ((96, 144), (175, 262))
    """
    wanted = Size.parse(size)
    if not wanted.divisor:
        return wanted.pixels
    # A store rounds halves up. The estimate is a param of `probe`, whose trials would be run again for one pixel more.
    height, width = CONTEST_IMAGE
    return height // wanted.divisor, width // wanted.divisor


def estimated_megapixels(size: str) -> float:
    """Return how many million pixels an image of a size has, as for an estimate."""
    return math.prod(estimated_pixels(size)) / 1e6


def digest_cache(path: Path, *parts: str) -> Path:
    """Return the file that caches the digests of a file, or of parts of a folder."""
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:12]
    return Path(f".snakemake/cloudseg/{'-'.join([name, *parts])}.json")
