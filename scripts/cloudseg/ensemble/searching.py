"""Search whether and where together: presence or a plane's area with level and size, or two levels, exactly and nested.

Every choice is the best of all that there are, by the Dice of the very masks that it makes. Dice values of the images
pass by in blocks and go into tables of sums by fold, gate and shape; no image is kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from cloudseg.ensemble.blended import Block
from cloudseg.ensemble.choosing import (
    LEVELS,
    Blocks,
    Chosen,
    choices,
    chosen_of,
    dice_of_class,
    is_open,
    parts,
    with_cut,
    with_cuts,
    without_presence,
)
from cloudseg.ensemble.deciding import NEAR_LEVELS, NEAR_SIZES
from cloudseg.ensemble.gate_tables import GateTable
from cloudseg.ensemble.gates import Gates, NoGates, PresenceGates, TopGates, ascending
from cloudseg.ensemble.masking import ImageRule, PlaneRule
from cloudseg.ensemble.neighbourhood import DIGITS, best_neighbourhood
from cloudseg.ensemble.plane_scores import PlaneScore

TABLES_AT_ONCE = 2**30  # bytes; classes and scores that do not fit together go one after another
NEAR_HIGHS = 2  # neighbours of a high level to each side


@dataclass(frozen=True)
class Space:
    """What a search may choose, per class: always the level and the minimum size, and at most one thing more.

    Parameters
    ----------
    rule : what is held. Levels and minimum sizes in it are replaced, and so is what else may be chosen. Its `best`
        holds for presence that is chosen, too.
    min_sizes : ascending, in pixels.
    scores : of presence, each with 256 thresholds.
    top_levels, top_areas : ascending; an area of 0 is no condition. No level above the top level is chosen with it.
    highs : ascending high levels; one up to the level is no condition.

    Raises
    ------
    ValueError : for numbers that do not ascend, more than one thing to choose, or `best` without a presence.
    """

    rule: ImageRule
    min_sizes: Sequence[int]
    scores: Sequence[PlaneScore] = ()
    top_levels: Sequence[int] = ()
    top_areas: Sequence[int] = ()
    highs: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in ("min_sizes", "top_levels", "top_areas", "highs"):
            ascending(name, getattr(self, name))
        if bool(self.top_levels) != bool(self.top_areas):
            raise ValueError("top_levels, top_areas: expected both or none of them, got one")
        free = {"scores": self.scores, "top_levels": self.top_levels, "highs": self.highs}
        if len(named := [name for name, values in free.items() if values]) > 1:
            raise ValueError(f"space: expected at most one of {', '.join(free)}, got {' and '.join(named)}")
        if self.rule.best != "never" and not (self.scores or self.rule.asks_presence):
            raise ValueError(f"best: expected a score of presence with `{self.rule.best}`, got none")

    @property
    def held(self) -> ImageRule:
        """The rule of what is held alone, without what is to be chosen."""
        if self.scores:
            return without_presence(self.rule)
        if self.top_levels:
            return with_cuts(self.rule, top_level=0, top_area=0)
        return with_cuts(self.rule, high=0) if self.highs else self.rule

    @property
    def gates(self) -> list[Gates]:
        """The gates to try, apart from each other."""
        if self.scores:
            return [PresenceGates(score, self.rule.best) for score in self.scores]
        if self.top_levels:
            return [TopGates(tuple(self.top_levels), tuple(self.top_areas))]
        return [NoGates()]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Levels, high levels (1 where it is held) and minimum sizes."""
        return LEVELS, max(len(self.highs), 1), len(self.min_sizes)

    @property
    def is_joint(self) -> bool:
        """Whether all classes take the same score, since the scores of an image's classes are compared."""
        return bool(self.scores) and self.rule.best != "never"

    @property
    def is_exact(self) -> bool:
        """Whether the tables have the Dice of the masks themselves."""
        fills = any(rule.cut.fill_holes for rule in self.rule.classes.values())
        return not fills and not (self.scores and self.rule.best == "if_empty")


