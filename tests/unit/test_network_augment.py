import warnings

import numpy as np
import pytest

from cloudseg.network.augment import build_transform

FLIPS = [{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}]


def sample(size=(32, 48), planes=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.integers(0, 256, (*size, planes), dtype=np.uint8)


def test_a_draw_depends_on_its_number_alone():
    steps = [*FLIPS, {"name": "RandomBrightnessContrast", "p": 0.5}, {"name": "Affine", "rotate": [-30, 30], "p": 1}]
    image, mask = sample()
    forwards = [build_transform(steps)(image, mask, number) for number in range(8)]
    transform = build_transform(steps)
    backwards = [transform(image, mask, number) for number in reversed(range(8))][::-1]
    for (image_a, mask_a), (image_b, mask_b) in zip(forwards, backwards, strict=True):
        assert np.array_equal(image_a, image_b)
        assert np.array_equal(mask_a, mask_b)
    assert len({result.tobytes() for result, _ in forwards}) == 8


def test_flips_come_with_their_odds():
    transform = build_transform(FLIPS)
    image, mask = sample((2, 2))
    views = {image[::a, ::b].tobytes(): 0 for a in (1, -1) for b in (1, -1)}
    for number in range(400):
        views[transform(image, mask, number)[0].tobytes()] += 1
    assert sum((count - 100) ** 2 / 100 for count in views.values()) < 16.3  # chi-square, 3 degrees, p = 0.001


@pytest.mark.parametrize("planes", [1, 2, 8])
def test_masks_move_with_images_and_keep_their_bits(planes):
    y, x = np.mgrid[:64, :96]
    inside = (y - 30) ** 2 + (x - 50) ** 2 < 18**2
    image = np.repeat(inside[..., None], 3, axis=2).astype(np.uint8) * 255
    mask = np.where(inside[..., None], np.uint8(0b10100101), np.uint8(0)).repeat(planes, axis=2)
    steps = [*FLIPS, {"name": "Affine", "rotate": [-30, 30], "scale": [0.8, 1.2], "p": 1}]
    for number in range(10):
        new_image, new_mask = build_transform(steps)(image, mask, number)
        assert new_mask.shape == mask.shape
        assert set(np.unique(new_mask)) == {0, 0b10100101}
        drawn, covered = new_image[..., 0] > 127, new_mask[..., -1] > 0
        assert (drawn & covered).sum() / (drawn | covered).sum() > 0.97


def test_brightness_leaves_masks_alone():
    image, mask = sample()
    new_image, new_mask = build_transform([{"name": "RandomBrightnessContrast", "p": 1}])(image, mask, 3)
    assert not np.array_equal(new_image, image)
    assert np.array_equal(new_mask, mask)


def test_no_steps_change_nothing():
    image, mask = sample(planes=2)
    new_image, new_mask = build_transform([])(image, mask, 3)
    assert np.array_equal(new_image, image)
    assert np.array_equal(new_mask, mask)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"name": "HorizontalFlop"}, r"step 2: no transform is called 'HorizontalFlop'; nearest: HorizontalFlip"),
        ({"name": "Compose"}, "step 2: no transform is called 'Compose'"),
        ({"p": 0.5}, "step 2: no transform is called ''"),
        ({"name": "RandomBrightnessContrast", "brightness": 0.2}, "nearest: brightness_limit"),
        ({"name": "HorizontalFlip", "p": 1.5}, r"step 2: [\s\S]*less than or equal to 1"),
        ({"name": "GaussianBlur", "blur_limit": "many"}, "step 2: "),
        ({"name": "Affine", "mask_interpolation": 1}, "step 2: mask_interpolation mixes the classes"),
    ],
)
def test_bad_steps_are_errors_and_not_warnings(step, message):
    with warnings.catch_warnings(record=True) as caught, pytest.raises(ValueError, match=message):
        warnings.simplefilter("always")
        build_transform([FLIPS[0], step])
    assert not caught


def test_a_transform_that_changes_the_size_is_named():
    transform = build_transform([{"name": "RandomCrop", "height": 16, "width": 16}])
    with pytest.raises(ValueError, match=r"RandomCrop.*\(32, 48, 3\) became uint8 \(16, 16, 3\)"):
        transform(*sample(), 1)
