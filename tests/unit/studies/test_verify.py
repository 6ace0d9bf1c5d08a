"""Everything that damages a finished run is found, and nothing else is."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cloudseg import commands
from cloudseg.models.checkpoint_file import write_state
from cloudseg.storage import files, records, stores
from cloudseg.studies import verify
from cloudseg.training.state_file import StateFile

RESULTS = Path("results/a")
RUN = RESULTS / "runs/fold0"
STORE, TABLE, PAGE = RUN / "best-test.zarr", RESULTS / "dataset/folds.tsv", RESULTS / "report/dataset.html"
CHECKPOINT, HISTORY, RECORD = RUN / "best.safetensors", RUN / "history.tsv", RUN / "run.json"
DECISION, SUBMISSION, RAW = RESULTS / "decision.yaml", Path("submission.csv"), RESULTS / "dataset/raw"
PLAN = [STORE, TABLE, PAGE, CHECKPOINT, HISTORY, RECORD, DECISION, SUBMISSION, RAW]


@pytest.fixture(autouse=True)
def finished(tmp_path, monkeypatch):
    """Make one output of each kind, as jobs do, and record them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stores, "SHARD_BYTES", 3 * 4 * 8)
    monkeypatch.delenv(commands._WORDS, raising=False)
    random_values = np.random.default_rng(0)
    writer = stores.Writer(STORE, {"": stores.Spec((7, 4, 8), "uint8", ("image", "y", "x"))}, {"ids": list("abcdefg")})
    for rows in writer.missing():
        writer.write(rows, random_values.integers(0, 256, (rows.stop - rows.start, 4, 8)).astype("uint8"))
    writer.finish()
    files.write_table(pd.DataFrame({"image": [f"{n}.jpg" for n in range(9)], "fold": [n % 3 for n in range(9)]}), TABLE)
    files.write_table(pd.DataFrame({"epoch": range(1, 6), "loss": [0.5, 0.4, 0.3, 0.2, 0.1]}), HISTORY)
    files.write_text(PAGE, "<!doctype html>\n<p>Images and labels</p>\n")
    write_state({"weight": torch.arange(64.0)}, CHECKPOINT, {"epoch": 3})
    files.write_text(RECORD, json.dumps({"seed": 1, "sha256": "ab"}, indent=2) + "\n")
    files.write_text(DECISION, "how: fixed\nclasses:\n  Fish:\n    level: 128\n    min_size: 50\n")
    files.write_text(SUBMISSION, "Image_Label,EncodedPixels\na.jpg_Fish,1 3\nb.jpg_Fish,\n")
    for name in ("train_images/a.jpg", "test_images/b.jpg"):
        files.write_text(RAW / name, name)
    (RAW / "linked").symlink_to("/usr/share")  # images of the user's, which are no output
    state = StateFile(RUN / verify.STATE, "digest")
    state.keep({"epoch": 3, "weights": torch.arange(64.0)})
    state.close()
    records.write_record(RUN / "train.log", [CHECKPOINT, HISTORY, RECORD])
    for number, path in enumerate([STORE, TABLE, PAGE, DECISION, SUBMISSION, RAW]):
        records.write_record(RESULTS / f"logs/{number}.log", [path])
    return tmp_path


def found(**options):
    return verify.verify([str(path) for path in PLAN], RESULTS, **options)


def record_files():
    return list(RESULTS.rglob(f"*{records.SUFFIX}"))


def remove_records():
    for path in record_files():
        path.unlink()


def test_a_finished_run_is_healthy():
    result = found(threads=4)
    assert result.healthy
    assert (result.unmade, result.unrecorded) == ([], [])
    assert result.checked == len(PLAN) + 1
    assert verify.report(result, removed=False).splitlines()[-1] == "Everything is as it was made."


def every_file():
    """Return every file of the run with the output that holds it."""
    for output in [*PLAN, RUN / verify.STATE]:
        inside = [path for path in output.rglob("*") if path.is_file() and "linked" not in path.parts]
        for path in inside if output.is_dir() else [output]:
            yield path, output


def cut_anywhere(path, draw):
    os.truncate(path, draw.randrange(path.stat().st_size))


def cut_between_lines(path, draw):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: draw.randrange(1, len(lines))]))


def change_a_letter(path, draw):
    content = bytearray(path.read_bytes())
    place = draw.choice([n for n, byte in enumerate(content) if chr(byte).isalnum()])
    content[place] = ord("7") if content[place] != ord("7") else ord("8")
    path.write_bytes(content)


@pytest.mark.filterwarnings("ignore")  # Zarr's, about metadata that is damaged
@pytest.mark.parametrize("seed", range(3))
def test_every_deletion_and_truncation_is_found(seed):
    draw = random.Random(seed)
    for path, output in list(every_file()):
        before = path.read_bytes()
        for damage in (lambda path, draw: path.unlink(), cut_anywhere, lambda path, draw: path.write_bytes(b"")):
            damage(path, draw)
            result = found()
            lost_state = output.name == verify.STATE and not path.exists()  # more epochs would begin anew, no more
            named = [finding.path for finding in result.damaged] + result.lost
            assert named == ([] if lost_state else [output]), path
            path.write_bytes(before)
    assert found().healthy


@pytest.mark.parametrize("path", [TABLE, HISTORY, RECORD, DECISION, SUBMISSION], ids=lambda path: path.name)
def test_a_changed_digit_and_a_cut_between_two_lines_are_found(path):
    before = path.read_bytes()
    for damage in (change_a_letter, cut_between_lines):
        for seed in range(5):
            damage(path, random.Random(seed))
            result = found()
            assert [finding.path for finding in result.damaged] == [path]
            path.write_bytes(before)


