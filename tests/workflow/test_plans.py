"""What a dry run plans, for each config and each change of one."""

import math
import os
import shutil

import pytest
from own_data import CONFIG, SHEET, settle, write_config

from cloudseg.workflow.costs import machine_megabytes

DEMO = {
    **{"demo": 1, "weights": 1, "check": 2, "folds": 1, "pixels": 2, "truth": 1, "train": 4, "predict": 8},
    **{
        "blend": 8,
        "surface": 6,
        "decide": 6,
        "compare": 2,
        "submit": 2,
        "leaderboard": 1,
        "masks": 2,
        "decision": 2,
        "provenance": 2,
        "provenance_page": 1,
        "labels": 1,
        "submission_page": 1,
        "explorer": 1,
        "curves": 1,
        "job_times": 1,
        "dataset_sheet": 1,
        "augmented": 1,
        "submission": 1,
        "all": 1,
    },
}


def test_demo(workflow):
    assert workflow.planned() == DEMO


def test_the_users_command_plans_the_same(workflow):
    assert workflow.planned("--cores", "8", "--resources", "gpu=4") == DEMO


def test_a_dry_run_says_a_line_per_kind_of_job_and_its_files_on_request(workflow):
    printed = workflow.run("-n")
    after = printed.rpartition("total")[2].splitlines()[2:]
    lines = [line for line in after if line.startswith("  ")]
    assert len(lines) == len(DEMO)
    assert "  train fpn 96x144 quick fold 0 (and 3 more)" in lines
    assert len(printed.splitlines()) < 2 * len(DEMO) + 20  # the table of counts, and a line for each
    assert max(map(len, printed.splitlines())) <= 120
    whole = workflow.run("-n", "-p")
    for word in ("input:", "reason:", "mem_mb="):
        assert word not in printed
        assert word in whole


def test_submission_alone_plans_only_its_members(workflow):
    planned = workflow.planned("submission.csv")
    assert planned == {
        **{"demo": 1, "weights": 1, "check": 2, "folds": 1, "pixels": 2, "truth": 1, "train": 4, "predict": 8},
        **{"blend": 2, "surface": 1, "decide": 1, "submit": 1, "provenance": 1, "submission": 1},
    }


def test_a_submission_of_another_config_is_not_taken_for_this_ones(workflow):
    wanted = workflow.planned("submission.csv")
    root, others = workflow.folder / "submission.csv", workflow.folder / "results/kaggle/submission.csv"
    others.parent.mkdir(parents=True)
    root.write_text("Image_Label,EncodedPixels\nof another,1 2\n")
    others.write_text("Image_Label,EncodedPixels\n")
    assert workflow.planned("submission.csv") == {}  # somebody's own
    others.write_bytes(root.read_bytes())
    assert workflow.planned("submission.csv") == wanted
    assert workflow.planned("./submission.csv") == wanted


@pytest.mark.parametrize("config", ["config", "diary", "kaggle", "pyramid"])
def test_all_asks_for_everything_that_its_jobs_make(workflow, repo, config):
    """So that what is lost in between is made again, and `verify` knows what there must be."""
    asking = f"include: '{repo}/Snakefile'\nprint(*(f'asked for {{path}}' for path in everything({{}})), sep='\\n')\n"
    (workflow.folder / "Snakefile").write_text(asking)
    configfile = str(repo / f"config/{config}.yaml")
    printed = workflow.run("all", "--snakefile", "Snakefile", "--summary", "--configfile", configfile).splitlines()
    asked = {line.removeprefix("asked for ") for line in printed if line.startswith("asked for ")}
    made = {line.split("\t")[0] for line in printed if line.count("\t") > 3} - {"output_file"}
    assert len(made) > 80
    assert asked == made


def test_contest(workflow, repo):
    printed = workflow.run("-n", "--configfile", str(repo / "config/kaggle.yaml"))
    planned = workflow.counted(printed)
    assert (planned["fetch"], planned["pixels"], planned["train"], planned["predict"]) == (1, 2 * 3, 20, 2 * 20)
    assert "MB on disk" in printed
    assert "MB of stores in results/kaggle" in printed


