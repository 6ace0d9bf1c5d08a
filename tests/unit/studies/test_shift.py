"""Adversarial validation: a shift is found, none is not, and nothing leaks into a held-out score."""

import json
import runpy
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from cloudseg.dataset.check import check_dataset
from cloudseg.dataset.demo import CLASSES, make_demo
from cloudseg.dataset.folds import read_weights
from cloudseg.dataset.pixels import build_pixels
from cloudseg.report.shift_page import shift_page, shift_tiles
from cloudseg.storage import stores
from cloudseg.storage.files import write_table
from cloudseg.studies import shift as module
from cloudseg.studies.shift import FEATURES, Shift, describe, discriminate, measure_shift, read_features


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """The images table and the pixel stores of a small demo, by the shift of its test images."""
    made = {}
    for shift in (0, 0.3):
        folder = tmp_path_factory.mktemp("shift")
        make_demo(folder / "raw", train=14, test=8, height=96, width=144, shift=shift, workers=2)
        images, _ = check_dataset(folder / "raw", classes=CLASSES, size_of_submission=(96, 144))
        pixels = {split: folder / f"{split}.zarr" for split in ("train", "test")}
        for split, out in pixels.items():
            build_pixels(images, folder / "raw", out, split=split, size="64x96", classes=CLASSES)
            write_table(images[images["split"] == split], out.with_suffix(".tsv"))
        made[shift] = images, pixels
    return made


def gaussian(train, test, features, seed, apart=0.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(train + test, features))
    values[train:, 0] += apart
    return values, np.arange(train + test) < train, [str(row) for row in range(train + test)]


def test_an_injected_shift_is_found_on_the_demo(demos):
    images, pixels = demos[0.3]
    found = measure_shift(pixels, images, seed=0)
    assert found.auc > 0.9
    assert 0.5 < found.low < found.auc <= found.high <= 1
    assert found.verdict.startswith(f"train and test differ: AUC {found.auc:.2f} ({found.low:.2f}..")


def test_no_shift_gives_one_half_within_the_interval(demos):
    images, pixels = demos[0]
    found = measure_shift(pixels, images, seed=0)
    assert found.low < 0.5 < found.high
    assert found.verdict.startswith("no difference found: AUC")
    assert found.verdict.endswith("holds 0.5)")


def test_false_alarms_are_as_rare_as_the_interval_says(monkeypatch):
    monkeypatch.setattr(module, "PERMUTATIONS", 40)
    found = [discriminate(*gaussian(12, 6, 8, seed), seed=seed) for seed in range(60)]
    assert sum(one.low > 0.5 for one in found) <= 4  # 1.5 expected; 5 or more come once in 50
    assert abs(np.mean([one.auc for one in found]) - 0.5) < 0.06  # pooled over folds it would be biased


def test_more_features_than_images_learn_nothing_from_noise():
    found = discriminate(*gaussian(20, 12, 60, 3), seed=0)
    assert found.low < 0.5 < found.high
    assert found.auc < 0.75  # what has seen the images that it scores gets 1 here


def test_copies_are_held_out_together():
    values, is_train, names = gaussian(16, 10, 12, 5)
    copied = [np.repeat(array, 4, axis=0) for array in (values, is_train, np.array(names))]
    assert abs(discriminate(*copied, seed=0).auc - discriminate(values, is_train, names, seed=0).auc) < 0.15
    apart = [str(row) for row in range(len(copied[0]))]
    assert discriminate(copied[0], copied[1], apart, seed=0).auc > 0.75  # what the leak would look like


def test_a_picture_in_both_sets_tells_nothing():
    values, is_train, names = gaussian(12, 12, 4, 0)
    values[12:], names[12:] = values[:12], names[:12]
    assert discriminate(values, is_train, names, seed=0).auc == pytest.approx(0.5, abs=0.15)


def test_auc_counts_pairs_within_folds_and_ties_as_halves():
    rng = np.random.default_rng(0)
    score, is_train, fold = rng.integers(0, 5, 40), rng.random(40) < 0.6, rng.integers(0, 3, 40)
    pairs = [
        (score[i] > score[j]) + 0.5 * (score[i] == score[j])
        for i in range(40)
        for j in range(40)
        if is_train[i] and not is_train[j] and fold[i] == fold[j]
    ]
    assert module._mean_auc([score], is_train, [fold]) == pytest.approx(np.mean(pairs))


