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
from cloudseg.config.smoke import smoke_config

DEEPEST = 50  # levels of a config: some twenty steps of an augmentation within each other
MOST_ENTRIES = 1_000_000  # of a config; a YAML alias within an alias can stand for many more

Kind = TypeVar("Kind", bound=Model)


def read_config(raw: Mapping[str, Any]) -> Config:
    """Return a config with its defaults, or its smoke version if that is asked for.

    Parameters
    ----------
    raw : what YAML and ``--config`` made of it.

    Raises
    ------
    ConfigError : all its problems, one line each.
    """
    refuse(list(nesting_problems(raw)))
    # Dates and the like become text; an alias becomes a copy
    config = validated(Config, json.loads(json.dumps(raw, default=str)))
    refuse(config_problems(config))
    config = with_contest_defaults(config)
    return smoke_config(config) if config.smoke else config


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
    """Yield what cannot even be read: a config that is nested too deeply or too large, keys that are no text."""
    found: list[tuple[Any, tuple[Any, ...]]] = [(config, ())]
    for count in itertools.count(1):
        if not found:
            return
        value, place = found.pop()
        if len(place) > DEEPEST or count > MOST_ENTRIES:
            what = f"nested more than {DEEPEST} levels deep" if len(place) > DEEPEST else "too large to read"
            yield f"{'.'.join(map(str, place[:8]))}: {what}; is an alias (*) or a list within itself by mistake?"
            return
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            if isinstance(key, str | int | float | bool):
                found.append((child, (*place, key)))
            else:
                yield f"{'.'.join(map(str, (*place, key)))}: a key must be text; put it in quotes"
