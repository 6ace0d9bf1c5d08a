"""Split the training images into folds that look alike."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cloudseg.dataset.groups import lacking, unite
from cloudseg.errors import ConfigError, DamagedFileError, DatasetError
from cloudseg.storage.files import damaged, read_table

LabelSet = tuple[bool, ...]

WEIGHT_BINS = 3
"""Number of quantile bins of the weights: small folds cannot balance more."""


def make_folds(
    images: pd.DataFrame,
    *,
    classes: Sequence[str],
    count: int,
    seed: int,
    weights: Mapping[str, float] | None = None,
    groups: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Split the training images once into ``count`` folds, stratified on the label set of each image.

    Images are dealt one by one, those with the rarest trait first, each to the fold that has the least of
    its traits; a second round moves an image where that is better by then. The traits of an image are: being
    one, each class that it holds, and its label set, a set of fewer than ``count`` images counting as the
    nearest commoner one; with ``weights`` also whether its weight is low, middling or high. Images with the
    same bytes are dealt together, so a model is never validated on a picture that it was trained on. So are images
    of one group, and groups that share a picture.

    On 100 images with the contest's rates the rates of 5 folds lie 0.10 apart (two images of twenty), on
    5,546 images 0.002; scikit-learn's StratifiedGroupKFold leaves 0.16 and 0.003. The fewer the groups, the less can
    be balanced: 600 images in 60 groups of unlike sizes leave rates 0.08 and sizes 6 images apart (scikit-learn 0.09
    and 14), 100 images in 20 groups 0.37 and 5 (0.39 and 8).

    Parameters
    ----------
    images : the images table of the dataset check; the rows of split "train" are used: image, digest and
        the areas of the classes.
    classes : names of the classes.
    count : number of folds, from 2 to the number of different pictures.
    seed : any whole number from 0; another seed gives another split.
    weights : a number per training image, such as how test-like it is (:func:`read_weights`). Thirds of the
        images by weight are spread evenly; None leaves it out, and equal weights do too.
    groups : of each training image, in their order; None lets each image be by itself.

    Returns
    -------
    DataFrame : image and fold (int, from 0), in the order of ``images``.

    Raises
    ------
    ConfigError : if ``count`` is out of its range, which ends at the number of groups.
    DatasetError : if a training image has no weight.

    Examples
    --------
    >>> images = pd.DataFrame({
    ...     "image": list("abcd"), "split": "train", "digest": list("wxyz"), "Fish": [9, 9, 0, 0]
    ... })
    >>> folds = make_folds(images, classes=["Fish"], count=2, seed=0)
    >>> sorted(folds["fold"][:2]), sorted(folds["fold"][2:])
    ([0, 1], [0, 1])
    """
    train = images[images["split"] == "train"]
    unit_of = unite(train["digest"].tolist(), *([] if groups is None else [groups]))
    units = len(set(unit_of.tolist()))
    if not 2 <= count <= units:
        what = "different training images" if groups is None else "groups of training images that share no picture"
        raise ConfigError(f"folds.count: expected 2 to {units}, the number of {what} (of {len(train)}), got {count}")
    holds = (train[list(classes)] > 0).to_numpy(bool)
    columns = [np.ones((len(train), 1)), holds, _strata(holds, count)]
    if weights is not None:
        columns.append(_weight_bins(train["image"].tolist(), weights))
    traits = np.zeros((units, sum(column.shape[1] for column in columns)))
    np.add.at(traits, unit_of, np.hstack(columns))
    fold_of_unit = deal(traits, count, np.random.default_rng(seed))
    return pd.DataFrame({"image": train["image"].to_numpy(), "fold": fold_of_unit[unit_of]})


def take_split(images: pd.DataFrame, split: Mapping[str, int], *, count: int, of: str | Path) -> pd.DataFrame:
    """Return the training images in the folds that the user's own split says.

    Parameters
    ----------
    images : as of :func:`make_folds`.
    split : image to fold, as :func:`cloudseg.config.image_tables.read_split` returns it. Images that are not in
        ``images`` may be in it.
    count : number of folds.
    of : the file that says so, for messages.

    Returns
    -------
    DataFrame : as of :func:`make_folds`.

    Raises
    ------
    DatasetError : if the split has no fold for a training image, or no training image in a fold.

    Examples
    --------
    >>> images = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "split": "train"})
    >>> take_split(images, {"b.jpg": 0, "a.jpg": 1}, count=2, of="mine.tsv").to_dict("list")
    {'image': ['a.jpg', 'b.jpg'], 'fold': [1, 0]}
    """
    names = images.loc[images["split"] == "train", "image"].tolist()
    problems = [f"no fold {problem}" for problem in lacking(names, split)]
    if empty := sorted(set(range(count)) - {split[name] for name in names if name in split}):
        problems.append(
            f"expected training images in each fold from 0 to {count - 1} (folds.count is {count}), got none in "
            f"{', '.join(map(str, empty))}"
        )
    if problems:
        raise DatasetError(f"{of} (folds.file): {'; '.join(problems)}")
    return pd.DataFrame({"image": names, "fold": [split[name] for name in names]})


