"""The winners' config: what it plans, and rows of it that cover all its keys, run at smoke scale."""

import json

import pandas as pd
import pytest
import yaml

from cloudseg.storage import stores

SMOKE = ("--config", "smoke=true", "device=cpu")
# Place, network and recipe of rows that have, together, every key of the recipes
COVERING = {
    ("1", "model_a_00", "first_heads"),  # a head, one cycle, two rates, an average, options of a Unet
    ("1", "model_b_04", "first_shape"),  # Dice of positive planes with smoothing, options of an FPN
    ("3", "seg1", "third_planes"),  # stages; it labels test images
    ("3", "seg2", "third_shape_pseudo"),  # what it labels
    ("3", "cls", "third_classes"),  # a classifier, and a plateau
    ("5", "model3", "fifth"),  # views of several sizes
    ("13", "1", "thirteenth_attention"),  # Lovasz, attention
    ("13", "2", "thirteenth_attention"),  # another seed
}
# The recipes are run, not the networks: which encoder goes with which decoder is in config/combinations.json
STAND_IN = "resnet18"
WORDS = ("best_by", "dice_over", "loss_planes", "optimiser", "schedule", "stages.schedule", "average.of")


def lines_of(repo):
    header, *lines = (repo / "config/winners.tsv").read_text(encoding="utf-8").splitlines()
    return header.split("\t"), [line.split("\t") for line in lines]


def subset(repo):
    """Return the config and its sheet with the covering rows alone, in one fold and of small networks."""
    config = yaml.safe_load((repo / "config/winners.yaml").read_text(encoding="utf-8"))
    columns, rows = lines_of(repo)
    place, network, recipe, folds, encoder = (
        columns.index(name) for name in ("place", "network", "recipe", "folds", "encoder")
    )
    rows = [row for row in rows if (row[place], row[network], row[recipe]) in COVERING]
    for row in rows:
        row[folds], row[encoder] = "1", STAND_IN
    used = {row[recipe] for row in rows}
    config["recipes"] = {name: values for name, values in config["recipes"].items() if name in used}
    config["ensembles"]["fifth"]["members"] = "place == 5"
    return config | {"experiments": "sheet.tsv"}, "".join("\t".join(row) + "\n" for row in [columns, *rows])


def keys_of(config):
    """Return the keys that recipes set, as paths, with their words: `head.weight`, `best_by=loss`."""
    return {path for recipe in config["recipes"].values() for path in paths(recipe)}


def paths(value, where=""):
    """Yield the paths within a recipe; what lies in lists, but for stages, is not a recipe's key."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{where}.{key}".lstrip("."))
    elif where == "stages" and value:
        for stage in value:
            yield from paths(stage, "stages")
    elif value is not None:
        yield f"{where}={value}" if isinstance(value, str) and where in WORDS else where


@pytest.fixture(scope="module")
def winners(tmp_path_factory, make_workflow, repo):
    workflow = make_workflow(tmp_path_factory.mktemp("winners"))
    workflow.config, workflow.sheet = subset(repo)
    (workflow.folder / "winners.yaml").write_text(yaml.safe_dump(workflow.config, sort_keys=False))
    (workflow.folder / "sheet.tsv").write_text(workflow.sheet)
    workflow.words = ("--configfile", "winners.yaml", *SMOKE)
    workflow.printed = workflow.run("--cores", "2", *workflow.words)
    workflow.results = workflow.folder / "results/winners-smoke"
    return workflow


def test_all_winners_are_97_trainings(workflow, repo):
    words = ("--configfile", str(repo / "config/winners.yaml"))
    for mode in ((), SMOKE):
        planned = workflow.planned(*words, *mode)
        assert sum(count for rule, count in planned.items() if rule.startswith("train")) == 97


def test_the_subset_covers_every_key_that_the_recipes_set(repo):
    config = yaml.safe_load((repo / "config/winners.yaml").read_text(encoding="utf-8"))
    assert keys_of(config) - keys_of(subset(repo)[0]) == set()
    columns, rows = lines_of(repo)
    kept = [line.split("\t") for line in subset(repo)[1].splitlines()[1:]]
    for name in ("place", "part"):
        index = columns.index(name)
        assert {row[index] for row in rows} == {row[index] for row in kept}


def test_every_run_leaves_what_its_recipe_asks_for(winners):
    runs = sorted((winners.results / "runs").glob("*/*/*/*/fold*"))
    assert len(runs) == len(COVERING)
    for run in runs:
        recipe = json.loads((run / "run.json").read_text())["recipe"]
        assert (run / "average.safetensors").is_file() == ("average" in recipe)
        for store in run.glob("*.zarr"):
            stores.verify(store)


def test_every_place_has_its_submission_and_its_score(winners):
    table = pd.read_csv(winners.results / "report/leaderboard.tsv", sep="\t")
    ensembles = table[table["what"] == "ensemble"].set_index("name")
    assert set(ensembles.index) == set(winners.config["ensembles"])
    for name in ensembles.index:
        submission = pd.read_csv(winners.results / "ensembles" / name / "submission.csv")
        assert len(submission) == 8 * 4


def test_nothing_is_left_to_do(winners):
    assert winners.planned(*winners.words) == {}
