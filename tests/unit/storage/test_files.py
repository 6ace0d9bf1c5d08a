import hashlib
import json
import math
import os
import stat

import numpy as np
import pandas as pd
import pytest
import torch

from cloudseg.models.checkpoint_file import write_state
from cloudseg.storage.files import atomic, digest, read_table, sha256, write_table, write_text


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="stop"), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_file_is_a_sibling_with_the_same_suffix(tmp_path):
    with atomic(tmp_path / "deep" / "a.npz") as temporary:
        np.savez(temporary, x=1)  # adds a suffix of its own to any other name
        assert temporary.parent == tmp_path / "deep"
    assert int(np.load(tmp_path / "deep" / "a.npz")["x"]) == 1


def test_writing_below_a_file_names_it(tmp_path):
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="results"):
        write_text(tmp_path / "results" / "a.txt", "x")
    assert (tmp_path / "results").read_text() == "a file where a folder should be"


def test_tables_come_back_exactly(tmp_path):
    frame = pd.DataFrame(
        {
            "image": ["a b.jpg", 'quo"te.jpg', "ta\tb.jpg", "日本.jpg"],
            "dice": [0.1 + 0.2, 1 / 3, 1e-300, math.nan],
            "area": [0, 1, 2, 2**53 + 1],
        }
    )
    write_table(frame, tmp_path / "t.tsv")
    back = pd.read_csv(tmp_path / "t.tsv", sep="\t")
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert b"\r" not in (tmp_path / "t.tsv").read_bytes()


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3.0, "c": 2.0}, "a": 1.0}),
        ([1, 2], (1.0, 2)),
        (-0.0, 0),
        ({2: "x"}, {"2": "x"}),
    ],
)
def test_the_same_meaning_has_the_same_digest(one, other):
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.5), ("1", 1), ([1, 2], [2, 1]), (None, "null"), (True, 1), ({}, []), (0.1, "0.1")],
)
def test_another_meaning_has_another_digest(one, other):
    assert digest(one) != digest(other)


def test_the_digest_is_that_of_canonical_json():
    value = {"b": [1.5, "é"], "a": None}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert digest(value) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(("value", "error"), [({1, 2}, TypeError), (math.nan, ValueError), (math.inf, ValueError)])
def test_values_that_json_cannot_hold_are_refused(value, error):
    with pytest.raises(error):
        digest({"a": value})


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_gives_whoever_writes_them(tmp_path, umask, mode):
    """A library that writes private files, as safetensors does, included."""
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "a")
        write_state({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {})
        with atomic(tmp_path / "private") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_a_name_in_a_table_is_never_a_missing_value(tmp_path):
    """A class may be called NA; pandas alone reads that, and a dozen other words, as no value."""
    names = ["NA", "nan", "None", "null", "inf", "1", "true"]
    write_table(pd.DataFrame({"class": names, "dice": [0.5] * 6 + [None]}), tmp_path / "t.tsv")
    table = read_table(tmp_path / "t.tsv", dtype={"class": str})
    assert table["class"].tolist() == names
    assert table["dice"].isna().tolist() == [False] * 6 + [True]
