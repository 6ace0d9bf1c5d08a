"""A few images of a data set: enough of each class, links alone, and tables that pass the check as the whole does."""

import csv

import pytest

from cloudseg.dataset.check import check_dataset
from cloudseg.dataset.demo import make_demo
from cloudseg.dataset.sample import make_sample

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
IMAGES = {"train": 6, "test": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Thirty training images of which two alone hold Fish, one Sugar, and four nothing; ten test images."""
    root = tmp_path_factory.mktemp("sample") / "images"
    make_demo(root, train=30, test=10, height=70, width=105, workers=1)
    path = root / "train.csv"
    header, *rows = path.read_text().splitlines()
    names = sorted({row.rpartition("_")[0] for row in rows})
    keep = {name: {"Flower", "Gravel"} for name in names}
    keep[names[13]], keep[names[28]], keep[names[5]] = {"Fish"}, {"Fish"}, {"Sugar"}
    keep |= {name: set() for name in names[20:24]}
    kept = [f"{name}_{label},{'1 50' if label in keep[name] else ''}" for name in names for label in CLASSES]
    path.write_text("\n".join([header, *kept]))  # without a last line break
    return root


def table(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_each_class_and_none_are_there(whole, tmp_path):
    said = make_sample(whole, tmp_path / "raw", classes=CLASSES, images=IMAGES)
    assert said == f"6 of 30 train images, 3 of 10 test images of {whole}"
    images, report = check_dataset(tmp_path / "raw", classes=CLASSES, size_of_submission=(70, 105))
    assert report.errors == []
    train = images[images["split"] == "train"]
    assert (len(train), (images["split"] == "test").sum()) == (6, 3)
    areas = train[CLASSES].fillna(0)
    assert (areas.sum() > 0).all()
    assert (areas.sum(axis=1) == 0).any()
    assert table(tmp_path / "raw/train.csv")[1:] == [
        row for row in table(whole / "train.csv") if row[0].rpartition("_")[0] in set(train["image"])
    ]
    assert len(table(tmp_path / "raw/sample_submission.csv")) == 1 + 3 * len(CLASSES)


def test_it_only_reads_the_data_set_and_is_the_same_each_time(whole, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    for name in ("one", "two"):
        make_sample(whole, tmp_path / name, classes=CLASSES, images=IMAGES)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before
    one, two = ({path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*")} for name in ("one", "two"))
    assert one == two
    links = list((tmp_path / "one").rglob("*.jpg"))
    assert len(links) == 9
    assert all(path.is_symlink() and path.resolve().is_relative_to(whole) for path in links)


def test_a_small_data_set_is_taken_whole(whole, tmp_path):
    make_sample(whole, tmp_path / "raw", classes=CLASSES, images={"train": 100, "test": 100})
    assert table(tmp_path / "raw/train.csv") == table(whole / "train.csv")
    assert len(list((tmp_path / "raw").rglob("*.jpg"))) == 40


def test_test_images_without_a_table_are_taken_without_one(whole, tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("train_images", "test_images", "train.csv"):
        (tmp_path / "images" / name).symlink_to(whole / name)
    said = make_sample(tmp_path / "images", tmp_path / "raw", classes=CLASSES, images=IMAGES)
    assert said.startswith("6 of 30 train images, 3 of 10 test images of ")
    assert {path.name for path in (tmp_path / "raw").glob("[!.]*")} == {"test_images", "train.csv", "train_images"}


def test_a_data_set_without_test_images_has_a_sample_without(whole, tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("train_images", "train.csv"):
        (tmp_path / "images" / name).symlink_to(whole / name)
    said = make_sample(tmp_path / "images", tmp_path / "raw", classes=CLASSES, images={"train": 6, "test": 0})
    assert said == f"6 of 30 train images of {tmp_path / 'images'}"
    assert {path.name for path in (tmp_path / "raw").glob("[!.]*")} == {"train.csv", "train_images"}
    _, report = check_dataset(tmp_path / "raw", classes=CLASSES, size_of_submission=(70, 105))
    assert report.errors == []


@pytest.mark.parametrize("row", ["nobody.jpg_Fish,1 1", "a,b,c", "0000000.jpg_Fihs,"])
def test_tables_with_faults_go_to_the_check_as_they_are(whole, tmp_path, row):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("train_images", "test_images", "sample_submission.csv"):
        (broken / name).symlink_to(whole / name)
    (broken / "train.csv").write_text((whole / "train.csv").read_text() + f"\n{row}\n")
    assert "all images" in make_sample(broken, tmp_path / "raw", classes=CLASSES, images=IMAGES)
    images, report = check_dataset(tmp_path / "raw", classes=CLASSES, size_of_submission=(70, 105))
    assert len(images) == 40
    assert [finding.line for finding in report.errors if finding.line] == [122]


def test_a_missing_table_is_left_to_the_check(whole, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "train_images").symlink_to(whole / "train_images")
    make_sample(broken, tmp_path / "raw", classes=CLASSES, images=IMAGES)
    _, report = check_dataset(tmp_path / "raw", classes=CLASSES, size_of_submission=(70, 105))
    assert {finding.file.rstrip("/") for finding in report.errors} >= {"test_images", "train.csv"}
