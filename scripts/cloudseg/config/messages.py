"""Pydantic's errors as lines for a person: ``<key>: expected X, got Y; do Z``."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from cloudseg.config.fields import Model
from cloudseg.config.json_schema import Node, Schema
from cloudseg.config.names import nearest
from cloudseg.errors import ConfigError

# Types of JSON and bounds of pydantic in words
WORDS = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
WORDS |= {"array": "a list", "object": "a mapping (key: value)"}
BOUNDS = {"greater_than_equal": ("minimum", "at least"), "less_than_equal": ("maximum", "at most")}
BOUNDS |= {"greater_than": ("exclusiveMinimum", "more than"), "less_than": ("exclusiveMaximum", "less than")}
COUNTS = {"too_short": ("min_length", "at least", "entry", "entries")}
COUNTS |= {"too_long": ("max_length", "at most", "entry", "entries")}
COUNTS |= {"string_too_short": ("min_length", "at least", "character", "characters")}
Loc = Sequence[str | int]  # as in the errors of pydantic


def problems(error: ValidationError, model: type[Model]) -> list[str]:
    """List everything in which a value breaks its model, one line each.

    Parameters
    ----------
    error : what pydantic found.
    model : the model that the value was validated by.

    Examples
    --------
    >>> from cloudseg.config.model import Folds
    >>> try:
    ...     Folds.model_validate({"count": 1, "stratify": "labels"})
    ... except ValidationError as error:
    ...     problems(error, Folds)
    ["unknown key 'stratify' (nearest: stratify_by)", 'count: expected at least 2, got 1']
    """
    schema = Schema(model)
    found = sorted(error.errors(include_url=False), key=_sort_key)
    return list(dict.fromkeys(_line(one, schema) for one in found if not _is_miscounted(one)))


def _sort_key(error: dict[str, Any]) -> list[str]:
    """Return the location that a problem is sorted by; a missing or unknown key is sorted by its mapping."""
    loc = error["loc"][:-1] if error["type"] in ("missing", "extra_forbidden") else error["loc"]
    return [str(part) for part in loc]


def _is_miscounted(error: dict[str, Any]) -> bool:
    """Return whether a list has too few entries only because pydantic does not count those with problems."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _line(error: dict[str, Any], schema: Schema) -> str:
    """Write one problem."""
    loc, kind = error["loc"], error["type"]
    if kind in ("extra_forbidden", "missing"):
        *within, key = loc
        unknown = f"unknown key {key!r}{nearest(key, schema.known_keys(within))}"
        return _at(within) + (unknown if kind == "extra_forbidden" else f"the key {key!r} is missing")
    if loc and loc[-1] == "[key]":
        return _at(loc[:-2]) + _complaint(error, {})
    if _is_tag(loc[-1:]) and kind not in (*BOUNDS, *COUNTS):
        loc = loc[:-1]  # the value has none of the forms that are allowed
    return _at(loc) + _complaint(error, schema.at(loc))


def _complaint(error: dict[str, Any], node: Node) -> str:
    """Say what a value should have been and what it is."""
    kind, got, facts = error["type"], error["input"], error.get("ctx", {})
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        hint = f"; {node['hint']}" if "hint" in node else ""
        return f"expected {words} {node[name]}, got {got!r}{hint}"
    if kind in COUNTS:
        name, words, one, many = COUNTS[kind]
        return f"expected {words} {facts[name]} {one if facts[name] == 1 else many}, got {len(got)}"
    if kind == "unique_items":
        return f"expected different entries, got {_short(facts['twice'])} {got.count(facts['twice'])} times"
    if kind == "expected":
        return f"expected {facts['expected']}, got {_short(got)}"
    if kind == "literal_error" and "enum" in node:
        words = [word or "''" for word in node["enum"]]
        return f"expected one of {', '.join(words)}, got {_short(got)}{nearest(got, node['enum'])}"
    return _other_kind(got, node)


def _other_kind(got: Any, node: Node) -> str:
    """Say which kind of value was expected in place of one of another kind."""
    if forms := node.get("anyOf", node.get("oneOf")):
        words = [word for form in forms for word in form.get("enum", [form["const"]] if "const" in form else [])]
        return f"expected {node['expected']}, got {_short(got)}{nearest(got, words) if isinstance(got, str) else ''}"
    kind = node.get("type", "")
    words = WORDS.get(kind, "another value") + (" or null" if node.get("nullable") else "")
    quotes = f" (put it in quotes: '{got}')" if kind == "string" and isinstance(got, int | float) else ""
    return f"expected {words}, got {_short(got)}{quotes}"


def _at(loc: Loc) -> str:
    """Return a location as the beginning of a message."""
    parts = [str(part) for part in loc if not _is_tag([part])]
    return f"{'.'.join(parts)}: " if parts else ""


def _is_tag(loc: Loc) -> bool:
    """Return whether a location is the tag of a form alone."""
    return len(loc) == 1 and str(loc[0]).startswith("<") and str(loc[0]).endswith(">")


def _short(value: Any) -> str:
    """Return a value for a message: on one line, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def refuse(lines: list[str]) -> None:
    """Raise a ConfigError with all problems found, if there are any."""
    if lines:
        many = f"{len(lines)} problems" if len(lines) > 1 else "1 problem"
        raise ConfigError("\n".join([f"{many} to mend before anything runs:", *(f"  - {line}" for line in lines)]))
