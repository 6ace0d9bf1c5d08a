"""A job that failed: what is tried again and what is not, and who was killed."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from cloudseg import errors
from cloudseg.dataset.labels.tables import TableError
from cloudseg.runtime.background import with_context
from cloudseg.runtime.job_state import read_job
from cloudseg.runtime.logs import logged
from cloudseg.runtime.retries import forget, killed_jobs


@pytest.fixture
def attempt(tmp_path):
    """Run a job, first in a new call or again; return its exit code, its log, and how often its work began."""
    log, begun = tmp_path / "logs/check.log", []

    def attempt(number, work):
        if number == 1:
            forget(log.parent, tmp_path / "runs")
        log.unlink(missing_ok=True)  # as Snakemake does
        code = 0
        try:
            with logged(SimpleNamespace(log=[str(log)], resources={"mem_mb": 500})):
                begun.append(number)
                work()
        except SystemExit as error:
            code = error.code
        return code, log.read_text(), len(begun)

    attempt.folder = log.parent
    return attempt


def raising(error):
    def work():
        raise error

    return work


def test_bad_data_is_read_once(attempt):
    from cloudseg.storage.files import read_text

    def work():
        read_text(attempt.folder / "empty.tsv")

    attempt.folder.mkdir()
    (attempt.folder / "empty.tsv").write_text("")
    first = attempt(1, work)
    assert first[0] == 1
    assert "empty.tsv" in first[1]
    code, log, begun = attempt(2, work)
    assert (code, begun) == (1, 1)
    assert "empty.tsv" in log
    assert "not tried again" in log
    (attempt.folder / "empty.tsv").write_text("whole\n")
    assert attempt(1, work)[0] == 0  # the next call of Snakemake
    assert [path.name for path in attempt.folder.iterdir() if path.suffix == ".note"] == []


@pytest.mark.parametrize(
    "error",
    [
        OSError("a disk that went away"),
        MemoryError(),
        RuntimeError("x"),
        errors.DiskFullError("full"),
        ImportError("x"),
    ],
)
def test_bad_luck_is_tried_again(attempt, error):
    assert attempt(1, raising(error))[0] == 1
    assert attempt(2, lambda: None)[::2] == (0, 2)


@pytest.mark.parametrize("kind", [errors.UserError, errors.ConfigError, errors.DatasetError, errors.StoreError])
def test_what_a_person_can_mend_is_said_without_a_traceback_and_not_tried_again(attempt, kind):
    assert attempt(1, raising(kind("a.zarr: a byte flipped")))[:2] == (1, "Error: a.zarr: a byte flipped\n")
    code, log, begun = attempt(2, lambda: None)
    assert (code, begun) == (1, 1)
    assert log.startswith("(not tried again")
    assert log.endswith(")\nError: a.zarr: a byte flipped\n")


@pytest.mark.parametrize("kind", [errors.MachineError, errors.DeviceError, errors.OutOfMemoryError])
def test_an_error_of_the_machine_is_said_without_a_traceback_and_tried_again(attempt, kind):
    assert attempt(1, raising(kind("cpu: not enough memory")))[:2] == (1, "Error: cpu: not enough memory\n")
    assert attempt(2, lambda: None)[::2] == (0, 2)


def test_what_was_called_off_is_tried_again(attempt):
    assert attempt(1, raising(KeyboardInterrupt()))[0] == 1
    assert attempt(2, lambda: None)[::2] == (0, 2)


def test_a_fault_leaves_its_traceback_and_is_not_tried_again(attempt):
    import json

    code, first, _ = attempt(1, lambda: json.loads("x"))
    assert (code, first.count("Traceback"), "JSONDecodeError" in first) == (1, 1, True)
    code, log, begun = attempt(2, lambda: None)
    assert (code, begun) == (1, 1)
    assert "not tried again" in log
    assert log.endswith(f"\n{first}")  # which Snakemake has removed
    assert "JSONDecodeError: Expecting value" in read_job(attempt.folder / "check.log").reason


def test_an_error_that_a_thread_hands_on_stays_of_its_kind():
    assert type(with_context("a", errors.StoreError("b"))) is errors.StoreError
    made_of_more_than_a_message = TableError("train.csv", 3, "no row")
    assert type(with_context("a", made_of_more_than_a_message)) is errors.DatasetError
    assert str(with_context("a", made_of_more_than_a_message)) == "a: train.csv, line 3: no row"


def test_what_the_machine_lacks_is_tried_again(attempt):
    from cloudseg.runtime.gpus.lease import lease

    def work():
        with lease(3, pool=["a", "b"]):
            pass

    code, log, _ = attempt(1, work)
    assert (code, "asks for 3 devices" in log) == (1, True)
    assert attempt(2, lambda: None)[::2] == (0, 2)


KILLED = """
import faulthandler, os, signal, sys
from types import SimpleNamespace
from cloudseg.runtime.logs import logged

with logged(SimpleNamespace(log=[sys.argv[1]], resources={"mem_mb": 700})):
    if sys.argv[2] == "fail":
        raise SystemExit(3)
    if sys.argv[2] == "end":  # as the watchdog does
        faulthandler.dump_traceback(sys.stdout)
        os._exit(1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_job_that_was_killed_is_named_with_the_memory_that_it_asked_for(tmp_path):
    started, logs = time.time() - 1, tmp_path / "logs"
    for name, way in (("killed", "kill"), ("failed", "fail"), ("stood still", "end")):
        subprocess.run([sys.executable, "-c", KILLED, str(logs / f"{name}.log"), way], check=False)
    runs = tmp_path / "runs/e/fpn/64x96/tiny/fold0"
    subprocess.run([sys.executable, "-c", KILLED, str(runs / "train.log"), "kill"], check=False)
    [line, _] = killed_jobs(logs, tmp_path / "runs", started)
    assert line.startswith(f"{logs}/killed.log: this job was killed without a word, most often because the memory")
    assert "asked for 700 MB" in line
    assert killed_jobs(logs, tmp_path / "runs", time.time() + 1) == []  # of an earlier call


def test_a_job_that_still_runs_is_not_called_killed(tmp_path):
    started = time.time() - 1
    with logged(SimpleNamespace(log=[str(tmp_path / "a.log")], resources={})):
        assert killed_jobs(tmp_path, tmp_path / "runs", started) == []
