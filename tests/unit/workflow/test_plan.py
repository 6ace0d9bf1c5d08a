import copy
import datetime
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudseg.config.checks import fixed_min_sizes
from cloudseg.config.recipe import Recipe, Validation, View
from cloudseg.workflow.notices import refuse_values, warnings
from cloudseg.workflow.plan import Plan

REPO = Path(__file__).parents[3]
DEMO = yaml.safe_load((REPO / "config/config.yaml").read_text())
SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\tnote\n"
ROW = "tu-test_resnet\tfpn\t64x96\tquick\t2\t\n"


def plan(change=None, sheet=None, folder=None):
    """A plan of the demo config with `change` applied, and its sheet replaced."""
    config = copy.deepcopy(DEMO)
    if sheet is not None:
        (folder / "sheet.tsv").write_text(sheet)
        config["experiments"] = str(folder / "sheet.tsv")
        config["ensembles"] = {"all": {"members": "fold >= 0"}}
    if change:
        change(config)
    return Plan(config, REPO)


def quick(plan):
    return plan.run("tu-tf_efficientnet_lite0", "fpn", "96x144", "quick")


def setting(path, value):
    def change(config):
        *parents, key = path.split(".")
        for parent in parents:
            config = config.setdefault(parent, {})
        config[key] = value

    return change


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


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (ROW.replace("fpn", "unett"), "line 2: no decoder 'unett' (nearest: unet"),
        (ROW.replace("quick", "quik"), "line 2: no recipe 'quik' (nearest: quick)"),
        (
            ROW.replace("64x96", "0x0"),
            "line 2: size: expected height x width in pixels, such as 384x576, or xN",
        ),
        (ROW.replace("64x96", "x0"), "line 2: size: expected height x width in pixels"),
        (ROW.replace("fpn", "pan"), "line 2: pan takes images of at least"),
        (ROW.replace("\t2\t", "\t5\t"), "line 2: folds: expected at most 4 (folds.count), got 5"),
        (ROW.replace("\t2\t", "\t0\t"), "line 2: folds: expected at least 1, got 0"),
        (ROW.replace("\t2\t", "\ttwo\t"), "line 2: folds: expected a whole number, got 'two'"),
        (ROW + "\n" + ROW, "line 4: the same experiment as line 2"),
        (ROW.replace("tu-test_resnet", "resnet43"), "line 2: no encoder 'resnet43' (nearest: "),
        (ROW.replace("tu-test_resnet", "tu-resnet18.a1"), "line 2: no encoder 'tu-resnet18.a1' (nearest: tu-resnet18"),
        (
            ROW.replace("tu-test_resnet", "resnext101_32x4d"),
            "line 2: there are no ImageNet weights for resnext101_32x4d",
        ),
        (ROW.replace("\t\n", "\tnote\tmore\n"), "line 2: expected 6 cells (the header), got 7"),
        (ROW.replace("tu-test_resnet", "../x"), "line 2: encoder: expected the name of an encoder, such as resnet34"),
        ("", "no experiments"),
    ],
)
def test_bad_sheets_are_refused_with_their_line(rows, complaint, tmp_path):
    with pytest.raises(ValueError, match=r"sheet\.tsv") as error:
        plan(sheet=SHEET + rows, folder=tmp_path)
    assert complaint in str(error.value)


def test_rows_whose_names_of_files_would_be_the_same_are_refused(tmp_path):
    rows = ROW.replace("quick", "a_b") + ROW.replace("quick", "a-b")
    with pytest.raises(ValueError, match="line 3: differs only in punctuation from line 2"):
        plan(setting("recipes", {"a_b": {}, "a-b": {}}), sheet=SHEET + rows, folder=tmp_path)


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


def test_columns_that_the_plan_adds_are_reserved(tmp_path):
    with pytest.raises(ValueError, match="the column fold has a meaning of its own"):
        plan(sheet=SHEET.replace("note", "fold") + ROW, folder=tmp_path)


def test_a_column_that_is_there_twice_is_named(tmp_path):
    with pytest.raises(ValueError, match="the column 'folds' is there twice"):
        plan(sheet=SHEET.replace("note", "folds ") + ROW, folder=tmp_path)


def test_a_sheet_of_another_encoding_is_named(tmp_path):
    (tmp_path / "sheet.tsv").write_text(SHEET + ROW, encoding="utf-16")
    with pytest.raises(ValueError, match=r"sheet\.tsv: not UTF-8 text"):
        plan(setting("experiments", str(tmp_path / "sheet.tsv")))


def test_a_run_cannot_start_from_itself(tmp_path):
    change = setting("recipes.quick.start", "run:fpn/64x96/quick")
    with pytest.raises(ValueError, match="starts from the run itself"):
        plan(change, sheet=SHEET + ROW, folder=tmp_path)


