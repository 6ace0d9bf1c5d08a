"""What lacks, what may come out otherwise, and what was changed since: each by its name."""

import json
from pathlib import Path

import numpy as np
import pytest
from run_records import write_record
from small_provenance import CODES, MADE_WITH, member, prediction, provenance, training, write_csv

from cloudseg.provenance import here
from cloudseg.provenance.find import Known
from cloudseg.provenance.reproduce import Question, verdict
from cloudseg.storage import files, stores


@pytest.fixture
def known(tmp_path, monkeypatch):
    """The results of a submission: four checkpoints and a store of test images."""
    monkeypatch.chdir(tmp_path)
    results = Path("results/tiny")
    path = write_csv(results / "ensembles/all/submission.csv")
    members = []
    for fold in (0, 1):
        for checkpoint in ("best", "last"):
            one = member(fold, checkpoint)
            file = results / "runs" / one["run"] / f"{checkpoint}.safetensors"
            files.write_text(file, f"{fold} {checkpoint}\n")
            members.append(one | {"sha256": files.sha256(file)})
    writer = stores.Writer(
        results / "dataset/test/64x96.zarr",
        {"image": stores.Spec((1, 2, 3, 3), "uint8", ("image", "y", "x", "band"))},
        {"ids": ["a.jpg"], "data": "2" * 64},
    )
    writer.write(slice(0, 1), np.zeros((1, 2, 3, 3), np.uint8), "image")
    writer.finish()
    record = provenance(path, members=members)
    record.write(path.with_name("provenance.json"))
    return Known(path.with_name("provenance.json"), record, results)


def changed(known, **changes):
    return Known(known.path, known.provenance.model_copy(update=changes), known.results)


def test_nothing_lacks_where_everything_is_as_it_was(known):
    assert not here.lacking(known)


def test_a_flipped_byte_and_a_lost_run_are_told_by_run(known):
    folders = [known.results / "runs" / run for run in known.provenance.run_names]
    (folders[0] / "best.safetensors").write_text("0 bEst\n")
    for file in folders[1].iterdir():
        file.unlink()
    lacking = here.lacking(known)
    assert list(lacking.runs) == known.provenance.run_names
    assert "best.safetensors is not the file of then" in lacking.runs[known.provenance.run_names[0]]
    assert lacking.runs[known.provenance.run_names[1]].endswith("best.safetensors is not there")
    assert here.training_seconds(known.provenance, lacking.runs) == 30 + 31


def test_other_images_lack_as_much_as_none(known):
    images = known.provenance.images.model_copy(update={"test": ["7" * 64]})
    [line] = here.lacking(changed(known, images=images)).other
    assert line.endswith("of other images or labels than then (data 222222222222, not 777777777777)")
    (known.results / "dataset/test/64x96.zarr/zarr.json").unlink()
    [line] = here.lacking(known).other
    assert "64x96.zarr: no store there" in line


def test_a_tuned_decision_needs_the_out_of_fold_images_too(known):
    decision = known.provenance.decision.model_copy(update={"rule": {"how": "tune"}})
    text = "\n".join(here.lacking(changed(known, decision=decision)).other)
    for name in ("train/64x96.zarr", "folds.tsv", "truth.zarr"):
        assert name in text


def test_the_same_code_libraries_and_processor_leave_no_doubt(known):
    assert here.doubts(known.provenance, MADE_WITH, CODES, "cpu") == []


@pytest.mark.parametrize(
    ("made_with", "codes", "device", "doubt"),
    [
        ({"torch": "2.6"}, {}, "cpu", "torch: 2.5 then, 2.6 here"),
        ({"processor": "AVX512"}, {}, "cpu", "processor: AVX2 then, AVX512 here"),
        ({}, {"prediction": 3}, "cpu", "code of the prediction: 2 then, 3 here"),
        ({}, {"ensemble": 4}, "cpu", "code of the ensemble: 2 then, 4 here"),
        ({}, {}, "cuda", "predicted on cpu then, on cuda here: last bits differ"),
    ],
)
def test_each_difference_is_a_doubt_of_its_own(known, made_with, codes, device, doubt):
    assert here.doubts(known.provenance, MADE_WITH | made_with, CODES | codes, device) == [doubt]


