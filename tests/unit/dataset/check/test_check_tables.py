"""The check of the tables: their rows and labels."""

import random
import re

import numpy as np
import pandas as pd
import pytest
from small_folder import CLASSES, SHAPE, Folder

from cloudseg.dataset.check import check_dataset, rules
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.interface import digest_labels
from cloudseg.dataset.labels.rle import RleLabels
from cloudseg.errors import DatasetError
from cloudseg.postprocess import encode_rle


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
            labels = RleLabels.index(folder.root / "train.csv", set(train["image"]), CLASSES)
            assert [digest_labels(labels.texts(name)) for name in train["image"]] == train["labels"].tolist()
            assert len(list(ContestFolder(folder.root).submission_rows(CLASSES))) == 4
    assert 20 < whole < 180


def test_a_wrong_header_is_one_error_not_one_per_image(folder):
    folder.run()
    folder.train = None
    (folder.root / "train.csv").write_text("image,rle\na.jpg_Fish,1 1\n")
    ((rule, message),) = folder.findings()
    assert rule is rules.BAD_TABLE
    assert "train.csv, line 1: expected the columns Image_Label,EncodedPixels, got 'image,rle'" in message


def test_a_table_without_any_label_is_an_error(folder):
    folder.train = []
    assert rules.NO_LABELS in {rule for rule, _ in folder.findings()}


def test_a_table_that_was_cut_off_is_a_warning(folder):
    folder.run()
    path = folder.root / "train.csv"
    path.write_bytes(path.read_bytes()[:-3])
    _, report = check_dataset(folder.root, classes=CLASSES, size_of_submission=(10, 15))
    assert rules.CUT_OFF in {finding.rule for finding in report.warnings}


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


def test_a_table_of_masks_alone_lacks_rows_without_harm(folder):
    folder.train = [row for row in folder.train if not row.endswith(",")]
    _, report = folder.run()
    assert not report.errors + report.warnings
    assert {finding.rule for finding in report.notes} == {rules.ONLY_MASKS}


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
