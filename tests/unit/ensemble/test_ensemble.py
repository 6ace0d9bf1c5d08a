"""Blending, surfaces, decisions and submissions over small stores, against plain NumPy."""

import csv
import dataclasses
from fractions import Fraction

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from score_cells import by_class_and_fold

from cloudseg.ensemble import submission as submission_module
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.deciding import decide, grid, tune
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.score_tables import read_scores, write_scores
from cloudseg.ensemble.submission import write_submission
from cloudseg.ensemble.surface import read_surface, write_surface
from cloudseg.errors import DamagedFileError
from cloudseg.postprocess import Cut, decode_rle, segment
from cloudseg.postprocess import level as level_of
from cloudseg.storage import stores
from cloudseg.workflow.ensemble import blend_threshold

CLASSES = ["Fish", "Flower"]
SIZE = (20, 30)


def write(path, block, ids, **attrs):
    spec = stores.Spec(block.shape, "uint8", ("image", "class", "y", "x"))
    writer = stores.Writer(path, {"": spec}, {"ids": ids, "classes": CLASSES, "run": path.name, **attrs})
    for rows in writer.missing():
        writer.write(rows, block[rows])
    writer.finish()
    return path


def planes(seed, count):
    random = np.random.default_rng(seed)
    noise = random.random((count, len(CLASSES), 5, 8)).astype(np.float32)
    smooth = [[cv2.resize(plane, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for plane in image] for image in noise]
    return (np.clip(smooth, 0, 1) * 255).astype(np.uint8)


def member(store, fold, weight=1.0):
    return {"store": store, "fold": fold, "weight": weight}


def expected_blend(blocks, weights, sharpen=None):
    """The rational weighted mean, rounded half up, for exponent 1."""
    total = sum(Fraction(weight) for weight in weights)
    values = sum(Fraction(weight) * block.astype(object) for weight, block in zip(weights, blocks, strict=True))
    return np.vectorize(lambda value: int(value / total + Fraction(1, 2)))(values).astype(np.uint8)


@pytest.mark.parametrize("block_bytes", [1, 3000, 2**27])
def test_test_images_get_one_flat_blend(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr("cloudseg.ensemble.blending.BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(stores, "SHARD_BYTES", 4 * 2 * 20 * 30)
    ids = [f"{number}.jpg" for number in range(7)]
    blocks = [planes(seed, 7) for seed in range(3)]
    paths = [write(tmp_path / f"{n}.zarr", block, ids) for n, block in enumerate(blocks)]
    members = [member("a", 0, 0.5), member("b", 1, 0.5), member("c", 0, 0.5)]
    blend_stores(paths, members, tmp_path / "out.zarr", folds=None, classes=CLASSES, size=SIZE, threads=2)
    made = stores.read(tmp_path / "out.zarr")
    assert list(made.attrs["ids"]) == ids
    assert np.array_equal(stores.read_images(made, slice(0, 7)), expected_blend(blocks, [1, 1, 1]))


def test_out_of_fold_images_are_blended_from_stores_that_never_saw_them(tmp_path):
    ids = {0: ["a.jpg", "d.jpg"], 1: ["b.jpg", "c.jpg", "e.jpg"]}
    blocks, paths, members = {}, [], []
    for fold, names in ids.items():
        for model in "xy":
            blocks[model, fold] = planes(ord(model) + fold, len(names))
            paths.append(write(tmp_path / f"{model}{fold}.zarr", blocks[model, fold], names))
            members.append(member(f"{model}{fold}", fold, {"x": 3.0, "y": 1.0}[model]))
    blend_stores(paths, members, tmp_path / "out.zarr", folds=[0, 1], classes=CLASSES, size=SIZE)
    made = stores.read(tmp_path / "out.zarr")
    assert list(made.attrs["ids"]) == ids[0] + ids[1]
    assert list(made.attrs["fold"]) == [0, 0, 1, 1, 1]
    wanted = np.concatenate([expected_blend([blocks["x", fold], blocks["y", fold]], [3, 1]) for fold in (0, 1)])
    assert np.abs(stores.read_images(made, slice(0, 5)).astype(int) - wanted).max() <= 1


def test_no_common_fold_makes_an_empty_store_and_an_empty_surface(tmp_path):
    path = write(tmp_path / "a.zarr", planes(0, 2), ["a.jpg", "b.jpg"])
    truth = write(tmp_path / "truth.zarr", planes(0, 2) // 255, ["a.jpg", "b.jpg"])
    blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", folds=[], classes=CLASSES, size=SIZE)
    assert stores.read(tmp_path / "out.zarr").shape == (0, 2, *SIZE)
    write_surface(tmp_path / "out.zarr", truth, tmp_path / "surface.zarr", folds=[], min_sizes=[0, 5])
    sums, _, _, _ = read_surface(tmp_path / "surface.zarr")
    assert sums.shape == (0, 2, 256, 2)
    fixed = {"how": "fixed", "thresholds": [0.5, 0.5], "min_sizes": [5, 5], "tune_min_sizes": [0]}
    decision, scores = decide(*read_surface(tmp_path / "surface.zarr"), classes=CLASSES, rule=DecisionRule(**fixed))
    assert decision.plain()["classes"]["Fish"] == {"level": 128, "threshold": 0.502, "min_size": 5}
    assert scores.empty


def test_stores_of_other_images_or_classes_are_refused(tmp_path):
    one = write(tmp_path / "a.zarr", planes(0, 2), ["a.jpg", "b.jpg"])
    two = write(tmp_path / "b.zarr", planes(1, 2), ["b.jpg", "a.jpg"])
    with pytest.raises(ValueError, match=r"b\.zarr: holds other images"):
        blend_stores([one, two], [member("a", 0)] * 2, tmp_path / "o.zarr", folds=None, classes=CLASSES, size=SIZE)
    with pytest.raises(ValueError, match="expected the classes"):
        blend_stores([one], [member("a", 0)], tmp_path / "o.zarr", folds=None, classes=["Fish"], size=SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def squashed(values):
    """One sigmoid too many, on uint8 probabilities."""
    return np.floor(255 / (1 + np.exp(-values.astype(float) / 255)) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("kind", ["sigmoid of a sigmoid", "0.5 everywhere", "0.5 cut off"])
def test_squeezed_stores_stop_the_blend_unless_forced(tmp_path, kind):
    good = planes(0, 3)
    values = {"0.5 everywhere": np.full_like(good, 128), "0.5 cut off": np.full_like(good, 127)}
    bad = values.get(kind, squashed(good))
    ids = ["a.jpg", "b.jpg", "c.jpg"]
    paths = [write(tmp_path / "good.zarr", good, ids), write(tmp_path / "bad.zarr", bad, ids)]
    wish = {"folds": None, "classes": CLASSES, "size": SIZE, "threads": 2}
    with pytest.raises(ValueError, match=r"bad\.zarr: looks like a sigmoid of a sigmoid .* 100\.00% .*allow_squeezed"):
        blend_stores(paths, [member("a", 0)] * 2, tmp_path / "out.zarr", **wish)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zarr", "good.zarr"]
    blend_stores(paths, [member("a", 0)] * 2, tmp_path / "out.zarr", **wish, allow_squeezed=True)
    made = stores.read_images(tmp_path / "out.zarr", slice(0, 3))
    assert np.array_equal(made, expected_blend([good, bad], [1, 1]))


@pytest.mark.parametrize(("outside", "stops"), [(3, True), (4, False)])
def test_the_share_that_stops_a_blend_is_of_the_whole_store(tmp_path, outside, stops):
    block = np.full((3, 2, *SIZE), 187, np.uint8)  # 3600 values: a thousandth is 3.6
    block.reshape(-1)[-outside:] = [188, 126, 0, 255][:outside]
    path = write(tmp_path / "a.zarr", block, ["a.jpg", "b.jpg", "c.jpg"])
    wish = {"folds": None, "classes": CLASSES, "size": SIZE}
    if stops:
        with pytest.raises(ValueError, match=r"99\.92% of its values lie in 127\.\.187"):
            blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", **wish)
    else:
        blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", **wish)
    assert (tmp_path / "out.zarr").exists() is not stops


def test_empty_and_two_valued_stores_are_not_squeezed(tmp_path):
    two_valued = (planes(0, 2) // 128) * 255
    wish = {"classes": CLASSES, "size": SIZE}
    for name, block in {"none": two_valued[:0], "zero": 0 * two_valued, "two": two_valued}.items():
        path = write(tmp_path / f"{name}.zarr", block, ["a.jpg", "b.jpg"][: len(block)])
        blend_stores([path], [member("a", 0)], tmp_path / f"{name}-out.zarr", folds=None, **wish)
        assert np.array_equal(stores.read_images(tmp_path / f"{name}-out.zarr", slice(0, 2)), block)


def dice_by_hand(probabilities, truth, level, min_size):
    mask = (probabilities >= level).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = [label for label in range(1, count) if stats[label, cv2.CC_STAT_AREA] >= min_size]
    mask = np.isin(labels, keep)
    total = mask.sum() + truth.sum()
    return 1.0 if total == 0 else 2 * (mask & (truth > 0)).sum() / total


@pytest.fixture
def surface(tmp_path):
    ids = [f"{number}.jpg" for number in range(5)]
    p, g = planes(3, 5), (planes(3, 5).astype(int) + planes(4, 5) > 300).astype(np.uint8)
    g[2, 0] = 0
    blend = write(tmp_path / "valid.zarr", p, ids, fold=[0, 0, 1, 1, 1])
    order = [4, 2, 0, 1, 3]
    truth = write(tmp_path / "truth.zarr", g[order], [ids[i] for i in order])
    write_surface(blend, truth, tmp_path / "surface.zarr", folds=[0, 1], min_sizes=[0, 10, 60], threads=2)
    return p, g, tmp_path / "surface.zarr"


def test_surface_is_dice_of_every_level_and_size(surface):
    p, g, path = surface
    sums, counts, min_sizes, folds = read_surface(path)
    assert (counts.tolist(), min_sizes, folds) == ([2, 3], [0, 10, 60], [0, 1])
    for fold, images in enumerate([[0, 1], [2, 3, 4]]):
        for c in range(2):
            for level in (1, 90, 128, 200, 255):
                for k, size in enumerate(min_sizes):
                    wanted = sum(dice_by_hand(p[i, c], g[i, c], level, size) for i in images)
                    assert sums[fold, c, level, k] == pytest.approx(wanted, abs=1e-12)


def test_decisions_are_scored_fixed_tuned_and_nested(surface):
    sums, counts, min_sizes, folds = read_surface(surface[2])
    wish = {"how": "tune", "thresholds": [0.5, 0.25], "min_sizes": [10, 60], "tune_min_sizes": [0, 60]}
    decision, scores = decide(sums, counts, min_sizes, folds, classes=CLASSES, rule=DecisionRule(**wish))
    mean = sums / counts[:, None, None, None]
    rows = by_class_and_fold(scores)
    assert rows.loc[("Fish", 0), "fixed"] == mean[0, 0, 128, 1]
    assert rows.loc[("Flower", 1), "fixed"] == mean[1, 1, 64, 2]
    level, column = tune(mean[1, 0][:, [0, 2]])  # nested: fold 0 is decided by fold 1
    assert rows.loc[("Fish", 0), "nested"] == mean[0, 0, level, [0, 2][column]]
    level, column = tune(mean[:, 0].mean(axis=0)[:, [0, 2]])
    assert decision.plain()["classes"]["Fish"] == {
        "level": level,
        "threshold": round(level / 255, 4),
        "min_size": [0, 60][column],
    }
    assert rows.loc[("all", "all"), "fixed"] == pytest.approx(
        np.mean([rows.loc[(name, fold), "fixed"] for name in CLASSES for fold in (0, 1)])
    )
    assert rows.loc[("all", "all"), "images"] == 5


@pytest.mark.parametrize("how", ["fixed", "tune", "grid"])
def test_one_fold_has_no_nested_score(surface, how):
    sums, counts, min_sizes, folds = read_surface(surface[2])
    wish = {"how": how, "thresholds": [0.5, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0, 10], "grid": GRID}
    _, scores = decide(sums[:1], counts[:1], min_sizes, folds[:1], classes=CLASSES, rule=DecisionRule(**wish))
    assert scores["nested"].isna().all()
    assert scores["tuned"].notna().all()


GRID = {"thresholds": [number / 20 for number in range(20)], "min_sizes": [0, 60, 10]}


def best_pair_by_hand(p, g, folds_of_images):
    """Segment with every pair of the grid, threshold by threshold; keep the first that none beats."""
    best = (-1.0, None)
    for threshold in GRID["thresholds"]:
        for size in GRID["min_sizes"]:
            texts = segment(p[:, None], threshold, size)
            dice = []
            for text, truth in zip(texts, g, strict=True):
                mask = decode_rle(text, SIZE)
                total = mask.sum() + truth.sum()
                dice.append(1.0 if total == 0 else 2 * (mask & truth).sum() / total)
            score = np.mean([np.mean([dice[i] for i in images]) for images in folds_of_images])
            if score > best[0] + 1e-12:
                best = (score, (threshold, size))
    return best


def test_grid_is_the_best_pair_of_brute_force(surface):
    p, g, path = surface
    sums, counts, min_sizes, folds = read_surface(path)
    wish = {"how": "grid", "thresholds": [0.5, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0], "grid": GRID}
    decision, scores = decide(sums, counts, min_sizes, folds, classes=CLASSES, rule=DecisionRule(**wish))
    rows = by_class_and_fold(scores)
    images = {0: [0, 1], 1: [2, 3, 4]}
    mean = sums / counts[:, None, None, None]
    for c, name in enumerate(CLASSES):
        score, (threshold, size) = best_pair_by_hand(p[:, c], g[:, c], images.values())
        assert decision.cuts[name] == Cut(int(np.ceil(255 * threshold - 1e-9)), size)
        assert rows.loc[(name, "all"), "tuned"] == pytest.approx(score, abs=1e-12)
        for fold, other in ((0, 1), (1, 0)):
            few = [range(len(images[other]))]
            _, (threshold, size) = best_pair_by_hand(p[images[other], c], g[images[other], c], few)
            chosen = mean[fold, c, int(np.ceil(255 * threshold - 1e-9)), min_sizes.index(size)]
            assert rows.loc[(name, fold), "nested"] == pytest.approx(chosen, abs=1e-12)


def test_grid_takes_a_spike_that_tuning_passes_over_and_the_first_of_equals():
    dice = np.zeros((256, 4))
    dice[100:140] = 0.8
    dice[64, 3] = 0.9  # level(0.25)
    assert grid(dice, GRID["thresholds"], [0, 1, 3]) == (64, 3)
    assert grid(np.ones((256, 4)), [0.5, 0.25], [2, 0]) == (128, 2)
    dice[64, 1] = 0.9 + 1e-15  # the same masks, summed in another order
    assert grid(dice, GRID["thresholds"], [3, 1]) == (64, 3)


def test_a_surface_without_a_size_of_the_grid_is_refused(surface):
    wish = {"how": "grid", "thresholds": [0.5, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0]}
    wish["grid"] = GRID | {"min_sizes": [0, 100]}
    with pytest.raises(ValueError, match=r"expected the minimum sizes \[100\] in the surface, got \[0, 10, 60\]"):
        decide(*read_surface(surface[2]), classes=CLASSES, rule=DecisionRule(**wish))


def test_tuning_prefers_a_plateau_to_a_spike_and_does_not_wander_at_edges():
    dice = np.zeros((256, 4))
    dice[40, 3] = 1.0
    dice[100:140] = 0.8
    level, _ = tune(dice)
    assert 100 <= level < 140
    assert tune(np.ones((256, 4))) == (0, 0)


@pytest.mark.parametrize("threads", [1, 2])
def test_submission_is_the_samples_rows_with_the_decided_masks(tmp_path, threads):
    ids = [f"{number}_x.jpg" for number in range(40)]
    p = planes(5, 40)
    blend = write(tmp_path / "test.zarr", p, ids)
    cuts = {"Fish": Cut(150, 30), "Flower": Cut(200, 0)}
    sample = [(image, label) for image in reversed(ids) for label in ("Flower", "Fish")]
    summary = write_submission(blend, cuts, sample, tmp_path / "submission.csv", threads=threads)
    with (tmp_path / "submission.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["Image_Label", "EncodedPixels"]
    assert [row[0] for row in rows[1:]] == [f"{image}_{label}" for image, label in sample]
    assert summary.rows == 80
    assert summary.filled == sum(bool(row[1]) for row in rows[1:])
    for (image, label), (_, text) in zip(sample, rows[1:], strict=True):
        flat = np.zeros(SIZE[0] * SIZE[1], np.uint8)
        numbers = list(map(int, text.split()))
        for start, length in zip(numbers[::2], numbers[1::2], strict=True):
            flat[start - 1 : start - 1 + length] = 1
        mask = flat.reshape(SIZE[::-1]).T
        plane = p[ids.index(image), CLASSES.index(label)]
        assert dice_by_hand(plane, mask, **dataclasses.asdict(cuts[label])) == 1.0


def test_a_sharpened_decision_says_its_level_as_the_blend_has_it_and_as_a_probability(surface):
    wish = {"how": "fixed", "thresholds": [0.7, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0], "sharpen": 0.5}
    decision, _ = decide(*read_surface(surface[2]), classes=CLASSES, rule=DecisionRule(**wish))
    assert decision.plain()["sharpen"] == 0.5
    assert decision.plain()["classes"]["Fish"] == {"level": 179, "threshold": 0.4927, "sharpened": 0.702, "min_size": 0}


def test_two_networks_alike_score_the_same_sharpened_and_plain(tmp_path):
    """A blend of one network with itself cuts where the network does, whatever the power that it is blended in."""
    p, ids = planes(9, 4), ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    path = write(tmp_path / "one.zarr", p, ids)
    wish = {"folds": [0], "classes": CLASSES, "size": SIZE}
    masks = {}
    for sharpen in (None, 0.5, 2.0):
        out = tmp_path / f"{sharpen}.zarr"
        blend_stores([path, path], [member("a", 0)] * 2, out, sharpen=sharpen, **wish)
        level = level_of(blend_threshold(0.5, None, sharpen))
        masks[sharpen] = stores.read_images(stores.read(out), slice(0, 4)) >= level
    for sharpen in (0.5, 2.0):
        differing = p[masks[sharpen] != masks[None]]  # rounding to a byte may part neighbours of the level
        assert len(differing) == 0 or np.abs(differing.astype(int) - 128).max() <= 1


def test_a_mask_that_does_not_read_back_leaves_no_file(tmp_path, monkeypatch):
    blend = write(tmp_path / "test.zarr", planes(6, 1), ["a.jpg"])
    monkeypatch.setattr(submission_module, "segment", lambda block, *_, **__: ["1 1"] * (len(block) * 2))
    with pytest.raises(ValueError, match="does not decode to what it was made from"):
        write_submission(blend, dict.fromkeys(CLASSES, Cut(100, 0)), [("a.jpg", "Fish")], tmp_path / "submission.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["test.zarr"]


def test_a_sample_with_strangers_is_refused(tmp_path):
    blend = write(tmp_path / "test.zarr", planes(6, 1), ["a.jpg"])
    with pytest.raises(ValueError, match=r"no probabilities for b\.jpg_Fish"):
        write_submission(blend, dict.fromkeys(CLASSES, Cut(100, 0)), [("b.jpg", "Fish")], tmp_path / "submission.csv")


def test_scores_are_plain_text_that_reads_back(surface, tmp_path):
    sums, counts, min_sizes, folds = read_surface(surface[2])
    wish = {"how": "fixed", "thresholds": [0.5, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0, 10]}
    decision, scores = decide(sums, counts, min_sizes, folds, classes=CLASSES, rule=DecisionRule(**wish))
    write_scores(scores, tmp_path / "scores.tsv")
    assert set(pd.read_csv(tmp_path / "scores.tsv", sep="\t", dtype={"fold": str})["fold"]) == {"0", "1", "all"}
    again = read_scores(tmp_path / "scores.tsv", decision)
    pd.testing.assert_frame_equal(again, scores, check_dtype=False, check_exact=True)
    assert again["fold"].dtype == scores["fold"].dtype == "Int64"


@pytest.mark.parametrize("how", ["fixed", "tune"])
@pytest.mark.parametrize("sharpen", [None, 0.5])
def test_a_decision_reads_back(surface, tmp_path, how, sharpen):
    wish = {"how": how, "thresholds": [0.7, 0.5], "min_sizes": [0, 10], "tune_min_sizes": [0, 60], "sharpen": sharpen}
    decision, _ = decide(*read_surface(surface[2]), classes=CLASSES, rule=DecisionRule(**wish))
    (tmp_path / "decision.yaml").write_text(yaml.safe_dump(decision.plain(), sort_keys=False))
    assert Decision.read(tmp_path / "decision.yaml", CLASSES) == decision
    assert decision.has_honest_score
    with pytest.raises(DamagedFileError, match="expected a decision on each of Fish, Sugar, got Fish, Flower"):
        Decision.read(tmp_path / "decision.yaml", ["Fish", "Sugar"])


@pytest.mark.parametrize("level", [256, -1, 1.5, "128", None])
def test_a_level_that_no_pixel_has_is_a_damaged_decision(tmp_path, level):
    plain = Decision("fixed", 1, {"Fish": Cut(1, 0)}).plain()
    plain["classes"]["Fish"]["level"] = level
    (tmp_path / "decision.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(DamagedFileError, match="not a whole decision"):
        Decision.read(tmp_path / "decision.yaml", ["Fish"])


def test_a_decision_on_no_number_of_images_is_damaged(tmp_path):
    plain = Decision("fixed", 1, {"Fish": Cut(1, 0)}).plain() | {"images": "1"}
    (tmp_path / "decision.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(DamagedFileError, match="not a whole decision"):
        Decision.read(tmp_path / "decision.yaml", ["Fish"])