@dataclass(frozen=True)
class Found(Chosen):
    """What a search found, and what its tables say of it.

    Parameters
    ----------
    counts : int (fold,), images.
    tuned : float64 (fold, class), mean Dice of `rule`, which was chosen on these very images.
    nested_dice : float64 (fold, class), mean Dice of what the other folds chose; NaN with fewer than two.
    is_exact : whether these are the Dice of the masks. Not so where `best` is `if_empty` beside a presence that was
        chosen: it is chosen as if it were `always`. Nor where holes are filled, which the search does not see.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    tuned: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    nested_dice: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    is_exact: bool = True


def search(blocks: Blocks, space: Space, folds: Sequence[int], *, threads: int = 1) -> Found:
    """Choose what scores best in its neighbourhood, for each class, on all folds and without each.

    The mean over folds of each fold's mean is looked at in all directions at once: 8 levels, thresholds of presence
    to each side, 2 high levels, 1 minimum size, top level and area. The first of equals is chosen, in the order
    score, top level, threshold or area, level, high level, minimum size.

    Parameters
    ----------
    blocks : gives the images anew, block by block, whenever it is called: once, or more often where the tables of
        all classes and scores take more than 1 GiB.
    folds : those of the blocks.
    threads : the result does not depend on it.

    Returns
    -------
    Found : levels, numerators and sizes of it are whole numbers.

    Raises
    ------
    ValueError : when there is no image to choose on.
    """
    options = [(number, gates) for number in range(len(space.rule.classes)) for gates in space.gates]
    places: Places = {}
    with ThreadPoolExecutor(threads) as pool:
        for some in _fitting(options, space, len(folds)):
            tables = _Tables(space, folds, some, threads, pool.map)
            tables.fill(blocks)
            places |= tables.places()
    return _found(space, folds, tables, places)


Option = tuple[int, Gates]  # the number of a class, and gates to try


def _fitting(options: Sequence[Option], space: Space, folds: int) -> Iterator[list[Option]]:
    """Yield options whose tables fit into memory together, at least one at a time."""
    some: list[Option] = []
    taken = 0
    for option in options:
        needed = GateTable.bytes_of(folds, option[1].shape, space.shape)
        if some and taken + needed > TABLES_AT_ONCE:
            yield some
            some, taken = [], 0
        some.append(option)
        taken += needed
    yield some


class _Place(NamedTuple):
    """Where a choice lies in a table, what its neighbourhood scores, and itself in every fold."""

    place: tuple[int, ...]
    mean: float
    dice: np.ndarray  # (fold,)

    @classmethod
    def of(cls, table: GateTable, gates: Gates, rows: Sequence[int]) -> Self:
        """Return the best place by the mean over some folds."""
        reaches = (*gates.reaches, NEAR_LEVELS, NEAR_HIGHS, NEAR_SIZES)
        allowed = gates.allowed()
        allowed = None if allowed is None else allowed[..., None, None]
        place, mean = best_neighbourhood(table.mean(rows), reaches, allowed)
        return cls(place, mean, table.dice[(slice(None), *place)].copy())


Places = dict[tuple[Option, int], _Place]  # by option and choice


class _Tables:
    """The tables of some options, and what is counted beside them."""

    def __init__(
        self, space: Space, folds: Sequence[int], options: Sequence[Option], threads: int, in_threads: Callable
    ) -> None:
        self.space, self.folds, self.threads, self.in_threads = space, list(folds), threads, in_threads
        self.tables = {option: GateTable(len(folds), option[1].shape, space.shape) for option in options}
        self.counts = np.zeros(len(folds), np.int64)
        self.pixels = 0  # of a plane

    def fill(self, blocks: Blocks) -> None:
        """Add all images, and turn the sums into means."""
        for block in blocks():
            for part in parts(block, int(np.prod(self.space.shape))):
                self._add(part)
        if not self.counts.any():
            raise ValueError("blocks: expected images to choose on, got none")
        list(self.in_threads(lambda table: table.finish(self.counts), self.tables.values()))

    def places(self) -> Places:
        """Return where each choice of `choices` lies in each table."""
        rows = choices(self.folds)
        wanted = [(option, choice) for option in self.tables for choice in range(len(rows))]
        found = self.in_threads(lambda each: _Place.of(self.tables[each[0]], each[0][1], rows[each[1]]), wanted)
        return dict(zip(wanted, found, strict=True))

    def _add(self, part: Block) -> None:
        row, planes, held = self.folds.index(part.fold), part.planes, self.space.held
        self.counts[row] += len(planes)
        self.pixels = planes.shape[2] * planes.shape[3]
        is_asked = is_open(held, planes, part.evidence)[..., None]
        tried = {gates for _, gates in self.tables}  # those of all classes are read at once
        passed = {gates: np.where(is_asked, gates.last_passed(planes, part.evidence), -1) for gates in tried}
        for number in sorted({number for number, _ in self.tables}):
            self._add_class(row, number, planes[:, number], part.truth[:, number], passed)

    def _add_class(
        self, row: int, number: int, planes: np.ndarray, truth: np.ndarray, passed: Mapping[Gates, np.ndarray]
    ) -> None:
        rule = list(self.space.held.classes.values())[number]
        dice = dice_of_class(rule, planes, truth, self.space.min_sizes, self.space.highs, self.threads)
        is_empty = ~truth.any(axis=(1, 2))
        mine = [
            (table, family, passed[gates][:, number, family])
            for (of_class, gates), table in self.tables.items()
            if of_class == number
            for family in range(gates.shape[0])
        ]
        list(self.in_threads(lambda each: each[0].add(row, each[1], each[2], dice, is_empty), mine))


def _found(space: Space, folds: Sequence[int], tables: _Tables, places: Places) -> Found:
    """Return what the best places of all classes stand for."""
    rules, dice = [], []
    for choice in range(len(choices(folds))):
        gates = _best_gates(space, places, choice)
        at = [places[option, choice] for option in enumerate(gates)]
        planes = {
            name: _rule_at(space, held, each, one.place, tables.pixels)
            for (name, held), each, one in zip(space.held.classes.items(), gates, at, strict=True)
        }
        rules.append(ImageRule(planes, space.rule.best))
        dice.append(np.stack([one.dice for one in at], axis=1))
    nested = [dice[1 + row][row] for row in range(len(folds))] if len(folds) > 1 else np.full_like(dice[0], np.nan)
    chosen = chosen_of(rules, folds)
    return Found(chosen.rule, chosen.nested, tables.counts, dice[0], np.array(nested), space.is_exact)


def _best_gates(space: Space, places: Places, choice: int) -> list[Gates]:
    """Return the gates that score best for each class, or for all classes together; of equals the first."""
    numbers = range(len(space.rule.classes))
    means = np.array([[places[(number, gates), choice].mean for gates in space.gates] for number in numbers])
    if space.is_joint:
        means[:] = np.round(means.sum(axis=0), DIGITS)
    return [space.gates[which] for which in np.argmax(means, axis=1)]


def _rule_at(space: Space, held: PlaneRule, gates: Gates, place: tuple[int, ...], pixels: int) -> PlaneRule:
    """Return the rule of a class that a place in a table stands for."""
    family, gate, level, high, size = place
    changes = {"level": level, "min_size": int(space.min_sizes[size])}
    if space.highs:
        changes["high"] = int(space.highs[high]) if space.highs[high] > level else 0
    return gates.rule(with_cut(held, **changes), family, gate, pixels)
