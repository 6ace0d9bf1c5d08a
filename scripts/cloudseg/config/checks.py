"""Checks that need more than one key of a config, or the files of this machine."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cloudseg.config.batching import MIN_MICRO_BATCH, accumulation_steps, micro_batch_size
from cloudseg.config.classes import RESERVED_NAMES
from cloudseg.config.decision_checks import decision_problems, decisions, ensemble_problems
from cloudseg.config.image_tables import pattern_problem, read_column, read_names, read_split
from cloudseg.config.model import Config, Folds
from cloudseg.config.recipe import FOR_ALL_EPOCHS, Recipe
from cloudseg.config.size import CONTEST_SIZE
from cloudseg.config.transforms import augmentation_problems
from cloudseg.config.views import variants_of
from cloudseg.errors import ConfigError

SILENT_LOSSES = {"dice", "tversky"}  # losses that are 0 for a class absent from the batch


def config_problems(config: Config) -> list[str]:
    """List what is wrong with a config whose keys are each sound, one line each."""
    size = config.submission_size or CONTEST_SIZE
    return [
        *_dataset_problems(config),
        *(f"folds.{line}" for line in _folds_problems(config.folds)),
        *(f"recipes.{name}.{line}" for name, recipe in config.recipes.items() for line in _recipe_problems(recipe)),
        *(
            f"{key}.{line}"
            for key, decision in decisions(config).items()
            for line in decision_problems(
                decision, config.dataset.classes, math.prod(size.pixels), config.min_sizes or ()
            )
        ),
        *(
            f"ensembles.{name}.{line}"
            for name, entry in config.ensembles.items()
            for line in ensemble_problems(entry, entry.decision or config.decision, of_members=config.decision)
        ),
        *_submission_size_problems(config),
        *_rate_problems(config),
    ]


def folder_problems(results: Path) -> list[str]:
    """List files where a folder of results should be, and folders that cannot be written to."""
    parts = ("dataset", "weights", "runs", "ensembles", "report", "logs")
    folders = [Path(), results.parent, results, *(results / part for part in parts)]
    in_the_way = [folder for folder in folders if folder.exists() and not folder.is_dir()]
    locked = [folder for folder in folders if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK)]
    return [
        *(f"{folder}: a file is where the results' folder should be; move it away" for folder in in_the_way),
        *(f"{folder.resolve()}: not writable; results are written below the working directory" for folder in locked),
    ]


def fixed_min_sizes(config: Config) -> dict[str, dict[str, int]]:
    """Return the minimum size of each class in every decision that takes the numbers of the config, by its key."""
    sizes = {}
    for key, decision in decisions(config).items():
        given = decision.min_size
        if decision.how == "fixed":
            sizes[key] = dict(given) if isinstance(given, dict) else dict.fromkeys(config.dataset.classes, given)
    return {key: given for key, given in sizes.items() if any(given.values())}


def _dataset_problems(config: Config) -> Iterator[str]:
    root = config.dataset.root
    if config.dataset.source == "path" and not Path(root).is_dir():
        yield f"dataset.root: {root!r} is no folder; give the one that holds train.csv"
    for name in sorted(RESERVED_NAMES & set(config.dataset.classes)):
        yield f"dataset.classes: {name!r} has a meaning of its own in the tables; call the class otherwise"
    if config.dataset.exclude is not None:
        yield from _unreadable("dataset.exclude", lambda: read_names(config.dataset.exclude))


def _folds_problems(folds: Folds) -> Iterator[str]:
    """Yield what is wrong with the groups of images, and with a split of the user's own."""
    if folds.table is not None and folds.groups is None:
        yield "table: says nothing without `folds.groups`, the name of its column of groups"
    elif folds.table is not None:
        yield from _unreadable("table", lambda: read_column(folds.table, folds.groups))
    elif folds.groups is not None and (problem := pattern_problem(folds.groups)):
        yield f"groups: {problem}; to name a column of a table, give the table as `folds.table`"
    if folds.file is not None:
        yield from _unreadable("file", lambda: read_split(folds.file, folds.count))
        if folds.stratify_by != "labels":
            yield (
                f"stratify_by: expected labels, got {folds.stratify_by}: `folds.file` says which image is in which "
                "fold, so nothing is left to be balanced"
            )


def _unreadable(key: str, read: Callable[[], object]) -> Iterator[str]:
    """Yield what is wrong with a file that a key names."""
    try:
        read()
    except ConfigError as error:
        yield f"{key}: {error}"


def _recipe_problems(recipe: Recipe) -> Iterator[str]:
    """Yield what is wrong with a recipe whose keys are each sound."""
    kind, _, source = recipe.start.partition(":")
    if kind == "file" and not Path(source).is_file():
        yield f"start: {source!r} is no file"
    silent = SILENT_LOSSES - ({"dice"} if recipe.dice_over == "all" else set())
    if set(recipe.loss.terms) <= silent:
        yield (
            f"loss: {' and '.join(recipe.loss.terms)} alone says nothing about a class that a batch lacks, so the "
            "network never learns to leave one empty; add a loss per pixel, such as {bce: 1, dice: 1}"
        )
    found = [f"augmentation: {line}" for line in augmentation_problems(recipe.steps)]
    yield from found or _view_problems(recipe)
    yield from _batch_problems(recipe)
    yield from _schedule_problems(recipe)


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


def _submission_size_problems(config: Config) -> Iterator[str]:
    if config.dataset.source == "path" and config.submission_size is None:
        yield (
            "submission_size: the key is missing; write the height x width of the masks in your submission, such as "
            "`submission_size: 512x512` (the size of the images, unless a contest asks for another): all "
            "probabilities, minimum sizes and scores are of that grid"
        )


def _rate_problems(config: Config) -> Iterator[str]:
    rates, classes = config.class_rates, config.dataset.classes
    if rates is not None and set(rates) != set(classes):
        yield f"class_rates: expected one number per class ({', '.join(classes)}), got {', '.join(rates) or 'none'}"
