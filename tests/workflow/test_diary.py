"""The diary's config: what it plans, and a part of it that covers every kind of thing, run at smoke scale."""

import json

import pandas as pd
import pytest
import yaml

from cloudseg.storage import stores

# Lines of the diary that have, together, every encoder, loss and recipe of its tables, and every decoder but LinkNet
COVERING = {"7", "55", "57", "58", "106", "115"}
NESTED = "115"  # in two folds, so that what is tuned on one is scored on the other
SMOKE = ("--config", "smoke=true", "device=cpu")


def subset(repo):
    """Return the diary's config and sheet with the covering rows alone, and what the diary does not have."""
    config = yaml.safe_load((repo / "config/diary.yaml").read_text(encoding="utf-8"))
    header, *lines = (repo / "config/diary.tsv").read_text(encoding="utf-8").splitlines()
    columns = header.split("\t")
    rows = [line.split("\t") for line in lines if line.split("\t")[columns.index("diary_line")] in COVERING]
    for row in rows:  # one experiment of two folds shows that they are united
        row[columns.index("folds")] = "2" if row[columns.index("diary_line")] == NESTED else "1"
    for recipe in config["recipes"].values():
        recipe["gpus"] = 1  # test_two_ranks trains with two
    # LinkNet with the two losses that the diary did not try, on the grid that was "about the same as multi-scale"
    config["recipes"]["others"] = config["recipes"]["flips"] | {
        **{
            "loss": {"bce": 1, "lovasz": 1, "tversky": 1},
            "loss_grid": "submission",
            "schedule": "one_cycle",
            "patience": 0,
        },
    }
    more = dict.fromkeys(columns, "") | dict(zip(columns, ["resnet34", "linknet", "x5", "others", "1"], strict=False))
    rows.append([more[name] for name in columns])
    nested = {"members": "encoder == 'efficientnet-b2'", "checkpoints": ["best", "last"]}
    config |= {
        "experiments": "sheet.tsv",
        "ensembles": {
            "weighted": {
                "members": [
                    {"query": "encoder == 'efficientnet-b3'"},
                    {"query": "encoder == 'efficientnet-b2'", "weight": 3},
                ],
                "decision": {"threshold": 0.3, "min_size": 1},
            },
            "all": nested | {"sharpen": 0.5},
            "tuned": nested | {"decision": {"how": "tune"}},
            "grid": nested | {"sharpen": 0.5, "decision": {"how": "grid"}},
            "others": {"members": "encoder != 'efficientnet-b2'"},
        },
    }
    return config, "\n".join("\t".join(row) for row in [columns, *rows]) + "\n"


@pytest.fixture(scope="module")
def diary(tmp_path_factory, make_workflow, repo):
    workflow = make_workflow(tmp_path_factory.mktemp("diary"))
    workflow.config, workflow.sheet = subset(repo)
    (workflow.folder / "diary.yaml").write_text(yaml.safe_dump(workflow.config, sort_keys=False))
    (workflow.folder / "sheet.tsv").write_text(workflow.sheet)
    workflow.words = ("--configfile", "diary.yaml", *SMOKE)
    workflow.printed = workflow.run("--cores", "2", *workflow.words)
    workflow.results = workflow.folder / "results/diary-smoke"
    return workflow


def test_the_whole_diary_is_49_trainings(workflow, repo):
    planned = workflow.planned("--configfile", str(repo / "config/diary.yaml"))
    assert (planned["train"], planned["submit"]) == (49, 13)
    assert planned["predict"] == 49 + 33  # validation images of all, test images of what is submitted
    finals = ["final-unet", "final-unet-fpn", "final-unet-640", "final-fpn"]
    files = [f"results/diary/ensembles/{name}/submission.csv" for name in finals]
    planned = workflow.planned(*files, "submission.csv", "--configfile", str(repo / "config/diary.yaml"))
    assert (planned["train"], planned["submit"]) == (33, 5)


