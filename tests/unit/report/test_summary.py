"""What a run ends with on the terminal fits in its lines, whatever the names."""

import json
import os

import pandas as pd
import pytest

from cloudseg.report.leaderboard import COLUMNS as HEADS
from cloudseg.report.summary import leaderboard_summary, verdicts
from cloudseg.texts import columns_of, shorten

LONG = "tu-a_network_with_a_very_long_name_that_goes_on_and_on_for_ever_and_ever_and_does_not_end"


def row(what, name, **cells):
    return {"what": what, "name": name, "folds": 2, "encoder": LONG, "decoder": "fpn", "size": "96x144"} | cells


def write(path, *rows):
    pd.DataFrame(rows).reindex(columns=HEADS).to_csv(path, sep="\t", index=False)
    return leaderboard_summary(path).splitlines()


def test_rows_are_ranked_and_no_line_is_too_wide(tmp_path):
    decided = {"how": "tune", "threshold": "/".join(["0.5", *["0.25"] * 63]), "min_size": "/".join(["20000"] * 64)}
    gain = {"gain": -0.0065, "gain_low": -0.02, "gain_high": 0.01}
    lines = write(
        tmp_path / "a.tsv",
        row("experiment", "a", recipe="雲" * 60, dice_last=0.5, dice_best=0.6),
        row("experiment", "b", recipe="quick", dice_last=0.7, dice_best=0.65),
        row("experiment", "without a fold", recipe="quick"),
        row("ensemble", LONG * 3, dice=0.71, optimistic="holds best", **decided, **gain),
        row("ensemble", "single", how="fixed", threshold="0.50", min_size="5000"),
        row("baseline", "all empty", dice=0.5),
    )
    assert max(map(columns_of, lines)) <= 120
    experiments, ensembles = lines[1:4], lines[6:8]
    assert [line.split()[0] for line in experiments] == ["1", "2", "3"]
    assert ["0.7000" in experiments[0], "0.5000" in experiments[1]] == [True, True]
    assert "0.7100 *  -0.0065 (-0.0200..+0.0100)  tune 0.25..0.5, min. 20000..20000" in ensembles[0]
    assert ensembles[1].split() == ["2", "single", "2", "fixed", "0.50,", "min.", "5000"]
    assert not any("all empty" in line for line in lines)


def test_a_threshold_by_plane_is_shown_in_words(tmp_path):
    decided = {"how": "expected", "threshold": "by plane", "min_size": "100/0"}
    lines = write(
        tmp_path / "a.tsv",
        row("experiment", "a", recipe="quick", dice_last=0.5),
        row("ensemble", "all", dice=0.7, **decided),
    )
    assert lines[-1].endswith("expected by plane, min. 0..100")


def test_of_a_thousand_experiments_the_best_are_shown(tmp_path):
    rows = [row("experiment", str(number), recipe=f"r{number}", dice_last=number / 1000) for number in range(1000)]
    lines = write(tmp_path / "a.tsv", *rows)
    assert "r999" in lines[1]
    assert lines[-1] == "and 985 more"


def test_only_what_this_call_made_has_a_verdict(tmp_path):
    (tmp_path / "shift").mkdir()
    (tmp_path / "shift/shift.json").write_text(json.dumps({"verdict": "no difference found"}))
    (tmp_path / "loading.md").write_text(f"# Title\n\n{'word ' * 60}\n\nMore.\n")
    (tmp_path / "quantising.md").write_text("# Title\n\nOld.\n\n")
    os.utime(tmp_path / "quantising.md", (1000, 1000))
    lines = verdicts(tmp_path, since=2000)
    assert lines[0] == "shift: no difference found"
    assert " ".join(lines[1:]) == f"loading: {'word ' * 60}".strip()
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    "text", ["", "a", "train fpn 96x144 quick fold 0", "雲雲雲雲雲", "e\u0301" * 9, "a\x1b[2Jb\tc"]
)
@pytest.mark.parametrize("columns", [1, 2, 3, 7, 100])
def test_a_shortened_text_fits_and_moves_no_cursor(text, columns):
    short = shorten(text, columns)
    assert columns_of(short) <= columns
    assert short.isprintable()
    if columns == 100 and text.isprintable():
        assert short == text


def test_what_says_where_only_is_not_ranked(tmp_path):
    lines = write(
        tmp_path / "a.tsv",
        row("experiment", "a", recipe="where", says_where_only="where, not whether"),
        row("experiment", "b", recipe="mean", dice_last=0.5, dice_average=0.625),
        row(
            "ensemble",
            "all",
            dice=0.7,
            says_where_only="its members where, not whether",
            how="fixed",
            threshold="0.5",
            min_size="1",
        ),
    )
    assert [line.split()[0] for line in lines if "tu-a" in line] == ["1"]
    assert "0.6250" in lines[1]
    assert " ".join(lines[-2:]).startswith("not ranked: 1 of the experiments, which say where, not whether")
    assert max(map(columns_of, lines)) <= 120
