"""The table of images that the dataset check writes and all later jobs read."""

from pathlib import Path

import pandas as pd

from cloudseg.config.classes import EXCLUDED, IMAGE_COLUMNS
from cloudseg.dataset.contest import ContestFolder, Root, Split
from cloudseg.storage.files import damaged, read_table


def read_images(path: str | Path, root: Root | None = None, split: Split = "train") -> pd.DataFrame:
    """Read the table of images that the dataset check wrote, with the same types.

    What the user leaves out is dropped here, so that no job that comes later can use it. Plain ``read_csv`` would read
    a digest that consists of digits as a number.

    Parameters
    ----------
    path : the table (TSV).
    root : the data set that was checked, all of whose images of ``split`` must be in the table; None skips this.
    split : whose images the table holds.

    Raises
    ------
    DamagedFileError : if the file is cut short, or is no such table. Without ``root`` a cut between two lines goes
        unnoticed.
    """
    names = read_table(path, nrows=0).columns
    texts = {"image", "split", "digest", "labels"}
    types = {name: "str" if name in texts else "Int64" for name in names}
    missing = {name: [""] for name in names if name not in texts}
    if lacking := [name for name in IMAGE_COLUMNS if name not in names]:
        raise damaged(path, f"it has no column {', '.join(lacking)}")
    images = read_table(path, dtype=types, keep_default_na=False, na_values=missing)
    if root is not None:
        listed = set(images.loc[images["split"].isin([split, EXCLUDED]), "image"])
        if lacking := [name for name in ContestFolder.of(root).list_images(split) if name not in listed]:
            folder = ContestFolder.of(root).images_name(split)
            raise damaged(path, f"it lacks {len(lacking)} images of {folder}/ (the first: {lacking[0]})")
    kept = images[images["split"] != EXCLUDED]
    return kept.astype({"height": "int64", "width": "int64"})
