"""Configs that are refused, with the place and how to mend it, before anything runs."""

import copy
import datetime
import json
import sys

import pytest
import yaml
from demo_plan import DEMO, REPO, ROW, SHEET, plan, setting

from cloudseg.workflow.notices import refuse_values
from cloudseg.workflow.plan import Plan


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (setting("recipes.quick.epoch", 3), "recipes.quick: unknown key 'epoch' (nearest: epochs)"),
        (setting("nam", 3), "unknown key 'nam' (nearest: name)"),
        (setting("decision.threshold", 1.5), "decision.threshold: expected at most 1, got 1.5"),
        (
            setting("decision.threshold", {"Fish": 0.5}),
            "decision.threshold: expected one number per class (Fish, Flower, Gravel, Sugar), got Fish",
        ),
        (setting("decision.min_size", -1), "decision.min_size: expected at least 0, got -1"),
        (setting("folds.count", 1), "folds.count: expected at least 2, got 1"),
        (
            setting("submission_size", "0x0"),
            "submission_size: expected height x width in pixels, such as 350x525, got '0x0'",
        ),
        (setting("submission", "al"), "submission: no ensemble 'al' (nearest: all)"),
        (
            setting("ensembles.all.members", "decoder == 'psp'"),
            "ensembles.all: query `decoder == 'psp'`: selects no run",
        ),
        (setting("ensembles.all.members", "decoder == fpn"), "text needs quotes"),
        (setting("ensembles.all.members", "encoder.to_csv('x') == 1"), "is not allowed"),
        (setting("ensembles.all.members", "decoder == @x"), "not a comparison"),
        (
            setting("ensembles.all.members", [{"query": "fold == 0"}, {"query": "decoder == 'fpn'"}]),
            "one run is selected twice: tu-tf_efficientnet_lite0/fpn/96x144/quick/0",
        ),
        (setting("ensembles.all.sharpen", 0), "ensembles.all.sharpen: expected more than 0, got 0"),
        (setting("ensembles.all.members", [{"query": "fold == 0", "weight": -1}]), "more than 0"),
        (setting("dataset", {"source": "path", "root": "/nowhere"}), "dataset.root: '/nowhere' is no folder"),
        (
            setting("dataset.classes", [str(n) for n in range(65)]),
            "dataset.classes: expected at most 64 entries, got 65",
        ),
        (setting("recipes.quick.start", "imagnet"), "recipes.quick.start: expected imagenet, none, file:PATH"),
        (setting("recipes.quick.start", "file:/nowhere.safetensors"), "'/nowhere.safetensors' is no file"),
        (setting("recipes.quick.start", "run:fpn/64x96/quick"), "which the sheet does not train"),
        (setting("recipes.quick.tta", []), "recipes.quick.tta: expected at least 1 entry, got 0"),
        (setting("recipes.quick.loss", {"bse": 1}), "unknown key 'bse' (nearest: bce)"),
        (setting("experiments", "nowhere.tsv"), "nowhere.tsv: no such experiment sheet"),
        (
            setting("name", "../demo"),
            "name: expected a name of lower-case letters, digits and hyphens, such as my-clouds, got '../demo'",
        ),
        (setting("device", "gpu"), "device: expected one of auto, cuda, cpu, got 'gpu'"),
        (setting("name", "demo\n"), "such as my-clouds, got 'demo\\n'"),
        (
            setting("decision.threshold", float("nan")),
            "decision.threshold: expected a number from 0.001 to 1, or one per class, such as 0.5",
        ),
        (setting("recipes.quick.learning_rate", float("inf")), "learning_rate: expected a number, got inf"),
        (setting("seed", datetime.date(2019, 11, 4)), "seed: expected a whole number, got '2019-11-04'"),
        (setting("dataset", {"source": "path", "root": "a{x}"}), "dataset.root: expected a folder without any of"),
        (setting("min_sizes", [10**30]), "at most 2000000000"),
        (setting("dataset.classes", ["all", "image"]), "'all' has a meaning of its own"),
        (
            setting("recipes.quick.augmentation", [{"name": "Rotate", "limits": 30}]),
            "recipes.quick.augmentation: step 1: Rotate has no argument 'limits' (nearest: limit)",
        ),
        (
            setting(
                "recipes.quick.augmentation", [{"name": "OneOf", "transforms": [{"name": "NoOp"}, {"name": "Flop"}]}]
            ),
            "recipes.quick.augmentation: step 1.2: no transform 'Flop'",
        ),
        (
            setting("recipes.quick.tta", [{"view": "turned"}]),
            "tta.0.view: expected one of identity, horizontal, vertical, both, got 'turned'",
        ),
        (
            setting("recipes.quick.tta", "recipes"),
            "tta: expected `recipe` or a list of views, such as [identity, horizontal]",
        ),
        (
            lambda config: config["recipes"]["quick"].update(tta="recipe", augmentation=[{"name": "ElasticTransform"}]),
            "recipes.quick.tta: augmentation, step 1: ElasticTransform",
        ),
        (
            setting("recipes.quick.tta", [{"view": "identity", "scale": 0.25}]),
            "a view of recipe quick makes 96x144 24 pixels small",
        ),
        (setting("recipes.quick.schedule", "cosin"), "got 'cosin' (nearest: cosine"),
        (
            setting("recipes.quick.canvas", "x4"),
            "recipes.quick.canvas: expected height x width in pixels, such as 700x1050, got 'x4'",
        ),
        (
            setting("recipes.quick.patience", 6),
            "recipes.quick.patience: expected 0, got 6: a training that stops before the end of `schedule: cosine`",
        ),
        (
            lambda config: config["recipes"]["quick"].update(patience=2, schedule="one_cycle"),
            "before the end of `schedule: one_cycle`",
        ),
        (setting("recipes.quick.validation", {"min_size": 9}), "recipes.quick.validation: unknown key 'min_size'"),
        (
            setting("class_rates", {"Fish": 0.5, "Flour": 0.5}),
            "class_rates: expected one number per class (Fish, Flower, Gravel, Sugar), got Fish, Flour",
        ),
        (setting("folds.groups", "^(scene"), "folds.groups: no regular expression: missing ), unterminated subpattern"),
        (setting("folds.groups", "^(scene"), "in '^(scene'; to name a column of a table, give the table as `folds.ta"),
        (setting("folds.groups", 7), "folds.groups: expected text or null, got 7 (put it in quotes: '7')"),
        (setting("folds.table", "a.tsv"), "folds.table: says nothing without `folds.groups`"),
        (setting("folds", {"groups": "day", "table": "/no.tsv"}), "folds.table: /no.tsv: cannot be read (No such file"),
        (setting("folds.file", "/no.tsv"), "folds.file: /no.tsv: cannot be read (No such file"),
        (setting("folds.file", "a{x}.tsv"), "folds.file: expected a file without any of {}<>*? in its name"),
        (
            setting("folds", {"file": "/no.tsv", "stratify_by": "shift"}),
            "folds.stratify_by: expected labels, got shift: `folds.file` says which image is in which fold",
        ),
        (setting("dataset.exclude", "/no.txt"), "dataset.exclude: /no.txt: cannot be read (No such file"),
        (setting("dataset.scenes", 101), "dataset.scenes: expected at most 100 (dataset.train), got 101"),
        (setting("dataset.scenes", 1), "dataset.scenes: expected at least 2, got 1"),
        (
            setting("dataset", {"source": "kaggle", "scenes": 5}),
            "dataset.scenes: the demo's images alone are cut out of scenes, and `source` is kaggle",
        ),
        (
            setting("class_rates", {}),
            "class_rates: expected one number per class (Fish, Flower, Gravel, Sugar), got none",
        ),
    ],
)
def test_bad_configs_are_refused_with_place_and_mend(change, complaint):
    with pytest.raises(ValueError, match=r"problem|experiment sheet") as error:
        plan(change)
    assert complaint in str(error.value)
    assert len(str(error.value).splitlines()) < 25


