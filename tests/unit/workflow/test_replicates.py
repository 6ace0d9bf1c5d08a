"""Rows that differ in their seed alone: which runs they are, what these start from, and what they share."""

import pytest
from demo_plan import DEMO, plan, setting
from run_records import write_history

from cloudseg.config.fold_names import fold_name, parse_fold_name
from cloudseg.workflow.durations import EPOCHS, Durations
from cloudseg.workflow.leaderboard import leaderboard_rows
from cloudseg.workflow.sheet import RunKey

SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\tseed\n"
RUNS = "<results>/runs/tu-test_resnet"
OWN = DEMO.get("seed", 2019)


def row(decoder="fpn", recipe="quick", folds=2, seed=""):
    return f"tu-test_resnet\t{decoder}\t64x96\t{recipe}\t{folds}\t{seed}\n"


def made(folder, *rows, change=None):
    return plan(change, sheet=SHEET + "".join(rows), folder=folder)


def random_start(config):
    config["recipes"]["quick"]["start"] = "none"


def finer(config, kind="run"):
    config["recipes"]["finer"] = {"start": f"{kind}:fpn/64x96/quick"}


@pytest.mark.parametrize("name", ["0", "12", "0-seed0", "3-seed4294967295", "all", "all-seed7"])
def test_a_name_of_a_run_is_read_as_it_was_written(name):
    assert fold_name(*parse_fold_name(name)) == name


@pytest.mark.parametrize("name", ["", "all0", "0-seed", "-seed7", "0-seed7-seed8", "0/1", "0-seed7\n"])
def test_what_names_no_run_is_refused(name):
    with pytest.raises(ValueError, match="expected the name of a fold"):
        parse_fold_name(name)


def test_only_a_row_with_a_seed_has_another_folder_seed_and_name(tmp_path):
    replicates = made(tmp_path, row(), row(seed=7))
    folders = [key.folder for key in sorted(replicates.sheet.keys, key=RunKey.order)]
    assert folders == [f"{RUNS}/fpn/64x96/quick/fold{name}" for name in ("0", "0-seed7", "1", "1-seed7")]
    seeds = {key.fold_name: replicates.run(**key.wildcards).seed for key in replicates.sheet.keys}
    assert seeds == {"0": OWN, "1": OWN, "0-seed7": 7, "1-seed7": 7}
    names = [name for name in replicates.ensembles if name.endswith("-last")]
    assert names == ["tu-test-resnet-fpn-64x96-quick-2-last", "tu-test-resnet-fpn-64x96-quick-seed7-2-last"]
    assert replicates.sheet.experiment_paths == ["tu-test_resnet/fpn/64x96/quick"]  # one probe for both


def test_an_empty_column_is_the_plan_without_it(tmp_path):
    without = plan(
        sheet="".join(f"{line.rpartition(chr(9))[0]}\n" for line in (SHEET + row()).splitlines()), folder=tmp_path
    )
    assert made(tmp_path, row()).jobs == without.jobs


def test_random_weights_of_an_encoder_are_others_for_each_seed_and_what_is_not_drawn_is_shared(tmp_path):
    starts = made(tmp_path, row(), row(seed=7), change=random_start).starts
    assert {start: weights.seed for (_, start), weights in starts.items()} == {"none": OWN, "none-seed7": 7}
    assert {weights.source for weights in starts.values()} == {"none"}
    shared = made(tmp_path, row(), row(seed=7), change=setting("recipes.quick.start", "imagenet")).starts
    assert list(shared) == [("tu-test_resnet", "imagenet")]


@pytest.mark.parametrize("kind", ["run", "network"])
@pytest.mark.parametrize(("sources", "name"), [([row()], "1"), ([row(), row(seed=7)], "1-seed7")])
def test_a_replicate_starts_from_the_one_with_its_seed_if_there_is_one(tmp_path, kind, sources, name):
    def change(config):
        finer(config, kind)

    sheet = made(tmp_path, *sources, row(recipe="finer", seed=7), change=change)
    run = sheet.run("tu-test_resnet", "fpn", "64x96", "finer", "1-seed7")
    assert run.start == f"{kind}-fpn-64x96-quick-fold{name}"
    [checkpoint] = sheet.initial_weights("tu-test_resnet", run.start).checkpoint
    assert checkpoint == f"{RUNS}/fpn/64x96/quick/fold{name}/last.safetensors"