def test_the_curve_has_the_auc_under_it():
    found = discriminate(*gaussian(60, 40, 3, 1, apart=1.0), seed=0)
    assert np.trapezoid(found.curve, module.GRID) == pytest.approx(found.auc, abs=0.01)
    assert np.all(np.diff(found.curve) >= -1e-12)


@pytest.mark.parametrize("auc", [0.3, 0.5, 0.8, 1.0])
def test_the_ends_of_the_interval_are_those_of_the_test_by_hanley_and_mcneil(auc):
    size = 20

    def variance(theta):
        one_train, one_test = theta / (2 - theta), 2 * theta**2 / (1 + theta)
        excess = one_train + one_test - 2 * theta**2
        return (theta * (1 - theta) + (size - 1) * excess) / size**2

    low, high = module._interval(auc, np.arange(2 * size) < size, variance(0.5))
    assert (auc - low) ** 2 == pytest.approx(1.96**2 * variance(low), rel=1e-6)
    assert (high - auc) ** 2 == pytest.approx(1.96**2 * variance(high), rel=1e-6, abs=1e-12)
    assert low < auc <= high


def test_a_perfect_separation_of_few_images_is_not_taken_for_certain():
    found = discriminate(*gaussian(8, 8, 2, 0, apart=30.0), seed=0)
    assert found.auc == found.high == 1
    assert 0.5 < found.low < 0.9


def test_weights_are_the_density_ratio():
    values, is_train, names = gaussian(600, 600, 1, 2, apart=1.0)
    weight = discriminate(values, is_train, names, seed=0).weight
    true = np.exp(values[is_train, 0] - 0.5)  # of two normal distributions one deviation apart
    inner = np.abs(values[is_train, 0]) < 1.5
    error = np.log(weight[is_train] / true)[inner]
    assert np.abs(error - error.mean()).max() < 0.35
    assert weight[is_train].mean() == pytest.approx(1)
    assert np.isnan(weight[~is_train]).all()
    assert weight[is_train].max() / weight[is_train].min() <= 100 * (1 + 1e-9)


def test_scores_that_learnt_nothing_weigh_all_images_alike():
    is_train = np.arange(20) < 12
    assert (module._calibrate(np.where(is_train, -1.0, 1.0), is_train) == 0.5).all()
    assert (module._weigh(np.full(20, 0.5), is_train)[is_train] == 1).all()


def test_the_seed_decides_and_threads_do_not(demos):
    images, pixels = demos[0]
    one, again = measure_shift(pixels, images, seed=1), measure_shift(pixels, images, seed=1, threads=3)
    pd.testing.assert_frame_equal(one.images, again.images)
    assert (one.auc, one.low, one.high) == (again.auc, again.low, again.high)
    assert measure_shift(pixels, images, seed=2).auc != one.auc


@pytest.mark.parametrize(("train", "test", "lacking"), [(3, 9, "training"), (9, 3, "test")])
def test_too_few_images_are_refused(train, test, lacking):
    with pytest.raises(ValueError, match=f"expected at least 4 different {lacking} images, got 3; add images, or"):
        discriminate(*gaussian(train, test, 2, 0), seed=0)
    values, is_train, names = gaussian(9, 9, 2, 0)
    with pytest.raises(ValueError, match="different training images, got 1"):
        discriminate(values, is_train, np.where(is_train, "same", names), seed=0)
    assert np.isfinite(discriminate(*gaussian(4, 4, 2, 0), seed=0).auc)


def test_a_store_of_other_images_is_refused(demos):
    images, pixels = demos[0]
    with pytest.raises(ValueError, match=r"is not in the images table \(1 of 22\)"):
        measure_shift(pixels, images.iloc[1:], seed=0)


def test_features_are_what_their_names_say():
    rng = np.random.default_rng(0)
    image = rng.integers(20, 256, (24, 40, 3), dtype=np.uint8)
    image[:, :10] = 3
    found = dict(zip(FEATURES, describe(image), strict=True))
    seen = image[:, 10:].reshape(-1, 3).astype(float)
    assert found["black"] == pytest.approx(0.25)
    assert [found[f"mean_{band}"] for band in ("red", "green", "blue")] == pytest.approx(seen.mean(axis=0))
    assert [found[f"std_{band}"] for band in ("red", "green", "blue")] == pytest.approx(seen.std(axis=0))
    assert found["std_of_blue_less_red"] == pytest.approx((seen[:, 2] - seen[:, 0]).std())
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
    assert found["brighter_right"] == pytest.approx(grey[:, 20:].mean() - grey[:, :20].mean())
    assert found["grey_96"] == pytest.approx(np.sqrt(((grey >= 96) & (grey < 128))[:, 10:].mean()))
    for scale in (1, 2, 4, 8):
        coarse = grey.reshape(24 // scale, scale, 40 // scale, scale).mean(axis=(1, 3))
        steps = np.abs(np.diff(coarse, axis=0)).sum() + np.abs(np.diff(coarse, axis=1)).sum()
        assert found[f"contrast_{scale}"] == pytest.approx(np.log(steps / coarse.size + 0.1), abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (33, 7), (64, 96)])
