"""The page of a submission: hostile names are text, odd submissions and data sets have a page, too."""

import re

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show

from cloudseg.report.submission_page import write_submission_page
from cloudseg.studies.sanity.check import look_at
from cloudseg.studies.sanity.submission import Form
from cloudseg.studies.sanity.training import Training

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
SCRIPT = "</script><script>document.title='ran'</script>"
ODD = [SCRIPT, '"Fish" & <b>chips</b>', "Wolken \u96f2", "a.b[0]'c"]
CHARTS = ("presence", "areas", "components", "together")


def look(folder, classes, lines, images=30, present=True):
    rng = np.random.default_rng(0)
    has = (rng.random((images, len(classes))) < 0.5) & present
    masks = pd.DataFrame(
        [(number, 1, 0, False) for _, number in np.argwhere(has)], columns=["class", "components", "small", "same"]
    )
    names = [f"train{number}.jpg" for number in range(images)]
    training = Training(classes, names, has, 0.3 * has, masks)
    rows = [("test.jpg", name) for name in classes]
    path = folder / "any.csv"
    path.write_text("\n".join(["Image_Label,EncodedPixels", *lines, ""]))
    return look_at(path, Form(rows, names, classes, (20, 30), [5] * len(classes)), training, own=False)


@needs_browser
def test_hostile_names_are_text_and_everything_fits(tmp_path):
    lines = [f'"test.jpg_{name.replace(chr(34), chr(34) * 2)}",1 100' for name in ODD]
    sanity = look(tmp_path, ODD, [*lines, f"<img src=x onerror=alert(1)>{SCRIPT}_x,1 1"])
    assert len(sanity.submission.filled) == len(ODD)
    svgs = {name: tmp_path / f"{name}.svg" for name in CHARTS}
    write_submission_page(sanity, tmp_path / "page.html", svgs)
    assert all(path.stat().st_size > 1000 for path in svgs.values())
    with browser(400) as driver:
        show(driver, tmp_path / "page.html")
        assert driver.title == "The submission beside training"
        assert errors(driver) == [] and overflow(driver) == 0
        assert driver.execute_script("return document.querySelectorAll('b, img, li script').length") == 0
        cells = driver.execute_script(
            "return [...document.querySelectorAll('tbody tr')].map(r => r.cells[0].innerText)"
        )
        assert cells == ODD
        words = driver.execute_script("return [...document.querySelectorAll('.chart text')].map(t => t.textContent)")
        assert set(ODD) <= set(words)


@pytest.mark.parametrize(
    ("classes", "lines", "present", "shown"),
    [
        (["Fish"], ["test.jpg_Fish,"], True, CHARTS[:3]),
        (["Fish"], [], True, ()),
        (["Fish", "Sugar"], ["test.jpg_Fish,", "test.jpg_Sugar,"], False, CHARTS[:1]),
        (
            [f"class {number}" for number in range(64)],
            [f"test.jpg_class {n},{n + 1} 5" for n in range(64)],
            True,
            CHARTS,
        ),
    ],
    ids=["one class", "no row", "no mask anywhere", "64 classes"],
)
def test_odd_data_sets_have_a_page_without_empty_charts(classes, lines, present, shown, tmp_path):
    sanity = look(tmp_path, classes, lines, present=present)
    svgs = {name: tmp_path / f"{name}.svg" for name in CHARTS}
    write_submission_page(sanity, tmp_path / "page.html", svgs)
    text = (tmp_path / "page.html").read_text()
    assert sanity.verdict in text
    assert tuple(re.findall(r'data-chart="([\w-]+)"', text)) == shown
    assert all(path.is_file() for path in svgs.values())
