import copy
from pathlib import Path

import jsonschema
import pytest
import yaml

from cloudseg.config import schema

REPO = Path(__file__).parents[3]
CONFIG = schema.load("config")


@pytest.mark.parametrize("name", ["config", "experiments"])
def test_schemas_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(schema.load(name))


@pytest.mark.parametrize("path", sorted((REPO / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_are_valid(path):
    assert schema.problems(yaml.safe_load(path.read_text()), CONFIG) == []


def test_every_key_has_a_description():
    undescribed = [key for key, child in schema._keys(CONFIG, "") if not child.get("description")]
    assert undescribed == []


def test_every_optional_key_has_a_default_or_belongs_to_a_choice():
    without = {key for key, child in schema._keys(CONFIG, "") if "default" not in child}
    required = {"name", "dataset", "dataset.source", "recipes", "experiments", "ensembles", "submission"}
    optional = {key for key in without - required if not key.startswith("recipes.{name}.loss.")}
    assert optional == {
        "recipes.{name}.augmentation[].name",
        "recipes.{name}.augmentation[].p",
        "recipes.{name}.augmentation[].transforms",
        "recipes.{name}.tta[].view",
        "ensembles.{name}.members",
        "ensembles.{name}.members[].query",
        "ensembles.{name}.decision",
        "pathvars",
    }


def nodes(node):
    """Every mapping within a schema."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return [*([node] if isinstance(node, dict) else []), *(below for child in children for below in nodes(child))]


@pytest.mark.parametrize("name", ["config", "experiments"])
def test_patterns_and_choices_of_forms_are_told_in_words_with_an_example(name):
    found = [node for node in nodes(schema.load(name)) if isinstance(node.get("pattern"), str) or "anyOf" in node]
    assert len(found) >= 2
    assert [node for node in found if not isinstance(node.get("expected"), str)] == []
    assert [node["expected"] for node in found if "^" in node["expected"]] == []


def test_readme_has_the_tables_of_the_schemas():
    page = (REPO / "config/README.md").read_text(encoding="utf-8")
    assert page == schema.with_tables(page), "run: python -m cloudseg.config.schema config/README.md"


def test_defaults_satisfy_their_own_schema_and_are_copies():
    filled = schema.with_defaults(
        {"recipes": {"a": {}, "b": {"tta": [{"view": "both"}]}}, "ensembles": {"x": {"members": [{"query": "q"}]}}},
        CONFIG,
    )
    assert filled["recipes"]["b"]["tta"] == [{"view": "both", "scale": 1, "weight": 1}]
    assert filled["recipes"]["a"]["normalise"]["mean"] == [0.485, 0.456, 0.406]
    assert filled["ensembles"]["x"]["members"][0]["weight"] == 1
    before = copy.deepcopy(CONFIG)
    filled["recipes"]["a"]["loss"]["bce"] = 7
    filled["recipes"]["a"]["tta"].append(-1)
    assert before == CONFIG
    assert schema.problems({"min_size": 3, "how": "tune", "threshold": 1}, CONFIG["properties"]["decision"]) == []


@pytest.mark.parametrize(
    ("word", "kind", "expected"),
    [
        ("true", "boolean", True),
        ("3", "integer", 3),
        ("0.5", "number", 0.5),
        ("23:00", "string", "23:00"),
        ("x", "integer", "x"),
    ],
)
def test_words_of_the_command_line_get_the_schemas_type(word, kind, expected):
    assert schema.typed({"key": word}, {"properties": {"key": {"type": kind}}}) == {"key": expected}