def test_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match="the columns folds are missing"):
        plan(sheet="encoder\tdecoder\tsize\trecipe\nx\tfpn\tx4\tquick\n", folder=tmp_path)


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


def test_runs_are_the_rows_times_their_folds(tmp_path):
    sheet = SHEET + ROW + ROW.replace("\t2\t", "\t3\t").replace("fpn", "unet") + ROW.replace("\t2\t", "\t1\t")
    made = plan(sheet=sheet, folder=tmp_path)
    keys = set(zip(made.sheet.runs["decoder"], made.sheet.runs["fold"], strict=True))
    assert keys == {("fpn", 0), ("fpn", 1), ("unet", 0), ("unet", 1), ("unet", 2)}
    assert len(made.sheet.runs) == 6  # the two rows that differ in folds alone share fold 0


def shares(made, split, fold=None, name="all"):
    """What each experiment weighs among the stores that are blended: of all test images, or the images of a fold."""
    members = made.blend(name, split).members
    blended = [member for member in members if fold is None or member["fold"] == fold]
    weights = Counter()
    for member in blended:
        weights[member["store"].rpartition("/fold")[0]] += member["weight"]
    return {experiment: weight / sum(weights.values()) for experiment, weight in weights.items()}


def test_weights_act_per_experiment_and_are_shared_by_folds_and_checkpoints():
    def change(config):
        config["ensembles"]["all"] = {
            "members": [{"query": "decoder == 'fpn'", "weight": 3}, {"query": "decoder == 'unet' and fold == 0"}],
            "checkpoints": ["best", "last"],
        }

    members = plan(change).ensembles["all"].members
    weights = {(member.run.split("/")[1], member.fold, member.checkpoint): member.test_weight for member in members}
    assert weights == {
        **{("fpn", fold, mark): 3 / 4 for fold in (0, 1) for mark in ("best", "last")},
        **{("unet", 0, mark): 1 / 2 for mark in ("best", "last")},
    }
    assert plan(change).ensembles["all"].folds == (0,)
    out_of_fold = plan(change).blend("all", "valid").members
    assert [member["weight"] for member in out_of_fold] == [3 / 2, 3 / 2, 1 / 2, 1 / 2]


def test_an_experiment_of_three_folds_weighs_the_same_out_of_fold_and_on_test(tmp_path):
    def change(config):
        config["ensembles"]["all"]["members"] = [
            {"query": "decoder == 'unet' and fold == 0", "weight": 1},
            {"query": "decoder == 'fpn'", "weight": 3},
        ]

    sheet = SHEET + ROW.replace("\t2\t", "\t3\t") + ROW.replace("fpn", "unet")
    made = plan(change, sheet=sheet, folder=tmp_path)
    wanted = {"tu-test_resnet/unet/64x96/quick": 0.25, "tu-test_resnet/fpn/64x96/quick": 0.75}
    assert shares(made, "test") == pytest.approx(wanted)
    assert shares(made, "valid", 0) == pytest.approx(wanted)


def test_queries_that_part_the_folds_of_an_experiment_add_up_to_its_weight(tmp_path):
    def change(config):
        config["ensembles"]["all"]["members"] = [
            {"query": "decoder == 'fpn' and fold == 0", "weight": 2},
            {"query": "decoder == 'fpn' and fold > 0", "weight": 1},
            {"query": "decoder == 'unet'", "weight": 1},
        ]

    sheet = SHEET + ROW.replace("\t2\t", "\t3\t") + ROW.replace("fpn", "unet")
    made = plan(change, sheet=sheet, folder=tmp_path)
    assert made.ensembles["all"].folds == (0, 1)  # each image of both has a network of both experiments
    for fold in (None, 0, 1):
        found = shares(made, "test" if fold is None else "valid", fold)
        assert found == pytest.approx({"tu-test_resnet/fpn/64x96/quick": 0.75, "tu-test_resnet/unet/64x96/quick": 0.25})


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_experiment_of_any_sheet_weighs_the_same_out_of_fold_and_on_test(data, tmp_path):
    experiments = st.tuples(st.sampled_from(["fpn", "unet", "linknet"]), st.sampled_from(["64x96", "96x96"]))
    # Rows that differ in the number of folds alone are one experiment
    counts = st.lists(st.integers(1, 4), min_size=1, max_size=2, unique=True)
    sheet = data.draw(st.dictionaries(experiments, counts, min_size=1))
    rows = [
        ROW.replace("fpn", decoder).replace("64x96", size).replace("\t2\t", f"\t{folds}\t")
        for (decoder, size), several in sheet.items()
        for folds in several
    ]
    members, weights = [], st.floats(0.01, 100)
    for decoder in sorted({decoder for decoder, _ in sheet}):
        most = max(max(several) for (other, _), several in sheet.items() if other == decoder)
        cut = data.draw(st.integers(1, 4))
        for side in ["fold <", "fold >="] if cut < most else ["fold <"]:
            members.append({"query": f"decoder == '{decoder}' and {side} {cut}", "weight": data.draw(weights)})
    checkpoints = data.draw(st.sampled_from([["best"], ["best", "last"]]))
    ensemble = {"members": members, "checkpoints": checkpoints}
    made = plan(setting("ensembles.all", ensemble), sheet=SHEET + "".join(rows), folder=tmp_path)
    for fold in made.ensembles["all"].folds:
        assert shares(made, "valid", fold) == pytest.approx(shares(made, "test"))


