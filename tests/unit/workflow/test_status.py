"""What `snakemake status` prints, of runs written by hand."""

import json
import math
import os
import re
import shutil
import socket
import time

import pytest
from demo_plan import plan
from run_records import write_history, write_record

from cloudseg.workflow.code import CODE
from cloudseg.workflow.durations import Durations
from cloudseg.workflow.status import read_status
from cloudseg.workflow.status_page import WIDTH, status_page

ENCODER = "tu-tf_efficientnet_lite0"


@pytest.fixture
def page(tmp_path):
    def page(plan):
        durations = Durations(plan, tmp_path, on_cpu=True)
        text = status_page(read_status(plan, durations, tmp_path / "logs"), durations)
        # A path is to be copied, however long
        assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= WIDTH
        return text

    return page


def folder(tmp_path, key):
    path = tmp_path / key.folder.removeprefix("<results>/")
    path.mkdir(parents=True, exist_ok=True)
    return path


def finish(plan, tmp_path, key, dices=(0.5, 0.75, 0.625), predicted=("valid", "test")):
    """Leave the files of a finished run."""
    run = plan.run(**key.wildcards)
    path = folder(tmp_path, key)
    write_history(path, list(dices))
    write_record(path, run.recipe.canonical(), seed=plan.seed, code=CODE["training"])
    record = json.loads((path / "run.json").read_text())
    record["weights"]["path"] = f"weights/{run.start}.safetensors"
    (path / "run.json").write_text(json.dumps(record) + "\n")
    for split in predicted:
        for checkpoint in ("best", "last"):
            (path / f"{checkpoint}-{split}.zarr").mkdir()


def progress(path, **told):
    now = time.time()
    whole = {"log": "a.log", "host": socket.gethostname(), "process": os.getpid(), "begun": now - 60, "updated": now}
    whole |= {"done": 0, "total": 16, "unit": "epochs", "seconds_left": None, "facts": {}, "error": None}
    path.write_text(json.dumps(whole | told))


def test_nothing_begun_is_two_counts_and_a_guess(page):
    text = page(plan())
    assert "trainings: 0 of 4 done, 4 not begun" in text
    assert "predictions: 0 of 8 done, 8 not begun" in text
    assert "(4 by network size: a guess)" in text
    assert ENCODER not in text


def test_a_finished_run_shows_its_last_and_best_epoch(page, tmp_path):
    demo = plan()
    finish(demo, tmp_path, demo.sheet.keys[0])
    [line] = [line for line in page(demo).splitlines() if line.startswith(ENCODER)]
    assert line.split()[-10:] == ["done", "3/3", "0.6250", "0.7500", "(2)", "31.5", "50", "s", "done", "done"]
    assert "trainings: 1 of 4 done, 3 not begun" in page(demo)
    assert "predictions: 2 of 8 done, 6 not begun" in page(demo)


def test_what_runs_comes_before_what_has_failed_and_finished(page, tmp_path):
    demo = plan()
    done, failed, running, silent = demo.sheet.keys
    finish(demo, tmp_path, done)
    progress(folder(tmp_path, failed) / "train.progress.json", error="the loss became nan; lower `learning_rate`")
    write_history(folder(tmp_path, running), [0.5, 0.6])
    facts = {"dice": 0.6, "best_dice": 0.6, "images_per_second": 23.4}
    progress(folder(tmp_path, running) / "train.progress.json", done=2, facts=facts, seconds_left=700.0)
    progress(folder(tmp_path, silent) / "train.progress.json", done=1, host="node7", updated=time.time() - 420)
    progress(folder(tmp_path, done) / "predict-test.progress.json", done=15, total=60, unit="images")
    text = page(demo)
    lines = [line for line in text.splitlines() if line.startswith("tu-tf_")]
    assert re.search(r"running +2/16 +0\.6000 +0\.6000 \(2\) +23\.4 +12 min left", text)
    assert re.search(rf"….* {silent.decoder} 96x144 quick fold {silent.fold} +running +1/16 +no word for 7 min", text)
    assert "25%" in next(line for line in lines if "31.5" in line)
    assert [("failed" in line) for line in lines] == [False, False, False, True]
    assert f"fold {failed.fold}: the loss became nan; lower `learning_rate`" in " ".join(text.split())
    assert f"log: {folder(tmp_path, failed)}/train.log" in text
    assert f"no word for 7 min: {' '.join(silent.experiment)} fold {silent.fold}: the last word was from node7" in text
    assert "trainings: 1 of 4 done, 2 running, 1 failed" in text


def test_a_run_of_an_edited_recipe_counts_as_not_begun(page, tmp_path):
    demo = plan()
    finish(demo, tmp_path, demo.sheet.keys[0])
    edited = plan(lambda config: config["recipes"]["quick"].update(learning_rate=0.001))
    assert "1 finished training(s) are of another recipe" in page(edited)
    assert "trainings: 0 of 4 done, 4 not begun" in page(edited)
    assert "predictions: 0 of 8 done, 8 not begun" in page(edited)


def test_the_last_error_of_other_rules_is_there(page, tmp_path):
    (tmp_path / "logs/check").mkdir(parents=True)
    (tmp_path / "logs/check/train.log").write_text("Error: train.csv, line 3: expected a number, got 'x'\n")
    (tmp_path / "logs/verify.log").write_text("all 300 files are as they were made\n")
    text = page(plan())
    assert "failed: check/train: train.csv, line 3: expected a number, got 'x'" in text
    assert "verify" not in text


