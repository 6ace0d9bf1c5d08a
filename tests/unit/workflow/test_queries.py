import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudseg.workflow.queries import select

RUNS = pd.DataFrame(
    {
        "encoder": ["resnet34", "resnet34", "efficientnet-b2", "efficientnet-b2"],
        "decoder": ["fpn", "unet", "fpn", "fpn"],
        "size": ["x4", "x4", "320x480", "320x480"],
        "fold": [0, 0, 0, 1],
        "lb": [0.61, None, 0.65, 0.65],
        "lb_last": [0.6, 0.6, 0.66, 0.65],
        "mark": ["it's", 'a "b"', "`", "\u2028"],
        "empty": [np.nan] * 4,
    }
)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("decoder == 'fpn'", [0, 2, 3]),
        ("decoder == 'fpn' and size == '320x480'", [2, 3]),
        ("fold < 1 and not encoder == 'resnet34'", [2]),
        ("size in ['x4', 'x5'] or fold == 1", [0, 1, 3]),
        ("lb > 0.62", [2, 3]),
        ("encoder not in ('resnet34',)", [2, 3]),
        ("0 < fold <= 1", [3]),
        ("fold > -1", [0, 1, 2, 3]),
        ("-fold < 0", [3]),
        ("'fpn' == decoder", [0, 2, 3]),
        ("decoder == ['fpn', 'pspnet']", [0, 2, 3]),
        ("decoder != ['fpn', 'pspnet']", [1]),
        ("lb < lb_last", [2]),
        ("lb != 0.65", [0, 1]),
        ("lb == ''", [1]),
        ("lb not in ['', 0.61]", [2, 3]),
        ("empty != 'bad'", [0, 1, 2, 3]),
        ("not empty > 0.5", [0, 1, 2, 3]),
        ("not not fold == 1", [3]),
        ('mark == "it\'s"', [0]),
        ("mark == 'a \"b\"'", [1]),
        ("mark == '\\x60'", [2]),
        ("mark == '\u2028'", [3]),
        ("decoder == 'fp' 'n'", [0, 2, 3]),
        ("fold\x0c== 1", [3]),
        ("(fold == 1\n)", [3]),
        ("fold == 1 # the last", [3]),
    ],
)
def test_selects(query, rows):
    assert np.flatnonzero(select(RUNS, query)).tolist() == rows


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("encoder.to_csv('x') == 1", "call is not allowed"),
        ("encoder.size == 1", "attribute is not allowed"),
        ("@pd", "not a comparison"),
        ("decoder == @x", "not a comparison"),
        ("decoder == fpn", "text needs quotes: 'fpn'"),
        ("decodr == 'fpn'", "nearest: decoder"),
        ("decoder = 'fpn'", "equality is =="),
        ("True", "each part must compare a column"),
        ("1 == 1", "must compare a column"),
        ("0 < 1 < fold", "must compare a column"),
        ("fold", "each part must compare a column"),
        ("decoder", "each part must compare a column"),
        ("decoder == 'pspnet'", "selects no run"),
        ("decoder == 'fpn' and fold == 2", "decoder is one of fpn, unet; fold is one of 0, 1"),
        ("empty > 1", "empty is one of ''"),
        ("fold in []", "selects no run"),
        ("decoder > 3", "`decoder > 3` compares text with numbers"),
        ("fold == 0 or fold == '1'", "`fold == '1'` compares text with numbers"),
        ("fold in [0, '1']", "`fold in [0, '1']` compares text with numbers"),
        ("fold < ''", "compares text with numbers"),
        ("decoder == fold", "`decoder == fold` compares text with numbers"),
        ("-decoder == 'fpn'", "a minus can stand before a number only"),
        ("fold == -'a'", "a minus can stand before a number only"),
        ("fold < [1, 2]", "a list can stand behind `in` only"),
        ("[0] == fold", "list is not allowed"),
        ("decoder in ['fpn', size]", "a list holds values, not columns"),
        ("decoder in ['fpn', ['unet']]", "list is not allowed"),
        ("fold is 0", "is is not allowed"),
        ("fold == True", "True is no value of a column"),
        ("(fold == 0) == True", "compare is not allowed"),
        ("fold == b'0'", "b'0' is no value of a column"),
        ("fold == 1j", "1j is no value of a column"),
        ("fold == ...", "Ellipsis is no value of a column"),
        ("decoder == f'{fold}'", "joinedstr is not allowed"),
        ("fold == 1e999", "a number beyond"),
        (f"fold < {'9' * 1500}", "a number beyond"),
        (f"fold < {'9' * 5000}", "expected at most 2000 characters"),
        (f"fold < 0x{'f' * 1900}", "a number beyond"),
        ("fold == nan", "no column 'nan'"),
        ("(decoder == 'fpn') & (fold == 0)", "write `and`"),
        ("fold == 0 if fold else 1", "ifexp is not allowed"),
        ("(fold := 0) == fold", "namedexpr is not allowed"),
        ("{**fold} == 1", "dict is not allowed"),
        ("decoder[0] == 'f'", "subscript is not allowed"),
        ("decoder == 'fpn", "unterminated string literal"),
        ("decoder\u2028== 'fpn'", "not a comparison"),
        ("decoder == 'fpn'\x00", "not a comparison"),
        ("decoder == '\ud800'", "not a comparison"),
        ("fold == 0\nor fold == 1", "not a comparison"),
        (f"{'(' * 900}fold == 0{')' * 900}", "not a comparison (too many nested parentheses)"),
        (f"fold == {'-' * 1900}1", "nested too deeply"),
        ("[x for x in 'a']", "is not allowed"),
        ("(lambda: 1)() == fold", "is not allowed"),
        ("fold + 1 == 2", "is not allowed"),
        ("decoder and fold == 0", "each part must compare a column"),
        ("not fold", "each part must compare a column"),
        ("decoder not in 'fpn unet'", "behind `in` a list must stand"),
        ("fold <= None", "None is no value"),
        (" or ".join(["fold == 0"] * 5000), "expected at most 2000 characters"),
        ("not " * 5000 + "fold == 0", "expected at most 2000 characters"),
        ("`decoder` == 'fpn'", "not a comparison"),
        ("`decoder'.__class__ == 1 #`", "not a comparison"),
        # What pandas read otherwise than Python does: for it the text between the backticks was one name
        (r"""decoder == '\\' or decoder == '`' or decoder == "`' or decoder.to_csv('x') == 1 #" """, "selects no run"),
        ("", "not a comparison"),
        ("decoder == 'fpn'; import os", "not a comparison"),
    ],
)
def test_refuses_what_is_not_a_comparison_of_columns(query, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="query") as error:
        select(RUNS, query)
    assert complaint in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500
    assert list(tmp_path.iterdir()) == []


