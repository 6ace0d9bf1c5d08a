"""What a submission says is the same however it is written, and nothing else is."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_provenance import MASKS, csv_text, write_csv

from cloudseg.postprocess import decode_rle
from cloudseg.provenance.content import read_content, same_runs


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 55), st.integers(1, 6)), max_size=8), st.randoms(use_true_random=False))
def test_two_texts_are_the_same_runs_exactly_when_they_are_the_same_mask(runs, random):
    mask = np.zeros(60, bool)
    pieces = []
    for start, length in runs:
        if not mask[start - 1 : start - 1 + length].any():  # the contest's decoder takes no pixel twice
            mask[start - 1 : start - 1 + length] = True
            pieces.append((start, length))
    random.shuffle(pieces)
    text = same_runs(" ".join(f"{start} {length}" for start, length in pieces))
    assert np.array_equal(decode_rle(text, (6, 10)).ravel(order="F").astype(bool), mask)
    starts = list(map(int, text.split()))[::2]
    assert starts == [n + 1 for n in range(60) if mask[n] and not (n and mask[n - 1])]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (csv_text(end="\r\n"), True),
        ("\ufeff" + csv_text(), True),
        (csv_text(dict(reversed(MASKS.items()))), True),
        (csv_text(MASKS | {"a.jpg_Fish": "9 1 1 1 2 2 10 1"}), True),
        (csv_text(MASKS | {"a.jpg_Sugar": "-1"}), True),
        (csv_text(MASKS | {"a.jpg_Fish": "1 3 9 3"}), False),
        (csv_text(MASKS | {"a.jpg_Fish": ""}), False),
        (csv_text({"x.jpg_Fish": "", **MASKS}), False),
        (csv_text({name: mask for name, mask in MASKS.items() if mask}), False),
    ],
)
def test_content_is_names_and_masks(tmp_path, text, same):
    ours = read_content(write_csv(tmp_path / "ours.csv"))
    other = read_content(write_csv(tmp_path / "other.csv", text))
    assert other.sha256 != ours.sha256
    assert (other.facts.content == ours.facts.content) == same
    assert (other.differences(ours) == []) == same


def test_a_file_that_is_no_text_is_refused_with_its_name(tmp_path):
    (tmp_path / "odd.csv").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ValueError, match=r"odd\.csv: no CSV file: not UTF-8"):
        read_content(tmp_path / "odd.csv")
    (tmp_path / "our own.csv.gz").write_bytes(gzip.compress(b"Image_Label,EncodedPixels\n"))
    with pytest.raises(ValueError, match=r"unpack it first: gunzip -k '.*our own\.csv\.gz'"):
        read_content(tmp_path / "our own.csv.gz")
    with pytest.raises(ValueError, match=r"gone\.csv: cannot be read"):
        read_content(tmp_path / "gone.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert read_content(tmp_path / "empty.csv").facts.rows == 0
