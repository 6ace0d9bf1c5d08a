"""What a blend is made of, where the config leaves that to other files: searched members, and the levels of voters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.selection import Selection

if TYPE_CHECKING:
    from cloudseg.dataset.black import Black


class Ingredients(NamedTuple):
    """The stores of a blend, their members, the power of p that is averaged, and the levels of those that vote."""

    paths: list[str | Path]
    members: list[dict[str, Any]]
    sharpen: float | None
    levels: list[list[int]] | None = None


def ingredients_of(
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    sharpen: float | None,
    *,
    split: str,
    classes: Sequence[str],
    selection: str | Path | None = None,
    voters: Sequence[str | Path] = (),
) -> Ingredients:
    """Return what is blended.

    Parameters
    ----------
    paths, members : the stores of a config's query, and name, fold and weight of each; of a search its `candidate`.
    sharpen : the power of p that the config asks for.
    split : valid or test.
    classes : names, in the order of the stores.
    selection : what a search chose; None where all are blended.
    voters : where members vote, the decision of each, in the order of the stores. Images out of fold are voted on by
        what the other folds chose.

    Raises
    ------
    DamagedFileError : when the selection, or a decision, is not whole.
    """
    if selection is not None:
        chosen = Selection.read(selection, candidates_of(members))
        return Ingredients(*chosen.blended(paths, members, split), chosen.chosen.power)
    plain = [dict(member) for member in members]
    if not voters:
        return Ingredients(list(paths), plain, sharpen)
    levels = []
    for path, member in zip(voters, members, strict=True):
        rule = Decision.read(path, classes).rule_for(member["fold"] if split == "valid" else None)
        levels.append([rule.classes[name].cut.level for name in classes])
    return Ingredients(list(paths), plain, None, levels)


def black_of(stores: Sequence[str | Path]) -> "Black | None":
    """Return where images are black, from the one store of it; None where there is no store, and it does not count."""
    if not stores:
        return None
    # It brings OpenCV and pandas, which few blends need
    from cloudseg.dataset.black import Black

    return Black(stores[0])


def candidates_of(members: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the members that a search chooses from, once each, in the order of their stores."""
    return list(dict.fromkeys(member["candidate"] for member in members))
