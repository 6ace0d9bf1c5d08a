"""What a search chose for an ensemble, and how far it may be believed: `selection.yaml`."""

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import pandas as pd
import yaml

from cloudseg.storage.files import damaged, read_text

PATH_COLUMNS = ["chosen_without", "power", "step", "candidate", "in_sample", "held_out"]


class Step(NamedTuple):
    """A step of a search.

    Parameters
    ----------
    candidate : the member that was added.
    in_sample : Dice of the blend on the images that the step looked at, at the best level of each class.
    held_out : its Dice at these levels on the fold that was not looked at; None where all were.
    """

    candidate: str
    in_sample: float
    held_out: float | None = None


class Score(NamedTuple):
    """The Dice of a blend.

    Parameters
    ----------
    in_sample : on the images that it was chosen on; of what is not chosen, levels are still.
    honest : the mean over folds of the Dice on the fold of what the others choose, levels included; None of one fold.
    """

    in_sample: float
    honest: float | None


@dataclass(frozen=True)
class Choice:
    """What one search chose.

    Parameters
    ----------
    power : to which probabilities are raised before the mean; None for the plain mean.
    path : its steps, the first of which is the best single member; at least one.
    """

    power: float | None
    path: tuple[Step, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How often each chosen member is in the blend, in the order in which they came: their weights.

        Examples
        --------
        >>> Choice(None, (Step("a", 0.5), Step("b", 0.6), Step("a", 0.7))).counts
        {'a': 2, 'b': 1}
        """
        return dict(Counter(step.candidate for step in self.path))

    def plain(self) -> dict[str, Any]:
        """Return what `selection.yaml` holds; the path is the authority and counts are for the reader."""
        path = [
            {name: value for name, value in step._asdict().items() if value is not None or name != "held_out"}
            for step in self.path
        ]
        return {"power": self.power, "counts": self.counts, "path": path}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the choice that `plain` made; anything else raises a KeyError, TypeError or ValueError."""
        choice = cls(_number(plain["power"]), tuple(_step(step) for step in plain["path"]))
        if choice.counts != plain["counts"] or not choice.path:
            raise ValueError(f"counts: expected those of the path, {choice.counts}, got {plain['counts']}")
        return choice


@dataclass(frozen=True)
class Selection:
    """The members, weights and power that a search chose on out-of-fold images.

    Parameters
    ----------
    candidates : names of the members that it could choose from.
    images : out-of-fold images that it looked at.
    reduce : side in pixels of the cells that it counted in; 1 is every pixel.
    chosen : what all folds choose.
    nested : per fold what the other folds choose; empty where there is one fold.
    scores : by `chosen`, `mean` (the plain mean of all candidates) and `single` (the best candidate).
    """

    candidates: tuple[str, ...]
    images: int
    reduce: int
    chosen: Choice
    nested: Mapping[int, Choice]
    scores: Mapping[str, Score]

    def choice_for(self, fold: int | None) -> Choice:
        """Return what blends the images of a fold, or the test images (None)."""
        return self.chosen if fold is None else self.nested.get(fold, self.chosen)

    def blended(
        self, paths: Sequence[str | Path], members: Sequence[Mapping[str, Any]], split: str
    ) -> tuple[list[str | Path], list[dict[str, Any]]]:
        """Return the stores that are blended and their members, as `blend_stores` takes them.

        An out-of-fold image is blended by what was chosen without its fold, a test image by what all folds chose, the
        weight of a candidate shared among its stores.

        Parameters
        ----------
        paths : the stores of all candidates for the split.
        members : per store its `candidate`, its name (`store`) and its `fold`.
        split : valid or test.

        Examples
        --------
        >>> chosen = Choice(None, (Step("a", 0.5), Step("b", 0.6), Step("a", 0.7)))
        >>> selection = Selection(("a", "b", "c"), 9, 1, chosen, {0: Choice(None, chosen.path[1:2])}, {})
        >>> members = [{"candidate": name, "store": f"{name}0", "fold": 0} for name in "abc"]
        >>> selection.blended(["a.zarr", "b.zarr", "c.zarr"], members, "valid")
        (['b.zarr'], [{'store': 'b0', 'fold': 0, 'weight': 1.0}])
        >>> [member["weight"] for member in selection.blended(["a.zarr", "b.zarr", "c.zarr"], members, "test")[1]]
        [2.0, 1.0]
        """
        stores_of = Counter(member["candidate"] for member in members)
        kept_paths, kept_members = [], []
        for path, member in zip(paths, members, strict=True):
            name, fold = member["candidate"], member["fold"]
            count = self.choice_for(None if split == "test" else fold).counts.get(name, 0)
            if count:
                weight = count / stores_of[name] if split == "test" else float(count)
                kept_paths.append(path)
                kept_members.append({"store": member["store"], "fold": fold, "weight": weight})
        return kept_paths, kept_members

    def table(self) -> pd.DataFrame:
        """Return the paths: chosen_without (a fold, or missing: none), power, step from 1, candidate, Dice."""
        rows = [
            (fold, choice.power, number, *step)
            for fold, choice in {None: self.chosen, **self.nested}.items()
            for number, step in enumerate(choice.path, 1)
        ]
        return pd.DataFrame(rows, columns=PATH_COLUMNS).astype(
            {"chosen_without": "Int64", "power": float, "held_out": float}
        )

    def plain(self) -> dict[str, Any]:
        """Return what `selection.yaml` holds."""
        return {
            "images": self.images,
            "reduce": self.reduce,
            "candidates": list(self.candidates),
            "all": self.chosen.plain(),
            "nested": {fold: choice.plain() for fold, choice in self.nested.items()},
            # Last, and always there: a file that is cut short lacks them
            "scores": {name: score._asdict() for name, score in self.scores.items()},
        }

    @classmethod
    def read(cls, path: str | Path, candidates: Sequence[str] | None = None) -> Self:
        """Read what a search chose.

        Parameters
        ----------
        path : ``selection.yaml``.
        candidates : names of the members that it had to choose from; None where they do not matter.

        Raises
        ------
        DamagedFileError : if the file is cut short, is no selection, or is one from other candidates.
        """
        text = read_text(path)
        try:
            plain = yaml.safe_load(text)
            read = cls(
                tuple(plain["candidates"]),
                operator.index(plain["images"]),
                operator.index(plain["reduce"]),
                Choice.of_plain(plain["all"]),
                {operator.index(fold): Choice.of_plain(choice) for fold, choice in plain["nested"].items()},
                {
                    name: Score(float(plain["scores"][name]["in_sample"]), _number(plain["scores"][name]["honest"]))
                    for name in ("chosen", "mean", "single")
                },
            )
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise damaged(path, f"not a whole selection ({error!r})") from error
        named = {name for choice in (read.chosen, *read.nested.values()) for name in choice.counts}
        expected = read.candidates if candidates is None else tuple(candidates)
        if read.candidates != expected or not named <= set(expected):
            raise damaged(path, f"expected a choice from {', '.join(expected)}, got {', '.join(read.candidates)}")
        return read


def _step(plain: Mapping[str, Any]) -> Step:
    return Step(plain["candidate"], float(plain["in_sample"]), _number(plain.get("held_out")))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
