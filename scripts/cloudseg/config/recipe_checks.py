"""Checks of a recipe that need more than one of its keys: nothing is accepted that would do nothing."""

from collections.abc import Iterator
from pathlib import Path

from cloudseg.config.batching import MIN_MICRO_BATCH, accumulation_steps, micro_batch_size
from cloudseg.config.model import Config
from cloudseg.config.names import nearest
from cloudseg.config.recipe import FOR_ALL_EPOCHS, Recipe
from cloudseg.config.transforms import augmentation_problems
from cloudseg.config.views import variants_of

SILENT_LOSSES = {"dice", "tversky"}  # losses that are 0 for a class absent from the batch
WHOLE_BATCH = {"lovasz"}  # losses that take the pixels of all classes together
FOR_PLANES = {"bce", "dice", "focal", "symmetric_lovasz"}  # losses that can leave planes out
NOT_SOFT = {"lovasz", "symmetric_lovasz"}  # losses of masks that are 0 or 1
WITH_MOMENTUM = {"sgd", "rmsprop"}


def recipe_problems(recipe: Recipe, config: Config) -> Iterator[str]:
    """Yield what is wrong with a recipe of a config whose keys are each sound."""
    kind, _, source = recipe.start.partition(":")
    if kind == "file" and not Path(source).is_file():
        yield f"start: {source!r} is no file"
    yield from _target_problems(recipe)
    yield from _stage_problems(recipe)
    yield from _dice_problems(recipe)
    for number, part in enumerate(recipe.parts):
        where = f"stages.{number}." if recipe.stages else ""
        yield from (f"{where}{line}" for line in _part_problems(part, config))
    found = [f"augmentation: {line}" for line in augmentation_problems(recipe.steps)]
    yield from found or _view_problems(recipe)
    yield from _batch_problems(recipe)
    yield from _mix_problems(recipe)
    yield from _optimiser_problems(recipe)
    yield from _average_problems(recipe)
    yield from _pseudo_problems(recipe, config)


def _part_problems(part: Recipe, config: Config) -> Iterator[str]:
    yield from _loss_problems(part)
    yield from _class_weight_problems(part, config)
    yield from _schedule_problems(part)


def _target_problems(recipe: Recipe) -> Iterator[str]:
    """Yield what makes no sense for a network that learns brightness, whose one class is its own."""
    for key in ("class_weights", "head", "pseudo"):
        if recipe.brightness is not None and getattr(recipe, key) is not None:
            yield f"{key}: expected none beside `brightness`, which has no labels and one class of its own"


def _loss_problems(recipe: Recipe) -> Iterator[str]:
    terms = recipe.loss.terms
    silent = SILENT_LOSSES - ({"dice"} if _dice_counts_absent_classes(recipe) else set())
    if set(terms) <= silent and recipe.loss_planes == "all":
        yield (
            f"loss: {' and '.join(terms)} alone says nothing about a class that a batch lacks, so the "
            "network never learns to leave one empty; add a loss per pixel, such as {bce: 1, dice: 1}"
        )
    if recipe.loss_planes == "positive":
        if others := set(terms) - FOR_PLANES:
            yield (
                f"loss_planes: {', '.join(sorted(others))} counts over more than a plane, so none can be left out; "
                f"take terms of {', '.join(sorted(FOR_PLANES))}"
            )
        if "dice" in terms and recipe.dice_over != "plane":
            yield f"loss_planes: expected `dice_over: plane` beside it, got {recipe.dice_over}"
    if recipe.soft_targets and (hard := set(terms) & NOT_SOFT):
        blended = "mixup" if recipe.mixup else "pseudo.soft"
        yield f"{blended}: masks lie between 0 and 1, and {', '.join(sorted(hard))} needs 0 or 1; leave one of them out"


def _dice_problems(recipe: Recipe) -> Iterator[str]:
    """Yield that a key is of a Dice that neither the recipe nor one of its stages has."""
    terms = [name for part in recipe.parts for name in part.loss.terms]
    for key in ("dice_smooth", "dice_over"):
        if "dice" not in terms and getattr(recipe, key) not in (None, "class", "all"):
            yield f"{key}: expected the term `dice` in `loss` beside it, got {', '.join(dict.fromkeys(terms))}"


def _dice_counts_absent_classes(recipe: Recipe) -> bool:
    return recipe.dice_over == "all" or bool(recipe.dice_smooth)


def _class_weight_problems(recipe: Recipe, config: Config) -> Iterator[str]:
    weights, classes = recipe.class_weights, config.dataset.classes
    if weights is None:
        return
    if set(weights) != set(classes):
        unknown = [name for name in weights if name not in classes]
        near = nearest(unknown[0], classes) if unknown else ""
        yield f"class_weights: expected one number per class ({', '.join(classes)}), got {', '.join(weights)}{near}"
    elif len(set(weights.values())) == 1:
        yield "class_weights: all are equal, which changes nothing; leave the key out"
    together = set(recipe.loss.terms) & (WHOLE_BATCH | ({"dice"} if recipe.dice_over == "all" else set()))
    if together:
        what = " and ".join("dice over all" if name == "dice" else name for name in sorted(together))
        yield f"class_weights: {what} counts all classes together, which cannot be weighted; leave one of them out"