def test_out_of_fold_stores_are_those_of_the_common_folds():
    def change(config):
        config["ensembles"]["all"]["members"] = "decoder == 'fpn' or fold == 0"

    made = plan(change)
    valid = made.blend("all", "valid").stores
    test = made.blend("all", "test").stores
    assert len(valid) == 4
    assert all("/fold0/" in store and store.endswith("-valid.zarr") for store in valid)
    assert len(test) == 6
    assert all(store.startswith("<results>/runs/") for store in test)


def test_no_common_fold_is_legal_unless_tuned():
    def change(config):
        config["ensembles"]["all"] = {
            "members": "(decoder == 'fpn' and fold == 0) or (decoder == 'unet' and fold == 1)",
            "decision": {"how": "fixed"},
        }

    assert plan(change).ensembles["all"].folds == ()

    def tuned(config):
        change(config)
        config["ensembles"]["all"]["decision"]["how"] = "tune"

    with pytest.raises(ValueError, match="nothing to tune on"):
        plan(tuned)


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


def test_an_ensemble_that_is_typed_wrong_is_named():
    with pytest.raises(ValueError, match=r"no ensemble 'fpm' \(nearest: fpn"):
        plan().ensemble("fpm")


def test_a_grid_has_its_sizes_in_the_surface():
    made = plan(setting("ensembles.fpn.decision", {"how": "grid"}))
    assert {0, 100, 1200, 5000, 10000} <= set(made.ensemble("fpn").min_sizes)
    assert 1200 not in made.ensemble("all").min_sizes
    assert len(made.ensemble("fpn").decision_rule["grid"]["thresholds"]) == 20


def test_a_threshold_is_a_probability_also_where_a_blend_is_sharpened():
    def sharpened(config):
        config["ensembles"]["all"] = {"members": "fold >= 0", "sharpen": 0.5}

    def as_the_diary_has_it(config):
        sharpened(config)
        config["decision"] = {
            "threshold": {"Fish": 0.7, "Flower": 0.65, "Gravel": 0.75, "Sugar": 0.7},
            "sharpened": 0.5,
        }

    assert plan().ensemble("all").decision_rule["thresholds"] == [0.5] * 4
    assert "sharpen" not in plan().ensemble("all").decision_rule
    assert plan(sharpened).ensemble("all").decision_rule["thresholds"] == pytest.approx([0.5**0.5] * 4)
    assert plan(sharpened).ensemble("all").decision_rule["sharpen"] == 0.5
    made = plan(as_the_diary_has_it)
    assert made.ensemble("all").decision_rule["thresholds"] == [0.7, 0.65, 0.75, 0.7]
    plain = next(name for name in made.ensembles if name.endswith("-best"))
    assert made.ensemble(plain).decision_rule["thresholds"] == pytest.approx([0.49, 0.4225, 0.5625, 0.49])


def test_members_are_named_by_the_row_that_trains_just_their_folds(tmp_path):
    sheet = SHEET + ROW.replace("\t2\t", "\t1\t") + ROW.replace("\t2\t", "\t4\t")

    def members(query):
        made = plan(setting("ensembles.all.members", query), sheet=sheet, folder=tmp_path)
        return made.ensemble("all").member_names

    assert members("folds == 1") == ["tu-test-resnet-fpn-64x96-quick-1-best"]
    assert members("fold < 2") == ["tu-test-resnet-fpn-64x96-quick-4-best"]


def test_members_are_decided_as_their_ensemble_but_not_sharpened():
    ensemble = {"members": "fold >= 0", "sharpen": 0.5, "decision": {"threshold": 0.49, "min_size": 9}}
    made = plan(setting("ensembles.all", ensemble))
    decided = made.ensemble("all").member_decision_rule
    assert (decided["thresholds"], decided["min_sizes"]) == ([0.49] * 4, [9] * 4)
    assert "sharpen" not in decided


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


def test_patience_is_for_schedules_that_wait():
    for schedule in ("plateau", "constant"):
        plan(lambda config, name=schedule: config["recipes"]["quick"].update(patience=2, schedule=name))


def test_dice_alone_is_for_all_classes_together():
    change = setting("recipes.quick.loss", {"dice": 1})
    with pytest.raises(ValueError, match="dice alone says nothing about a class that a batch lacks"):
        plan(change)
    plan(lambda config: [change(config), setting("recipes.quick.dice_over", "all")(config)])
