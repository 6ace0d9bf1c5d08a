"""How far a job is, as others read it beside its log."""

import json
import math
import multiprocessing
import os
import time
from types import SimpleNamespace

import pytest

from cloudseg.errors import ConfigError
from cloudseg.runtime import job_progress
from cloudseg.runtime.job_progress import Pace, counted, progress_path, read_progress, report
from cloudseg.runtime.logs import logged
from cloudseg.runtime.retries import Note


@pytest.fixture
def job(tmp_path):
    """A job whose log is in a folder that is not there yet."""
    return SimpleNamespace(log=[str(tmp_path / "logs/train.log")])


def wait_for(path, condition):
    for _ in range(100):
        if (found := read_progress(path)) is not None and condition(found):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_the_file_says_what_was_reported_and_goes_with_the_job(job):
    path = progress_path(job.log[0])
    path.parent.mkdir()
    path.write_text("what a killed job left")
    before = time.time()
    with logged(job):
        begun = read_progress(path)
        assert (begun.total, begun.error, begun.process) == (0, None, os.getpid())
        report(4.3, 10, "epochs", dice=0.71, loss=math.nan)
        report(4.4, 10, "epochs")
        found = wait_for(path, lambda found: found.done == 4.4)
        assert found.facts == {"dice": 0.71, "loss": None}
        assert (found.log, found.total, found.unit) == (job.log[0], 10, "epochs")
        assert before <= found.begun <= found.updated <= time.time()
        assert set(json.loads(path.read_text())) == {
            *("log", "host", "process", "begun", "updated", "done", "total", "unit", "seconds_left", "facts", "error")
        }
    assert [each.name for each in path.parent.iterdir()] == ["train.log"]


@pytest.mark.parametrize(
    ("error", "said"),
    [(ConfigError("batch: 0"), "batch: 0"), (KeyError("x"), "KeyError: 'x'"), (SystemExit(1), "the last line")],
)
def test_a_job_that_failed_leaves_how_far_it_came_and_why(job, error, said):
    with pytest.raises(SystemExit), logged(job):
        report(3, 8, "images")
        print("the last line\n")
        raise error
    found = read_progress(progress_path(job.log[0]))
    assert (found.done, found.total, found.error, found.seconds_left) == (3, 8, said, None)
    Note(job.log[0]).end()  # in which a refused job is not tried again
    with logged(job):
        pass
    assert not progress_path(job.log[0]).exists()


def test_outside_of_a_job_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(counted([1, 2], 2, "images")) == [1, 2]
    assert list(tmp_path.iterdir()) == []


def report_as_rank():
    report(2, 10, "epochs", dice=0.5)
    time.sleep(3 * job_progress.INTERVAL)


def test_a_rank_reports_for_the_job_that_started_it(job):
    path = progress_path(job.log[0])
    with pytest.raises(SystemExit), logged(job):
        rank = multiprocessing.get_context("spawn").Process(target=report_as_rank)
        rank.start()
        assert wait_for(path, lambda found: found.done == 2).process == os.getpid()
        rank.join()
        raise ConfigError("a rank failed")
    found = read_progress(path)
    assert (found.done, found.facts["dice"], found.error) == (2, 0.5, "a rank failed")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"log": "a"}', '{"done": "x"}', json.dumps(dict.fromkeys("abc")), "\xff\xfe"]
)
def test_what_is_no_progress_file_reads_as_none(tmp_path, text):
    path = tmp_path / "a.progress.json"
    path.write_bytes(text.encode("latin-1"))
    assert read_progress(path) is None
    assert read_progress(tmp_path / "none.progress.json") is None
    assert read_progress(tmp_path) is None


def test_the_pace_of_epochs_counts_validation_and_not_what_others_did():
    pace = Pace(whole=True)
    clock, seconds = 0.0, None
    for epoch in range(4, 8):  # 4 were there already
        for batch in range(5):
            pace.add(clock, epoch + 0.15 * batch)
            clock += 2
        clock += 10 if epoch != 5 else 1000  # validation; once the machine was busy
        seconds = pace.seconds_per_unit()
    assert seconds == 20
    pace.add(clock, 2)  # begun anew with smaller batches
    assert pace.seconds_per_unit() is None


def test_the_seconds_in_which_a_process_was_stopped_do_not_count(job, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(job_progress, "time", SimpleNamespace(monotonic=lambda: clock.now, time=time.time))
    with logged(job):
        for epoch in range(3):
            report(epoch, 10, "epochs")
            clock.now += 3600 if epoch == 1 else 2
        report(3, 10, "epochs")
        assert job_progress._current()._now().seconds_left <= 7 * 3 * job_progress.INTERVAL


def test_a_disk_without_room_fails_no_job(job, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job_progress.Path, "write_text", full)
    monkeypatch.setattr(
        "cloudseg.runtime.logs.Note",
        lambda *_, **__: SimpleNamespace(refused=None, begin=lambda: None, end=lambda: None),
    )
    with logged(job):
        report(1, 2, "images")


@pytest.mark.parametrize(
    "told",
    [
        {"done": math.inf},
        {"total": "4"},
        {"seconds_left": math.nan},
        {"facts": {"dice": "high"}},
        {"facts": {"images_per_second": [1]}},
        {"facts": []},
        {"process": math.inf},
        {"updated": 10**400},
        {"log": "a" * 200_000},
    ],
)
def test_what_no_job_wrote_is_no_progress(tmp_path, told):
    path = tmp_path / "a.progress.json"
    whole = {
        "log": "a.log",
        "host": "a",
        "process": 1,
        "begun": 1,
        "updated": 2,
        "done": 0,
        "total": 1,
        "unit": "epochs",
    }
    whole |= {"seconds_left": None, "facts": {}, "error": None}
    path.write_text(json.dumps(whole))
    assert read_progress(path) is not None
    path.write_text(json.dumps(whole | told))
    assert read_progress(path) is None
    path.write_text('{"log": ' * 50_000)
    assert read_progress(path) is None
