"""What has become of a job, by the files that it leaves: a reader may be on another machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from cloudseg.runtime.job_state import State, read_job
from cloudseg.runtime.retries import Note
from cloudseg.storage.records import write_record

NOW = 1_800_000_000.0


@pytest.fixture
def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("epoch 1/16: Dice 0.5\n")
    return path


def progress(log, **changed):
    told = {
        "log": str(log),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "begun": NOW - 100,
        "updated": NOW - 5,
        "done": 3,
        "total": 16,
        "unit": "epochs",
        "seconds_left": 40.0,
        "facts": {"dice": 0.7},
        "error": None,
    }
    log.with_name("train.progress.json").write_text(json.dumps(told | changed))


def test_a_job_that_writes_its_progress_runs(log):
    progress(log)
    job = read_job(log, now=NOW)
    assert (job.state, job.silent, job.progress.facts) == (State.RUNNING, 5, {"dice": 0.7})


def test_a_job_whose_process_is_gone_was_killed(log, ended_process):
    progress(log, process=ended_process)
    assert read_job(log, now=NOW).state == State.KILLED


def test_a_process_that_has_got_the_number_of_a_killed_one_is_another(log):
    progress(log, begun=time.time() - 10 * 365 * 86_400)
    assert read_job(log).state == State.KILLED


def test_a_process_that_nobody_has_waited_for_is_gone(log):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        progress(log, process=process.pid)
        assert read_job(log).state == State.KILLED


def test_a_process_that_a_signal_has_stopped_is_paused(log):
    with subprocess.Popen(["sleep", "60"]) as process:
        progress(log, process=process.pid, begun=time.time())
        assert not read_job(log).paused
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        job = read_job(log)
        assert (job.state, job.paused, job.process) == (State.RUNNING, True, process.pid)
        process.kill()


def test_a_log_that_grows_is_a_word(log):
    progress(log, updated=1.0)
    assert read_job(log, now=log.stat().st_mtime + 7).silent == pytest.approx(7)


@pytest.mark.parametrize(
    "error", ["SIGINT: stopped in epoch 3; the next run goes on after epoch 2", "KeyboardInterrupt: "]
)
def test_what_somebody_stopped_has_not_failed(log, error):
    progress(log, error=error)
    assert read_job(log, now=NOW).state == State.STOPPED


def test_of_another_machine_only_the_silence_is_known(log, ended_process):
    progress(log, host="elsewhere", process=ended_process, updated=NOW - 420)
    job = read_job(log, now=NOW)
    assert (job.state, job.host, job.silent) == (State.RUNNING, "elsewhere", 420)


def test_a_clock_that_is_ahead_is_no_negative_silence(log):
    progress(log, host="elsewhere", updated=NOW + 30)
    assert read_job(log, now=NOW).silent == 0


def test_a_failed_job_says_why_in_one_line(log):
    progress(log, error="Error: the training loss became nan in epoch 2\nand more")
    job = read_job(log, now=NOW)
    assert (job.state, job.reason) == (State.FAILED, "the training loss became nan in epoch 2")


def test_progress_of_another_version_or_cut_short_is_none(log):
    log.with_name("train.progress.json").write_text('{"log": "a", "hos')
    write_record(log, [str(log)])
    assert read_job(log, now=NOW).state == State.NOT_BEGUN


def test_without_progress_the_note_tells(log, ended_process):
    note = Note(log)
    note.begin()
    assert read_job(log).state == State.RUNNING
    told = json.loads(note.path.read_text())
    note.path.write_text(json.dumps(told | {"process": ended_process}))
    assert read_job(log).state == State.KILLED
    note.refuse("train.csv, line 3: no number", "Error: train.csv, line 3: no number")
    assert (read_job(log).state, read_job(log).reason) == (State.FAILED, "train.csv, line 3: no number")


@pytest.mark.parametrize(
    ("text", "state", "reason"),
    [
        ("a\nError: no such column; expected label\n", State.FAILED, "no such column; expected label"),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1\n    raise\nKeyError: 3\n',
            State.FAILED,
            "KeyError: 3",
        ),
        (
            "epoch 1\nstopped in epoch 2; the next run goes on after epoch 1\n",
            State.STOPPED,
            "stopped in epoch 2; the next run goes on after epoch 1",
        ),
    ],
)
def test_a_log_without_outputs_tells_how_the_job_ended(log, text, state, reason):
    log.write_text(text)
    job = read_job(log)
    assert (job.state, job.reason) == (state, reason)
    assert read_job(log, done=True).state == State.DONE
