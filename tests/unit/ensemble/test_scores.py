"""Scores per image, their parts, and what they say about other images, against plain loops."""

import numpy as np
import pandas as pd
import pytest
from score_cells import by_class_and_fold

from cloudseg.ensemble.comparing import compare, member_scores
from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.score_tables import folds_of, write_scores
from cloudseg.ensemble.scores import expected_score, image_scores, mean_of_images, paired_bootstrap, score_parts
from cloudseg.ensemble.surface import read_surface, write_surface
from cloudseg.postprocess import Cut
from cloudseg.storage import some_images, stores

CLASSES = ["Fish", "Flower", "Gravel"]
SIZE = (12, 16)
FOLD_OF = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
IDS = [f"{number}.jpg" for number in range(len(FOLD_OF))]


def write(path, block, ids, **attrs):
    spec = stores.Spec(block.shape, "uint8", ("image", "class", "y", "x"))
    writer = stores.Writer(path, {"": spec}, {"ids": ids, "classes": CLASSES, **attrs})
    for rows in writer.missing():
        writer.write(rows, block[rows])
    writer.finish()
    return path


def blocks(random, count, odds):
    """Planes with one block of pixels each, or none."""
    planes = np.zeros((count, len(CLASSES), *SIZE), np.uint8)
    for plane in planes.reshape(-1, *SIZE):
        if random.random() < odds:
            y, x, height, width = random.integers([0, 0, 2, 2], [8, 10, 9, 9])
            plane[y : y + height, x : x + width] = 1
    return planes


@pytest.fixture
def inputs(tmp_path):
    random = np.random.default_rng(4)
    g = blocks(random, len(IDS), 0.6)
    p = np.clip(g * 150 + blocks(random, len(IDS), 0.5) * 90 + random.integers(0, 40, g.shape), 0, 255).astype(np.uint8)
    g[:4, 0] = 0  # no image of fold 0 has Fish
    g[4:7, 1, 3:6, 3:6] = 1  # every image of fold 1 has Flower
    order = random.permutation(len(IDS))
    write(tmp_path / "valid.zarr", p, IDS, fold=FOLD_OF)
    write(tmp_path / "truth.zarr", g[order], [IDS[i] for i in order])
    return tmp_path


DECISION = Decision(
    "fixed", len(IDS), ImageRule.of_cuts({"Fish": Cut(128, 30), "Flower": Cut(64, 0), "Gravel": Cut(100, 1000)})
)


@pytest.mark.parametrize("folds", [None, [0, 2], [1], [7]])
def test_scores_do_not_depend_on_how_many_images_are_read_at_once(inputs, monkeypatch, folds):
    scattered = [0, 2, 1, 0, 2, 1, 0, 2, 1, 0, 2, 1]
    block = stores.read_images(inputs / "valid.zarr", slice(None))
    valid = write(inputs / "scattered.zarr", block, IDS, fold=scattered)
    at_once = image_scores(valid, inputs / "truth.zarr", DECISION, folds=folds)
    monkeypatch.setattr(some_images, "READ_BYTES", 5 * len(CLASSES) * SIZE[0] * SIZE[1])
    pd.testing.assert_frame_equal(image_scores(valid, inputs / "truth.zarr", DECISION, folds=folds, threads=2), at_once)
    wanted = [name for name, fold in zip(IDS, scattered, strict=True) if folds is None or fold in folds]
    assert at_once["image"].tolist() == [name for name in wanted for _ in CLASSES]


def scores_of(folder, **options):
    return image_scores(folder / "valid.zarr", folder / "truth.zarr", DECISION, **options)