def test_what_predictions_did_not_record_is_taken_from_trainings_or_said_to_be_unknown(known):
    silent = {"test": prediction(made_with=None), "valid": prediction(made_with=None, device=None)}
    record = provenance(
        known.submission, members=[member(0, "best", predictions=silent)], trainings=[training(0, processor=None)]
    )
    assert here.doubts(record, {"torch": "2.5+cpu", "processor": "AVX2"}, CODES, "cpu") == [
        "processor: not recorded then, AVX2 here",
        "1 predictions were made with settings that their stores do not tell",
    ]


def test_a_changed_config_and_another_commit_are_told(known):
    config = {"name": "tiny", "seed": 2, "recipes": {"quick": {"epochs": 4}, "slow": {"epochs": 9}}}
    assert here.changed_since(known, config, "c" * 40) == [
        "the config tiny is another one now: seed 1 -> 2, recipes.slow.epochs nothing -> 9"
    ]
    assert here.changed_since(known, config | {"name": "other"}, "d" * 40 + "-dirty") == [
        "commit: cccccccccccc then, dddddddddddd-dirty here"
    ]


def test_a_training_on_other_weights_or_libraries_is_told_by_its_run(known, tmp_path):
    for number, then in enumerate(known.provenance.trainings):
        folder = tmp_path / "again/runs" / then.run
        folder.mkdir(parents=True)
        write_record(folder, then.recipe, seed=then.seed, seconds=1)
        plain = json.loads((folder / "run.json").read_text())
        names = plain.keys() & then.model_dump().keys() - {"devices", "batch", "epochs", "seconds", "commit"}
        plain |= {name: value for name, value in then.model_dump(mode="json").items() if name in names}
        plain["weights"]["sha256"] = ("5", "6")[number] * 64
        files.write_text(folder / "run.json", json.dumps(plain | {"processor": then.processor}) + "\n")
    run = known.provenance.run_names[1]
    assert here.trained_otherwise(known.provenance, tmp_path / "again") == [
        f"{run} was trained otherwise: initial weights 555555555555 -> 666666666666"
    ]
    path = tmp_path / "again/runs" / known.provenance.run_names[0] / "run.json"
    files.write_text(path, json.dumps(json.loads(path.read_text()) | {"deterministic": False}) + "\n")
    *_, fastest = here.trained_otherwise(known.provenance, tmp_path / "again")
    assert fastest.startswith(f"{known.provenance.run_names[0]} was trained without `deterministic: true`")


def test_the_verdict_is_of_the_file_that_was_asked_about(known):
    text = known.submission.read_text()
    made = write_csv(Path("made.csv"))
    saved = write_csv(Path("saved.csv"), text.replace("\n", "\r\n"))
    results = Path("results")
    assert verdict(Question(known.submission, results), made, 1, "here", [])[1]
    lines, same = verdict(Question(saved, results), made, 1, "here", [])
    assert (same, lines[-1].startswith("the bytes of our file")) == (False, True)
    other = write_csv(Path("other.csv"), text.replace("5 5", "5 6"))
    lines, same = verdict(Question(known.submission, results), other, 1, "here", ["decided otherwise: Fish"])
    assert (same, lines[1:]) == (
        False,
        ["decided otherwise: Fish", "OTHER BYTES: 1 of 4 masks differ, the first of b.jpg_Sugar."],
    )


def test_the_order_of_the_rows_is_that_of_our_file(known):
    shuffled = Path("shuffled.csv")
    head, *rows = known.submission.read_text().splitlines()
    write_csv(shuffled, "\n".join([head, *reversed(rows), ""]))
    question = Question(shuffled, Path("results"))
    assert question.names == ["a.jpg_Fish", "a.jpg_Sugar", "b.jpg_Fish", "b.jpg_Sugar"]
    assert question.introduction()[-1].endswith("in other bytes: rows in another order")
    known.submission.unlink()
    question = Question(shuffled, Path("results"))
    assert question.names is None
    assert question.can_be_made()[-1].startswith("lacking: the order of our rows")
