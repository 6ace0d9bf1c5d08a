"""Labels in another form, from the config to the stores."""

import csv
from pathlib import Path

import numpy as np
import yaml
from own_data import CONFIG, settle
from PIL import Image

from cloudseg.dataset.demo import CLASSES
from cloudseg.postprocess import decode_rle
from cloudseg.storage import stores


def write_masks(root):
    """Write what the table says as a mask per image and class, and remove the table."""
    (root / "train_masks").mkdir()
    with (root / "train.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            name, _, label = row["Image_Label"].rpartition("_")
            mask = np.ascontiguousarray(decode_rle(row["EncodedPixels"], (140, 210)))
            Image.fromarray(mask * np.uint8(255)).save(root / "train_masks" / f"{Path(name).stem}_{label}.png")
    (root / "train.csv").unlink()


def test_masks_give_the_stores_that_their_run_lengths_give(workflow, small_images, finished_run):
    settle(workflow.folder, small_images)
    write_masks(workflow.folder / "images")
    dataset = CONFIG["dataset"] | {"labels": {"format": "masks", "files": "{image}_{class}"}, "submission": "severstal"}
    dataset["classes"] = [str(name) for name in CLASSES]
    (workflow.folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"dataset": dataset}))
    # The sample is still the clouds', so the check of the test images says which columns it wanted
    printed = workflow.run("results/tiny/dataset/test.tsv", "--cores", "1", "--configfile", "config.yaml", check=False)
    assert "expected the columns ImageId,EncodedPixels,ClassId, got 'Image_Label,EncodedPixels'" in printed
    del dataset["submission"]
    (workflow.folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"dataset": dataset}))
    wanted = ("results/tiny/dataset/truth.zarr", "results/tiny/dataset/train/64x96.zarr")
    workflow.run(*wanted, "--cores", "1", "--configfile", "config.yaml")
    for path in wanted:
        ours, theirs = (stores.read(folder / path) for folder in (workflow.folder, finished_run.folder))
        pairs = [(ours, theirs)] if "truth" in path else [(ours[name], theirs[name]) for name in ("image", "mask")]
        for one, other in pairs:
            np.testing.assert_array_equal(*(stores.read_images(each, slice(0, 12)) for each in (one, other)))
    assert workflow.planned(*wanted, "--configfile", "config.yaml") == {}
    mask = next((workflow.folder / "images/train_masks").iterdir())
    Image.fromarray(np.zeros((140, 210), np.uint8)).save(mask)
    assert {"check", "truth", "pixels"} <= workflow.planned(*wanted, "--configfile", "config.yaml").keys()