@pytest.mark.filterwarnings("ignore")
def test_without_a_record_the_format_is_checked():
    """As of results from before there were records."""
    remove_records()
    result = found()
    assert result.healthy
    assert result.unrecorded == [path for path in PLAN if path != STORE]
    assert "of these only the format was checked" in verify.report(result, removed=False)
    for path in (PAGE, CHECKPOINT, HISTORY, RECORD, SUBMISSION, TABLE):
        before = path.read_bytes()
        for length in (0, 1, len(before) // 2 + 1, len(before) - 1):  # nowhere between two lines
            path.write_bytes(before[:length])
            assert [finding.path for finding in found().damaged] == [path], length
        path.write_bytes(before)
    CHECKPOINT.write_bytes(CHECKPOINT.read_bytes()[:-1] + b"x")
    assert [finding.path for finding in found().damaged] == [CHECKPOINT]


def test_a_damaged_record_is_found_and_the_files_are_looked_at_all_the_same():
    path = records.record_file(RUN / "train.log")
    os.truncate(path, path.stat().st_size // 2)
    os.truncate(HISTORY, 3)
    assert {finding.path for finding in found(remove=True).damaged} == {path, HISTORY}
    assert not path.exists()
    result = found()
    assert (result.damaged, result.unmade) == ([], [HISTORY])  # nothing says that it was made


def test_what_is_lost_and_what_was_never_made_are_told_apart():
    TABLE.unlink()
    result = verify.verify([*map(str, PLAN), "results/a/report/leaderboard.md"], RESULTS)
    assert (result.lost, result.unmade) == ([TABLE], [Path("results/a/report/leaderboard.md")])
    assert verify.report(result, removed=False).splitlines()[-1] == f"  snakemake {TABLE}"
    assert verify.report(found(), removed=False).splitlines()[-1] == "  snakemake"


def test_only_with_consent_and_only_what_is_damaged_is_removed():
    kept = {path: path.stat().st_mtime_ns for path, _ in every_file()}
    os.truncate(next(STORE.glob("c/*/0/0")), 5)
    os.truncate(RAW / "test_images/b.jpg", 1)
    text = verify.report(found(), removed=False)
    assert text.splitlines()[-1] == "  snakemake verify --config remove=true"
    assert STORE.exists()
    text = verify.report(found(remove=True), removed=True)
    assert f"removed: {STORE}: c/" in text
    assert text.splitlines()[-1] == "  snakemake"
    gone = [path for path in kept if STORE in path.parents or RAW in path.parents]
    assert [path for path in kept if not path.exists()] == gone
    assert Path("/usr/share").is_dir()


def test_the_commands_repeat_the_config_of_the_call(monkeypatch, tmp_path):
    for key in ("HOME", "CLOUDSEG"):
        monkeypatch.setenv(key, str(tmp_path))
    commands.remember_words([tmp_path / "my config.yaml", Path("/elsewhere/b.yaml")], ["smoke=true", "remove=true"])
    os.truncate(TABLE, 1)
    last = verify.report(found(), removed=False).splitlines()[-1]
    assert last == (
        "  snakemake verify --configfile 'my config.yaml' /elsewhere/b.yaml --config smoke=true remove=true"
    )
    os.environ.pop(commands._WORDS)


def test_what_is_replaced_while_it_is_read_is_read_again(monkeypatch):
    """As beside a running call: the digest of the record and the file are never of one moment."""
    real, looked = verify.check_output, []

    def replaced_meanwhile(path, *arguments):
        if path == TABLE and not looked:
            looked.append(path)
            whole = TABLE.read_text()
            files.write_text(TABLE, whole)
            raise files.damaged(path, "half of the old and half of the new")
        real(path, *arguments)

    monkeypatch.setattr(verify, "check_output", replaced_meanwhile)
    assert found().healthy
    assert looked


def test_what_vanishes_while_it_is_read_is_not_called_damaged(monkeypatch):
    def vanished(path, *arguments):
        if path == TABLE:
            path.unlink()
            raise files.damaged(path, "gone")

    monkeypatch.setattr(verify, "check_output", vanished)
    assert found().damaged == []


def test_what_a_running_call_has_locked_is_not_removed():
    verify.LOCKS.mkdir(parents=True)
    (verify.LOCKS / "0.output.lock").write_text(f"x\n{TABLE}\n")
    os.truncate(TABLE, 1)
    os.truncate(HISTORY, 1)
    result = found(remove=True)
    assert (TABLE.exists(), HISTORY.exists()) == (True, False)
    assert "a running call of Snakemake has locked" in verify.report(result, removed=True)


def test_what_a_running_call_makes_again_is_not_called_lost():
    verify.LOCKS.mkdir(parents=True)
    (verify.LOCKS / "0.output.lock").write_text(f"{TABLE}\n")
    TABLE.unlink()
    HISTORY.unlink()
    result = found()
    assert (result.lost, result.unmade) == ([HISTORY], [TABLE])


def test_what_is_recorded_outside_the_results_is_left_alone():
    """Such as the submission in the working directory, which may be edited, or another config's."""
    SUBMISSION.write_text("edited by hand\n")
    plan = [str(path) for path in PLAN if path != SUBMISSION]
    assert verify.verify(plan, RESULTS, remove=True).healthy
    assert SUBMISSION.read_text() == "edited by hand\n"


def test_it_needs_no_torch():
    program = (
        "import sys; from cloudseg.studies import verify; "
        f"assert verify.verify({[str(path) for path in PLAN]}, '{RESULTS}').healthy; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_jobs_that_end_at_once_keep_their_records_apart():
    names = [path.name for path in record_files()]
    assert len(names) == 7
    records.remove_record(RUN / "train.log")
    assert len(record_files()) == 6
    records.remove_record(RUN / "train.log")
