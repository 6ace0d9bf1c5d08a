"""A recipe as the params of jobs: as short as it can be, and whole again."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cloudseg.config import schema
from cloudseg.config.fields import sorted_keys
from cloudseg.config.recipe import Normalise, Recipe
from cloudseg.config.size import Size

REPO = Path(__file__).parents[3]
YAML = schema.load("config")["properties"]["recipes"]["additionalProperties"]
CONFIGS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (REPO / "config").glob("*.yaml")}
SHIPPED = [(f"{name}.{key}", recipe) for name, made in CONFIGS.items() for key, recipe in made["recipes"].items()]
STEP = {"name": "Rotate", "limit": [-30.0, 30], "fill": 0.0, "p": 1.0}

numbers = st.floats(0.01, 1) | st.integers(1, 3) | st.sampled_from([1.0, 2.0])
texts = st.sampled_from(["2e-3", "0.5", "1.0"])
recipes = st.fixed_dictionaries(
    {},
    optional={
        "loss": st.dictionaries(st.sampled_from(["bce", "dice", "focal"]), numbers, min_size=1),
        "augmentation": st.lists(st.sampled_from([STEP, {"name": "OneOf", "transforms": [STEP], "p": 1}])),
        "canvas": st.sampled_from([None, "700x1050"]),
        "normalise": st.fixed_dictionaries(
            {}, optional={"mean": st.lists(st.sampled_from([0, 1.0, 0.5]), min_size=3, max_size=3)}
        ),
        "micro_batch": st.none() | st.integers(2, 9),
        "epochs": st.sampled_from([30, 30.0, "30", 7]),
        "learning_rate": numbers | texts,
        "warmup": st.sampled_from([1, 1.0, "1.0", 0.5, 0]),
        "clip": numbers | texts,
        "drop_last": st.sampled_from([True, False, "true", "false"]),
        "validation": st.fixed_dictionaries(
            {}, optional={"threshold": st.sampled_from([0.5, 0.4]), "min_area": st.sampled_from([None, 0, 0.25])}
        ),
        "ema": st.sampled_from([None, 0.999, "9e-1"]),
        "tta": st.just("recipe")
        | st.lists(
            st.fixed_dictionaries({"view": st.sampled_from(["both", "identity"])}, optional={"scale": numbers}),
            min_size=1,
        ),
    },
)


def before(recipe):
    """The params, and the recipe with its defaults, as the YAML schema makes them."""
    if isinstance(recipe.get("tta"), list):
        recipe = recipe | {"tta": [{"view": view} if isinstance(view, str) else view for view in recipe["tta"]]}
    short = schema.canonical(schema.with_defaults(schema.typed(recipe, YAML), YAML), YAML)
    return short, schema.with_defaults(short, YAML)


def require_as_before(recipe):
    short, whole = before(recipe)
    made = Recipe(**recipe)
    assert repr(made.canonical()) == repr(short)
    dumped = made.model_dump(mode="json")
    assert repr(sorted_keys(dumped)) == repr(sorted_keys(whole))
    assert Recipe(**short) == Recipe(**whole) == made
    assert hash(Recipe(**whole)) == hash(made)


@pytest.mark.parametrize("recipe", [recipe for _, recipe in SHIPPED], ids=[name for name, _ in SHIPPED])
def test_the_params_of_shipped_recipes_are_those_of_the_yaml_schema(recipe):
    require_as_before(recipe)


@given(recipe=recipes)
def test_the_params_of_any_recipe_are_those_of_the_yaml_schema(recipe):
    require_as_before(recipe)


def test_a_recipe_that_is_its_defaults_has_no_params():
    assert Recipe().canonical() == Recipe(**Recipe().model_dump(mode="json")).canonical() == {}


def test_a_job_is_told_the_keys_that_it_needs_alone():
    recipe = Recipe(batch=8, epochs=10, tta=["identity"])
    assert recipe.canonical("batch", "tta", "normalise") == {"batch": 8, "tta": [{"view": "identity"}]}


def test_a_recipe_is_a_value():
    recipe = Recipe(augmentation=[STEP], canvas="700x1050", tta="recipe", loss={"dice": 2})
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # noqa: S301
    assert recipe.canvas == Size(700, 1050)
    assert recipe.loss.terms == {"dice": 2}
    assert recipe.augmentation[0].arguments == {"limit": (-30, 30), "fill": 0}
    with pytest.raises(ValidationError, match="frozen"):
        recipe.batch = 3
    with pytest.raises(ValidationError, match="frozen"):
        recipe.loss.dice = 3


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), "ten", None, [1]])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValidationError):
        Recipe(learning_rate=value)
    with pytest.raises(ValidationError):
        Normalise(mean=[value, 0, 0])


def test_a_job_reads_its_recipe_without_what_takes_long_to_import():
    heavy = ("torch", "cv2", "pandas", "jsonschema", "albumentations")
    code = f"import sys, cloudseg.config.model; print(set({heavy}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")