COLUMNS = {
    "decoder": st.sampled_from(["fpn", "unet", "", "x4", "it's"]),
    "size": st.sampled_from(["fpn", "x4", "x5", "320x480"]),
    "fold": st.integers(-2, 3),
    "lb": st.sampled_from([0.61, -1.0, 2, 3.0]),
}
KINDS = {"decoder": "text", "size": "text", "fold": "number", "lb": "number"}


@st.composite
def comparisons(draw):
    """A comparison such as people write: columns with their own kind of values, or with each other."""
    column = draw(st.sampled_from(list(COLUMNS)))
    value = COLUMNS[column].map(repr)
    other = st.sampled_from([name for name in COLUMNS if KINDS[name] == KINDS[column]])
    match draw(st.sampled_from(["values", "columns", "list", "chain", "turned"])):
        case "values":
            return f"{column} {draw(st.sampled_from(['==', '!=', '<', '<=', '>', '>=']))} {draw(value)}"
        case "columns":
            return f"{column} {draw(st.sampled_from(['==', '!=', '<', '>=']))} {draw(other)}"
        case "list":
            values = ", ".join(draw(st.lists(value, min_size=1, max_size=3)))
            return f"{column} {draw(st.sampled_from(['in', 'not in', '==', '!=']))} [{values}]"
        case "chain":
            return f"{draw(value)} <= {column} < {draw(value)}"
    return f"{draw(value)} {draw(st.sampled_from(['==', '<', '>=']))} {column}"


queries = st.recursive(
    comparisons(),
    lambda parts: st.one_of(
        st.tuples(parts, st.sampled_from(["and", "or"]), parts).map(lambda words: f"({' '.join(words)})"),
        parts.map(lambda part: f"not ({part})"),
    ),
    max_leaves=6,
)
tables = st.lists(st.tuples(*COLUMNS.values(), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(queries, tables)
def test_selects_what_pandas_selects(query, rows):
    table = pd.DataFrame(rows, columns=[*COLUMNS, "blank"])
    table["lb"] = table["lb"].mask(table.pop("blank"))
    expected = table.query(query, engine="python").index.tolist()
    try:
        chosen = np.flatnonzero(select(table, query)).tolist()
    except ValueError as error:
        assert "selects no run" in str(error)
        chosen = []
    assert chosen == expected
