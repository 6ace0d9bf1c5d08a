"""What a decision and the roles of members may say, and how the rest is refused: at once, at its key, in words."""

import copy
from pathlib import Path

import pytest
import yaml

from cloudseg.config.reading import read_config
from cloudseg.errors import ConfigError

REPO = Path(__file__).parents[3]
DEMO = yaml.safe_load((REPO / "config/config.yaml").read_text())
DECISION = "ensembles.fpn.decision."
TOP = {"score": {"top": "9.5%"}}
DEMO_CLASSES = ("Fish", "Flower", "Gravel", "Sugar")


def with_fpn(decision=None, **keys):
    """The demo's config whose ensemble `fpn` has another decision and other keys; None takes a key away."""
    config = copy.deepcopy(DEMO)
    entry = config["ensembles"]["fpn"] | ({} if decision is None else {"decision": decision}) | keys
    config["ensembles"]["fpn"] = {key: value for key, value in entry.items() if value is not None}
    return config


def complaints(config):
    with pytest.raises(ConfigError) as error:
        read_config(config)
    return str(error.value)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"presence": {"threshold": 0.7}}, "presence: the key 'score' is missing"),
        ({"presense": TOP}, "unknown key 'presense' (nearest: presence)"),
        ({"presence": TOP}, "presence.threshold: the key is missing; `how: tune` would choose it"),
        ({"how": "tune", "presence": {"score": {"topp": 5}}}, "unknown key 'topp' (nearest: top)"),
        ({"how": "tune", "presence": {"score": "largets"}}, "or the word largest, got 'largets' (nearest: largest)"),
        ({"how": "tune", "presence": {"score": {"top": 5, "area": 0.5}}}, "expected exactly one of top, percentile"),
        ({"how": "tune", "presence": {"score": {"top": "101%"}}}, "a share of the plane, such as 17500 or 9.5%"),
        ({"how": "tune", "presence": {"score": {"top": 183_751}}}, "at most the 183,750 pixels of the submission"),
        ({"presence": {"score": [TOP["score"], "largest"], "threshold": 0.5}}, "expected one score, got a list"),
        ({"presence": TOP | {"threshold": [0.5, 0.4]}}, "presence.threshold: expected 4 numbers, one per class"),
        ({"best": "always"}, "best: expected `presence` beside it"),
        (
            {"how": "tune", "presence": TOP, "best": "allways"},
            "never, always, if_empty, got 'allways' (nearest: always",
        ),
        ({"plane_min": {"level": 0.4, "area": 9}}, "plane_min.level: expected at least the threshold, 0.5 of Fish"),
        ({"plane_min": {"level": 0.6}}, "plane_min: the key 'area' is missing"),
        (
            {"plane_min": {"level": 0.6, "area": [1, 2, 183_751, 4]}},
            "plane_min.area: expected at most the 183,750 pixels",
        ),
        ({"plane_min": "tune"}, "plane_min: `tune` needs `how: tune` beside it, got `how: fixed`"),
        ({"high": 0.3}, "high: expected at least the threshold, 0.5 of Fish, got 0.3 (4 of 4 classes)"),
        (
            {"how": "tune", "high": "tune", "plane_min": "tune"},
            "high: expected numbers, since `how: tune` chooses plane",
        ),
        ({"how": "grid", "high": 0.8}, "high: expected `how: fixed` or `how: tune` beside it, got `how: grid`"),
        ({"how": "rate", "rates": {"Fish": 0.5}}, "rates: expected one number per class (Fish, Flower, Gravel, Sugar)"),
        ({"how": "rate", "rates": [0.5, 2, 0.5, 0.5]}, "rates.1: expected at most 1, got 2"),
        ({"how": "rate", "rates": "trainig"}, "rates: expected training, a share from 0 to 1"),
        ({"how": "rate", "rates": "trainig"}, "got 'trainig' (nearest: training)"),
        ({"how": "tune", "high": "tuned"}, "got 'tuned' (nearest: tune)"),
        ({"how": "tune", "plane_min": "tunes"}, "got 'tunes' (nearest: tune)"),
        ({"high": {}}, "high: expected one number per class (Fish, Flower, Gravel, Sugar), got none"),
        (
            {"high": {"Fsh": 0.7, "Flower": 0.7, "Gravel": 0.7, "Sugar": 0.7}},
            "got Fsh, Flower, Gravel, Sugar; no class 'Fsh' (nearest: Fish)",
        ),
        (
            {"plane_min": {"level": 0.6, "area": [183_751, 9, 9, 9]}},
            "plane_min.area: expected at most the 183,750 pixels of the submission grid, got 183,751 (1 of 4 classes)",
        ),
        ({"how": "rate", "presence": TOP}, "presence: expected `how: fixed`, `tune` or `expected` beside it"),
        ({"how": "tune", "rates": "training"}, "rates: expected `how: rate` beside it, got `how: tune`"),
        ({"how": "expected"}, "presence: the key is missing; `how: expected` needs its score"),
        ({"how": "expected", "presence": TOP | {"threshold": 0.5}}, "presence.threshold: expected none"),
        ({"how": "expekted", "presence": TOP}, "got 'expekted' (nearest: expected"),
        ({"black": 255}, "black: expected at most 254, got 255; at 255 every pixel is black"),
    ],
)
def test_a_decision_that_cannot_be_is_refused_at_its_key(decision, words):
    told = complaints(with_fpn(decision))
    assert words in told
    assert DECISION.rstrip(".") in told


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"members": None}, "ensembles.fpn.members: the key is missing"),
        ({"members": None, "whether": "fold == 0"}, "fpn.where: the key is missing; beside `whether`"),
        ({"members": None, "where": "fold == 0"}, "fpn.where: expected `members` alone, or `where` and `whether`"),
        ({"whether": "fold == 0"}, "fpn.whether: expected `members` alone, or `where` and `whether`"),
        ({"members": None, "where": "fold == 0", "whether": "fold == 0"}, "whether: expected `decision.presence`"),
        ({"blend": "vot"}, "fpn.blend: expected one of mean, vote, got 'vot' (nearest: vote)"),
        ({"blend": "vote", "sharpen": 0.5}, "fpn.sharpen: expected none beside `blend: vote`"),
        ({"blend": "vote", "search": {}}, "fpn.search: expected none beside `blend: vote`"),
        ({"search": {}, "sharpen": 0.5}, "fpn.sharpen: expected `search.sharpen`"),
        ({"search": {"step": 3}}, "fpn.search: unknown key 'step' (nearest: steps)"),
        (
            {"search": {}, "members": [{"query": "fold == 0", "weight": 2}, "fold == 1"]},
            "fpn.members: expected no weight beside `search`, which chooses the weights",
        ),
    ],
)
def test_roles_that_do_not_fit_are_refused_at_their_key(keys, words):
    assert words in complaints(with_fpn({"how": "tune"}, **keys))


