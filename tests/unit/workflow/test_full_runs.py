"""A row with `full` is trained on all images, too: its inputs, its share of test blends, and where it is left out."""

import json

import pytest
from demo_plan import plan, setting
from run_records import write_history, write_record

from cloudseg.config.fold_names import ALL
from cloudseg.errors import ConfigError
from cloudseg.training.all_images import epochs_on_all_images
from cloudseg.training.record import RunRecord
from cloudseg.workflow.code import CODE
from cloudseg.workflow.durations import FORWARD, Durations
from cloudseg.workflow.leaderboard import leaderboard_ensembles
from cloudseg.workflow.notices import recipe_differences, warnings

SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\tfull\n"
QUICK = ("tu-test_resnet", "fpn", "64x96", "quick")
RUNS = f"<results>/runs/{'/'.join(QUICK)}"


def row(decoder="fpn", recipe="quick", folds=2, full="true"):
    return f"tu-test_resnet\t{decoder}\t64x96\t{recipe}\t{folds}\t{full}\n"


def made(folder, *rows, members="fold >= 0", change=None):
    def both(config):
        config["ensembles"]["all"]["members"] = members
        if change:
            change(config)

    return plan(both, sheet=SHEET + "".join(rows or [row()]), folder=folder)


def entry(**keys):
    def change(config):
        config["ensembles"]["all"] |= keys

    return change


def test_the_training_reads_the_records_of_its_folds_and_is_predicted_on_test_images_alone(tmp_path):
    sheet = made(tmp_path, row(), row(folds=1, full=""))
    run = sheet.run(*QUICK, "all")
    assert run.further_inputs == {"fold_runs": [f"{RUNS}/fold0/run.json", f"{RUNS}/fold1/run.json"]}
    assert sheet.run(*QUICK, "1").further_inputs == {}
    trained = [job["fold"] for job in sheet.jobs["train"]]
    predicted = [(job["fold"], job["split"]) for job in sheet.jobs["predict"]]
    assert trained == ["0", "1", "all"]
    assert predicted == [("0", "valid"), ("1", "valid"), ("0", "test"), ("1", "test"), ("all", "test")]
    with pytest.raises(ConfigError, match="foldall: trained on all images"):
        sheet.prediction(split="valid", **run.key.wildcards)


def test_without_the_column_no_run_sees_all_images(tmp_path):
    without = plan(sheet=SHEET.replace("\tfull", "") + row().replace("\ttrue", ""), folder=tmp_path)
    assert made(tmp_path, row(full="")).jobs == without.jobs


def test_it_weighs_as_one_more_fold_on_test_images_and_is_no_member_out_of_fold(tmp_path):
    sheet = made(tmp_path, row(), row("unet", full=""))
    test, valid = (sheet.blend("all", split).members for split in ("test", "valid"))
    weights = {member["store"].removeprefix("tu-test_resnet/"): member["weight"] for member in test}
    assert weights == pytest.approx(
        {f"fpn/64x96/quick/fold{fold}/best": 1 / 3 for fold in (0, 1, "all")}
        | {f"unet/64x96/quick/fold{fold}/best": 1 / 2 for fold in (0, 1)}
    )
    assert [(member["fold"], member["weight"]) for member in valid] == [(0, 1), (1, 1), (0, 1), (1, 1)]
    assert sheet.ensembles["all"].folds == (0, 1)


@pytest.mark.parametrize(
    ("query", "folds"),
    [
        ("fold >= 0", [0, 1, ALL]),
        ("decoder == 'fpn'", [0, 1, ALL]),
        ("fold < 2", [0, 1]),
        ("not fold < 2", [ALL]),
        ("fold == 'all'", [ALL]),
        ("fold != 'all'", [0, 1]),
        ("fold in [0, 'all']", [0, ALL]),
        ("'all' > fold", [0, 1]),
        ("full == 'true' and fold == 0", [0]),
    ],
)
def test_it_stands_behind_every_fold_in_a_query(tmp_path, query, folds):
    sheet = made(tmp_path, members=query, change=setting("ensembles.all.decision", {"how": "fixed"}))
    assert [member.fold for member in sheet.ensembles["all"].members] == folds


