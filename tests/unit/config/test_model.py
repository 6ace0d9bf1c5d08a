"""The models against the YAML schemas, while both are there."""

import pytest

from cloudseg.config import schema
from cloudseg.config.json_schema import Schema
from cloudseg.config.model import Config, ExperimentRow

FACTS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "minLength")
FACTS += ("minProperties", "uniqueItems", "enum", "expected", "hint", "description")


def unanchored(pattern):
    """A pattern without what both ways of writing it add."""
    return pattern.removeprefix("^").removesuffix("$").removeprefix("(").removesuffix(")")


def facts(node):
    kind = node.get("type", [])
    kinds = {kind} if isinstance(kind, str) else set(kind)
    forms = [form for form in node.get("anyOf", node.get("oneOf", [])) if form.get("type") != "null"]
    null = "null" in kinds or node.get("nullable", False) or len(forms) < len(node.get("anyOf", forms))
    found = {name: node[name] for name in FACTS if name in node}
    if "const" in node:
        found["enum"] = [node["const"]]
    if "enum" in found:
        kinds.add("string")
    if "description" in found:
        found["description"] = " ".join(found["description"].split())
    items = node.get("items", {})
    others = node.get("additionalProperties")
    return found | {
        "kinds": kinds - {"null"},
        "null": null,
        "pattern": unanchored(node.get("pattern", "")),
        "forms": [facts(form) for form in forms if "$ref" not in form and "properties" not in form],
        "items": {} if not items or {"$ref", "properties"} & set(items) else facts(items),
        "values": facts(others) if isinstance(others, dict) and not {"$ref", "properties"} & set(others) else {},
        "names": {name: node.get("propertyNames", {}).get(name) for name in ("expected",)},
    }


def keys_of_yaml(name):
    whole = schema.load(name)
    return {
        key: facts(node) | {"default": schema.with_defaults(node["default"], node) if "default" in node else ...}
        for key, node in schema._keys(whole, "")
    }


def keys_of_model(model):
    return {key: facts(node) | {"default": node.get("default", ...)} for key, node in Schema(model).walk()}


@pytest.mark.parametrize(("name", "model"), [("config", Config), ("experiments", ExperimentRow)])
def test_models_and_yaml_schemas_say_the_same_of_every_key(name, model):
    old, new = keys_of_yaml(name), keys_of_model(model)
    assert set(old) == set(new)
    different = {
        f"{key}: {fact}": (was, new[key].get(fact))
        for key in old
        for fact, was in old[key].items()
        if new[key].get(fact) != was
    }
    assert different == {}
    assert {key: set(new[key]) for key in new} == {key: set(old[key]) for key in old}
