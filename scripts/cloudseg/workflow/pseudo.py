"""Labels of test images for the trainings of one fold, made by the networks of that fold alone."""

import dataclasses
from typing import Any

from cloudseg.config.messages import refuse
from cloudseg.config.model import Config
from cloudseg.workflow import paths
from cloudseg.workflow.costs import Work
from cloudseg.workflow.dataset import DatasetPlan
from cloudseg.workflow.ensemble import Ensemble, Member
from cloudseg.workflow.run import Run
from cloudseg.workflow.sheet import RunKey, Sheet


@dataclasses.dataclass(frozen=True)
class PseudoLabels:
    """The labels that the trainings of a recipe take of test images.

    Parameters
    ----------
    ensemble : whose members make them.
    recipe : that asks for them.
    size : at which its images train or are augmented.
    fold : of the trainings, and of the members.
    """

    ensemble: Ensemble
    recipe: str
    size: str
    fold: int

    @property
    def _dataset(self) -> DatasetPlan:
        return self.ensemble.dataset

    @property
    def members(self) -> list[Member]:
        """The members that make them: those of the fold."""
        return [member for member in self.ensemble.members if member.fold == self.fold]

    @property
    def stores(self) -> list[str]:
        """What these say of the test images."""
        return [member.store("test") for member in self.members]

    @property
    def named_members(self) -> list[dict[str, Any]]:
        """Name, fold and weight of each store."""
        return [
            {"store": f"{member.run}/{member.checkpoint}", "fold": member.fold, "weight": member.valid_weight}
            for member in self.members
        ]

    @property
    def name(self) -> str:
        """What they are called among those of all ensembles."""
        return f"{self.ensemble.name}/{self.recipe}/{self.size}/fold{self.fold}"

    @property
    def store(self) -> str:
        """The store that they are in."""
        return paths.pseudo_labels(self.ensemble.name, self.recipe, self.size, self.fold)

    @property
    def pixels(self) -> str:
        """The store of the test images that will train."""
        return paths.pixel_store("test", self.size)

    @property
    def settings(self) -> dict[str, Any]:
        """How they are chosen and made."""
        return self._dataset.config.recipes[self.recipe].pseudo.model_dump(mode="json")

    @property
    def min_area(self) -> float:
        """The smallest area of a component, as a share of the image, where the settings say none."""
        return self._dataset.config.recipes[self.recipe].validation.min_area or 0

    @property
    def work(self) -> Work:
        """What making them has to do: test images are blended twice, to choose them and to label them."""
        images = self._dataset.test_work
        return dataclasses.replace(images, masks=2 * len(self.members) * images.masks)


def refuse_dishonest_labels(config: Config, sheet: Sheet, ensembles: dict[str, Ensemble]) -> None:
    """Raise where a network would see, through a label, what it is scored on, or where no network could begin.

    Raises
    ------
    ConfigError : all problems, one line each.
    """
    lines = []
    for name in sheet.recipes:
        if pseudo := config.recipes[name].pseudo:
            ensemble = ensembles[pseudo.ensemble]
            problems = [*_choices(ensemble, config), *_folds(name, ensemble, sheet), *_circle(name, ensembles, config)]
            lines += [f"recipes.{name}.pseudo.ensemble: {pseudo.ensemble} {problem}" for problem in problems]
    refuse(lines)


def _choices(ensemble: Ensemble, config: Config) -> list[str]:
    """Return what of an ensemble was chosen by labels of the fold that its members are scored on."""
    entry = config.ensembles[ensemble.name]
    asked = {"whether": entry.whether, "search": entry.search, "blend: vote": entry.blend == "vote"}
    problems = [f"has `{key}`; expected a plain mean of `members`" for key, value in asked.items() if value]
    heeding = {key.recipe for key in _with_starts(ensemble) if ensemble.sheet.recipe_of(key).heeds_validation}
    problems += [
        f"goes back to {name}, whose last epoch depends on labels of the fold (`schedule: plateau` or `patience`); "
        "take a recipe with neither"
        for name in sorted(heeding)
    ]
    averages = [ensemble.sheet.recipe_of(key).average for key in _keys(ensemble)]
    of_best = any(average is not None and average.of == "best" for average in averages)
    chosen = [name for name in ensemble.checkpoints if name == "best" or (name == "average" and of_best)]
    if chosen:
        problems.append(
            f"has `checkpoints: [{', '.join(ensemble.checkpoints)}]`; {chosen[0]} is chosen by labels of the fold, so "
            "take [last]"
        )
    return problems


def _folds(recipe: str, ensemble: Ensemble, sheet: Sheet) -> list[str]:
    """Return which folds are to be trained that not all members have."""
    rows = [row for row in sheet.rows if row.recipe == recipe]
    problems = []
    if missing := sorted({fold for row in rows for fold in range(row.folds)} - set(ensemble.folds)):
        problems.append(f"has not trained fold {missing[0]} with all its members, which {recipe} is trained on")
    if any(row.full for row in rows):
        problems.append("labels for a fold; a row with `full` has none, so leave one of them out")
    return problems


def _circle(recipe: str, ensembles: dict[str, Ensemble], config: Config) -> list[str]:
    """Return whether the labels of a recipe would be made by networks that wait for them."""
    seen, waiting = set(), [recipe]
    while waiting:
        pseudo = config.recipes[waiting.pop()].pseudo
        recipes = {key.recipe for key in _keys(ensembles[pseudo.ensemble])} if pseudo else set()
        if recipe in recipes:
            return [f"has members of {recipe}, which would wait for themselves; select others"]
        waiting += recipes - seen
        seen |= recipes
    return []


def _with_starts(ensemble: Ensemble) -> list[RunKey]:
    """Return the runs of an ensemble, and those that they start from, and so on."""
    keys = _keys(ensemble)
    for key in keys:
        start = Run(ensemble.dataset, key).start_run
        keys += [start] if start and start not in keys else []
    return keys


def _keys(ensemble: Ensemble) -> list[RunKey]:
    return [key for group in ensemble.groups for key in group.runs]
