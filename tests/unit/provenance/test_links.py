"""A link that does not hold is refused, whichever of its two ends was changed."""

import shutil

import numpy as np
import pytest
import yaml
from small_stores import CLASSES, SIZE, member, planes, write

from cloudseg.config.label_presets import PRESETS
from cloudseg.config.labels import CLOUDS, LabelsEntry
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.ensemble.blended import Blended
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.decide_blend import Stores
from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.ingredients import Ingredients
from cloudseg.ensemble.score_tables import read_image_scores, read_scores, write_scores
from cloudseg.ensemble.scores import image_scores
from cloudseg.ensemble.submission import write_submission
from cloudseg.ensemble.surface import read_surface, write_surface
from cloudseg.errors import DamagedFileError, StoreError
from cloudseg.provenance import links
from cloudseg.provenance.content import read_content
from cloudseg.storage import files, records, stores

RULE = DecisionRule("tune", [0.5, 0.5], [10, 10], [0, 10, 60])
MEMBERS = [member("x/best", 0, 0.25), member("x/last", 0, 0.25), member("y/best", 1, 0.5)]


def predicted(folder, seeds=(1, 2, 3)):
    """Write the members' stores of the test images."""
    ids = [f"{number}.jpg" for number in range(6)]
    return [write(folder / f"{n}.zarr", planes(seed, 6), ids) for n, seed in enumerate(seeds)]


@pytest.mark.parametrize("sharpen", [None, 0.5])
def test_a_blend_is_of_its_stores(tmp_path, sharpen):
    paths = predicted(tmp_path)
    out = tmp_path / "test.zarr"
    blend_stores(paths, MEMBERS, out, folds=None, classes=CLASSES, size=SIZE, sharpen=sharpen)
    assert links.require_blend(out, Ingredients(paths, MEMBERS, sharpen))["ids"] == [f"{n}.jpg" for n in range(6)]

    with pytest.raises(StoreError, match="other members, weights or checkpoints"):
        links.require_blend(out, Ingredients(paths, [*MEMBERS[:2], MEMBERS[2] | {"weight": 0.75}], sharpen))
    with pytest.raises(StoreError, match="other members, weights or checkpoints"):
        links.require_blend(out, Ingredients(paths, MEMBERS, 0.7))
    shutil.rmtree(paths[1])
    predicted(tmp_path, seeds=(1, 9, 3))  # by the same checkpoint, with other views
    with pytest.raises(StoreError, match=r"its image 0\.jpg is not the mean"):
        links.require_blend(out, Ingredients(paths, MEMBERS, sharpen))


def test_an_out_of_fold_blend_is_checked_in_every_fold(tmp_path):
    ids = {0: ["a.jpg", "b.jpg"], 1: ["c.jpg"]}
    paths = [
        write(tmp_path / f"{n}.zarr", planes(n, len(ids[each["fold"]])), ids[each["fold"]])
        for n, each in enumerate(MEMBERS)
    ]
    out = tmp_path / "valid.zarr"
    blend_stores(paths, MEMBERS, out, folds=[0, 1], classes=CLASSES, size=SIZE)
    links.require_blend(out, Ingredients(paths, MEMBERS, None))
    shutil.rmtree(paths[2])
    write(paths[2], planes(7, 1), ids[1])
    with pytest.raises(StoreError, match=r"its image c\.jpg"):
        links.require_blend(out, Ingredients(paths, MEMBERS, None))


def test_a_blend_of_no_images_is_one(tmp_path):
    blend_stores([], [], tmp_path / "valid.zarr", folds=[], classes=CLASSES, size=SIZE)
    assert links.require_blend(tmp_path / "valid.zarr", Ingredients([], [], None))["ids"] == []


@pytest.fixture
def decided(tmp_path):
    """An ensemble that was decided and scored: the folder, its decision."""
    folder, ids = tmp_path, [f"{number}.jpg" for number in range(5)]
    write(folder / "valid.zarr", planes(3, 5), ids, fold=[0, 0, 1, 1, 1])
    write(folder / "truth.zarr", (planes(3, 5).astype(int) + planes(4, 5) > 300).astype(np.uint8), ids)
    write_surface(
        folder / "valid.zarr", folder / "truth.zarr", folder / "surface.zarr", folds=[0, 1], min_sizes=[0, 10, 60]
    )
    decision, scores = decide(*read_surface(folder / "surface.zarr"), classes=CLASSES, rule=RULE)
    files.write_text(folder / "decision.yaml", yaml.safe_dump(decision.plain(), sort_keys=False))
    write_scores(scores, folder / "scores.tsv")
    images = image_scores(folder / "valid.zarr", folder / "truth.zarr", decision)
    files.write_table(images, folder / "images.tsv")
    return folder, decision


def test_a_decision_is_what_the_rule_makes_of_the_surface(decided):
    folder, decision = decided
    required = folder / "decision.yaml", made_on(folder), folder / "surface.zarr", CLASSES, RULE
    assert links.require_decision(*required) == decision
    plain = decision.plain()
    plain["nested"][1]["Fish"]["level"] += 1
    files.write_text(folder / "decision.yaml", yaml.safe_dump(plain))
    with pytest.raises(DamagedFileError, match=r"decision\.yaml: not the decision that .*surface\.zarr"):
        links.require_decision(*required)


def made_on(folder):
    return Stores(folder / "valid.zarr", folder / "truth.zarr")


def tables(folder, decision):
    return read_scores(folder / "scores.tsv", decision), read_image_scores(folder / "images.tsv", decision)


