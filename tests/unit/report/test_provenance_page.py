"""The page of a submission's provenance: odd names are text, what differs is said, and nothing more is claimed."""

import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show
from small_provenance import member, prediction, provenance, training, write_csv

from cloudseg.report.provenance_page import differences, unrecorded, write_provenance_page

ODD = "</script><script>document.title='ran'</script><b>\"雲\"</b> & 'q'"


@pytest.fixture
def path(tmp_path):
    return write_csv(tmp_path / "submission.csv")


def odd_provenance(path):
    cuts = {ODD: {"level": 128, "threshold": 0.502, "min_size": 50}}
    decision = {"sha256": "f" * 64, "plain": {"how": "tune", "images": 9, "classes": cuts, "nested": {"0": cuts}}}
    devices = [f"cuda {ODD}"] * 2
    return provenance(
        path,
        config_name="tiny",
        decision=decision | {"rule": {"how": "tune"}, "min_sizes": [0]},
        trainings=[training(0, devices=devices, otherwise=[ODD]), training(1, commit="d" * 40 + "-dirty")],
        config={"name": "tiny", "ensembles": {"all": {"note": ODD}}},
        sheet=[{"encoder": "resnet", "note": ODD, ODD: ODD}],
    )


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_odd_names_are_text_and_everything_fits(tmp_path, path):
    write_provenance_page(odd_provenance(path), tmp_path / "page.html")
    with browser(400) as driver:
        show(driver, tmp_path / "page.html")
        assert driver.title == "Where the submission comes from"
        assert errors(driver) == []
        assert overflow(driver) == 0
        assert driver.execute_script("return document.querySelectorAll('b').length") == 0
        text = driver.execute_script("return document.body.textContent")
        assert text.count(ODD) >= 6
        whole = driver.execute_script("return [...document.querySelectorAll('td[title]')].map(cell => cell.title)")
        assert {"f" * 64, "c" * 40, "d" * 40 + "-dirty", "5" * 64} <= set(whole)


def test_members_that_are_alike_differ_in_nothing(path):
    assert differences(provenance(path)) == []
    assert unrecorded(provenance(path)) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"commit": "d" * 40}, f"2 commits among the trainings: {'c' * 12} (1); {'d' * 12} (1)."),
        (
            {"versions": {"python": "3.11", "torch": "2.6"}},
            "2 versions of torch among the trainings: 2.5 (1); 2.6 (1).",
        ),
        (
            {"processor": "AVX512"},
            "processors or GPUs among the trainings: cpu x86_64, AVX2 (1); cpu x86_64, AVX512 (1).",
        ),
        ({"seed": 2}, "2 seeds among the trainings: 1 (1); 2 (1)."),
        ({"data": "e" * 64}, "2 images, labels or folds among the trainings: 64x96 dddddddddddd (1)"),
        ({"otherwise": ["epochs 4 -> 5"]}, "fold1 was trained otherwise than the config says now: epochs 4 -> 5."),
        ({"commit": "c" * 40 + "-dirty"}, "1 of 2 trainings ran code with changes that no commit has (-dirty)."),
    ],
)
def test_what_differs_is_said(path, change, line):
    assert line in " ".join(differences(provenance(path, trainings=[training(0), training(1, **change)])))


def test_stores_of_other_sizes_are_no_difference(path):
    trainings = [training(0), training(1, size="128x192", data="e" * 64)]
    members = [member(0, "best"), member(1, "best", size="128x192")]
    assert differences(provenance(path, members=members, trainings=trainings)) == []


def test_what_is_not_recorded_or_confirmed_is_not_claimed(path):
    silent = {"test": prediction(made_with=None, device=None)}
    members = [member(0, "best", predictions=silent), member(1, "best")]
    found = provenance(path, members=members, trainings=[training(0, processor=None), training(1, processor=None)])
    assert unrecorded(found) == ["the kind of processor of 2 of 2 trainings", "what made 1 of 3 predictions"]
    assert differences(found)[0].startswith("1 predictions cannot be confirmed")


def test_one_model_without_an_out_of_fold_image_has_a_page(tmp_path, path):
    score = {"dice": None, "how": "none", "optimistic": [], "images": 0, "folds": [], "expected": None}
    members = [member(0, "last", valid_weight=None, predictions={"test": prediction()})]
    write_provenance_page(
        provenance(path, score=score, members=members, trainings=[training(0)]), tmp_path / "page.html"
    )
    assert "No score: no image is out of fold for all members." in (tmp_path / "page.html").read_text()
