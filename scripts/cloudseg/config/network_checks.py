"""Checks of a row of the sheet: what its recipe asks of a network that its decoder or its size cannot give."""

from collections.abc import Iterator

from cloudseg.config.checkpoint_header import NetworkHeader, network_start_problem
from cloudseg.config.combinations import combination_problem
from cloudseg.config.decoders import CLASSIFIER, decoder_option_problems, demands
from cloudseg.config.encoders import encoders
from cloudseg.config.model import Config, ExperimentRow
from cloudseg.config.recipe import Recipe
from cloudseg.config.size import Size
from cloudseg.config.views import smallest_side, variants_of

# Keys that mean nothing to a network without masks
OF_MASKS = (
    *("loss", "loss_planes", "dice_over", "dice_smooth", "class_weights", "loss_grid"),
    *("decoder_options", "brightness"),
)


def network_problems(
    row: ExperimentRow, recipe: Recipe, config: Config, original: tuple[int, int] | None
) -> Iterator[str]:
    """Yield what is wrong with a row whose decoder and recipe are known.

    Parameters
    ----------
    original : (height, width) of all images, where it is known and the size of the row divides it.
    """
    if row.decoder == CLASSIFIER:
        yield from _classifier_problems(row.recipe, recipe)
    options = recipe.decoder_options or {}
    if wrong := decoder_option_problems(row.decoder, options):
        yield from (f"recipes.{row.recipe}.decoder_options: {problem}" for problem in wrong)
        return
    pixels = known_pixels(Size.parse(row.size), original)
    known = None if config.smoke else pixels
    if row.encoder in encoders() and (problem := combination_problem(row.encoder, row.decoder, options, known)):
        yield problem
    if pixels is not None:
        yield from _size_problems(row, recipe, config, pixels)
    yield from _start_problems(row, recipe, config)
    yield from _stage_size_problems(row, recipe, original)


def known_pixels(size: Size, original: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return height and width of a size, or None where it divides an original size that is not known."""
    return None if size.divisor and original is None else size.of(original)


def _size_problems(row: ExperimentRow, recipe: Recipe, config: Config, pixels: tuple[int, int]) -> Iterator[str]:
    """Yield that images, or a view of them, are too small for the decoder."""
    smallest = demands(row.decoder, recipe.decoder_options).minimum
    shown = row.size if row.size == f"{pixels[0]}x{pixels[1]}" else f"{row.size}, {pixels[0]}x{pixels[1]} pixels"
    if min(pixels) < smallest:
        yield f"{row.decoder} takes images of at least {smallest}x{smallest}, got {shown}"
    elif not config.smoke:
        side = smallest_side(variants_of(recipe), pixels)
        if side < smallest:
            yield (
                f"{row.decoder} takes images of at least {smallest}x{smallest}, and a view of recipe {row.recipe} "
                f"makes {shown} {side} pixels small (recipes.{row.recipe}.tta)"
            )


def _start_problems(row: ExperimentRow, recipe: Recipe, config: Config) -> Iterator[str]:
    """Yield why the network cannot start from the whole of another one."""
    kind, _, source = recipe.start.partition(":")
    decoder, name = source.partition("/")[0], source.rpartition("/")[2]
    if kind != "network" or name not in config.recipes or decoder != row.decoder:
        return
    headers = [NetworkHeader.of_recipe(row.encoder, decoder, (), each) for each in (config.recipes[name], recipe)]
    if problem := network_start_problem(*headers):
        yield f"recipe {row.recipe} starts from the network {source}: {problem}"


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


def _stage_size_problems(row: ExperimentRow, recipe: Recipe, original: tuple[int, int] | None) -> Iterator[str]:
    """Yield the sizes of stages that images would have to be enlarged to, or that are too small for the decoder."""
    most = known_pixels(recipe.canvas or Size.parse(row.size), original)
    least = demands(row.decoder, recipe.decoder_options).minimum
    for number, stage in enumerate(recipe.stages or ()):
        if stage.size is None:
            continue
        where, pixels = f"recipes.{row.recipe}.stages.{number}.size", stage.size.pixels
        if most and any(side > limit for side, limit in zip(pixels, most, strict=True)):
            yield f"{where}: expected at most {most[0]}x{most[1]}, the size of the images that train, got {stage.size}"
        if min(pixels) < least:
            yield f"{where}: {row.decoder} takes images of at least {least}x{least}, got {stage.size}"
