"""A finished training outlives the edit that would replace it, until the new one is whole."""

import json
import shutil
from types import SimpleNamespace

import pytest
from network_fixtures import run_record

from cloudseg.config.recipe import Recipe
from cloudseg.runtime.gpus import granted
from cloudseg.storage.files import sha256
from cloudseg.training.finished import (
    DIGESTS,
    FOLDER,
    FinishedTraining,
    decisive,
    decisive_of_record,
    differences,
    finished_record,
    keep_finished,
)
from cloudseg.training.record import RunRecord

NAMES = {"best": "best.safetensors", "last": "last.safetensors", "history": "history.tsv", "run": "run.json"}
FACTS = {"encoder": "e", "decoder": "fpn", "fold": 0, "seed": 1, "threads": 1, "data": "d"}


def outputs(run):
    return {name: run / file for name, file in NAMES.items()}


def training(run, **recipe):
    return FinishedTraining(
        outputs(run), decisive(recipe=Recipe(**recipe), code=1, loss_size=None, weights="w", **FACTS)
    )


def finish(run, text, **recipe):
    """Write what a training leaves, and the record of it; keep it as the job does."""
    run.mkdir(parents=True, exist_ok=True)
    for name in ("best", "last", "history"):
        outputs(run)[name].write_text(f"{text} {name}\n")
    digests = {name: sha256(outputs(run)[name]) for name in ("best", "last")}
    run_record(recipe=Recipe(**recipe).model_dump(mode="json"), sha256=digests).write(outputs(run)["run"])
    training(run, **recipe).keep()


def remove(run):
    """Remove the outputs, as Snakemake does before a job starts."""
    for path in outputs(run).values():
        path.unlink(missing_ok=True)


def test_an_edit_that_is_taken_back_costs_no_training(tmp_path):
    finish(tmp_path, "old", epochs=4)
    remove(tmp_path)
    assert training(tmp_path, epochs=5).restore() is False  # and it fails
    assert list(tmp_path.glob("*.*")) == []
    assert training(tmp_path, epochs=4).restore() is True
    assert (tmp_path / "last.safetensors").read_text() == "old last\n"
    assert {path.name for path in tmp_path.iterdir()} == {*NAMES.values(), FOLDER}


def test_what_has_been_replaced_is_dropped_when_the_new_is_whole(tmp_path):
    finish(tmp_path, "old", epochs=4)
    remove(tmp_path)
    finish(tmp_path, "new", epochs=5)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    remove(tmp_path)
    assert training(tmp_path, epochs=4).restore() is False
    assert training(tmp_path, epochs=5).restore() is True


def test_kept_files_are_links_and_take_no_room(tmp_path):
    finish(tmp_path, "old", epochs=4)
    [kept] = (tmp_path / FOLDER).iterdir()
    assert {path.name: path.stat().st_ino for path in kept.iterdir() if path.name != DIGESTS} == {
        path.name: path.stat().st_ino for path in outputs(tmp_path).values()
    }


@pytest.mark.parametrize("digests", [True, False], ids=["digests", "none"])
@pytest.mark.parametrize(
    ("name", "text"),
    [("best.safetensors", "old b"), ("history.tsv", "old hist"), ("history.tsv", ""), ("run.json", "{")],
)
def test_damaged_files_are_not_restored(tmp_path, name, text, digests):
    finish(tmp_path, "old", epochs=4)
    (tmp_path / name).write_text(text)  # both names of the file show it
    remove(tmp_path)
    [kept] = (tmp_path / FOLDER).iterdir()
    if not digests:  # the files of a training that an older version kept
        (kept / DIGESTS).unlink()
    assert training(tmp_path, epochs=4).restore() is False
    assert list(tmp_path.glob("*.*")) == []


@pytest.mark.parametrize(
    ("name", "change"), [("history.tsv", ("old", "odd")), ("run.json", ('"fold": 0', '"fold": 1'))]
)
def test_files_that_look_whole_are_not_restored_after_a_change(tmp_path, name, change):
    finish(tmp_path, "old", epochs=4)
    text = (tmp_path / name).read_text()
    assert change[0] in text
    (tmp_path / name).write_text(text.replace(*change))
    remove(tmp_path)
    assert training(tmp_path, epochs=4).restore() is False