@pytest.mark.parametrize(
    ("rows", "change", "complaint"),
    [
        ([row(seed=OWN)], None, f"line 2: seed: {OWN} is the config's own"),
        ([row(seed=7), row(seed=7)], None, "line 3: the same experiment as line 2"),
        (
            [row(seed=7), row(recipe="finer")],
            finer,
            "line 3: recipe finer starts from tu-test_resnet/fpn/64x96/quick, which",
        ),
        (
            [row(seed=7, folds=1), row(), row(recipe="finer", seed=7)],
            finer,
            "line 4: recipe finer starts from tu-test_resnet/fpn/64x96/quick/seed7, which the sheet does not train",
        ),
        (
            [row(seed=7)],
            setting("recipes.quick.start", "run:fpn/64x96/quick"),
            "line 2: recipe quick starts from the run",
        ),
        (
            [row(), row("unet", recipe="finer")],
            lambda config: finer(config, "network"),
            "recipe finer starts from the network tu-test_resnet/fpn/64x96/quick; expected one with the decoder unet",
        ),
    ],
)
def test_bad_seeds_and_starts_are_refused_with_their_line(tmp_path, rows, change, complaint):
    with pytest.raises(ValueError, match="1 problem to mend") as error:
        made(tmp_path, *rows, change=change)
    assert complaint in str(error.value)


def test_a_run_may_start_from_a_row_whose_other_row_trains_fewer_folds(tmp_path):
    assert made(tmp_path, row(), row(folds=1), row(recipe="finer"), change=finer).sheet.keys


def test_replicates_are_members_of_their_own_and_a_query_can_choose_among_them(tmp_path):
    def members(query):
        sheet = made(tmp_path, row(), row(seed=7), row(seed=8), change=setting("ensembles.all.members", query))
        return {(each.key.seed, each.fold): each.test_weight for each in sheet.ensembles["all"].members}

    assert members("seed == 7") == {(7, 0): 0.5, (7, 1): 0.5}
    assert members("seed == ''") == {(None, 0): 0.5, (None, 1): 0.5}
    assert set(members("seed != 7 and fold == 0")) == {(None, 0), (8, 0)}
    assert set(members("fold >= 0").values()) == {0.5}
    with pytest.raises(ValueError, match=r"selects no run. In the sheet seed is one of '', 7, 8"):
        members("seed == 9")


def test_a_replicate_has_the_pace_of_its_sibling(tmp_path):
    sheet = made(tmp_path, row(), row(seed=7))
    write_history(tmp_path / "runs/tu-test_resnet/fpn/64x96/quick/fold0", [0.5, 0.6], seconds=3.0)
    expected = Durations(sheet, tmp_path, on_cpu=True).training(
        sheet.run("tu-test_resnet", "fpn", "64x96", "quick", "1-seed7")
    )
    assert expected == (6 + 16 * 3.0, EPOCHS)


def test_the_leaderboard_knows_the_runs_of_each_replicate_in_whatever_order_the_sheet_has_them(tmp_path):
    rows = [row(seed=8), row(), row(seed=7, folds=1)]
    sheet = made(tmp_path, *rows)
    told = leaderboard_rows(sheet.sheet, sheet.config.recipes)
    folders = [[sheet.sheet.folders[number].rpartition("/")[2] for number in each["runs"]] for each in told]
    assert [each["seed"] for each in told] == [None, 7, 8]
    assert folders == [["fold0", "fold1"], ["fold0-seed7"], ["fold0-seed8", "fold1-seed8"]]
    assert leaderboard_rows(made(tmp_path, *rows[::-1]).sheet, sheet.config.recipes) == told


def test_the_chain_of_a_submission_asks_for_the_seed_of_each_run(tmp_path):
    chain = made(tmp_path, row(), row(seed=7), change=random_start).chain("all")
    wanted = {run["name"].rpartition("/")[2]: (run["wanted"]["seed"], run["wanted"]["start"]) for run in chain.asked}
    assert wanted["fold1"] == (OWN, "none")
    assert wanted["fold1-seed7"] == (7, "none-seed7")
    assert [each.get("seed") for each in chain.sheet_rows] == [None, 7]
