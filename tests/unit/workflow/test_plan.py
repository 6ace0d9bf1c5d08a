"""The plan: what a config and its sheet become."""

import copy
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from demo_plan import DEMO, REPO, ROW, SHEET, plan, quick, setting

from cloudseg.config.checks import fixed_min_sizes
from cloudseg.config.recipe import Recipe, Validation, View
from cloudseg.workflow.notices import warnings
from cloudseg.workflow.plan import Plan


def test_a_whole_number_may_be_written_with_a_point(tmp_path):
    def change(config):
        config["folds"]["count"] = 4.0
        config["recipes"]["quick"] |= {"epochs": 10.0, "micro_batch": 4.0}
        config["min_sizes"] = [0.0, 50.0]
        config["decision"] = {"min_size": {"Fish": 1.0, "Flower": 2, "Gravel": 3, "Sugar": 4}}

    made = plan(change, sheet=SHEET + ROW.replace("\t2\t", "\t2.0\t"), folder=tmp_path)
    numbers = [made.dataset.folds, *made.config.min_sizes, *made.config.decision.min_size.values()]
    numbers += [
        *made.sheet.experiments["folds"].tolist(),
        *(quick(made).recipe.epochs, quick(made).recipe.micro_batch),
    ]
    assert numbers == [4, 0, 50, 1, 2, 3, 4, 2, 10, 4]
    assert all(type(number) is int for number in numbers)
    assert [made.config.recipes["quick"].learning_rate, made.sheet.runs["fold"].tolist()] == [0.002, [0, 1]]


@pytest.mark.parametrize("text", ["2e-3", "2.E-3", ".2e-2", "0.002"])
def test_numbers_with_an_exponent_are_numbers(text):
    made = plan(setting("recipes.quick", yaml.safe_load(f"{{learning_rate: {text}, ema: 9e-1}}")))
    assert (quick(made).recipe.learning_rate, quick(made).recipe.ema) == (0.002, 0.9)


def test_short_forms_mean_what_the_long_ones_do():
    def short(config):
        config["recipes"]["quick"]["tta"] = ["identity", {"view": "both", "scale": 0.5}]
        config["ensembles"]["all"]["members"] = ["decoder == 'fpn'", {"query": "decoder == 'unet'", "weight": 2}]
        config["decision"] = {"threshold": [0.1, 0.2, 0.3, "4e-1"], "min_size": [1, 2, 3, 4]}

    def long(config):
        config["recipes"]["quick"]["tta"] = [{"view": "identity"}, {"view": "both", "scale": 0.5}]
        queries = [{"query": "decoder == 'fpn'"}, {"query": "decoder == 'unet'", "weight": 2}]
        config["ensembles"]["all"]["members"] = queries
        classes = ["Fish", "Flower", "Gravel", "Sugar"]
        config["decision"] = {
            "threshold": dict(zip(classes, [0.1, 0.2, 0.3, 0.4], strict=True)),
            "min_size": dict(zip(classes, [1, 2, 3, 4], strict=True)),
        }

    one, other = plan(short), plan(long)
    assert one.config == other.config
    assert one.ensembles == other.ensembles


def own_data(folder, **dataset):
    def change(config):
        config["dataset"] = {"source": "path", "root": str(folder), **dataset}
        del config["decision"]
        del config["ensembles"]["fpn"]

    return change


def test_images_of_ones_own_inherit_no_number_of_the_contest(tmp_path):
    with pytest.raises(ValueError, match="submission_size: the key is missing; write the height x width of the masks"):
        plan(own_data(tmp_path))

    def change(config):
        own_data(tmp_path)(config)
        config["submission_size"] = "175x1050"

    made = plan(change)
    assert made.ensemble("all").decision_rule["min_sizes"] == [0, 0, 0, 0]
    assert made.config.min_sizes == plan().config.min_sizes  # as large a grid as the contest's
    assert plan().dataset.submission_size == (350, 525)
    assert plan(lambda config: config.pop("decision")).config.decision.min_size == 5000

    def small(config):
        own_data(tmp_path)(config)
        config["submission_size"] = "35x53"

    assert plan(small).config.min_sizes[:3] + plan(small).config.min_sizes[-1:] == (0, 2, 5, 302)


def test_the_config_to_copy_for_images_of_ones_own_has_no_number_of_the_contest(tmp_path):
    config = yaml.safe_load((REPO / "config/own.yaml").read_text())
    config["dataset"] |= {"root": str(tmp_path)}
    with pytest.raises(ValueError, match="submission_size: the key is missing"):
        Plan(config, REPO)
    made = Plan(config | {"submission_size": "512x512"}, REPO)
    assert made.dataset.classes == ["cloud"]
    assert {ensemble.decision.min_size for ensemble in made.ensembles.values()} == {0}
    assert fixed_min_sizes(made.config) == {}
    assert set(made.sheet.experiments["recipe"]) == set(config["recipes"])
    text = (REPO / "config/own.yaml").read_text()
    assert not [number for number in ("350", "525", "5546", "3698", "5000", "10000", "1400", "2100") if number in text]


