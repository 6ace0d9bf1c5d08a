"""The defaults that depend on other keys: the contest's numbers count for its images and for the demo's alone."""

import math
from typing import Any

from cloudseg.config.decision import DecisionEntry, PlaneMinEntry, PresenceEntry
from cloudseg.config.fields import FrozenDict
from cloudseg.config.model import Config
from cloudseg.config.recipe import Recipe
from cloudseg.config.size import CONTEST_SIZE, Size

# What the contest's notebooks chose from
CONTEST_MIN_SIZE = 5000  # pixels
CONTEST_MIN_AREA = 0.025  # of a recipe's validation, as a share of the image: about CONTEST_MIN_SIZE
# What `how: grid` chooses from, as contest notebooks did
GRID = {"thresholds": [n / 20 for n in range(20)], "min_sizes": [0, 100, 1200, 5000, 10000]}
CONTEST_MIN_SIZES = (
    *(0, 250, 500, 1000, 2000, 3000, 4000, 5000, 6000, 8000, 10000, 12500, 15000, 17500, 20000, 25000, 30000),
)


def with_contest_defaults(config: Config) -> Config:
    """Return a checked config with defaults for the sizes that depend on its images.

    Decisions that give a list of numbers give each class its own.

    Examples
    --------
    >>> config = Config(name="a", dataset={"source": "demo"}, recipes={"quick": {}}, experiments="a.tsv",
    ...     ensembles={}, submission="all", decision={"threshold": [0.5, 0.4, 0.3, 0.2]})
    >>> filled = with_contest_defaults(config)
    >>> str(filled.submission_size), filled.recipes["quick"].validation.min_area, filled.decision.threshold["Flower"]
    ('350x525', 0.025, 0.4)
    """
    own_images = config.dataset.source == "path"
    size = config.submission_size or CONTEST_SIZE
    recipes = {
        name: recipe.model_copy(
            update={"validation": _filled(recipe.validation, min_area=_min_area(recipe, own_images))}
        )
        for name, recipe in config.recipes.items()
    }
    ensembles = {
        name: entry.model_copy(update={"decision": entry.decision and _decision(entry.decision, config)})
        for name, entry in config.ensembles.items()
    }
    return config.model_copy(
        update={
            "submission_size": size,
            "min_sizes": config.min_sizes or contest_min_sizes(size),
            "recipes": FrozenDict(recipes),
            "ensembles": FrozenDict(ensembles),
            "decision": _decision(config.decision, config),
        }
    )


def _min_area(recipe: Recipe, own_images: bool) -> float:
    """Return the smallest area of a component in validation; what is bright has other sizes than what is labelled."""
    return 0 if own_images or recipe.brightness is not None else CONTEST_MIN_AREA


def contest_min_sizes(size: Size) -> tuple[int, ...]:
    """Return the contest's minimum sizes on a grid of another size, each once."""
    area, contest = math.prod(size.pixels), math.prod(CONTEST_SIZE.pixels)
    return tuple(sorted({min_size * area // contest for min_size in CONTEST_MIN_SIZES}))


def _decision(decision: DecisionEntry, config: Config) -> DecisionEntry:
    """Return a decision with its minimum size, and its lists as mappings of the classes."""
    filled = _filled(decision, min_size=0 if config.dataset.source == "path" else CONTEST_MIN_SIZE)
    return _named(filled, config.dataset.classes)


def _named(model: Any, classes: tuple[str, ...]) -> Any:
    """Return a model whose lists of one number per class are mappings of the classes, also in the models within it."""
    named = {}
    for key, value in model:
        if isinstance(value, tuple) and key != "score":
            named[key] = FrozenDict(zip(classes, value, strict=True))
        elif isinstance(value, PresenceEntry | PlaneMinEntry):
            named[key] = _named(value, classes)
    return model.model_copy(update=named)


def _filled(model: Any, **values: Any) -> Any:
    """Return a model with values for those of its keys that are null."""
    return model.model_copy(update={key: value for key, value in values.items() if getattr(model, key) is None})
