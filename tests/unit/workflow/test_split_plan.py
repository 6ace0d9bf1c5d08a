"""What the jobs of the split and of the dataset check are told of groups, of one's own split and of left out images."""

import os

import pytest
from demo_plan import plan, setting

from cloudseg.config.reading import read_config
from cloudseg.workflow.plan import Plan

TABLE = "image\tscene\tfold\na.jpg\tnorth\t0\nb.jpg\tsouth\t1\n"


def changed(**keys):
    def change(config):
        for path, value in keys.items():
            setting(path.replace("__", "."), str(value))(config)
        config["folds"]["count"] = 2
        config["experiments"] = "config/experiments.tsv"

    return change


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "images.tsv"
    path.write_text(TABLE)
    return path


def split(table, **keys):
    return plan(changed(**keys)).dataset


def test_what_is_off_adds_nothing_to_any_job():
    dataset = plan().dataset
    assert (dataset.split_params, dataset.split_tables, dataset.split_facts, dataset.excluded) == ({}, {}, {}, [])
    assert plan().images("train").exclude == []
    assert " without " not in plan().images("train").contents
    assert "scenes" not in dataset.demo


def test_a_pattern_is_a_param_and_a_table_an_input(table):
    by_name = split(table, folds__groups="^(a|b)")
    assert (by_name.split_params, by_name.split_tables) == ({"groups": "^(a|b)"}, {})
    by_table = split(table, folds__groups="scene", folds__table=table)
    assert by_table.split_tables == {"table": str(table)}
    assert by_table.split_params["groups"] == "scene"
    own = split(table, folds__file=table)
    assert own.split_tables == {"file": str(table)}
    assert own.split_facts == by_table.split_facts == by_name.split_facts == {"split": "<results>/dataset/split.json"}


@pytest.mark.parametrize("keys", [{"folds__groups": "scene", "folds__table": "table"}, {"folds__file": "table"}])
def test_what_a_table_says_decides_and_neither_its_times_nor_its_form(table, keys):
    keys = {key: table if value == "table" else value for key, value in keys.items()}
    before = split(table, **keys).split_params
    os.utime(table, (0, 0))
    assert split(table, **keys).split_params == before
    table.write_text("fold,day,image,scene\n1,x,b.jpg,south\n\n0,y,a.jpg,north\n")
    assert split(table, **keys).split_params == before
    table.write_text(TABLE.replace("south\t1", "north\t0"))
    assert split(table, **keys).split_params != before


def test_a_list_of_images_to_leave_out_counts_for_training_images_alone(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("b.jpg\na.jpg\n")
    change = setting("dataset.exclude", str(path))
    made, plain = plan(change), plan()
    train = made.images("train").contents
    assert train != plain.images("train").contents
    assert made.images("test").contents == plain.images("test").contents
    assert made.images("train").exclude == [str(path)]
    assert made.dataset.counts == {"train": plain.dataset.counts["train"] - 2, "test": plain.dataset.counts["test"]}
    path.write_text("# both\na.jpg\nb.jpg\na.jpg\n")
    assert plan(change).images("train").contents == train
    path.write_text("a.jpg\n")
    assert plan(change).images("train").contents != train


def test_a_smoke_run_deals_its_few_images_by_their_labels_alone(table, tmp_path):
    (tmp_path / "out.txt").write_text("a.jpg\n")
    keys = {"folds__groups": "scene", "folds__table": table, "dataset__exclude": tmp_path / "out.txt"}

    def smoke(config):
        changed(**keys)(config)
        config["smoke"] = True

    dataset = plan(smoke).dataset
    assert (dataset.split_params, dataset.split_tables, dataset.excluded) == ({}, {}, [])
    assert plan(smoke).images("train").exclude == []


def test_a_smoke_run_of_ones_own_images_chooses_among_those_that_are_not_left_out(small_images, tmp_path):
    (tmp_path / "out.txt").write_text("a.jpg\n")

    def smoke(config):
        config |= {"smoke": True, "submission_size": "35x52"}
        config["dataset"] = {"source": "path", "root": str(small_images), "exclude": str(tmp_path / "out.txt")}

    made = plan(smoke)
    assert made.dataset.config.dataset.exclude == str(tmp_path / "out.txt")
    assert made.images("train").exclude == []
    assert made.dataset.counts["train"] == 11
    (tmp_path / "out.txt").write_text("b.jpg\n")
    assert plan(smoke).dataset.digests != made.dataset.digests


def test_a_config_with_all_of_it_is_read_back_as_it_is_written(table, tmp_path):
    raw = plan(changed(folds__groups="scene", folds__table=table)).config.model_dump(mode="json", exclude_none=True)
    assert read_config(raw) == Plan(raw).config
