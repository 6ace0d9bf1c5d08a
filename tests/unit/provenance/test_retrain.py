"""What is trained again is asked for as it was: the config and the sheet of then, in a folder of its own."""

import shutil
from pathlib import Path

import pytest
import yaml
from demo_plan import REPO, plan
from small_provenance import member, prediction, provenance, training, write_csv

from cloudseg.errors import ConfigError, MachineError
from cloudseg.provenance.find import Known
from cloudseg.provenance.here import Lacking
from cloudseg.provenance.retrain import _copy_finished, write_config
from cloudseg.provenance.workplace import workplace
from cloudseg.storage import files
from cloudseg.training.finished import FOLDER
from cloudseg.workflow.plan import Plan

SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\tnote\n" + "".join(
    f"tu-test_resnet\t{decoder}\t64x96\t{recipe}\t2\t{note}\n"
    for decoder, recipe, note in (("fpn", "first", 'a "note"'), ("fpn", "second", ""), ("unet", "first", "unused"))
)


def recipes(config):
    quick = config["recipes"].pop("quick")
    config["recipes"] = {"first": quick | {"start": "none"}, "second": quick | {"start": "run:fpn/64x96/first"}}
    config["ensembles"] = {"all": {"members": "recipe == 'second'"}, "unet": {"members": "decoder == 'unet'"}}


def record_of(then, folder):
    facts = then.chain("all").facts
    names = ("config_name", "ensemble", "smoke", "config", "sheet")
    return provenance(write_csv(folder / "s.csv"), **{name: facts[name] for name in names})


def test_the_config_of_then_asks_for_the_same_jobs(tmp_path, monkeypatch):
    then = plan(recipes, SHEET, tmp_path)
    write_config(tmp_path / "again", record_of(then, tmp_path), {"device": "cpu"}, "data/clouds")
    monkeypatch.chdir(tmp_path / "again")
    again = Plan(yaml.safe_load(Path("config.yaml").read_text()), REPO)
    assert list(again.config.ensembles) == ["all"]
    assert again.chain("all").asked == then.chain("all").asked
    assert again.chain("all").members == then.chain("all").members
    assert again.chain("all").sheet_rows == then.chain("all").sheet_rows
    assert (again.name, again.dataset.demo, again.seed) == (then.name, then.dataset.demo, then.seed)
    assert again.config.device == "cpu"


def test_replicates_and_trainings_on_all_images_are_asked_for_as_they_were(tmp_path, monkeypatch):
    head, *rows = SHEET.splitlines()
    sheet = [f"{head}\tseed\tfull", *(f"{row}\t{more}" for row in rows for more in ("\ttrue", "7\t", "0\ttrue"))]
    then = plan(recipes, "\n".join(sheet) + "\n", tmp_path)
    write_config(tmp_path / "again", record_of(then, tmp_path), {}, "data/clouds")
    monkeypatch.chdir(tmp_path / "again")
    again = Plan(yaml.safe_load(Path("config.yaml").read_text()), REPO)
    assert again.chain("all").asked == then.chain("all").asked
    assert again.chain("all").members == then.chain("all").members
    # 1st and 2nd recipe of decoder fpn: plain, with seed 7, and with seed 0
    assert len(again.chain("all").sheet_rows) == 6


def test_files_of_the_user_are_where_the_config_here_has_them(tmp_path):
    then = plan(recipes, SHEET, tmp_path)
    record = record_of(then, tmp_path)
    config = record.config
    config["dataset"] |= {"source": "path", "root": "clouds"}
    config["recipes"]["first"]["start"] = "file:mine.safetensors"
    here = {"recipes": {"first": {"start": "file:weights/mine.safetensors"}}}
    write_config(tmp_path / "again", record, here, "data/my clouds")
    written = yaml.safe_load((tmp_path / "again/config.yaml").read_text())
    assert written["dataset"]["root"] == str(Path.cwd() / "data/my clouds")
    assert written["recipes"]["first"]["start"] == f"file:{Path.cwd() / 'weights/mine.safetensors'}"
    with pytest.raises(ConfigError, match=r"recipes\.first\.start: .*--configfile"):
        write_config(tmp_path / "again", record, {}, "data/clouds")


def test_tables_of_the_user_are_where_the_config_here_has_them(tmp_path):
    record = record_of(plan(recipes, SHEET, tmp_path), tmp_path)
    record.config["dataset"] |= {"exclude": "out.txt"}
    record.config["folds"] |= {"groups": "scene", "table": "images.tsv"}
    here = {"dataset": {"exclude": "a/out.txt"}, "folds": {"groups": "scene", "table": "/b/images.tsv"}}
    write_config(tmp_path / "again", record, here, "data/clouds")
    written = yaml.safe_load((tmp_path / "again/config.yaml").read_text())
    assert written["dataset"]["exclude"] == str(Path.cwd() / "a/out.txt")
    assert (written["folds"]["groups"], written["folds"]["table"]) == ("scene", "/b/images.tsv")
    with pytest.raises(ConfigError, match=r"folds\.table: .* made with images.tsv, .*--configfile"):
        write_config(tmp_path / "again", record, here | {"folds": {"table": "other.tsv"}}, "data/clouds")


