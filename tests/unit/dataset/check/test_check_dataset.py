"""The dataset check as a whole: what it finds in a folder, and its table of images."""

import hashlib
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from small_folder import CLASSES, jpeg

from cloudseg.dataset.check import check_dataset, rules
from cloudseg.dataset.images_table import read_images
from cloudseg.storage.files import write_table


def test_a_sound_folder_has_no_findings(folder):
    images, report = folder.run()
    report.raise_for_errors()
    assert str(report).endswith("No problems found.")
    assert "3 train images of 40x60" in str(report)
    assert "Fish 2, Sugar 2; 67 % of all pairs" in str(report)
    assert list(images.columns) == ["image", "split", "height", "width", "digest", "labels", *CLASSES]
    assert list(images["image"]) == ["a.jpg", "b_c.jpg", "d.jpg", "x.jpg", "y.jpg"]
    assert list(images["split"]) == ["train"] * 3 + ["test"] * 2
    assert set(images["height"]) == {40}
    assert set(images["width"]) == {60}
    assert images["Fish"].tolist() == [5, 0, 2400, pd.NA, pd.NA]
    assert images["Sugar"].tolist() == [0, 1, 3, pd.NA, pd.NA]
    data = (folder.root / "train_images/b_c.jpg").read_bytes()
    assert images["digest"][1] == hashlib.sha256(data).hexdigest()
    assert images["labels"].str.len().tolist() == [16, 16, 16, 0, 0]


def test_the_table_is_the_same_for_any_number_of_workers(folder):
    one, report_one = folder.run(workers=1)
    four, report_four = folder.run(workers=4)
    pd.testing.assert_frame_equal(one, four)
    assert str(report_one) == str(report_four)


def test_the_table_comes_back_from_its_file(folder, tmp_path):
    images, _ = folder.run()
    images["labels"] = ["1234567890123456", "0000000000000012", "1e10", "", ""]  # no number, whatever it looks
    write_table(images, tmp_path / "images.tsv")
    pd.testing.assert_frame_equal(read_images(tmp_path / "images.tsv"), images)


def test_a_name_in_both_folders_is_an_error(folder):
    (folder.root / "test_images/a.jpg").write_bytes(jpeg(5))
    folder.sample += ["a.jpg_Fish,1 1", "a.jpg_Sugar,1 1"]
    assert folder.findings() == [(rules.SAME_NAME, "train_images/a.jpg: also test_images/a.jpg")]


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_folder_is_one_error(folder, split):
    for file in (folder.root / f"{split}_images").iterdir():
        file.unlink()
    assert folder.findings() == [(rules.NO_IMAGES, f"{split}_images: no image in it")]


@pytest.mark.parametrize("name", ["train.csv", "train_images", "test_images"])
def test_a_missing_part_is_named(folder, name):
    folder.run()
    folder.train = folder.sample = None
    (folder.root / name).rename(folder.root.parent / "elsewhere")
    ((rule, message),) = folder.findings()
    assert rule is rules.NO_SUCH_FILE
    assert message.startswith(f"{name}: no such")


@pytest.mark.parametrize("splits", [["train"], ["train", "test"]])
def test_test_images_need_not_be_there(folder, splits):
    images, _ = folder.run()
    (folder.root / "sample_submission.csv").unlink()
    shutil.rmtree(folder.root / "test_images")
    found, report = check_dataset(folder.root, classes=CLASSES, size_of_submission=(10, 15), splits=splits)
    pd.testing.assert_frame_equal(found, images[images["split"] == "train"])
    assert [str(finding) for finding in report.findings] == ["test_images: no such folder"]
    assert "Note: no test images (1), test_images: no such folder: everything is made that needs none" in str(report)


