"""Check a config or a sheet's row against its schema, fill in defaults, and write the table of keys."""

import copy
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from cloudseg.config.names import nearest


def _pattern(validator: Any, pattern: str, instance: Any, schema: dict[str, Any]) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not re.fullmatch(pattern, instance):
        yield jsonschema.ValidationError(pattern)


def _finite(validator: Any, kinds: Any, instance: Any, schema: dict[str, Any]) -> Iterator[Any]:
    if isinstance(instance, float) and not math.isfinite(instance):
        yield jsonschema.ValidationError(kinds)
    else:
        yield from jsonschema.Draft202012Validator.VALIDATORS["type"](validator, kinds, instance, schema)


# JSON Schema's `$` would let a line break at the end of a name pass, and its numbers infinity and NaN.
Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern, "type": _finite})

FOLDER = Path(__file__).parent


def load(name: str) -> dict[str, Any]:
    """Read the schema ``{name}.schema.yaml`` of this folder with its internal references resolved.

    Examples
    --------
    >>> load("experiments")["required"]
    ['encoder', 'decoder', 'size', 'recipe', 'folds']
    """
    schema = yaml.safe_load((FOLDER / f"{name}.schema.yaml").read_text(encoding="utf-8"))
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            node = definitions[node["$ref"].removeprefix("#/$defs/")] | {
                key: value for key, value in node.items() if key != "$ref"
            }
        return {key: resolve(value) for key, value in node.items()}

    return resolve(schema)


def typed(value: Any, schema: dict[str, Any]) -> Any:
    """Return `value` with its numbers as the schema means them.

    ``--config key=value`` hands words over as text, YAML reads 2e-3 as text, and tables have 2.0 for 2.

    Examples
    --------
    >>> kinds = {"smoke": "boolean", "rate": "number", "folds": "integer"}
    >>> numbers = {"properties": {key: {"type": kind} for key, kind in kinds.items()}}
    >>> typed({"smoke": "true", "rate": "2e-3", "folds": 2.0}, numbers)
    {'smoke': True, 'rate': 0.002, 'folds': 2}
    """
    form = _form(value, schema)
    if isinstance(value, dict):
        return {key: typed(item, _child(key, form)) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item, form.get("items", {})) for item in value]
    kinds = {kind for one in [schema, *schema.get("anyOf", [])] for kind in _kinds(one)}
    if isinstance(value, str) and kinds & {"boolean", "integer", "number"} and "string" not in kinds:
        value = _parsed(value)
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole and "integer" in kinds and "number" not in kinds else value


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """Return a copy of `value` in which every absent key with a default holds its own copy of it.

    Examples
    --------
    >>> with_defaults({}, {"properties": {"a": {"default": 1}}})
    {'a': 1}
    """
    schema = _form(value, schema)
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for key, child in schema.get("properties", {}).items():
        if key not in filled and "default" in child:
            filled[key] = copy.deepcopy(child["default"])
    return {key: with_defaults(item, _child(key, schema)) for key, item in filled.items()}


def whole_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe with its defaults, which the params of training and prediction leave out.

    Examples
    --------
    >>> whole_recipe({"batch": 4})["learning_rate"]
    0.001
    """
    return with_defaults(recipe, load("config")["properties"]["recipes"]["additionalProperties"])


def canonical(value: Any, schema: dict[str, Any]) -> Any:
    """Return `value` as one text would always write it: keys sorted, whole floats as int, defaults left out.

    Examples
    --------
    >>> canonical({"b": 2.0, "a": 1}, {"properties": {"a": {"default": 1}}})
    {'b': 2}
    """
    if isinstance(value, dict):
        children = _form(value, schema).get("properties", {})
        return {
            key: canonical(value[key], children.get(key, {}))
            for key in sorted(value)
            if key not in children
            or "default" not in children[key]
            or value[key] != with_defaults(children[key]["default"], children[key])
        }
    if isinstance(value, list):
        return [canonical(item, _form(value, schema).get("items", {})) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def problems(value: Any, schema: dict[str, Any]) -> list[str]:
    """List everything in which `value` breaks `schema`, one line each: place, what was expected, what came.

    Examples
    --------
    >>> problems({"epoch": 3}, {"additionalProperties": False, "properties": {"epochs": {}}})
    ["unknown key 'epoch' (nearest: epochs)"]
    """
    validator = Validator(schema)
    errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    return list(dict.fromkeys(line for error in errors for line in _lines(error)))


def table_of_keys(schema: dict[str, Any]) -> str:
    """Write the keys of `schema` as a Markdown table: key, default, meaning.

    Examples
    --------
    >>> print(table_of_keys({"properties": {"seed": {"default": 1, "description": "A seed."}}}))
    | key | default | meaning |
    | --- | --- | --- |
    | `seed` | `1` | A seed. |
    """
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]
    for key, child in _keys(schema, ""):
        meaning = " ".join(child.get("description", "").split()).replace("|", "\\|")
        if "enum" in child:
            meaning += " One of " + ", ".join(f"`{word}`" for word in child["enum"]) + "."
        rows.append(f"| `{key}` | {_default(child)} | {meaning} |")
    return "\n".join(rows)


def _form(value: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """Return which of the forms that a schema allows (`anyOf`) a value has, or the schema itself."""
    kind = {dict: "object", list: "array", str: "string"}.get(type(value))
    return next((branch for branch in schema.get("anyOf", []) if branch.get("type") == kind), schema)


def _child(key: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a key's value."""
    others = schema.get("additionalProperties")
    return schema.get("properties", {}).get(key, others if isinstance(others, dict) else {})


