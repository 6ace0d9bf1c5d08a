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


WANTED = ("dataset/truth.zarr", "dataset/train/64x96.zarr")


def test_masks_give_the_stores_that_their_run_lengths_give(workflow, small_images):
    settle(workflow.folder, small_images)
    workflow.run(*(f"results/tiny/{path}" for path in WANTED), "--cores", "1", "--configfile", "config.yaml")
    write_masks(workflow.folder / "images")
    dataset = CONFIG["dataset"] | {"labels": {"format": "masks", "files": "{image}_{class}"}, "submission": "severstal"}
    dataset["classes"] = [str(name) for name in CLASSES]
    asked = CONFIG | {"name": "masks", "dataset": dataset}
    (workflow.folder / "config.yaml").write_text(yaml.safe_dump(asked))
    # The sample is still the clouds', so the check of the test images says which columns it wanted
    words = ("--cores", "1", "--configfile", "config.yaml")
    printed = workflow.run("results/masks/dataset/test.tsv", *words, check=False)
    assert "expected the columns ImageId,EncodedPixels,ClassId, got 'Image_Label,EncodedPixels'" in printed
    del dataset["submission"]
    (workflow.folder / "config.yaml").write_text(yaml.safe_dump(asked))
    ours = [f"results/masks/{path}" for path in WANTED]
    workflow.run(*ours, *words)
    for path in WANTED:
        both = [stores.read(workflow.folder / f"results/{name}/{path}") for name in ("masks", "tiny")]
        for part in [None] if "truth" in path else ["image", "mask"]:
            blocks = [stores.read_images(each if part is None else each[part], slice(0, 12)) for each in both]
            np.testing.assert_array_equal(*blocks)
    assert workflow.planned(*ours, "--configfile", "config.yaml") == {}
    mask = next((workflow.folder / "images/train_masks").iterdir())
    Image.fromarray(np.zeros((140, 210), np.uint8)).save(mask)
    assert {"check", "truth", "pixels"} <= workflow.planned(*ours, "--configfile", "config.yaml").keys()
