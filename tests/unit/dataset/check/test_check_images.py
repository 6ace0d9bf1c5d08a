"""The check of the image files."""

import io
import threading
import time

import cv2
import numpy as np
import pytest
from PIL import Image
from small_folder import CLASSES, SHAPE, jpeg

from cloudseg.dataset.check import check_dataset, rules
from cloudseg.dataset.check import images as images_of_check
from cloudseg.dataset.decoding import decoding_bytes
from cloudseg.runtime.memory import OVERHEAD


def test_a_png_named_jpg_is_fine(folder):
    image = cv2.imread(str(folder.root / "train_images/a.jpg"))
    (folder.root / "train_images/a.jpg").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    assert not folder.findings()


def spoil(data: bytes, how: str) -> bytes:
    match how:
        case "truncated":
            return data[: len(data) // 2]
        case "without its end":
            return data[:-1]
        case "empty":
            return b""
        case "text":
            return b"<html>not found</html>"
        case "16 bits":
            return cv2.imencode(".png", np.zeros((*SHAPE, 3), np.uint16))[1].tobytes()
    raise AssertionError(how)


def turned(data: bytes, suffix: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, suffix, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["jpeg", "png"])
@pytest.mark.parametrize("file", ["train_images/a.jpg", "test_images/x.jpg"])
def test_an_image_that_exif_turns_is_refused(folder, file, suffix):
    """Labels fit the picture either way, so that nobody can tell which way it was labelled."""
    path = folder.root / file
    path.write_bytes(turned(path.read_bytes(), suffix))
    assert folder.findings() == [(rules.TURNED, f"{file}: its EXIF orientation is 6")]


def test_a_link_to_nothing_is_an_image_that_is_missed(folder):
    path = folder.root / "train_images/a.jpg"
    path.unlink()
    path.symlink_to("../store/a.jpg")
    assert folder.findings() == [
        (rules.BAD_IMAGE, "train_images/a.jpg: a symbolic link to '../store/a.jpg', which is not there")
    ]


def test_links_and_upper_case_endings_are_fine(folder):
    aside = folder.root.parent / "aside.bin"
    (folder.root / "train_images/a.jpg").rename(aside)
    (folder.root / "train_images/a.JPG").symlink_to(aside)
    folder.train[:2] = ["a.JPG_Fish,1 3 9 2", "a.JPG_Sugar,"]
    assert not folder.findings()


def test_only_so_many_images_are_decoded_at_once_as_there_is_memory_for(folder, monkeypatch):
    at_once, most, lock = 0, [], threading.Lock()
    decode = images_of_check.decode_image

    def slow(data):
        nonlocal at_once
        with lock:
            at_once += 1
            most.append(at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        return decode(data)

    monkeypatch.setattr(images_of_check, "decode_image", slow)
    folder.run()
    largest = max(map(decoding_bytes, folder.root.glob("*_images/*")))
    for images, expected in ((1, 1), (2.5, 2), (100, 5)):
        most.clear()
        memory = OVERHEAD + int(images * largest)
        check_dataset(folder.root, classes=CLASSES, size_of_submission=(10, 15), workers=5, memory=memory)
        assert len(most) == 5
        assert max(most) <= expected


def test_an_image_that_takes_more_memory_than_there_is_is_an_error_before_it_is_read(folder):
    folder.run()
    Image.new("1", (20_000, 10_000)).save(folder.root / "test_images/x.jpg", "png")
    options = {"classes": CLASSES, "size_of_submission": (10, 15), "splits": ["test"]}
    _, report = check_dataset(folder.root, **options, memory=OVERHEAD + 10**9)
    (finding,) = report.errors
    assert finding.rule is rules.TOO_LARGE
    assert str(finding) == "test_images/x.jpg: 1.60 GB to read it, and 1.00 GB for images"


@pytest.mark.parametrize("how", ["truncated", "without its end", "empty", "text", "16 bits"])
@pytest.mark.parametrize("file", ["train_images/a.jpg", "test_images/x.jpg"])
def test_images_that_cannot_be_used_are_named(folder, how, file):
    path = folder.root / file
    path.write_bytes(spoil(path.read_bytes(), how))
    images, report = folder.run()
    (finding,) = report.findings
    assert finding.rule is rules.BAD_IMAGE
    assert finding.file == file
    assert len(images) == 4
    assert path.name not in set(images["image"])


def test_a_jpeg_with_a_false_end_is_not_whole(folder):
    path = folder.root / "train_images/a.jpg"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    assert [rule for rule, _ in folder.findings()] == [rules.BAD_IMAGE]


def test_a_jpeg_with_damaged_data_is_not_silent(folder):
    path = folder.root / "train_images/a.jpg"
    data = path.read_bytes()
    path.write_bytes(data[:-200] + bytes(50) + data[-150:])
    assert {rule for rule, _ in folder.findings()} <= {rules.BAD_IMAGE, rules.DAMAGED}
    assert folder.findings()


def test_a_name_with_a_line_break_is_refused(folder):
    (folder.root / "test_images/x.jpg").rename(folder.root / "test_images/x\ry.jpg")
    assert rules.BAD_NAME in {rule for rule, _ in folder.findings()}


def test_labels_of_an_image_of_another_size(folder):
    (folder.root / "train_images/d.jpg").write_bytes(jpeg(1, size=(20, 30)))
    ((rule, message),) = folder.findings()
    assert rule is rules.BAD_TEXT
    assert "d.jpg_Fish" in message
    assert "20x30" in message


def test_transparency_is_a_warning(folder):
    data = cv2.imencode(".png", np.full((*SHAPE, 4), 9, np.uint8))[1].tobytes()
    (folder.root / "test_images/x.jpg").write_bytes(data)
    assert folder.findings() == [(rules.ALPHA, "test_images/x.jpg")]


def test_other_proportions_are_a_warning_per_size(folder):
    for name in ("x.jpg", "y.jpg"):
        (folder.root / "test_images" / name).write_bytes(jpeg(len(name) + ord(name[0]), size=(40, 40)))
    assert folder.findings() == [
        (rules.STRETCHED, "test_images: 2 of 40x40, the submission is 10x15"),
    ]
