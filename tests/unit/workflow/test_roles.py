"""What the plan makes of roles, votes, searches and of the further keys of a decision."""

import re
from fractions import Fraction

import pytest
from demo_plan import plan, setting

from cloudseg.ensemble.decide_blend import space_of
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.gate_tables import GateTable
from cloudseg.ensemble.searching import TABLES_AT_ONCE
from cloudseg.errors import ConfigError
from cloudseg.postprocess import level
from cloudseg.workflow.decision_rule import table_megabytes

ALL = "ensembles.all"
TOP = {"score": {"top": "9.5%"}}
CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]


def with_all(**keys):
    """A plan whose ensemble `all` has these keys and no others."""
    return plan(setting(ALL, keys))


def rule_of(decision, **keys):
    return DecisionRule(**with_all(members="fold >= 0", decision=decision, **keys).ensembles["all"].decision_rule)


def test_members_of_each_role_are_blended_apart_and_all_are_predicted():
    made = with_all(
        where="decoder == 'fpn'", whether=[{"query": "decoder == 'unet'", "weight": 2}],
        decision={"how": "tune", "presence": TOP},
    )  # fmt: skip
    where, whether = made.blend("all", "test"), made.whether("all", "test")
    assert {member.key.decoder for member in where.blended} == {"fpn"}
    assert {member.key.decoder for member in whether.blended} == {"unet"}
    assert sum(member["weight"] for member in whether.members) == 2
    assert made.ensembles["all"].presence == ["<ensembles>/all/valid-whether.zarr"]
    tested = {job["decoder"] for job in made.jobs["predict"] if job["split"] == "test"}
    assert tested == {"fpn", "unet"}
    assert made.jobs["whether"] == [{"ensemble": "all", "split": split} for split in ("valid", "test")]


def test_a_run_may_have_both_roles_and_folds_are_common_to_all_members(tmp_path):
    sheet = "encoder\tdecoder\tsize\trecipe\tfolds\tnote\n"
    rows = "tu-test_resnet\tfpn\t64x96\tquick\t3\t\ntu-test_resnet\tunet\t64x96\tquick\t2\t\n"

    def change(config):
        decision = {"how": "tune", "presence": TOP}
        config["ensembles"] = {"all": {"where": "fold >= 0", "whether": "decoder == 'unet'", "decision": decision}}

    assert plan(change, sheet + rows, tmp_path).ensembles["all"].valid_folds == [0, 1]


def test_folds_are_those_of_each_role_also_where_one_experiment_has_both():
    roles = {"where": "decoder == 'fpn'", "whether": "decoder == 'fpn' and fold == 1"}
    made = with_all(**roles, decision={"how": "tune", "presence": TOP})
    assert made.ensembles["all"].valid_folds == [1]
    assert {member.fold for member in made.blend("all", "valid").blended} == {1}
    apart = {"where": "decoder == 'fpn' and fold == 0", "whether": "decoder == 'fpn' and fold == 1"}
    with pytest.raises(ConfigError, match=r"ensembles\.all: nothing to tune on: no fold was trained by all members"):
        with_all(**apart, decision={"how": "tune", "presence": TOP})


def test_voters_are_asked_for_the_decision_of_their_own_rows():
    blend = with_all(members="decoder == 'fpn'", checkpoints=["best", "last"], blend="vote").blend("all", "valid")
    row = "tu-tf-efficientnet-lite0-fpn-96x144-quick-2"
    of_store = dict(zip(blend.stores, blend.voters, strict=True))
    for store, decision in of_store.items():
        checkpoint = store.rpartition("/")[2].partition("-")[0]
        assert decision == f"<ensembles>/{row}-{checkpoint}/decision.yaml"


def test_a_search_names_its_candidates_and_blends_wait_for_it():
    made = with_all(members="fold >= 0", checkpoints=["best", "last"], search={"steps": 5})
    blend = made.blend("all", "valid")
    assert blend.selection == ["<ensembles>/all/selection.yaml"]
    assert len({member["candidate"] for member in blend.members}) == 4
    assert made.ensembles["all"].search_settings == {"steps": 5, "least_gain": 0.0001, "sharpen": [1, 0.5]}
    assert made.jobs["search"] == [{"ensemble": "all"}]


def test_a_search_over_members_without_a_common_fold_is_refused():
    members = ["decoder == 'fpn' and fold == 0", "decoder == 'unet' and fold == 1"]
    with pytest.raises(ConfigError, match=r"ensembles\.all: nothing to search among: no fold was trained"):
        with_all(members=members, search={})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"search": {}}, "the search chooses on the one fold that all members trained"),
        ({"blend": "vote"}, "members choose the levels of their votes on the one fold"),
    ],
)
def test_what_is_chosen_on_one_fold_is_not_scored_as_if_it_were_fixed(keys, words):
    entry = {"members": "fold == 0", **keys}

    def of_all(how):
        def change(config):
            config |= {"decision": {"how": "tune"}}
            config["ensembles"]["all"] = entry | {"decision": {"how": how}}

        return plan(change)

    with pytest.raises(ConfigError, match=rf"ensembles\.all: {words}"):
        of_all("fixed")
    assert of_all("tune").ensembles["all"].valid_folds == [0]


