"""A bundle of a finished run: the same masks without the workflow, and new images in shards, as a user types it."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import onnxruntime
import pytest

import cloudseg
from cloudseg.bundle.bundle import Bundle
from cloudseg.config.recipe import Recipe
from cloudseg.dataset.decoding import load_image
from cloudseg.inference.predictor import Predictor
from cloudseg.storage import per_image, stores

WORDS = ("--cores", "2", "--configfile", "config.yaml")
BUNDLE = "results/tiny/ensembles/all/bundle.zip"
MASKS = "predictions/august/masks.csv"


@pytest.fixture(scope="module")
def packed(tmp_path_factory, make_workflow, finished_run):
    workflow = make_workflow(tmp_path_factory.mktemp("bundle") / "run")
    shutil.copytree(finished_run.folder, workflow.folder)
    workflow.printed = workflow.run("bundle", *WORDS)
    return workflow


@pytest.fixture
def new_images(packed, tmp_path):
    """Fifteen images: each test image, in three orientations and lights."""
    folder = tmp_path / "new images"
    folder.mkdir()
    for path in (packed.folder / "images/test_images").iterdir():
        image = cv2.imread(str(path))
        for name, changed in (("a", image), ("b", image[::-1]), ("c", image // 2)):
            cv2.imwrite(str(folder / f"{name}_{path.stem}.png"), changed)
    return folder


def predicted(packed, folder, *words, check=True, shard=5):
    settings = [f"images={folder}", f"shard={shard}", *words]
    return packed.run(MASKS, *WORDS, "--config", *settings, check=check)


def times(packed):
    return {path.name: path.stat().st_mtime_ns for path in (packed.folder / "predictions/august/shards").iterdir()}


def test_the_bundle_alone_writes_the_submission_of_the_workflow(packed, tmp_path):
    assert "all/bundle.zip: 4 networks of all" in packed.printed
    images = packed.folder / "images"
    command = [sys.executable, "-m", "cloudseg", "predict", packed.folder / BUNDLE, images / "test_images"]
    # As where there is no GPU to ask for, nor a Snakemake
    blocker = tmp_path / "snakemake.py"
    blocker.write_text("raise ImportError('no Snakemake here')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    sample = ["--sample", images / "sample_submission.csv"]
    subprocess.run([*command, tmp_path / "mine.csv", *sample], check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "mine.csv").read_bytes() == (packed.folder / "submission.csv").read_bytes()


def test_packing_again_gives_the_same_bytes(packed):
    before = (packed.folder / BUNDLE).read_bytes()
    packed.run("--forcerun", "pack", "bundle", *WORDS)
    assert (packed.folder / BUNDLE).read_bytes() == before


def test_an_image_in_python_has_the_probabilities_of_the_store(packed):
    loaded = cloudseg.load(packed.folder / BUNDLE, device="cpu")
    store = stores.read(packed.folder / "results/tiny/ensembles/all/test.zarr")
    assert loaded.classes == ["Fish", "Flower", "Gravel", "Sugar"]
    for row, name in enumerate(per_image.ids(store)):
        said = loaded.predict(load_image(packed.folder / "images/test_images" / name))
        there = stores.read_images(store, slice(row, row + 1))[0].astype(int)
        # One image at once, where the store has four: the last bits of a float may differ
        assert np.abs(said.probabilities.astype(int) - there).max() <= 1
        assert said.masks.shape == (4, 210, 315) and said.masks.dtype == bool


def test_networks_as_onnx_give_the_same_probabilities(packed, tmp_path):
    """Of one view: bytes in, probabilities out, within a level."""
    command = [sys.executable, "-m", "cloudseg", "export", packed.folder / BUNDLE, tmp_path / "onnx"]
    subprocess.run(command, check=True, cwd=packed.folder)
    described = json.loads((tmp_path / "onnx/networks.json").read_text())
    assert [network["blended"] for network in described["networks"]] == [{"where": {"weight": 0.25}}] * 4
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 96, 3), np.uint8)
    runs = packed.folder / "results/tiny/runs"
    for network in described["networks"]:
        session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / network["file"]))
        [probabilities] = session.run(None, {"images": images})
        checkpoint = runs / network["run"] / f"{network['checkpoint']}.safetensors"
        ours = Predictor(checkpoint, Recipe(precision="float32", tta=[{"view": "identity"}]))(images)
        assert probabilities.shape == (3, 4, 64, 96)
        assert np.abs(np.floor(255 * probabilities + 0.5) - ours).max() <= 1


def test_new_images_are_predicted_in_shards_and_one_more_costs_one_of_them(packed, new_images):
    printed = predicted(packed, new_images)
    assert set(re.findall(r"^(\w+) +\d+$", printed, flags=re.MULTILINE)) == {"segment_images", "gather_masks", "total"}
    rows = list(csv.reader((packed.folder / MASKS).open()))
    assert [row[0] for row in rows[1:]] == [
        f"{name}_{label}"
        for name in sorted(path.name for path in new_images.iterdir())
        for label in ("Fish", "Flower", "Gravel", "Sugar")
    ]
    assert len(times(packed)) > 2
    before, shards = times(packed), packed.folder / "predictions/august/shards"
    shutil.copy(next(new_images.iterdir()), new_images / "one more.png")
    predicted(packed, new_images)
    after = times(packed)
    assert sum(after.get(name) != time for name, time in before.items()) == 1
    assert sum(path.read_text().count("\n") - 1 for path in shards.iterdir()) == 4 * 13  # and no stale one
    assert len((packed.folder / MASKS).read_text().splitlines()) == 4 * 13 + 1
    (shards / next(iter(after))).unlink()
    (packed.folder / MASKS).unlink()
    predicted(packed, new_images)
    assert sum(times(packed)[name] != time for name, time in after.items()) == 1


def test_where_images_came_from_does_not_change_their_masks(packed, tmp_path):
    """The test images as new ones, in one shard, have the masks of the submission."""
    predicted(packed, packed.folder / "images/test_images", shard=4096)
    ours = sorted((packed.folder / "submission.csv").read_text().splitlines())
    assert sorted((packed.folder / MASKS).read_text().splitlines()) == ours


def test_nothing_is_trained_for_new_images(packed, new_images):
    """Not even where something has changed that a training goes by, or a checkpoint is gone."""
    aside = packed.folder / "results/tiny/runs"
    aside.rename(packed.folder / "aside")
    try:
        shutil.rmtree(packed.folder / "predictions", ignore_errors=True)
        assert "segment_images" in predicted(packed, new_images)
        assert not aside.exists()
    finally:
        (packed.folder / "aside").rename(aside)


def test_without_a_target_the_folder_gives_the_name(packed, new_images):
    packed.run(*WORDS, "--config", f"images={new_images}")
    assert (packed.folder / "predictions/new-images/masks.csv").is_file()
    coco = "predictions/new-images/coco.json"
    packed.run(coco, *WORDS, "--config", f"images={new_images}")
    # However the folder and the file are called
    shutil.copy(packed.folder / BUNDLE, packed.folder / "copy.zip")
    words = ("--config", f"images={new_images}/", "bundle=copy.zip")
    assert packed.planned(coco, "--configfile", "config.yaml", *words) == {}
    larger = next(new_images.iterdir())
    cv2.imwrite(str(larger), np.zeros((70, 90, 3), np.uint8))
    packed.run(coco, *WORDS, "--config", f"images={new_images}")
    described = json.loads((packed.folder / coco).read_text())["images"]
    assert [(each["height"], each["width"]) for each in described if each["file_name"] == larger.name] == [(70, 90)]


def test_folders_of_the_user_are_left_alone(packed, new_images):
    own = packed.folder / "predictions/mine/png"
    shutil.copytree(new_images, own)
    kept = sorted(path.name for path in own.iterdir())
    printed = packed.run("predictions/mine/png", *WORDS, "--config", "images=predictions/mine/png", check=False)
    assert "images: predictions/mine/png lies in predictions/" in printed
    printed = packed.run("predictions/mine/png", *WORDS, "--config", f"images={new_images}", check=False)
    assert "predictions/mine/png: not made by a job; move it" in printed
    assert sorted(path.name for path in own.iterdir()) == kept
    shutil.rmtree(own)


def test_a_bundle_of_an_earlier_submission_is_refused(packed, new_images):
    provenance = packed.folder / "results/tiny/ensembles/all/provenance.json"
    before = provenance.read_bytes()
    provenance.write_bytes(before.replace(b'"smoke": false', b'"smoke": false '))
    printed = predicted(packed, new_images, check=False)
    provenance.write_bytes(before)
    assert "bundle.zip: packed before the submission that is there now; type: snakemake bundle" in printed


def test_other_targets_are_said_to_be_for_another_call(packed, new_images):
    printed = packed.run("submission.csv", *WORDS, "--config", f"images={new_images}", check=False)
    assert "submission.csv: with images=FOLDER there is predictions/NAME/masks.csv" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["images=nowhere"], "nowhere: No such file or directory; expected a folder of images"),
        (["images=results"], "results: no image in it; expected files that end in .jpg, .jpeg or .png"),
        (["images=images/test_images", "bundle=none.zip"], "none.zip: no such file"),
        (
            ["images=images/test_images", "bundle=config.yaml"],
            "config.yaml: not a whole bundle (File is not a zip file)",
        ),
    ],
)
def test_what_cannot_be_predicted_is_said_in_a_line(packed, words, said):
    printed = packed.run(MASKS, *WORDS, "--config", *words, check=False)
    assert said in printed and "Traceback" not in printed


def test_masks_are_asked_for_with_a_folder_of_images(packed):
    printed = packed.run(MASKS, *WORDS, check=False)
    assert f"{MASKS}: which images? Add --config images=FOLDER" in printed


def test_an_image_that_cannot_be_read_is_named_and_the_other_shards_are_kept(packed, new_images):
    shutil.rmtree(packed.folder / "predictions", ignore_errors=True)
    bad = sorted(new_images.iterdir())[0]
    bad.write_bytes(bad.read_bytes()[:900])
    printed = predicted(packed, new_images, check=False)
    assert f"{bad.name}: cannot be used" in printed
    assert not (packed.folder / MASKS).exists()
    assert times(packed)
    bad.unlink()
    kept = times(packed)
    predicted(packed, new_images)
    assert kept.items() <= times(packed).items()


def test_a_bundle_that_was_changed_is_refused(packed, tmp_path):
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(packed.folder / BUNDLE) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(
                entry, data[:-1] + bytes([data[-1] ^ 1]) if entry.filename.startswith("networks/001") else data
            )
    with pytest.raises(
        cloudseg.errors.DamagedFileError, match=r"networks/001\.safetensors is not the one that was packed"
    ):
        cloudseg.load(changed)
    assert Bundle.read(changed).provenance.ensemble == "all"