@pytest.mark.parametrize("threads", [1, 2])
def test_images_average_to_the_score_of_the_decision(inputs, threads):
    images = scores_of(inputs, threads=threads)
    write_surface(
        inputs / "valid.zarr", inputs / "truth.zarr", inputs / "s.zarr", folds=[0, 1, 2], min_sizes=[0, 30, 1000]
    )
    options = {
        "how": "fixed",
        "thresholds": [DECISION.cuts[name].level / 255 for name in CLASSES],
        "min_sizes": [DECISION.cuts[name].min_size for name in CLASSES],
        "tune_min_sizes": [0],
    }
    decision, scores = decide(*read_surface(inputs / "s.zarr"), classes=CLASSES, rule=DecisionRule(**options))
    assert decision == DECISION
    wanted = by_class_and_fold(scores)["fixed"]
    per_fold = images.groupby(["fold", "class"])["dice"].mean()
    for (fold, name), dice in per_fold.items():
        assert dice == pytest.approx(wanted[name, fold], abs=1e-12)
    assert per_fold.groupby("fold").mean().mean() == pytest.approx(wanted["all", "all"], abs=1e-12)
    parts = by_class_and_fold(score_parts(images))
    for key, dice in wanted.items():
        assert parts.loc[key, "dice"] == pytest.approx(dice, abs=1e-12)
    assert parts.loc[("all", "all"), "images"] == len(IDS)
    assert 0.2 < wanted["all", "all"] < 0.95  # there was something to tell apart


def test_rows_are_of_images_in_the_order_of_the_blend(inputs):
    images = scores_of(inputs)
    assert list(images.columns) == ["image", "fold", "class", "truth", "kept", "dice"]
    assert images["image"].tolist() == [image for image in IDS for _ in CLASSES]
    assert images["class"].tolist() == CLASSES * len(IDS)
    assert images["fold"].tolist() == [fold for fold in FOLD_OF for _ in CLASSES]
    p = stores.read_images(inputs / "valid.zarr", slice(0, len(IDS)))
    flower = images[images["class"] == "Flower"]
    assert flower["kept"].tolist() == [int((plane >= 64).sum()) for plane in p[:, 1]]  # nothing is too small
    assert (images.loc[images["class"] == "Gravel", "kept"] == 0).all()  # everything is
    assert set(images.loc[(images["class"] == "Gravel") & (images["truth"] == 0), "dice"]) == {1.0}


def test_parts_are_what_a_loop_counts(inputs):
    images = scores_of(inputs)
    parts = by_class_and_fold(score_parts(images))
    for name in CLASSES:
        for fold in (0, 1, 2):
            rows = [row for row in images.itertuples() if (row.fold, row[3]) == (fold, name)]
            has, called = [row.truth > 0 for row in rows], [row.kept > 0 for row in rows]
            both = sum(h and c for h, c in zip(has, called, strict=True))
            wanted = {
                "dice_nonempty": np.mean([row.dice for row in rows if row.truth]) if any(has) else np.nan,
                "empty_kept": 1 - sum(called[i] and not has[i] for i in range(len(rows))) / (len(rows) - sum(has))
                if not all(has)
                else np.nan,
                "precision": both / sum(called) if any(called) else np.nan,
                "recall": both / sum(has) if any(has) else np.nan,
                "rate": sum(has) / len(rows),
                "images": len(rows),
            }
            got = parts.loc[(name, fold), list(wanted)].to_dict()
            assert got == pytest.approx(wanted, abs=1e-12, nan_ok=True)
    assert np.isnan(parts.loc[("Fish", 0), "dice_nonempty"])
    assert np.isnan(parts.loc[("Flower", 1), "empty_kept"])
    assert parts.loc[("Fish", "all"), "dice_nonempty"] == pytest.approx(
        np.mean([parts.loc[("Fish", fold), "dice_nonempty"] for fold in (1, 2)])
    )
    assert parts["expected"].isna().all()


def test_each_folds_own_rates_give_the_plain_score(inputs):
    parts = score_parts(scores_of(inputs))
    plain = by_class_and_fold(parts).loc[("all", "all"), "dice"]
    assert expected_score(parts) == pytest.approx(plain, abs=1e-12)


