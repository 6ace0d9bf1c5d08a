"""Learning curves: what the page draws are the rows of history.tsv, whatever runs there are."""

import json
import math
import re
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show

from cloudseg.report import curves
from cloudseg.report.curves import Curves, ranked, rows_of, run_table, write_curves

ODD = ["</script><b>", "雲 [0].x"]
RECORD = {
    **{"encoder": "e", "decoder": "fpn", "recipe": {}, "seed": 1, "threads": 1, "workers": 0, "pixels": "p"},
    **{"canvas_pixels": None, "folds": "f", "weights": {"path": "w", "sha256": "0"}, "data": "d"},
    **{"images": {"train": 1, "valid": 1}, "parameters": 5, "precision": "float32", "sha256": {}, "seconds": 1.0},
    **{"batch": {"images": 2, "devices": 1, "at_once": 2, "pieces": 1, "too_much": []}, "images_per_second": None},
    **{"devices": [], "versions": {}, "commit": None},
}


def history(epochs, classes=ODD, seed=0):
    values = np.random.default_rng(seed).random((epochs, 4 + len(classes)))
    names = ["learning_rate", "train_loss", "valid_loss", "valid_dice", *(f"dice_{name}" for name in classes)]
    return pd.DataFrame({"epoch": range(1, epochs + 1), **dict(zip(names, values.T, strict=True)), "seconds": 1.5})


def write_runs(folder, experiments):
    """Write runs, `{(encoder, decoder): {fold: (history, best, resumed)}}`, and a leaderboard that ranks them so."""
    rows, files = [], []
    for number, ((encoder, decoder), folds) in enumerate(experiments.items()):
        rows.append({"what": "experiment", "encoder": encoder, "size": "x4", "decoder": decoder, "recipe": "quick"})
        rows[-1] |= {"dice_common": "", "dice_last": 1 - number / 2000, "note": "two\nlines"}
        for fold, (table, best, resumed) in folds.items():
            run = folder / f"runs/{encoder}/{decoder}/x4/quick/fold{fold}"
            run.mkdir(parents=True)
            table.to_csv(run / "history.tsv", sep="\t", index=False)
            epochs = {"run": len(table), "best": best, "resumed": [{"after": n, "of": 9} for n in resumed]}
            (run / "run.json").write_text(json.dumps(RECORD | {"fold": fold, "epochs": epochs}) + "\n")
            files.append(run)
    pd.DataFrame(rows[::-1]).to_csv(folder / "leaderboard.tsv", sep="\t", index=False)
    return folder / "leaderboard.tsv", [run / "history.tsv" for run in files], [run / "run.json" for run in files]


def test_experiments_stand_in_the_order_of_the_leaderboard(tmp_path):
    files = write_runs(tmp_path, {("a", "fpn"): {0: (history(1), 1, [])}, ("b", "unet"): {0: (history(1), 1, [])}})
    assert ranked(files[0]) == [("a", "x4", "fpn", "quick"), ("b", "x4", "unet", "quick")]


def test_replicates_and_a_training_on_all_images_have_curves_of_their_own(tmp_path):
    unvalidated = history(2).assign(valid_loss=np.nan, valid_dice=np.nan, **dict.fromkeys(map("dice_{}".format, ODD)))
    runs = {0: (history(3), 2, []), "all": (unvalidated, 2, []), "0-seed7": (history(4), 1, []), 1: (history(3), 3, [])}
    leaderboard, histories, records = write_runs(tmp_path, {("e", "fpn"): runs})
    for record in records:
        told = json.loads(record.read_text())
        record.write_text(
            json.dumps(told | {"fold": "all" if told["fold"] == "all" else int(str(told["fold"])[0])}) + "\n"
        )
    rows = pd.read_csv(leaderboard, sep="\t")
    pd.concat([rows.assign(seed=7), rows.assign(seed=None)]).astype({"seed": "Int64"}).to_csv(leaderboard, sep="\t")
    plain, replicate = ("e", "x4", "fpn", "quick"), ("e", "x4", "fpn", "quick", "seed7")
    assert set(ranked(leaderboard)) == {plain, replicate}
    write_curves(leaderboard, histories, records, tmp_path / "curves.html", tmp_path / "charts")
    drawn = sorted(path.relative_to(tmp_path / "charts/e/fpn/x4").name for path in tmp_path.rglob("*.svg"))
    assert drawn == ["quick.seed7.svg", "quick.svg"]
    text = (tmp_path / "curves.html").read_text()
    assert "e x4 fpn quick seed7" in text
    _, plain_runs = json.loads(re.search(r'id="curves-data"[^>]*>(.*?)</script>', text, re.DOTALL)[1])
    assert [run["fold"] for run in plain_runs] == [0, 1, "all images"]
    assert plain_runs[2]["dice"] == [None, None]  # NaN is no JSON of a browser
    on_all = curves.read_curves(histories[1], records[1])
    table = run_table({"one": [on_all]})
    cells = {column.head: column.cells[0] for column in table.columns}
    assert (cells["fold"], cells["epochs"], cells["last validation Dice"]) == ("all images", 2, None)


