"""TensorBoard's own reader reads back what was written, at the end and while trainings run."""

import os

import numpy as np
import pytest
from run_records import write_history
from tracked import DICES, END, RUNS, TRAINED, make

pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install tensorboard")

from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from cloudseg.errors import ConfigError
from cloudseg.trackers.export import export
from cloudseg.trackers.live import Follower, main


def read(folder):
    runs = EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    return runs


def scalars(folder, run, tag="dice/mean"):
    return [(event.step, event.value) for event in read(folder).Scalars(run, tag)]


def rounded(dices):
    return [(number, float(np.float32(dice))) for number, dice in enumerate(dices, start=1)]


def test_every_number_of_the_history_is_there(tmp_path):
    results = make(tmp_path)
    assert export("tensorboard", results, results / "trackers/tensorboard") == 2
    folder = results / "trackers/tensorboard"
    assert set(read(folder).Runs()) == {".", *RUNS}
    for run, dices in DICES.items():
        assert scalars(folder, run) == scalars(folder, run, "dice/Fish") == rounded(dices)
        assert scalars(folder, run, "loss/train") == rounded([0.9] * len(dices))
    times = [event.wall_time for event in read(folder).Scalars(RUNS[0], "dice/mean")]
    assert times == [END - 4, END - 2, END]
    assert scalars(folder, RUNS[0], "best/dice") == [(3, float(np.float32(0.7)))]


def test_recipes_are_hyperparameters(tmp_path):
    results = make(tmp_path)
    export("tensorboard", results, results / "trackers/tensorboard")
    told = read(results / "trackers/tensorboard").SummaryMetadata(RUNS[0], "_hparams_/session_start_info")
    start = HParamsPluginData.FromString(told.plugin_data.content).session_start_info
    assert start.hparams["loss.dice"].number_value == 0.5
    assert start.hparams["drop_last"].WhichOneof("kind") == "bool_value"
    assert start.start_time_secs == END - 6


def test_a_follower_appends_each_epoch_once(tmp_path):
    results = make(tmp_path)
    follower = Follower(results)
    assert follower.update() == 6
    assert follower.update() == 0
    write_history(results / "runs" / TRAINED, [0.2, 0.4])
    assert follower.update() == 1
    follower.close()
    again = Follower(results)
    assert again.update() == 0
    write_history(results / "runs" / TRAINED, [0.2, 0.4, 0.3])
    assert again.update() == 1
    assert scalars(results / "trackers/live", TRAINED) == rounded([0.2, 0.4, 0.3])
    again.close()


def test_a_follower_that_was_killed_within_an_event_goes_on(tmp_path):
    results = make(tmp_path)
    Follower(results).update()
    [path] = (results / "trackers/live" / RUNS[0]).iterdir()
    os.truncate(path, path.stat().st_size - 5)
    assert Follower(results).update() == 1
    assert scalars(results / "trackers/live", RUNS[0]) == rounded(DICES[RUNS[0]])


def test_a_training_that_begins_anew_replaces_its_curve(tmp_path):
    results = make(tmp_path)
    follower = Follower(results)
    follower.update()
    write_history(results / "runs" / RUNS[0], [0.9])
    assert follower.update() == 1
    (results / "runs" / RUNS[0] / "history.tsv").unlink()
    assert follower.update() == 0
    write_history(results / "runs" / RUNS[0], [0.9, 0.8])
    assert follower.update() == 1
    follower.close()
    assert scalars(results / "trackers/live", RUNS[0]) == rounded([0.9, 0.8])
    assert Follower(results).update() == 0


def test_two_followers_of_one_folder_are_one_too_many(tmp_path):
    results = make(tmp_path)
    follower = Follower(results)
    with pytest.raises(ConfigError, match="another process follows"):
        Follower(results)
    follower.close()
    with pytest.raises(SystemExit, match="no such folder"):
        main([str(tmp_path / "elsewhere")])


def test_run_folders_are_left_alone(tmp_path):
    results = make(tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in (results / "runs").rglob("*"))
    main([str(results), "--once"])
    assert sorted((path, path.stat().st_mtime_ns) for path in (results / "runs").rglob("*")) == before