def test_heads_weigh_where_members_say_whether_a_class_is_there():
    decision = {"how": "tune", "presence": {**TOP, "classifiers": 3}}
    roles = {"members": None, "where": "fold >= 0", "whether": "fold == 0"}
    assert read_config(with_fpn(decision, **roles)).ensembles["fpn"].decision.presence.classifiers == 3
    assert "fpn.decision.presence.classifiers: expected `whether` beside it" in complaints(with_fpn(decision))
    told = complaints(with_fpn({"how": "tune"}) | {"decision": decision})
    assert "decision.presence.classifiers: expected in the `decision` of an ensemble with `whether`" in told


def test_members_that_are_decided_plane_by_plane_have_no_level_to_vote_at():
    config = with_fpn({"how": "fixed"}, blend="vote")
    config["decision"] = {"how": "expected", "presence": TOP}
    assert "fpn.blend: expected a top-level `decision` other than `how: expected`" in complaints(config)


def test_a_vote_has_no_power_of_p():
    told = complaints(with_fpn({"threshold": 0.7, "sharpened": 0.5}, blend="vote"))
    assert "fpn.decision.sharpened: expected none beside `blend: vote`, whose thresholds are shares of members" in told


@pytest.mark.parametrize(
    "threshold", [0.4, [0.5, 0.5, 0.5, 0.6], {"Fish": 0.5, "Flower": 0.5, "Gravel": 0.5, "Sugar": 0.4}]
)
def test_a_vote_takes_no_threshold_of_probabilities_from_the_top_level(threshold):
    config = with_fpn(blend="vote")
    config["ensembles"]["fpn"].pop("decision", None)
    config["decision"] = {"threshold": threshold}
    assert "fpn.decision: the key is missing; beside `blend: vote` a threshold is a share" in complaints(config)
    config["decision"] = {"threshold": 0.5}
    assert read_config(config).ensembles["fpn"].decision is None


