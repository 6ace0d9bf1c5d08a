"""Groups, one's own split and left out images in whole runs: what they come to, and what runs again for them."""

import json
import shutil

import pandas as pd
import pytest
from own_data import CONFIG, SHEET, contents, write_config

TABLES = ("dataset/folds.tsv", "ensembles/all/scores.tsv", "ensembles/all/images.tsv", "report/labels.tsv")
PAGES = [f"results/tiny/report/{name}" for name in ("dataset.html", "leaderboard.tsv", "labels.tsv", "submission.html")]
TIMES = ["seconds_per_epoch"]


@pytest.fixture(scope="module")
def twins(tmp_path_factory, make_workflow, small_images):
    """A run that leaves images out by a list, and one of a folder that does not hold them; both keep pairs together."""
    names = sorted(path.name for path in (small_images / "train_images").iterdir())
    out = names[2:4]
    runs = {}
    for name in ("listed", "gone"):
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(small_images, folder / "images")
        rows = [f"{image},pair{number // 2}" for number, image in enumerate(names)]
        (folder / "pairs.csv").write_text("\n".join(["image,pair", *rows]))
        (folder / "sheet.tsv").write_text(SHEET)
        dataset = dict(CONFIG["dataset"])
        if name == "listed":
            (folder / "out.txt").write_text("\n".join(out))
            dataset["exclude"] = "out.txt"
        else:
            for image in out:
                (folder / "images/train_images" / image).unlink()
            table = folder / "images/train.csv"
            kept = [line for line in table.read_text().splitlines(True) if not line.startswith(tuple(out))]
            table.write_text("".join(kept))
        folds = {"count": 2, "groups": "pair", "table": "pairs.csv"}
        write_config(folder, CONFIG | {"dataset": dataset, "folds": folds})
        runs[name] = make_workflow(folder)
        runs[name].printed = runs[name].run("submission.csv", *PAGES, "--cores", "2", "--configfile", "config.yaml")
    return runs, out


def test_an_image_that_is_left_out_counts_in_no_batch_no_store_and_no_score(twins):
    runs, out = twins
    one, other = (contents(runs[name].folder) for name in ("listed", "gone"))
    assert len(one) > 50
    different = {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
    assert {path for path in different if "provenance" not in path} == set()
    results = [runs[name].folder / "results/tiny" for name in ("listed", "gone")]
    for table in TABLES:
        assert (results[0] / table).read_text() == (results[1] / table).read_text()
        assert not [image for image in out if image in (results[0] / table).read_text()]
    boards = [pd.read_csv(result / "report/leaderboard.tsv", sep="\t").drop(columns=TIMES) for result in results]
    pd.testing.assert_frame_equal(*boards)
    pages = [(result / "report/submission.html").read_text() for result in results]
    assert pages[0].partition("read in")[0] == pages[1].partition("read in")[0]
    listed = (results[0] / "dataset/train.tsv").read_text().splitlines()
    assert listed[:-2] == (results[1] / "dataset/train.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in listed[-2:]] == [[image, "excluded"] for image in out]
    assert "2 train images left out by out.txt" in runs["listed"].printed


def test_pairs_are_in_one_fold_and_the_page_says_how_even_that_is(twins):
    runs, _ = twins
    workflow = runs["listed"]
    results = workflow.folder / "results/tiny"
    folds = pd.read_csv(results / "dataset/folds.tsv", sep="\t")
    pairs = pd.read_csv(workflow.folder / "pairs.csv").set_index("image")["pair"]
    assert folds.groupby(pairs[folds["image"]].to_numpy())["fold"].nunique().eq(1).all()
    facts = json.loads((results / "dataset/split.json").read_text())
    assert sum(facts["groups"]) == 5
    summary = (results / "logs/folds.log").read_text().splitlines()[0]
    assert summary.startswith("2 folds of ")
    assert summary in workflow.printed
    assert f"{summary}." in (results / "report/dataset.html").read_text()


def planned(workflow, **changes):
    write_config(workflow.folder, CONFIG | {"dataset": CONFIG["dataset"] | {"exclude": "out.txt"}} | changes)
    return workflow.planned("submission.csv", "--configfile", "config.yaml")


def test_what_tables_say_decides_what_runs_again(twins):
    workflow = twins[0]["listed"]
    pairs, out = workflow.folder / "pairs.csv", workflow.folder / "out.txt"
    grouped = {"folds": {"count": 2, "groups": "pair", "table": "pairs.csv"}}
    assert planned(workflow, **grouped) == {}
    pairs.write_text(pairs.read_text().replace("image,pair", "image,pair,note") + "\nnew.jpg,pair9,more\n")
    out.write_text("# the same\n" + out.read_text())
    assert "train" in planned(workflow, **grouped)  # a pair more may be in a fold
    pairs.write_text("\n".join(pairs.read_text().splitlines()[:-1]))
    assert planned(workflow, **grouped) == {}
    pairs.write_text(pairs.read_text().replace("pair1", "pair0"))
    assert {"folds", "train"} <= set(planned(workflow, **grouped))
    out.write_text("")
    assert {"check", "pixels", "folds", "train"} <= set(planned(workflow, **grouped))


def test_ones_own_split_is_used_and_what_it_parts_is_said(twins):
    workflow = twins[0]["gone"]
    results = workflow.folder / "results/tiny"
    names = pd.read_csv(results / "dataset/folds.tsv", sep="\t")["image"].tolist()
    rows = [f"{number % 2}\t{image}" for number, image in enumerate(names)]
    (workflow.folder / "mine.tsv").write_text("\n".join(["fold\timage", *rows]))
    folds = {"count": 2, "file": "mine.tsv", "groups": "pair", "table": "pairs.csv"}
    write_config(workflow.folder, CONFIG | {"folds": folds})
    printed = workflow.run("results/tiny/report/dataset.html", "--cores", "2", "--configfile", "config.yaml")
    assert "Warning: 5 of 5 groups are on both sides of the split" in printed
    made = pd.read_csv(results / "dataset/folds.tsv", sep="\t")
    assert made["fold"].tolist() == [number % 2 for number in range(len(names))]
    assert made["image"].tolist() == names
    assert "5 of 5 groups are on both sides of the split" in (results / "report/dataset.html").read_text()
    (workflow.folder / "mine.tsv").write_text("\n".join(["fold\timage", *rows[1:]]))
    refused = workflow.run("results/tiny/dataset/folds.tsv", "--cores", "2", "--configfile", "config.yaml", check=False)
    assert "mine.tsv (folds.file): no fold for" in refused
