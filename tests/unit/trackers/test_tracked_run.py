"""What trackers are told of a run."""

import os
import shutil

import pytest
from tracked import DICES, END, RUNS, TRAINED, make

from cloudseg.errors import ConfigError
from cloudseg.trackers import export
from cloudseg.trackers.run import digest_of_finished, find_runs, metrics


def test_only_finished_runs_are_exported(tmp_path):
    results = make(tmp_path)
    assert [run.name for run in find_runs(results, finished=True)] == RUNS
    assert [run.name for run in find_runs(results, finished=False)] == [*RUNS, TRAINED]


def test_epochs_ended_as_long_before_the_last_as_those_after_them_took(tmp_path):
    run = find_runs(make(tmp_path), finished=True)[0]
    assert run.ends == [END - 4, END - 2, END]
    assert run.begun == END - 6


def test_a_history_that_was_put_back_ended_when_it_was_kept(tmp_path):
    results = make(tmp_path)
    run = results / "runs" / RUNS[0]
    kept = run / "finished/abc"
    kept.mkdir(parents=True)
    shutil.copy(run / "history.tsv", kept)
    (kept / "digests.json").touch()
    os.utime(kept / "digests.json", (END - 1000, END - 1000))
    assert find_runs(results, finished=True)[0].ends[-1] == END - 1000
    (kept / "history.tsv").write_text("of another training\n")
    assert find_runs(results, finished=True)[0].ends[-1] == END


def test_hyperparameters_are_plain(tmp_path):
    values = find_runs(make(tmp_path), finished=True)[0].hyperparameters
    assert values["encoder"] == "tu-test_resnet"
    assert (values["loss.bce"], values["loss.dice"], values["drop_last"]) == (1, 0.5, False)
    assert (values["canvas"], values["augmentation"]) == ("null", '[{"p": 1}]')
    assert all(isinstance(value, str | int | float | bool) for value in values.values())


def test_the_digest_changes_when_a_run_finishes(tmp_path):
    results = make(tmp_path)
    before = digest_of_finished(results)
    assert digest_of_finished(results) == before
    shutil.rmtree(results / "runs" / RUNS[1])
    assert digest_of_finished(results) != before


def test_what_was_there_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    class Exporter:
        @staticmethod
        def write(runs, folder, *, final, project):
            (folder / "new").write_text(f"{project} {len(runs)}")
            if project == "broken":
                raise OSError("no room")

    monkeypatch.setattr(export, "exporter", lambda _: Exporter)
    results = make(tmp_path)
    folder = results / "trackers/tensorboard"
    folder.mkdir(parents=True)
    (folder / "old").touch()
    broken = results.with_name("broken")
    results.rename(broken)
    with pytest.raises(OSError, match="no room"):
        export.export("tensorboard", broken, broken / "trackers/tensorboard")
    assert [path.name for path in (broken / "trackers/tensorboard").iterdir()] == ["old"]
    broken.rename(results)
    assert export.export("tensorboard", results, folder) == len(DICES)
    assert [path.name for path in results.glob("trackers/*")] == ["tensorboard"]
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_a_tracker_that_is_not_installed_says_what_to_type(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cloudseg.trackers.wandb", None)
    with pytest.raises(ConfigError, match=r"^wandb: .*; type: pip install wandb$"):
        export.exporter("wandb")


def test_a_training_on_all_images_has_no_numbers_of_a_validation(tmp_path):
    results = make(tmp_path)
    run = results / "runs" / RUNS[0]
    run.rename(run.with_name("foldall-seed7"))
    path = run.with_name("foldall-seed7") / "history.tsv"
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    without = [[*cells[:3], "", "", "", cells[6]] for cells in lines[1:]]
    path.write_text("".join("\t".join(cells) + "\n" for cells in [lines[0], *without]))
    [run] = [run for run in find_runs(results, finished=False) if run.name.endswith("foldall-seed7")]
    assert (run.best, run.best_values, run.hyperparameters["fold"]) == (None, {}, "all")
    assert set(metrics(run.epochs[0])) == {"loss/train", "learning_rate", "seconds"}
