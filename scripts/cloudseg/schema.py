"""Check a config or a sheet's row against its schema, fill in defaults, and write the table of keys."""

import copy
import difflib
import math
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml


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

FOLDER = Path(__file__).parents[2] / "config/schemas"


def load(name: str) -> dict[str, Any]:
    """Read the schema ``config/schemas/{name}.schema.yaml`` with its internal references resolved.

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


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (nearest: a, b)`` for the known words most like `word`, or an empty string.

    Examples
    --------
    >>> nearest("epoch", ["epochs", "batch"])
    ' (nearest: epochs)'
    """
    close = difflib.get_close_matches(str(word), [str(name) for name in known], n=3, cutoff=0.5)
    return f" (nearest: {', '.join(close)})" if close else ""


def typed(value: Any, schema: dict[str, Any]) -> Any:
    """Return `value` with the words that ``--config key=value`` hands over as text turned into the schema's type.

    Examples
    --------
    >>> typed({"smoke": "true"}, {"properties": {"smoke": {"type": "boolean"}}})
    {'smoke': True}
    """
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return {key: typed(item, known.get(key, {})) for key, item in value.items()}
    if isinstance(value, str) and schema.get("type") in ("boolean", "integer", "number"):
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            return value
        return parsed if isinstance(parsed, bool | int | float) else value
    return value


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """Return a copy of `value` in which every absent key with a default holds its own copy of it.

    Examples
    --------
    >>> with_defaults({}, {"properties": {"a": {"default": 1}}})
    {'a': 1}
    """
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", _branch(value, schema).get("items", {}))) for item in value]
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for key, child in schema.get("properties", {}).items():
        if key not in filled and "default" in child:
            filled[key] = copy.deepcopy(child["default"])
    others = schema.get("additionalProperties")
    return {
        key: with_defaults(item, schema.get("properties", {}).get(key, others if isinstance(others, dict) else {}))
        for key, item in filled.items()
    }


def canonical(value: Any, schema: dict[str, Any]) -> Any:
    """Return `value` as one text would always write it: keys sorted, whole floats as int, defaults left out.

    Examples
    --------
    >>> canonical({"b": 2.0, "a": 1}, {"properties": {"a": {"default": 1}}})
    {'b': 2}
    """
    if isinstance(value, dict):
        children = schema.get("properties", {})
        return {
            key: canonical(value[key], children.get(key, {}))
            for key in sorted(value)
            if key not in children
            or "default" not in children[key]
            or value[key] != with_defaults(children[key]["default"], children[key])
        }
    if isinstance(value, list):
        return [canonical(item, schema.get("items", _branch(value, schema).get("items", {}))) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def problems(value: Any, schema: dict[str, Any]) -> list[str]:
    """List everything in which `value` breaks `schema`, one line each: place, what came, what was expected.

    Examples
    --------
    >>> problems({"epoch": 3}, {"additionalProperties": False, "properties": {"epochs": {}}})
    ["unknown key 'epoch' (nearest: epochs)"]
    """
    validator = Validator(schema)
    errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    return [line for error in errors for line in _lines(error)]


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


def _branch(value: Any, schema: dict[str, Any]) -> dict[str, Any]:
    kind = {list: "array", dict: "object"}.get(type(value))
    return next((branch for branch in schema.get("anyOf", []) if branch.get("type") == kind), {})


def _lines(error: jsonschema.ValidationError) -> Iterator[str]:
    place = ".".join(str(part) for part in error.absolute_path)
    at = f"{place}: " if place else ""
    came, wanted = error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            known = error.schema.get("properties", {})
            for key in came:
                if key not in known:
                    yield f"{at}unknown key {key!r}{nearest(key, known)}"
        case "required":
            for key in wanted:
                if key not in came:
                    yield f"{at}the key {key!r} is missing"
        case "enum":
            words = ", ".join(str(word) for word in wanted)
            yield f"{at}{came!r} came, one of {words} was expected{nearest(came, wanted)}"
        case "anyOf":
            other = {inner.schema_path[0] for inner in error.context if inner.validator == "type" and not inner.path}
            branches = [inner for inner in error.context if inner.schema_path[0] not in other] or error.context[:1]
            for inner in branches:
                yield from _lines(inner)
        case "propertyNames":
            yield f"{at}the name {came!r} must match {error.schema.get('pattern', wanted)}"
        case "pattern":
            hint = error.schema.get("description", "")
            yield f"{at}{came!r} came, text that matches {wanted} was expected. {' '.join(hint.split())}".rstrip()
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}
            yield f"{at}{came!r} came, {words.get(error.validator, 'less than')} {wanted} was expected"
        case "type":
            kinds = " or ".join(wanted) if isinstance(wanted, list) else wanted
            yield f"{at}{came!r} came, {'an' if kinds[0] in 'aio' else 'a'} {kinds} was expected"
        case _:
            yield f"{at}{error.message}"


def _keys(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, child in schema.get("properties", {}).items():
        yield prefix + key, child
        others = child.get("additionalProperties")
        items = child.get("items", _branch([], child).get("items", {}))
        yield from _keys(child, f"{prefix}{key}.")
        if isinstance(others, dict):
            yield from _keys(others, f"{prefix}{key}.{{name}}.")
        yield from _keys(items, f"{prefix}{key}[].")


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
