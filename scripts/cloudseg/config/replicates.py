"""Ensembles that are asked for once for each of some seeds: one of each, named by its seed as replicates are."""

import re

from cloudseg.config.fields import FrozenDict
from cloudseg.config.model import Config, EnsembleEntry, Query

ROLES = ("members", "where", "whether")
OF_SEED = re.compile(r"(.+)-seed(\d+)")


def with_replicates(config: Config) -> Config:
    """Return a config with an ensemble per seed in place of each that lists `seeds`.

    Examples
    --------
    >>> config = Config(name="a", dataset={"source": "demo"}, recipes={"quick": {}}, experiments="a.tsv",
    ...     ensembles={"all": {"members": "fold < 2", "seeds": [1, 2]}}, submission="all-seed1")
    >>> {name: entry.members[0].query for name, entry in with_replicates(config).ensembles.items()}
    {'all-seed1': '(fold < 2\\n) and seed == 1', 'all-seed2': '(fold < 2\\n) and seed == 2'}
    """
    ensembles: dict[str, EnsembleEntry] = {}
    for name, entry in config.ensembles.items():
        replicates = {f"{name}-seed{seed}": _of_seed(entry, seed) for seed in entry.seeds or ()}
        ensembles |= replicates or {name: entry}
    return config.model_copy(update={"ensembles": FrozenDict(ensembles)})


def without_seed(name: str) -> str:
    """Return the name that all replicates of an ensemble share.

    Examples
    --------
    >>> without_seed("cutmix-seed12"), without_seed("cutmix")
    ('cutmix', 'cutmix')
    """
    found = OF_SEED.fullmatch(name)
    return found[1] if found else name


def _of_seed(entry: EnsembleEntry, seed: int) -> EnsembleEntry:
    roles = {role: _queries(queries, seed) for role in ROLES if (queries := getattr(entry, role)) is not None}
    return entry.model_copy(update={"seeds": None, **roles})


def _queries(queries: tuple[Query, ...], seed: int) -> tuple[Query, ...]:
    # A line break, since a query may end with a comment
    return tuple(query.model_copy(update={"query": f"({query.query}\n) and seed == {seed}"}) for query in queries)
