"""Suggest the nearest target for one that no rule makes."""

import os.path
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cloudseg.config.names import nearest


def typed_targets() -> list[str]:
    """Return the targets on the command line of Snakemake, which a workflow is not told while it is parsed.

    Returns
    -------
    list of str : as Snakemake's own parser reads them; none where something else than its command line runs it.
    """
    return list(getattr(_typed(), "targets", None) or ())


def asks_for_report() -> bool:
    """Return whether the command line asks for Snakemake's report, which runs nothing."""
    return getattr(_typed(), "report", None) is not None


def _typed() -> Any:
    """Return the command line of Snakemake as its own parser reads it; None where it runs otherwise."""
    if Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return None
    from snakemake.cli import get_argument_parser

    try:
        return get_argument_parser().parse_args(sys.argv[1:])
    except SystemExit:
        return None


def target_problems(targets: Iterable[str], workflow: Any, ensembles: Iterable[str]) -> list[str]:
    """List the targets that no rule can make, each with the nearest that there are.

    Snakemake says "No rule to produce" and nothing more, and for an ensemble that is not there a traceback.

    Parameters
    ----------
    targets : files or names of rules.
    workflow : of Snakemake, when all its rules are known.
    ensembles : the values of the wildcard `ensemble`.
    """
    ensembles = list(ensembles)
    rules = [rule for rule in workflow.rules if not rule.name.startswith("_")]
    lines = []
    for target in targets:
        path = os.path.normpath(target)
        if workflow.is_rule(target) or Path(path).is_absolute() or "://" in target:
            continue
        makers = [rule for rule in workflow.rules if rule.is_producer(path)]
        named = [rule.get_wildcards(path).get("ensemble") for rule in makers]
        wrong = [name for name in named if name is not None and name not in ensembles]
        if wrong and len(wrong) == len(makers):
            lines.append(f"{target}: no ensemble {wrong[0]!r}{nearest(wrong[0], ensembles)}")
        elif not makers:
            near = nearest(path, _known(rules, ensembles))
            lines.append(f"{target}: no rule has this name or makes this file{near}")
    return lines


def _known(rules: Iterable[Any], ensembles: Iterable[str]) -> list[str]:
    """Return the names of rules, and the files that they make, with every ensemble."""
    known = [rule.name for rule in rules]
    for output in (str(output) for rule in rules for output in rule.output):
        named = [re.sub(r"\{ensemble\b[^{}]*\}", name, output) for name in ensembles if "{ensemble" in output]
        known += [file for file in named or [output] if "{" not in file]
    return known
