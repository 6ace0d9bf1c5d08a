"""Swapped labels come first, and what a remark says of a label is so."""

from functools import partial

import numpy as np
import pytest
from small_stores import write

from cloudseg.studies.label_faults import FLIPS, agreement, coarse_size, doubts, rank_labels

CLASSES = ["Fish", "Flower", "Sugar"]
SIZE = (40, 60)


store = partial(write, classes=CLASSES)


def boxes(count, seed=0):
    """Masks of boxes, uint8 (image, class, y, x); a class is absent from about half of the images."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, len(CLASSES), *SIZE), np.uint8)
    for plane in masks.reshape(-1, *SIZE):
        if rng.random() < 0.6:
            top, left = rng.integers(0, 25), rng.integers(0, 40)
            plane[top : top + rng.integers(8, 15), left : left + rng.integers(8, 20)] = 1
    return masks


def unsure(masks, seed=1):
    """What a fair network would say: right, but not sure."""
    rng = np.random.default_rng(seed)
    height = rng.uniform(0.55, 0.95, (*masks.shape[:2], 1, 1))
    return (255 * (masks * height + (1 - masks) * rng.uniform(0, 0.08, (*masks.shape[:2], 1, 1)))).astype(np.uint8)


@pytest.fixture
def labelled(tmp_path):
    masks = boxes(40)
    ids = [f"{number}.jpg" for number in range(40)]
    # The blend has other images and another order than the truth
    order = np.random.default_rng(2).permutation(40)[:30]
    blend = store(tmp_path / "valid.zarr", unsure(masks)[order], [ids[row] for row in order], fold=[0] * 15 + [1] * 15)
    return masks, ids, order, blend, tmp_path


def test_swapped_labels_stand_in_the_first_places(labelled):
    masks, ids, order, blend, folder = labelled
    wrong = masks.copy()
    one, two, three = order[:3]
    wrong[one, 0], wrong[two, 1] = 1 - masks[one, 0], np.roll(masks[two, 1] | masks[two, 0] | 1 - masks[two, 2], 30)
    wrong[three] = masks[order[3]]
    truth = store(folder / "truth.zarr", wrong, ids)
    ranked = rank_labels(blend, truth, sample=7, threads=2)
    changed = {
        (ids[row], name) for row in order for c, name in enumerate(CLASSES) if (wrong[row, c] != masks[row, c]).any()
    }
    assert len(ranked.table) == 90 and ranked.images == 30 and len(ranked.sample) == 7
    first = ranked.table.head(len(changed))
    assert set(zip(first["image"], first["class"], strict=True)) == changed
    assert ranked.table["score"].is_monotonic_decreasing
    again = rank_labels(blend, truth, sample=7, threads=1)
    assert ranked.table.equals(again.table)


def test_no_image_out_of_fold_makes_an_empty_list(labelled):
    masks, ids, _, _, folder = labelled
    blend = store(folder / "none.zarr", np.zeros((0, 3, *SIZE), np.uint8), [], fold=[])
    ranked = rank_labels(blend, store(folder / "truth.zarr", masks, ids), sample=5)
    assert ranked.table.empty and list(ranked.sample) == [] and ranked.images == 0


def test_remarks_say_what_was_done():
    masks = boxes(1, seed=5)[0].astype(np.float32)
    masks[:] = 0
    masks[0, 5:20, 5:25], masks[1, 25:38, 30:55] = 1, 1
    seen = masks * 0.9

    def remark(change, number=0):
        labels = masks.copy()
        change(labels)
        return doubts(seen, labels, CLASSES)[number][-1]

    def exchange(labels):
        labels[[0, 1]] = labels[[1, 0]]

    def flip(labels):
        labels[0] = labels[0][FLIPS["flipped left to right"]]

    assert remark(lambda labels: None) == ""
    assert remark(lambda labels: labels[0].fill(0)) == "no mask, and the network sees one"
    [unsure] = doubts(np.full((1, *SIZE), 0.1, np.float32), np.zeros((1, *SIZE), np.float32), CLASSES[:1])
    assert unsure[-1] == "no mask, and the network is unsure"
    assert remark(exchange) == "fits the prediction of Flower better"
    assert remark(exchange, 1) == "fits the prediction of Fish better"
    assert remark(flip) == "fits better flipped left to right"
    assert remark(lambda labels: labels[2].__setitem__(slice(0, 9), 1), 2) == "a mask, and the network sees none"


def test_agreement_is_dice_where_both_are_masks():
    one, two = boxes(2, seed=3)[:, 0].astype(np.float64)
    one[:20], two[10:30] = 1, 1
    dice = 2 * (one * two).sum() / (one.sum() + two.sum())
    assert agreement(one, two) == pytest.approx(dice, abs=0.01)
    assert coarse_size(1, 1000) == (1, 100) and coarse_size(3, 2) == (3, 2)