def test_given_rates_weigh_the_parts(inputs, tmp_path):
    rates = {"Fish": 0.5, "Flower": 0.0, "Gravel": 1.0}
    images = scores_of(inputs)
    parts = score_parts(images, rates)
    cells = by_class_and_fold(parts)
    fish, flower, gravel = (cells.loc[(name, "all")] for name in CLASSES)
    wanted = [(fish["empty_kept"] + fish["dice_nonempty"]) / 2, flower["empty_kept"], gravel["dice_nonempty"]]
    assert [fish["expected"], flower["expected"], gravel["expected"]] == pytest.approx(wanted, abs=1e-12)
    assert cells.loc[("all", "all"), "expected"] == pytest.approx(np.mean(wanted), abs=1e-12)
    assert expected_score(parts, rates) == pytest.approx(np.mean(wanted), abs=1e-12)
    write_scores(parts, tmp_path / "parts.tsv")
    again = pd.read_csv(tmp_path / "parts.tsv", sep="\t", dtype={"fold": str})
    again["fold"] = folds_of(again["fold"], "parts.tsv")
    assert expected_score(again, rates) == expected_score(parts, rates)
    assert expected_score(again) == expected_score(parts)


def test_a_class_that_no_image_has_is_expected_only_where_none_will_have_it(inputs):
    images = scores_of(inputs)
    images.loc[images["class"] == "Fish", "truth"] = 0
    images.loc[images["class"] == "Fish", "dice"] = (images["kept"] == 0).astype(float)
    parts = score_parts(images)
    assert expected_score(parts) == pytest.approx(by_class_and_fold(parts).loc[("all", "all"), "dice"], abs=1e-12)
    assert np.isnan(expected_score(parts, {"Fish": 0.1, "Flower": 0.5, "Gravel": 0.5}))
    assert np.isfinite(expected_score(parts, {"Fish": 0, "Flower": 0.5, "Gravel": 0.5}))
    whole = by_class_and_fold(score_parts(images, {"Fish": 0.1, "Flower": 0.5, "Gravel": 0.5}))
    assert np.isnan(whole.loc[("all", "all"), "expected"])  # not the mean of the other two
    assert np.isfinite(whole.loc[("Flower", "all"), "expected"])


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"Fish": 0.5, "Flower": 0.5}, r"class_rates: expected one rate for each of .*, got \['Fish', 'Flower'\]"),
        ({"Fish": 0.5, "Flower": 0.5, "Sugar": 0.1}, "expected one rate for each"),
        ({"Fish": 0.5, "Flower": 50, "Gravel": 0.5}, r"class_rates: .*, got {'Flower': 50}"),
        ({"Fish": 0.5, "Flower": float("nan"), "Gravel": 0.5}, "from 0 to 1"),
    ],
)
def test_bad_rates(inputs, rates, message):
    images = scores_of(inputs)
    with pytest.raises(ValueError, match=message):
        score_parts(images, rates)
    with pytest.raises(ValueError, match=message):
        expected_score(score_parts(images), rates)


def test_no_common_fold_makes_tables_without_rows(tmp_path):
    write(tmp_path / "valid.zarr", np.zeros((0, 3, *SIZE), np.uint8), [], fold=[])
    write(tmp_path / "truth.zarr", np.zeros((1, 3, *SIZE), np.uint8), ["a.jpg"])
    images = scores_of(tmp_path)
    parts = score_parts(images, {"Fish": 0.5, "Flower": 0.5, "Gravel": 0.5})
    assert (len(images), len(parts)) == (0, 0)
    assert list(parts.columns)[-2:] == ["expected", "images"]
    assert np.isnan(expected_score(parts))
    assert np.isnan(expected_score(parts, {"Fish": 0.5, "Flower": 0.5, "Gravel": 0.5}))
    assert np.isnan(paired_bootstrap(images, images, seed=0)).all()


