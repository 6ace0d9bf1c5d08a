"""Name the parts of a data set: folders of images, labels, sample submission."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cloudseg.config.labels import CLOUDS_LAYOUT, LabelsEntry, Layout
from cloudseg.dataset.labels.mask_files import list_files
from cloudseg.dataset.labels.tables import Columns, RowNames, TableError, scan_table

SUFFIXES = (".jpg", ".jpeg", ".png")

Split = Literal["train", "test"]
SPLITS: tuple[Split, Split] = ("train", "test")


@dataclass(frozen=True)
class ContestFolder:
    """Name the parts of a data set.

    Parameters
    ----------
    root : the folder with ``train_images/``, ``test_images/``, ``train.csv`` and ``sample_submission.csv``.
    layout : what these are called, and in which form they are, where that is not as in the clouds' contest.

    Examples
    --------
    >>> ContestFolder(Path("clouds")).images("train").as_posix()
    'clouds/train_images'
    """

    root: Path
    layout: Layout = CLOUDS_LAYOUT

    def __post_init__(self) -> None:
        """Take text as well as a path, and a job's param as well as a layout."""
        object.__setattr__(self, "root", Path(self.root))
        if not isinstance(self.layout, Layout):
            object.__setattr__(self, "layout", Layout(**(self.layout or {})))

    @classmethod
    def of(cls, root: "str | Path | ContestFolder") -> "ContestFolder":
        """Return a folder, which is in the clouds' layout if only its path is given."""
        return root if isinstance(root, ContestFolder) else cls(Path(root))

    @classmethod
    def of_job(cls, root: str | Path, params: Any) -> "ContestFolder":
        """Return the folder of a job: its params have a layout where that is another than the clouds'."""
        return cls(Path(root), params.get("layout"))

    @property
    def labels(self) -> Path:
        """The file, or the folder, with the labels of the training images."""
        return self.root / self.layout.labels_name

    @property
    def train_table(self) -> Path:
        """The table of labels of the training images, where labels are a table."""
        return self.root / self.layout.train_table

    @property
    def sample_submission(self) -> Path:
        """The rows that a submission must have, in their order; its run-length texts are placeholders."""
        return self.root / self.layout.sample_submission

    @property
    def has_test(self) -> bool:
        """Whether there is a folder of test images, or a sample submission, which speaks of some."""
        return self.has_sample or os.path.lexists(self.images("test"))

    @property
    def has_sample(self) -> bool:
        """Whether there is a sample submission, be it one that can be read or not."""
        return os.path.lexists(self.sample_submission)

    def table(self, split: Split) -> Path:
        """Return the table whose rows name the images of ``split``."""
        return self.train_table if split == "train" else self.sample_submission

    def images_name(self, split: Split) -> str:
        """Return the name of the folder with the images of ``split``, below the root."""
        return self.layout.train_images if split == "train" else self.layout.test_images

    def images(self, split: Split) -> Path:
        """Return the folder with the images of ``split``."""
        return self.root / self.images_name(split)

    def list_images(self, split: Split) -> list[str]:
        """List the image files of ``split`` by name, sorted as text; none where there is no folder.

        Returns
        -------
        list of str : the files that end in .jpg, .jpeg or .png in either case; what they are is decided by
            their content when they are read. Hidden files are left out. A symbolic link that leads nowhere is listed,
            so that the image that it stands for is missed.
        """
        return self._names(split, is_image)

    def label_files(self) -> list[Path]:
        """List the files of the labels of the training images, there or not."""
        if self.layout.labels.format != "masks":
            return [self.labels]
        return [self.labels / name for name in list_files(self.labels)[0]]

    def list_others(self, split: Split) -> list[str]:
        """List what else lies in the image folder of ``split``, hidden files left out, sorted as text."""
        return self._names(split, lambda entry: not (is_image(entry) or entry.name.startswith(".")))

    def _names(self, split: Split, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
        try:
            with os.scandir(self.images(split)) as entries:
                return sorted(entry.name for entry in entries if is_wanted(entry))
        except OSError:  # the dataset check will say why
            return []

    def submission_rows(self, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the (image, class) pairs of the sample submission, in its order, each once.

        Parameters
        ----------
        classes : the names of the classes; without a sample submission each image has all of them, in this order.

        Raises
        ------
        TableError : if the file cannot be read or a row names an image that is not in the test folder.
        """
        names = self.list_images("test")
        if not self.has_sample:
            return itertools.product(names, classes)
        return sample_rows(self.sample_submission, self.layout.submission, self.images("test"), names, classes)


def sample_rows(
    table: str | Path, entry: LabelsEntry, images: str | Path, names: Sequence[str], classes: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield the (image, class) pairs of a sample submission, in its order.

    Parameters
    ----------
    table : the file.
    entry : its form.
    images : the folder of the images, for a message.
    names, classes : of its images, and of the classes.

    Raises
    ------
    TableError : if the file cannot be read or a row names another image.
    """
    row_names = RowNames(entry, names, classes)

    def asked() -> Iterator[tuple[str, str]]:
        for row in scan_table(table, Columns.of_submission(entry)):
            image, label = row_names.of(row)
            if image is None:
                raise TableError(table, row.line, f"{row.shown!r} names no image of {images}; run the dataset check")
            yield from ((image, each) for each in classes) if entry.sample == "images" else [(image, label)]

    # Rows of objects may name an image often; the clouds' do not, and there may be millions of them
    return asked() if entry.several == "warn" and entry.sample == "pairs" else iter(dict.fromkeys(asked()))


Root = str | Path | ContestFolder
"""A folder in the clouds' layout by its path, or one with its own."""


def is_image(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry of a folder is an image file by its name, or a link that leads nowhere."""
    hidden = entry.name.startswith(".")
    if hidden or not entry.name.lower().endswith(SUFFIXES):
        return False
    return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
