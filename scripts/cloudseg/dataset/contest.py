"""Name the parts of a data set: folders of images, labels, sample submission."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cloudseg.config.labels import CLOUDS_LAYOUT, Layout
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
        return self._names(split, _is_image)

    def label_files(self) -> list[Path]:
        """List the files of the labels of the training images, there or not."""
        if self.layout.labels.format != "masks":
            return [self.labels]
        return [self.labels / name for name in list_files(self.labels)[0]]

    def list_others(self, split: Split) -> list[str]:
        """List what else lies in the image folder of ``split``, hidden files left out, sorted as text."""
        return self._names(split, lambda entry: not (_is_image(entry) or entry.name.startswith(".")))

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
        classes : the names of the classes.

        Raises
        ------
        TableError : if the file cannot be read or a row names an image that is not in the test folder.
        """
        entry = self.layout.submission
        names = RowNames(entry, self.list_images("test"), classes)
        pairs = self._asked(names, classes)
        # Rows of objects may name an image often; the clouds' do not, and there may be millions of them
        return pairs if entry.several == "warn" and entry.sample == "pairs" else iter(dict.fromkeys(pairs))

    def _asked(self, names: RowNames, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
        for row in scan_table(self.sample_submission, Columns.of_submission(self.layout.submission)):
            image, label = names.of(row)
            if image is None:
                reason = f"{row.shown!r} names no image of {self.images('test')}; run the dataset check"
                raise TableError(self.sample_submission, row.line, reason)
            yield from (
                ((image, each) for each in classes) if self.layout.submission.sample == "images" else [(image, label)]
            )


Root = str | Path | ContestFolder
"""A folder in the clouds' layout by its path, or one with its own."""


def _is_image(entry: os.DirEntry[str]) -> bool:
    hidden = entry.name.startswith(".")
    if hidden or not entry.name.lower().endswith(SUFFIXES):
        return False
    return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