def test_a_chosen_decision_scores_each_fold_by_what_the_others_chose(inputs):
    folds = sorted(set(FOLD_OF))
    write_surface(
        inputs / "valid.zarr", inputs / "truth.zarr", inputs / "s.zarr", folds=folds, min_sizes=[0, 10, 20, 30, 1000]
    )
    how = {"how": "tune", "thresholds": [0.5] * 3, "min_sizes": [0] * 3, "tune_min_sizes": [0, 10, 20, 30]}
    decision, scores = decide(*read_surface(inputs / "s.zarr"), classes=CLASSES, rule=DecisionRule(**how))
    images = image_scores(inputs / "valid.zarr", inputs / "truth.zarr", decision)
    means = images.groupby(["fold", "class"])["dice"].mean()
    for row in scores[(scores["class"] != "all") & scores["fold"].notna()].itertuples():
        assert means[row.fold, row._2] == pytest.approx(row.nested, abs=1e-12)
    assert decision.nested[0] != decision.nested[1]  # else the test could not fail


SIZES = [0, 10, 20, 30]
GRID = {"thresholds": [n / 20 for n in range(20)], "min_sizes": SIZES}
WISHES = {
    "fixed": DecisionRule("fixed", [0.5, 0.25, 0.4], [30, 0, 10], SIZES),
    "tune": DecisionRule("tune", [0.5] * 3, [0] * 3, SIZES),
    "grid": DecisionRule("grid", [0.5] * 3, [0] * 3, [0], grid=GRID),
}


@pytest.mark.parametrize("how", ["fixed", "tune", "grid"])
def test_an_ensemble_of_one_network_gains_nothing_over_it_however_it_is_decided(inputs, how):
    """An untuned member made a tuned ensemble of nothing but that member look better than it."""
    blend, truth = inputs / "valid.zarr", inputs / "truth.zarr"
    write_surface(blend, truth, inputs / "s.zarr", folds=[0, 1, 2], min_sizes=SIZES)
    decision, _ = decide(*read_surface(inputs / "s.zarr"), classes=CLASSES, rule=WISHES[how])
    options = {"folds": [0, 1, 2], "classes": CLASSES, "rule": WISHES[how]}
    found = compare(image_scores(blend, truth, decision), {"one": blend}, truth, seed=1, **options)
    assert (found["gain"], found["gain_low"], found["gain_high"]) == (0, 0, 0)
    assert found["best_member"] == "one"


def test_members_are_compared_on_the_folds_of_the_ensemble_and_the_best_is_named(inputs):
    blend, truth = inputs / "valid.zarr", inputs / "truth.zarr"
    write(inputs / "empty.zarr", np.zeros((len(IDS), len(CLASSES), *SIZE), np.uint8), IDS, fold=FOLD_OF)
    options = {"folds": [0, 2], "classes": CLASSES, "rule": WISHES["tune"]}
    own = member_scores(blend, truth, **options)
    assert set(own["fold"]) == {0, 2}
    found = compare(own, {"full": blend, "empty": inputs / "empty.zarr"}, truth, seed=1, **options)
    empty = mean_of_images(member_scores(inputs / "empty.zarr", truth, **options))
    dice = {"full": mean_of_images(own), "empty": empty}
    assert found["best_member"] == max(dice, key=dice.get)
    assert found["best_member_dice"] == max(dice.values())
    assert found["gain"] == pytest.approx(mean_of_images(own) - max(dice.values()))


def test_a_member_that_votes_is_compared_as_it_votes_not_by_a_share_of_votes(inputs):
    blend, truth = inputs / "valid.zarr", inputs / "truth.zarr"
    own = Decision("fixed", 12, WISHES["fixed"].fixed(CLASSES))
    votes = DecisionRule("fixed", [0.9] * 3, [0] * 3, SIZES)  # nine of ten members
    scores = image_scores(blend, truth, own)
    options = {"folds": [0, 1, 2], "classes": CLASSES, "rule": votes, "voters": {"one": own}}
    found = compare(scores, {"one": blend}, truth, seed=1, **options)
    assert found["best_member_dice"] == mean_of_images(scores)
    assert found["gain"] == 0


def test_a_choice_on_a_single_fold_is_not_compared(inputs):
    blend, truth = inputs / "valid.zarr", inputs / "truth.zarr"
    options = {"folds": [0], "classes": CLASSES, "rule": WISHES["tune"]}
    assert compare(scores_of(inputs, folds=[0]), {"one": blend}, truth, seed=1, **options) == {}