def test_random_weights_are_said_once(diary):
    line = "no weights at hand for efficientnet-b2, efficientnet-b3, resnet34: they start from random ones"
    assert diary.printed.count(line) == 1


def test_every_run_is_what_its_recipe_says(diary):
    runs = sorted((diary.results / "runs").glob("*/*/*/*/fold*"))
    assert len(runs) == 8
    for run in runs:
        record = json.loads((run / "run.json").read_text())
        recipe = diary.config["recipes"][run.parent.name]
        assert record["recipe"]["loss"] == recipe["loss"]
        assert record["recipe"]["dice_over"] == recipe.get("dice_over", "class")
        assert record["batch"]["devices"] == recipe["gpus"]
        assert record["recipe"].get("channels", "rgb") == recipe.get("channels", "rgb")
        stores.verify(run / "last-test.zarr")
    losses = {run.parent.name for run in runs}
    assert losses == {"flips", "flips_focal", "flips_focaldice", "flips_grey", "frog", "others"}


def test_every_ensemble_has_its_submission_and_its_honest_score(diary):
    table = pd.read_csv(diary.results / "report/leaderboard.tsv", sep="\t")
    ensembles = table[table["what"] == "ensemble"].set_index("name")
    assert set(ensembles.index) == set(diary.config["ensembles"])
    for name in ensembles.index:
        assert (diary.results / "ensembles" / name / "submission.csv").is_file()
        assert ensembles.loc[name, "gain_low"] <= ensembles.loc[name, "gain"] <= ensembles.loc[name, "gain_high"]
        images = pd.read_csv(diary.results / "ensembles" / name / "images.tsv", sep="\t")
        scores = pd.read_csv(diary.results / "ensembles" / name / "scores.tsv", sep="\t", dtype={"fold": str})
        total = scores[(scores["class"] == "all") & (scores["fold"] == "all")].iloc[0]
        kind = (
            "fixed" if diary.config["ensembles"][name].get("decision", {}).get("how", "fixed") == "fixed" else "nested"
        )
        mean = images.groupby(["fold", "class"])["dice"].mean().groupby("fold").mean().mean()
        assert mean == pytest.approx(total[kind], abs=1e-12)


def test_the_diarys_figures_stand_beside_ours(diary):
    page = (diary.results / "report/leaderboard.md").read_text()
    assert "0.75240/0.75429" in page
    assert "check for leakage" in page
    assert "### 19.11.09" in (diary.results / "report/diary.md").read_text()


def changed(diary, change):
    """Return what a dry run plans after a change of the config."""
    config = yaml.safe_load(yaml.safe_dump(diary.config))
    change(config)
    (diary.folder / "changed.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return diary.planned("--configfile", "changed.yaml", *SMOKE)


def test_two_more_folds_are_two_more_trainings(diary):
    assert changed(diary, lambda config: None) == {}
    more = diary.sheet.replace("resnet34\tlinknet\tx5\tothers\t1", "resnet34\tlinknet\tx5\tothers\t3")
    assert more != diary.sheet
    (diary.folder / "more.tsv").write_text(more)
    planned = changed(diary, lambda config: config.update(experiments="more.tsv"))
    assert (planned["train"], planned["predict"]) == (2, 2 * 2)  # validation and test images
    assert not {"pixels", "weights", "folds"} & set(planned)


def test_a_loss_weight_reruns_the_runs_that_use_it(diary):
    planned = changed(diary, lambda config: config["recipes"]["frog"].update(loss={"bce": 2, "dice": 1}))
    assert (planned["train"], planned["predict"]) == (3, 2 * 3)
    planned = changed(diary, lambda config: config["recipes"]["flips_focaldice"].update(loss={"focal": 2, "dice": 1}))
    assert (planned["train"], planned["predict"]) == (1, 2)
    assert planned["blend"] == 4  # the experiment's best and last, and the one ensemble it is in, both splits