def test_a_start_file_is_looked_at_before_anything_runs(tmp_path):
    path = tmp_path / "start.safetensors"
    change = setting("recipes.quick.start", f"file:{path}")

    def complaint():
        with pytest.raises(ValueError, match=r"line 2: recipes\.quick\.start: .*start\.safetensors: ") as error:
            plan(change, sheet=SHEET + ROW, folder=tmp_path)
        return str(error.value)

    def write(metadata, header=None, shape=(3,)):
        tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 12]}
        table = json.dumps({"__metadata__": metadata, "a": tensor} if header is None else header).encode()
        path.write_bytes(len(table).to_bytes(8, "little") + table + bytes(12))

    path.write_bytes(b"PK\x03\x04" + bytes(1000))
    assert "no safetensors file (the header is cut short); save the weights with safetensors" in complaint()
    for header in ([], {}, {"a": 3}, {"a": {"data_offsets": "0"}}, {"a": {"data_offsets": [0, 1e999]}}):
        write({}, header)
        assert "no safetensors file" in complaint()
    write({"cloudseg": '{"encoder": "resnet34"}'})
    assert "expected weights of tu-test_resnet, got those of resnet34" in complaint()
    for metadata in (3, [], {"cloudseg": 3}, {"cloudseg": "[" * 100000}, {"cloudseg": '{"encoder": ["resnet34"]}'}):
        write(metadata)
        complaint()
    for metadata in ({}, {"format": "pt"}, {"cloudseg": '{"encoder": "tu-test_resnet"}'}):
        write(metadata)
        plan(change, sheet=SHEET + ROW, folder=tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "no safetensors file (it is cut short)" in complaint()


def test_an_augmentation_that_changes_the_size_is_found_before_anything_runs(tmp_path):
    crop = {"name": "RandomCrop", "height": 48, "width": 64}

    def change(config):
        config["recipes"]["quick"]["augmentation"] = [{"name": "OneOf", "transforms": [{"name": "NoOp"}, crop]}]

    where = r"line 2: recipes\.quick\.augmentation: step 1: "
    for size, came in (("64x96", "64x96"), ("x8", "175x263")):
        with pytest.raises(ValueError, match=rf"{where}RandomCrop makes 48x64 of {came}"):
            plan(change, sheet=SHEET + ROW.replace("64x96", size), folder=tmp_path)

    def with_a_canvas(config):
        change(config)
        config["recipes"]["quick"]["canvas"] = "48x64"

    plan(with_a_canvas, sheet=SHEET + ROW, folder=tmp_path)
    for step, problem in (("Mosaic", "needs more than an image and its mask"), ("Resize", "needs height, width")):
        with pytest.raises(ValueError, match=f"step 1: {step} {problem}"):
            plan(setting("recipes.quick.augmentation", [{"name": step}]))


def test_values_that_albumentations_refuses_are_found_before_anything_runs(tmp_path, monkeypatch):
    def change(limit):
        return setting(
            "recipes.quick.augmentation", [{"name": "Sequential", "transforms": [{"name": "Rotate", "limit": limit}]}]
        )

    refuse_values(plan(change([-30, 30])), tmp_path / "marks")
    with pytest.raises(ValueError, match=r"recipes\.quick\.augmentation, step 1\.1: limit.*: .*, got 'wide'") as error:
        refuse_values(plan(change("wide")), tmp_path / "marks")
    assert len(str(error.value).splitlines()) == 2
    monkeypatch.setitem(sys.modules, "albumentations", None)  # whose import takes two seconds
    refuse_values(plan(change([-30, 30])), tmp_path / "marks")
    refuse_values(plan(), tmp_path / "marks")


def nested(levels):
    step = {"name": "NoOp"}
    for _ in range(levels):
        step = {"name": "OneOf", "transforms": [step]}
    return [step]


def test_a_config_that_is_nested_too_deeply_is_refused_in_words():
    plan(setting("recipes.quick.augmentation", nested(20)))
    circle = {"name": "OneOf"}
    circle["transforms"] = [circle]
    for steps in (nested(300), nested(100_000), [circle]):
        with pytest.raises(ValueError, match="nested more than 50 levels deep") as error:
            plan(setting("recipes.quick.augmentation", steps))
        assert "recipes.quick.augmentation.0.transforms" in str(error.value)
        assert len(str(error.value)) < 400


def test_a_config_that_aliases_make_endless_is_refused():
    config = copy.deepcopy(DEMO)
    config["pathvars"] = yaml.safe_load(
        "{a0: &a0 [1, 1]" + "".join(f", a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)) + "}"
    )
    with pytest.raises(ValueError, match="too large to read"):
        Plan(config, REPO)


def test_keys_that_are_no_text_are_named():
    with pytest.raises(ValueError, match=r"pathvars\.2019-11-04: a key must be text; put it in quotes"):
        plan(setting("pathvars", {datetime.date(2019, 11, 4): "x"}))


def test_a_problem_is_said_once():
    with pytest.raises(ValueError, match="5 problems") as error:
        Plan({"name": "x"}, REPO)
    lines = str(error.value).splitlines()
    assert len(lines) == len(set(lines)) == 6


def test_all_problems_are_said_at_once():
    def change(config):
        config["nam"] = 1
        config["decision"]["threshold"] = 2
        config["recipes"]["quick"]["epoch"] = 1

    with pytest.raises(ValueError, match="3 problems") as error:
        plan(change)
    assert len(str(error.value).splitlines()) == 4


def test_patience_is_for_schedules_that_wait():
    for schedule in ("plateau", "constant"):
        plan(lambda config, name=schedule: config["recipes"]["quick"].update(patience=2, schedule=name))


def test_dice_alone_is_for_all_classes_together():
    change = setting("recipes.quick.loss", {"dice": 1})
    with pytest.raises(ValueError, match="dice alone says nothing about a class that a batch lacks"):
        plan(change)
    plan(lambda config: [change(config), setting("recipes.quick.dice_over", "all")(config)])