def test_a_table_that_says_something_else_now_is_named(tmp_path):
    (tmp_path / "out.txt").write_text("a.jpg\n")
    (tmp_path / "mine.tsv").write_text("image\tfold\na.jpg\t0\nb.jpg\t1\n")

    def own_tables(config):
        recipes(config)
        config["dataset"] |= {"exclude": str(tmp_path / "out.txt")}
        config["folds"] = {"count": 2, "file": str(tmp_path / "mine.tsv")}

    then = plan(own_tables, SHEET, tmp_path)
    tables = then.chain("all").facts["tables"]
    record = record_of(then, tmp_path)
    record = record.model_copy(update={"images": record.images.model_copy(update={"tables": tables})})
    here = {"dataset": {"exclude": str(tmp_path / "out.txt")}, "folds": {"file": str(tmp_path / "mine.tsv")}}
    write_config(tmp_path / "again", record, here, "data/clouds")
    (tmp_path / "mine.tsv").write_text("image\tfold\na.jpg\t1\nb.jpg\t1\n")
    with pytest.raises(ConfigError, match=r"folds\.file: .*mine\.tsv says something else than it did"):
        write_config(tmp_path / "again", record, here, "data/clouds")


def test_those_that_label_test_images_are_asked_for_as_they_were(tmp_path, monkeypatch):
    def taught(config):
        recipes(config)
        config["recipes"]["second"] |= {"pseudo": {"ensemble": "teachers", "soft": True}}
        config["ensembles"]["teachers"] = {"members": "decoder == 'unet'", "checkpoints": ["last"]}
        config["ensembles"]["other"] = {"members": "recipe == 'first'"}

    then = plan(taught, SHEET, tmp_path)
    write_config(tmp_path / "again", record_of(then, tmp_path), {}, "data/clouds")
    monkeypatch.chdir(tmp_path / "again")
    again = Plan(yaml.safe_load(Path("config.yaml").read_text()), REPO)
    assert list(again.config.ensembles) == ["all", "teachers"]
    chains = [each.chain("all") for each in (then, again)]
    for name in ("asked", "members", "sheet_rows", "further_inputs"):
        assert getattr(chains[1], name) == getattr(chains[0], name)
    for name in ("pseudo", "earlier"):
        assert chains[1].facts[name] == chains[0].facts[name]


def test_one_call_at_a_time_works_in_a_folder_and_what_a_failed_one_left_stays(tmp_path):
    folder = tmp_path / "place"
    with pytest.raises(RuntimeError), workplace(folder):
        (folder / "half").write_text("half")
        with pytest.raises(MachineError, match="another call"), workplace(folder):
            pass
        raise RuntimeError
    assert (folder / "half").is_file()
    with workplace(folder):
        assert (folder / "half").is_file()
    assert list(tmp_path.iterdir()) == []


def test_runs_that_those_of_members_go_back_to_are_taken_too(tmp_path):
    results, scratch = tmp_path / "results/tiny", tmp_path / "scratch"
    runs = [f"resnet/fpn/64x96/quick/fold{fold}" for fold in ("0", "0-seed7", "1", "all", "x")]
    for run in runs:
        files.write_text(results / "runs" / run / FOLDER / "a/best.safetensors", "best\n")
    folds = [training(0), training(1)]
    full = training(0) | {"run": runs[3], "fold": "all", "epochs_of": [each["run"] for each in folds]}
    on_all = member(0, "best") | {"run": runs[3], "fold": "all", "predictions": {"test": prediction()}}
    record = provenance(write_csv(tmp_path / "s.csv"), members=[on_all], trainings=[full], earlier=folds)
    known = Known(tmp_path / "provenance.json", record, results)
    _copy_finished(known, Lacking({}, [], {folds[1]["run"]: "gone"}), scratch)
    found = sorted(path.parent.name for path in (scratch / "results/tiny/runs").glob("*/*/*/*/*/finished"))
    assert found == ["fold0", "foldall"]
    _copy_finished(known, Lacking({}, []), scratch)
    assert (scratch / "results/tiny/runs" / folds[1]["run"] / FOLDER).is_dir()


def test_of_a_search_the_finished_trainings_that_it_did_not_choose_are_taken_too(tmp_path):
    results, scratch = tmp_path / "results/tiny", tmp_path / "scratch"
    runs = [f"resnet/fpn/64x96/quick/fold{fold}" for fold in (0, 1)]
    other = "resnet/fpn/64x96/slow/fold0"
    for run in [*runs, other]:
        files.write_text(results / "runs" / run / FOLDER / "a/best.safetensors", "best\n")
    plain = {"candidates": ["a"], "all": {"power": None, "counts": {"a": 1}}}
    search = {"sha256": "7" * 64, "plain": plain, "asked": {}}
    record = provenance(
        write_csv(tmp_path / "s.csv"), members=[member(0, "best")], trainings=[training(0)], search=search
    )
    for asked, taken in ((record, runs), (record.model_copy(update={"search": None}), runs[:1])):
        _copy_finished(Known(tmp_path / "provenance.json", asked, results), Lacking({}, []), scratch)
        found = sorted((scratch / "results/tiny/runs").glob("*/*/*/*/*"))
        assert [path.relative_to(scratch / "results/tiny/runs").as_posix() for path in found] == taken
        shutil.rmtree(scratch)
    _copy_finished(Known(tmp_path / "provenance.json", record, results), Lacking({runs[1]: "gone"}, []), scratch)
    assert not (scratch / "results/tiny/runs" / runs[1]).exists()
