"""Checks that need more than one key of a config, or the files of this machine."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from cloudseg.config.classes import RESERVED_NAMES
from cloudseg.config.decision_checks import decision_problems, decisions, ensemble_problems
from cloudseg.config.model import Config
from cloudseg.config.recipe_checks import recipe_problems
from cloudseg.config.size import CONTEST_SIZE


def config_problems(config: Config) -> list[str]:
    """List what is wrong with a config whose keys are each sound, one line each."""
    size = config.submission_size or CONTEST_SIZE
    return [
        *_dataset_problems(config),
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
