"""The sizes of images before any is decoded: the headers of a few files tell."""

from collections.abc import Collection

from cloudseg.config.size import OriginalSizes
from cloudseg.dataset.contest import SPLITS, ContestFolder
from cloudseg.dataset.decoding import image_size

FILES = 16  # of each split: 1 ms, whatever the number of images


def sample_sizes(folder: ContestFolder, left_out: Collection[str] = (), files: int = FILES) -> OriginalSizes:
    """Return the sizes of some images of either split, spread over their sorted names, each with the first file of it.

    Parameters
    ----------
    folder : with the images.
    left_out : training images that do not count.
    files : images of a split that are looked at, at most.

    Returns
    -------
    dict : (height, width) in pixels to a file below the root. Files that cannot be read are left to the dataset check.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as root:
    ...     Path(root, "train_images").mkdir()
    ...     for number in range(99):
    ...         Image.new("L", (60, 40)).save(f"{root}/train_images/{number:02}.png")
    ...     sample_sizes(ContestFolder(root))
    {(40, 60): 'train_images/00.png'}
    """
    found: dict[tuple[int, int], str] = {}
    for split in SPLITS:
        names = [name for name in folder.list_images(split) if split == "test" or name not in left_out]
        count = min(files, len(names))
        for place in range(count):
            path = folder.images(split) / names[place * (len(names) - 1) // max(count - 1, 1)]
            if size := image_size(path):
                found.setdefault(size, path.relative_to(folder.root).as_posix())
    return found
