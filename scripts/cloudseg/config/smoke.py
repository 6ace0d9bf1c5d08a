"""The smoke version of a config: all of it, in minutes on a CPU."""

from cloudseg.config.batching import MIN_MICRO_BATCH
from cloudseg.config.fields import FrozenDict
from cloudseg.config.model import Config
from cloudseg.config.recipe import Recipe
from cloudseg.config.size import CONTEST_IMAGE, Size

IMAGES = {"train": 24, "test": 8}
RECIPE = {"epochs": 3, "micro_batch": None, "warmup": 0.5, "compile": False}
BATCH = 4
SHRINKS = (8, 4, 2)  # divisors of sizes; the first that keeps the minimum size of the decoders is taken


def smoke_config(config: Config) -> Config:
    """Return the config of a run of minutes: few images and epochs, and the demo's images for the contest's.

    Examples
    --------
    >>> config = Config(name="a", dataset={"source": "kaggle"}, recipes={"quick": {}}, experiments="a.tsv",
    ...     ensembles={}, submission="all")
    >>> small = smoke_config(config)
    >>> small.dataset.source, small.dataset.train, small.recipes["quick"].epochs
    ('demo', 24, 3)
    """
    own_images = config.dataset.source == "path"
    dataset = {"source": "path" if own_images else "demo", **IMAGES}
    # A list that names the contest's images says nothing of the demo's
    dataset |= {} if own_images else {"exclude": None}
    return config.model_copy(
        update={
            "dataset": config.dataset.model_copy(update=dataset),
            # Of a group, or a fold, there may be none among so few images
            "folds": config.folds.model_copy(update={"groups": None, "table": None, "file": None}),
            "recipes": FrozenDict({name: _smoke_recipe(recipe) for name, recipe in config.recipes.items()}),
        }
    )


def _smoke_recipe(recipe: Recipe) -> Recipe:
    small = {**RECIPE, "batch": max(BATCH, MIN_MICRO_BATCH * recipe.gpus)}
    if recipe.stages:  # without their sizes, which may be larger than the small images
        stages = (stage.model_copy(update={"epochs": 1, "warmup": None, "size": None}) for stage in recipe.stages)
        small |= {"stages": tuple(stages), "epochs": len(recipe.stages)}
    if recipe.average:
        small["average"] = recipe.average.model_copy(update={"epochs": 2})
    if recipe.freeze_encoder:
        small["freeze_encoder"] = 1
    return recipe.model_copy(update=small)


def smoke_size(size: Size, smallest: int) -> Size:
    """Return the size at which images of a smoke run are stored under the name of `size`.

    Parameters
    ----------
    size : in pixels, or ``xN`` of the demo's original size.
    smallest : minimum height and width in pixels.

    Examples
    --------
    >>> [str(smoke_size(Size.parse(text), 32)) for text in ("640x960", "64x96", "x4")]
    ['80x120', '32x48', 'x32']
    >>> str(smoke_size(Size.parse("96x144"), 64))
    '96x144'
    """
    height, width = size.of(CONTEST_IMAGE)
    for shrink in SHRINKS:
        if min(height, width) // shrink >= smallest:
            divisor = shrink * size.divisor
            return Size(divisor=divisor) if divisor else Size(height // shrink, width // shrink)
    return size
