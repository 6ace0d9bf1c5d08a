"""The winners' ways to train in one run, from the sheet to submissions, and that no label of a fold reaches it."""

import copy
import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
import yaml
from own_data import CONFIG, write_config

from cloudseg.models.checkpoint_file import read_state
from cloudseg.storage import stores

WORDS = ("--cores", "2", "--configfile", "config.yaml")
TINY = CONFIG["recipes"]["tiny"] | {"tta": [{"view": "identity"}]}
RECIPES = {
    "tiny": TINY,
    "bright": TINY | {"epochs": 2, "brightness": 115},
    "staged": TINY
    | {
        "start": "network:fpn/64x96/bright",
        "stages": [
            {"epochs": 2, "size": "32x48", "loss": {"bce": 1}},
            {"epochs": 2, "learning_rate": 5e-4, "encoder_learning_rate": 5e-5, "schedule": "constant"},
        ],
        "optimiser": "sgd",
        "encoder_learning_rate": 0.0001,
        "freeze_encoder": 1,
        "cutmix": {},
    },
    "headed": TINY | {"head": {"weight": 0.5}, "average": {"epochs": 2}, "mixup": {"p": 0.3}},
    "present": TINY | {"head": {"dropout": 0}, "best_by": "loss"},
    "positive": TINY
    | {
        "loss": {"dice": 1},
        "loss_planes": "positive",
        "dice_over": "plane",
        "best_by": "dice_nonempty",
        "decoder_options": {"finest_level": False},
    },
    "taught": TINY | {"pseudo": {"ensemble": "teachers", "share": 0.75}},
}
ROWS = [
    *("fpn\ttiny\t", "fpn\ttiny\t7", "fpn\tbright\t", "fpn\tstaged\t", "unet\theaded\t"),
    *("classifier\tpresent\t", "fpn\tpositive\t", "fpn\ttaught\t"),
]
SHEET = "".join(f"tu-test_resnet\t64x96\t{row}\t2\n" for row in ROWS)
HEADS = {"how": "tune", "presence": {"score": {"top": "5%"}, "classifiers": 2}}
ENSEMBLES = {
    "teachers": {"members": "recipe == 'tiny'", "checkpoints": ["last"]},
    "all": {"members": "recipe != 'positive'", "decision": {"how": "tune"}},
    "averages": {"members": "recipe == 'headed'", "checkpoints": ["average"], "decision": {"how": "tune"}},
    "roles": {
        "whether": "recipe in ['headed', 'present']",
        "where": "recipe in ['positive', 'staged']",
        "checkpoints": ["last"],
        "decision": HEADS,
    },
}


def folder_of(recipe, fold, decoder="fpn"):
    return f"results/tiny/runs/tu-test_resnet/{decoder}/64x96/{recipe}/fold{fold}"


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_workflow, small_images):
    workflow = make_workflow(tmp_path_factory.mktemp("trained"))
    shutil.copytree(small_images, workflow.folder / "images")
    images = sorted(path.name for path in (workflow.folder / "images/train_images").iterdir())
    split = "".join(f"{name}\t{number % 2}\n" for number, name in enumerate(images))
    (workflow.folder / "split.tsv").write_text(f"image\tfold\n{split}")
    (workflow.folder / "sheet.tsv").write_text(f"encoder\tsize\tdecoder\trecipe\tseed\tfolds\n{SHEET}")
    config = copy.deepcopy(CONFIG) | {"recipes": RECIPES, "ensembles": ENSEMBLES}
    config["folds"]["file"] = "split.tsv"
    write_config(workflow.folder, config)
    workflow.wanted = [f"results/tiny/ensembles/{name}/provenance.json" for name in ENSEMBLES]
    workflow.wanted += ["submission.csv", "results/tiny/report/classifiers.tsv"]
    workflow.printed = workflow.run(*workflow.wanted, *WORDS)
    return workflow


def read(path):
    array = stores.read(path)
    return stores.read_images(array, slice(0, array.shape[0]))


def test_there_is_nothing_to_do_behind_it(run):
    assert sum(run.planned(*run.wanted, *WORDS).values()) == 0


def test_an_average_is_a_network_of_its_own_that_predicts(run):
    folder = run.folder / folder_of("headed", 0, "unet")
    states = {name: read_state(folder / f"{name}.safetensors")[0] for name in ("last", "average")}
    weights = [name for name, value in states["last"].items() if value.is_floating_point()]
    assert any(not states["last"][name].equal(states["average"][name]) for name in weights)
    assert not np.array_equal(read(folder / "average-valid.zarr"), read(folder / "last-valid.zarr"))
    blend = read(run.folder / "results/tiny/ensembles/averages/valid.zarr")
    parts = [read(run.folder / folder_of("headed", fold, "unet") / "average-valid.zarr") for fold in (0, 1)]
    assert np.array_equal(blend, np.concatenate(parts))


def test_what_heads_say_weighs_in_presence_as_a_mean_of_all_of_them(run):
    kept = stores.read(run.folder / "results/tiny/ensembles/roles/test-whether.zarr")
    value = stores.read_images(kept["value"], slice(0, kept["value"].shape[0]))
    folders = [folder_of("headed", fold, "unet") for fold in (0, 1)]
    folders += [folder_of("present", fold, "classifier") for fold in (0, 1)]
    parts = [read(run.folder / folder / "last-test-values.zarr").astype(int) for folder in folders]
    assert np.array_equal(value, (sum(parts) * 2 + 4) // 8)  # rounded half up
    decision = yaml.safe_load((run.folder / "results/tiny/ensembles/roles/decision.yaml").read_text())
    scores = [rule["presence"]["score"] for rule in decision["classes"].values()]
    assert {score["classifiers"] for score in scores} == {"2"}
    assert not (run.folder / folder_of("present", 0, "classifier") / "last-test.zarr").exists()


def test_brightness_is_learned_and_not_predicted(run):
    folder = run.folder / folder_of("bright", 0)
    assert json.loads((folder / "run.json").read_text())["images"]["train"] == 6 + 4
    assert not list(folder.glob("*.zarr"))


def test_labels_of_a_fold_reach_no_network_that_is_scored_on_it(run, tmp_path, make_workflow):
    """With other labels of its fold a network ends with the same weights, and one of the other fold does not."""
    other = make_workflow(tmp_path / "run")
    shutil.copytree(run.folder, other.folder)
    folds = dict(line.split("\t") for line in (run.folder / "split.tsv").read_text().splitlines()[1:])
    path = other.folder / "images/train.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    of_fold = [row for row in rows if folds[row["Image_Label"].rpartition("_")[0]] == "0"]
    texts = [row["EncodedPixels"] for row in of_fold]
    for row, text in zip(of_fold, [*texts[5:], *texts[:5]], strict=True):
        row["EncodedPixels"] = text
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    wanted = [f"{folder_of(recipe, fold)}/last.safetensors" for recipe in ("taught", "staged") for fold in (0, 1)]
    other.run(*wanted, *WORDS)
    digests = [
        [hashlib.sha256((each.folder / path).read_bytes()).hexdigest() for path in wanted] for each in (run, other)
    ]
    same = [before == after for before, after in zip(*digests, strict=True)]
    assert same == [True, False, True, False]