def test_test_images_need_no_sample_submission(folder):
    images, _ = folder.run()
    folder.sample = None
    (folder.root / "sample_submission.csv").unlink()
    found, report = folder.run()
    pd.testing.assert_frame_equal(found, images)
    assert [str(finding) for finding in report.notes] == ["sample_submission.csv: no such file"]
    assert (report.errors, report.warnings) == ([], [])
    assert "its rows will be all test images in the order of their names, each with all classes" in str(report)
    (folder.root / "sample_submission.csv").symlink_to(folder.root / "elsewhere.csv")
    assert folder.findings() == [(rules.NO_SUCH_FILE, "sample_submission.csv: no such file")]


def test_an_absent_root_lists_what_should_be_there(tmp_path):
    _, report = check_dataset(tmp_path / "none", classes=CLASSES, size_of_submission=(10, 15), workers=1)
    parts = ["train_images", "train.csv"]
    assert [finding.file for finding in report.errors] == parts


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "0 classes"),
        ([f"c{index}" for index in range(65)], "65 classes"),
        (["Fish", "Fish"], "'Fish' 2 times"),
        (["Fish", ""], "''"),
        (["Fish", "digest"], "'digest'"),
    ],
)
def test_classes_that_cannot_be_used(folder, classes, message):
    assert (rules.BAD_CLASSES, f"config: {message}") in folder.findings(classes=classes)


def test_64_classes_are_fine(folder):
    classes = [f"c{index}" for index in range(64)]
    folder.train = [f"{name}_{label},1 1" for name in ("a.jpg", "b_c.jpg", "d.jpg") for label in classes]
    folder.sample = [f"{name}_{label},1 1" for name in ("x.jpg", "y.jpg") for label in classes]
    assert not folder.findings(classes=classes)


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_split_alone_is_checked_without_the_other(folder, side):
    images, _ = folder.run()
    other = {"train": "test", "test": "train"}[side]
    (folder.root / f"{other}_images" / {"train": "x.jpg", "test": "a.jpg"}[side]).write_bytes(b"")
    folder.root.joinpath("train.csv" if side == "test" else "sample_submission.csv").unlink()
    found, report = check_dataset(folder.root, classes=CLASSES, size_of_submission=(10, 15), splits=[side])
    assert not report.findings
    pd.testing.assert_frame_equal(found, images[images["split"] == side].reset_index(drop=True))


def test_a_test_image_with_the_bytes_or_the_name_of_a_training_image_is_found_by_either_check(folder):
    folder.run()
    shutil.copy(folder.root / "train_images/a.jpg", folder.root / "test_images/x.jpg")
    (folder.root / "train_images/y.jpg").write_bytes(jpeg(77))
    found = {}
    for split in ("train", "test"):
        _, report = check_dataset(folder.root, classes=CLASSES, size_of_submission=(10, 15), splits=[split])
        found[split] = {(finding.rule, str(finding)) for finding in report.findings}
        assert (rules.SAME_NAME, "train_images/y.jpg: also test_images/y.jpg") in found[split]
    assert (rules.SAME_BYTES, "test_images/x.jpg: the same as train_images/a.jpg") in found["test"]


def test_real_data():
    parent = os.environ.get("CLOUDSEG_REAL_DATA")
    if not parent:
        pytest.skip("CLOUDSEG_REAL_DATA does not name the folder that holds understanding-clouds-mini")
    root = Path(parent) / "understanding-clouds-mini"
    classes = ["Fish", "Flower", "Gravel", "Sugar"]
    images, report = check_dataset(root, classes=classes, size_of_submission=(350, 525), workers=2)
    assert not report.findings
    assert len(images) == 10
    assert set(zip(images["height"], images["width"], strict=True)) == {(1400, 2100)}
    table = pd.read_csv(root / "train.csv", keep_default_na=False)
    for image in images[images["split"] == "train"].to_dict("records"):
        for label in classes:
            (text,) = table.loc[table["Image_Label"] == f"{image['image']}_{label}", "EncodedPixels"]
            assert image[label] == sum(int(length) for length in text.split()[1::2])