def test_rows_are_those_of_the_history():
    table = history(3)
    made = rows_of([Curves(1, 2, [], table)])
    assert [row["dice"] for row in made["epochs"]] == pytest.approx(table["valid_dice"].tolist(), rel=1e-3)
    assert [row["epoch"] for row in made["epochs"] if row["best"]] == [2]
    of_second = [row["dice"] for row in made["classes"] if row["class"] == ODD[1]]
    assert of_second == pytest.approx(table[f"dice_{ODD[1]}"].tolist(), rel=1e-3)
    valid = [row["loss"] for row in made["losses"] if row["set"] == "valid"]
    assert valid == pytest.approx(table["valid_loss"].tolist(), rel=1e-3)


def test_long_trainings_are_thinned_but_keep_their_best_and_last_epoch():
    one = Curves(0, 777, [], history(2000))
    assert len(one.drawn) <= curves.MOST_EPOCHS + 1
    assert {1, 777, 2000} <= set(one.drawn["epoch"])


def test_a_loss_that_became_no_number_is_left_out_of_the_line(tmp_path):
    table = history(3)
    table.loc[1, "valid_loss"] = math.nan
    files = write_runs(tmp_path, {("a", "fpn"): {0: (table, 1, [])}})
    write_curves(*files, tmp_path / "curves.html", tmp_path / "curves")
    assert "NaN" not in (tmp_path / "curves.html").read_text().split('id="curves-data"')[1].split("</script>")[0]


def test_of_many_experiments_the_page_holds_the_best_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "MOST", 3)
    files = write_runs(tmp_path, {(f"e{n}", "fpn"): {0: (history(2), 1, [])} for n in range(9)})
    write_curves(*files, tmp_path / "curves.html", tmp_path / "curves")
    assert "holds the 3 best of 9 experiments" in (tmp_path / "curves.html").read_text()
    assert sorted(path.parts[-4] for path in (tmp_path / "curves").rglob("*.svg")) == ["e0", "e1", "e2"]


def test_many_classes_make_fewer_experiments_not_a_larger_page(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "MOST_VALUES", 20_000)
    classes = [f"class {n}" for n in range(64)]
    runs = {(f"e{n}", "fpn"): {0: (history(100, classes), 1, [])} for n in range(6)}
    write_curves(*write_runs(tmp_path, runs), tmp_path / "curves.html", tmp_path / "curves")
    assert "holds the 2 best of 6 experiments" in (tmp_path / "curves.html").read_text()


def test_the_table_of_runs_says_where_they_ended_and_where_they_went_on():
    table = history(4)
    columns = {column.head: column.cells for column in run_table({"1. a": [Curves(3, 2, [1, 2], table)]}).columns}
    assert columns["went on after epoch"] == ["1, 2"]
    assert columns["its validation Dice"] == [table.loc[1, "valid_dice"]]
    assert columns["last valid loss"] == [table.loc[3, "valid_loss"]]


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_the_browser_draws_the_same_rows_for_each_choice(tmp_path):
    one = {0: (history(3, seed=1), 2, []), 1: (history(2, seed=2), 2, [])}
    runs = {("a", "fpn"): one, ("b", "unet"): {0: (history(1, seed=3), 1, [])}}
    files = write_runs(tmp_path, runs)
    page = tmp_path / "curves.html"
    write_curves(*files, page, tmp_path / "curves")
    text = page.read_text().replace("const show = () => {", "window.views = views; const show = () => {")
    page.write_text(text)
    expected = [
        rows_of([Curves(fold, best, [], table) for fold, (table, best, _) in folds.items()]) for folds in runs.values()
    ]
    with browser(400) as driver:
        show(driver, page)
        assert (errors(driver), overflow(driver)) == ([], 0)

        def drawn():
            names = {"losses": "losses", "classes": "classes", "dice": "epochs"}
            rows = {data: driver.execute_script(f"return views.{view}.data('{data}')") for view, data in names.items()}
            return {
                name: [{k: v for k, v in row.items() if k[0] != "_"} for row in each] for name, each in rows.items()
            }

        def choose(name, value):
            driver.execute_script(
                "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
                "s.dispatchEvent(new Event('change'))",
                *(name, value),
            )

        assert drawn() == expected[0]
        choose("fold", "1")
        assert {row["fold"] for row in drawn()["epochs"]} == {"fold 1"}
        choose("experiment", "1")
        assert drawn() == expected[1]
        legend = driver.execute_script("return [...document.querySelectorAll('.legend li')].map(l => l.textContent)")
        assert legend == ODD
    words = ElementTree.parse(tmp_path / "curves/b/unet/x4/quick.svg").getroot().itertext()  # noqa: S314
    assert set(ODD) <= set(words)


