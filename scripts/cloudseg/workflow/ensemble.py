"""An ensemble, runs that are blended and decided, answers for its jobs: stores, weights, decision, disk and work."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import pandas as pd

from cloudseg.config.decision import DecisionEntry
from cloudseg.config.defaults import GRID
from cloudseg.config.fold_names import ALL, Fold
from cloudseg.config.messages import refuse
from cloudseg.config.model import EnsembleEntry, Query, SearchEntry
from cloudseg.config.names import nearest
from cloudseg.config.replicates import without_seed
from cloudseg.config.sheet import experiment_name
from cloudseg.errors import ConfigError
from cloudseg.storage.class_values import values_path
from cloudseg.workflow import paths
from cloudseg.workflow.costs import Work
from cloudseg.workflow.dataset import DatasetPlan
from cloudseg.workflow.decision_rule import decision_rule, looks_at_images, per_class, table_megabytes
from cloudseg.workflow.queries import select
from cloudseg.workflow.sheet import RunKey, Sheet, keys_of_row, run_keys

IMAGES_OF = {"valid": "train", "test": "test"}  # by the split of a blend


@dataclasses.dataclass(frozen=True)
class Member:
    """One probability store of an ensemble: a checkpoint of a run, and its share of the blend."""

    key: RunKey
    checkpoint: str  # best, last or average
    # Its experiment's weight, shared among the experiment's runs and checkpoints: one on all images counts as a fold
    test_weight: float
    valid_weight: float  # shared among the checkpoints alone: one fold of an experiment has not seen an image

    @property
    def run(self) -> str:
        """The run's folder in the folder of runs: encoder/decoder/size/recipe/fold."""
        return self.key.folder.removeprefix("<results>/runs/")

    @property
    def fold(self) -> Fold:
        """The fold that the run did not see; all of one that has seen every image."""
        return self.key.fold

    def store(self, split: str) -> str:
        """Return the path of the store of `split` (valid or test)."""
        return f"{self.key.folder}/{self.checkpoint}-{split}.zarr"

    def values(self, split: str) -> str:
        """Return the path of the store of what its classification head says of the images of `split`."""
        return values_path(self.store(split)).as_posix()

    def weight(self, split: str) -> float:
        """Return the weight, not normalised, among the stores that are blended for an image of `split`."""
        return self.test_weight if split == "test" else self.valid_weight


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """The runs that one query of an ensemble selects, and the weight of each of their experiments."""

    runs: tuple[RunKey, ...]
    weight: float

    def only(self, wanted: Callable[[RunKey], bool]) -> "RunGroup":
        """Return the group of those runs alone that are wanted."""
        return RunGroup(tuple(filter(wanted, self.runs)), self.weight)


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Runs that are blended, and how the blend becomes masks.

    Parameters
    ----------
    dataset : the images, and the config.
    sheet : the experiments that there are.
    name : its own.
    groups : the runs that say where a class is, and their weights.
    whether : the runs that say whether a class is there, likewise; none where those of `groups` do.
    checkpoints : of each run: best, last.
    folds : the folds that every member trained: their images are out of fold for all.
    sharpen : the power that probabilities are raised to before they are averaged, if any.
    decision : as in the config.
    allow_squeezed : blend stores, too, that look like a sigmoid of a sigmoid.
    vote : blend the masks of members, in place of their probabilities.
    search : how members and their weights are chosen among those of `groups`; None takes all.
    """

    dataset: DatasetPlan = dataclasses.field(repr=False, compare=False)
    sheet: Sheet = dataclasses.field(repr=False, compare=False)
    name: str
    groups: tuple[RunGroup, ...]
    checkpoints: tuple[str, ...]
    folds: tuple[int, ...]
    sharpen: float | None
    decision: DecisionEntry
    allow_squeezed: bool
    whether: tuple[RunGroup, ...] = ()
    vote: bool = False
    search: SearchEntry | None = None

    @functools.cached_property
    def members(self) -> tuple[Member, ...]:
        """The stores that are blended, made when a job asks: of thousands of ensembles a run may need one."""
        return _members(self.groups, self.checkpoints)

    @functools.cached_property
    def whether_members(self) -> tuple[Member, ...]:
        """The stores that are blended to say whether a class is there; none where `members` do.

        Where only classifiers say so, the planes are those of `members`, which count as one more of them.
        """
        if not self.whether:
            return ()
        return (
            _members([group.only(self.sheet.gives_masks) for group in self.whether], self.checkpoints) or self.members
        )

    @functools.cached_property
    def classifiers(self) -> tuple[Member, ...]:
        """The members whose classification heads say whether a class is there, too, if they are asked."""
        if self.decision.presence is None or self.decision.presence.classifiers is None:
            return ()
        return _members([group.only(self.sheet.gives_values) for group in self.whether], self.checkpoints)

    @property
    def all_members(self) -> tuple[Member, ...]:
        """The members of any role, once each."""
        return tuple({(member.run, member.checkpoint): member for member in self._of_all_roles}.values())

    @property
    def _of_all_roles(self) -> tuple[Member, ...]:
        return *self.members, *self.whether_members, *self.classifiers

    @property
    def valid_folds(self) -> list[int]:
        """The folds whose images no member has seen."""
        return list(self.folds)

    @property
    def min_sizes(self) -> list[int]:
        """The minimum sizes of the surface: those to tune over, and the fixed ones."""
        config, classes = self.dataset.config, self.dataset.classes
        decisions = [config.decision, self.decision]
        fixed = [size for decision in decisions for size in per_class(decision.min_size, classes)]
        grid = GRID["min_sizes"] if self.decision.how == "grid" else []
        return sorted({*config.min_sizes, *fixed, *grid})

    @property
    def decision_rule(self) -> dict[str, Any]:
        """How the blend becomes masks, with numbers of the blend."""
        return decision_rule(self.decision, self.dataset, self.sharpen)

    @property
    def member_decision_rule(self) -> dict[str, Any]:
        """How the members are decided when they are compared with the ensemble: as it is, not sharpened, no heads."""
        rule = decision_rule(self.decision, self.dataset, None)
        if "presence" in rule:
            rule["presence"].pop("classifiers", None)
        return rule

    @property
    def fixed_min_sizes(self) -> list[int]:
        """The minimum size of each class that the config gives."""
        return per_class(self.decision.min_size, self.dataset.classes)

    @property
    def named_members(self) -> dict[str, Member]:
        """A store of each member by the member's name, in the order in which they are blended.

        A member is a checkpoint of an experiment, named by the smallest row of the sheet with all folds taken of it.
        """
        return {self.name_of(member): member for member in self.members}

    def name_of(self, member: Member) -> str:
        """Return the name that a member has in the leaderboard, as an ensemble of itself."""
        experiment = member.key.experiment
        return self.sheet.name_of(experiment, self._folds_taken[experiment], member.checkpoint)

    @functools.cached_property
    def _folds_taken(self) -> dict[tuple[str, ...], int]:
        """Of each experiment, the folds from the first to the last that takes part."""
        folds: dict[tuple[str, ...], int] = {}
        for member in self.all_members:
            last = 0 if member.fold == ALL else member.fold + 1
            folds[member.key.experiment] = max(folds.get(member.key.experiment, 0), last)
        return folds

    @property
    def unscored(self) -> str | None:
        """How many members on test images have no out-of-fold score, having seen all images; None for none.

        Of a search they are candidates: which of them it chooses, provenance knows.
        """
        if not self.sheet.has_full:
            return None
        unscored = sum(member.fold == ALL for member in self.all_members)
        return f"{unscored} of {len(self.all_members)}{' candidates' if self.search else ''}" if unscored else None

    def decision_of(self, member: Member) -> str:
        """Return the file of the decision that a member has in its own row of the leaderboard."""
        return paths.ensemble_file(self.name_of(member), "decision.yaml")

    @property
    def member_names(self) -> list[str]:
        """The names of the members."""
        return sorted(self.named_members)

    @property
    def compared_names(self) -> list[str]:
        """The names of the members that it is compared with: what says where only has no Dice of its own."""
        return sorted(name for name, member in self.named_members.items() if not self.sheet.says_where_only(member.key))

    @property
    def compared_blends(self) -> list[str]:
        """The out-of-fold probabilities of these, in their order."""
        return [paths.ensemble_file(name, "valid.zarr") for name in self.compared_names]

    @property
    def compared_voters(self) -> list[str]:
        """Where members vote, the decision of each of these in their order; else none."""
        return [paths.ensemble_file(name, "decision.yaml") for name in self.compared_names] if self.vote else []

    @property
    def blended_members(self) -> list[dict[str, Any]]:
        """Name, experiment and weight among the out-of-fold stores of each member, in the order of the blend.

        And that it says where only, of members of which that is true.
        """
        return [
            {"name": name, "experiment": "/".join(member.key.experiment), "weight": member.valid_weight}
            | ({"says_where_only": True} if self.sheet.says_where_only(member.key) else {})
            for name, member in self.named_members.items()
        ]

    @property
    def member_blends(self) -> list[str]:
        """The out-of-fold probabilities of the members, in the order of `member_names`."""
        return [paths.ensemble_file(name, "valid.zarr") for name in self.member_names]

    @property
    def member_decisions(self) -> list[str]:
        """How the members become masks in their own rows of the leaderboard, in the order of `member_names`."""
        return [paths.ensemble_file(name, "decision.yaml") for name in self.member_names]

    @property
    def test_blend(self) -> list[str]:
        """The probabilities of test images; none where there are no test images."""
        return [paths.ensemble_file(self.name, "test.zarr")] if self.dataset.has_test else []

    @property
    def submission(self) -> list[str]:
        """The submission; none where there are no test images."""
        return [paths.ensemble_file(self.name, "submission.csv")] if self.dataset.has_test else []

    @property
    def presence(self) -> list[str]:
        """What says whether the classes of out-of-fold images are there, where members of its own do; else none."""
        return self._presence_of("valid")

    @property
    def test_presence(self) -> list[str]:
        """The same of test images."""
        return self._presence_of("test")

    def _presence_of(self, split: str) -> list[str]:
        is_there = self.whether and (split == "valid" or self.dataset.has_test)
        return [paths.ensemble_file(self.name, f"{split}-whether.zarr")] if is_there else []

    @property
    def selection(self) -> list[str]:
        """Where members are searched for, what was chosen; else none."""
        return [paths.ensemble_file(self.name, "selection.yaml")] if self.search else []

    @property
    def voters(self) -> list[str]:
        """Where members vote, the decision of each in the order of `member_names`; else none."""
        return self.member_decisions if self.vote else []

    @property
    def black(self) -> list[str]:
        """Where out-of-fold images are black, if probabilities are set to 0 there; else none."""
        return Blend(self, "valid").black

    @property
    def blended_by(self) -> list[str]:
        """What makes its blend more than a mean of all members, as the config calls it."""
        asked = {
            "whether": bool(self.whether),
            "vote": self.vote,
            "search": self.search is not None,
            "black": self.decision.black is not None,
        }
        return [word for word, is_asked in asked.items() if is_asked]

    @property
    def search_settings(self) -> dict[str, Any]:
        """How members are searched for."""
        return self.search.model_dump(mode="json", exclude_none=True)

    @property
    def comparison_work(self) -> Work:
        """What the comparison with the members has to do."""
        one = self.decision_work
        # A comparison counts its own surfaces, so a decision takes no more of it than of `decide`
        masks = len(self.member_names) * self.dataset.train_work.masks
        return dataclasses.replace(one, masks=masks)

    @property
    def decision_work(self) -> Work:
        """What deciding has to do."""
        images, rule = self.dataset.train_work, self.decision_rule
        if not looks_at_images(rule):
            return images
        # 3 ms a plane of the contest's grid, against 1 where the surface says it all
        megabytes = table_megabytes(rule, len(self.folds))
        return dataclasses.replace(images, masks=3 * images.masks, megabytes=megabytes)


@dataclasses.dataclass(frozen=True)
class Blend:
    """The blend of an ensemble's stores for a split: valid (the folds that no member has seen) or test.

    Parameters
    ----------
    ensemble : the ensemble.
    split : valid or test.
    role : where, of the members whose blend becomes masks, or whether, of those that say whether a class is there.
    """

    ensemble: Ensemble
    split: str
    role: str = "where"

    @functools.cached_property
    def blended(self) -> list[Member]:
        """The members that take part."""
        ensemble = self.ensemble
        members = ensemble.whether_members if self.role == "whether" else ensemble.members
        return [member for member in members if self.split == "test" or member.fold in ensemble.folds]

    @property
    def stores(self) -> list[str]:
        """The stores that are read."""
        return [member.store(self.split) for member in self.blended]

    @property
    def members(self) -> list[dict[str, Any]]:
        """Name, fold and weight of each store, in the order of `stores`; behind them of each classification head."""
        stores = [
            self._named(member) | ({"candidate": self.ensemble.name_of(member)} if self.ensemble.search else {})
            for member in self.blended
        ]
        return stores + [self._named(member) | {"gives": "values"} for member in self.classifiers]

    def _named(self, member: Member) -> dict[str, Any]:
        name = f"{member.run}/{member.checkpoint}"
        return {"store": name, "fold": member.fold, "weight": member.weight(self.split)}

    @property
    def classifiers(self) -> list[Member]:
        """The members whose classification heads take part."""
        heads = self.ensemble.classifiers if self.role == "whether" else ()
        return [member for member in heads if self.split == "test" or member.fold in self.ensemble.folds]

    @property
    def further_inputs(self) -> dict[str, list[str]]:
        """Inputs that most blends have not: `values` of classification heads."""
        values = [member.values(self.split) for member in self.classifiers]
        return {"values": values} if values else {}

    @property
    def sharpen(self) -> float | None:
        """The power that probabilities are raised to before they are averaged."""
        return self.ensemble.sharpen

    @property
    def voters(self) -> list[str]:
        """Where members vote, the decision of each in the order of `stores`; else none."""
        return [self.ensemble.decision_of(member) for member in self.blended] if self.ensemble.vote else []

    @property
    def selection(self) -> list[str]:
        """Where members are searched for, what was chosen; else none."""
        return self.ensemble.selection

    @property
    def black(self) -> list[str]:
        """Where images are black, if probabilities are set to 0 there; else none."""
        return [paths.black_store(*self.black_images)] if self.black_images else []

    @property
    def black_images(self) -> tuple[str, int] | None:
        """The split and the grey value of the images whose black counts, if it does."""
        grey = self.ensemble.decision.black
        return None if grey is None else (IMAGES_OF[self.split], grey)

    @property
    def allow_squeezed(self) -> bool:
        """Whether stores that look like a sigmoid of a sigmoid are blended all the same."""
        return self.ensemble.allow_squeezed

    @property
    def folds(self) -> list[int]:
        """The folds whose images no member has seen."""
        return self.ensemble.valid_folds

    @property
    def megabytes(self) -> int:
        """About how many MB the blend takes."""
        dataset = self.ensemble.dataset
        valid = dataset.counts["train"] * len(self.ensemble.folds) / dataset.folds
        return dataset.probability_megabytes(dataset.counts["test"] if self.split == "test" else valid)

    @property
    def work(self) -> Work:
        """What blending has to do."""
        images = self.ensemble.dataset.test_work if self.split == "test" else self.ensemble.dataset.train_work
        return dataclasses.replace(images, masks=len(self.stores) * images.masks)


def ensembles_of(dataset: DatasetPlan, sheet: Sheet) -> dict[str, Ensemble]:
    """Return the ensembles of a config, and each experiment's checkpoints as ensembles of themselves, by name.

    Raises
    ------
    ConfigError : all problems of the config's ensembles, one line each.
    """
    # Sorted: the order in which a config or a sheet lists things must not change a parameter.
    return dict(sorted((_experiments_as_ensembles(dataset, sheet) | _ensembles_of_config(dataset, sheet)).items()))


def _experiments_as_ensembles(dataset: DatasetPlan, sheet: Sheet) -> dict[str, Ensemble]:
    ensembles = {}
    for row in sheet.predicted:
        keys = tuple(keys_of_row(row))
        if not sheet.gives_masks(keys[0]):
            continue
        for checkpoint in dataset.config.recipes[row.recipe].checkpoints:
            name = experiment_name(row.experiment, row.folds, checkpoint)
            ensembles[name] = Ensemble(
                dataset,
                sheet,
                name,
                groups=(RunGroup(keys, 1.0),),
                checkpoints=(checkpoint,),
                folds=tuple(key.fold for key in keys),
                sharpen=None,
                decision=dataset.config.decision,
                allow_squeezed=dataset.config.smoke,
            )
    return ensembles


def _ensembles_of_config(dataset: DatasetPlan, sheet: Sheet) -> dict[str, Ensemble]:
    config = dataset.config
    lines, ensembles = [], {}
    keys = run_keys(sheet.runs)
    gives_masks = [sheet.gives_masks(key) for key in keys]
    columns, with_masks = _columns(sheet.runs), _columns(sheet.runs[gives_masks])
    keys_with_masks = list(compress(keys, gives_masks))
    for name, entry in config.ensembles.items():
        try:
            chosen = _groups(entry.members or entry.where, with_masks, keys_with_masks)
            whether = _groups(entry.whether, columns, keys)
            ensembles[name] = _ensemble(dataset, sheet, name, chosen, whether, entry)
        except ValueError as error:
            lines.append(f"ensembles.{name}: {error}")
    known = {"submission": list(config.ensembles), "baseline": [*map(without_seed, config.ensembles)]}
    for key, names in known.items():
        if (named := getattr(config, key)) is not None and named not in names:
            lines.append(f"{key}: no ensemble {named!r}{nearest(named, names)}")
    refuse(lines)
    return ensembles


def _columns(runs: pd.DataFrame) -> dict[str, Any]:
    return {name: runs[name].to_numpy() for name in runs}


def _groups(queries: Sequence[Query] | None, columns: dict[str, Any], keys: Sequence[RunKey]) -> tuple[RunGroup, ...]:
    """Return the runs of each query; it takes a run once: rows of the sheet that differ in `folds` alone share runs."""
    groups = tuple(
        RunGroup(tuple(dict.fromkeys(compress(keys, select(columns, one.query)))), one.weight) for one in queries or ()
    )
    selected = [key for group in groups for key in group.runs]
    if len(set(selected)) < len(selected):
        twice = next(key for key in selected if selected.count(key) > 1)
        raise ConfigError(
            f"one run is selected twice: {'/'.join([*twice[:4], twice.fold_name])}; make the queries exclude each other"
        )
    return groups


def _ensemble(
    dataset: DatasetPlan,
    sheet: Sheet,
    name: str,
    groups: tuple[RunGroup, ...],
    whether: tuple[RunGroup, ...],
    entry: EnsembleEntry,
) -> Ensemble:
    decision = entry.decision or dataset.config.decision
    folds = _common_folds(groups, *([whether] if whether else []))
    if not folds and (decision.how != "fixed" or entry.search):
        what = "search among" if entry.search else f"{decision.how} on"
        instead = "name members that share one" if entry.search else "use `how: fixed`"
        raise ConfigError(f"nothing to {what}: no fold was trained by all members; {instead}")
    _require_checkpoints((*groups, *whether), entry.checkpoints, sheet)
    _require_classifiers(whether, decision, sheet)
    votes_at_choice = entry.blend == "vote" and dataset.config.decision.how != "fixed"
    if len(folds) == 1 and decision.how == "fixed" and (entry.search or votes_at_choice):
        what = "the search chooses" if entry.search else "members choose the levels of their votes"
        raise ConfigError(
            f"{what} on the one fold that all members trained, which `how: fixed` scores as if nothing was chosen; "
            "train another fold, or use `how: tune`, whose score on one fold is said to be optimistic"
        )
    return Ensemble(
        dataset,
        sheet,
        name,
        groups=groups,
        checkpoints=entry.checkpoints,
        folds=folds,
        sharpen=entry.sharpen,
        decision=decision,
        # In a smoke run, a network of three epochs may well answer about 0.5 everywhere
        allow_squeezed=dataset.config.smoke or entry.allow_squeezed,
        whether=whether,
        vote=entry.blend == "vote",
        search=entry.search,
    )


def _require_checkpoints(groups: Sequence[RunGroup], checkpoints: Sequence[str], sheet: Sheet) -> None:
    """Raise unless every run keeps the checkpoints that take part."""
    for key in (key for group in groups for key in group.runs):
        if missing := set(checkpoints) - set(sheet.recipe_of(key).checkpoints):
            raise ConfigError(
                f"checkpoints: recipe {key.recipe} keeps no {', '.join(sorted(missing))}; give it `average: {{}}`, or "
                "select other runs"
            )


def _require_classifiers(whether: Sequence[RunGroup], decision: DecisionEntry, sheet: Sheet) -> None:
    """Raise where classification heads are asked that are not there, or those of networks without masks are not."""
    keys = [key for group in whether for key in group.runs]
    weight = decision.presence and decision.presence.classifiers
    if weight is not None and not any(map(sheet.gives_values, keys)):
        raise ConfigError(
            "decision.presence.classifiers: no run of `whether` has a classification head; give its recipe a `head`, "
            "or leave the key out"
        )
    if weight is None and (alone := [key for key in keys if not sheet.gives_masks(key)]):
        raise ConfigError(
            f"whether: {'/'.join(alone[0].experiment)} has no masks, only a classification head; say how much it "
            "weighs by decision.presence.classifiers"
        )


def _common_folds(*roles: Sequence[RunGroup]) -> tuple[int, ...]:
    """Return the folds that every experiment has trained in each of its roles: where, and whether."""
    trained: dict[tuple[int, tuple[str, ...]], set[int]] = {}
    for role, groups in enumerate(roles):
        for key in (key for group in groups for key in group.runs):
            # The folds of one role say nothing of images that are out of fold for the other
            folds = trained.setdefault((role, key.experiment), set())
            folds |= {key.fold} - {ALL}
    return tuple(sorted(set.intersection(*trained.values())))


def _members(groups: Sequence[RunGroup], checkpoints: Sequence[str]) -> tuple[Member, ...]:
    """Share each experiment's weight among the stores that are blended; sorted, so that row order is no change.

    A test image is blended from all runs of an experiment, a validation image from the one fold that has not seen it,
    and on both the experiment weighs the same: what the queries that select some of its runs give it, summed.
    """
    weights: dict[tuple[str, ...], float] = {}
    shares: dict[RunKey, float] = {}
    for group in groups:
        folds = Counter(key.experiment for key in group.runs)
        for experiment in folds:
            weights[experiment] = weights.get(experiment, 0) + group.weight
        shares |= {key: group.weight / (folds[key.experiment] * len(checkpoints)) for key in group.runs}
    members = [
        Member(key, checkpoint, share, weights[key.experiment] / len(checkpoints))
        for key, share in shares.items()
        for checkpoint in checkpoints
    ]
    return tuple(sorted(members, key=lambda member: (member.run, member.checkpoint)))