def _strata(holds: np.ndarray, min_images: int) -> np.ndarray:
    """Return one column per label set that at least ``min_images`` images have; rare sets join the nearest one."""
    label_sets: list[LabelSet] = [tuple(row) for row in holds.tolist()]
    counts = Counter(label_sets)
    common = sorted(label_set for label_set, n_images in counts.items() if n_images >= min_images)

    def stratum(label_set: LabelSet) -> LabelSet:
        def distance(other: LabelSet) -> tuple[int, int]:
            return sum(a != b for a, b in zip(label_set, other, strict=True)), -counts[other]

        return min(common, key=distance)

    columns = np.zeros((len(label_sets), len(common)))
    if common:
        column_of = {label_set: common.index(stratum(label_set)) for label_set in counts}
        for row, label_set in enumerate(label_sets):
            columns[row, column_of[label_set]] = 1
    return columns


def read_folds(path: str | Path, images: Sequence[str]) -> pd.DataFrame:
    r"""Read the table of folds that ``write_table`` wrote from :func:`make_folds`.

    Parameters
    ----------
    path : the table (TSV).
    images : names of all training images, as the pixel store has them.

    Returns
    -------
    DataFrame : image and fold (int), in the order of the file: each of ``images`` once and no other.

    Raises
    ------
    DamagedFileError : if the file is cut short or holds other images.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "folds.tsv").write_text("image\tfold\nb.jpg\t0\na.jpg\t1\n")
    ...     read_folds(f"{folder}/folds.tsv", ["a.jpg", "b.jpg"]).to_dict("list")
    {'image': ['b.jpg', 'a.jpg'], 'fold': [0, 1]}
    """
    table = read_table(path, dtype={"image": "str", "fold": "int64"}, keep_default_na=False)
    if list(table.columns) != ["image", "fold"]:
        raise damaged(path, f"expected the columns image and fold, got {', '.join(table.columns)}")
    known, found = set(images), set(table["image"])
    for names, what in (
        ([name for name in table["image"] if name not in known], "are not in the pixel store"),
        (table["image"][table["image"].duplicated()].tolist(), "are listed twice"),
        ([name for name in images if name not in found], "are lacking"),
    ):
        if names:
            raise damaged(path, f"{len(names)} images {what} (first: {names[0]})")
    return table


def read_weights(path: str | Path) -> dict[str, float]:
    """Read the weights of the training images from the table of scores that the rule ``shift`` writes.

    Parameters
    ----------
    path : table (TSV) with the columns image, split and weight.

    Returns
    -------
    dict : training image to weight.

    Raises
    ------
    DamagedFileError : naming the columns that the table lacks.
    """
    table = read_table(path, dtype={"image": "str", "split": "str"}, keep_default_na=False, na_values="")
    if missing := {"image", "split", "weight"} - set(table.columns):
        raise DamagedFileError(f"{path}: has no column {', '.join(sorted(missing))}; run the rule shift again")
    train = table[table["split"] == "train"]
    return dict(zip(train["image"].tolist(), train["weight"].tolist(), strict=True))


def _weight_bins(names: Sequence[str], weights: Mapping[str, float]) -> np.ndarray:
    """Return one column per bin of weights that has images; none if all images have the same weight."""
    if missing := [name for name in names if not np.isfinite(weights.get(name, np.nan))]:
        raise DatasetError(
            f"folds: no weight for {missing[0]} ({len(missing)} of {len(names)} training images); "
            "make the weights from the same images again, or leave them out"
        )
    values = np.array([weights[name] for name in names])
    edges = np.quantile(values, np.arange(1, WEIGHT_BINS) / WEIGHT_BINS)
    bins = np.searchsorted(edges, values)
    columns = (bins[:, None] == np.unique(bins)).astype(float)
    return columns if columns.shape[1] > 1 else columns[:, :0]


def deal(traits: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Deal pictures to folds so that each trait is spread evenly.

    Parameters
    ----------
    traits : (picture, trait) float, from 0: how many images of the picture, or of the group, have the trait. The
        first is being an image.
    count : number of folds.
    rng : decides between folds that are equally good.

    Returns
    -------
    int (picture,) : the fold of each, or of each group, from 0.

    Examples
    --------
    >>> deal(np.ones((4, 1)), 2, np.random.default_rng(0)).tolist().count(1)
    2
    """
    totals = traits.sum(axis=0)
    weights = 1 / np.maximum(totals, 1)
    rarest = np.where(traits > 0, totals, np.inf).min(axis=1)
    order = rng.permutation(len(traits))
    order = order[np.lexsort((rarest[order], -traits[order, 0]))]  # many copies first, then rare traits
    dealt = np.zeros((count, traits.shape[1]))
    fold_of = np.full(len(traits), -1)
    for _ in range(2):
        for picture in order:
            present = fold_of[picture]
            if present >= 0:
                dealt[present] -= traits[picture]
            load = dealt @ (weights * traits[picture])
            best = np.flatnonzero(load <= load.min() + 1e-9)  # sums differ in their last bits between CPUs
            fold_of[picture] = present if present in best else rng.choice(best)
            dealt[fold_of[picture]] += traits[picture]
    return fold_of