def test_many_runs_are_a_line_per_experiment(page, tmp_path):
    rows = "".join(f"tu-test_resnet\tfpn\t{32 * n}x{32 * n}\tquick\t2\t\n" for n in range(1, 61))
    large = plan(sheet="encoder\tdecoder\tsize\trecipe\tfolds\tnote\n" + rows, folder=tmp_path)
    for key in large.sheet.keys:
        finish(large, tmp_path, key, dices=(0.5, int(key.size.partition("x")[0]) / 10_000), predicted=["valid"])
    last, absent = large.sheet.keys[-1], large.sheet.keys[-2]
    shutil.rmtree(folder(tmp_path, absent))
    progress(folder(tmp_path, last) / "predict-test.progress.json", error="no room on the disk")
    text = page(large)
    lines = [line for line in text.splitlines() if line.startswith("tu-test_resnet")]
    assert len(lines) == 40
    assert f"fold {last.fold}" in lines[0]
    assert "1/2 folds" in lines[2]
    assert "2/2 folds" in lines[3]
    assert "0/2" in lines[3]
    best = [float(line.split()[7]) for line in lines[1:]]
    assert best == sorted(best, reverse=True)
    assert "21 more experiments" in text
    assert "no room on the disk" in text


def test_a_long_name_gives_up_its_middle(page, tmp_path):
    encoder = "tu-tf_efficientnetv2_xl.in21k_ft_in1k"
    row = f"{encoder}\tdeeplabv3plus\t1400x2100\tquick\t1\t\n"
    long = plan(
        lambda config: config["recipes"].update({"a-recipe-of-a-very-long-name-indeed": config["recipes"]["quick"]}),
        sheet="encoder\tdecoder\tsize\trecipe\tfolds\tnote\n"
        + row.replace("quick", "a-recipe-of-a-very-long-name-indeed"),
        folder=tmp_path,
    )
    finish(long, tmp_path, long.sheet.keys[0])
    assert "…" in page(long)


def test_a_strange_folder_gives_the_terminal_no_orders_and_no_traceback(page, tmp_path):
    demo = plan()
    first, second, third, *_ = demo.sheet.keys
    (folder(tmp_path, first) / "history.tsv").write_text("epoch\tvalid_dice\tseconds\n1e999\t0.5\t1\n")
    progress(folder(tmp_path, first) / "train.progress.json", error="\x1b[2Jcleared \x9b2J \u202eturned")
    progress(folder(tmp_path, second) / "train.progress.json", process=2**80, facts={"dice": "high"})
    (folder(tmp_path, third) / "history.tsv").write_text(f"epoch\tvalid_dice\tseconds\n{'9' * 200_000}\t1\t1\n")
    (folder(tmp_path, third) / ".train.log.note").write_text("[" * 100_000)
    progress(folder(tmp_path, third) / "predict-test.progress.json", process=2**80, unit="\x1b[2J", done=1)
    text = page(demo)
    assert "?[2Jcleared ?2J ?turned" in text
    assert text.replace("\n", "").isprintable()


def test_a_training_on_all_images_and_a_replicate_are_told_apart_and_the_first_has_no_dice(page, tmp_path):
    sheet = "encoder\tdecoder\tsize\trecipe\tfolds\tseed\tfull\n" + "".join(
        f"tu-test_resnet\tfpn\t64x96\tquick\t1\t{seed}\t{full}\n" for seed, full in (("", "true"), ("7", ""))
    )
    made = plan(sheet=sheet, folder=tmp_path)
    plain, replicate, on_all = made.sheet.keys
    finish(made, tmp_path, plain)
    write_history(folder(tmp_path, on_all), [math.nan, math.nan])
    progress(folder(tmp_path, on_all) / "train.progress.json", done=2, total=3, seconds_left=700.0)
    finish(made, tmp_path, replicate)
    record = folder(tmp_path, replicate) / "run.json"
    record.write_text(record.read_text().replace(f'"seed": {made.seed}', '"seed": 7'))
    lines = {" ".join(line.split()[:6]): line.split()[6:] for line in page(made).splitlines() if "test_resnet" in line}
    assert lines["tu-test_resnet fpn 64x96 quick fold 0-seed7"][:2] == ["done", "3/3"]
    # For as many epochs as the best of its one fold
    assert lines["tu-test_resnet fpn 64x96 quick fold all"] == ["running", "2/3", *["50", "12", "min", "left", "-"]]


def test_a_prediction_is_done_when_that_of_the_average_is_and_fails_with_it(page, tmp_path):
    def change(config):
        config["recipes"]["quick"]["average"] = {"epochs": 2}

    made = plan(change)
    for key in made.sheet.keys:
        finish(made, tmp_path, key)
    assert "predictions: 0 of 8 done" in page(made)
    for key in made.sheet.keys:
        for split in ("valid", "test"):
            (folder(tmp_path, key) / f"average-{split}.zarr").mkdir()
    assert "predictions: 8 of 8 done" in page(made)
    one = folder(tmp_path, made.sheet.keys[0])
    shutil.rmtree(one / "average-test.zarr")
    progress(one / "predict-average-test.progress.json", error="Error: no room for the average", unit="images")
    text = page(made)
    assert "predictions: 7 of 8 done" in text
    assert "no room for the average" in text
