"""What depends on other keys: defaults, since the contest's numbers count for its images and for the demo's alone, and
the pixels that shares of the plane are.
"""

import math
from typing import Any

from cloudseg.config.decision import DecisionEntry, PlaneMinEntry, PresenceEntry, pixels_of
from cloudseg.config.fields import FrozenDict
from cloudseg.config.model import Config
from cloudseg.config.recipe import Recipe
from cloudseg.config.size import CONTEST_SIZE, Size

# What the contest's notebooks chose from
CONTEST_MIN_SIZE = "2.7211%"  # 5000 pixels of CONTEST_SIZE
CONTEST_MIN_AREA = 0.025  # of a recipe's validation, as a share of the image: about CONTEST_MIN_SIZE
# What `how: grid` chooses from, as contest notebooks did
GRID = {"thresholds": [n / 20 for n in range(20)], "min_sizes": [0, 100, 1200, 5000, 10000]}
CONTEST_MIN_SIZES = (
    *(0, 250, 500, 1000, 2000, 3000, 4000, 5000, 6000, 8000, 10000, 12500, 15000, 17500, 20000, 25000, 30000),
)


def with_contest_defaults(config: Config) -> Config:
    """Return a checked config with defaults for the sizes that depend on its images, and with all areas in pixels.

    Decisions that give a list of numbers give each class its own.

    Examples
    --------
    >>> config = Config(name="a", dataset={"source": "demo"}, recipes={"quick": {}}, experiments="a.tsv",
    ...     ensembles={}, submission="all", decision={"threshold": [0.5, 0.4, 0.3, 0.2]}, min_sizes=[0, "2%"])
    >>> filled = with_contest_defaults(config)
    >>> str(filled.submission_size), filled.recipes["quick"].validation.min_area, filled.decision.threshold["Flower"]
    ('350x525', 0.025, 0.4)
    >>> filled.decision.min_size, filled.min_sizes
    (5000, (0, 3675))
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
            "min_sizes": _different_pixels(config.min_sizes, size) if config.min_sizes else contest_min_sizes(size),
            "recipes": FrozenDict(recipes),
            "ensembles": FrozenDict(ensembles),
            "decision": _decision(config.decision, config),
        }
    )


def _min_area(recipe: Recipe, own_images: bool) -> float:
    """Return the smallest area of a component in validation; what is bright has other sizes than what is labelled."""
    return 0 if own_images or recipe.brightness is not None else CONTEST_MIN_AREA


def _different_pixels(areas: tuple[int | str, ...], size: Size) -> tuple[int, ...]:
    """Return the pixels of each area once, in their order: on a small grid several shares may be the same."""
    plane = math.prod(size.pixels)
    return tuple(dict.fromkeys(pixels_of(area, plane) for area in areas))


def contest_min_sizes(size: Size) -> tuple[int, ...]:
    """Return the contest's minimum sizes on a grid of another size, each once."""
    area, contest = math.prod(size.pixels), math.prod(CONTEST_SIZE.pixels)
    return tuple(sorted({min_size * area // contest for min_size in CONTEST_MIN_SIZES}))


def _decision(decision: DecisionEntry, config: Config) -> DecisionEntry:
    """Return a decision with its minimum size, areas in pixels, and lists as mappings of the classes."""
    filled = _filled(decision, min_size=0 if config.dataset.source == "path" else CONTEST_MIN_SIZE)
    named = _named(filled, config.dataset.classes)
    plane = math.prod((config.submission_size or CONTEST_SIZE).pixels)
    triplet = named.plane_min
    if isinstance(triplet, PlaneMinEntry):
        triplet = triplet.model_copy(update={"area": _in_pixels(triplet.area, plane)})
    return named.model_copy(update={"min_size": _in_pixels(named.min_size, plane), "plane_min": triplet})


def _in_pixels(areas: Any, plane: int) -> Any:
    """Return an area, or that of each class, in pixels of a plane of so many."""
    if isinstance(areas, FrozenDict):
        return FrozenDict({name: pixels_of(area, plane) for name, area in areas.items()})
    return pixels_of(areas, plane)


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