def test_scores_of_the_surface_are_those_of_the_blend(decided):
    folder, decision = decided
    links.require_scores(*tables(folder, decision), decision, made_on(folder))

    ids, fold = (stores.read(folder / "valid.zarr").attrs[name] for name in ("ids", "fold"))
    shutil.rmtree(folder / "valid.zarr")
    write(folder / "valid.zarr", 255 - planes(3, 5), ids, fold=fold)
    with pytest.raises(StoreError, match=r"valid\.zarr: its images have other scores"):
        links.require_scores(*tables(folder, decision), decision, made_on(folder))


def test_a_surface_of_another_blend_is_noticed_by_the_scores(decided):
    folder, _ = decided
    ids, fold = (stores.read(folder / "valid.zarr").attrs[name] for name in ("ids", "fold"))
    other = write(folder / "other.zarr", planes(3, 5) // 2, ids, fold=fold)
    shutil.rmtree(folder / "surface.zarr")
    write_surface(other, folder / "truth.zarr", folder / "surface.zarr", folds=[0, 1], min_sizes=[0, 10, 60])
    again, scores = decide(*read_surface(folder / "surface.zarr"), classes=CLASSES, rule=RULE)
    write_scores(scores, folder / "scores.tsv")
    images = image_scores(folder / "valid.zarr", folder / "truth.zarr", again)
    with pytest.raises(StoreError, match=r"other scores than the decision came with; delete the surface\.zarr"):
        links.require_scores(read_scores(folder / "scores.tsv", again), images, again, made_on(folder))


def require_masks(folder, decision, entry=CLOUDS):
    form = SubmissionForm(entry, SIZE)
    content = read_content(folder / "s.csv", [form])
    links.require_masks(folder / "s.csv", content, Blended(folder / "valid.zarr"), decision, form)


@pytest.mark.parametrize("name", ["severstal", "airbus", "uw-madison", "siim-acr"])
def test_masks_in_another_form_are_those_of_the_blend(decided, name):
    folder, decision = decided
    entry = LabelsEntry(**{**PRESETS[name]["labels"], "separator": "_"})
    rows = [(f"{number}.jpg", name) for number in range(5) for name in CLASSES]
    write_submission(folder / "valid.zarr", decision.rule, rows, folder / "s.csv", form=entry)
    require_masks(folder, decision, entry)
    native = folder / "native.csv"
    write_submission(folder / "valid.zarr", decision.rule, rows, native)
    ours, clouds = read_content(folder / "s.csv", [SubmissionForm(entry, SIZE)]), read_content(native)
    assert ours.facts.filled == clouds.facts.filled
    assert set(ours.masks.values()) - {""} == set(clouds.masks.values()) - {""}
    lines = (folder / "s.csv").read_text().splitlines()
    number = next(number for number in reversed(range(len(lines))) if " " in lines[number])
    changed = ["1 2" if " " in cell else cell for cell in lines[number].split(",")]
    lines[number] = ",".join(changed)
    files.write_text(folder / "s.csv", "\n".join([*lines, ""]))
    with pytest.raises(DamagedFileError, match="is not the mask"):
        require_masks(folder, decision, entry)


def test_masks_are_those_of_the_blend(decided):
    folder, decision = decided
    rows = [(f"{number}.jpg", name) for number in range(5) for name in CLASSES]
    write_submission(folder / "valid.zarr", decision.rule, rows, folder / "s.csv")
    require_masks(folder, decision)
    lines = (folder / "s.csv").read_text().splitlines()
    lines[-1] = f"{lines[-1].split(',')[0]},1 2"
    files.write_text(folder / "s.csv", "\n".join([*lines, ""]))
    with pytest.raises(DamagedFileError, match=r"s\.csv: 4\.jpg_Flower is not the mask"):
        require_masks(folder, decision)


@pytest.mark.parametrize(
    ("row", "reason"),
    [("2.jpg_Flower,1 2", "is not the mask"), ("5.jpg_Flower,1 2", "is of no image and class of .*valid")],
)
def test_rows_that_are_there_are_looked_at_where_the_first_and_the_last_images_have_none(
    decided, monkeypatch, row, reason
):
    folder, decision = decided
    monkeypatch.setattr(links, "SAMPLED", 1)
    rows = [("1.jpg", name) for name in CLASSES]
    write_submission(folder / "valid.zarr", decision.rule, rows, folder / "s.csv")
    require_masks(folder, decision)
    files.write_text(folder / "s.csv", f"{files.read_text(folder / 's.csv')}{row}\n")
    with pytest.raises(DamagedFileError, match=rf"s\.csv: {row.partition(',')[0]} {reason}"):
        require_masks(folder, decision)


def test_a_file_is_as_its_job_recorded_it(tmp_path):
    files.write_text(tmp_path / "a.csv", "one\n")
    digest = links.refuse_edited(tmp_path / "a.csv", tmp_path / "a.log")  # of before there were records
    records.write_record(tmp_path / "a.log", [tmp_path / "a.csv"])
    assert links.refuse_edited(tmp_path / "a.csv", tmp_path / "a.log") == digest == files.sha256(tmp_path / "a.csv")
    files.write_text(tmp_path / "a.csv", "two\n")
    with pytest.raises(DamagedFileError, match=r"a\.csv: not the file that its job wrote"):
        links.refuse_edited(tmp_path / "a.csv", tmp_path / "a.log")


def test_a_store_of_another_checkpoint_is_refused(tmp_path):
    class Record:
        sha256 = {"best": "a" * 64}  # noqa: RUF012

    links.require_checkpoint("best-test.zarr", links.Predicted("a" * 64, ""), "best", Record)
    with pytest.raises(StoreError, match=r"best-test\.zarr: predicted by the checkpoint bbbbbbbbbbbb"):
        links.require_checkpoint("best-test.zarr", links.Predicted("b" * 64, ""), "best", Record)
