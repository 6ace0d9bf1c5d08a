"""Tables and lists of the user's: what is read, and that all that cannot be used is said with its place."""

import pytest

from cloudseg.config.image_tables import pattern_problem, read_column, read_names, read_split
from cloudseg.errors import ConfigError


def written(folder, text, name="table.tsv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "image\tscene\na.jpg\tnorth, 1\nb.jpg\tsouth\n",
        "scene\timage\tday\r\nnorth, 1\t a.jpg \t\r\n\r\nsouth\tb.jpg",
        'image,scene\na.jpg,"north, 1"\nb.jpg,south\n',
        "\ufeffimage\tscene\na.jpg\tnorth, 1\nb.jpg\tsouth\nc.jpg\t\nd.jpg\n",
    ],
)
def test_a_column_is_read_from_either_kind_of_table(tmp_path, text):
    assert read_column(written(tmp_path, text), "scene") == {"a.jpg": "north, 1", "b.jpg": "south"}


def test_cells_stay_text(tmp_path):
    path = written(tmp_path, "image\tscene\n001\t07\nNA\t1.0\nnan\tTrue\n")
    assert read_column(path, "scene") == {"001": "07", "NA": "1.0", "nan": "True"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "an empty file; expected a table with a header"),
        ("image\tscenes\n", r"line 1: no column 'scene' \(nearest: scenes\); got image, scenes"),
        ("\nname\tscene\n", "line 2: no column 'image'"),
        ("image\tscene\tscene\n", "line 1: the column 'scene' is there twice"),
        ("image\tscene\na\t1\t2\nb\t1\t2\n", r"line 2: expected 2 cells \(the header\), got 3 \(and 1 more\)"),
        ("image\tscene\na\t1\nb\t2\na\t1\n", "expected each image once, got a in lines 2 and 4$"),
        ("image\tscene\na\t1\na\t1\nb\t1\t2\n", "line 4: expected 2 cells.*; expected each image once"),
        ('image,scene\n"a"b,1\n', "line 2: not a row of a table"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(tmp_path, text, complaint):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=complaint) as error:
        read_column(path, "scene")
    assert str(error.value).startswith(str(path))


def test_what_is_no_text_is_said(tmp_path):
    path = written(tmp_path, "image\tscene\nä.jpg\t1\n", encoding="latin-1")
    for read in (lambda: read_column(path, "scene"), lambda: read_names(path)):
        with pytest.raises(ConfigError, match="not UTF-8 text"):
            read()
    with pytest.raises(ConfigError, match=r"none\.tsv: cannot be read \(No such file"):
        read_names(tmp_path / "none.tsv")


@pytest.mark.parametrize("cell", ["2", "-1", "0.0", "00", "one"])
def test_a_split_holds_whole_numbers_of_its_folds_alone(tmp_path, cell):
    path = written(tmp_path, f"image\tfold\na\t0\nb\t{cell}\nc\t{cell}\n")
    with pytest.raises(ConfigError, match=rf"folds from 0 to 1 \(folds.count is 2\), got '{cell}' for b \(and 1 more"):
        read_split(path, 2)


def test_a_list_of_names_may_be_commented(tmp_path):
    path = written(tmp_path, "\ufeff# doubtful\r\na.jpg\r\n\r\n  b.jpg\t# upside down\r\nc#1.jpg\r\na.jpg\r\n#d.jpg")
    assert read_names(path) == {"a.jpg": 2, "b.jpg": 4, "c#1.jpg": 5}
    assert read_names(written(tmp_path, "# nothing yet\n")) == {}


@pytest.mark.parametrize("pattern", ["^(a", "a{99999999999}", "(" * 2000 + ")" * 2000, "(?P<n>a)(?P<n>b)", "[b-a]"])
def test_expressions_that_do_not_compile_are_said(pattern):
    assert pattern_problem(pattern).startswith("no regular expression: ")


def test_an_expression_between_slashes_is_said():
    assert pattern_problem("/^(scene[0-9]+)_/") == (
        "expected a regular expression without `/`, which no name of an image holds, got '/^(scene[0-9]+)_/'"
    )
    assert pattern_problem(r"^scene\d+") is None
