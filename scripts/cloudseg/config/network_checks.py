"""Checks of a row of the sheet: what its recipe asks of a network that its decoder or its size cannot give."""

from collections.abc import Iterator

from cloudseg.config.decoders import CLASSIFIER, DECODERS
from cloudseg.config.model import Config, ExperimentRow
from cloudseg.config.recipe import Recipe
from cloudseg.config.size import CONTEST_IMAGE, Size

# Keys that mean nothing to a network without masks
OF_MASKS = (
    *("loss", "loss_planes", "dice_over", "dice_smooth", "class_weights", "loss_grid"),
    *("decoder_options", "brightness"),
)


def network_problems(row: ExperimentRow, recipe: Recipe, config: Config) -> Iterator[str]:
    """Yield what is wrong with a row whose decoder and recipe are known."""
    if row.decoder == CLASSIFIER:
        yield from _classifier_problems(row.recipe, recipe)
    yield from _stage_size_problems(row, recipe, config)


def _classifier_problems(name: str, recipe: Recipe) -> Iterator[str]:
    """Yield what a recipe asks of masks that a classifier does not have."""
    for key in OF_MASKS:
        if getattr(recipe, key) != Recipe.model_fields[key].default:
            yield f"recipe {name} has `{key}`, which is of masks; a {CLASSIFIER} has none, so give it another recipe"
    if recipe.stages and any(stage.loss or stage.loss_planes for stage in recipe.stages):
        yield f"recipe {name} has stages with a loss of masks; a {CLASSIFIER} has none, so give it another recipe"
    if recipe.best_by != "loss":
        yield (
            f"recipe {name} has `best_by: {recipe.best_by}`, which is of masks; a {CLASSIFIER} has none, so give it a "
            "recipe with `best_by: loss`"
        )


def _stage_size_problems(row: ExperimentRow, recipe: Recipe, config: Config) -> Iterator[str]:
    """Yield the sizes of stages that images would have to be enlarged to, or that are too small for the decoder."""
    largest = recipe.canvas or Size.parse(row.size)
    known = not (largest.divisor and config.dataset.source == "path")
    most, least = largest.of(CONTEST_IMAGE), DECODERS[row.decoder].minimum
    for number, stage in enumerate(recipe.stages or ()):
        if stage.size is None:
            continue
        where, pixels = f"recipes.{row.recipe}.stages.{number}.size", stage.size.pixels
        if known and any(side > limit for side, limit in zip(pixels, most, strict=True)):
            yield f"{where}: expected at most {most[0]}x{most[1]}, the size of the images that train, got {stage.size}"
        if min(pixels) < least:
            yield f"{where}: {row.decoder} takes images of at least {least}x{least}, got {stage.size}"
