"""Checks that need more than one key of a config, or the files of this machine."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cloudseg.config.classes import RESERVED_NAMES
from cloudseg.config.decision_checks import decision_problems, decisions, ensemble_problems
from cloudseg.config.image_tables import pattern_problem, read_column, read_names, read_split
from cloudseg.config.label_checks import label_problems
from cloudseg.config.model import Config, Dataset, Folds
from cloudseg.config.recipe_checks import recipe_problems
from cloudseg.config.size import CONTEST_SIZE
from cloudseg.errors import ConfigError


def config_problems(config: Config) -> list[str]:
    """List what is wrong with a config whose keys are each sound, one line each."""
    size = config.submission_size or CONTEST_SIZE
    return [
        *_dataset_problems(config),
        *(f"folds.{line}" for line in _folds_problems(config.folds)),
        *(
            f"recipes.{name}.{line}"
            for name, recipe in config.recipes.items()
            for line in recipe_problems(recipe, config)
        ),
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
        *_top_decision_problems(config),
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
    if config.dataset.scenes is not None:
        yield from _scenes_problems(config.dataset)
    if config.dataset.exclude is not None:
        yield from _unreadable("dataset.exclude", lambda: read_names(config.dataset.exclude))
    yield from (f"dataset.{line}" for line in label_problems(config.dataset))


def _scenes_problems(dataset: Dataset) -> Iterator[str]:
    """Yield that crops of scenes are asked for where none are made, or not of all scenes."""
    if dataset.source != "demo":
        yield f"dataset.scenes: the demo's images alone are cut out of scenes, and `source` is {dataset.source}"
    elif dataset.scenes > dataset.train:
        yield f"dataset.scenes: expected at most {dataset.train} (dataset.train), got {dataset.scenes}"


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


def _top_decision_problems(config: Config) -> Iterator[str]:
    """Yield what the decision of experiments alone cannot ask for: they have no members that say whether."""
    presence = config.decision.presence
    if presence is not None and presence.classifiers is not None:
        yield "decision.presence.classifiers: expected in the `decision` of an ensemble with `whether`, not of all"


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
