"""The tables of scores on disk: of each class and fold (`scores.tsv`, `parts.tsv`), and of each image (`images.tsv`).

A fold is a whole number, and NA in a mean over folds. On disk such a mean has the fold `all`, as a mean over classes
has the class `all`.
"""

from pathlib import Path

import pandas as pd

from cloudseg.ensemble.deciding import ALL
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.scores import IMAGE_COLUMNS
from cloudseg.storage.files import damaged, read_table, write_table

SCORE_COLUMNS = {"what", "class", "fold", "fixed", "tuned", "nested", "images"}


def write_scores(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table of scores whose `fold` is Int64, NA in rows of means over folds."""
    write_table(table.assign(fold=table["fold"].astype(object).where(table["fold"].notna(), ALL)), path)


def read_scores(path: str | Path, decision: Decision) -> pd.DataFrame:
    """Read the table of scores that :func:`cloudseg.ensemble.deciding.decide` returned.

    Parameters
    ----------
    path : ``scores.tsv``.
    decision : that of the ensemble; where it is of no images, there is no row.

    Raises
    ------
    DamagedFileError : if the file is cut short: the mean over everything is its last row.
    """
    scores = read_table(path, dtype={"class": str, "fold": str})
    if lacking := SCORE_COLUMNS - set(scores.columns):
        raise damaged(path, f"it has no column {', '.join(sorted(lacking))}")
    if decision.n_images and scores[["class", "fold"]].tail(1).to_numpy().tolist() != [[ALL, ALL]]:
        raise damaged(path, "its last row is not the mean over classes and folds")
    return scores.assign(fold=folds_of(scores["fold"], path))


def read_image_scores(path: str | Path, decision: Decision) -> pd.DataFrame:
    """Read the table that :func:`cloudseg.ensemble.scores.image_scores` returned.

    Parameters
    ----------
    path : ``images.tsv`` of an ensemble.
    decision : that of the ensemble; it says of how many images and classes there must be a row.

    Raises
    ------
    DamagedFileError : if the file is cut short.
    """
    scores = read_table(path, dtype={"image": str, "class": str}, keep_default_na=False)
    rows = decision.n_images * len(decision.cuts)
    if list(scores.columns) != IMAGE_COLUMNS or len(scores) != rows:
        raise damaged(path, f"it has {len(scores)} rows of {', '.join(scores.columns)}; {rows} were written")
    return scores


def folds_of(column: pd.Series, path: str | Path) -> pd.Series:
    """Return the folds of a table that was read as text, as Int64 with NA for `all`.

    Examples
    --------
    >>> folds_of(pd.Series(["0", "1", "all"]), "scores.tsv").tolist()
    [0, 1, <NA>]
    """
    try:
        return column.where(column != ALL, None).astype("Int64")
    except (ValueError, TypeError) as error:
        raise damaged(
            path, f"expected whole numbers and {ALL} as folds, got {sorted(set(column.astype(str)))}"
        ) from error
