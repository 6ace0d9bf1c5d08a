"""The Dice that chooses the best epoch: by the rules of a submission, and by a decision of the recipe's own."""

import cv2
import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import torch
from network_fixtures import small_recipe, small_training, write_folds, write_pixels

from cloudseg.inference.predict import PredictionJob, predict
from cloudseg.models.weights import initial_weights
from cloudseg.postprocess import Cut
from cloudseg.storage import stores
from cloudseg.training.metrics import dice_per_class, masks_left_out
from cloudseg.training.train import train


def train_one(folder, **recipe):
    """Train on `folder`/pixels.zarr; return the history and the checkpoints."""
    write_folds(folder / "folds.tsv")
    initial_weights("tu-test_resnet", "none", folder / "weights.safetensors", seed=1)
    job = small_training(folder, folder, **recipe)
    train(job)
    return pd.read_csv(job.outputs["history"], sep="\t"), job.outputs


def opencv_dice(plane, truth, threshold, min_size):
    """Dice as contest notebooks count it."""
    inside = (plane >= np.ceil(255 * threshold)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    mask = np.isin(labels, [label for label in range(1, len(stats)) if stats[label, cv2.CC_STAT_AREA] >= min_size])
    pixels = mask.sum() + truth.sum()
    return 2 * (mask & truth).sum() / pixels if pixels else 1.0


@pytest.mark.parametrize(("threshold", "min_area", "min_size"), [(0.5, 0, 0), (0.45, 0.07, 108)])
def test_the_dice_of_an_epoch_is_the_score_of_its_network_by_the_same_decision(tmp_path, threshold, min_area, min_size):
    blocks = write_pixels(tmp_path / "pixels.zarr")
    validation = {"threshold": threshold, "min_area": min_area}
    history, outputs = train_one(tmp_path, epochs=4, learning_rate=1e-2, validation=validation)
    job = PredictionJob(
        checkpoints={"last": outputs["last"]},
        pixels=tmp_path / "pixels.zarr",
        folds=tmp_path / "folds.tsv",
        fold=0,
        outputs={"last": tmp_path / "valid.zarr"},
        recipe=small_recipe(tta=["identity"]),
        size=(32, 48),
    )
    predict(job)
    store = stores.read(tmp_path / "valid.zarr")
    rows = [int(name.removeprefix("train").removesuffix(".jpg")) for name in store.attrs["ids"]]
    dice = [
        [opencv_dice(plane, blocks["mask"][row] >> c & 1 == 1, threshold, min_size) for c, plane in enumerate(p)]
        for row, p in zip(rows, store[:], strict=True)
    ]
    assert history["valid_dice"].iloc[-1] == pytest.approx(np.mean(dice), abs=1e-6)
    assert history[["dice_a", "dice_b"]].iloc[-1].tolist() == pytest.approx(np.mean(dice, axis=0).tolist(), abs=1e-6)


def test_a_stray_pixel_in_an_empty_plane_costs_nothing_below_the_minimum_size():
    target = torch.zeros(25, 4, 96, 144)
    target[:, 0, 10:60, 10:60] = 1
    logits = 20 * target - 10
    clean = dice_per_class(logits, target, Cut(128, 346)).mean()
    logits[0, 3, 5, 5] = 1
    assert clean == 1
    assert dice_per_class(logits, target, Cut(128, 346)).mean() == 1
    assert dice_per_class(logits, target).mean() == pytest.approx(0.99)  # of the whole score of 25 images


@pytest.mark.parametrize(
    ("validation", "size", "expected"),
    [
        ({"threshold": 0.5, "min_area": 0.025}, (350, 525), (128, 4594)),
        ({"threshold": 0.65, "min_area": 0.025}, (96, 144), (166, 346)),
        ({"threshold": 1, "min_area": 0.07}, (10, 10), (255, 7)),  # 0.07 * 100 is above 7 in floats
        ({"threshold": 0, "min_area": 0}, (640, 960), (0, 0)),
    ],
)
def test_the_cut_of_a_recipe_at_a_size(validation, size, expected):
    assert Cut.of_share(**validation, size=size) == Cut(*expected)


def test_a_threshold_decides_as_it_does_on_stored_probabilities():
    p = torch.tensor([[[[0.3, 0.498, 0.4985, 0.502]]]])  # stored as 77, 127, 127, 128
    target = torch.tensor([[[[0, 0, 0, 1]]]])
    assert dice_per_class(torch.logit(p), target) == 1


def test_a_minimum_size_that_leaves_out_what_is_to_be_found_ends_the_training_at_its_start(tmp_path):
    write_pixels(tmp_path / "pixels.zarr")
    with pytest.raises(ValueError, match=r"`validation.min_area` \(1229 pixels .* leaves out 10 of the 10 masks"):
        train_one(tmp_path, validation={"threshold": 0.5, "min_area": 0.8})
    assert not (tmp_path / "history.tsv").exists()


def test_masks_of_many_classes_are_counted():
    mask = np.zeros((8, 8, 2), np.uint8)
    mask[:4, :4, 1] = 1  # class 8
    mask[6, 6, 0] = 1  # class 0
    assert masks_left_out(mask, classes=9, min_size=2) == (2, 1)
    assert masks_left_out(mask, classes=8, min_size=2) == (1, 1)


def test_dice_against_smp():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, 9, 11, generator=rng)
    target = (torch.rand(6, 3, 9, 11, generator=rng) > 0.7).float()
    logits[0, 0], target[0, 0] = -1, 0  # empty, and rightly so
    logits[1, 0], target[2, 0] = -1, 0
    probability = logits.sigmoid()
    stored = torch.floor(255 * probability + 0.5) / 255
    counts = smp.metrics.get_stats(stored, target.long(), mode="multilabel", threshold=128 / 255 - 1e-6)
    expected = smp.metrics.f1_score(*counts, reduction=None, zero_division=1.0)
    np.testing.assert_allclose(dice_per_class(logits, target).numpy(), expected.numpy(), atol=1e-6)
    assert dice_per_class(logits, target)[0, 0] == 1
