"""Blends with one more member, as the core blends them, and planes in cells."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudseg.postprocess import blend
from cloudseg.postprocess.additions import dice_of_additions
from cloudseg.postprocess.cells import cell_areas, cell_means, cell_sums
from cloudseg.postprocess.intrinsics import can_permute_bytes


def dice_at_every_level(plane, truth):
    levels = np.arange(256)[:, None]
    masks = plane.reshape(-1) >= levels
    pixels = masks.sum(axis=1) + truth.sum()
    both = (masks & (truth.reshape(-1) > 0)).sum(axis=1)
    return np.where(pixels == 0, 1.0, 2 * both / np.maximum(pixels, 1))


def expected(planes, truth, counts, sharpen=None):
    """Return the Dice of the core's blends (A, C, 256), by NumPy."""
    images, classes, members, _ = planes.shape
    sums = np.zeros((members, classes, 256))
    for added in range(members):
        weights = [count + (number == added) for number, count in enumerate(counts)]
        mean = blend(np.ascontiguousarray(planes.transpose(2, 0, 1, 3)), weights=weights, sharpen=sharpen)
        for image in range(images):
            for number in range(classes):
                sums[added, number] += dice_at_every_level(mean[image, number], truth[image, number])
    return sums


def exact(planes, truth, counts):
    """Return what `expected` does, of rational means."""
    images, classes, members, _ = planes.shape
    sums = np.zeros((members, classes, 256))
    for added in range(members):
        weights = [count + (number == added) for number, count in enumerate(counts)]
        total = sum(weights)
        mean = sum(weight * planes[:, :, number].astype(object) for number, weight in enumerate(weights))
        rounded = np.vectorize(lambda value, total=total: int(Fraction(value, total) + Fraction(1, 2)))(mean)
        for image in range(images):
            for number in range(classes):
                sums[added, number] += dice_at_every_level(rounded[image, number], truth[image, number])
    return sums


def made(seed, images=3, classes=2, members=3, cells=40):
    random = np.random.default_rng(seed)
    planes = random.integers(0, 256, (images, classes, members, cells), dtype=np.uint8)
    truth = (random.random((images, classes, cells)) < random.random((images, classes, 1))).astype(np.uint16)
    truth[0, 0] = 0
    return planes, truth


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 3), st.integers(1, 9)
)
def test_the_blend_is_the_exact_mean_rounded_half_up(seed, counts, images, quarters):
    planes, truth = made(seed, images=images, members=len(counts), cells=4 * quarters)
    areas = np.ones(4 * quarters, np.int64)
    found = dice_of_additions(planes, truth, areas, counts, range(len(counts)))
    assert np.allclose(found, exact(planes, truth, counts), rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_the_blend_is_that_of_the_core(seed, counts):
    planes, truth = made(seed, members=len(counts))
    found = dice_of_additions(planes, truth, np.ones(40, np.int64), counts, range(len(counts)))
    assert np.allclose(found, expected(planes, truth, counts), rtol=0, atol=1e-12)


@pytest.mark.skipif(not can_permute_bytes(), reason="other processors sharpen by another way, up to a tie")
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 12), min_size=1, max_size=5), st.sampled_from([0.5, 0.7, 2.0]))
def test_the_sharpened_blend_is_that_of_the_core(seed, counts, sharpen):
    planes, truth = made(seed, members=len(counts))
    found = dice_of_additions(planes, truth, np.ones(40, np.int64), counts, range(len(counts)), sharpen)
    assert np.allclose(found, expected(planes, truth, counts, sharpen), rtol=0, atol=1e-12)


def test_the_sharpened_blend_of_one_is_its_power_rounded():
    planes = np.arange(256, dtype=np.uint8).reshape(1, 1, 1, 256)
    truth = (planes[:, :, 0] > 100).astype(np.uint16)
    found = dice_of_additions(planes, truth, np.ones(256, np.int64), [0], [0], 0.5)
    rounded = np.floor(255 * np.sqrt(np.arange(256) / 255) + 0.5)
    assert np.allclose(found[0, 0], dice_at_every_level(rounded, truth), rtol=0, atol=1e-12)


