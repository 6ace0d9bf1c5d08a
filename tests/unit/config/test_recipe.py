"""A recipe as the params of jobs: as short as it can be, and whole again."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cloudseg.config.fields import sorted_keys
from cloudseg.config.recipe import LATER, Normalise, Recipe
from cloudseg.config.size import Size

REPO = Path(__file__).parents[3]
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


def parts(value):
    """Every value within one of JSON, with the keys of its mappings."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [value, *(part for _, item in inner for part in parts(item))]


def require_canonical(recipe):
    """The params are one text for one recipe: sorted keys, whole numbers as int, nothing that stands at its default."""
    made = Recipe(**recipe)
    short, whole = made.canonical(), made.model_dump(mode="json")
    assert Recipe(**short) == Recipe(**whole) == made
    assert hash(Recipe(**whole)) == hash(made)
    assert repr(Recipe(**whole).canonical()) == repr(Recipe(**short).canonical()) == repr(short)
    assert json.loads(json.dumps(short)) == short  # plain values: params are read where cloudseg is not imported
    assert repr(short) == repr(sorted_keys(short))
    assert [part for part in parts([short, whole]) if isinstance(part, float) and part.is_integer()] == []
    usual = Recipe().model_dump(mode="json")
    later = {key: Recipe.model_fields[key].default for key in LATER}  # written only where it is asked for
    assert [key for key in short if short[key] == (usual | later)[key]] == []
    assert set(usual) <= set(whole) <= set(usual | later)
    assert [key for key in later if whole.get(key, later[key]) != later[key] and key not in short] == []


@pytest.mark.parametrize("recipe", [recipe for _, recipe in SHIPPED], ids=[name for name, _ in SHIPPED])
def test_the_params_of_shipped_recipes_are_canonical(recipe):
    require_canonical(recipe)


@given(recipe=recipes)
def test_the_params_of_any_recipe_are_canonical(recipe):
    require_canonical(recipe)


def test_the_params_of_a_recipe_are_this_text():
    recipe = {"tta": ["identity", {"view": "both", "scale": 0.5}], "loss": {"dice": "2.0", "bce": 1.0}, "epochs": 10.0}
    recipe |= {"normalise": {"std": [1.0, 0.5, 0.5]}, "augmentation": [STEP], "learning_rate": "2e-3", "warmup": 1.0}
    assert repr(Recipe(**recipe).canonical()) == (
        "{'augmentation': [{'fill': 0, 'limit': [-30, 30], 'name': 'Rotate', 'p': 1}], 'epochs': 10, "
        "'learning_rate': 0.002, 'loss': {'bce': 1, 'dice': 2}, 'normalise': {'std': [1, 0.5, 0.5]}, "
        "'tta': [{'view': 'identity'}, {'scale': 0.5, 'view': 'both'}]}"
    )


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
