"""The page of a search: its lines are the paths, its tables the counts, and odd names are text."""

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show
from made_ensemble import ODD

from cloudseg.ensemble.selection import Choice, Score, Selection, Step
from cloudseg.report import charts
from cloudseg.report.selection_page import write_selection_page

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)


@pytest.fixture(autouse=True, scope="module")
def bundle_once(tmp_path_factory):
    """Keep the libraries of charts, which take a second to bundle, from page to page, as in a working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "CACHE", tmp_path_factory.mktemp("snakemake") / "cloudseg")
        yield


def path(names, start, *, held_out=None):
    """Return steps that gain less and less, in sample more than on the fold that is held out."""
    gains = [0.02 * (1 - 0.6**number) for number in range(len(names))]
    others = [None if held_out is None else held_out + 0.5 * gain - 0.0004 * n for n, gain in enumerate(gains)]
    return tuple(Step(name, start + gain, other) for name, gain, other in zip(names, gains, others, strict=True))


def made(candidates, *, folds=5, steps=9, power=None, seed=1):
    random = np.random.default_rng(seed)

    def chosen(length):
        return [candidates[number] for number in random.integers(0, min(len(candidates), 5), length)]

    nested = {
        fold: Choice(
            0.5 if power and fold == 1 else power,
            path(chosen(steps - fold % 3), 0.64 + 0.003 * fold, held_out=0.655 - 0.006 * fold),
        )
        for fold in range(folds if folds > 1 else 0)
    }
    whole = Choice(power, path(chosen(steps), 0.646))
    last = [choice.path[-1].held_out for choice in nested.values()]
    honest = float(np.mean(last)) if last else None
    scores = {
        "chosen": Score(whole.path[-1].in_sample, honest),
        "mean": Score(0.6588, honest and 0.6491),
        "single": Score(0.646, honest and 0.6432),
    }
    return Selection(tuple(candidates), 5546, 10, whole, nested, scores)


def written(selection, folder, name="auto"):
    """Write the page and return its text and its chart."""
    write_selection_page(selection, name, page=folder / "page.html", figure=folder / "path.svg")
    ElementTree.parse(folder / "path.svg")  # noqa: S314  # our own file
    text = (folder / "page.html").read_text(encoding="utf-8")
    [chart] = re.findall(r'data-chart="path">(.*?)</script>', text, flags=re.DOTALL)
    return text, json.loads(chart)


def cells(text, number):
    """Return the cells of the number-th table, row by row."""
    body = re.findall(r"<tbody>(.*?)</tbody>", text, flags=re.DOTALL)[number]
    rows = re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)
    return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]


def test_lines_are_the_paths_of_the_folds_and_bold_ones_their_means(tmp_path):
    selection = made(list("abcdef"))
    _, chart = written(selection, tmp_path)
    lines, means = chart["datasets"]["lines"], chart["datasets"]["means"]
    for fold, choice in selection.nested.items():
        own = [line for line in lines if line["without"] == f"fold {fold}" and "held out" in line["kind"]]
        assert [line["added"] for line in own] == [step.candidate for step in choice.path]
        assert np.allclose([line["dice"] for line in own], [step.held_out for step in choice.path], atol=1e-5)
    held_out = [mean["dice"] for mean in means if "held out" in mean["kind"]]
    assert len(held_out) == max(len(choice.path) for choice in selection.nested.values())
    assert held_out[-1] == pytest.approx(selection.scores["chosen"].honest, abs=1e-5)
    first = np.mean([choice.path[0].in_sample for choice in selection.nested.values()])
    assert next(mean["dice"] for mean in means if "chosen on" in mean["kind"]) == pytest.approx(first, abs=1e-5)
    assert chart["datasets"]["plain"] == [{"dice": 0.6491}]


def test_tables_show_the_scores_and_the_counts_of_all_and_of_each_fold(tmp_path):
    selection = made(list("abcdef"))
    text, _ = written(selection, tmp_path)
    scores = cells(text, 0)
    assert [row[1:3] for row in scores[1:]] == [["0.6491", "0.6588"], ["0.6432", "0.6460"]]
    assert scores[0][1] == f"{selection.scores['chosen'].honest:.4f}"
    candidates = cells(text, 1)
    assert sorted(row[0] for row in candidates) == list("abcdef")
    for name, count, _, *folds in candidates:
        assert count == str(selection.chosen.counts.get(name, ""))
        assert folds == [str(choice.counts.get(name, "")) for choice in selection.nested.values()]
    counts = [int(row[1] or 0) for row in candidates]
    assert counts == sorted(counts, reverse=True)
    assert [row[1] for row in cells(text, 2)] == [step.candidate for step in selection.chosen.path]


def test_the_power_is_told(tmp_path):
    text, _ = written(made(list("abc"), power=0.7), tmp_path)
    assert "What is averaged is p<sup>0.7</sup>, for all folds" in text
    text, _ = written(made(list("abc")), tmp_path)
    assert "What is averaged is p itself, for all folds" in text


def test_a_search_on_one_fold_is_called_optimistic_and_draws_its_only_path(tmp_path):
    selection = made(list("abc"), folds=1)
    text, chart = written(selection, tmp_path)
    assert '<p class="verdict bad">One fold: there is no honest score' in text
    assert ">honest<" not in text and "held out" not in str(chart["datasets"])
    assert len(chart["datasets"]["means"]) == len(selection.chosen.path)


def test_names_are_text_whatever_they_hold(tmp_path):
    text, chart = written(made(ODD), tmp_path, name=ODD[0])
    assert "<script>document" not in text
    assert {line["added"] for line in chart["datasets"]["lines"]} <= set(ODD)


@needs_browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_is_drawn_and_fits(tmp_path, width):
    names = [f"efficientnet-b{number}-fpn-320x480-long_recipe_name-5_folds-best" for number in range(24)]
    with browser(width) as driver:
        for selection in (made(names), made(ODD, folds=1, steps=1)):
            written(selection, tmp_path)
            show(driver, tmp_path / "page.html")
            assert errors(driver) == []
            assert overflow(driver) <= 0
