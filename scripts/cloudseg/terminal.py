"""What the Snakefile tells the display of a run: its rules, how long jobs take, which wildcards go without saying.

The display is a logger plugin of Snakemake (`snakemake_logger_plugin_cloudseg`), which knows rules and wildcards alone.
In another workflow our rules have names of its own, and rules of its own may have the names that ours have here.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

Expected = Callable[[str, Mapping[str, str]], float | None]


class _Ours(NamedTuple):
    """A rule of ours."""

    rule: str
    expected: Expected
    unsaid: frozenset[str]


_ours: dict[str, _Ours] = {}


def register(expected: Expected, unsaid: Collection[str], names: Mapping[str, str]) -> None:
    """Keep what the display asks for.

    Parameters
    ----------
    expected : returns the seconds that a job of a rule takes, from its wildcards; without wildcards those of a usual
        job of the rule. None where nobody knows.
    unsaid : wildcards that have the same value in all jobs, and so tell nothing.
    names : our name of each rule, by the one that it has in this run.
    """
    _ours.update({name: _Ours(rule, expected, frozenset(unsaid)) for name, rule in names.items()})


def expected_seconds(name: str, wildcards: Mapping[str, str]) -> float | None:
    """Return the seconds that a job is expected to take; None where nobody knows.

    Examples
    --------
    >>> register(lambda rule, wildcards: {"train": 60.0}.get(rule), unsaid=[], names={"clouds_train": "train"})
    >>> expected_seconds("clouds_train", {}), expected_seconds("of another workflow", {})
    (60.0, None)
    """
    ours = _ours.get(name)
    return ours and ours.expected(ours.rule, wildcards)


def our_name(name: str) -> str | None:
    """Return what we call a rule; None for one of another workflow."""
    ours = _ours.get(name)
    return ours and ours.rule


def unsaid_wildcards(name: str) -> frozenset[str]:
    """Return the wildcards that have the same value in all jobs of a workflow that has a rule."""
    ours = _ours.get(name)
    return ours.unsaid if ours else frozenset()
