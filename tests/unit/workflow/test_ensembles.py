"""Ensembles of a plan: members, weights, folds and decisions."""

from collections import Counter

import pytest
import yaml
from demo_plan import REPO, ROW, SHEET, plan, setting
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudseg.ensemble.decision import DecisionRule
from cloudseg.workflow.plan import Plan


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


def test_members_are_decided_as_their_ensemble_but_not_sharpened():
    ensemble = {"members": "fold >= 0", "sharpen": 0.5, "decision": {"threshold": 0.49, "min_size": 9}}
    made = plan(setting("ensembles.all", ensemble))
    decided = made.ensemble("all").member_decision_rule
    assert (decided["thresholds"], decided["min_sizes"]) == ([0.49] * 4, [9] * 4)
    assert "sharpen" not in decided


@pytest.mark.parametrize("name", ["config", "diary", "kaggle", "pyramid"])
def test_every_surface_has_the_minimum_sizes_that_its_decision_needs(name):
    made = Plan(yaml.safe_load((REPO / f"config/{name}.yaml").read_text()), REPO)
    for ensemble in made.ensembles:
        needed = DecisionRule(**made.ensemble(ensemble).decision_rule).surface_min_sizes
        assert set(needed) <= set(made.ensemble(ensemble).min_sizes)


def test_members_are_named_once_in_the_order_and_with_the_weights_of_the_blend():
    def change(config):
        config["ensembles"]["all"] = {
            "members": [{"query": "decoder == 'unet'", "weight": 3}, {"query": "decoder == 'fpn' and fold == 0"}],
            "checkpoints": ["best", "last"],
        }

    made = plan(change)
    ensemble = made.ensembles["all"]
    blended = [member for member in made.blend("all", "valid").members if member["fold"] == 0]
    named = ensemble.blended_members
    assert [member["weight"] for member in named] == [member["weight"] for member in blended]
    assert [f"{member['experiment']}/fold0" for member in named] == [
        member["store"].rpartition("/")[0] for member in blended
    ]
    assert sorted(member["name"] for member in named) == ensemble.member_names
    assert [path.split("/")[1] for path in ensemble.member_decisions] == ensemble.member_names
