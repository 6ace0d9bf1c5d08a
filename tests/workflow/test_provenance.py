"""The provenance of a submission, and the same bytes made again, as a user types it."""

import getpass
import hashlib
import json
import platform
import shutil
from pathlib import Path

import pytest
from own_data import contents

WORDS = ("--cores", "2", "--configfile", "config.yaml")


@pytest.fixture
def run(tmp_path, make_workflow, finished_run):
    workflow = make_workflow(tmp_path / "run")
    shutil.copytree(finished_run.folder, workflow.folder)
    return workflow


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_submission_comes_with_what_it_was_made_from(run, tmp_path_factory):
    written = run.folder / "results/tiny/ensembles/all/provenance.json"
    for copy in ("submission.provenance.json", "results/tiny/submission.provenance.json"):
        assert (run.folder / copy).read_bytes() == written.read_bytes()
    plain = json.loads(written.read_text())
    assert plain["csv"]["sha256"] == sha256(run.folder / "submission.csv")
    assert [(each["fold"], each["checkpoint"]) for each in plain["members"]] == [
        *((0, "best"), (0, "last"), (1, "best"), (1, "last"))
    ]
    for each in plain["members"]:
        checkpoint = run.folder / "results/tiny/runs" / each["run"] / f"{each['checkpoint']}.safetensors"
        assert each["sha256"] == sha256(checkpoint)
        for prediction in each["predictions"].values():
            assert (prediction["device"], prediction["batch"]) == ("cpu", 4)
            assert prediction["made_with"].keys() >= {"code", "torch", "processor"}
    assert all(each["processor"] and not each["otherwise"] for each in plain["trainings"])
    assert plain["score"]["how"] == "nested"
    text = written.read_text()
    for place in (tmp_path_factory.getbasetemp(), f"{Path.home()}/", f'"{platform.node()}"', f'"{getpass.getuser()}"'):
        assert str(place) not in text.replace('"root":', "")
    before = written.read_bytes()
    run.run("--forcerun", "provenance", *WORDS)
    assert written.read_bytes() == before


def test_the_same_bytes_are_made_again_beside_the_results(run):
    before = contents(run.folder)
    shutil.copy(run.folder / "submission.csv", run.folder / "sent.csv")
    printed = run.run("reproduce", *WORDS, "--config", "csv=sent.csv")
    assert "the bytes of then are to be expected" in printed
    assert "THE SAME BYTES." in printed
    [made] = (run.folder / "results/tiny/reproduced").iterdir()
    assert made.read_bytes() == (run.folder / "submission.csv").read_bytes()
    assert list((run.folder / "results/tiny/.reproduce").iterdir()) == []
    made.unlink()
    assert contents(run.folder) == before


def test_a_file_that_is_not_ours_is_said_to_be_none(run):
    lines = (run.folder / "submission.csv").read_text().splitlines()
    (run.folder / "edited.csv").write_text("\n".join([*lines[:-1], f"{lines[-1].partition(',')[0]},1 9", ""]))
    printed = run.run("reproduce", *WORDS, "--config", "csv=edited.csv", check=False)
    assert "edited.csv: " in printed and "not a submission of ours" in printed
    assert "results/tiny/ensembles/all/submission.csv, the same rows; 1 of " in printed
    assert "Type: snakemake reproduce --config csv=FILE" in run.run("reproduce", *WORDS, check=False)


def test_what_is_gone_must_be_trained_and_is_only_when_asked_for(run):
    shutil.rmtree(run.folder / "results/tiny/runs/tu-test_resnet/fpn/64x96/tiny/fold1")
    printed = run.run("reproduce", *WORDS, "--config", "csv=submission.csv", check=False)
    assert "fold1/best.safetensors is not there" in printed
    assert "1 of 2 networks must be trained again" in printed
    assert "train=true" in printed


def test_a_record_that_was_edited_is_not_claimed(run):
    record = run.folder / "results/tiny/runs/tu-test_resnet/fpn/64x96/tiny/fold0/run.json"
    text = record.read_text()
    record.unlink()  # a hard link shares its bytes
    record.write_text(text.replace('"seed": 2019', '"seed": 2020'))
    printed = run.run("results/tiny/ensembles/all/provenance.json", *WORDS, check=False)
    assert "run.json: not the file that its job wrote" in printed