def test_a_sheet_without_it_can_be_asked_for_it_all_the_same(tmp_path):
    assert made(tmp_path, row(full=""), members="fold != 'all'").ensembles["all"].folds == (0, 1)
    with pytest.raises(ValueError, match=r"selects no run. In the sheet fold is one of 0, 1"):
        made(tmp_path, row(full=""), members="fold == 'all'")
    with pytest.raises(ValueError, match="compares text with numbers"):
        made(tmp_path, members="fold == 'al'")
    with pytest.raises(ValueError, match="compares text with numbers"):
        made(tmp_path, members="folds != 'all'")


def test_an_ensemble_of_it_alone_has_nothing_to_be_tuned_on_and_no_score(tmp_path):
    with pytest.raises(ValueError, match="nothing to tune on: no fold was trained by all members"):
        made(tmp_path, members="fold == 'all'", change=setting("ensembles.all.decision", {"how": "tune"}))
    alone = made(tmp_path, members="fold == 'all'", change=setting("ensembles.all.decision", {"how": "fixed"}))
    assert alone.ensembles["all"].folds == ()
    assert alone.blend("all", "valid").members == []
    # Its name is that of its experiment, whose folds have the decision and the score
    assert alone.ensembles["all"].member_names == ["tu-test-resnet-fpn-64x96-quick-2-best"]


def test_it_votes_at_the_level_of_its_experiment_and_is_of_its_candidate_in_a_search(tmp_path):
    voting = made(tmp_path, change=entry(blend="vote"))
    assert set(voting.blend("all", "test").voters) == {
        "<ensembles>/tu-test-resnet-fpn-64x96-quick-2-best/decision.yaml"
    }
    searching = made(tmp_path, row(), row("unet"), change=entry(search={"steps": 3}))
    candidates = {member["candidate"] for member in searching.blend("all", "test").members}
    assert candidates == {member["candidate"] for member in searching.blend("all", "valid").members}
    assert searching.ensembles["all"].unscored == "2 of 6 candidates"


def test_members_without_a_score_are_counted_where_there_are_any(tmp_path):
    with_all = made(tmp_path, change=entry(checkpoints=["best", "last"]))
    told = leaderboard_ensembles(with_all.config.ensembles, with_all.ensembles)
    assert told["all"]["unscored"] == "2 of 6"
    assert with_all.told_by_provenance == {"provenance": "<ensembles>/all/provenance.json"}
    without = made(tmp_path, members="fold < 2")
    assert "unscored" not in leaderboard_ensembles(without.config.ensembles, without.ensembles)["all"]
    assert without.told_by_provenance == {}


def test_the_chain_has_the_folds_that_say_how_long_it_trains_also_where_they_are_no_members(tmp_path):
    change = setting("ensembles.all.decision", {"how": "fixed"})
    chain = made(tmp_path, members="fold == 'all'", change=change).chain("all")
    assert [run["name"].rpartition("/")[2] for run in chain.asked] == ["fold0", "fold1", "foldall"]
    assert chain.asked[2]["folds_before"] == [run["name"] for run in chain.asked[:2]]
    assert "folds_before" not in chain.asked[0]
    assert chain.sheet_rows[0]["full"] is True


