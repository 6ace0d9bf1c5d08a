import hashlib
import io
import os
import random
import re
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cloudseg.dataset.check import check_dataset, rules
from cloudseg.dataset.check import images as images_of_check
from cloudseg.dataset.contest import ContestFolder, Labels, digest_labels
from cloudseg.dataset.decoding import decoding_bytes
from cloudseg.dataset.images_table import read_images
from cloudseg.errors import DatasetError
from cloudseg.postprocess import encode_rle
from cloudseg.runtime.memory import OVERHEAD
from cloudseg.storage.files import write_table

CLASSES = ["Fish", "Sugar"]
SHAPE = (40, 60)


def jpeg(seed: int, mode: str = "RGB", size: tuple[int, int] = SHAPE) -> bytes:
    noise = np.random.default_rng(seed).integers(1, 255, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, "jpeg")
    return file.getvalue()


class Folder:
    """A small data set without a fault, and the means to spoil it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for split, names in (("train", ["a.jpg", "b_c.jpg", "d.jpg"]), ("test", ["x.jpg", "y.jpg"])):
            (root / f"{split}_images").mkdir(parents=True)
            for name in names:
                (root / f"{split}_images" / name).write_bytes(jpeg(sum(name.encode())))
        self.train = ["a.jpg_Fish,1 3 9 2", "a.jpg_Sugar,", "b_c.jpg_Fish,", "b_c.jpg_Sugar,2400 1"]
        self.train += ["d.jpg_Fish,1 2400", "d.jpg_Sugar,40 2 42 1"]
        self.sample = ["x.jpg_Fish,1 1", "x.jpg_Sugar,1 1", "y.jpg_Fish,1 1", "y.jpg_Sugar,1 1"]

    def run(self, classes=CLASSES, workers=2):
        for name, rows in (("train.csv", self.train), ("sample_submission.csv", self.sample)):
            if rows is not None:
                text = "\n".join(["Image_Label,EncodedPixels", *rows, ""])
                (self.root / name).write_text(text, encoding="utf-8")
        return check_dataset(self.root, classes=classes, size_of_submission=(10, 15), workers=workers)

    def findings(self, **options) -> list[tuple[rules.CheckRule, str]]:
        _, report = self.run(**options)
        return [(finding.rule, str(finding)) for finding in report.findings]


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "clouds")


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


def test_only_the_labels_that_were_edited_have_another_digest(folder):
    before, _ = folder.run()
    folder.train[0] = "a.jpg_Fish,1 4"
    folder.train[1:3] = reversed(folder.train[1:3])
    after, _ = folder.run()
    assert (before["labels"] != after["labels"]).tolist() == [True, False, False, False, False]
    assert (before["digest"] == after["digest"]).all()


@pytest.mark.parametrize("make", [lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t])
def test_bom_and_crlf_are_fine(folder, make):
    folder.run()
    for name in ("train.csv", "sample_submission.csv"):
        path = folder.root / name
        path.write_bytes(make(path.read_text()).encode())
    folder.train = folder.sample = None
    assert not folder.findings()


def test_a_png_named_jpg_is_fine(folder):
    image = cv2.imread(str(folder.root / "train_images/a.jpg"))
    (folder.root / "train_images/a.jpg").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    assert not folder.findings()


# Labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "pair 1"),
        ("1 2 5", "pair 2"),
        ("0 3", "pair 1 .*0 3"),
        ("1 0", "pair 1"),
        ("1 2 2400 2", r"40x60.*pair 2 .*2400 2.*past the end"),
        ("2401 1", "pair 1"),
        ("5 3 7 2", "pair 2"),
        ("5 3 1 2", "pair 2"),
        ("1 three", "pair 1"),
        ("1 2 x 4", "pair 2"),
        ("１ ３", "pair 1"),
        ("1 ²", "pair 1"),
        ("1 -3", "pair 1"),
        ("1 1.5", "pair 1"),
        ("123456789012345678901234567890 1", "pair 1"),
        ("1 123456789012345678901234567890", "pair 1"),
    ],
)
def test_malformed_labels_are_named_with_line_and_pair(folder, text, message):
    folder.train[2] = f"b_c.jpg_Fish,{text}"
    images, report = folder.run()
    (finding,) = report.findings
    assert finding.rule is rules.BAD_TEXT
    assert str(finding).startswith("train.csv, line 4: b_c.jpg_Fish (40x60): ")
    assert re.search(message, finding.got)
    assert len(images) == 5
    with pytest.raises(DatasetError, match=r"found 1 error\. The first: train\.csv, line 4: b_c"):
        report.raise_for_errors()


@pytest.mark.parametrize(
    ("rows", "rule", "message"),
    [
        (["gone.jpg_Fish,1 1"], rules.NO_SUCH_IMAGE, "train.csv, line 8: 'gone.jpg_Fish'"),
        (["x.jpg_Fish,1 1"], rules.NO_SUCH_IMAGE, "train.csv, line 8: 'x.jpg_Fish'"),
        (["nonsense,1 1"], rules.NO_SUCH_IMAGE, "train.csv, line 8: 'nonsense'"),
        (
            ["a.jpg_Suger,1 1"],
            rules.NO_SUCH_CLASS,
            "train.csv, line 8: 'Suger' in 'a.jpg_Suger' (nearest: Sugar)",
        ),
        (["a.jpg_,1 1"], rules.NO_SUCH_CLASS, "train.csv, line 8: '' in 'a.jpg_'"),
        (["A.JPG_Fish,1 1"], rules.NO_SUCH_IMAGE, "train.csv, line 8: 'A.JPG_Fish'; the folder has 'a.jpg'"),
        (["a_Fish,1 1"], rules.NO_SUCH_IMAGE, "train.csv, line 8: 'a_Fish'; the folder has 'a.jpg'"),
        (
            ["train_images/a.jpg_Fish,1 1"],
            rules.NO_SUCH_IMAGE,
            "train.csv, line 8: 'train_images/a.jpg_Fish'; the folder has 'a.jpg'",
        ),
        (["a.jpg_Fish"], rules.BAD_ROW, "train.csv, line 8: 1 cells, beginning with 'a.jpg_Fish'"),
        (["a.jpg_Fish,1 1,2"], rules.BAD_ROW, "train.csv, line 8: 3 cells, beginning with 'a.jpg_Fish'"),
    ],
)
def test_rows_that_fit_nothing_are_named(folder, rows, rule, message):
    folder.train += rows
    assert folder.findings() == [(rule, message)]


def test_a_name_in_another_unicode_form_is_said_to_be_one(folder):
    composed, decomposed = "\u00e9.jpg", "e\u0301.jpg"
    (folder.root / "train_images/a.jpg").rename(folder.root / "train_images" / decomposed)
    folder.train[:2] = [f"{composed}_Fish,1 3", f"{composed}_Sugar,"]
    findings = folder.findings()
    assert [rule for rule, _ in findings] == [rules.NO_SUCH_IMAGE] * 2 + [rules.NO_ROWS]
    assert findings[0][1].endswith("; the folder has it in another Unicode form (NFC or NFD)")


def test_several_rows_of_an_image_and_a_class_are_united_and_said(folder):
    folder.train += ["a.jpg_Fish,2 2 9 1", "a.jpg_Fish,-1", "d.jpg_Sugar,40 2 42 1"]
    images, report = folder.run()
    report.raise_for_errors()
    assert [(finding.rule, str(finding)) for finding in report.warnings] == [
        (rules.UNITED, "train.csv: 'a.jpg_Fish' 3 times, lines 2, 8, 9"),
        (rules.UNITED, "train.csv: 'd.jpg_Sugar' 2 times, lines 7, 10"),
    ]
    assert images["Fish"][0] == 5  # 1 to 3, 9 and 10
    assert images["Sugar"][2] == 3


def test_a_bad_one_of_several_rows_is_named_by_its_line(folder):
    folder.train += ["a.jpg_Fish,0 2"]
    _, report = folder.run()
    assert [str(finding) for finding in report.errors] == [
        "train.csv, line 8: a.jpg_Fish (40x60): rle: pair 1 (0 2): start and length must be at least 1"
    ]


@pytest.mark.parametrize("text", ["-1", "NaN", "nan", " -1 ", "None", "null", '""'])
def test_what_tables_write_for_nothing_is_nothing(folder, text):
    before, _ = folder.run()
    folder.train[1] = f"a.jpg_Sugar,{text}"
    images, report = folder.run()
    assert not report.findings
    pd.testing.assert_frame_equal(images, before)


def test_two_quotation_marks_that_are_astray_swallow_rows_but_no_memory(tmp_path):
    import tracemalloc

    folder = Folder(tmp_path / "clouds")
    names = [f"{index:06}_.jpg" for index in range(20_000)]
    folder.train += [f"{name}_Fish,1 1" for name in names]
    folder.train[6] = '"' + folder.train[6]
    folder.train[-1] += '"'
    tracemalloc.start()
    _, report = folder.run(workers=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (finding,) = report.errors
    assert finding.rule is rules.BAD_ROW
    assert str(finding).startswith("train.csv, line 8: one cell in quotation marks from here to line 20007, beginning")
    assert len(str(finding)) < 250
    assert peak < 40e6  # of a table of half a megabyte; all its beginnings and ends were ten gigabytes


@pytest.mark.parametrize(
    ("rows", "line", "came"),
    [
        (['a.jpg_Fish,"1 3', "a.jpg_Sugar,"], 2, "a quotation mark opens a cell that never ends"),
        (['a.jpg_Fish,"1 3', 'a.jpg_Sugar,"1 1'], 3, "whose quotation marks begin in line 2"),
    ],
)
def test_a_quotation_mark_that_is_astray_is_named_where_it_stands(folder, rows, line, came):
    folder.train[:2] = rows
    _, report = folder.run()
    (finding,) = [finding for finding in report.errors if finding.rule is rules.BAD_TABLE]
    assert (finding.line, came in finding.got) == (line, True)


PIECES = ['"', ",", "\n", "\r", "\r\n", "\0", "\udcff", "\ufeff", "_", " ", "-1", "NaN", ";", "\u2028", "9" * 30, '""']


def test_whatever_happens_to_the_tables_is_a_finding_or_read_the_same_again(folder):
    draw = random.Random(0)
    folder.run()
    tables = {path: path.read_text() for path in folder.root.glob("*.csv")}
    whole = 0
    for _ in range(200):
        for path, text in tables.items():
            for _ in range(draw.randint(0, 2)):
                place = draw.randint(0, len(text))
                text = text[:place] + draw.choice(PIECES) + text[place + draw.choice([0, 0, 1, 20]) :]
            path.write_bytes(text.encode(errors="surrogateescape"))
        images, report = check_dataset(folder.root, classes=CLASSES, size_of_submission=(10, 15))
        assert report.render(None)
        if not report.errors:
            whole += 1
            train = images[images["split"] == "train"]
            labels = Labels.index(folder.root / "train.csv", set(train["image"]), CLASSES)
            assert [digest_labels(labels.texts(name)) for name in train["image"]] == train["labels"].tolist()
            assert len(ContestFolder(folder.root).submission_rows(CLASSES)) == 4
    assert 20 < whole < 180


def test_a_wrong_header_is_one_error_not_one_per_image(folder):
    folder.run()
    folder.train = None
    (folder.root / "train.csv").write_text("image,rle\na.jpg_Fish,1 1\n")
    ((rule, message),) = folder.findings()
    assert rule is rules.BAD_TABLE
    assert "train.csv, line 1: expected the columns Image_Label,EncodedPixels, got 'image,rle'" in message


# Images


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


def test_a_table_without_any_label_is_an_error(folder):
    folder.train = []
    assert rules.NO_LABELS in {rule for rule, _ in folder.findings()}


def test_a_table_that_was_cut_off_is_a_warning(folder):
    folder.run()
    path = folder.root / "train.csv"
    path.write_bytes(path.read_bytes()[:-3])
    _, report = check_dataset(folder.root, classes=CLASSES, size_of_submission=(10, 15))
    assert rules.CUT_OFF in {finding.rule for finding in report.warnings}


def test_labels_of_an_image_of_another_size(folder):
    (folder.root / "train_images/d.jpg").write_bytes(jpeg(1, size=(20, 30)))
    ((rule, message),) = folder.findings()
    assert rule is rules.BAD_TEXT
    assert "d.jpg_Fish" in message
    assert "20x30" in message


def test_a_name_in_both_folders_is_an_error(folder):
    (folder.root / "test_images/a.jpg").write_bytes(jpeg(5))
    folder.sample += ["a.jpg_Fish,1 1", "a.jpg_Sugar,1 1"]
    assert folder.findings() == [(rules.SAME_NAME, "train_images/a.jpg: also test_images/a.jpg")]


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_folder_is_one_error(folder, split):
    for file in (folder.root / f"{split}_images").iterdir():
        file.unlink()
    assert folder.findings() == [(rules.NO_IMAGES, f"{split}_images: no image in it")]


@pytest.mark.parametrize("name", ["train.csv", "sample_submission.csv", "train_images", "test_images"])
def test_a_missing_part_is_named(folder, name):
    folder.run()
    folder.train = folder.sample = None
    (folder.root / name).rename(folder.root.parent / "elsewhere")
    ((rule, message),) = folder.findings()
    assert rule is rules.NO_SUCH_FILE
    assert message.startswith(f"{name}: no such")


def test_an_absent_root_lists_what_should_be_there(tmp_path):
    _, report = check_dataset(tmp_path / "none", classes=CLASSES, size_of_submission=(10, 15), workers=1)
    parts = ["train_images", "test_images", "train.csv", "sample_submission.csv"]
    assert [finding.file for finding in report.errors] == parts


# Sample submission


def test_sample_and_test_folder_disagree_both_ways(folder):
    folder.sample = ["x.jpg_Fish,1 1", "z.jpg_Fish,1 1"]
    assert folder.findings() == [
        (rules.NO_SUCH_IMAGE, "sample_submission.csv, line 3: 'z.jpg_Fish'"),
        (rules.NOT_IN_SAMPLE, "test_images/x.jpg: no row for Sugar"),
        (rules.NOT_IN_SAMPLE, "test_images/y.jpg: no row"),
    ]


def test_a_row_of_the_sample_that_is_there_twice(folder):
    folder.sample.append(folder.sample[0])
    assert folder.findings() == [(rules.TWICE, "sample_submission.csv, line 6: 'x.jpg_Fish', first in line 2")]


# Classes


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


# Warnings: unusual but legal


def test_warnings_do_not_stop(folder):
    write = {
        "train_images/a.jpg": cv2.imencode(".jpg", np.zeros((*SHAPE, 3), np.uint8))[1].tobytes(),
        "test_images/x.jpg": jpeg(3, "L"),
        "test_images/y.jpg": (folder.root / "train_images/d.jpg").read_bytes(),
        "test_images/notes.txt": b"",
    }
    for name, data in write.items():
        (folder.root / name).write_bytes(data)
    folder.train = ["a.jpg_Fish,1 1", "a.jpg_Sugar,", "d.jpg_Fish,1 1"]
    _, report = folder.run()
    report.raise_for_errors()
    assert [(finding.rule, str(finding)) for finding in report.warnings] == [
        (rules.ALL_BLACK, "train_images/a.jpg"),
        (rules.NO_ROWS, "train_images/b_c.jpg: no row"),
        (rules.NO_ROWS, "train_images/d.jpg: no row for Sugar"),
        (rules.NEVER, "train.csv: Sugar"),
        (rules.SAME_BYTES, "test_images/y.jpg: the same as train_images/d.jpg"),
    ]
    assert [(finding.rule, str(finding)) for finding in report.notes] == [
        (rules.IGNORED, "test_images/notes.txt"),
        (rules.GREY, "test_images/x.jpg"),
    ]
    assert "0 errors, 5 warnings, 2 notes." in str(report)


def test_what_is_harmless_takes_one_line_after_what_is_not(folder):
    for index in range(30):
        (folder.root / f"train_images/grey{index:02}.jpg").write_bytes(jpeg(index, "L"))
        folder.train += [f"grey{index:02}.jpg_{label}," for label in CLASSES]
    folder.train[3] = "b_c.jpg_Sugar,"
    folder.train[5] = "d.jpg_Sugar,"
    _, report = folder.run()
    lines = str(report).splitlines()
    note = "Note: grey images (30), such as train_images/grey00.jpg: grey is repeated in the three channels"
    assert lines[-2:] == [note, "0 errors, 1 warning, 30 notes."]
    assert "Warning: classes that no training image holds (1)" in lines[:-2]
    assert "train_images/grey29.jpg" in report.render(None)


def test_a_table_of_masks_alone_lacks_rows_without_harm(folder):
    folder.train = [row for row in folder.train if not row.endswith(",")]
    _, report = folder.run()
    assert not report.errors + report.warnings
    assert {finding.rule for finding in report.notes} == {rules.ONLY_MASKS}


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


# The report


def test_one_report_lists_all_problems_errors_first(folder):
    (folder.root / "train_images/a.jpg").write_bytes(b"")
    folder.train[2] = "b_c.jpg_Fish,0 1"
    folder.train += ["q.jpg_Fish,1 1", "d.jpg_Fish,1 1", "d.jpg_Shark,1 1"]
    folder.sample = folder.sample[:3]
    (folder.root / "test_images/x.jpg").write_bytes(jpeg(3, "L"))
    _, report = folder.run()
    text = str(report)
    for expected in (
        "train_images/a.jpg: an empty file",
        "train.csv, line 4: b_c.jpg_Fish (40x60): ",
        "train.csv, line 8: 'q.jpg_Fish'",
        "train.csv: 'd.jpg_Fish' 2 times, lines 6, 9",
        "train.csv, line 10: 'Shark' in 'd.jpg_Shark'",
        "test_images/y.jpg: no row for Sugar",
        "test_images/x.jpg",
        "5 errors, 1 warning, 1 note.",
    ):
        assert expected in text
    assert text.index("ERROR") < text.index("Warning: ") < text.index("Note: grey images")
    with pytest.raises(DatasetError, match="found 5 errors"):
        report.raise_for_errors()


def test_repeated_problems_fit_a_screen_and_can_all_be_shown(folder):
    folder.train += [f"gone{index:03}.jpg_Fish,1 1" for index in range(200)]
    _, report = folder.run()
    assert len(report.errors) == 200
    assert "... and 192 more" in str(report)
    assert len(str(report).splitlines()) < 40
    assert "gone199" not in str(report)
    assert "gone199" in report.render(most=None)


def test_labels_cannot_flood_or_forge_the_report(folder):
    folder.train.append(f'"a.jpg_{"x" * 5000}\nERROR: forged",1 1')
    _, report = folder.run()
    assert max(len(line) for line in str(report).splitlines()) < 200
    assert not any(line.startswith("ERROR: forged") for line in str(report).splitlines())


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


def test_areas_are_those_of_drawn_masks(folder):
    rng = np.random.default_rng(0)
    masks = {name: rng.random((2, *SHAPE)) < 0.3 for name in ("a.jpg", "b_c.jpg", "d.jpg")}
    folder.train = [
        f"{name}_{label},{encode_rle(np.ascontiguousarray(mask))}"
        for name, pair in masks.items()
        for label, mask in zip(CLASSES, pair, strict=True)
    ]
    images, report = folder.run()
    assert not report.findings
    expected = [[int(mask.sum()) for mask in pair] for pair in masks.values()]
    assert images.loc[:2, CLASSES].to_numpy().tolist() == expected


def test_no_image_at_all_that_can_be_used_still_gives_a_report(folder):
    for path in folder.root.glob("*_images/*"):
        path.write_bytes(b"")
    images, report = folder.run()
    assert len(images) == 0
    assert list(images.columns[-2:]) == CLASSES
    assert [finding.rule for finding in report.findings] == [rules.BAD_IMAGE] * 5
    assert "0 train images" in str(report)


def block(top: int, left: int, side: int) -> str:
    """The run lengths of a square in an image of `SHAPE`."""
    return " ".join(f"{1 + top + column * SHAPE[0]} {side}" for column in range(left, left + side))


def test_minimum_sizes_that_remove_true_masks_are_a_warning_with_the_line_to_paste(folder):
    folder.train[0] = f"a.jpg_Fish,{block(0, 0, 8)} {block(20, 20, 12)}"  # 2 x 2 and 3 x 3 pixels of 10 x 15
    folder.train[2] = f"b_c.jpg_Fish,{block(4, 4, 8)}"
    folder.train[3] = f"b_c.jpg_Sugar,{block(0, 0, 16)}"
    folder.run()

    def warnings(min_sizes):
        arguments = {"classes": CLASSES, "size_of_submission": (10, 15), "min_sizes": min_sizes}
        _, report = check_dataset(folder.root, **arguments)
        assert not report.errors
        return [str(finding) for finding in report.findings if finding.rule is rules.LOST]

    assert warnings(None) == warnings({}) == warnings({"decision": {"Fish": 4, "Sugar": 16}}) == []
    assert warnings({"decision": {"Fish": 9, "Sugar": 0}, "ensembles.all.decision": {"Fish": 10, "Sugar": 17}}) == [
        "decision: Fish 1 of 3 (below 9); min_size: {Fish: 4, Sugar: 0} keeps all",
        "ensembles.all.decision: Fish 2 of 3 (below 10), Sugar 1 of 1 (below 17); "
        "min_size: {Fish: 4, Sugar: 16} keeps all",
    ]
