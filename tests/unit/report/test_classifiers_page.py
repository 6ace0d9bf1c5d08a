"""The page of classification heads: who leads, what is empty, and that it fits."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show

from cloudseg.report.classifiers_page import MOST, numbered, write_classifiers

HOSTILE = "</script><script>document.title='ran'</script><b>雲</b>"
CLASSES = ["Fish", "Flower", "Gravel", HOSTILE]


def head(decoder, auc, plane_auc=math.nan, checkpoint="last", classes=CLASSES, folds=2, **more):
    rows = []
    for number, name in enumerate([*classes, "all"]):
        cells = {"encoder": "resnet34", "decoder": decoder, "size": "96x144", "recipe": "heads", "folds": folds}
        cells |= {"checkpoint": checkpoint, "class": name, "images": 51, "positives": 20 + number, "prevalence": 0.4}
        cells |= {"auc": auc - 0.001 * number, "auc_sd": 0.01, "ap": auc - 0.1, "ap_sd": 0.02}
        cells |= {"plane_auc": plane_auc, "plane_auc_sd": 0.03, "plane_ap": plane_auc - 0.1, "plane_ap_sd": 0.02}
        rows.append(cells | {"remark": ""} | more)
    return pd.DataFrame(rows)


def written(folder, *heads):
    found = write_classifiers(pd.concat(heads), folder / "classifiers.html", folder / "classifiers.svg")
    return found, (folder / "classifiers.html").read_text()


def test_the_best_last_leads_and_planes_are_compared_with_the_head(tmp_path):
    found, text = written(
        tmp_path,
        head("fpn", 0.8, 0.85),
        head("classifier", 0.9),
        head("unet", 0.7, 0.6),
        head("unet", 0.99, 0.6, "best"),
    )
    assert found == (
        "resnet34 96x144 classifier heads says best whether a class is there: AUC 0.8960, mean over the classes. The "
        "head says it better than the network's own planes in 1 of 2 checkpoints."
    )
    assert "nan" not in re.sub("<script.*?</script>", "", text, flags=re.DOTALL).lower()
    assert HOSTILE not in text
    assert "best (*)" in text
    names = set(ElementTree.parse(tmp_path / "classifiers.svg").getroot().itertext())  # noqa: S314
    assert {"1 classifier resnet34 heads last", "3 unet resnet34 heads best (*)"} <= names


def test_without_figures_the_page_says_so(tmp_path):
    found, text = written(tmp_path, head("fpn", math.nan, folds=1, auc_sd=math.nan, remark="no image has it"))
    assert found == "No class has both images with it and images without it, so there is nothing to tell apart."
    assert "no image has it" in text


def test_experiments_are_ranked_by_last_and_replicates_apart():
    rows = numbered(
        pd.concat([head("fpn", 0.7, seed=""), head("fpn", 0.8, seed=7), head("fpn", 0.9, 0, "best", seed="")])
    )
    assert dict(zip(rows["seed"], rows["number"], strict=True)) == {7: 1, "": 2}


@pytest.mark.skipif(not CHROMIUM, reason=MISSING)
@pytest.mark.parametrize("width", [500, 1280])
def test_a_browser_shows_very_many_heads_without_a_complaint(tmp_path, width):
    written(tmp_path, *(head(f"d{number}", 0.5 + number / 200, 0.6) for number in range(MOST + 5)))
    with browser(width) as driver:
        show(driver, tmp_path / "classifiers.html")
        assert driver.title == "Classification heads"
        assert errors(driver) == []
        assert overflow(driver) <= 0
        assert f"The best {MOST} of {MOST + 5} heads." in driver.page_source
