"""What is wrong with a config is said with its place, what was expected, and what came."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudseg.config.json_schema import Schema
from cloudseg.config.model import Config
from cloudseg.config.reading import read_config
from cloudseg.errors import ConfigError

REPO = Path(__file__).parents[3]
DEMO = yaml.safe_load((REPO / "config/config.yaml").read_text(encoding="utf-8"))
SCHEMA = {
    key.replace("{name}", "quick" if key.startswith("recipes") else "all"): node
    for key, node in Schema(Config).walk()
    if "[]" not in key
}


def changed(place, value):
    config = copy.deepcopy(DEMO)
    *within, key = place.split(".")
    node = config
    for name in within:
        node[name] = node.get(name) if isinstance(node.get(name), dict) else {}
        node = node[name]
    node[key] = value
    return config


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("smoke", 1, "smoke: expected true or false, got 1"),
        ("seed", None, "seed: expected a whole number, got None"),
        ("probe_memory", "much", "probe_memory: expected a whole number or null, got 'much'"),
        ("name", 3, "name: expected text, got 3 (put it in quotes: '3')"),
        ("dataset.classes", ["a", "b", "a"], "dataset.classes: expected different entries, got 'a' 2 times"),
        ("dataset.classes", [1], "dataset.classes.0: expected text, got 1 (put it in quotes: '1')"),
        ("dataset", None, "dataset: expected a mapping (key: value), got None"),
        ("dataset", {}, "dataset: the key 'source' is missing"),
        ("recipes", {}, "recipes: expected at least 1 entry, got 0"),
        ("recipes", {"Bad": {}}, "recipes: expected a name of lower-case letters and digits, joined by hyphens or"),
        ("recipes.quick.normalise", {"mean": [0, 0]}, "quick.normalise.mean: expected at least 3 entries, got 2"),
        (
            "recipes.quick.normalise",
            {"std": [58, 1, 1]},
            "normalise.std.0: expected at most 1, got 58; pixels are in 0..1, so divide numbers for 0..255 by 255",
        ),
        ("recipes.quick.loss", {}, "recipes.quick.loss: expected at least 1 entry, got 0"),
        ("recipes.quick.loss", {"bce": None}, "recipes.quick.loss.bce: expected a number, got None"),
        ("recipes.quick.tta", 3, "recipes.quick.tta: expected `recipe` or a list of views, such as"),
        ("recipes.quick.tta", ["turned"], "recipes.quick.tta.0: expected identity, horizontal, vertical, both, or one"),
        ("recipes.quick.tta", [{"view": "both", "scal": 2}], "tta.0: unknown key 'scal' (nearest: scale)"),
        ("recipes.quick.augmentation", [{"nam": "NoOp"}], "augmentation.0: the key 'name' is missing"),
        ("recipes.quick.augmentation", [{"name": "NoOp", "p": 2}], "augmentation.0.p: expected at most 1, got 2"),
        ("decision.threshold", True, "decision.threshold: expected a number from 0.001 to 1, or one per class, such"),
        ("decision.threshold", {"Fish": "x"}, "decision.threshold.Fish: expected a number, got 'x'"),
        ("decision.min_size", [1, 2, 3.5, 4], "decision.min_size.2: expected a whole number of pixels or a share of"),
        ("decision.min_size", "2 %", "decision.min_size: expected a whole number of pixels or a share of the plane"),
        ("decision.min_size", {"Fish": "101%"}, "min_size.Fish: expected a whole number of pixels or a share of"),
        ("decision.min_size", -1, "decision.min_size: expected at least 0, got -1"),
        ("min_sizes", [0, "2%", "2%"], "min_sizes: expected different entries, got '2%' 2 times"),
        ("min_sizes", ["little"], "min_sizes.0: expected a whole number of pixels or a share of the plane, such as"),
        ("decision.min_size", [1, 2], "decision.min_size: expected 4 numbers, one per class (Fish, Flower, Gravel,"),
        ("ensembles.all.members", [3], 'ensembles.all.members.0: expected "a query" or a query with a weight, such as'),
        ("ensembles.all.members", "", 'ensembles.all.members: expected "a query" or a list of queries, such as'),
        (
            "ensembles.all.checkpoints",
            ["bst"],
            "checkpoints.0: expected one of best, last, average, got 'bst' (nearest",
        ),
        ("ensembles.all.decision", None, "ensembles.all.decision: expected a mapping (key: value), got None"),
        ("class_rates", {"Fish": 2}, "class_rates.Fish: expected at most 1, got 2"),
        ("recipes.quick.gpus", 3, "recipes.quick.batch: 4 images on 3 device(s), at most 2 at once, leave fewer than"),
    ],
)
def test_what_was_expected_and_what_came_are_told_at_their_place(place, value, complaint):
    with pytest.raises(ConfigError) as error:
        read_config(changed(place, value))
    assert complaint in str(error.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["best", "0.5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(list(SCHEMA)), value=values)
def test_whatever_a_key_holds_is_read_or_refused_in_words(place, value):
    try:
        read_config(changed(place, value))
    except ConfigError as error:
        first, *lines = str(error).splitlines()
        assert first.endswith("to mend before anything runs:")
        assert lines
        assert "another value" not in str(error)


# Which mean nothing without a score, or an ensemble, beside them
ALONE = {place for place in SCHEMA if not {"presence", "pseudo"} & set(place.split(".")[:-1])}


@pytest.mark.parametrize("place", [place for place, node in SCHEMA.items() if "default" in node and place in ALONE])
def test_every_key_takes_its_default(place):
    read_config(changed(place, SCHEMA[place]["default"]))


def test_reading_changes_nothing_of_what_is_read():
    before = json.dumps(DEMO)
    read_config(DEMO)
    assert json.dumps(DEMO) == before


def test_what_is_bright_has_no_smallest_area():
    config = read_config(changed("recipes.bright", {"brightness": 115}))
    assert [config.recipes[name].validation.min_area for name in ("quick", "bright")] == [0.025, 0]
