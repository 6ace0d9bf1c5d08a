"""A training that is stopped anywhere ends as if it had not been, and goes on only from what is its own."""

import dataclasses
import itertools
import json
import multiprocessing
import os
import signal
import time

import pytest
import torch
from network_fixtures import result, small_recipe, small_training, write_training_inputs

from cloudseg.errors import DiskFullError
from cloudseg.training import state_file
from cloudseg.training import train as training
from cloudseg.training.finished import STATE
from cloudseg.training.job import TrainingJob
from cloudseg.training.state_file import StateFile
from cloudseg.training.train import train


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_training_inputs(tmp_path_factory.mktemp("inputs"))


def run(inputs, out, **recipe):
    train(small_training(inputs, out, **recipe))
    return result(out)


def lose_outputs(out):
    """Do what Snakemake does with the outputs of a failed job."""
    for path in out.iterdir():
        if path.name != STATE:
            path.unlink()


HALF = {"precision": "fp16", "ema": 0.9, "micro_batch": 2}
# The encoder thaws in the middle of the training, and its momentum begins later than that of the rest
FROZEN = {"freeze_encoder": 2, "optimiser": "sgd", "encoder_learning_rate": 1e-4, "layer_decay": 0.5}
RADAM = {"optimiser": "radam", "schedule": "one_cycle", "pct_start": 0.1}
STAGED = {
    "epochs": 5,
    "stages": [{"epochs": 2, "loss": {"bce": 1}}, {"epochs": 3, "learning_rate": 1e-4, "schedule": "constant"}],
    "freeze_encoder": 1,
    "best_by": "dice",
}
LAST = {"average": {"epochs": 3, "decay": 0.67}, "ema": 0.9}
BEST = {"average": {"epochs": 3, "of": "best"}}
STOPS = [*itertools.product([1, 2, 4], [{}, {"schedule": "plateau"}]), (2, HALF)]
STOPS += [*itertools.product([1, 2, 3], [FROZEN, STAGED]), (2, RADAM)]
STOPS += [*itertools.product([2, 4, 5], [LAST, BEST])]  # 5: while the average is validated


@pytest.mark.parametrize(("stop", "more"), STOPS)
def test_a_training_stopped_after_any_epoch_ends_with_the_same_bits(inputs, tmp_path, monkeypatch, stop, more):
    recipe = {"epochs": 5, "best_by": "loss", "plateau_patience": 0, **more}
    whole = run(inputs, tmp_path / "whole", **recipe)

    class StoppedError(Exception):
        pass

    real = training.validate
    calls = []

    def validate(*arguments):
        calls.append(0)
        if len(calls) > stop:
            raise StoppedError
        return real(*arguments)

    monkeypatch.setattr(training, "validate", validate)
    with pytest.raises(StoppedError):
        run(inputs, tmp_path / "cut", **recipe)
    monkeypatch.setattr(training, "validate", real)
    lose_outputs(tmp_path / "cut")
    assert run(inputs, tmp_path / "cut", **recipe) == whole
    record = json.loads((tmp_path / "cut/run.json").read_text())
    assert record["epochs"]["resumed"] == [{"after": stop, "of": 5}]
    assert [path.name for path in (tmp_path / "cut").iterdir() if path.name.startswith(".")] == []


def start(inputs, out, recipe):
    """Train in a process of its own, slowed down so that a signal meets it in the middle."""
    real = training.Trainer.train_step

    def slow(*arguments, **options):
        time.sleep(0.05)
        return real(*arguments, **options)

    training.Trainer.train_step = slow
    train(small_training(inputs, out, **recipe))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_costs_at_most_an_epoch(inputs, tmp_path, number):
    recipe = {"epochs": 4}
    whole = run(inputs, tmp_path / "whole", **recipe)
    process = multiprocessing.get_context("spawn").Process(target=start, args=(inputs, tmp_path / "cut", recipe))
    process.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "cut" / STATE).exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == (-number if number == signal.SIGKILL else 128 + number)
    assert not (tmp_path / "cut/last.safetensors").exists()
    lose_outputs(tmp_path / "cut")
    assert run(inputs, tmp_path / "cut", **recipe) == whole
    assert json.loads((tmp_path / "cut/run.json").read_text())["epochs"]["resumed"][0]["after"] >= 1


def test_more_epochs_go_on_where_the_schedule_permits(inputs, tmp_path, capsys):
    whole = run(inputs, tmp_path / "whole", epochs=4, schedule="plateau")
    run(inputs, tmp_path / "more", epochs=2, schedule="plateau")
    lose_outputs(tmp_path / "more")
    assert run(inputs, tmp_path / "more", epochs=4, schedule="plateau") == whole
    assert json.loads((tmp_path / "more/run.json").read_text())["epochs"]["resumed"] == [{"after": 2, "of": 2}]
    run(inputs, tmp_path / "other", epochs=2)
    capsys.readouterr()
    run(inputs, tmp_path / "other", epochs=3)
    assert "cosine depends on their number" in capsys.readouterr().out
    assert json.loads((tmp_path / "other/run.json").read_text())["epochs"]["resumed"] == []


