import re

import numpy as np
import pytest
from network_fixtures import write_pixels

from cloudseg.config.recipe import Recipe
from cloudseg.report.augmented import augmented_page, augmented_samples

NOTHING = [{"name": "NoOp", "p": 1}]
STAGES = [
    {"epochs": 20, "size": "32x48"},
    {"epochs": 1, "augmentation": [{"name": "HorizontalFlip", "p": 1}]},
    {"epochs": 9},
]


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    return folder / "p.zarr", write_pixels(folder / "p.zarr", train=9, size=(64, 96))


def shown(blocks, **keys):
    keys = {"augmentation": NOTHING} | keys
    return augmented_samples(blocks[0], Recipe(**keys), seed=1, images=3, draws=6, width=96)


def test_mixed_samples_are_shown_mixed_with_any_training_image(blocks):
    images, partners = blocks[1]["image"], set()
    for tiles, own in zip(shown(blocks, cutmix={"p": 1}).tiles, (0, 3, 6), strict=True):
        for tile in tiles[1:]:
            from_other = [np.all(tile == image, axis=2).sum() for number, image in enumerate(images) if number != own]
            partners |= {int(np.argmax(from_other))} if max(from_other) > 500 else set()
    assert len(partners) > 3  # more than are shown


def test_blended_masks_are_outlined_where_they_are_half(blocks):
    tiles = shown(blocks, mixup={"p": 1, "alpha": 9}, brightness=120).tiles
    assert all(np.ptp(tile, axis=2).max() > 0 for row in tiles for tile in row)
    plain = shown(blocks, brightness=120).tiles
    assert not any(np.array_equal(one, other) for one, other in zip(tiles[0][1:], plain[0][1:], strict=True))


def test_each_stage_is_shown_with_its_augmentation(blocks):
    samples = shown(blocks, epochs=30, stages=STAGES)
    assert samples.epochs == [1, 2, 21, 22, 23]
    plain, *tiles = samples.tiles[0]
    flipped = [np.all(tile == plain[:, ::-1], axis=2).mean() > 0.4 for tile in tiles]
    assert flipped == [epoch == 21 for epoch in samples.epochs]


def test_the_page_says_what_stages_and_mixes_do(blocks, tmp_path):
    recipe = Recipe(epochs=30, stages=STAGES, augmentation=NOTHING, cutmix={"p": 0.25}, mixup={})
    augmented_page(blocks[0], recipe, "x", tmp_path / "page.html", seed=1)
    text = (tmp_path / "page.html").read_text()
    assert re.findall(r"<h3>([^<]+)<", text) == ["Epochs 1 to 20, at 32x48", "Epoch 21", "Epochs 22 to 30"]
    assert [said.split(":")[0] for said in re.findall(r"<li>([^<]+)<", text)][:5] == [
        *("NoOp", "HorizontalFlip", "NoOp", "CutMix (alpha 1)", "MixUp (alpha 0.4)")
    ]
    assert "in 25 % of the samples a rectangle" in text
    assert "the outlines show where that is half or more" in text