def _stage_problems(recipe: Recipe) -> Iterator[str]:
    stages = recipe.stages or ()
    if stages and (total := sum(stage.epochs for stage in stages)) != recipe.epochs:
        added = " + ".join(str(stage.epochs) for stage in stages)
        yield f"stages: their epochs are {added} = {total}, expected `epochs` = {recipe.epochs}; change one of them"
    if stages and recipe.patience:
        yield "patience: expected 0 with `stages`, since a training that stops early would leave stages out"
    if recipe.best_by == "loss" and any(stage.loss or stage.loss_planes for stage in stages):
        yield "best_by: losses of stages that differ in `loss` cannot be compared; take dice or dice_nonempty"
    for number, stage in enumerate(stages):
        two = recipe.encoder_learning_rate is not None
        if two and (stage.learning_rate is None) != (stage.encoder_learning_rate is None):
            yield f"stages.{number}: give both `learning_rate` and `encoder_learning_rate`, or none of them"
        if stage.encoder_learning_rate is not None and not two:
            yield f"stages.{number}.encoder_learning_rate: expected the recipe's own `encoder_learning_rate` beside it"
        if stage.augmentation is not None:
            steps = recipe.model_copy(update={"augmentation": stage.augmentation}).steps
            yield from (f"stages.{number}.augmentation: {line}" for line in augmentation_problems(steps))


def _mix_problems(recipe: Recipe) -> Iterator[str]:
    if recipe.cutmix and recipe.mixup and (total := recipe.cutmix.p + recipe.mixup.p) > 1:
        yield f"mixup: an image is mixed in one way at most; expected cutmix.p + mixup.p of at most 1, got {total:g}"


def _optimiser_problems(recipe: Recipe) -> Iterator[str]:
    if recipe.momentum is not None and recipe.optimiser not in WITH_MOMENTUM:
        yield f"momentum: expected `optimiser: {' or '.join(sorted(WITH_MOMENTUM))}` beside it, got {recipe.optimiser}"
    schedules = {part.schedule for part in recipe.parts}
    if recipe.pct_start is not None and "one_cycle" not in schedules:
        yield f"pct_start: expected `schedule: one_cycle` beside it, got {', '.join(sorted(schedules))}"
    if (frozen := recipe.freeze_encoder or 0) > recipe.epochs:
        yield f"freeze_encoder: expected at most the {recipe.epochs} epochs of the training, got {frozen}"
    if frozen == recipe.epochs:
        for key in ("encoder_learning_rate", "layer_decay"):
            if getattr(recipe, key) is not None:
                yield f"{key}: the encoder is frozen in all {frozen} epochs (`freeze_encoder`); leave one of them out"
    if recipe.encoder_learning_rate == recipe.learning_rate:
        yield "encoder_learning_rate: it is that of the whole network, `learning_rate`; leave it out"


def _average_problems(recipe: Recipe) -> Iterator[str]:
    if recipe.average and (many := recipe.average.epochs) > recipe.epochs:
        yield f"average.epochs: expected at most the {recipe.epochs} epochs of the training, got {many}"
    if recipe.average and recipe.average.of == "last" and recipe.patience:
        yield "average.of: nobody knows which epochs are the last where `patience` stops a training; take `of: best`"


def _pseudo_problems(recipe: Recipe, config: Config) -> Iterator[str]:
    pseudo = recipe.pseudo
    if pseudo is None:
        return
    if pseudo.ensemble not in config.ensembles:
        near = nearest(pseudo.ensemble, config.ensembles)
        yield f"pseudo.ensemble: no ensemble {pseudo.ensemble!r} in the config{near}"
    for key in ("certain", "presence"):
        bounds = getattr(pseudo, key)
        if bounds is not None and bounds[0] > bounds[1]:
            yield f"pseudo.{key}: expected the lower probability first, got {list(bounds)}"
    if pseudo.soft and pseudo.min_area is not None:
        yield "pseudo.min_area: probabilities have no components; expected `soft: false` beside it"


def _view_problems(recipe: Recipe) -> list[str]:
    try:
        variants_of(recipe)
    except ValueError as error:
        return [f"tta: {error}"]
    return []


def _batch_problems(recipe: Recipe) -> Iterator[str]:
    """Yield that a device would see fewer images at once than a network can be trained on."""
    size = micro_batch_size(recipe.batch, recipe.gpus, recipe.micro_batch)
    if not accumulation_steps(recipe.batch, recipe.gpus, size):
        divisor = recipe.gpus * max(MIN_MICRO_BATCH, min(size, recipe.batch // recipe.gpus))
        yield (
            f"batch: {recipe.batch} images on {recipe.gpus} device(s), at most {size} at once, leave fewer than "
            f"{MIN_MICRO_BATCH} in a micro-batch; choose a multiple of {divisor}"
        )


def _schedule_problems(recipe: Recipe) -> Iterator[str]:
    """Yield that a training would be stopped before its schedule has brought the learning rate down."""
    if recipe.patience and recipe.schedule in FOR_ALL_EPOCHS:
        yield (
            f"patience: expected 0, got {recipe.patience}: a training that stops before the end of `schedule: "
            f"{recipe.schedule}` leaves its last network unfinished, at a high learning rate; take "
            "`schedule: plateau` to stop early"
        )