def test_the_decision_page_knows_what_the_blend_is_made_of():
    voted = with_all(members="fold >= 0", blend="vote", decision={"black": 2}).ensembles["all"]
    assert voted.voters == voted.member_decisions
    assert voted.black == ["<results>/dataset/black-train-2.zarr"]
    plain = plan().ensembles["all"]
    assert (plain.voters, plain.black) == ([], [])


SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\n" + "".join(
    f"tu-test_resnet\t{words}\t2\n"
    for words in ("fpn\t64x96\tquick", "unet\t64x96\theaded", "classifier\t64x96\tpresent", "fpn\t64x96\tbright")
)


def with_heads(tmp_path, **keys):
    """A plan of networks with masks, with masks and a head, with a head alone, and with neither."""

    def change(config):
        recipes = config["recipes"]
        recipes["headed"] = recipes["quick"] | {"head": {}, "average": {"epochs": 2}}
        recipes["present"] = recipes["headed"] | {"best_by": "loss"}
        recipes["bright"] = recipes["quick"] | {"brightness": 115}
        config["ensembles"] = {"all": keys}

    return plan(change, SHEET, tmp_path)


def of_decoders(jobs):
    return {(job["decoder"], job["recipe"]) for job in jobs}


def test_networks_predict_what_they_have(tmp_path):
    jobs = with_heads(tmp_path, members="fold >= 0").jobs
    assert of_decoders(jobs["train"]) == {
        ("fpn", "quick"), ("unet", "headed"), ("classifier", "present"), ("fpn", "bright"),
    }  # fmt: skip
    assert of_decoders(jobs["train_average"]) == {("unet", "headed"), ("classifier", "present")}
    assert of_decoders(jobs["predict"]) == {("fpn", "quick")}
    assert of_decoders(jobs["predict_values"]) == of_decoders(jobs["predict_average_values"]) == {("unet", "headed")}
    assert of_decoders(jobs["predict_classes"]) == {("classifier", "present")}
    assert of_decoders(jobs["predict_average_classes"]) == {("classifier", "present")}
    assert "predict_average" not in jobs


def test_a_network_without_masks_is_no_member_and_has_no_score_of_masks(tmp_path):
    ensembles = with_heads(tmp_path, members="fold >= 0").ensembles
    assert {member.key.decoder for member in ensembles["all"].members} == {"fpn", "unet"}
    assert {name.rpartition("-")[2] for name in ensembles if "unet" in name} == {"best", "last", "average"}
    assert not [name for name in ensembles if "classifier" in name or "bright" in name]


def test_heads_and_planes_that_say_whether_are_blended_apart(tmp_path):
    decision = {"how": "tune", "presence": TOP | {"classifiers": 2}}
    made = with_heads(tmp_path, where="decoder == 'fpn'", whether="recipe in ['headed', 'present']", decision=decision)
    blend = made.whether("all", "valid")
    assert [path.rpartition("/")[2] for path in blend.stores] == ["best-valid.zarr"] * 2
    assert len(blend.further_inputs["values"]) == 4
    assert {path.split("/")[3] for path in blend.further_inputs["values"]} == {"unet", "classifier"}
    assert all(path.endswith("/best-valid-values.zarr") for path in blend.further_inputs["values"])
    assert [member.get("gives") for member in blend.members] == [None] * 2 + ["values"] * 4