@pytest.mark.parametrize(("average", "goes_on"), [({"of": "best"}, True), ({}, False)])
def test_more_epochs_go_on_where_the_average_permits(inputs, tmp_path, capsys, average, goes_on):
    recipe = {"schedule": "constant", "average": {"epochs": 2, **average}}
    whole = run(inputs, tmp_path / "whole", epochs=4, **recipe)
    run(inputs, tmp_path / "more", epochs=3, **recipe)
    capsys.readouterr()
    assert run(inputs, tmp_path / "more", epochs=4, **recipe) == whole
    said = "whose average is of other epochs; training from the beginning"
    assert (said in capsys.readouterr().out) == (not goes_on)
    assert bool(json.loads((tmp_path / "more/run.json").read_text())["epochs"]["resumed"]) == goes_on


def test_more_epochs_go_on_when_all_that_are_averaged_are_to_come(inputs, tmp_path):
    recipe = {"schedule": "constant", "average": {"epochs": 2}}
    run(inputs, tmp_path / "more", epochs=2, **recipe)
    assert run(inputs, tmp_path / "more", epochs=4, **recipe) == run(inputs, tmp_path / "whole", epochs=4, **recipe)
    assert json.loads((tmp_path / "more/run.json").read_text())["epochs"]["resumed"] == [{"after": 2, "of": 2}]


def test_a_finished_training_is_written_again_from_its_state(inputs, tmp_path):
    whole = run(inputs, tmp_path / "a", epochs=2)
    lose_outputs(tmp_path / "a")
    assert run(inputs, tmp_path / "a", epochs=2) == whole


def test_early_stopping_is_remembered(inputs, tmp_path):
    recipe = {"epochs": 6, "patience": 1, "learning_rate": 1e-9, "schedule": "constant"}
    whole = run(inputs, tmp_path / "a", **recipe)
    assert len(whole[1]) < 6
    lose_outputs(tmp_path / "a")
    assert run(inputs, tmp_path / "a", **recipe) == whole


@pytest.mark.parametrize("change", [{"learning_rate": 2e-3}, {"loss": {"bce": 1}}, {"batch": 3}])
def test_a_state_of_another_training_is_left_alone(inputs, tmp_path, capsys, change):
    whole = run(inputs, tmp_path / "whole", epochs=2, **change)
    run(inputs, tmp_path / "a", epochs=2)
    capsys.readouterr()
    assert run(inputs, tmp_path / "a", epochs=2, **change) == whole
    assert "of another recipe, other data or other code" in capsys.readouterr().out


@pytest.mark.parametrize(
    "spoil", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-1] + b"x"]
)
def test_a_damaged_state_is_no_state(inputs, tmp_path, spoil):
    whole = run(inputs, tmp_path / "a", epochs=2)
    path = tmp_path / "a" / STATE
    path.write_bytes(spoil(path.read_bytes()))
    lose_outputs(tmp_path / "a")
    assert run(inputs, tmp_path / "a", epochs=2) == whole


def test_the_state_goes_when_it_is_not_to_be_kept(inputs, tmp_path):
    train(dataclasses.replace(small_training(inputs, tmp_path / "a", epochs=1), keep_state=False))
    assert not (tmp_path / "a" / STATE).exists()


def test_an_error_of_the_writing_thread_ends_the_training(inputs, tmp_path, monkeypatch):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(state_file, "WRITE_EVERY", 0)
    with pytest.raises(DiskFullError, match=r"a/training\.state: .*No space left"):
        run(inputs, tmp_path / "a", epochs=3)
    assert not (tmp_path / "a/last.safetensors").exists()


def test_the_copy_shares_no_memory_with_the_training(tmp_path):
    weights = torch.zeros(3)
    state = StateFile(tmp_path / "state", "digest")
    copy = state_file._copied({"a": [weights], "b": {"c": 1}})
    weights += 1
    assert copy["a"][0].tolist() == [0, 0, 0]
    state.keep({"a": weights})
    state.close()
    assert state.read()["a"].tolist() == [1, 1, 1]
    assert StateFile(tmp_path / "state", "other").read() is None


def test_of_epochs_that_follow_at_once_the_last_is_written_in_the_end(tmp_path):
    state = StateFile(tmp_path / "state", "digest")
    assert [state.keep({"epoch": epoch}) for epoch in (1, 2, 3)] == [True, False, False]
    state.close()
    assert state.read() == {"epoch": 3}


def test_epochs_that_take_long_are_all_written(tmp_path, monkeypatch):
    monkeypatch.setattr(state_file, "WRITE_EVERY", 0)
    state = StateFile(tmp_path / "state", "digest")
    assert [state.keep({"epoch": epoch}) for epoch in (1, 2, 3)] == [True, True, True]
    state.close()
    assert state.read() == {"epoch": 3}


def test_states_from_before_a_key_came_are_still_gone_on_from(monkeypatch):
    """What the digest was when no recipe could name an optimiser, a stage or an average."""
    recipe = small_recipe(epochs=7, learning_rate=2e-3, ema=0.9)
    job = TrainingJob(
        **{"encoder": "tu-test_resnet", "decoder": "linknet", "fold": 0, "seed": 3, "recipe": recipe},
        **{"pixels": "p", "folds": "f", "weights": "w", "outputs": {"last": "a/last"}},
    )
    monkeypatch.setattr(TrainingJob, "data_digest", lambda self: "d")
    monkeypatch.setattr(state_file.files, "sha256", lambda path: "w")
    monkeypatch.setattr(torch, "__version__", "2.9")
    digest = state_file.state_file_of(job, torch.device("cpu"))._digest
    assert digest == "594ca19c62600fe932b2591d1814a3e8536e1689bfc9f018771376948f4c0672"
