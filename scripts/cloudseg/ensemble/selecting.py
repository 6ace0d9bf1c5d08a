"""Search for an ensemble: which members, how often each, and which power of p is averaged.

Greedy forward selection with replacement (Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble selection from libraries
of models, ICML 2004), begun with the best single member. A step adds the candidate that gains most, so the weights are
counts. It is scored without minimum sizes, in one pass over histograms; the decision is chosen later, on the blend.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cloudseg.ensemble.candidates import MEMORY, Candidates
from cloudseg.ensemble.selection import Choice, Score, Selection, Step
from cloudseg.postprocess.arguments import whole_number

STEPS = 24  # members of a blend at most
TOLERANCE = 1e-4  # Dice that a step must gain: far below what folds differ by


def select(
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    truth: str | Path,
    *,
    powers: Sequence[float | None] = (None,),
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
    reduce: int | None = None,
    memory: int = MEMORY,
    threads: int = 1,
) -> Selection:
    """Choose members and weights on out-of-fold probabilities; see `Candidates.read` and `choose`.

    Parameters
    ----------
    paths, members, truth, reduce, memory, threads : as of `Candidates.read`.
    powers, steps, tolerance : as of `choose`.
    """
    candidates = Candidates.read(paths, members, truth, reduce=reduce, memory=memory, threads=threads)
    return choose(candidates, powers=powers, steps=steps, tolerance=tolerance)


def choose(
    candidates: Candidates,
    *,
    powers: Sequence[float | None] = (None,),
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> Selection:
    """Choose members, weights and the power of p, on all folds and without each of them.

    Blends of one ensemble must be of one power, for one threshold to cut them alike: the one that all folds choose. The
    honest score is of choices that are free in it.

    Parameters
    ----------
    candidates : what may be blended.
    powers : to choose from, each above 0; None is the plain mean. Of equal Dice, the first is taken.
    steps : members at most, counted as often as they are in the blend.
    tolerance : a search ends when no candidate gains more Dice than this.
    """
    steps = whole_number("steps", steps, 1)
    ran = [_search(candidates, power, steps, tolerance) for power in powers]
    best = [max(of_powers, key=lambda search: search.path[-1].in_sample) for of_powers in zip(*ran, strict=True)]
    of_power = next(searches for searches in ran if searches[0] is best[0])
    chosen, *nested = (Choice(search.power, tuple(search.path)) for search in of_power)
    return Selection(
        tuple(candidates.names),
        candidates.images,
        candidates.reduce,
        chosen,
        dict(zip(candidates.folds, nested, strict=False)),  # none of one fold
        {
            "chosen": _score(best[0].path[-1], [search.path[-1] for search in best[1:]]),
            "mean": _mean_of_all(candidates),
            "single": _best_single(candidates),
        },
    )


@dataclass
class Search:
    """A greedy search under way.

    Parameters
    ----------
    names : of the candidates.
    seen, held_out : which folds, by number, it looks at, and which it does not: one or none.
    power : of p that is averaged.
    """

    names: Sequence[str]
    seen: Sequence[int]
    held_out: Sequence[int]
    power: float | None
    counts: np.ndarray = field(init=False)
    path: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = np.zeros(len(self.names), int)

    def add(self, dice: np.ndarray, tolerance: float) -> bool:
        """Add the candidate that gains most, the first of equal ones; return whether one gains more than the tolerance.

        Parameters
        ----------
        dice : (K, F, C, 256) of the blend with each candidate added, the mean over the images of a fold.
        tolerance : the first member need not gain it.
        """
        means = dice[:, self.seen].mean(axis=1)
        scores = means.max(axis=2).mean(axis=1)
        best = int(scores.argmax())
        if self.path and scores[best] - self.path[-1].in_sample <= tolerance:
            return False
        levels = means[best].argmax(axis=1)
        others = [float(dice[best, fold, range(len(levels)), levels].mean()) for fold in self.held_out]
        self.path.append(Step(self.names[best], float(scores[best]), others[0] if others else None))
        self.counts[best] += 1
        return True


def _search(candidates: Candidates, power: float | None, steps: int, tolerance: float) -> list[Search]:
    """Run the searches on all folds and without each of them, step by step side by side.

    Searches whose blends are the same so far, as the first steps often are, share what is counted.
    """
    searches = active = _searches(candidates, power)
    for _ in range(steps):
        active = [search for alike in _alike(active) for search in _extended(alike, candidates, tolerance)]
    return searches


def _searches(candidates: Candidates, power: float | None = None) -> list[Search]:
    """Return the search on all folds and, where there are two or more, those without each of them."""
    numbers = range(len(candidates.folds))
    nested = [Search(candidates.names, [n for n in numbers if n != out], [out], power) for out in numbers]
    return [Search(candidates.names, list(numbers), [], power), *(nested if len(numbers) > 1 else [])]


def _alike(searches: Sequence[Search]) -> list[list[Search]]:
    """Return searches by the blend that they have come to."""
    groups: dict[bytes, list[Search]] = {}
    for search in searches:
        groups.setdefault(search.counts.tobytes(), []).append(search)
    return list(groups.values())


def _extended(alike: Sequence[Search], candidates: Candidates, tolerance: float) -> list[Search]:
    """Take a step in searches with one blend; return those that go on."""
    dice = candidates.dice(alike[0].counts, alike[0].power, range(len(candidates.names)))
    return [search for search in alike if search.add(dice, tolerance)]


def _best_single(candidates: Candidates) -> Score:
    every = range(len(candidates.names))
    return _score_of_best(candidates, candidates.dice([0 for _ in every], None, every))


def _mean_of_all(candidates: Candidates) -> Score:
    last = len(candidates.names) - 1
    return _score_of_best(candidates, candidates.dice([1] * last + [0], None, [last]))


def _score_of_best(candidates: Candidates, dice: np.ndarray) -> Score:
    """Return the score of the best of some blends, dice (A, F, C, 256), chosen as a step is."""
    searches = _searches(candidates)
    for search in searches:
        search.add(dice, 0)
    whole, *nested = (search.path[-1] for search in searches)
    return _score(whole, nested)


def _score(last: Step, nested: Sequence[Step]) -> Score:
    return Score(last.in_sample, float(np.mean([step.held_out for step in nested])) if nested else None)