def test_row_order_and_spelling_of_numbers_change_no_parameter(tmp_path):
    rows = [ROW, ROW.replace("fpn", "unet")]
    one = plan(sheet=SHEET + "".join(rows), folder=tmp_path)
    two = plan(sheet=SHEET + "".join(reversed(rows)), folder=tmp_path)
    assert repr(one.blend("all", "test").members) == repr(two.blend("all", "test").members)

    def floats(config):
        recipe = {
            key: float(value) if isinstance(value, int) else value for key, value in config["recipes"]["quick"].items()
        }
        config["recipes"]["quick"] = dict(reversed(recipe.items())) | {"loss": {"dice": 1.0, "bce": 1}, "clip": 1.0}

    assert repr(quick(plan(floats)).training_recipe) == repr(quick(plan()).training_recipe)


def test_an_augmentation_is_told_to_the_prediction_that_undoes_it():
    assert "augmentation" not in quick(plan()).prediction_recipe

    def recipe(config):
        config["recipes"]["quick"] |= {"tta": "recipe", "augmentation": [{"name": "HorizontalFlip", "p": 0.1}]}

    told = quick(plan(recipe)).prediction_recipe
    assert told["augmentation"] == [{"name": "HorizontalFlip", "p": 0.1}]


def test_a_canvas_is_a_store_of_its_own():
    made = plan(setting("recipes.quick.canvas", "700x1050"))
    assert quick(made).canvas_store == "<results>/dataset/train/700x1050.zarr"
    assert quick(plan()).canvas_store == []
    assert "700x1050" in made.wildcards["size"]


def test_training_is_not_told_what_only_prediction_needs():
    def views(config):
        config["recipes"]["quick"]["tta"] = [{"view": "identity"}]

    assert quick(plan(views)).training_recipe == quick(plan()).training_recipe
    assert quick(plan(views)).prediction_recipe != quick(plan()).prediction_recipe
    assert Recipe(**quick(plan(views)).prediction_recipe).tta == (View(view="identity", scale=1, weight=1),)


def test_minimum_sizes_to_check_are_those_of_fixed_decisions():
    def change(config):
        config["dataset"]["classes"] = ["a", "b"]
        config["ensembles"]["own"] = {"members": "fold == 0", "decision": {"min_size": [7, 0]}}
        config["ensembles"]["none"] = {"members": "fold == 0", "decision": {"min_size": 0}}

    assert fixed_min_sizes(plan(change).config) == {
        "decision": {"a": 5000, "b": 5000},
        "ensembles.own.decision": {"a": 7, "b": 0},
    }


def test_what_the_machine_is_too_small_for_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert warnings(plan(setting("threads", 4))) == []
    assert warnings(plan(setting("threads", 5))) == [
        "threads: 5, and this machine has 4 cores: jobs that run here get slower"
    ]
    made = plan()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=(made.megabytes - 1) * 10**6))
    (warning,) = warnings(made)
    assert f"the stores take about {made.megabytes} MB, and the disk has {made.megabytes - 1} MB free" in warning
    (tmp_path / "results/demo").mkdir(parents=True)
    (tmp_path / "results/demo/store").write_bytes(bytes(2 * 10**6))
    assert warnings(made) == []


def test_smoke_is_small_and_lies_elsewhere():
    made = plan(setting("smoke", "true"))
    assert made.name == "demo-smoke"
    assert made.dataset.demo == {"train": 24, "test": 8}
    assert made.config.recipes["quick"].epochs == 3


def test_smoke_of_the_contest_takes_the_demos_images_and_random_weights():
    config = yaml.safe_load((REPO / "config/kaggle.yaml").read_text()) | {"smoke": True}
    made = Plan(config, REPO)
    assert made.config.dataset.source == "demo"
    assert made.run("efficientnet-b2", "fpn", "x4", "flips").start == "none"
    assert made.run("tu-tf_efficientnet_lite0", "fpn", "x4", "flips").start == "imagenet"


