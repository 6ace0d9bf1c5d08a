import pandas as pd
import pytest

from cloudseg.queries import select

RUNS = pd.DataFrame(
    {
        "encoder": ["resnet34", "resnet34", "efficientnet-b2", "efficientnet-b2"],
        "decoder": ["fpn", "unet", "fpn", "fpn"],
        "size": ["x4", "x4", "320x480", "320x480"],
        "fold": [0, 0, 0, 1],
        "lb": [0.61, None, 0.65, 0.65],
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
    ],
)
def test_selects(query, rows):
    assert select(RUNS, query).index.tolist() == rows


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
        ("fold", "each part must compare a column"),
        ("decoder", "each part must compare a column"),
        ("decoder == 'pspnet'", "selects no run"),
        ("decoder > 3", "query"),
        ("[x for x in 'a']", "is not allowed"),
        ("(lambda: 1)() == fold", "is not allowed"),
        ("fold + 1 == 2", "is not allowed"),
        ("decoder and fold == 0", "each part must compare a column"),
        ("not fold", "each part must compare a column"),
        ("decoder not in 'fpn unet'", "behind `in` a list must stand"),
        ("fold <= None", "None is no value"),
        (" or ".join(["fold == 0"] * 5000), "too long to read"),
        ("not " * 5000 + "fold == 0", "too long to read"),
        ("`decoder` == 'fpn'", "not a comparison"),
        ("", "not a comparison"),
        ("decoder == 'fpn'; import os", "not a comparison"),
    ],
)
def test_refuses_what_is_not_a_comparison_of_columns(query, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="query") as error:
        select(RUNS, query)
    assert complaint in str(error.value)
    assert list(tmp_path.iterdir()) == []
