"""The submission: the sample's rows with the decided masks."""

import csv

import numpy as np
import pytest
from small_stores import CLASSES, SIZE, dice_by_hand, planes, write

from cloudseg.ensemble import masking
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.submission import write_submission
from cloudseg.postprocess import Cut, encode_rle
from cloudseg.storage import some_images

RULE = ImageRule.of_cuts(dict.fromkeys(CLASSES, Cut(100, 0)))


@pytest.mark.parametrize("threads", [1, 2])
def test_submission_is_the_samples_rows_with_the_decided_masks(tmp_path, threads):
    ids = [f"{number}_x.jpg" for number in range(40)]
    p = planes(5, 40)
    blend = write(tmp_path / "test.zarr", p, ids)
    cuts = {"Fish": Cut(150, 30), "Flower": Cut(200, 0)}
    sample = [(image, label) for image in reversed(ids) for label in ("Flower", "Fish")]
    summary = write_submission(blend, ImageRule.of_cuts(cuts), sample, tmp_path / "submission.csv", threads=threads)
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
        assert dice_by_hand(plane, mask, cuts[label].level, cuts[label].min_size) == 1.0


def test_a_mask_that_does_not_read_back_leaves_no_file(tmp_path, monkeypatch):
    blend = write(tmp_path / "test.zarr", planes(6, 1), ["a.jpg"])
    monkeypatch.setattr(masking, "segment", lambda block, *_, **__: ["1 1"] * (len(block) * 2))
    with pytest.raises(ValueError, match="does not decode to what it was made from"):
        write_submission(blend, RULE, [("a.jpg", "Fish")], tmp_path / "submission.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["test.zarr"]


def test_a_sample_with_strangers_is_refused(tmp_path):
    blend = write(tmp_path / "test.zarr", planes(6, 1), ["a.jpg"])
    with pytest.raises(ValueError, match=r"no probabilities for b\.jpg_Fish"):
        write_submission(blend, RULE, [("b.jpg", "Fish")], tmp_path / "submission.csv")


def test_rows_may_come_in_any_order_and_more_than_once(tmp_path, monkeypatch):
    monkeypatch.setattr(some_images, "READ_BYTES", 3 * len(CLASSES) * SIZE[0] * SIZE[1])
    ids = [f'{number}, "ü".jpg' for number in range(20)]
    p = planes(7, 20)
    blend = write(tmp_path / "test.zarr", p, ids)
    rng = np.random.default_rng(1)
    sample = [(ids[rng.integers(20)], CLASSES[rng.integers(len(CLASSES))]) for _ in range(90)]
    summary = write_submission(blend, RULE, iter(sample), tmp_path / "submission.csv", threads=2)
    with (tmp_path / "submission.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    expected = [
        [f"{image}_{label}", encode_rle(p[ids.index(image), CLASSES.index(label)] >= 100)] for image, label in sample
    ]
    assert rows == expected
    assert (summary.rows, summary.filled) == (90, sum(bool(text) for _, text in expected))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["submission.csv", "test.zarr"]
