"""The check of tables in other forms than the clouds'."""

import numpy as np
import pytest
from contest_forms import FORMS, SHAPE, along, down, write_contest, write_images, write_table

from cloudseg.config.labels import Layout
from cloudseg.config.model import Dataset
from cloudseg.dataset.check import check_dataset, rules

TRAIN, TEST = ["a", "b", "c"], ["x"]


def check(root, layout, classes):
    return check_dataset(root, classes=classes, size_of_submission=SHAPE, layout=layout.params)[1]


def errors_of(root, name):
    report = check(root, Dataset(source="path", labels=name).layout, FORMS[name].classes)
    return [(finding.rule, str(finding)) for finding in report.errors]


def edit(path, change):
    path.write_text(change(path.read_text()))


def append(row):
    return lambda text: text + row + "\n"


FAULTS = {
    "columns": (
        "severstal",
        "train.csv",
        lambda t: t.replace("ClassId", "Class"),
        "expected the columns ImageId,ClassId,",
    ),
    "column twice": (
        "tgs",
        "train.csv",
        lambda t: t.replace("id,", "rle_mask,", 1),
        "expected the columns id,rle_mask",
    ),
    "sample": (
        "hubmap",
        "sample_submission.csv",
        lambda t: t.replace("predicted", "encoding"),
        "columns id,predicted, got",
    ),
    "class": ("severstal", "train.csv", append("a.jpg,5,1 1"), "'5' in 'a.jpg,5'"),
    "image": ("uw-madison", "train.csv", append("d,stomach,1 1"), "train.csv, line 11: 'd,stomach'"),
    "suffix": ("tgs", "train.csv", append("a.png,1 1"), "'a.png'; images are named without their suffix here"),
    "no suffix": ("airbus", "train_ship_segmentations_v2.csv", append("b,1 1"), "'b'; the folder has 'b.jpg'"),
    "cells": ("severstal", "train.csv", append("a.jpg,1"), "2 cells, beginning with 'a.jpg'"),
    "outside": (
        "carvana",
        "train_masks.csv",
        append("b.jpg,2400 2"),
        "pair 1 (2400 2) goes past the end",
    ),
    "relative": ("siim-acr", "train-rle.csv", append("b, 2399 2"), "pair 1 (2399 2) goes past the end of 2400 pixels"),
    "empty": ("tgs", "train.csv", append("b,-"), "has '-', which is not a number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_in_a_form_is_named(tmp_path, fault):
    name, table, change, message = FAULTS[fault]
    write_contest(tmp_path, FORMS[name], TRAIN, TEST)
    assert errors_of(tmp_path, name) == []
    edit(tmp_path / table, change)
    assert [text for _, text in errors_of(tmp_path, name) if message in text] != []


def test_what_a_form_expects_is_said(tmp_path):
    write_contest(tmp_path, FORMS["siim-acr"], TRAIN, TEST)
    edit(tmp_path / "train-rle.csv", append("b,1 x"))
    ((rule, _),) = errors_of(tmp_path, "siim-acr")
    assert rule.expected == (
        "`start length` pairs of whole numbers, from 0 down the columns, each start from the end of the run before, "
        "ascending, inside the image"
    )


def made(root, **labels):
    """Write a data set of one class with JSON lists, and return its layout."""
    write_images(root / "train_images", ["a.png", "b.png"], 0)
    write_images(root / "test_images", ["x.png"], 1)
    write_table(root / "sample_submission.csv", "id,runs", [["x.png", ""]])
    return Layout(labels={"image_column": "id", "text_column": "runs", "separator": "", **labels}, submission=SENT)


SENT = {"image_column": "id", "text_column": "runs", "separator": ""}


@pytest.mark.parametrize(
    ("runs", "sound", "wrong"),
    [
        (
            "list",
            "[1, 3, 9, 2]",
            ["1 3 9 2", "[1, 3", "[[1, 3]]", "[1, 3.5]", "[true, 1]", '{"a": 1}', "[1, 3, 9]", "[" * 9999],
        ),
        ("pairs", "[[1, 3], [9, 2]]", ["[1, 3, 9, 2]", "[[1, 3, 9]]", "[[1, null]]", "3", "[[1, 3], [2, 1]]"]),
    ],
)
def test_json_lists_that_are_none_are_named(tmp_path, runs, sound, wrong):
    layout = made(tmp_path, runs=runs)
    write_table(tmp_path / "train.csv", "id,runs", [["a.png", sound], ["b.png", "[]"]])
    images, report = check_dataset(tmp_path, classes=["ship"], size_of_submission=SHAPE, layout=layout.params)
    report.raise_for_errors()
    assert images["ship"].dropna().tolist() == [5, 0]
    for text in wrong:
        write_table(tmp_path / "train.csv", "id,runs", [["a.png", text], ["b.png", ""]])
        first, *_ = check(tmp_path, layout, ["ship"]).errors
        assert first.rule.title == rules.BAD_TEXT.title


def test_several_rows_are_said_unless_they_are_usual(tmp_path):
    for several, expected in (("warn", ["train.csv: 'a.png_ship' 2 times, lines 2, 3"]), ("unite", []), ("split", [])):
        layout = made(tmp_path / several, several=several)
        write_table(tmp_path / several / "train.csv", "id,runs", [["a.png", "1 3"], ["a.png", "2 9"], ["b.png", ""]])
        report = check(tmp_path / several, layout, ["ship"])
        report.raise_for_errors()
        assert [str(finding) for finding in report.warnings] == expected


@pytest.mark.parametrize("order", ["columns", "rows"])
@pytest.mark.parametrize("written", ["columns", "rows"])
def test_an_order_that_shapes_contradict_is_said_to_be_possible(tmp_path, order, written):
    layout = made(tmp_path, order=order)
    encode = down if written == "columns" else along
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:30, 10:45] = 1
    write_table(tmp_path / "train.csv", "id,runs", [["a.png", encode(mask)], ["b.png", encode(mask[::-1])]])
    report = check(tmp_path, layout, ["ship"])
    report.raise_for_errors()
    found = [finding.got for finding in report.warnings if finding.rule is rules.OTHER_ORDER]
    way = "along the rows" if written == "rows" else "down the columns"
    expected = [f"by their shapes, pixels are counted {way}, and `order` is {order}"]
    assert found == (expected if written != order else [])