def test_smoke_lies_in_a_folder_of_its_own(workflow):
    printed = workflow.run("-n", "-p", "--config", "smoke=true", "threads=64")
    assert printed.count("threads: 64, and this machine has") == (os.cpu_count() < 64)
    assert "results/demo-smoke/dataset/raw" in printed
    assert "results/demo/" not in printed


def test_smoke_takes_a_sample_of_images_of_ones_own(workflow, small_images):
    settle(workflow.folder, small_images)
    printed = workflow.run("-n", "-p", "--configfile", "config.yaml", "--config", "smoke=true")
    planned = workflow.counted(printed)
    assert (planned["sample"], planned["check"], planned["submission"]) == (1, 2, 1)
    assert " submission.csv" not in printed
    assert "sample" not in workflow.planned("--configfile", "config.yaml")


def test_gpus_are_asked_for_and_can_be_denied(workflow):
    assert "gpu=1" in workflow.run("-n", "-p", "--resources", "gpu=4")
    assert "gpu=1" not in workflow.run("-n", "-p", "--resources", "gpu=0")
    assert "gpu=1" not in workflow.run("-n", "-p", "--config", "device=cpu")


def test_a_training_asks_for_the_gpus_and_cores_of_its_recipe(workflow, small_images):
    settle(workflow.folder, small_images)
    write_config(
        workflow.folder, CONFIG | {"workers": 2, "recipes": {"tiny": {"start": "none", "gpus": 3, "batch": 6}}}
    )
    words = ("-n", "-p", "--configfile", "config.yaml", "--cores", "16")
    train = workflow.run(*words, "--until", "train").rpartition("rule train:")[2]
    assert "gpu=3" in train
    assert "threads: 9" in train


def test_what_is_scored_alone_does_not_predict_test_images(workflow, small_images):
    settle(workflow.folder, small_images)
    (workflow.folder / "sheet.tsv").write_text(SHEET + "tu-test_resnet\tunet\t64x96\ttiny\t2\n")
    write_config(workflow.folder, CONFIG | {"ensembles": {"all": {"members": "decoder == 'fpn'"}}})
    printed = workflow.run("-n", "-p", "--configfile", "config.yaml")
    assert workflow.counted(printed)["predict"] == 4 + 2
    assert "fpn/64x96/tiny/fold0/best-test.zarr" in printed
    assert "unet/64x96/tiny/fold0/best-valid.zarr" in printed
    assert "unet/64x96/tiny/fold0/best-test.zarr" not in printed


def test_without_test_images_all_is_planned_that_needs_none(workflow, small_images):
    settle(workflow.folder, small_images)
    shutil.rmtree(workflow.folder / "images/test_images")
    (workflow.folder / "images/sample_submission.csv").unlink()
    words = ("-n", "--configfile", "config.yaml")
    printed = workflow.run(*words)
    assert workflow.counted(printed) == {
        **{"check": 1, "weights": 1, "folds": 1, "pixels": 1, "truth": 1, "train": 2, "predict": 2, "blend": 3},
        **{"surface": 3, "decide": 3, "compare": 1, "leaderboard": 1, "masks": 1, "decision": 1, "labels": 1},
        **{"explorer": 1, "curves": 1, "job_times": 1, "dataset_sheet": 1, "augmented": 1, "all": 1},
    }
    assert "images: no test_images/, so all is made that needs none, and no submission" in printed
    assert "pixels of the test" not in workflow.run(*words, "--config", "smoke=true")
    asked = "submission.csv", "sanity", "results/tiny/ensembles/all/submission.csv", "shift"
    refused = workflow.run(*asked, *words, check=False)
    assert "4 problems" in refused
    for target in asked:
        assert f"  - {target}: there are no test images (dataset.root: images, test_images/)\n" in refused