def test_without_members_there_is_no_best_one(inputs):
    options = {"folds": [0, 1, 2], "classes": CLASSES, "rule": WISHES["tune"]}
    assert compare(scores_of(inputs, folds=[0, 1, 2]), {}, inputs / "truth.zarr", seed=1, **options) == {}


def test_an_image_without_truth_is_refused(inputs):
    write(inputs / "other.zarr", np.zeros((1, 3, *SIZE), np.uint8), ["x.jpg"])
    with pytest.raises(ValueError, match=r"other\.zarr: has no truth for 0\.jpg \(12 of 12 images"):
        image_scores(inputs / "valid.zarr", inputs / "other.zarr", DECISION)


def table(dice, fold_of):
    """Make a table of per-image scores from Dice (image, class)."""
    rows = [
        (f"{i}.jpg", fold_of[i], name, 1, 1, dice[i, c]) for i in range(len(dice)) for c, name in enumerate(CLASSES)
    ]
    return pd.DataFrame(rows, columns=["image", "fold", "class", "truth", "kept", "dice"])


def test_bootstrap_is_of_the_mean_over_images_classes_and_folds():
    random = np.random.default_rng(1)
    fold_of = [0] * 40 + [1] * 160  # an image of fold 0 counts four times one of fold 1
    one, two = random.random((200, 3)), random.random((200, 3))
    one[:40] += 0.5
    gain, low, high = paired_bootstrap(table(one, fold_of), table(two, fold_of)[::-1], seed=3)
    difference = (one - two).mean(axis=1)
    assert gain == pytest.approx((difference[:40].mean() + difference[40:].mean()) / 2, abs=1e-12)
    draws = [
        (random.choice(difference[:40], 40).mean() + random.choice(difference[40:], 160).mean()) / 2
        for _ in range(4000)
    ]
    assert (low, high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.006)
    assert (gain, low, high) == paired_bootstrap(table(one, fold_of), table(two, fold_of), seed=3)
    assert (low, high) != paired_bootstrap(table(one, fold_of), table(two, fold_of), seed=4)[1:]


def test_bootstrap_keeps_the_classes_of_an_image_together():
    random = np.random.default_rng(2)
    shared = np.repeat(random.normal(size=(300, 1)), 3, axis=1)  # what makes an image hard, for all its classes
    _, low, high = paired_bootstrap(table(shared, [0] * 300), table(0 * shared, [0] * 300), seed=0)
    assert high - low == pytest.approx(2 * 1.96 * shared[:, 0].std() / np.sqrt(300), rel=0.1)


def test_bootstrap_covers_the_true_gain_at_its_level():
    random = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        dice = random.normal(0.02, 0.2, size=(60, 3))
        _, low, high = paired_bootstrap(table(dice, [0, 1] * 30), table(0 * dice, [0, 1] * 30), seed=trial, draws=400)
        covered += low <= 0.02 <= high
    assert 180 <= covered <= 199  # 190 expected, standard deviation 3


def test_bootstrap_takes_common_images_alone():
    random = np.random.default_rng(6)
    dice = random.random((20, 3))
    one, two = table(dice, [0] * 10 + [1] * 10), table(dice - 0.25, [0] * 10 + [1] * 10)
    gain, low, high = paired_bootstrap(one, two[two["fold"] == 1], seed=0)
    assert (gain, low, high) == pytest.approx((0.25, 0.25, 0.25))
    assert np.isnan(paired_bootstrap(one[one["fold"] == 0], two[two["fold"] == 1], seed=0)).all()


@pytest.mark.parametrize("how", ["fold", "class"])
def test_bootstrap_refuses_tables_of_another_split(how):
    one = table(np.ones((4, 3)), [0, 0, 1, 1])
    two = one.copy()
    if how == "fold":
        two.loc[two["image"] == "2.jpg", "fold"] = 0
    else:
        two = two[(two["image"] != "2.jpg") | (two["class"] != "Fish")]
    with pytest.raises(ValueError, match=r"2\.jpg: has another fold or other classes"):
        paired_bootstrap(one, two, seed=0)
