"""What was typed after `snakemake`: targets, `status` among them, the nearest for one that no rule makes, and where
jobs are to run.
"""

import contextlib
import io
import os.path
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cloudseg.config.names import nearest
from cloudseg.errors import ConfigError


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
    if not _was_typed():
        return None
    from snakemake.cli import get_argument_parser

    try:
        return get_argument_parser().parse_args(sys.argv[1:])
    except SystemExit:
        return None


def jobs_run_here() -> bool:
    """Return whether this call of Snakemake runs its jobs on this machine, by its command line and its profiles.

    `workflow.local_exec` says so of every call while the Snakefile is parsed: the executor is known to it later.
    """
    if not _was_typed():
        return True
    from snakemake.cli import parse_args

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it says once more which profiles it uses
            _, words = parse_args(sys.argv[1:])
    except (SystemExit, Exception):  # Snakemake itself has read them, or will complain
        return True
    return words.executor in (None, "local")


def _was_typed() -> bool:
    """Return whether the command line of Snakemake runs this process."""
    return Path(sys.argv[0]).name in ("snakemake", "__main__.py")


def is_status(targets: Iterable[str]) -> bool:
    """Return whether the status was asked for.

    Raises
    ------
    ConfigError : if something was to be made as well.

    Examples
    --------
    >>> is_status(["status"]), is_status(["submission.csv"]), is_status([])
    (True, False, False)
    """
    targets = list(targets)
    if "status" in targets and (others := [target for target in targets if target != "status"]):
        raise ConfigError(f"status: expected no other target beside it, got {', '.join(others)}; it makes nothing")
    return "status" in targets


def remove_call_logs(logs: Iterable[str]) -> None:
    """Remove the log that Snakemake began for a call that does nothing, and its folders where they are empty.

    Parameters
    ----------
    logs : the log files of this call; those outside ``.snakemake/log`` are somebody's own.
    """
    for log in map(Path, logs):
        if log.parent.parts[-2:] == (".snakemake", "log"):
            log.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                log.parent.rmdir()
                log.parent.parent.rmdir()


def target_problems(
    targets: Iterable[str],
    workflow: Any,
    ensembles: Iterable[str],
    idle: Mapping[str, str],
    *,
    has_images: bool = False,
) -> list[str]:
    """List the targets that no rule can make, each with the nearest that there are, or with what it lacks.

    Snakemake says "No rule to produce" and nothing more, and for an ensemble that is not there a traceback.

    Parameters
    ----------
    targets : files or names of rules.
    workflow : of Snakemake, when all its rules are known.
    ensembles : the values of the wildcard `ensemble`.
    idle : rules that can make nothing here, and why.
    has_images : whether the config names `images`, and so no rule but those that predict them is there.
    """
    ensembles = list(ensembles)
    rules = [rule for rule in workflow.rules if not rule.name.startswith("_")]
    lines = []
    for target in targets:
        path = os.path.normpath(target)
        asked = {target} if workflow.is_rule(target) else {rule.name for rule in rules if rule.is_producer(path)}
        if asked and asked <= idle.keys():
            lines.append(f"{target}: {idle[min(asked)]}")
            continue
        if workflow.is_rule(target) or Path(path).is_absolute() or "://" in target:
            continue
        makers = [rule for rule in workflow.rules if rule.is_producer(path)]
        named = [rule.get_wildcards(path).get("ensemble") for rule in makers]
        wrong = [name for name in named if name is not None and name not in ensembles]
        if wrong and len(wrong) == len(makers):
            lines.append(f"{target}: no ensemble {wrong[0]!r}{nearest(wrong[0], ensembles)}")
        elif not makers and has_images:
            known = ", ".join(f"predictions/NAME/{file}" for file in ("masks.csv", "coco.json", "png", "overlays"))
            lines.append(f"{target}: with images=FOLDER there is {known} and nothing else; leave it out for the rest")
        elif not makers and path.startswith("predictions/"):
            lines.append(f"{target}: which images? Add --config images=FOLDER")
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
