"""What a data set holds decides, whatever its files' times are and wherever they lie."""

import os
import shutil
import time

import pytest

from cloudseg.dataset import contents
from cloudseg.dataset.contents import digest_contents


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "clouds"
    for name in ("train_images/a.jpg", "train_images/b.PNG", "test_images/x.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "train.csv").write_text("Image_Label,EncodedPixels\na.jpg_Fish,1 3\n")
    (root / "sample_submission.csv").write_text("Image_Label,EncodedPixels\nx.jpg_Fish,\n")
    return root


def both(root, cache=None):
    return [digest_contents(root, split, cache and cache / f"{split}.json") for split in ("train", "test")]


def settled(root):
    """Give all files times of an hour ago, so that a cache believes them."""
    for path in root.rglob("*"):
        os.utime(path, ns=(time.time_ns() - 3600 * 10**9,) * 2)


def test_times_places_stray_files_and_line_ends_do_not_count(root, tmp_path):
    before = both(root)
    settled(root)
    assert both(root) == before
    copy = shutil.copytree(root, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    for name in ("train_images/.DS_Store", "train_images/._a.jpg", "test_images/Thumbs.db", "notes.csv"):
        (copy / name).write_text("stray")
    (copy / "train_images/folder.jpg").mkdir()
    for table in ("train.csv", "sample_submission.csv"):
        (copy / table).write_bytes(b"\xef\xbb\xbf" + (copy / table).read_bytes().replace(b"\n", b"\r\n"))
    assert both(copy) == before


@pytest.mark.parametrize(
    ("change", "side"),
    [
        (lambda root: (root / "train_images/a.jpg").write_text("another"), "train"),
        (lambda root: (root / "train_images/a.jpg").rename(root / "train_images/c.jpg"), "train"),
        (lambda root: (root / "train_images/c.jpeg").write_text("one more"), "train"),
        (lambda root: (root / "train_images/b.PNG").unlink(), "train"),
        (lambda root: (root / "train_images/gone.jpg").symlink_to("nowhere"), "train"),
        (lambda root: (root / "train.csv").write_text("Image_Label,EncodedPixels\na.jpg_Fish,1 4\n"), "train"),
        (lambda root: (root / "train.csv").unlink(), "train"),
        (lambda root: (root / "test_images/y.jpg").write_text("one more"), "test"),
        (lambda root: (root / "sample_submission.csv").write_text("Image_Label,EncodedPixels\n"), "test"),
        (lambda root: shutil.rmtree(root / "test_images"), "test"),
    ],
)
def test_a_change_is_noticed_on_its_side_alone(root, tmp_path, change, side):
    settled(root)
    train, test = both(root, tmp_path)
    change(root)
    for cache in (None, tmp_path):
        after = both(root, cache)
        assert (after[0] != train, after[1] != test) == (side == "train", side == "test")


def test_two_images_that_change_places_are_a_change(root):
    train, _ = both(root)
    a, b = root / "train_images/a.jpg", root / "train_images/b.PNG"
    texts = a.read_text(), b.read_text()
    a.write_text(texts[1])
    b.write_text(texts[0])
    assert both(root)[0] != train


def test_files_that_the_cache_knows_are_not_read_again(root, tmp_path, monkeypatch):
    settled(root)
    monkeypatch.setattr(contents, "RACY", 0)
    read = []
    digest_file = contents._digest_file
    monkeypatch.setattr(contents, "_digest_file", lambda file: (read.append(file), digest_file(file))[1])
    before = both(root, tmp_path)
    assert len(read) == 5
    assert both(root, tmp_path) == before
    assert len(read) == 5
    (root / "train_images/a.jpg").touch()
    assert both(root, tmp_path) == before
    assert read[5:] == [str(root / "train_images/a.jpg")]


def test_a_change_that_keeps_size_and_time_is_noticed(root, tmp_path):
    """As `rsync --times` and an editor within a tick of the clock leave it."""
    image = root / "train_images/a.jpg"
    before = both(root, tmp_path)
    times = image.stat().st_atime_ns, image.stat().st_mtime_ns
    image.write_text(image.read_text()[::-1])
    os.utime(image, ns=times)
    assert both(root, tmp_path)[0] != before[0]


@pytest.mark.parametrize("spoiled", ["", "{", "[1]", '{"a": 1}', '{"a": []}'])
def test_a_spoiled_or_forbidden_cache_costs_time_alone(root, tmp_path, spoiled):
    before = both(root)
    (tmp_path / "train.json").write_text(spoiled)
    assert both(root, tmp_path) == before
    (tmp_path / "file").write_text("no folder")
    assert both(root, tmp_path / "file") == before


def test_a_name_that_is_no_text_is_left_to_the_check(root):
    try:
        (root / os.fsdecode(b"train_images/\xff.jpg")).write_text("odd")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert both(root)
