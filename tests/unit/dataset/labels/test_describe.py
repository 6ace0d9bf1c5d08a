"""A folder of any form is described as what it is, and the config that is printed reads it."""

import json
import re

import cv2
import numpy as np
import pytest
import yaml
from contest_forms import FORMS, draw, masks_of, write_contest, write_images

from cloudseg.config.reading import read_config
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.describe.folder import describe_folder
from cloudseg.dataset.labels.interface import draw_mask
from cloudseg.dataset.labels.opening import open_labels
from cloudseg.errors import DatasetError

NAMES = ["a_1", "b.2", "c-3", "d4", "1", "10"]
SHAPE = (40, 60)


def described(root):
    """Return the config of a description, as it is read."""
    lines = list(describe_folder(root))
    first, last = (
        lines.index("The config that fits, to save as own.yaml:"),
        lines.index("Then: snakemake -n --configfile own.yaml"),
    )
    text = "\n".join(lines[first + 1 : last]).partition("And its sheet")[0]
    return lines, read_config(yaml.safe_load(text)).dataset


def assert_reads(root, dataset, masks, class_of):
    """Assert that the labels are those of the masks, by image and class."""
    folder = ContestFolder(root, dataset.layout)
    labels = open_labels(folder, set(folder.list_images("train")), dataset.classes)
    for name in folder.list_images("train"):
        read = labels.read(name)
        for (image, label), mask in masks.items():
            if name.rpartition(".")[0] == image:
                encodings = read.get(class_of(label), [])
                drawn = draw_mask(encodings, mask.shape) if encodings else np.zeros_like(mask)
                assert np.array_equal(drawn, mask), (name, label)


@pytest.mark.parametrize("contest", FORMS)
def test_a_contest_is_known_by_its_table(tmp_path, contest):
    form = FORMS[contest]
    masks = write_contest(tmp_path, form, NAMES, ["x_1"])
    _, dataset = described(tmp_path)
    assert sorted(dataset.classes) == sorted(form.classes)
    assert_reads(tmp_path, dataset, masks, lambda label: label)


@pytest.mark.parametrize(
    "pattern",
    ["masks/{class}/{image}", "masks/{image}_{class}", "labels/{image}/{class}", "{class}_masks/{image}_mask"],
)
def test_masks_of_a_file_per_class(tmp_path, pattern):
    masks = masks_of(NAMES, ["Fish", "Flower"], seed=1)
    write_images(tmp_path / "images", [f"{name}.jpg" for name in NAMES], seed=1)
    for (image, label), mask in masks.items():
        path = tmp_path / (pattern.replace("{class}", label).replace("{image}", image) + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), 255 * mask)
    lines, dataset = described(tmp_path)
    assert dataset.classes == ("Fish", "Flower") and dataset.layout.train_images == "images"
    assert "no test images: networks are trained and scored, and nothing is submitted" in lines
    assert_reads(tmp_path, dataset, masks, lambda label: label)


@pytest.mark.parametrize(
    ("values", "classes"), [([255], ["class"]), ([1, 2], ["class 1", "class 2"]), ([7, 90], ["class 7", "class 90"])]
)
def test_masks_of_a_value_per_class(tmp_path, values, classes):
    rng = np.random.default_rng(2)
    write_images(tmp_path / "train" / "images", [f"{name}.png" for name in NAMES], seed=1)
    (tmp_path / "train" / "masks").mkdir()
    masks = {}
    for name in NAMES:
        index = np.zeros(SHAPE, np.uint8)
        for value in values:
            index[draw(rng) > 0] = value
        cv2.imwrite(str(tmp_path / "train/masks" / f"{name}.png"), index)
        masks |= {
            (name, label): (index == value).astype(np.uint8) for label, value in zip(classes, values, strict=True)
        }
    _, dataset = described(tmp_path)
    assert list(dataset.classes) == classes
    assert_reads(tmp_path, dataset, masks, lambda label: label)


def test_a_border_that_nobody_labelled_is_no_class(tmp_path):
    write_images(tmp_path / "images", [f"{name}.jpg" for name in NAMES], seed=1)
    (tmp_path / "masks").mkdir()
    for name in NAMES:
        cv2.imwrite(
            str(tmp_path / f"masks/{name}.png"), np.repeat(np.uint8([[0, 1, 2, 255]]), 15, axis=1).repeat(40, axis=0)
        )
    lines, dataset = described(tmp_path)
    assert list(dataset.classes) == ["class 1", "class 2"] and dataset.layout.labels.ignore == (255,)
    assert "masks have 255, too: taken for what nobody labelled, which is no class" in lines