def test_a_black_image_of_any_size_has_finite_features(shape):
    assert np.isfinite(describe(np.zeros((*shape, 3), np.uint8))).all()


def test_features_keep_the_order_of_the_store(demos):
    _, pixels = demos[0]
    features = read_features(pixels["test"])
    array = stores.read(pixels["test"])["image"]
    assert features.shape == (8, len(FEATURES))
    np.testing.assert_array_equal(features[7], describe(stores.read_images(array, slice(7, 8))[0]))


def test_the_entry_writes_a_table_a_summary_a_page_and_two_charts(demos, repo, tmp_path):
    _, pixels = demos[0.3]
    names = {"scores": "scores.tsv", "summary": "shift.json", "page": "shift.html", "roc": "roc.svg"}
    names |= {"histogram": "histogram.svg"}
    job = SimpleNamespace(
        log=[str(tmp_path / "job.log")],
        input=SimpleNamespace(
            **{f"{split}_pixels": path for split, path in pixels.items()},
            **{split: path.with_suffix(".tsv") for split, path in pixels.items()},
        ),
        output=SimpleNamespace(**{key: tmp_path / "out" / name for key, name in names.items()}),
        params=SimpleNamespace(seed=4),
        threads=2,
    )
    runpy.run_path(str(repo / "scripts/shift.py"), {"snakemake": job}, "__main__")
    assert (tmp_path / "job.log").read_text().startswith("train and test differ: AUC")
    table = pd.read_csv(job.output.scores, sep="\t")
    assert list(table.columns) == ["image", "split", "score", "weight"]
    assert table["split"].value_counts().to_dict() == {"train": 14, "test": 8}
    train, test = (table[table["split"] == split] for split in ("train", "test"))
    assert train["score"].median() > 0.5 > test["score"].median()
    assert read_weights(job.output.scores) == dict(zip(train["image"], train["weight"], strict=True))
    summary = json.loads(job.output.summary.read_text())
    assert summary["images"] == {"train": 14, "test": 8}
    assert summary["seed"] == 4
    assert summary["low"] <= summary["auc"] <= summary["high"]
    assert summary["verdict"] in job.output.page.read_text()
    assert all("<svg" in path.read_text() for path in (job.output.roc, job.output.histogram))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names.values())


def test_the_sheet_shows_each_image_once_the_most_test_like_first(tmp_path):
    ids = {"train": list("abcde"), "test": list("vwxyz")}
    spec = stores.Spec((5, 16, 24, 3), "uint8", ("image", "y", "x", "band"))
    writer = stores.Writer(tmp_path / "p.zarr", {"image": spec}, {"ids": ids["train"]})
    block = np.repeat(np.arange(5, dtype=np.uint8) * 50 + 20, 16 * 24 * 3).reshape(spec.shape)
    writer.write(slice(0, 5), block, "image")
    writer.finish()
    rows = [(image, split) for split in ids for image in ids[split]]
    images = pd.DataFrame(rows, columns=["image", "split"])
    images["score"] = [0.9, 0.1, 0.5, 0.8, 0.2] + [0.1] * 5
    images["weight"] = 1.0
    found = Shift(0.7, 0.6, 0.8, images, np.linspace(0, 1, 201), 0)
    tiles = shift_tiles(found, tmp_path / "p.zarr")
    greys = {
        name: [int(cv2.imdecode(np.frombuffer(tile.data, np.uint8), 1)[0, 0, 0]) for tile in shown]
        for name, shown in tiles.items()
    }
    assert greys == {"test-like": [70, 220], "train-like": [20, 170]}  # b, e; a, d
    shift_page(found, tmp_path / "p.zarr", tmp_path / "shift.html")
    text = (tmp_path / "shift.html").read_text()
    assert text.index(found.verdict) < text.index("b: score 0.10") < text.index("a: score 0.90")