def test_many_members_are_still_exact():
    counts = [1000, 1, 998]
    planes, truth = made(5)
    found = dice_of_additions(planes, truth, np.ones(40, np.int64), counts, [0, 1, 2])
    assert np.allclose(found, exact(planes, truth, counts), rtol=0, atol=1e-12)


def test_only_the_candidates_that_are_asked_for_are_added_and_each_by_itself():
    planes, truth = made(6, members=4)
    areas = np.ones(40, np.int64)
    every = dice_of_additions(planes, truth, areas, [1, 0, 2, 0], range(4))
    assert (dice_of_additions(planes, truth, areas, [1, 0, 2, 0], [3, 1]) == every[[3, 1]]).all()


def test_the_result_does_not_depend_on_threads():
    planes, truth = made(7, images=50)
    areas = np.ones(40, np.int64)
    one, three = (dice_of_additions(planes, truth, areas, [1, 0, 2], range(3), threads=each) for each in (1, 3))
    assert (one == three).all()


def test_no_images_sum_to_nothing_and_full_planes_of_full_truth_to_one_each():
    areas = np.ones(4, np.int64)
    planes, truth = np.full((2, 1, 1, 4), 255, np.uint8), np.ones((2, 1, 4), np.uint16)
    assert (dice_of_additions(planes[:0], truth[:0], areas, [0], [0]) == 0).all()
    assert (dice_of_additions(planes, truth, areas, [0], [0]) == 2).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 13), st.integers(1, 15))
def test_the_dice_in_cells_is_that_of_the_pixels_that_they_stand_for(seed, side, height, width):
    random = np.random.default_rng(seed)
    planes = random.integers(0, 256, (2, 1, height, width), dtype=np.uint8)
    truth = (random.random(planes.shape) < 0.4).astype(np.uint8)
    cells = cell_means(planes, side)
    whole = cells.repeat(side, axis=2).repeat(side, axis=3)[..., :height, :width]
    wanted = sum(dice_at_every_level(whole[image], truth[image]) for image in range(2))
    pad = -cells[0, 0].size % 4
    flat = np.pad(cells.reshape(2, 1, 1, -1), [(0, 0)] * 3 + [(0, pad)], constant_values=77)
    covered = np.pad(cell_sums(truth, side).reshape(2, 1, -1), [(0, 0)] * 2 + [(0, pad)]).astype(np.uint16)
    areas = np.pad(cell_areas(height, width, side).reshape(-1), (0, pad))
    assert np.allclose(dice_of_additions(flat, covered, areas, [0], [0])[0, 0], wanted, rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 13), st.integers(1, 15))
def test_a_cell_is_the_mean_of_its_pixels_rounded_half_up(seed, side, height, width):
    plane = np.random.default_rng(seed).integers(0, 256, (1, 1, height, width), dtype=np.uint8)
    cells = [[plane[0, 0, y : y + side, x : x + side] for x in range(0, width, side)] for y in range(0, height, side)]
    assert cell_sums(plane, side)[0, 0].tolist() == [[int(cell.sum()) for cell in row] for row in cells]
    assert cell_areas(height, width, side).tolist() == [[cell.size for cell in row] for row in cells]
    wanted = [[int(Fraction(int(cell.sum()), cell.size) + Fraction(1, 2)) for cell in row] for row in cells]
    assert cell_means(plane, side)[0, 0].tolist() == wanted


def test_a_side_below_one_and_planes_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="side: expected at least 1, got 0"):
        cell_sums(np.zeros((1, 1, 2, 2), np.uint8), 0)
    with pytest.raises(TypeError, match="planes: expected a NumPy array of uint8"):
        cell_sums(np.zeros((1, 1, 2, 2)), 2)
