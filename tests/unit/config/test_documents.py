"""What the models say of each key: in the tables of config/README.md, and to editors."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from cloudseg.config.documents import schema_for_editors, with_tables
from cloudseg.config.fields import read_text
from cloudseg.config.job import JobConfig
from cloudseg.config.json_schema import Schema, json_schema
from cloudseg.config.model import Config, ExperimentRow

REPO = Path(__file__).parents[3]
MODELS = (Config, ExperimentRow)
KEYS = dict(Schema(Config).walk())
CONFIGS = sorted((REPO / "config").glob("*.yaml"))


def test_every_key_has_a_description():
    undescribed = [key for model in MODELS for key, node in Schema(model).walk() if not node.get("description")]
    assert undescribed == []


def test_every_optional_key_has_a_default_or_belongs_to_a_choice():
    without = {key for key, node in KEYS.items() if "default" not in node}
    required = {"name", "dataset", "dataset.source", "recipes", "experiments", "ensembles", "submission"}
    optional = {
        key.replace("ensembles.{name}.decision", "decision")
        for key in without - required
        if ".loss." not in key and ".presence.score" not in key and ".stages[].augmentation[]." not in key
    }
    assert optional == {
        "recipes.{name}.augmentation[].name",
        "recipes.{name}.augmentation[].p",
        "recipes.{name}.augmentation[].transforms",
        "recipes.{name}.stages[].epochs",
        "recipes.{name}.pseudo.ensemble",
        "recipes.{name}.tta[].view",
        "ensembles.{name}.members",
        "ensembles.{name}.members[].query",
        "ensembles.{name}.where[].query",
        "ensembles.{name}.whether[].query",
        "decision",
        "decision.plane_min.level",
        "decision.plane_min.area",
        "pathvars",
    }


def nodes(node):
    """Every mapping within a schema."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return [*([node] if isinstance(node, dict) else []), *(below for child in children for below in nodes(child))]


def has_forms(node):
    """Whether a value may have several forms, beside null."""
    return len([form for form in node.get("anyOf", node.get("oneOf", [])) if form != {"type": "null"}]) > 1


@pytest.mark.parametrize("model", MODELS)
def test_patterns_and_choices_of_forms_are_told_in_words_with_an_example(model):
    found = [node for node in nodes(json_schema(model)) if isinstance(node.get("pattern"), str) or has_forms(node)]
    assert len(found) >= 2
    assert [node for node in found if not isinstance(node.get("expected"), str)] == []
    assert [node["expected"] for node in found if "^" in node["expected"]] == []


def test_readme_has_the_tables_of_the_models():
    page = (REPO / "config/README.md").read_text(encoding="utf-8")
    assert page == with_tables(page), "run: python -m cloudseg.config.documents config"


def test_editors_have_the_schema_of_the_models():
    kept = (REPO / "config/schema.json").read_text(encoding="utf-8")
    assert kept == schema_for_editors(), "run: python -m cloudseg.config.documents config"
    jsonschema.Draft202012Validator.check_schema(json.loads(kept))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_name_the_schema_and_keep_to_it(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.safe_load(text), json.loads(schema_for_editors()))


@pytest.mark.parametrize(
    "change", [{"nam": 1}, {"recipes": {"quick": {"epoch": 1}}}, {"seed": -1}, {"ensembles": {"A": {"members": "x"}}}]
)
def test_the_schema_refuses_what_the_models_refuse(change):
    config = yaml.safe_load((REPO / "config/config.yaml").read_text(encoding="utf-8")) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, json.loads(schema_for_editors()))


def test_short_forms_are_read_as_the_long_ones():
    config = yaml.safe_load((REPO / "config/config.yaml").read_text(encoding="utf-8"))
    config["recipes"] = {"a": {}, "b": {"tta": ["both"]}}
    config["ensembles"] = {"x": {"members": "q"}, "y": {"members": ["q"]}}
    read = Config(**config)
    assert read.recipes["b"].model_dump()["tta"] == ({"view": "both", "scale": 1, "weight": 1},)
    assert read.recipes["a"].normalise.mean == (0.485, 0.456, 0.406)
    assert read.ensembles["x"].members == read.ensembles["y"].members
    assert read.ensembles["x"].members[0].weight == 1


@pytest.mark.parametrize(
    ("word", "meant"),
    [("true", True), ("3", 3), ("0.5", 0.5), ("2e-3", 0.002), ("x", "x"), ("2019-11-04", "2019-11-04")],
)
def test_words_of_the_command_line_are_read_as_numbers_and_truth_values(word, meant):
    assert read_text(word) == meant


def test_words_that_are_text_stay_text():
    row = {"encoder": "resnet34", "decoder": "fpn", "size": "x4", "recipe": "quick", "folds": "2", "note": "23:00"}
    assert (ExperimentRow(**row).note, ExperimentRow(**row).folds) == ("23:00", 2)


def test_a_job_reads_its_keys_as_the_plan_does():
    job = JobConfig.of({"name": "demo", "jobs_per_device": "2", "keep_state": "false", "recipes": {}})
    assert job == JobConfig(jobs_per_device=2, keep_state=False)
    assert JobConfig.of({}) == JobConfig(device="auto", jobs_per_device=1, keep_state=True)