def test_scores_of_the_contest_are_read_for_this_config_alone(tmp_path):
    table = tmp_path / "posted.tsv"
    table.write_text("config\tname\tbest\tlast\tsingle\ndemo\tall\t0.65\t\t.651\nother\tnothing\t2\t\t\n")
    assert plan(setting("leaderboard", str(table))).public_scores == {"all": {"best": 0.65, "single": 0.651}}
    table.write_text("config\tname\tbest\tlast\tsingle\ndemo\tal\t1.5\t\t\n")
    with pytest.raises(ValueError, match="2 problems") as error:
        plan(setting("leaderboard", str(table)))
    assert "line 2: no experiment or ensemble 'al' (nearest: all)" in str(error.value)
    assert "expected a score from 0 to 1, got '1.5'" in str(error.value)
    assert plan(setting("leaderboard", str(tmp_path / "none.tsv"))).public_scores == {}


def test_images_are_counted_where_they_lie_and_stray_files_are_none(tmp_path):
    for name in ("train_images/a.jpg", "train_images/.DS_Store", "train_images/notes.txt", "test_images/b.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"one")

    def change(config):
        config |= {"dataset": {"source": "path", "root": str(tmp_path)}, "submission_size": "350x525"}

    assert plan(change).dataset.counts == {"train": 1, "test": 1}


def test_start_from_another_run_takes_the_same_fold(tmp_path):
    def change(config):
        config["recipes"]["finer"] = {"start": "run:fpn/64x96/quick"}

    sheet = SHEET + ROW + ROW.replace("quick", "finer").replace("64x96", "128x192")
    made = plan(change, sheet=sheet, folder=tmp_path)
    weights = made.run("tu-test_resnet", "fpn", "128x192", "finer", "1").initial_weights
    assert weights == "<results>/weights/tu-test_resnet/run-fpn-64x96-quick-fold1.safetensors"
    start = made.initial_weights("tu-test_resnet", "run-fpn-64x96-quick-fold1")
    assert start.file == []
    assert start.checkpoint == ["<results>/runs/tu-test_resnet/fpn/64x96/quick/fold1/last.safetensors"]


def test_a_file_in_the_way_of_results_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/demo").mkdir(parents=True)
    (tmp_path / "results/demo/runs").write_text("in the way")
    with pytest.raises(ValueError, match="results/demo/runs: a file is where"):
        plan()


def test_a_training_is_one_job_of_a_cluster_with_the_prediction_of_its_fold(tmp_path):
    rows = ROW + ROW.replace("\t2\t\n", "\t2\t7\ttrue\n")
    made = plan(sheet=SHEET.replace("note", "seed\tfull") + rows.replace("\t2\t\n", "\t2\t\t\n"), folder=tmp_path)
    runs = [made.run(**job) for job in made.jobs["train"]]
    assert len(runs) == 5
    assert len({run.group for run in runs}) == 5  # those on all images need the folds
    job = made.jobs["train"][0]
    assert made.prediction(split="valid", **job).group == runs[0].group
    # Side by side with it they would ask for a second GPU
    assert made.prediction(split="test", **job).group is None
    assert made.prediction(split="valid", **job).average_group is None


def test_parsing_imports_no_torch():
    code = "import sys, cloudseg.workflow.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_decision_changes_no_training_and_the_validation_of_a_recipe_does():
    def recipe(change=None):
        return quick(plan(change)).training_recipe

    for change in (
        setting("decision", {"threshold": 0.6, "min_size": 9000}),
        setting("decision", {"how": "tune"}),
        setting("ensembles.fpn.decision", {"how": "grid"}),
        setting("recipes.quick.validation", {"threshold": 0.5}),  # the default
    ):
        assert recipe(change) == recipe()
    assert Recipe(**recipe()).validation == Validation(threshold=0.5, min_area=0.025)
    assert recipe(setting("recipes.quick.validation", {"threshold": 0.6})) != recipe()


def test_the_validation_of_own_images_has_no_minimum_size_unless_asked_for(tmp_path):
    def min_area(**validation):
        config = copy.deepcopy(DEMO) | {"dataset": {"source": "path", "root": str(tmp_path)}}
        config |= {"submission_size": "210x315"}
        config["recipes"]["quick"]["validation"] = validation
        recipe = quick(Plan(config, REPO)).training_recipe
        return Recipe(**recipe).validation.min_area

    assert (min_area(), min_area(min_area=0.01)) == (0, 0.01)


def test_the_explorer_may_show_the_submission_then_other_ensembles_then_its_last_checkpoints():
    def change(config):
        config["submission"] = "fpn"

    made = plan(change)
    assert made.explored == ["fpn", "all", "tu-tf-efficientnet-lite0-fpn-96x144-quick-2-last"]
    change_of_checkpoints = setting("ensembles.all.checkpoints", ["best"])
    assert [name.rsplit("-")[-1] for name in plan(change_of_checkpoints).explored] == ["all", "fpn", "best", "best"]
