"""Figures that somebody else measured, shown beside ours: data, in ``reference.yaml``."""

import functools
import importlib.resources
from dataclasses import dataclass
from typing import Self

import yaml


@dataclass(frozen=True)
class Reference:
    """What one person measured, and how tables call it.

    Parameters
    ----------
    name : of the source, in heads of tables and names of columns.
    date : of its table of ways to load images.
    minutes : of an epoch, by the way to load images.
    variance : of its probabilities.
    columns : what it reached with an experiment (``dice_best``, ...) to the column of a sheet that holds it.
    table : heads of its own tables of experiments to what stands below each.
    """

    name: str
    date: str
    minutes: dict[str, int]
    variance: float
    columns: dict[str, str]
    table: dict[str, str]

    @classmethod
    @functools.cache
    def read(cls) -> Self:
        """Read the reference that comes with the package.

        Examples
        --------
        >>> Reference.read().columns["dice_best"]
        'diary_dice_best'
        """
        text = importlib.resources.files("cloudseg.config").joinpath("reference.yaml").read_text(encoding="utf-8")
        data = yaml.safe_load(text)
        return cls(data["name"], **data["loading"], **{key: data[key] for key in ("variance", "columns", "table")})