@pytest.mark.parametrize(
    ("rows", "change", "complaint"),
    [
        (
            [row()],
            setting("recipes.quick.schedule", "plateau"),
            "line 2: full: a training on all images validates on none",
        ),
        (
            [row()],
            lambda config: config["recipes"]["quick"].update(epochs=3, stages=[{"epochs": 2}, {"epochs": 1}]),
            "line 2: full: the best epoch of the folds says nothing of the stages of recipe quick",
        ),
        ([row()], setting("recipes.quick.average", {"epochs": 2, "of": "best"}), "so recipe quick has no best epochs"),
        ([row(), row(folds=1)], None, "line 3: full: line 2 trains this experiment on all images"),
        (
            [row(full=""), row(recipe="finer")],
            setting("recipes.finer", {"start": "run:fpn/64x96/quick"}),
            "line 3: recipe finer starts from tu-test_resnet/fpn/64x96/quick, which the sheet does not train on all",
        ),
    ],
)
def test_rows_that_cannot_be_trained_on_all_images_are_refused(tmp_path, rows, change, complaint):
    with pytest.raises(ValueError, match="1 problem to mend") as error:
        made(tmp_path, *rows, change=change)
    assert complaint in str(error.value)


def test_it_starts_from_the_training_on_all_images_of_the_run_that_its_recipe_names(tmp_path):
    change = setting("recipes.finer", {"start": "network:fpn/64x96/quick"})
    sheet = made(tmp_path, row(), row(recipe="finer"), change=change)
    start = sheet.run("tu-test_resnet", "fpn", "64x96", "finer", "all").start
    assert start == "network-fpn-64x96-quick-foldall"
    assert sheet.initial_weights("tu-test_resnet", start).checkpoint == [f"{RUNS}/foldall/last.safetensors"]


def test_a_training_that_nothing_takes_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [line] = warnings(made(tmp_path, row(), row("unet", full=""), members="fold < 2"))
    assert line.startswith("full: nothing takes the training on all images of tu-test_resnet fpn 64x96 quick;")
    assert warnings(made(tmp_path)) == []


def write_folds(sheet, tmp_path, bests, seconds=3.0):
    paths = []
    for fold, best in enumerate(bests):
        folder = tmp_path / sheet.run(*QUICK, str(fold)).key.folder.removeprefix("<results>/")
        write_history(folder, [0.5, 0.6, 0.7, 0.6], seconds=seconds)
        write_record(folder, sheet.config.recipes["quick"].canonical(), code=CODE["training"])
        record = json.loads((folder / "run.json").read_text())
        record["epochs"]["best"] = best
        (folder / "run.json").write_text(json.dumps(record) + "\n")
        paths.append(folder / "run.json")
    return paths


def test_it_is_expected_to_take_the_median_of_the_best_epochs_each_as_long_as_more_images_take(tmp_path):
    sheet = made(tmp_path)
    run = sheet.run(*QUICK, "all")
    durations = Durations(sheet, tmp_path, on_cpu=True)
    assert durations.total_epochs(run) == 16  # what the recipe says, before its folds do
    paths = write_folds(sheet, tmp_path, [3, 10])
    assert epochs_on_all_images(run.recipe, paths) == durations.total_epochs(run) == 7
    longer = 1 / (3 / 4 + FORWARD / 4)  # four folds, of which one validates
    assert Durations(sheet, tmp_path, on_cpu=True).training(run).seconds == pytest.approx(6 + 7 * 3.0 * longer)


def test_its_own_number_of_epochs_is_no_difference_to_the_recipe(tmp_path):
    patient = setting("recipes.quick", {"epochs": 16, "patience": 3, "schedule": "constant", "start": "none"})
    sheet = made(tmp_path, change=patient)
    [path, _] = write_folds(sheet, tmp_path, [3, 10])
    run, record = sheet.run(*QUICK, "all"), RunRecord.read(path)
    recipe = record.recipe | {"epochs": 7, "patience": 0}
    start = record.weights.model_copy(update={"path": "none.safetensors"})
    record = record.model_copy(update={"recipe": recipe, "weights": start})
    assert recipe_differences(sheet, run, record) == ["epochs 7 -> 16", "patience 0 -> 3"]
    record = record.model_copy(update={"fold": ALL})
    assert recipe_differences(sheet, run, record) == []
    record = record.model_copy(update={"recipe": recipe | {"batch": 2}})
    assert recipe_differences(sheet, run, record) == [f"batch 2 -> {run.recipe.batch}"]
