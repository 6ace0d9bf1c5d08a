"""Masks as other programs read them, against those programs."""

import csv
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from cloudseg.bundle.mask_files import MaskTable, write_coco, write_overlays, write_pngs
from cloudseg.errors import DatasetError
from cloudseg.postprocess import encode_rle

CLASSES = ["Fish", "Sugar_2"]
GRID = (20, 30)


@pytest.fixture
def masks(tmp_path):
    """Four images of the grid's size, a mask for each class; the last image has none."""
    rng = np.random.default_rng(3)
    (tmp_path / "images").mkdir()
    masks, rows = {}, [["Image_Label", "EncodedPixels"]]
    for name in ("a_Fish.jpg", "b, c.png", "d.png", "e.jpg"):
        cv2.imwrite(str(tmp_path / "images" / name), rng.integers(0, 255, (*GRID, 3), np.uint8))
        for label in CLASSES:
            mask = (cv2.GaussianBlur(rng.random(GRID), (0, 0), 2) > 0.5).astype(np.uint8) * (name != "e.jpg")
            masks[name, label] = mask
            rows.append([f"{name}_{label}", encode_rle(mask)])
    with (tmp_path / "masks.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return masks


def table(folder, threads=2):
    return MaskTable(folder / "masks.csv", folder / "images", CLASSES, GRID, threads)


def test_pngs_are_the_masks(masks, tmp_path):
    (tmp_path / "png.part").mkdir()  # a kill left it
    (tmp_path / "png.part/half.png").touch()
    write_pngs(table(tmp_path), tmp_path / "png")
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == CLASSES
    assert not (tmp_path / "png.part").exists()
    for (name, label), mask in masks.items():
        read = cv2.imread(str(tmp_path / "png" / label / f"{name.rpartition('.')[0]}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(read, 255 * mask)


def test_objects_of_coco_add_up_to_the_masks(masks, tmp_path, capsys):
    write_coco(table(tmp_path), tmp_path / "coco.json")
    coco = COCO(tmp_path / "coco.json")
    assert [image["file_name"] for image in coco.dataset["images"]] == sorted({name for name, _ in masks})
    for image in coco.dataset["images"]:
        for category in coco.dataset["categories"]:
            mask = masks[image["file_name"], category["name"]]
            objects = coco.loadAnns(coco.getAnnIds(imgIds=image["id"], catIds=category["id"]))
            drawn = sum((coco.annToMask(each) for each in objects), np.zeros(GRID, np.uint8))
            assert np.array_equal(drawn, mask)  # no pixel twice either
            assert len(objects) == cv2.connectedComponents(mask)[0] - 1
            for each in objects:
                x, y, width, height = cv2.boundingRect(coco.annToMask(each))
                assert each["bbox"] == [x, y, width, height]
    write_coco(table(tmp_path, threads=1), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "coco.json").read_bytes()


def test_masks_have_the_size_of_their_image(masks, tmp_path):
    large = cv2.resize(cv2.imread(str(tmp_path / "images/d.png")), (90, 60))
    cv2.imwrite(str(tmp_path / "images/d.png"), large)
    write_coco(table(tmp_path), tmp_path / "coco.json")
    plain = json.loads((tmp_path / "coco.json").read_text())
    image = next(each for each in plain["images"] if each["file_name"] == "d.png")
    assert (image["height"], image["width"]) == (60, 90)
    areas = [each["area"] for each in plain["annotations"] if each["image_id"] == image["id"]]
    assert sum(areas) == 9 * sum(int(masks["d.png", label].sum()) for label in CLASSES)


def test_overlays_show_each_image(masks, tmp_path):
    write_overlays(table(tmp_path), tmp_path / "overlays")
    drawn = sorted(path.name for path in (tmp_path / "overlays").iterdir())
    assert drawn == ["a_Fish.jpg", "b, c.jpg", "d.jpg", "e.jpg"]
    assert cv2.imread(str(tmp_path / "overlays/d.jpg")).shape == (*GRID, 3)


def test_two_images_that_would_have_one_mask_are_refused(masks, tmp_path):
    text = (tmp_path / "masks.csv").read_text().replace("e.jpg", "d.jpg")
    (tmp_path / "masks.csv").write_text(text)
    (tmp_path / "images/e.jpg").rename(tmp_path / "images/d.jpg")
    with pytest.raises(DatasetError, match=r"d\.png and d\.jpg differ in their suffix alone"):
        write_pngs(table(tmp_path), tmp_path / "png")
    assert not (tmp_path / "png").exists()
    with pytest.raises(DatasetError):
        write_coco(table(tmp_path), tmp_path / "coco.json")
    assert not (tmp_path / "coco.json").exists()
