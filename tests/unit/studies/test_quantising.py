"""What bytes cost, against masks made of exact fractions and against the stores that prediction writes."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from network_fixtures import write_folds, write_pixels

from cloudseg.config.recipe import Recipe
from cloudseg.config.views import FLIPS
from cloudseg.inference import predict
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.probabilities import quantise
from cloudseg.models.segmenter import build_model
from cloudseg.postprocess import dice_surface, level
from cloudseg.report.summary import verdict_of
from cloudseg.storage import stores
from cloudseg.studies.quantising import Tally, page, study, truncate

SIZE = (20, 30)
NORM = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
RECIPE = Recipe(tta=[{"view": "identity", "weight": 2}, "vertical"], batch=2, normalise=NORM)


def dice(mask, truth):
    total = mask.sum() + truth.sum()
    return 1.0 if total == 0 else 2 * (mask & (truth > 0)).sum() / total


def add(tally, p, truth):
    tally.add(p, rounded=quantise(torch.from_numpy(p)).numpy(), truncated=truncate(p), truth=truth)


@pytest.fixture
def tallied():
    """Two images of two classes: values at, beside and between levels and hundredths; one truth is empty."""
    random = np.random.default_rng(0)
    edges = np.concatenate([np.arange(256) / 255, (np.arange(255) + 0.5) / 255, np.arange(101) / 100])
    edges = edges.astype(np.float32)
    edges = np.concatenate([edges, np.nextafter(edges, np.float32(2)), np.nextafter(edges, np.float32(-1))]).clip(0, 1)
    images = random.permutation(np.resize(edges, 2 * 2 * 30 * 20)).reshape(2, 2, 30, 20)
    truth = (images + random.normal(0, 0.3, images.shape) > 0.6).astype(np.uint8)
    truth[1, 0] = 0
    tally = Tally(2)
    for p, g in zip(images, truth, strict=True):
        add(tally, p, g)
    return tally, images, truth


def test_dice_at_levels_is_of_exact_masks(tallied):
    tally, images, truth = tallied
    exact = [[[Fraction(float(value)) for value in plane.ravel()] for plane in p] for p in images]
    got = tally.at_levels()
    for v in (1, 2, 64, 128, 166, 254, 255):
        for c in range(2):
            masks = {
                "float": [np.array([value >= Fraction(v, 255) for value in p[c]]) for p in exact],
                "rounded": [(quantise(torch.from_numpy(p[c])).numpy() >= v).ravel() for p in images],
                "truncated": [((p[c] * 255).astype(np.uint8) >= v).ravel() for p in images],
            }
            for way, of_images in masks.items():
                wanted = np.mean([dice(mask, g[c].ravel()) for mask, g in zip(of_images, truth, strict=True)])
                assert got[way][c, v - 1] == pytest.approx(wanted, abs=1e-12)


def test_dice_at_hundredths_is_of_the_threshold_itself(tallied):
    tally, images, truth = tallied
    got = tally.at_hundredths()
    for number in (1, 37, 50, 65, 99):
        for c in range(2):
            wanted = {
                "float": [p[c].astype(float) >= number / 100 for p in images],
                "rounded": [np.floor(255 * p[c] + np.float32(0.5)) >= level(number / 100) for p in images],
            }
            for way, masks in wanted.items():
                mean = np.mean([dice(mask, g[c]) for mask, g in zip(masks, truth, strict=True)])
                assert got[way][c, number - 1] == pytest.approx(mean, abs=1e-12)


def test_errors_and_variance_are_of_all_pixels(tallied):
    tally, images, _ = tallied
    p = images.astype(float)
    assert tally.variance() == pytest.approx(p.var(), abs=1e-12)
    for way, kept in {"rounded": np.floor(255 * images + np.float32(0.5)), "truncated": truncate(images)}.items():
        error = p - kept.astype(float) / 255
        assert tally.errors()[way] == pytest.approx((error.mean(), error.var()), abs=1e-12)


def test_uniform_probabilities_lose_half_a_level_when_cut_off_and_none_when_rounded():
    random = np.random.default_rng(1)
    tally = Tally(1)
    for _ in range(20):
        p = random.random((1, 100, 100), dtype=np.float32)
        add(tally, p, (p > 0.5).astype(np.uint8))
    errors = {way: (255 * mean, 255**2 * variance) for way, (mean, variance) in tally.errors().items()}
    assert errors["rounded"] == pytest.approx((0, 1 / 12), abs=0.003)
    assert errors["truncated"] == pytest.approx((0.5, 1 / 12), abs=0.003)
    assert tally.variance() == pytest.approx(1 / 12, abs=0.001)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_pixels(folder / "pixels.zarr")
    write_folds(folder / "folds.tsv")
    torch.manual_seed(0)
    model = build_model("tu-test_resnet", "fpn", 2)
    about = {"encoder": "tu-test_resnet", "decoder": "fpn", "classes": ["a", "b"]}
    write_state(model.network.state_dict(), folder / "best.safetensors", about)
    random = np.random.default_rng(2)
    masks = np.kron(random.integers(0, 2, (10, 2, 2, 3)), np.ones((10, 10), int)).astype(np.uint8)
    write_truth(folder / "truth.zarr", masks, [f"train{number}.jpg" for number in range(10)])
    return folder


def write_truth(path, block, ids):
    spec = stores.Spec(block.shape, "uint8", ("image", "class", "y", "x"))
    writer = stores.Writer(path, {"": spec}, {"ids": ids, "classes": ["a", "b"]})
    for rows in writer.missing():
        writer.write(rows, block[rows])
    writer.finish()


def run(inputs, **options):
    settings = {"recipe": RECIPE, "size": SIZE}
    paths = {"checkpoint": "best.safetensors", "pixels": "pixels.zarr", "folds": "folds.tsv", "truth": "truth.zarr"}
    return study(**{name: inputs / file for name, file in paths.items()}, fold=1, **(settings | options))


def test_rounded_is_what_prediction_stores(inputs, tmp_path):
    curves, summary = run(inputs)
    outputs = {"best": tmp_path / "valid.zarr"}
    job = predict.PredictionJob(
        checkpoints={"best": inputs / "best.safetensors"},
        pixels=inputs / "pixels.zarr",
        folds=inputs / "folds.tsv",
        fold=1,
        outputs=outputs,
        recipe=RECIPE,
        size=SIZE,
    )
    predict.predict(job)
    store = stores.read(outputs["best"])
    planes = stores.read_images(store, slice(0, 5))
    truth = np.concatenate(
        [
            stores.read_images(inputs / "truth.zarr", slice(int(name[5:-4]), int(name[5:-4]) + 1))
            for name in store.attrs["ids"]
        ]
    )
    wanted = dice_surface(planes, truth, [0])[:, 1:, 0]
    network = curves[curves["what"] == "network"]
    for c, name in enumerate("ab"):
        got = network[network["class"] == name]
        assert got["level"].tolist() == list(range(1, 256))
        assert got["dice_rounded"].to_numpy() == pytest.approx(wanted[c], abs=1e-12)
    assert network.loc[network["class"] == "all", "dice_rounded"].to_numpy() == pytest.approx(wanted.mean(axis=0))
    assert planes.std() > 5  # there was something to tell apart
    assert (summary["images"] == 5).all()


def test_cutting_off_is_the_float_rule_at_levels_and_too_low_in_blends(inputs):
    curves, summary = run(inputs)
    rows = summary.set_index(["what", "way"])
    assert rows.loc[("network", "truncated"), "largest_at_levels"] < 1e-3  # float32 may round 255 p up to a level
    assert rows.loc[("network", "rounded"), "largest_at_levels"] > 0
    one = curves[(curves["what"] == "network") & (curves["class"] != "all")]
    difference = (one["dice_rounded"] - one["dice_float"]).abs()
    assert rows.loc[("network", "rounded"), "largest_at_levels"] == pytest.approx(difference.max(), abs=1e-12)
    assert rows.loc[("network", "rounded"), "mean_at_levels"] == pytest.approx(difference.mean(), abs=1e-12)
    assert difference.groupby(one["level"]).max().idxmax() == rows.loc[("network", "rounded"), "level"]
    bias = 255 * rows["mean_error"]
    members = len(FLIPS)
    assert bias["network", "truncated"] == pytest.approx(0.5, abs=0.1)
    assert bias["blend", "truncated"] == pytest.approx(0.5 + (members - 1) / (2 * members), abs=0.1)
    assert abs(bias["network", "rounded"]) < 0.1
    assert abs(bias["blend", "rounded"]) < 0.15  # halves, an eighth of a level on average, go up


def test_page_shows_every_row_and_the_diarys_variance(inputs):
    _, summary = run(inputs)
    text = page(summary, "a/b/fold1/best")
    worst = summary.loc[summary["way"] == "rounded", "largest_at_hundredths"].max()
    assert f"by at most {worst:.2g} at thresholds of 0.01 to 0.99" in verdict_of(text)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(summary) == 6
    assert f"{summary['variance'].iloc[0]:.5f} (network)" in text
    assert "the diary's: 0.17747." in text
    assert "a/b/fold1/best, 5 validation images" in text


def test_an_image_without_truth_is_refused(inputs, tmp_path):
    write_truth(tmp_path / "few.zarr", np.zeros((1, 2, *SIZE), np.uint8), ["train9.jpg"])
    with pytest.raises(ValueError, match=r"few\.zarr: has no truth for train7\.jpg \(4 of 5 images of fold 1\)"):
        study(
            checkpoint=inputs / "best.safetensors",
            pixels=inputs / "pixels.zarr",
            folds=inputs / "folds.tsv",
            fold=1,
            truth=tmp_path / "few.zarr",
            recipe=RECIPE,
            size=SIZE,
        )