def test_damaged_files_are_not_kept_as_finished(tmp_path):
    finish(tmp_path, "old", epochs=4)
    shutil.rmtree(tmp_path / FOLDER)
    (tmp_path / "history.tsv").write_text("old hist")
    keep_finished(tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_the_state_comes_back_so_that_more_epochs_go_on(tmp_path):
    (tmp_path / "training.state").write_text("after epoch 4")
    finish(tmp_path, "old", epochs=4)
    (tmp_path / "training.state").unlink()
    (tmp_path / "training.state").write_text("of the edit that failed")
    remove(tmp_path)
    for _ in range(2):
        training(tmp_path, epochs=4).restore()
        assert (tmp_path / "training.state").read_text() == "after epoch 4"
        assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_record_tells_which_training_it_is_of_whatever_keys_have_come_since(tmp_path):
    finish(tmp_path, "old", epochs=4)
    path = tmp_path / "run.json"
    wanted = decisive(recipe=Recipe(epochs=4), code=1, loss_size=None, weights="w", **FACTS)
    assert decisive_of_record(RunRecord.read(path)) == wanted
    text = json.loads(path.read_text())
    del text["recipe"]["ema"], text["code"]  # of the time before there were such keys
    path.write_text(json.dumps(text | {"of": "the time after"}) + "\n")
    assert decisive_of_record(RunRecord.read(path)) == wanted


def test_a_record_is_read_as_it_was_written(tmp_path):
    written = run_record(recipe=Recipe(epochs=4).model_dump(mode="json"), sha256={"best": "a", "last": "b"})
    written.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == written


def test_differences_are_those_of_what_counts_for_training():
    was = run_record(recipe={"epochs": 4, "batch": 8, "tta": [{"view": "both"}]}, sha256={})
    wanted = {"recipe": {"epochs": 6, "batch": 8}, "seed": 2, "threads": 1, "code": 1, "start": "imagenet"}
    assert differences(was, wanted) == ["epochs 4 -> 6", "seed 1 -> 2"]
    of_another_version = run_record(recipe={"epochs": 4, "batch": 8, "sorcery": True}, sha256={})
    assert "epochs 4 -> 6" in differences(of_another_version, wanted)


def test_what_finished_before_there_was_such_a_folder_is_kept_as_well(tmp_path):
    finish(tmp_path, "old", epochs=4)
    [kept] = (tmp_path / FOLDER).iterdir()
    for path in kept.iterdir():
        path.unlink()
    kept.rmdir()
    (tmp_path / FOLDER).rmdir()
    keep_finished(tmp_path)
    remove(tmp_path)
    assert finished_record(tmp_path).recipe["epochs"] == 4
    assert training(tmp_path, epochs=4).restore() is True


@pytest.mark.parametrize("there", [True, False])
def test_an_average_is_kept_with_the_other_files_or_none_of_them(tmp_path, there):
    average = {"epochs": [3, 4], "valid": {"valid_dice": 0.5}}
    files = [*NAMES.values(), "average.safetensors"]
    for name in files:
        (tmp_path / name).write_text(f"{name}\n")
    recipe = Recipe(epochs=4, average={"epochs": 2}).model_dump(mode="json")
    digests = {name: sha256(tmp_path / f"{name}.safetensors") for name in ("best", "last", "average")}
    run_record(recipe=recipe, sha256=digests, average=average).write(tmp_path / "run.json")
    if not there:
        (tmp_path / "average.safetensors").unlink()
    keep_finished(tmp_path)
    assert {path.name for path in tmp_path.glob(f"{FOLDER}/*/*")} == ({*files, DIGESTS} if there else set())


@pytest.mark.parametrize("text", ["", "{", "{}\n", "[]\n"])
def test_a_damaged_record_stops_nothing(tmp_path, text):
    finish(tmp_path, "old", epochs=4)
    for path in (tmp_path / FOLDER).rglob("run.json"):
        path.unlink()
    (tmp_path / "run.json").write_text(text)
    keep_finished(tmp_path)
    assert finished_record(tmp_path) is None


# Devices that are not there


def jobs(**asked):
    return [SimpleNamespace(rule=SimpleNamespace(name=name), resources={"gpu": gpu}) for name, gpu in asked.items()]


@pytest.mark.parametrize(
    ("device", "asked", "there", "said"),
    [
        ("cuda", {"train": 1, "predict": 1}, [], "shows no CUDA device for predict, train"),
        ("cuda", {"train": 0}, ["a"], "no GPU is allowed to train"),
        ("auto", {"train": 4}, ["a", "b"], "a job asks for 4 devices, and this machine shows 2"),
    ],
)
def test_missing_devices_are_found_before_anything_is_removed(monkeypatch, device, asked, there, said):
    monkeypatch.setattr(granted, "visible_devices", lambda: there)
    with pytest.raises(ValueError, match=said):
        granted.refuse_missing_devices(device, jobs(**asked))


@pytest.mark.parametrize(
    ("device", "asked", "there"),
    [("cuda", {}, []), ("cpu", {"train": 1}, []), ("auto", {"train": 1}, []), ("cuda", {"train": 2}, ["a", "b"])],
)
def test_devices_that_are_there_or_not_needed_stop_nothing(monkeypatch, device, asked, there):
    monkeypatch.setattr(granted, "visible_devices", lambda: there)
    granted.refuse_missing_devices(device, jobs(**asked))
