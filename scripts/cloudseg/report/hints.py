"""What a person types next, for the config that ran."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def next_commands(
    page: str | Path,
    *,
    home: Path,
    configfiles: Sequence[str],
    typed: Mapping[str, Any],
    smoke: bool,
    own_images: bool,
    heads: bool = False,
) -> str:
    """Return where the pages are and the commands that follow, each with the config that ran.

    Parameters
    ----------
    page : the leaderboard, beside which the others lie.
    home : the folder of the Snakefile.
    configfiles : as they were given on the command line; none for the demo.
    typed : what was given by `--config`.
    smoke : whether this was a smoke run.
    own_images : whether the config reads images of the user's own.
    heads : whether there is a page of classification heads.
    """
    here = Path().resolve() == home.resolve()
    command = "snakemake" if here else f"snakemake --snakefile {shlex.quote(str(home / 'Snakefile'))}"
    profiles = Path("profiles") if here else home / "profiles"
    files = f" --configfile {shlex.join(map(os.path.relpath, configfiles))}" if configfiles else ""
    settings = {key: value for key, value in typed.items() if key != "smoke"}
    if smoke and "smoke" not in typed:  # it stands in the config
        settings["smoke"] = False
    options, as_typed = (files + _settings(each) for each in (settings, typed))
    lines = [("at full size", f"{command}{options}")] if smoke else []
    lines += [
        ("what would run", f"{command} -n{options}"),
        ("four GPUs", f"{command} --cores 8 --resources gpu=4{options}"),
        ("a Slurm cluster", f"{command} --workflow-profile {shlex.quote(str(profiles / 'slurm'))}{options}"),
        ("one page of it all", f"{command} --report report.html{as_typed}"),
    ]
    if not configfiles:
        config = "config" if here else shlex.quote(str(home / "config"))
        lines.append(("the contest's data", f"{command} submission.csv --configfile {config}/kaggle.yaml"))
    if not own_images:
        lines.append(("your own images", _own_images(command, home, here)))
    beside = f"masks/, decision/{', classifiers.html' if heads else ''} and explorer.html"
    looks = f"Look at {page}, and at {beside} beside it. Next:"
    return "\n".join([looks, *(f"  {what:<20} {words}" for what, words in lines)])


def _settings(settings: Mapping[str, Any]) -> str:
    return f" --config {shlex.join(f'{key}={value}' for key, value in settings.items())}" if settings else ""


def _own_images(command: str, home: Path, here: bool) -> str:
    """Return how to begin with images of one's own; a config that is there is never copied over."""
    mine = Path("config/mine.yaml" if here else "mine.yaml")
    call = f"{command} -n --configfile {mine}"
    if mine.exists():
        return call
    template = Path("config") if here else home / "config"
    copy = f"cp {shlex.quote(str(template / 'own.yaml'))} {mine}; set root, classes and submission_size in it, then"
    return f"{copy}\n{'':<23}{call}"