def test_masks_that_were_smoothed_are_no_masks(tmp_path):
    write_images(tmp_path / "images", [f"{name}.jpg" for name in NAMES], seed=1)
    (tmp_path / "masks").mkdir()
    for name in NAMES:
        cv2.imwrite(str(tmp_path / f"masks/{name}.png"), np.arange(2400, dtype=np.uint8).reshape(SHAPE))
    with pytest.raises(DatasetError, match=r"masks: its masks have 255 values, 1, 2, 3, .* were they smoothed"):
        list(describe_folder(tmp_path))


def test_a_coco_file(tmp_path):
    from pycocotools import mask as coco

    masks = masks_of(NAMES, ["Fish", "Sugar"], seed=4)
    write_images(tmp_path / "scenes", [f"{name}.jpg" for name in NAMES], seed=1)
    annotations = []
    for (image, label), mask in masks.items():
        encoded = coco.encode(np.asfortranarray(mask))
        runs = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        category = 1 + ["Fish", "Sugar"].index(label)
        annotations.append(
            {"id": len(annotations), "image_id": NAMES.index(image), "category_id": category, "segmentation": runs}
        )
    content = {
        "images": [
            {"id": number, "file_name": f"{name}.jpg", "height": 40, "width": 60} for number, name in enumerate(NAMES)
        ],
        "categories": [{"id": 1, "name": "Fish"}, {"id": 2, "name": "Sugar"}],
        "annotations": annotations,
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    lines, dataset = described(tmp_path)
    assert "labels: COCO, in labels.json" in lines
    assert_reads(tmp_path, dataset, masks, lambda label: label)


@pytest.mark.parametrize(
    ("images", "masks", "others"),
    [
        ("contest/images", "contest/masks", []),
        ("labelled/images", "labelled/masks", []),
        ("images", "masks", ["other/x.jpg", *(f"other/{number}.jpg" for number in range(20))]),
        ("latest", "protest_masks", []),
    ],
)
def test_words_within_other_words_mean_nothing(tmp_path, images, masks, others):
    drawn = masks_of(NAMES, ["class"], seed=1)
    write_images(tmp_path / images, [f"{name}.png" for name in NAMES], seed=1)
    (tmp_path / masks).mkdir()
    for (name, _), mask in drawn.items():
        cv2.imwrite(str(tmp_path / masks / f"{name}.png"), 255 * mask)
    for other in others:
        write_images(tmp_path / "other", [other.removeprefix("other/")], seed=2)
    _, dataset = described(tmp_path)
    assert (dataset.layout.train_images, dataset.layout.labels.folder) == (images, masks)


def test_a_class_that_no_config_can_name_is_said(tmp_path):
    write_images(tmp_path / "images", ["a.jpg"], seed=1)
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "sea/land"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(DatasetError, match=r"classes\.0: .* got 'sea/land'; rename it"):
        list(describe_folder(tmp_path))


def test_what_is_said_of_masks_is_measured(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"images/{number}.jpg"), np.full((100, 200, 3), 90, np.uint8))
        mask = np.zeros((100, 200), np.uint8)
        if number < 4:
            mask[10:20, 10:30] = 255  # 200 pixels, 1 % of the image
            mask[50:60, 10:30] = 255
        cv2.imwrite(str(tmp_path / f"masks/{number}.png"), mask)
    lines = list(describe_folder(tmp_path))
    assert lines[0] == "10 training images in images/: 100x200"
    assert "  class: in 40% of 10 images, 8 components of 1 % to 1 % of the image, half below 1 %" in lines
    assert any("10 of 10 of them are grey" in line for line in lines)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "no folder of images in it"),
        (
            ["images/a.jpg", "notes.csv"],
            "no labels found for the 1 images of images/ (a.jpg and so on); there are notes.csv",
        ),
    ],
)
def test_what_is_missing_is_said(tmp_path, files, said):
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text("nothing\n")
    with pytest.raises(DatasetError, match=re.escape(said)):
        list(describe_folder(tmp_path))