def test_a_table_that_fits_in_no_memory_is_refused():
    config = with_fpn({"how": "tune", "plane_min": "tune"}) | {"min_sizes": list(range(41))}
    assert "plane_min: expected numbers, or at most 40 `min_sizes`, got 41" in complaints(config)


def test_never_is_what_best_is_without_presence():
    assert read_config(with_fpn({"how": "tune", "best": "never"})).ensembles["fpn"].decision.best == "never"


def test_everything_that_is_wrong_is_said_at_once():
    told = complaints(with_fpn({"how": "tune", "best": "always", "rates": "training", "high": [0.6]}))
    assert told.startswith("3 problems to mend")


def test_numbers_of_a_list_belong_to_the_classes_in_their_order():
    decision = {
        "presence": TOP | {"threshold": [0.7, 0.6, 0.5, 0.4]},
        "plane_min": {"level": [0.8, 0.7, 0.6, 0.5], "area": [4, 3, 2, 1]},
        "high": {"Sugar": 0.9, "Fish": 0.8, "Flower": 0.8, "Gravel": 0.8},
    }
    read = read_config(with_fpn(decision)).ensembles["fpn"].decision
    assert read.presence.threshold["Gravel"] == 0.5
    assert (read.plane_min.level["Flower"], read.plane_min.area["Sugar"]) == (0.7, 1)
    assert read.high["Sugar"] == 0.9


def test_shares_of_the_plane_are_pixels_of_the_submission_grid():
    classes = dict.fromkeys(DEMO_CLASSES, "0.5%")
    shares = {"min_size": classes | {"Sugar": 7}, "plane_min": {"level": 0.8, "area": ["12.5%", "1%", 9, "100%"]}}
    pixels = {
        "min_size": dict.fromkeys(DEMO_CLASSES, 700) | {"Sugar": 7},
        "plane_min": {"level": 0.8, "area": [17_500, 1400, 9, 140_000]},
    }
    grid = {"submission_size": "350x400"}
    assert read_config(with_fpn(shares) | grid) == read_config(with_fpn(pixels) | grid)
    for size, least in {"350x400": 2800, "10x11": 2, "3x3": 0}.items():
        read = read_config(with_fpn({"min_size": "2%"}) | {"submission_size": size})
        assert read.ensembles["fpn"].decision.min_size == least


def test_shares_that_are_the_same_pixels_are_one_minimum_size():
    config = DEMO | {"submission_size": "10x20", "min_sizes": ["2%", 0, "0.1%", 4, "5%"]}
    assert read_config(config).min_sizes == (4, 0, 10)


@pytest.mark.parametrize(("size", "pixels"), [("350x525", 5000), ("1400x2100", 80_000), ("175x525", 2500)])
def test_the_default_minimum_size_is_the_contests_share_of_any_grid(size, pixels):
    config = with_fpn({"threshold": 0.4}) | {"submission_size": size}
    assert read_config(config).ensembles["fpn"].decision.min_size == pixels


@pytest.mark.filterwarnings("error")
def test_a_decision_is_written_out_as_it_was_read():
    decision = {
        "presence": TOP | {"threshold": [0.7, 0.6, 0.5, 0.4]},
        "plane_min": {"level": 0.8, "area": dict.fromkeys(DEMO_CLASSES, 9)},
        "high": 0.9,
    }
    read = read_config(with_fpn(decision))
    written = read.model_dump(mode="json", exclude_none=True)
    assert written["ensembles"]["fpn"]["decision"]["plane_min"] == decision["plane_min"]
    assert read_config(written) == read


def test_a_decision_as_of_before_asks_for_nothing_further():
    for entry in read_config(DEMO).ensembles.values():
        given = (entry.decision or read_config(DEMO).decision).model_dump(exclude_none=True)
        assert set(given) == {"how", "threshold", "min_size"}
