"""The page of the leaderboard: its figures are those of the table, at any size, and its text is text."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show

from cloudseg.report.glossary import TERMS
from cloudseg.report.leaderboard import COLUMNS
from cloudseg.report.leaderboard_page import WORDS, decisions, dice_chart, gain_chart, verdict, write_leaderboard
from cloudseg.report.pages import arrange

HOSTILE = "</script><script>document.title='ran'</script><b>雲</b>"


def experiment(number, **more):
    row = {
        "what": "experiment",
        "name": f"e{number}",
        "encoder": f"encoder{number}",
        "size": "96x144",
        "decoder": "fpn",
    }
    row |= {"recipe": "quick", "folds": 2, "loss": "BCEDice", "images": 51, "dice_best": 0.7, "dice_last": 0.6}
    row |= {"fold_spread": 0.01, "dice_common": 0.6, "parameters": 5e6, "seconds_per_epoch": 2.5, "threshold": "0.50"}
    return row | {"min_size": "5000", "how": "fixed"} | more


def ensemble(name, **more):
    row = {
        "what": "ensemble",
        "name": name,
        "folds": 2,
        "images": 51,
        "dice": 0.65,
        "dice_common": 0.65,
        "how": "fixed",
    }
    row |= {"threshold": "0.50", "min_size": "100", "best_member": "e1-last", "best_member_dice": 0.6}
    return row | {"gain": 0.05, "gain_low": 0.01, "gain_high": 0.09} | more


def table(rows):
    baselines = [{"what": "baseline", "name": name, "dice": 0.5, "dice_common": 0.5} for name in ("all empty", "full")]
    return pd.DataFrame([*rows, *baselines], columns=[*COLUMNS, "date"]).astype({"folds": "Int64", "images": "Int64"})


def written(rows, folder, classes=("Fish",)):
    write_leaderboard(table(rows), list(classes), 51, [0, 1], folder / "leaderboard.html", folder / "charts")
    return (folder / "leaderboard.html").read_text()


def test_a_thousand_experiments_stay_below_three_megabytes_and_charts_say_what_they_show(tmp_path):
    rows = [experiment(n, dice_last=0.5 + n / 10_000, note="as before") for n in range(1000)]
    text = written([*rows, *(ensemble(f"all{n}") for n in range(50))], tmp_path)
    assert len(text) < 3e6
    assert text.count("<tr>") > 1050
    assert "The best 40 of 1000 experiments" in text
    assert "The best 40 of 50 ensembles" in text
    names = ElementTree.parse(tmp_path / "charts/dice.svg").getroot().itertext()  # noqa: S314
    assert "1 encoder999" in set(names)


def test_one_experiment_of_one_fold_and_no_gain_makes_a_page(tmp_path):
    one = experiment(1, folds=1, fold_spread=math.nan)
    none = ensemble("all", folds=1, how="tune", dice=math.nan, gain=math.nan, gain_low=math.nan, gain_high=math.nan)
    text = written([one, none], tmp_path)
    assert "nan" not in re.sub("<script.*?</script>", "", text, flags=re.DOTALL).lower()
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == ["dice.svg"]
    assert "encoder1 96x144 fpn quick scores: Dice 0.6000 out of fold." in text


def test_without_any_image_out_of_fold_the_page_says_so(tmp_path):
    unscored = dict.fromkeys(("dice_best", "dice_last", "dice_common", "fold_spread", "gain", "dice"), math.nan)
    text = written([experiment(1, images=0, **unscored), ensemble("all", images=0, **unscored)], tmp_path)
    assert "No image was scored out of fold" in text
    assert not list((tmp_path / "charts").iterdir())


def test_gains_are_told_by_their_interval():
    rows = [experiment(1), ensemble("more"), ensemble("less", gain=-0.05, gain_low=-0.09, gain_high=-0.01)]
    rows += [ensemble("open", gain=0.01, gain_low=-0.01, gain_high=0.03)]
    arranged = arrange(table(rows), 51)
    data = gain_chart(arranged).specification["datasets"]
    points = next(values for values in data.values() if len(values) == 3)
    assert {point["name"]: point["told"] for point in points} == {
        **{"more": "more", "less": "less", "open": "not told apart"}
    }
    assert [re.search("more than|less than|not told apart from", words)[0] for words in verdict(arranged)[1:]] == [
        *("more than", "less than", "not told apart from")
    ]


def test_the_chart_has_the_spread_of_the_folds_and_each_baseline_once():
    rows = [experiment(1), experiment(2, dice_last=0.55, fold_spread=math.nan)]
    specification = dice_chart(arrange(table(rows), 51)).specification
    spreads = [v for v in specification["datasets"].values() if v and "low" in v[0]]
    assert [(row["experiment"], row["low"], row["high"]) for row in spreads[0]] == [
        ("1 encoder1", pytest.approx(0.59), pytest.approx(0.61))
    ]
    lines = [v for v in specification["datasets"].values() if v and "name" in v[0]]
    assert lines[0] == [{"name": "all empty, full", "dice": 0.5}]  # one line, though there are two


def test_thresholds_of_64_classes_stand_in_rows():
    classes = [f"class {n}" for n in range(64)]
    cuts = np.linspace(0.1, 0.9, 64)
    row = ensemble("all", threshold="/".join(f"{cut:.2f}" for cut in cuts), min_size="100")
    made = decisions(pd.DataFrame([row]), classes)
    assert made["class"].tolist() == classes
    assert made["threshold"].tolist() == pytest.approx(cuts, abs=0.006)
    assert set(made["min_size"]) == {100}


def test_a_threshold_by_plane_stands_beside_those_of_classes(tmp_path):
    rows = [
        ensemble("all", threshold="0.50/0.25", min_size="100"),
        ensemble("expected", how="expected + presence", threshold="by plane", min_size="100/0"),
    ]
    written([experiment(1), *rows], tmp_path, ["Fish", "Flower"])
    assert (tmp_path / "leaderboard.html").read_text(encoding="utf-8").count(">by plane<") == 2
    made = decisions(pd.DataFrame(rows), ["Fish", "Flower"])
    assert made["threshold"].tolist() == [0.5, 0.25, "by plane", "by plane"]
    assert made["min_size"].tolist() == [100, 100, 100, 0]


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_hostile_text_is_text_and_all_fits_a_narrow_window(tmp_path):
    rows = [experiment(1, note=HOSTILE, recipe=HOSTILE), experiment(2, encoder=HOSTILE), ensemble("all", note=HOSTILE)]
    written(rows, tmp_path, [HOSTILE])
    with browser(400) as driver:
        show(driver, tmp_path / "leaderboard.html")
        assert (driver.title, errors(driver), overflow(driver)) == ("Leaderboard", [], 0)
        cells = driver.execute_script("return [...document.querySelectorAll('td')].map(cell => cell.textContent)")
        assert cells.count(HOSTILE) == 4
        clipped = driver.execute_script(
            "return [...document.querySelectorAll('.chart')].filter(c => c.scrollWidth > c.clientWidth + 1).length"
        )
        assert clipped == 0


def test_the_glossary_of_the_page_and_of_the_documentation_are_one(repo):
    from cloudseg.report.glossary import DOCUMENT, glossary_table

    assert DOCUMENT.read_text(encoding="utf-8").endswith(glossary_table())
    assert set(WORDS) <= TERMS.keys()


def test_networks_that_say_where_only_lead_nothing_and_are_explained_below_their_table(tmp_path):
    none = dict.fromkeys(("dice_best", "dice_last", "dice_common", "fold_spread"), math.nan)
    rows = [experiment(1, says_where_only="where, not whether", **none), experiment(2, dice_last=0.4)]
    alone = ensemble("all", gain=math.nan, best_member=None, says_where_only="its members where, not whether")
    text = written([*rows, alone], tmp_path)
    assert "encoder2 96x144 fpn quick scores: Dice 0.4000" in text
    assert "Ensemble all scores 0.6500; its members say where, not whether, so none compares." in text
    below = text.split("<h2>Experiments</h2>")[1].split("<h2>Ensembles</h2>")[0]
    assert "its own Dice would mislead" in below
    names = ElementTree.parse(tmp_path / "charts/dice.svg").getroot().itertext()  # noqa: S314
    assert "1 fpn" in set(names)


def test_rows_without_masks_are_named_below_the_experiments(tmp_path):
    args = table([experiment(1)]), ["Fish"], 51, [0, 1], tmp_path / "page.html", tmp_path / "charts"
    write_leaderboard(*args, left_out=[f"{HOSTILE} classifier: they say whether"])
    below = (tmp_path / "page.html").read_text().split("<h2>Experiments</h2>")[1].split("<h2>Ensembles</h2>")[0]
    assert "classifier: they say whether. What classification heads are worth is in classifiers.html." in below
    assert HOSTILE not in below


@pytest.mark.parametrize(("best_seed", "said"), [(None, "fpn quick leads"), (7, "fpn quick seed 7 leads")])
def test_a_replicate_is_told_by_its_seed_and_no_other_row_is(best_seed, said):
    seeds = [best_seed, 8] if best_seed else [best_seed, 7]
    rows = [experiment(1, seed=seed, dice_last=0.6 - n / 10) for n, seed in enumerate(seeds)]
    known = pd.DataFrame(rows).astype({"folds": "Int64", "images": "Int64"})
    rows = pd.concat([table([]), known], ignore_index=True).astype({"seed": "Int64"})
    arranged = arrange(rows, 51)
    [sentence] = verdict(arranged)
    assert said in sentence and "nan" not in sentence
    labels = json.dumps(dice_chart(arranged).specification)
    assert "seed " in labels and "seed nan" not in labels and "<NA>" not in labels