def test_trainings_that_ask_for_more_memory_than_there_is_are_named_and_run_alone(workflow, small_images):
    settle(workflow.folder, small_images)
    write_config(workflow.folder, CONFIG | {"recipes": {"tiny": {"start": "none", "batch": 10000}}})
    words = ("-n", "-p", "--configfile", "config.yaml", "--until", "train", "--config", "device=cpu")
    printed = workflow.run(*words)
    asked = 1.5 * (1400 + 0.012 + 2700 * 10000 * 64 * 96 / 1e6)
    assert f"recipe tiny at 64x96: a training asks for {math.ceil(asked)} MB of memory, and there are " in printed
    assert f"mem_mb={machine_megabytes()}" in printed.rpartition("rule train:")[2]
    assert "mem_mb=3000" in workflow.run(*words, "--resources", "mem_mb=3000").rpartition("rule train:")[2]


def test_batches_that_cannot_be_shared_are_found_before_anything_runs(workflow, small_images):
    settle(workflow.folder, small_images)
    recipe = {"start": "none", "gpus": 2, "batch": 6, "micro_batch": 2}
    write_config(workflow.folder, CONFIG | {"recipes": {"tiny": recipe}})
    printed = workflow.run("-n", "--configfile", "config.yaml", check=False)
    assert (
        "recipes.tiny.batch: 6 images on 2 device(s), at most 2 at once, leave fewer than 2 in a micro-batch" in printed
    )
    assert "choose a multiple of 4" in printed


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--config", "smok=true"], "unknown key 'smok' (nearest: smoke)"),
        (["--config", "device=gpu"], "expected one of auto, cuda, cpu, got 'gpu'"),
        (["--config", "experiments=nowhere.tsv"], "nowhere.tsv: no such experiment sheet"),
        (["--config", "seed=-1"], "seed: expected at least 0, got -1"),
    ],
)
def test_a_bad_config_ends_in_one_screen_and_writes_nothing(workflow, words, complaint):
    printed = workflow.run("-n", *words, check=False)
    assert complaint in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) < 25
    assert [path.name for path in workflow.folder.iterdir() if path.name != ".snakemake"] == []


def test_targets_that_nothing_makes_are_told_with_what_is_near(workflow):
    targets = {
        "submision.csv": "no rule has this name or makes this file (nearest: submission.csv",
        "leaderbord": "no rule has this name or makes this file (nearest: leaderboard",
        "results/demo/ensembles/al/submission.csv": "no ensemble 'al' (nearest: all)",
        "results/demo/ensembles/all/submision.csv": "(nearest: results/demo/ensembles/all/submission.csv",
        "nonsense": "no rule has this name or makes this file\n",
    }
    printed = workflow.run("-n", *targets, "probe", "./results/demo/report/leaderboard.md", check=False)
    assert "5 problems" in printed
    (workflow.folder / "nonsense").touch()  # that it exists changes nothing
    smoke = workflow.run("-n", "nonsense", "submission.csv", "--config", "smoke=true", check=False)
    assert (
        "submission.csv: a smoke run does not touch it, since it may hold one worth sending; ask for results/" in smoke
    )
    assert "nonsense: no rule" in workflow.run("-n", "nonsense", check=False)
    lines = {line.partition(": ")[0].removeprefix("  - "): f"{line}\n" for line in printed.splitlines()}
    assert all(words in lines[target] for target, words in targets.items())
    assert "Traceback" not in printed


def test_a_key_that_stands_twice_is_told_with_its_line(workflow, repo):
    text = (repo / "config/config.yaml").read_text()
    (workflow.folder / "mine.yaml").write_text(text + "seed: 1\nseed: 2\n")
    printed = workflow.run("-n", "--configfile", "mine.yaml", check=False)
    lines = len(text.splitlines())
    assert f"mine.yaml, line {lines + 2}: the key seed is there twice, first in line {lines + 1}" in printed
    assert "Traceback" not in printed


def test_a_home_that_cannot_be_written_to_stops_nothing(workflow):
    """Of a container that runs as any user: Snakemake makes folders in ~/.cache before it reads a Snakefile."""
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache"}
    planned = workflow.counted(workflow.run("-n", "--config", "smoke=true", environment=nowhere))
    assert planned["train"] == 4
