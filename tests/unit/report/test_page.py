"""Pages: what is in them is text, whatever it is; tables sort; charts draw and fit; nothing comes from elsewhere."""

import xml.etree.ElementTree as ElementTree

import altair as alt
import pandas as pd
import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show

from cloudseg.report.charts import Chart, charts_script, class_scale
from cloudseg.report.page import Column, Picture, Table, write_page

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
ODD = ["</script><script>document.title='ran'</script>", '"Fish" & <b>chips</b>', "Wolken 雲 סְעָרָה", "a.b[0]\\'c"]
TEMPLATE = """{% extends "base.html" %}
{% block content %}
{{ parts.legend(classes) }}{{ parts.table(table) }}{{ parts.chart(chart) }}{{ parts.picture(picture) }}
{{ parts.glossary({classes[0]: classes[1]}) }}
{% endblock %}"""


def odd_chart(width="container"):
    rows = pd.DataFrame(
        {"epoch": [1, 2] * 4, "dice": [0.1 * n for n in range(8)], "class": [n for n in ODD for _ in "ab"]}
    )
    lines = alt.Chart(rows, width=width, height=200).mark_line()
    colour = alt.Color("class:N", scale=class_scale(ODD))
    return Chart(lines.encode(x="epoch:Q", y="dice:Q", color=colour, tooltip=["class:N"]), "curves", ODD[0], ODD[1])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from cloudseg.report import page as module

    out = tmp_path_factory.mktemp("page") / "odd.html"
    template = module._environment().from_string(TEMPLATE)
    table = Table([Column("name", ODD), Column("Dice", [0.25, None, 0.75, 0.5], best="max", bar=True)], ODD[0])
    picture = Picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>", ODD[0], ODD[1], kind="image/svg+xml")
    values = {"title": ODD[0], "lead": ODD[1], "classes": ODD, "table": table, "chart": odd_chart(), "picture": picture}
    out.write_text(template.render(**values, charts_script=charts_script()))
    return out


def test_nothing_is_best_among_equals_and_nothing_is_less_than_zero_by_rounding():
    column = Column("gain", [0.0, -0.0, -1e-9], best="max")
    assert [column.text(row) for row in range(3)] == ["0.0000"] * 3
    assert not any(Column("Dice", [0.5, 0.5], best="max").is_best(row) for row in range(2))


@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_odd_names_are_text_and_everything_fits(page, width):
    with browser(width) as driver:
        show(driver, page)
        assert driver.title == ODD[0]
        assert errors(driver) == []
        assert overflow(driver) == 0
        cells = driver.execute_script(
            "return [...document.querySelectorAll('tbody tr')].map(r => r.cells[0].innerText)"
        )
        assert cells == ODD
        legend = driver.execute_script("return [...document.querySelectorAll('.chart text')].map(t => t.textContent)")
        assert set(ODD) <= set(legend)
        assert driver.execute_script("return document.querySelectorAll('b, tbody script').length") == 0


@needs_browser
def test_a_click_sorts_numbers_from_the_largest_and_leaves_what_is_absent_last(page):
    with browser() as driver:
        show(driver, page)
        dice = "r.cells[1].innerText.replace(/[^0-9.]/g, '')"
        order = f"return [...document.querySelectorAll('tbody tr')].map(r => {dice})"
        button = driver.find_elements("css selector", "th button")[1]
        button.click()
        assert driver.execute_script(order) == ["0.7500", "0.5000", "0.2500", ""]
        button.click()
        assert driver.execute_script(order) == ["0.2500", "0.5000", "0.7500", ""]


def test_a_page_names_nothing_that_it_would_fetch(page):
    text = page.read_text()
    assert 'src="http' not in text and "<link" not in text and "@import" not in text


def test_a_chart_is_kept_as_svg_with_the_same_text(tmp_path):
    odd_chart().write_svg(tmp_path / "curves.svg")
    words = {text for text in ElementTree.parse(tmp_path / "curves.svg").getroot().itertext() if text.strip()}  # noqa: S314
    assert set(ODD) <= words


def test_columns_know_their_best_and_leave_out_nothing_that_is_there():
    table = Table(
        [Column("a", [1, None, 3], best="min"), Column("b", [None, float("nan"), pd.NA]), Column("c", ["", "x", ""])]
    )
    assert [column.head for column in table.shown] == ["a", "c"]
    assert [table.shown[0].is_best(row) for row in table.rows] == [True, False, False]


def test_a_template_that_is_given_too_little_says_so(tmp_path):
    with pytest.raises(Exception, match="title"):
        write_page(tmp_path / "page.html", "base.html")
    assert not (tmp_path / "page.html").exists()
