"""Read a config as Snakemake has it, and say everything that is wrong with it at once."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from cloudseg.config.checks import config_problems
from cloudseg.config.defaults import with_contest_defaults
from cloudseg.config.fields import Model
from cloudseg.config.messages import problems, refuse
from cloudseg.config.model import Config
from cloudseg.config.replicates import with_replicates
from cloudseg.config.smoke import smoke_config

DEEPEST = 50  # levels of nesting, enough for some twenty augmentation steps within each other
MOST_ENTRIES = 1_000_000  # in a config; nested YAML aliases can expand to many more

Kind = TypeVar("Kind", bound=Model)


def read_config(raw: Mapping[str, Any]) -> Config:
    """Return a config with its defaults, or its smoke version if that is asked for.

    Parameters
    ----------
    raw : the config as Snakemake read it from YAML and ``--config``.

    Raises
    ------
    ConfigError : all its problems, one line each.
    """
    config = config_as_read(raw)
    return smoke_config(config) if config.smoke else config


def config_as_read(raw: Mapping[str, Any]) -> Config:
    """Return a config with its defaults, be it of a smoke run or not; what it holds, written out, is read as the same.

    Raises
    ------
    ConfigError : all its problems, one line each.
    """
    refuse(list(nesting_problems(raw)))
    # Dates and the like become text; an alias becomes a copy
    config = with_replicates(validated(Config, json.loads(json.dumps(raw, default=str))))
    refuse(config_problems(config))
    return with_contest_defaults(config)


def validated(model: type[Kind], value: Any) -> Kind:
    """Return a value as its model.

    Raises
    ------
    ConfigError : all its problems, one line each.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        refuse(problems(error, model))
        raise


def nesting_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what cannot be validated at all: a config nested too deeply or too large, keys that are not text."""
    found: list[tuple[Any, tuple[Any, ...]]] = [(config, ())]
    for count in itertools.count(1):
        if not found:
            return
        value, loc = found.pop()
        if len(loc) > DEEPEST or count > MOST_ENTRIES:
            reason = f"nested more than {DEEPEST} levels deep" if len(loc) > DEEPEST else "too large to read"
            yield f"{'.'.join(map(str, loc[:8]))}: {reason}; is an alias (*) or a list within itself by mistake?"
            return
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            if isinstance(key, str | int | float | bool):
                found.append((child, (*loc, key)))
            else:
                yield f"{'.'.join(map(str, (*loc, key)))}: a key must be text; put it in quotes"
