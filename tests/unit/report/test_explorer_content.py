"""Which images and sources the explorer shows, and what it leaves out to stay small."""

import base64
import re
import zlib

import numpy as np
import pandas as pd
import pytest
from explored import Explored

from cloudseg.report.explorer import FRAME
from cloudseg.report.explorer_sample import sample, spread
from cloudseg.report.packing import packed_dice, packed_planes


def scored(images=60, classes=("a", "b", "c"), seed=4):
    random = np.random.default_rng(seed)
    names = [f"{number}.jpg" for number in random.permutation(images)]
    rows = [
        (name, n % 5, label, int(random.random() < 0.3), 1, random.random())
        for n, name in enumerate(names)
        for label in classes
    ]
    return pd.DataFrame(rows, columns=["image", "fold", "class", "truth", "kept", "dice"])


def test_the_sample_holds_the_worst_the_best_and_every_class():
    scores = scored()
    chosen = sample(scores, [f"test{number}" for number in range(100)], 24)
    names = [shown.name for shown in chosen if shown.split == "valid"]
    dice = scores.groupby("image")["dice"].mean()
    assert len(chosen) == 24 and len(names) == len(set(names)) == 16
    assert {dice.idxmin(), dice.idxmax()} <= set(names)
    for _, own in scores[scores["truth"] > 0].groupby("class"):
        assert own.loc[own["dice"].idxmin(), "image"] in names
        assert own.loc[own["dice"].idxmax(), "image"] in names
    assert sample(scores, [f"test{number}" for number in range(100)], 7) == chosen[:7]


@pytest.mark.parametrize(
    ("valid", "tests", "expected"), [(60, 3, (21, 3)), (2, 50, (2, 22)), (0, 50, (0, 24)), (1, 0, (1, 0))]
)
def test_one_kind_of_images_takes_the_place_of_the_other(valid, tests, expected):
    chosen = sample(scored(valid), [f"test{number}" for number in range(tests)], 24)
    assert tuple(sum(shown.split == split for shown in chosen) for split in ("valid", "test")) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 5546])
def test_a_spread_takes_every_place_once(count):
    assert sorted(spread(count)) == list(range(count))


def test_planes_and_dice_are_packed_without_loss():
    random = np.random.default_rng(1)
    planes = random.integers(0, 256, (2, 5, 7), np.uint8)
    left = np.frombuffer(zlib.decompress(base64.b64decode(packed_planes(planes))), np.uint8).reshape(planes.shape)
    unpacked = np.zeros((2, 6, 8), int)
    for c, y, x in np.ndindex(planes.shape):
        neighbours = [unpacked[c, y + 1, x], unpacked[c, y, x + 1]]
        predicted = sorted([*neighbours, sum(neighbours) - unpacked[c, y, x]])[1]
        unpacked[c, y + 1, x + 1] = (left[c, y, x] + predicted) % 256
    assert np.array_equal(unpacked[:, 1:, 1:], planes)

    dice = random.random((3, 256, 4))
    dice[0, :4, 0] = [0, 1, 0.53125, 0]
    steps = np.frombuffer(zlib.decompress(base64.b64decode(packed_dice(dice))), np.uint8).reshape(4, -1)
    fractions = steps.T.copy().view("<u4").reshape(dice.shape).cumsum(axis=1, dtype=np.uint32) / 2**31
    assert np.abs(fractions - dice).max() <= 2.4e-10
    assert fractions[0, :4, 0].tolist() == [0, 1, 0.53125, 0]


def held(page):
    """Return the numbers of the images and of the sources whose probabilities are in a page."""
    planes = re.findall(r'id="planes-(\d+)-(\d+)"', page.read_text())
    return {int(image) for _, image in planes}, {int(source) for source, _ in planes}


def test_what_does_not_fit_is_left_out_sources_first_and_named(tmp_path):
    explored = Explored(tmp_path / "data", ["Fish", "Flower"], size=(60, 70))
    sources = [explored.source(name) for name in ("one", "two", "three")]
    page = tmp_path / "explorer.html"
    said = explored.write(page, sources)
    assert held(page) == (set(range(8)), {0, 1, 2}) and "Left out" not in said
    content = page.stat().st_size - FRAME
    held_at = {}
    for share in (0.8, 0.4, 0.1):
        largest = int(FRAME + share * (content + 60_000))
        said = explored.write(page, sources, largest=largest, whole="whole.html")
        assert page.stat().st_size <= largest
        held_at[share] = held(page)
        assert "Left out" in page.read_text() and "whole.html holds more" in said
    assert [len(images) for images, _ in held_at.values()][:1] == [8]
    assert held_at[0.8][1] < {0, 1, 2} and held_at[0.1][1] <= {0}
    assert len(held_at[0.1][0]) < 8
