"""Images and masks at another size, beside exact fractions and OpenCV."""

import cv2
import numpy as np
import pytest
from resize_oracle import resize_by_fractions

from cloudseg.dataset.resizing import resize_bitmask, resize_image, resize_mask, resize_soft_mask


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((12, 18), (6, 9)),
        ((12, 18), (5, 7)),
        ((14, 21), (4, 6)),
        ((7, 11), (7, 11)),
        ((5, 7), (12, 17)),
        ((6, 6), (12, 12)),
        ((12, 5), (5, 12)),
        ((9, 13), (1, 1)),
        ((1, 1), (3, 2)),
        ((1, 12), (1, 5)),
    ],
)
def test_masks_shrink_and_grow_as_fractions_say(old, new):
    rng = np.random.default_rng(0)
    for density in (0.0, 0.2, 0.5, 0.5, 0.8, 1.0):
        mask = (rng.random(old) < density).astype(np.uint8)
        expected = resize_by_fractions(mask, new)
        np.testing.assert_array_equal(resize_mask(mask, new), expected)
        np.testing.assert_array_equal(resize_mask(np.asfortranarray(mask), new), expected)


def test_exactly_half_is_in():
    """Cells of 6x4 in 4x2 are 1.5 pixels high and 2 wide: a whole pixel and half a one are half of it."""
    mask = np.zeros((6, 4), np.uint8)
    mask[0, 0] = 1
    assert not resize_mask(mask, (4, 2)).any()
    mask[1, 0] = 1
    np.testing.assert_array_equal(np.argwhere(resize_mask(mask, (4, 2))), [[0, 0]])


@pytest.mark.parametrize("new", [(350, 525), (320, 480), (96, 144), (640, 960), (467, 700)])
def test_large_masks_agree_with_integer_matrix_products(new):
    """The same definition by another way: whole overlaps of the cells as two integer matrices."""

    def weights(old: int, size: int) -> np.ndarray:
        i, j = np.arange(old), np.arange(size)[:, None]
        return (np.minimum((j + 1) * old, (i + 1) * size) - np.maximum(j * old, i * size)).clip(0)

    rng = np.random.default_rng(1)
    blobs = cv2.GaussianBlur(rng.random((1400, 2100)), (0, 0), 9)
    mask = (blobs > 0.5).astype(np.uint8)
    # Products of whole numbers below 2**53 are exact in float64, and far faster than in int64.
    covered = weights(1400, new[0]).astype(float) @ mask.astype(float) @ weights(2100, new[1]).T.astype(float)
    np.testing.assert_array_equal(resize_mask(mask, new), 2 * covered >= mask.size)


def test_all_or_nothing_stays_all_or_nothing():
    for size in ((96, 144), (40, 60), (57, 91)):
        assert resize_mask(np.ones((40, 60), np.uint8), size).all()
        assert not resize_mask(np.zeros((40, 60), np.uint8), size).any()


def blobs(size, sigma, seed, classes=8):
    """Return masks (H, W) with a class in each bit, in blobs, and in one of four noise."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    for number in range(classes):
        smooth = cv2.GaussianBlur(rng.random(size), (0, 0), sigma)
        mask |= (smooth > np.median(smooth)).astype(np.uint8) << number
    return mask ^ rng.integers(0, 256, size, np.uint8) if seed % 4 == 0 else mask


@pytest.mark.parametrize("seed", range(24))
def test_each_bit_of_a_mask_is_resized_as_if_it_were_alone(seed):
    rng = np.random.default_rng(seed)
    old, new = (tuple(int(side) for side in rng.integers(1, 300, 2)) for _ in range(2))
    mask = blobs(old, rng.uniform(0.5, 20), seed)

    def weights(old, new):
        i, j = np.arange(old), np.arange(new)[:, None]
        return (np.minimum((j + 1) * old, (i + 1) * new) - np.maximum(j * old, i * new)).clip(0).astype(float)

    resized = resize_bitmask(np.stack([mask, mask[::-1, ::-1]], axis=-1), new)
    rows, columns = weights(old[0], new[0]), weights(old[1], new[1])
    for byte, own in enumerate((mask, mask[::-1, ::-1])):
        for bit in range(8):
            covered = rows @ (own >> bit & 1) @ columns.T
            np.testing.assert_array_equal(resized[..., byte] >> bit & 1, 2 * covered >= mask.size)


def test_a_view_of_a_mask_is_resized_as_its_copy():
    mask = blobs((90, 120), 3, seed=1)
    for view in (mask[::-1], mask[:, ::-1], mask[::2, 1::3], np.asfortranarray(mask)):
        np.testing.assert_array_equal(
            resize_bitmask(view[..., None], (40, 31)), resize_bitmask(view.copy()[..., None], (40, 31))
        )
        plane = view & 1
        np.testing.assert_array_equal(resize_mask(plane, (40, 31)), resize_mask(plane.copy(), (40, 31)))


def test_images_shrink_to_the_mean_of_their_cells():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    mean = image.reshape(10, 4, 15, 4, 3).mean(axis=(1, 3))
    assert np.abs(resize_image(image, (10, 15)) - mean).max() <= 0.5
    np.testing.assert_array_equal(resize_image(image, (40, 60)), image)


def test_images_grow_linearly():
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    expected = cv2.resize(image, (27, 16), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize_image(image, (16, 27)), expected)


def test_an_axis_that_shrinks_does_so_by_area_though_the_other_grows():
    stripes = np.zeros((40, 10, 3), np.uint8)
    stripes[::2] = 200
    assert (resize_image(stripes, (10, 20)) == 100).all()


@pytest.mark.parametrize("seed", range(40))
def test_images_shrink_to_the_bytes_of_opencv(seed):
    rng = np.random.default_rng(seed)
    old = tuple(int(side) for side in rng.integers(1, 120, 2))
    new = tuple(int(rng.integers(1, side + 1)) for side in old)
    image = rng.integers(0, 256, (*old, 3), np.uint8)
    if seed % 3 == 0:
        image[rng.random(old) < 0.5] = 255  # sums that end next to 255 and to halves
    expected = cv2.resize(image, new[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(resize_image(image, new), expected)
    np.testing.assert_array_equal(
        resize_image(image[::-1, ::-1], new),
        cv2.resize(image[::-1, ::-1].copy(), new[::-1], interpolation=cv2.INTER_AREA),
    )


@pytest.mark.parametrize("new", [(320, 480), (640, 960), (350, 525), (699, 1049), (1, 1), (700, 480), (320, 1050)])
def test_a_canvas_shrinks_to_the_bytes_of_opencv(new):
    image = np.random.default_rng(0).integers(0, 256, (700, 1050, 3), np.uint8)
    np.testing.assert_array_equal(resize_image(image, new), cv2.resize(image, new[::-1], interpolation=cv2.INTER_AREA))


def test_soft_masks_are_resized_class_by_class():
    mask = np.random.default_rng(0).integers(0, 256, (30, 40, 5), np.uint8)
    for new in ((11, 17), (60, 20), (30, 40)):
        expected = [resize_image(np.ascontiguousarray(mask[..., number]), new) for number in range(5)]
        np.testing.assert_array_equal(resize_soft_mask(mask, new), np.stack(expected, axis=-1))
