"""The commands that messages end with: calls of Snakemake with the config of the call that they come from."""

import json
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

_WORDS = "CLOUDSEG_COMMAND_WORDS"
# What one rule alone is told, and a command for another one leaves out
FOR_ONE_RULE = "remove=", "csv=", "train=", "folder=", "images=", "bundle=", "shard="


def remember_words(configfiles: Iterable[Path], settings: Sequence[str]) -> None:
    """Have the messages of this process, and of those that it starts, repeat the config of this call.

    Parameters
    ----------
    configfiles : what came after ``--configfile``.
    settings : what came after ``--config``.
    """
    here = Path.cwd()
    paths = [str(path.relative_to(here)) if path.is_relative_to(here) else str(path) for path in configfiles]
    # A job is a call of Snakemake, too, with the words that its parent wrote
    os.environ.setdefault(_WORDS, json.dumps([paths, [each for each in settings if not each.startswith(FOR_ONE_RULE)]]))


def command(*targets: str, settings: Sequence[str] = ()) -> str:
    """Return a call of Snakemake with the config of this one.

    Parameters
    ----------
    targets : rules or files; none for the default.
    settings : more words for ``--config``.

    Examples
    --------
    >>> command("verify", settings=["remove=true"])
    'snakemake verify --config remove=true'
    """
    configfiles, own = json.loads(os.environ.get(_WORDS, "[[], []]"))
    words = ["snakemake", *targets]
    words += ["--configfile", *configfiles] if configfiles else []
    words += ["--config", *own, *settings] if own or settings else []
    return shlex.join(words)