def test_beside_classifiers_alone_the_blend_says_whether_too(tmp_path):
    decision = {"how": "tune", "presence": TOP | {"classifiers": 1}}
    made = with_heads(tmp_path, where="decoder == 'fpn'", whether="decoder == 'classifier'", decision=decision)
    assert made.whether("all", "test").stores == made.blend("all", "test").stores


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"members": "fold >= 0", "checkpoints": ["average"]}, "all: checkpoints: recipe quick keeps no average; give"),
        (
            {"where": "decoder == 'fpn'", "whether": "fold >= 0", "decision": {"how": "tune", "presence": TOP}},
            "all: whether: tu-test_resnet/classifier/64x96/present has no masks, only a classification head; say",
        ),
        (
            {
                "where": "decoder == 'fpn'",
                "whether": "decoder == 'fpn'",
                "decision": {"how": "tune", "presence": TOP | {"classifiers": 1}},
            },
            "all: decision.presence.classifiers: no run of `whether` has a classification head",
        ),
        ({"members": "recipe == 'bright'"}, "selects no run"),
        ({"members": "decoder == 'classifier'"}, "selects no run"),
    ],
)
def test_what_members_do_not_have_is_not_asked_of_them(tmp_path, keys, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        with_heads(tmp_path, **keys)


def test_heads_weigh_in_the_scores_of_the_ensemble_and_not_of_its_members(tmp_path):
    presence = {"score": [TOP["score"], "largest"], "classifiers": 1.5}
    roles = {"where": "decoder == 'fpn'", "whether": "decoder == 'unet'"}
    ensemble = with_heads(tmp_path, **roles, decision={"how": "tune", "presence": presence}).ensembles["all"]
    of_members = DecisionRule(**ensemble.member_decision_rule)
    assert {score.classifiers for score in DecisionRule(**ensemble.decision_rule).scores} == {Fraction(3, 2)}
    assert [score.kind for score in of_members.scores] == ["top", "top"]
    assert {score.classifiers for score in of_members.scores} == {0}


def test_members_of_fixed_levels_may_vote_on_one_fold():
    assert with_all(members="fold == 0", blend="vote").ensembles["all"].valid_folds == [0]


@pytest.mark.parametrize(
    "decision",
    [
        {"how": "tune", "presence": TOP},
        {"how": "tune", "presence": {"score": [*[TOP["score"]] * 2, "largest"]}},
        {"how": "tune", "plane_min": "tune"},
        {"how": "tune", "high": "tune"},
        {"how": "tune", "presence": TOP | {"threshold": 0.5}, "high": 0.6},
    ],
)
def test_a_decision_asks_for_the_memory_of_its_tables(decision):
    ensemble = with_all(members="fold >= 0", decision=decision).ensembles["all"]
    rule, folds = DecisionRule(**ensemble.decision_rule), len(ensemble.valid_folds)
    space = space_of(rule, rule.fixed(CLASSES))
    tables = [GateTable.bytes_of(folds, gates.shape, space.shape) for gates in space.gates]
    needed = len(CLASSES) * sum(tables) / 1e6
    assert needed <= ensemble.decision_work.megabytes <= 1.1 * needed
    assert ensemble.comparison_work.megabytes == ensemble.decision_work.megabytes


def test_the_tables_of_a_decision_take_no_more_memory_than_they_may():
    rule = {"how": "tune", "thresholds": [0.5] * 64, "tune_min_sizes": list(range(17)), "high": "tune"}
    assert TABLES_AT_ONCE / 1e6 <= table_megabytes(rule, folds=100) <= 1.1 * TABLES_AT_ONCE / 1e6


def test_a_decision_as_of_before_asks_for_what_it_did():
    ensembles = plan().ensembles
    assert all(each.decision_work == each.dataset.train_work for each in ensembles.values())


def test_black_images_are_looked_for_once_for_each_split_and_grey():
    made = with_all(members="fold >= 0", decision={"black": 2})
    assert made.blend("all", "valid").black == ["<results>/dataset/black-train-2.zarr"]
    assert made.jobs["black"] == [{"split": split, "grey": "2"} for split in ("test", "train")]


def test_what_is_not_asked_for_is_no_job_and_no_param():
    made = plan()
    assert not {"black", "whether", "search"} & made.jobs.keys()
    assert set(made.ensembles["fpn"].decision_rule) == {"how", "thresholds", "min_sizes", "tune_min_sizes"}
    blend = made.blend("fpn", "valid")
    assert (blend.voters, blend.selection, blend.black) == ([], [], [])
    assert all(set(member) == {"store", "fold", "weight"} for member in blend.members)


def test_numbers_of_a_decision_are_those_of_the_blend_and_shares_stay_shares():
    decision = {
        "threshold": 0.25,
        "presence": TOP | {"threshold": 0.36},
        "plane_min": {"level": 0.49, "area": {"Fish": 4, "Flower": 3, "Gravel": 2, "Sugar": 1}},
        "high": 0.64,
    }
    fixed = rule_of(decision, sharpen=0.5).fixed(CLASSES)
    fish = fixed.classes["Fish"]
    cut = fish.cut
    assert (cut.level, cut.high, cut.top_level, cut.top_area) == (level(0.5), level(0.8), level(0.7), 4)
    assert (fish.presence.score.number, fish.presence.at_least) == (17456, 2670768)  # 0.6 of 255 * 17456
    area = {"threshold": 0.25, "presence": {"score": {"area": 0.36}, "threshold": 0.1}}
    presence = rule_of(area, sharpen=0.5).fixed(CLASSES).classes["Fish"].presence
    assert (presence.score.number, presence.at_least) == (level(0.6), 18375)


def test_a_power_that_is_found_later_makes_the_same_rule():
    decision = {"presence": {"score": {"area": 0.36}, "threshold": 0.1}, "plane_min": {"level": 0.64, "area": 9}}
    assert rule_of(decision).of_power(0.5).fixed(CLASSES) == rule_of(decision, sharpen=0.5).fixed(CLASSES)


def test_the_baseline_is_an_ensemble_and_by_default_that_of_the_submission():
    assert plan().baseline == "all"
    with pytest.raises(ConfigError, match=r"baseline: no ensemble 'fnp' \(nearest: fpn\)"):
        plan(setting("baseline", "fnp"))
