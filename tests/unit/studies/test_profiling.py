"""Where the time of a training goes."""

import gzip
import json

import pytest
import torch
from network_fixtures import small_recipe, small_training, write_training_inputs

from cloudseg.studies.profiling import profile_page, profile_training, profiled_recipe


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_training_inputs(tmp_path_factory.mktemp("inputs"), train=18)


def test_all_of_an_epoch_is_accounted_for_and_nothing_is_left_behind(inputs, tmp_path):
    job = small_training(inputs, tmp_path / "out", batch=6, micro_batch=3)
    profile = profile_training(job, torch.device("cpu"), tmp_path / "trace.json.gz", steps=5)
    parts = profile.table.set_index("part")
    assert list(parts.index) == ["waiting", "copy", "forward", "backward", "step", "validation", "writing"]
    assert parts["epoch"].sum() == pytest.approx(1)
    assert (parts["milliseconds"] > 0).all()
    assert 0 < profile.busy < 1
    assert profile.loaded_per_second > profile.images_per_second
    assert not list((tmp_path / "out").iterdir())
    assert "| backward |" in profile_page(profile, "linknet")


def test_the_trace_names_the_parts_of_each_step_and_micro_batch(inputs, tmp_path):
    job = small_training(inputs, tmp_path / "out", batch=6, micro_batch=3, drop_last=True)
    profile_training(job, torch.device("cpu"), tmp_path / "trace.json.gz", steps=1)
    with gzip.open(tmp_path / "trace.json.gz", "rt") as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]
    assert {name: names.count(name) for name in ("copy", "forward", "backward", "step")} == {
        "copy": 6,
        "forward": 6,
        "backward": 6,
        "step": 3,
    }


def test_a_recipe_is_profiled_without_what_must_be_trained_or_labelled_before():
    recipe = profiled_recipe(small_recipe(start="run:fpn/32x48/x", pseudo={"ensemble": "all"}, average={"epochs": 2}))
    assert (recipe.start, recipe.pseudo, recipe.average) == ("none", None, None)
