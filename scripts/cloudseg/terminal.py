"""What the Snakefile tells the display of a run: how long jobs take, and which wildcards need not be named.

The display is a logger plugin of Snakemake (`snakemake_logger_plugin_cloudseg`), which knows rules and wildcards alone.
"""

from collections.abc import Callable, Collection, Mapping

Expected = Callable[[str, Mapping[str, str]], float | None]

_expected: Expected | None = None
_unsaid: frozenset[str] = frozenset()


def register(expected: Expected, unsaid: Collection[str]) -> None:
    """Keep what the display asks for.

    Parameters
    ----------
    expected : returns the seconds that a job of a rule takes, from its wildcards; without wildcards those of a usual
        job of the rule. None where nobody knows.
    unsaid : wildcards that have the same value in all jobs, and so tell nothing.
    """
    global _expected, _unsaid
    _expected, _unsaid = expected, frozenset(unsaid)


def expected_seconds(rule: str, wildcards: Mapping[str, str]) -> float | None:
    """Return the seconds that a job is expected to take; None where nobody knows.

    Examples
    --------
    >>> register(lambda rule, wildcards: {"train": 60.0}.get(rule), unsaid=["encoder"])
    >>> expected_seconds("train", {}), expected_seconds("of another workflow", {})
    (60.0, None)
    """
    return _expected(rule, wildcards) if _expected else None


def unsaid_wildcards() -> frozenset[str]:
    """Return the wildcards that have the same value in all jobs."""
    return _unsaid
