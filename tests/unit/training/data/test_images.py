from fractions import Fraction

import numpy as np
import pytest
from network_fixtures import pixels_of_test, write_pixels

from cloudseg.storage import stores
from cloudseg.training.data.images import BrightImages, JoinedImages, bright_mask


def test_grey_pixels_are_bright_above_their_own_value_and_never_at_it():
    grey = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
    for level in range(255):
        assert np.array_equal(bright_mask(grey, level)[0, :, 0], np.arange(256) > level)


def test_brightness_is_the_luma_exactly():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    shares = [Fraction(299, 1000), Fraction(587, 1000), Fraction(114, 1000)]
    luma = [
        sum(share * int(value) for share, value in zip(shares, pixel, strict=True)) for pixel in image.reshape(-1, 3)
    ]
    for level in (0, 90, 115, 254):
        assert bright_mask(image, level).ravel().tolist() == [value > level for value in luma]


def test_joined_stores_are_gone_through_one_after_the_other(tmp_path):
    write_pixels(tmp_path / "p.zarr")
    paths = [tmp_path / "p.zarr", pixels_of_test(tmp_path / "p.zarr")]
    parts = [BrightImages(path, positions, 100) for path, positions in zip(paths, ([4, 9], [2, 0, 1]), strict=True)]
    joined = JoinedImages(parts)
    assert [joined.name(index).split()[-1] for index in range(len(joined))] == [
        *("train4.jpg", "train9.jpg", "test2.jpg", "test0.jpg", "test1.jpg")
    ]
    for index, (path, position) in enumerate(zip([paths[0]] * 2 + [paths[1]] * 3, [4, 9, 2, 0, 1], strict=True)):
        image, mask = joined[index]
        assert np.array_equal(image, stores.read(path)["image"][position])
        assert np.array_equal(mask, bright_mask(image, 100))
        assert np.array_equal(joined.mask(index), mask)


def test_stores_of_two_sizes_are_not_joined(tmp_path):
    parts = []
    for name, size in (("a.zarr", (32, 48)), ("b.zarr", (48, 64))):
        write_pixels(tmp_path / name, train=2, size=size)
        parts.append(BrightImages(tmp_path / name, [0, 1], 100))
    with pytest.raises(ValueError, match=r"b.zarr: images of 48x64, those of .*a.zarr have 32x48"):
        JoinedImages(parts)
