"""Whatever a file is, a look at it says so in words, with the line, and never fails."""

import gzip
import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_set import form, look, rows, text_of, training

from cloudseg.errors import DatasetError
from cloudseg.studies.sanity import findings as kinds
from cloudseg.studies.sanity import reading
from cloudseg.studies.sanity.check import look_at
from cloudseg.studies.sanity.findings import Findings

GOOD = text_of(rows())
LINES = GOOD.splitlines()


def with_line(number, line):
    """Return the good submission with another line, from 1."""
    return "\n".join([*LINES[: number - 1], line, *LINES[number:], ""])


def zipped(text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("submission.csv", text)
    return file.getvalue()


def test_a_sound_submission_has_no_finding(tmp_path):
    looked, found = look(tmp_path / "a.csv", GOOD, own=True)
    assert found == {}
    assert looked.is_sane and looked.verdict == "Nothing odd found."
    assert len(looked.submission.rows) == len(LINES) - 1


ODD_FILES = {
    "gzip": (gzip.compress(GOOD.encode()), "a compressed file", 1, False),
    "zip": (zipped(GOOD), "a compressed file", 1, False),
    "cut gzip": (gzip.compress(GOOD.encode())[:-900], "a file that breaks off", None, True),
    "no gzip": (b"\x1f\x8b" + b"x" * 99, "a file that breaks off", 1, True),
    "no zip": (b"PK\x03\x04" + b"x" * 99, "a file that breaks off", 1, True),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), "a byte order mark", 1, False),
    "utf-16": (GOOD.encode("utf-16"), "text that is not UTF-8", 1, True),
    "carriage returns": (GOOD.replace("\n", "\r\n"), "line ends of Windows", 1, False),
    "cut line": (GOOD[:-3], "a last line that does not end", len(LINES), False),
    "empty": (b"", "a file without rows", 1, True),
    "header alone": (LINES[0] + "\n", "a file without rows", 1, True),
    "no header": ("\n".join(LINES[1:]), "no header", 1, True),
    "other header": (with_line(1, "id,rle"), "another header", 1, True),
    "semicolons": (GOOD.replace(",", ";"), "columns that no comma parts", 1, True),
    "latin": (with_line(7, "\u00e4_Fish,").encode("latin-1"), "text that is not UTF-8", 7, True),
    "a comma too many": (with_line(5, LINES[4] + ",x"), "rows that are not two cells", 5, True),
    "a quotation mark": (with_line(5, '"' + LINES[4]), "rows that are not two cells", 5, True),
    "missing": ("\n".join([*LINES[:-2], ""]), "rows that are missing", None, True),
    "twice": (GOOD + LINES[3] + "\n", "rows that are there twice", len(LINES) + 1, True),
    "another order": ("\n".join([LINES[0], *LINES[:0:-1], ""]), "rows in another order than the sample's", 3, False),
    "unknown image": (with_line(4, "x.jpg_Fish,"), "rows of images that are not test images", 4, True),
    "training image": (with_line(4, "train3.jpg_Fish,"), "rows of training images", 4, True),
    "unknown class": (with_line(4, "test1.jpg_Fihs,"), "rows of classes that the config does not have", 4, True),
    "words": (with_line(4, "test1.jpg_Fish,nan"), "words in place of an empty cell", 4, False),
    "no number": (with_line(4, "test1.jpg_Fish,1 x"), "run lengths that cannot be read", 4, True),
    "no length": (with_line(4, "test1.jpg_Fish,1 2 3"), "run lengths that cannot be read", 4, True),
    "counted from 0": (with_line(4, "test1.jpg_Fish,0 2"), "run lengths that cannot be read", 4, True),
    "other digits": (with_line(4, "test1.jpg_Fish,\u0661 \u0662"), "run lengths that cannot be read", 4, True),
    "outside": (with_line(4, "test1.jpg_Fish,2399 3"), "runs outside the grid", 4, True),
    "overlap": (with_line(4, "test1.jpg_Fish,5 3 7 2"), "runs that overlap or do not ascend", 4, True),
    "unsorted": (with_line(4, "test1.jpg_Fish,50 3 7 2"), "runs that overlap or do not ascend", 4, True),
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_what_is_odd_about_a_file_is_said_with_its_line(name, tmp_path):
    content, title, line, fault = ODD_FILES[name]
    looked, found = look(tmp_path / "a.csv", content)
    assert title in found, found
    at, is_fault = found[title]
    assert is_fault == fault
    assert line is None or at == line
    assert looked.is_sane == (not any(is_fault for _, is_fault in found.values()))
    assert title in str(looked)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 6))
def test_no_bytes_make_it_fail(tmp_path_factory, content, start):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    beginnings = [b"", b"\x1f\x8b", b"PK\x03\x04", b"\xff\xfe", b"Image_Label,EncodedPixels\n", b"a_Fish,1 1\n", b'"']
    look(path, beginnings[start] + content)


def test_columns_are_known_by_name_or_by_what_is_in_them(tmp_path):
    turned = text_of([[str(number), text, name] for number, (name, text) in enumerate(rows())], "#,rle,Image_Label")
    looked, found = look(tmp_path / "a.csv", turned)
    assert set(found) == {"another header"}
    assert len(looked.submission.filled) == sum(bool(text) for _, text in rows())


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(DatasetError, match=str(path)):
            look_at(path, form(), training(), own=False)


@pytest.mark.parametrize(("limit", "size"), [("LONGEST_LINE", 5000), ("LONGEST_FILE", 5000)])
def test_a_packed_file_that_never_ends_is_not_read_on(tmp_path, monkeypatch, limit, size):
    path = tmp_path / "a.csv"
    unit = "a" * 99 + ("\n" if limit == "LONGEST_FILE" else "")
    path.write_bytes(gzip.compress((unit * 100_000).encode()))
    monkeypatch.setattr(reading, limit, size)
    found = Findings()
    assert len(list(reading.read_rows(path, ["Fish"], found))) < 100
    assert found.has(kinds.TOO_LARGE)