def write_unlike(folder):
    """Write runs with stages and an average, of a classifier, of brightness and of all images.

    Returns what `write_curves` reads; the leaderboard holds the first alone.
    """
    names = ["Fish", "Flower"]
    none = dict.fromkeys(("valid_dice", *map("dice_{}".format, names)))
    staged = history(9, names).assign(valid_dice_nonempty=np.linspace(0.3, 0.5, 9))
    runs = {
        ("e", "fpn"): {0: (staged, 7, []), 1: (history(9, names, 1).assign(valid_dice_nonempty=0.4), 9, [])},
        ("e", "classifier"): {
            0: (history(5, names).assign(**none), 4, []),
            1: (history(5, names).assign(**none), 5, []),
        },
        ("e", "unet"): {
            0: (history(4, ["brightness"]), 2, []),
            "all": (history(4, names).assign(valid_loss=None, **none), 4, []),
        },
    }
    leaderboard, histories, records = write_runs(folder, runs)
    for record in records[:2]:
        told = json.loads(record.read_text())
        stages = [{"epochs": epochs} for epochs in (4, 3, 2)]
        average = {"epochs": [8, 9], "valid": {"valid_loss": 0.2, "valid_dice": 0.6543}}
        record.write_text(json.dumps(told | {"recipe": {"stages": stages}, "average": average}) + "\n")
    rows = pd.read_csv(leaderboard, sep="\t", dtype=str)
    rows[rows["decoder"] == "fpn"].to_csv(leaderboard, sep="\t", index=False)
    return leaderboard, histories, records


def test_what_has_no_dice_comes_behind_the_leaderboard_with_classes_of_its_own(tmp_path):
    write_curves(*write_unlike(tmp_path), tmp_path / "curves.html", tmp_path / "charts")
    text = (tmp_path / "curves.html").read_text()
    order = re.findall(r"<option value=\"\d\">\d\. (.*?)</option>", text)
    assert order == ["e x4 fpn quick", "e x4 classifier quick", "e x4 unet quick"]
    assert json.loads(re.search(r'id="classes-data"[^>]*>(.*?)</script>', text, re.DOTALL)[1]) == [
        *("Fish", "Flower", "brightness")
    ]
    staged, classifier, unet = json.loads(re.search(r'id="curves-data"[^>]*>(.*?)</script>', text, re.DOTALL)[1])
    assert [run["stages"] for run in staged] == [[5, 8], [5, 8]]
    assert [run["dice"] for run in classifier] == [[None] * 5] * 2
    assert [run["names"] for run in unet] == [["brightness"], ["Fish", "Flower"]]
    assert len(list((tmp_path / "charts").rglob("*.svg"))) == 3


def test_stages_an_average_and_the_planes_with_truth_are_told(tmp_path):
    _, histories, records = write_unlike(tmp_path)
    made = [curves.read_curves(*pair) for pair in zip(histories, records, strict=True)]
    assert rows_of(made[:2])["stages"] == [{"epoch": 4.5, "first": 5}, {"epoch": 7.5, "first": 8}]
    assert "stages" not in rows_of(made[2:])
    cells = {column.head: column.cells for column in run_table({"one": made[:1], "other": made[2:3]}).columns}
    assert cells["of planes with truth"] == [pytest.approx(0.45), None]
    assert cells["average's Dice"] == [0.6543, None]
    assert cells["last validation Dice"][1] is None


def test_a_training_that_ended_before_a_stage_has_no_line_for_it(tmp_path):
    _, histories, records = write_unlike(tmp_path)
    told = json.loads(records[0].read_text())
    records[0].write_text(json.dumps(told | {"epochs": told["epochs"] | {"run": 7}}) + "\n")
    assert curves.read_curves(histories[0], records[0]).stages == [5]


@pytest.mark.skipif(not CHROMIUM, reason=MISSING)
def test_a_browser_shows_what_has_no_dice_without_a_complaint(tmp_path):
    write_curves(*write_unlike(tmp_path), tmp_path / "curves.html", tmp_path / "charts")
    with browser() as driver:
        show(driver, tmp_path / "curves.html")
        for experiment in ("1", "2", "0"):
            driver.execute_script(
                "const select = document.getElementById('experiment'); select.value = arguments[0];"
                "select.dispatchEvent(new Event('change'))",
                experiment,
            )
            time.sleep(0.5)
            assert errors(driver) == []
            assert (
                driver.execute_script(
                    "return [...document.querySelectorAll('.chart')].some(place => place.innerHTML.includes('NaN'))"
                )
                is False
            )
