"""The page of a decision: charts show the surface, odd runs have a page, and everything is drawn and fits."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show
from made_ensemble import MIN_SIZES, ODD, make

from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.diagnosis import diagnose
from cloudseg.ensemble.masking import ImageRule, PlaneRule, Presence
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.ensemble.scores import image_scores
from cloudseg.ensemble.surface import read_surface
from cloudseg.postprocess import Cut
from cloudseg.report import charts
from cloudseg.report.decision_page import Explained, Surface, _cuts_table, member_gains, write_decision_page

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
FIGURES = ("surface", "reliability", "presence", "members")


@pytest.fixture(autouse=True, scope="module")
def bundle_once(tmp_path_factory):
    """Keep the libraries of charts, which take a second to bundle, from page to page, as in a working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "CACHE", tmp_path_factory.mktemp("snakemake") / "cloudseg")
        yield


def explained(made):
    diagnosis = diagnose(made / "valid.zarr", made / "truth.zarr", made.decision, made.members, made.rule)
    surface = Surface(*read_surface(made / "surface.zarr"))
    return Explained("all", made.decision, made.rule, surface, made.scores, diagnosis, len(made.members))


def written(made):
    """Write the page and return its charts, by name."""
    figures = {name: made / f"{name}.svg" for name in FIGURES}
    write_decision_page(explained(made), seed=1, page=made / "page.html", figures=figures)
    for path in figures.values():
        ElementTree.parse(path)  # noqa: S314  # our own file
    text = (made / "page.html").read_text(encoding="utf-8")
    found = re.findall(r'data-chart="([\w-]+)">(.*?)</script>', text, flags=re.DOTALL)
    return {name: json.loads(chart) for name, chart in found}


def rows(chart, layer):
    return chart["layer"][layer]["data"]["values"]


def test_a_decision_that_asks_presence_has_a_page_without_out_of_fold_images(tmp_path):
    made = make(tmp_path, ["Fish", "Flower"], folds=(), how="fixed")
    presence = {"scores": [{"top": 24}], "thresholds": [0.5, 0.25], "pixels": 2400}
    rule = dataclasses.replace(made.rule, presence=presence)
    decision = dataclasses.replace(made.decision, rule=rule.fixed(["Fish", "Flower"]))
    written(dataclasses.replace(made, rule=rule, decision=decision))
    text = (made / "page.html").read_text(encoding="utf-8")
    assert "mean of the 24 largest pixels" in text
    assert "No out-of-fold images" in text


def test_a_decision_plane_by_plane_shows_no_level_of_the_config_as_its_own(tmp_path):
    classes = ["Fish", "Flower"]
    made = make(tmp_path, classes)
    presence = {"scores": [{"top": 24}], "thresholds": None, "pixels": 2400}
    rule = dataclasses.replace(made.rule, how="expected", presence=presence)
    steps = ((3000, 90), (5000, 200))
    score = PlaneScore("top", 24)
    planes = {name: PlaneRule(Cut(128, 20), Presence(score, 3000), steps) for name in classes}
    decision = Decision("expected", 5, ImageRule(planes), dict.fromkeys((0, 1), ImageRule(planes)))
    shown = written(dataclasses.replace(made, rule=rule, decision=decision))
    for number, name in enumerate(classes):
        assert [mark["kind"] for mark in rows(shown[f"surface-{2 * number}"], 1)] == ["fixed"], name
        marked = {row["at"]: row["share"] for row in rows(shown[f"presence-{number}"], 0) if row["kind"] == "recall"}
        kept = image_scores(made / "valid.zarr", made / "truth.zarr", decision).query("`class` == @name")
        has = kept["truth"] > 0
        assert marked[20] == pytest.approx((kept["kept"] > 0)[has].mean(), abs=1e-5)
    assert ">128<" not in (made / "page.html").read_text(encoding="utf-8")


def test_a_class_that_never_has_a_mask_is_never_present(tmp_path):
    made, score = make(tmp_path, ["Fish", "Flower"]), PlaneScore("top", 24)
    at_least = {"Fish": 3000, "Flower": score.scale(0) + 1}
    planes = {name: PlaneRule(Cut(128, 20), Presence(score, least)) for name, least in at_least.items()}
    cuts = _cuts_table(explained(dataclasses.replace(made, decision=Decision("expected", 5, ImageRule(planes)))))
    [shown] = [column.cells for column in cuts.columns if column.head == "present from"]
    assert shown == [pytest.approx(3000 / 6120), "never"]


def test_charts_show_the_surface_and_the_points_of_the_decision(tmp_path):
    made = make(tmp_path, ["Fish", "Flower"])
    shown = written(made)
    sums, counts, _, _ = read_surface(tmp_path / "surface.zarr")
    dice = (sums / counts[:, None, None, None]).mean(axis=0)
    for number, name in enumerate(made.classes):
        heat, marks = (rows(shown[f"surface-{2 * number}"], layer) for layer in (0, 1))
        assert len(heat) == 32 * len(MIN_SIZES)
        for cell in heat:
            levels = slice(round(cell["from"] * 255), round(cell["from"] * 255) + 8)
            assert cell["dice"] == pytest.approx(dice[number, levels, MIN_SIZES.index(cell["size"])].mean(), abs=1e-5)
        wanted = {("fixed", 128, 20), ("chosen", made.decision.cuts[name].level, made.decision.cuts[name].min_size)}
        wanted |= {
            ("chosen on other folds", rule.classes[name].cut.level, rule.classes[name].cut.min_size)
            for rule in made.decision.nested.values()
        }
        assert {(mark["kind"], round(mark["threshold"] * 255), mark["size"]) for mark in marks} == wanted
        column = MIN_SIZES.index(made.decision.cuts[name].min_size)
        for point in rows(shown[f"surface-{2 * number + 1}"], 0)[::10]:
            of_folds = (sums / counts[:, None, None, None])[:, number, round(point["threshold"] * 255), column]
            found = [point["lowest"], point["dice"], point["highest"]]
            assert np.allclose(found, [of_folds.min(), of_folds.mean(), of_folds.max()], atol=1e-5)


