"""Other ways to decide on a finished run: nothing is trained, and each CSV is what the stores say."""

import copy
import csv
import json
import re
import shutil

import numpy as np
import pytest
import yaml
from own_data import CONFIG, write_config

from cloudseg.ensemble.decision import Decision
from cloudseg.postprocess import decode_rle
from cloudseg.storage import stores

WORDS = ("--cores", "2", "--configfile", "config.yaml")
TOP = {"score": {"top": "5%"}}
ENSEMBLES = {
    "roles": {
        "whether": "fold < 2",
        "where": "fold < 2",
        "checkpoints": ["last"],
        "decision": {"how": "tune", "presence": TOP, "best": "always"},
    },
    "vote": {"members": "fold < 2", "checkpoints": ["best", "last"], "blend": "vote", "decision": {"how": "grid"}},
    "expected": {"members": "fold < 2", "decision": {"how": "expected", "presence": TOP}},
    "searched": {
        "members": "fold < 2",
        "checkpoints": ["best", "last"],
        "search": {},
        "decision": {"how": "tune", "high": "tune", "black": 2, "fill_holes": True},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_workflow, finished_run):
    workflow = make_workflow(tmp_path_factory.mktemp("decided") / "run")
    shutil.copytree(finished_run.folder, workflow.folder)
    config = copy.deepcopy(CONFIG)
    config["ensembles"] |= ENSEMBLES
    config["baseline"] = "all"
    write_config(workflow.folder, config)
    wanted = [f"results/tiny/ensembles/{name}/{file}" for name in ENSEMBLES for file in ("submission.csv",)]
    wanted += [f"results/tiny/ensembles/{name}/provenance.json" for name in ENSEMBLES]
    wanted += [f"results/tiny/ensembles/{name}/comparison.json" for name in ENSEMBLES]
    wanted += [f"results/tiny/report/decision/{name}.html" for name in ENSEMBLES]
    workflow.wanted = [*wanted, "results/tiny/report/leaderboard.html", "ablation"]
    workflow.printed = workflow.run(*workflow.wanted, *WORDS)
    return workflow


def masks_of(run, name):
    """The masks of a submission in the order of its rows."""
    size = tuple(map(int, CONFIG["submission_size"].split("x")))
    with (run.folder / f"results/tiny/ensembles/{name}/submission.csv").open(newline="") as file:
        return {row["Image_Label"]: decode_rle(row["EncodedPixels"], size) for row in csv.DictReader(file)}


def test_nothing_is_trained_or_predicted_anew_and_then_there_is_nothing_to_do(run):
    assert not re.search(r"\] (train|predict) ", run.printed)
    assert sum(run.planned(*run.wanted, *WORDS).values()) == 0


@pytest.mark.parametrize("name", ENSEMBLES)
def test_a_submission_has_the_masks_of_its_decision(run, name):
    folder = run.folder / f"results/tiny/ensembles/{name}"
    blend = stores.read(folder / "test.zarr")
    classes = list(blend.attrs["classes"])
    decision, masks = Decision.read(folder / "decision.yaml", classes), masks_of(run, name)
    for row, image in enumerate(blend.attrs["ids"]):
        planes = stores.read_images(blend, slice(row, row + 1))[0]
        # Its members for whether are those for where: the planes tell as much as the histograms that were kept
        for label, mask in zip(classes, decision.rule.masks(planes), strict=True):
            np.testing.assert_array_equal(masks[f"{image}_{label}"], mask)
    assert json.loads((folder / "provenance.json").read_text())["score"]["how"] == "nested"


def test_the_members_for_whether_are_kept_as_histograms_of_their_blend(run):
    folder = run.folder / "results/tiny/ensembles/roles"
    for split in ("valid", "test"):
        planes, kept = stores.read(folder / f"{split}.zarr"), stores.read(folder / f"{split}-whether.zarr")
        block = stores.read_images(planes, slice(0, planes.shape[0]))
        histograms = stores.read_images(kept["histogram"], slice(0, planes.shape[0]))
        wanted = [[np.bincount(plane.ravel(), minlength=256) for plane in image] for image in block]
        np.testing.assert_array_equal(histograms, wanted)


def test_every_way_to_decide_is_held_against_its_members_and_explained(run):
    for name in ENSEMBLES:
        compared = json.loads((run.folder / f"results/tiny/ensembles/{name}/comparison.json").read_text())
        assert {"best_member", "gain"} <= compared.keys(), name
        assert name in (run.folder / f"results/tiny/report/decision/{name}.html").read_text(encoding="utf-8")


def test_votes_are_shares_of_members_and_a_searched_blend_is_black_where_images_are(run):
    vote = stores.read(run.folder / "results/tiny/ensembles/vote/valid.zarr")
    values = np.unique(stores.read_images(vote, slice(0, vote.shape[0])))
    assert set(values.tolist()) <= {0, 128, 255}  # of two checkpoints of the fold's run
    searched = stores.read(run.folder / "results/tiny/ensembles/searched/test.zarr")
    black = stores.read(run.folder / "results/tiny/dataset/black-test-2.zarr")
    planes = stores.read_images(searched, slice(0, searched.shape[0]))
    is_black = stores.read_images(black, slice(0, black.shape[0]))
    assert list(searched.attrs["ids"]) == list(black.attrs["ids"])
    assert is_black.any() and not planes[np.broadcast_to(is_black[:, None] > 0, planes.shape)].any()


def test_the_ablation_holds_every_ensemble_against_the_baseline(run):
    lines = (run.folder / "results/tiny/report/ablation.md").read_text().splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert set(rows) - {"ensemble", ":-------"} >= {*ENSEMBLES, "all"}
    assert "ablation: More than chance better than all:" in " ".join(run.printed.split())


def test_a_decision_that_is_edited_by_hand_is_told_by_its_provenance(run):
    path = run.folder / "results/tiny/ensembles/roles/decision.yaml"
    before = path.read_text()
    plain = yaml.safe_load(before)
    name = next(iter(plain["classes"]))
    plain["classes"][name]["presence"]["at_least"] += 1
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    printed = run.run("results/tiny/ensembles/roles/provenance.json", "--forcerun", "provenance", *WORDS, check=False)
    path.write_text(before)
    assert "decision.yaml" in printed and "not the file that its job wrote" in " ".join(printed.split())
