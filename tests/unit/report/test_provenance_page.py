"""The page of a submission's provenance: odd names are text, what differs is said, and nothing more is claimed."""

import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show
from small_provenance import member, prediction, provenance, training, write_csv

from cloudseg.report import provenance_page
from cloudseg.report.page import write_page
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


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Return a function that writes the page of a record, and returns another one of the cells of a column."""
    values = {}

    def write(out, template, **given):
        values.update(given)
        write_page(out, template, **given)

    monkeypatch.setattr(provenance_page, "write_page", write)

    def of_record(record):
        write_provenance_page(record, tmp_path / "page.html")
        columns = {
            (table, column.head): column.cells
            for table in ("chain", "members", "trainings", "decision")
            for column in values[table].shown
        }
        return lambda table, head: list(columns[table, head]) if (table, head) in columns else None

    return of_record


def test_roles_are_said_and_shares_are_of_members_that_say_the_same(shown, path):
    members = [
        *(member(fold, "best", role="where", weight=1.0) for fold in (0, 1)),
        *(member(fold, "last", role="whether", weight=3.0) for fold in (0, 1)),
    ]
    whether = {split: {"run": "8" * 64, "images": 9} for split in ("valid", "test")}
    cells = shown(provenance(path, members=members, whether=whether))
    assert cells("members", "says") == ["where a class is"] * 2 + ["whether it is there"] * 2
    assert cells("members", "% of the blend") == [50.0] * 4
    assert "whether a class is there, out of fold" in cells("chain", "link")


def test_levels_of_votes_are_shown(shown, path):
    levels = {"test": [100, 120], "valid": [90, 256]}
    members = [member(fold, "best", levels=levels) for fold in (0, 1)]
    cells = shown(provenance(path, members=members))
    assert cells("members", "votes from level") == ["100, 120"] * 2
    assert cells("members", "out of fold from level") == ["90, 256"] * 2
    assert "9 images, a vote of the members' masks" in cells("chain", "what")


def test_weights_that_were_searched_for_are_shown_beside_those_of_the_folds(shown, path):
    members = [
        member(0, "best", weight=3.0, valid_weight=1.0),
        member(0, "last", weight=None, valid_weight=3.0, predictions={"valid": prediction()}),
        member(1, "best", weight=1.0, valid_weight=2.0),
    ]
    plain = {"candidates": ["a", "b", "c"], "all": {"power": 0.5, "counts": {"a": 2, "b": 1}}}
    search = {"sha256": "7" * 64, "plain": plain, "asked": {"steps": 3}}
    cells = shown(provenance(path, members=members, search=search))
    assert cells("members", "% of the blend") == [75.0, None, 25.0]
    assert cells("members", "% out of fold") == [25.0, 75.0, 100.0]
    assert "2 of 3 candidates chosen, p to the power 0.5" in cells("chain", "what")


def test_black_and_all_that_a_decision_asks_for_are_said(shown, tmp_path, path):
    cut = {
        "level": 128,
        "threshold": 0.502,
        "min_size": 50,
        "high": 200,
        "plane_min": {"level": 180, "area": 1200},
        "fill_holes": True,
        "presence": {"score": {"top": 100}, "at_least": 15300, "threshold": 0.6},
    }
    stepped = {
        "level": 128,
        "threshold": 0.502,
        "min_size": 50,
        "presence": {"score": {"area": 9}, "at_least": 7},
        "steps": [[7, 90], [9, 120], [11, 256]],
    }
    plain = {"how": "expected", "images": 9, "best": "if_empty", "classes": {"Fish": cut, "Sugar": stepped}}
    decision = {"sha256": "f" * 64, "plain": plain, "rule": {"how": "expected"}, "min_sizes": [0]}
    black = {"grey": 3, "data": {"valid": "1" * 64, "test": "2" * 64}}
    cells = shown(provenance(path, decision=decision, black=black))
    assert "0 where all bands of an image are at most 3" in cells("chain", "what")
    assert cells("decision", "counts from") == [
        "mean of the 100 largest pixels: 0.6000 (numerator 15,300)",
        "share of pixels from level 9 on: numerator 7",
    ]
    assert cells("decision", "level") == [128, "90 to 120, by the score of the plane"]
    assert cells("decision", "with a pixel of level")[0] == 200
    assert cells("decision", "and pixels of the top level")[0] == "1,200 pixels from level 180 on"
    assert (
        "Where no class of an image counts, the one with the highest score does."
        in (tmp_path / "page.html").read_text()
    )


def taught_record(path):
    """A record of a network that starts from another and is taught by a third; both are of no member."""
    start, teacher = (training(0, recipe_name=name, run=f"resnet/fpn/64x96/{name}/fold0") for name in ("one", "two"))
    start |= {"recipe": {"epochs": 4, "brightness": 115}, "data": "e" * 64}
    own = training(0, start_run=start["run"], pseudo="teachers/quick/64x96/fold0", data="f" * 64)
    labels = {
        "ensemble": "teachers",
        "recipe": "quick",
        "size": "64x96",
        "fold": 0,
        "settings": {"ensemble": "teachers"},
        "min_area": 0.01,
        "run": "7" * 64,
        "images": 40,
        "members": [
            {
                "run": teacher["run"],
                "fold": 0,
                "checkpoint": "last",
                "sha256": "0a" * 32,
                "weight": 1.0,
                "prediction": prediction(),
            }
        ],
    }
    heads = [member(0, "last", role="whether", gives="values", weight=2.0)]
    members = [member(0, "best", role="where", weight=1.0), member(0, "last", role="whether", weight=2.0), *heads]
    whether = {split: {"run": "8" * 64, "images": 9} for split in ("valid", "test")}
    more = {"earlier": [start, teacher], "pseudo": [labels], "whether": whether}
    return provenance(path, trainings=[own, training(1)], members=members, **more)


def test_whom_a_network_goes_back_to_is_shown(shown, path):
    record = taught_record(path)
    cells = shown(record)
    assert cells("trainings", "taken for") == [None, None, "weights", "labels"]
    assert cells("trainings", "starts from") == ["resnet/fpn/64x96/one/fold0", None, None, None]
    assert cells("trainings", "labels of test images")[0] == "teachers/quick/64x96/fold0"
    assert "4 trained, 2 of them for the others" in cells("chain", "what")
    labels = dict(zip(cells("chain", "link"), cells("chain", "what"), strict=True))["labels teachers/quick/64x96/fold0"]
    assert labels == "40 test images, by 1 checkpoint of the ensemble teachers"
    # What trains on test images, too, has other data than the rest, as it should
    assert differences(record) == []


def test_predictions_that_labels_were_made_of_are_confirmed_as_those_of_members_are(path):
    plain = taught_record(path).model_dump(mode="json")
    plain["pseudo"][0]["members"][0]["prediction"] = prediction(made_with=None, device=None)
    record = type(taught_record(path)).model_validate(plain)
    assert unrecorded(record) == ["what made 1 of 7 predictions"]
    assert differences(record)[0].startswith("1 predictions cannot be confirmed")


def test_what_heads_say_is_told_from_what_planes_say(shown, path):
    cells = shown(taught_record(path))
    assert cells("members", "says")[1:] == ["whether it is there", "whether it is there, by its classification head"]
    assert cells("members", "% of the blend") == [100.0] * 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"earlier": None}, "expected the training of resnet/fpn/64x96/one/fold0, which resnet/fpn/64x96/quick/fold0"),
        ({"pseudo": None}, "expected the labels teachers/quick/64x96/fold0, which resnet/fpn/64x96/quick/fold0 took"),
    ],
)
def test_a_record_that_lacks_what_it_goes_back_to_is_refused(path, changes, words):
    plain = taught_record(path).model_dump(mode="json")
    with pytest.raises(ValueError, match=words):
        type(taught_record(path)).model_validate(plain | changes)


def test_what_is_not_asked_for_has_no_column(shown, path):
    cells = shown(provenance(path))
    for head in ("taken for", "starts from", "labels of test images"):
        assert cells("trainings", head) is None
    for head in ("says", "% out of fold", "votes from level", "out of fold from level"):
        assert cells("members", head) is None
    for head in ("counts from", "and pixels of the top level", "with a pixel of level", "holes"):
        assert cells("decision", head) is None


def test_replicates_differ_in_their_seed_as_they_should(path):
    replicate = training(1, run="resnet/fpn/64x96/quick/fold1-seed7", seed=7)
    members = [member(0, "best"), member(1, "best", run=replicate["run"])]
    assert differences(provenance(path, trainings=[training(0), replicate], members=members)) == []
    strange = training(1, seed=7)
    assert differences(provenance(path, trainings=[training(0), strange]))[0].startswith("2 seeds among the trainings:")
    with pytest.raises(ValueError, match="expected the run resnet/fpn/64x96/quick/fold1, got"):
        provenance(path, trainings=[training(0), replicate | {"seed": 8}], members=members)


def test_a_member_that_has_seen_all_images_is_said_to_have_no_score(tmp_path, path):
    full = training(1) | {"run": "resnet/fpn/64x96/quick/foldall", "fold": "all"}
    on_all = member(0, "best") | {"run": full["run"], "fold": "all", "predictions": {"test": prediction()}}
    write_provenance_page(
        provenance(path, trainings=[training(0), full], members=[member(0, "best"), on_all]), tmp_path / "page.html"
    )
    assert "1 of 2 members were trained on all images" in (tmp_path / "page.html").read_text()
    write_provenance_page(provenance(path), tmp_path / "page.html")
    assert "trained on all images" not in (tmp_path / "page.html").read_text()