def test_the_dice_of_a_class_is_that_of_the_other_tables_where_folds_differ_in_size(tmp_path):
    made = make(tmp_path, ["Fish", "Flower"], folds=(0, 0, 0, 0, 1), how="fixed")
    written(made)
    sums, counts, sizes, _ = read_surface(tmp_path / "surface.zarr")
    text = (tmp_path / "page.html").read_text()
    for number, name in enumerate(made.classes):
        cut = made.decision.cuts[name]
        dice = (sums[:, number, cut.level, sizes.index(cut.min_size)] / counts).mean()
        [row] = re.findall(rf"<td [^>]*>{name}</td>(?:\s*<td [^>]*>[\d.,]+</td>){{3}}\s*<td [^>]*>(0\.\d+)</td>", text)
        assert row == f"{dice:.4f}"


def test_what_a_member_adds_is_the_score_minus_the_score_without_it(tmp_path):
    made = make(tmp_path, ["Fish", "Flower"])
    found = explained(made)
    gains = member_gains(found.diagnosis.agreement, made.scores, seed=3)
    score = made.scores.groupby(["fold", "class"])["dice"].mean().groupby("fold").mean().mean()
    assert np.allclose(gains["gain"], score - gains["without"])
    assert (gains["low"] <= gains["gain"]).all() and (gains["gain"] <= gains["high"]).all()


def test_a_member_that_says_where_only_has_no_dice_alone(tmp_path):
    made = make(tmp_path, ["Fish", "Flower"])
    first, *others = made.members
    made = dataclasses.replace(made, members=[dataclasses.replace(first, says_where_only=True), *others])
    alone = member_gains(explained(made).diagnosis.agreement, made.scores, seed=3)["alone"]
    assert alone.isna().tolist() == [True, *[False] * len(others)]
    written(made)
    assert "they leave no plane empty" in (made / "page.html").read_text()


def test_the_dice_of_a_class_is_the_mean_over_folds_as_on_the_leaderboard(tmp_path):
    made = make(tmp_path, ["Fish", "Flower"], folds=(0, 0, 0, 0, 1))
    cuts = _cuts_table(explained(made))
    [dice] = [column.cells for column in cuts.columns if column.head == "Dice"]
    of_folds = made.scores.pivot_table("dice", index="class", columns="fold")  # the mean of each fold
    assert dice == pytest.approx([float(of_folds.loc[name].mean()) for name in made.classes])
    assert dice != pytest.approx(made.scores.groupby("class")["dice"].mean().loc[made.classes].tolist())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"folds": (), "how": "fixed"}, "No out-of-fold images"),
        ({"folds": (0, 0, 0)}, "There is one fold"),
        ({"folds": (0, 0, 0), "sharpen": 0.5}, "the Dice below is optimistic.\nThis ensemble averages"),
        ({"folds": (0, 0, 0), "how": "fixed"}, "What tuning would choose"),
        ({"absent": ["Flower"]}, "does not flatter"),
        ({}, "each cut by the fixed threshold 0.50 and minimum size 20, which the ensemble would have"),
        ({"members": 1}, "One member"),
        ({"members": 65, "folds": (0, 1)}, "65 members are too many"),
        ({"sharpen": 0.5}, "This ensemble averages p"),
    ],
)
def test_odd_runs_have_a_page_and_all_figures(tmp_path, options, says):
    made = make(tmp_path, ["Fish", "Flower"], **options)
    written(made)
    assert says in (tmp_path / "page.html").read_text()


@needs_browser
def test_odd_names_are_text_and_of_64_classes_eight_have_charts(tmp_path):
    classes = [*ODD, *(f"class {number}" for number in range(60))]
    made = make(tmp_path, classes, folds=(0, 1), members=2, tests=1, absent=ODD)
    shown = written(made)
    assert len([name for name in shown if name.startswith("surface-")]) == 16
    assert "Charts show 8 of 64 classes" in (tmp_path / "page.html").read_text()
    for width in (1280, 400):
        with browser(width) as driver:
            show(driver, tmp_path / "page.html")
            assert driver.title == "Decision of all"
            assert errors(driver) == []
            assert overflow(driver) == 0
            assert driver.execute_script("return document.querySelectorAll('b').length") == 0
            drawn = driver.execute_script("return [...document.querySelectorAll('.chart svg')].length")
            assert drawn == len(shown)
            cells = driver.find_elements("css selector", "table.sortable tbody td")
            assert {each.text for each in cells[:24]} >= set(ODD)
