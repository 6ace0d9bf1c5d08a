"""The keys that say how labels are written."""

import pytest

from cloudseg.config.labels import CLOUDS_LAYOUT
from cloudseg.config.model import Dataset
from cloudseg.config.reading import read_config
from cloudseg.errors import ConfigError

BASE = {"name": "a", "recipes": {"quick": {}}, "experiments": "a.tsv", "ensembles": {}, "submission": "all"}


def config(tmp_path, **dataset):
    return read_config(
        BASE | {"submission_size": "40x60", "dataset": {"source": "path", "root": str(tmp_path)} | dataset}
    )


def problems(tmp_path, **dataset):
    with pytest.raises(ConfigError) as refused:
        config(tmp_path, **dataset)
    return [line.removeprefix("  - ") for line in str(refused.value).splitlines()[1:]]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"labels": "understanding-clouds"},
        {"labels": {}},
        {"labels": {"order": "columns"}, "train_table": "train.csv"},
    ],
)
def test_what_is_as_in_the_clouds_contest_is_no_param(tmp_path, keys):
    assert config(tmp_path, **keys).dataset.layout == CLOUDS_LAYOUT
    assert config(tmp_path, **keys).dataset.layout.params == {}


def test_a_config_of_the_clouds_is_written_as_before():
    plain = Dataset(source="path").model_dump(mode="json", exclude_none=True)
    assert plain.keys() == {"source", "root", "competition", "classes", "train", "test", "shift"}


def test_the_parts_of_a_contest_are_defaults(tmp_path):
    layout = config(tmp_path, labels="airbus", test_images="here").dataset.layout
    assert (layout.train_images, layout.test_images, layout.train_table) == (
        *("train_v2", "here"),
        "train_ship_segmentations_v2.csv",
    )
    assert layout.submission == layout.labels


def test_a_submission_may_have_another_form_than_the_labels(tmp_path):
    layout = config(tmp_path, labels={"format": "masks"}, submission="tgs", classes=["salt"]).dataset.layout
    assert (layout.labels.format, layout.submission.header) == ("masks", ("id", "rle_mask"))
    assert config(tmp_path, labels={"format": "masks"}).dataset.layout.submission == CLOUDS_LAYOUT.submission


def test_what_an_empty_mask_is_written_as_may_look_like_a_number(tmp_path):
    assert [
        config(tmp_path, labels={"empty": word}).dataset.layout.labels.empty for word in (-1, "-1", None, "no row")
    ] == ["-1", "-1", "", "no row"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"labels": "severstall"}, "(nearest: severstal"),
        ({"labels": 3}, "dataset.labels: expected a contest ("),
        ({"labels": {"oder": "rows"}}, "dataset.labels: unknown key 'oder' (nearest: order"),
        ({"labels": {"empty": "x"}}, "dataset.labels.empty: expected one of '', -, -1, no row, got 'x'"),
        ({"labels": "tgs", "classes": ["a", "b"]}, "dataset.labels: tgs is for one class, since no column names it"),
        ({"labels": {"format": "masks", "order": "rows"}}, "dataset.labels.order: a key of `format: rle`, and the"),
        ({"labels": {"folder": "masks"}}, "dataset.labels.folder: a key of `format: masks`, and the format is rle"),
        (
            {"labels": {"format": "masks", "folder": "../masks"}},
            "dataset.labels.folder: expected a path below dataset.root, without .., such as train/images, got",
        ),
        ({"train_images": "/data"}, "dataset.train_images: expected a path below dataset.root"),
        ({"labels": {"format": "masks", "files": "mask"}}, "dataset.labels.files: expected a name with {image}"),
        (
            {"labels": {"format": "masks", "values": {"Fish": 1}}},
            "dataset.labels.values: expected a value for each class, got none for Flower, Gravel, Sugar",
        ),
        (
            {"labels": {"format": "masks", "values": {"Fihs": 1}}, "classes": ["Fish"]},
            "dataset.labels.values: 'Fihs' is no class (nearest: Fish)",
        ),
        (
            {"labels": {"format": "masks", "values": {"Fish": 1, "Sugar": 1}}, "classes": ["Fish", "Sugar"]},
            "dataset.labels.values: expected different values, also from those of `ignore`, got 1 twice",
        ),
        (
            {"labels": {"submission_columns": ["id", "text"]}},
            "dataset.labels.submission_columns: expected Image_Label and one other for the run lengths",
        ),
        ({"labels": {"text_column": "Image_Label"}}, "dataset.labels.text_column: expected different columns"),
        ({"labels": {"separator": "ab"}}, "dataset.labels.separator: expected one character"),
        ({"submission": {"format": "coco"}}, "dataset.submission.format: expected rle, got coco"),
        ({"source": "demo", "labels": "tgs"}, "dataset.labels: `source: demo` has the form of the clouds' contest"),
    ],
)
def test_bad_keys_say_what_to_write(tmp_path, keys, expected):
    assert any(expected in line for line in problems(tmp_path, **keys)), problems(tmp_path, **keys)