def _kinds(schema: dict[str, Any]) -> list[str]:
    """Return the types that a schema allows."""
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _parsed(word: str) -> Any:
    """Return the number or truth value that a word means, or the word."""
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", word):
        return float(word)
    try:
        parsed = yaml.safe_load(word)
    except yaml.YAMLError:
        return word
    return parsed if isinstance(parsed, bool | int | float) else word


# Types in the words of a person, and what counts what
WORDS = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
WORDS |= {"array": "a list", "object": "a mapping (key: value)", "null": "null"}
BOUNDS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than", "exclusiveMaximum": "less than"}
COUNTS = {"minItems": "at least", "maxItems": "at most", "minLength": "at least", "minProperties": "at least"}


def _lines(error: jsonschema.ValidationError) -> Iterator[str]:
    place = ".".join(str(part) for part in error.absolute_path)
    at = f"{place}: " if place else ""
    got, wanted, schema = error.instance, error.validator_value, error.schema
    hint = f"; {schema['hint']}" if "hint" in schema else ""
    match error.validator:
        case "additionalProperties":
            known = schema.get("properties", {})
            for key in got:
                if key not in known:
                    yield f"{at}unknown key {key!r}{nearest(key, known)}"
        case "required":
            for key in wanted:
                if key not in got:
                    yield f"{at}the key {key!r} is missing"
        case "enum":
            words = ", ".join(str(word) for word in wanted)
            yield f"{at}expected one of {words}, got {_short(got)}{nearest(got, wanted)}"
        case "anyOf":
            # What is wrong within the form that was meant, if one can tell which
            meant = [inner for inner in error.context if inner.path or inner.validator not in ("type", "enum")]
            for inner in meant:
                yield from _lines(inner)
            if not meant:
                yield f"{at}expected {schema['expected']}, got {_short(got)}"
        case "pattern":
            yield f"{at}expected {schema['expected']}, got {_short(got)}"
        case "type":
            quotes = f" (put it in quotes: '{got}')" if "string" in wanted and isinstance(got, int | float) else ""
            words = " or ".join(WORDS[kind] for kind in _kinds(schema))
            yield f"{at}expected {words}, got {_short(got)}{quotes}"
        case name if name in BOUNDS:
            yield f"{at}expected {BOUNDS[name]} {wanted}, got {got!r}{hint}"
        case name if name in COUNTS:
            one, many = ("character", "characters") if name == "minLength" else ("entry", "entries")
            yield f"{at}expected {COUNTS[name]} {wanted} {one if wanted == 1 else many}, got {len(got)}"
        case "uniqueItems":
            twice = next(item for item in got if got.count(item) > 1)
            yield f"{at}expected different entries, got {_short(twice)} {got.count(twice)} times"
        case _:
            yield f"{at}{error.message}"


def _short(value: Any) -> str:
    """Return a value in a message: on one line, and not longer than one reads."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, child in schema.get("properties", {}).items():
        yield prefix + key, child
        others = child.get("additionalProperties")
        items = _form([], child).get("items", {})
        yield from _keys(child, f"{prefix}{key}.")
        if isinstance(others, dict):
            yield from _keys(others, f"{prefix}{key}.{{name}}.")
        yield from _keys(_form({}, items), f"{prefix}{key}[].")


def _default(child: dict[str, Any]) -> str:
    if "default" not in child:
        return ""
    text = yaml.safe_dump(child["default"], default_flow_style=True, sort_keys=False, width=10**6)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def with_tables(page: str) -> str:
    """Return `page` with each table of keys between ``<!-- NAME: ... -->`` and ``<!-- end -->`` made anew."""

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n{table_of_keys(load(found[2]))}\n<!-- end -->"

    return re.sub(r"(<!-- (\w+): [^\n]*-->)\n.*?<!-- end -->", table, page, flags=re.DOTALL)


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")
