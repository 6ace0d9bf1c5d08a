"""The demo at smoke scale, end to end, as the README's commands run it."""

import csv
import json
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from cloudseg.report.summary import leaderboard_summary
from cloudseg.storage import stores

RESULTS = "results/demo-smoke"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, make_workflow):
    workflow = make_workflow(tmp_path_factory.mktemp("smoke"))
    (workflow.folder / "submission.csv").write_text("worth sending\n")
    workflow.printed = workflow.run("--config", "smoke=true", "device=cpu")
    workflow.results = workflow.folder / RESULTS
    return workflow


def test_submission_has_the_samples_rows_and_a_fair_share_of_masks(smoke):
    with (smoke.results / "submission.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    with (smoke.results / "dataset/raw/sample_submission.csv").open(newline="") as file:
        sample = list(csv.reader(file))
    assert [row[0] for row in rows] == [row[0] for row in sample]
    assert len(rows) == 1 + 8 * 4
    filled = sum(bool(row[1]) for row in rows[1:]) / 32
    assert 0.2 <= filled <= 0.8  # else comparisons of submissions would mean nothing


def test_every_run_trained_three_epochs_and_kept_what_the_design_says(smoke):
    runs = sorted((smoke.results / "runs").glob("*/*/*/*/fold*"))
    assert len(runs) == 4
    for run in runs:
        history = pd.read_csv(run / "history.tsv", sep="\t")
        record = json.loads((run / "run.json").read_text())
        assert len(history) >= 3
        assert record["images"]["train"] // 4 >= 3  # steps in an epoch
        assert {path.name for path in run.iterdir() if path.suffix in (".zarr", ".safetensors")} == {
            *("best.safetensors", "last.safetensors"),
            *("best-valid.zarr", "best-test.zarr", "last-valid.zarr", "last-test.zarr"),
        }
        stores.verify(run / "best-test.zarr")


def test_all_folds_take_the_same_memory(smoke):
    """Each trains in a process of its own: nothing is left over from the fold before."""
    for experiment in (smoke.results / "runs").glob("*/*/*/*"):
        records = [json.loads(path.read_text()) for path in sorted(experiment.glob("fold*/run.json"))]
        peaks = [record["devices"][0]["peak_memory_mib"] for record in records]
        assert len(peaks) == 2
        assert max(peaks) <= 1.05 * min(peaks)


def test_every_job_leaves_one_line_that_says_what_it_was_and_found(smoke):
    lines = re.findall(r"^\[ *(\d+)/(\d+)\] (.+): (.*)$", smoke.printed, flags=re.MULTILINE)
    [total] = {int(total) for _, total, _, _ in lines}
    assert [int(number) for number, *_ in lines] == list(range(1, total))  # `all` makes nothing
    done = [line[1:] for line in lines]
    assert re.search(r"^\d+ of \d+ steps done, about .+ left$", smoke.printed, flags=re.MULTILINE)
    trained = {name: found for _, name, found in done if name.startswith("train ")}
    assert trained.keys() == {
        f"train {decoder} 96x144 quick fold {fold}" for decoder in ("fpn", "unet") for fold in "01"
    }
    for name, found in trained.items():
        _, decoder, _, _, _, fold = name.split()
        [run] = (smoke.results / "runs").glob(f"*/{decoder}/96x144/quick/fold{fold}")
        best = pd.read_csv(run / "history.tsv", sep="\t")["valid_dice"].max()
        assert found.startswith(f"3 epochs, best Dice {best:.4f}, ")
    for word in ("input:", "Reason:", "mem_mb", "\x1b", "RuleException"):
        assert word not in smoke.printed
    assert not list(smoke.results.rglob("*.progress.json"))


def test_validation_images_were_not_trained_on(smoke):
    folds = pd.read_csv(smoke.results / "dataset/folds.tsv", sep="\t")
    for run in (smoke.results / "runs").glob("*/*/*/*/fold*"):
        seen = stores.read(run / "best-valid.zarr").attrs["ids"]
        fold = int(run.name.removeprefix("fold"))
        assert list(seen) == folds.loc[folds["fold"] == fold, "image"].tolist()


def test_the_end_prints_a_leaderboard_and_the_next_commands(smoke, repo):
    page = (smoke.results / "report/leaderboard.md").read_text()
    assert page in (smoke.results / "logs/leaderboard.log").read_text()
    assert page not in smoke.printed
    assert leaderboard_summary(smoke.results / "report/leaderboard.tsv") in smoke.printed
    for word in ("tu-tf_efficientnet_lite0", "| all ", "| fpn ", "all empty", "everywhere or nowhere"):
        assert word in page
    assert "cp config/kaggle.yaml" not in smoke.printed
    _, page, after = smoke.printed.rpartition("beside it. Next:")
    assert page
    assert f"at full size         snakemake --snakefile {repo}/Snakefile --config device=cpu" in after
    assert "SMOKE RUN, not worth sending: results/demo-smoke/submission.csv is " in smoke.printed
    assert "(config demo-smoke, ensemble all)" in smoke.printed


def test_a_smoke_run_leaves_a_submission_in_the_working_directory_alone(smoke):
    assert (smoke.folder / "submission.csv").read_text() == "worth sending\n"
    printed = smoke.run("submission.csv", "--config", "smoke=true", check=False)
    assert "ask for results/demo-smoke/submission.csv, or leave out `smoke=true`" in printed


def test_snakemake_generates_unit_tests(smoke, repo, tmp_path):
    """As `snakemake --generate-unit-tests` does, which takes paths below the working directory alone."""
    for name in ("Snakefile", "rules", "scripts", "config", "profiles"):
        copy = shutil.copytree if (repo / name).is_dir() else shutil.copy
        copy(repo / name, tmp_path / name)
    shutil.copytree(smoke.folder / "results", tmp_path / "results", symlinks=True)
    command = [sys.executable, "-m", "snakemake", "--generate-unit-tests", ".tests", "--config", "smoke=true"]
    done = subprocess.run([*command, "device=cpu"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "config/config.yaml" in (tmp_path / ".tests/test_train.py").read_text()


def test_decisions_hold_the_levels_that_decide(smoke):
    fixed = yaml.safe_load((smoke.results / "ensembles/all/decision.yaml").read_text())
    tuned = yaml.safe_load((smoke.results / "ensembles/fpn/decision.yaml").read_text())
    assert {one["level"] for one in fixed["classes"].values()} == {128}
    assert tuned["how"] == "tune"
    folds = pd.read_csv(smoke.results / "dataset/folds.tsv", sep="\t")
    assert tuned["images"] == (folds["fold"] < 2).sum()


def test_a_second_call_has_nothing_to_do(smoke):
    assert "Nothing to be done" in smoke.run("--config", "smoke=true", "device=cpu")


def test_changing_what_predicts_does_not_train(smoke, repo):
    config = yaml.safe_load((repo / "config/config.yaml").read_text())
    config |= {"smoke": True, "device": "cpu"}
    path = smoke.folder / "changed.yaml"

    def planned(change):
        changed = yaml.safe_load(yaml.safe_dump(config))
        change(changed)
        path.write_text(yaml.safe_dump(changed))
        return smoke.planned("--configfile", str(path))

    assert planned(lambda config: None) == {}
    views = planned(lambda config: config["recipes"]["quick"].update(tta=[{"view": "identity"}]))
    assert "train" not in views
    assert views["predict"] == 8  # validation and test images of four runs
    decision = planned(lambda config: config["ensembles"]["all"].update(decision={"threshold": 0.7}))
    again = ("decide", "compare", "submit", "provenance", "submission", "leaderboard", "all")
    pages = ("masks", "decision", "explorer", "labels", "submission_page", "curves", "provenance_page", "job_times")
    assert decision == dict.fromkeys((*again, *pages), 1) | {"provenance": 2}  # each records the whole config
    loss = planned(lambda config: config["recipes"]["quick"].update(loss={"bce": 2, "dice": 1}))
    assert loss["train"] == 4
    assert not {"demo", "check", "pixels", "weights"} & set(loss)
