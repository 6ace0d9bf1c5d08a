import inspect
import re
import warnings

import albumentations
import cv2
import numpy as np
import pytest
from network_fixtures import FROG, write_pixels

from cloudseg.config.recipe import Recipe
from cloudseg.config.transforms import (
    CHOICES,
    GIVEN,
    UNUSABLE,
    VARYING_WITH,
    _sizes_after,
    augmentation_problems,
    size_problem,
    transforms,
)
from cloudseg.report.augmented import augmented_page, augmented_samples
from cloudseg.training.data.augment import build_transform

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


def test_the_frog_draws_its_flips_branches_and_angles_evenly(monkeypatch):
    done = {}
    canvas, mask = np.zeros((700, 1050, 3), np.uint8), np.zeros((700, 1050, 1), np.uint8)
    for name in ("HorizontalFlip", "VerticalFlip", "NoOp", "Resize", "Rotate"):  # counted, not drawn, to save time

        def apply(self, image, *given, name=name, **params):
            done[name] = params
            return canvas if image.ndim == 3 and image.shape[2] == 3 else mask

        monkeypatch.setattr(getattr(albumentations, name), "apply", apply)
        monkeypatch.setattr(getattr(albumentations, name), "apply_to_mask", lambda self, image, **params: mask)
    transform = build_transform(FROG)
    cells, angles = {}, []
    for number in range(3000):
        done.clear()
        transform(canvas, mask, number)
        branches = {"NoOp", "Resize", "Rotate"} & set(done)
        assert len(branches) == 1
        cell = ("HorizontalFlip" in done, "VerticalFlip" in done, branches.pop())
        cells[cell] = cells.get(cell, 0) + 1
        if "Rotate" in done:
            matrix = done["Rotate"]["matrix"]
            angles.append(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    assert len(cells) == 12
    # Chi-square at p = 0.001: 11 degrees of freedom; flips and branches are each even and know nothing of each other
    assert sum((count - 250) ** 2 / 250 for count in cells.values()) < 31.3
    # Kolmogorov-Smirnov at p = 0.001 against the even distribution over -30..30
    share = (np.sort(angles) + 30) / 60
    ranks = np.arange(len(share) + 1) / len(share)
    assert 0 < share[0] < share[-1] < 1
    assert max((ranks[1:] - share).max(), (share - ranks[:-1]).max()) * np.sqrt(len(share)) < 1.95


def test_what_the_frog_does_to_pixels():
    # Where each pixel came from can be read off: across in green, down in blue, which is never 0 inside
    y, x = np.mgrid[:700, :1050]
    disc = (y - 330) ** 2 + (x - 600) ** 2 < 150**2
    image = np.dstack([disc * 255, np.rint(x * 250 / 1050), np.rint(5 + y * 250 / 700)]).astype(np.uint8)
    mask = np.where(disc, np.uint8(0b10000001), np.uint8(0b10000000))[..., None]
    transform, seen = build_transform(FROG), {"nothing": 0, "crop": 0, "rotation": 0}
    for number in range(45):
        new_image, new_mask = transform(image, mask, number)
        assert new_image.shape == image.shape
        inside, labelled = new_image[..., 2] > 0, new_mask[..., 0] >> 7 == 1
        assert (inside != labelled).sum() < 4000  # the border itself: its length, and a pixel to spare
        drawn, covered = new_image[..., 0] > 127, new_mask[..., 0] & 1 > 0
        assert (drawn & covered).sum() / (drawn | covered).sum() > 0.97
        core = cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        places = np.column_stack([x[core], y[core], np.ones(core.sum())])[::97]
        values = new_image[core][::97, 1:] * np.array([1050 / 250, 700 / 250])
        (jacobian, *_) = np.linalg.lstsq(places, values, rcond=None)
        flips, steps = np.sign(np.diag(jacobian)), jacobian[:2] * np.sign(np.diag(jacobian[:2]))
        if not inside.all():
            seen["rotation"] += 1
            angle = np.degrees(np.arctan2(steps[1, 0], steps[0, 0]))
            assert 0 < abs(angle) < 30.2
            assert np.linalg.det(steps) == pytest.approx(1, abs=0.01)
        elif np.diag(steps) == pytest.approx([1, 1], abs=1e-3):
            seen["nothing"] += 1
            assert np.array_equal(new_image, image[:: int(flips[1]), :: int(flips[0])])
        else:
            seen["crop"] += 1
            assert np.diag(steps) * [1050, 700] == pytest.approx([925, 630], abs=1)
    assert min(seen.values()) > 5


def test_one_of_chooses_in_proportion_and_some_of_as_many_as_it_is_told():
    image, mask = sample((2, 2))
    flips = [{"name": "HorizontalFlip", "p": 0.9}, {"name": "VerticalFlip", "p": 0.3}]
    one = build_transform([{"name": "OneOf", "p": 1, "transforms": flips}])
    results = [one(image, mask, number)[0] for number in range(400)]
    across = sum(np.array_equal(result, image[:, ::-1]) for result in results)
    assert across + sum(np.array_equal(result, image[::-1]) for result in results) == 400
    assert (across - 300) ** 2 / 75 < 10.8  # chi-square, 1 degree, p = 0.001
    both = build_transform([{"name": "SomeOf", "n": 2, "transforms": [{**flip, "p": 1} for flip in flips]}])
    assert all(np.array_equal(both(image, mask, number)[0], image[::-1, ::-1]) for number in range(20))


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
        (
            {"name": "Resize", "height": 8, "width": 8, "area_for_downscale": "image_mask"},
            "step 2: area_for_downscale: image_mask mixes the classes",
        ),
        ({"name": "OneOf"}, "step 2: OneOf needs `transforms`, a list of at least one step; got None"),
        ({"name": "Sequential", "transforms": []}, "step 2: Sequential needs `transforms`"),
        ({"name": "OneOf", "p": 2, "transforms": FLIPS}, "step 2: OneOf: p must be from 0 to 1, got 2"),
        ({"name": "OneOf", "transforms": [{"name": "NoOp", "p": 0}]}, "step 2: OneOf chooses in proportion"),
        ({"name": "OneOf", "n": 2, "transforms": FLIPS}, "step 2: no argument of OneOf is called 'n'"),
        ({"name": "SomeOf", "n": 3, "transforms": FLIPS}, "step 2: SomeOf: n must be a whole number from 1 to 2"),
        ({"name": "HorizontalFlip", "transforms": FLIPS}, "no argument of HorizontalFlip is called 'transforms'"),
        ({"name": "OneOf", "transforms": [FLIPS[0], "NoOp"]}, "step 2.2: expected a mapping with a `name`, got 'NoOp'"),
        (
            {"name": "OneOf", "transforms": [FLIPS[0], {"name": "Sequential", "transforms": [{"name": "Rotat"}]}]},
            "step 2.2.1: no transform is called 'Rotat'; nearest: Rotate",
        ),
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


def test_a_transform_that_fails_within_others_is_named():
    with pytest.raises(
        ValueError, match=r"OneOf\(NoOp, Sequential\(RandomCrop, Resize\), Rotate\)\) fails on \(32, 48\)"
    ):
        for number in range(20):
            build_transform(FROG)(*sample(), number)


def test_the_page_shows_each_image_as_stored_and_then_as_drawn(tmp_path):
    blocks = write_pixels(tmp_path / "p.zarr", train=6, size=(64, 96))
    made = {}
    for channels in ("rgb", "gray"):
        recipe = Recipe(augmentation=[{"name": "HorizontalFlip", "p": 1}], channels=channels)
        made[channels] = augmented_samples(tmp_path / "p.zarr", recipe, seed=1, images=2, draws=3, width=96)
    assert [len(tiles) for tiles in made["rgb"].tiles] == [4, 4]
    for tiles, image in zip(made["rgb"].tiles, (0, 3), strict=True):
        untouched = np.all(tiles[0] == blocks["image"][image], axis=2)
        assert 0.4 < untouched.mean() < 1  # all but the outlines
        for tile in tiles[1:]:
            mirrored = np.all(tile == blocks["image"][image][:, ::-1], axis=2)
            assert 0.4 < mirrored.mean() < 1
    for stored, *drawn in made["gray"].tiles:
        assert (np.ptp(stored, axis=2) == 0).mean() < 0.4
        assert all((np.ptp(tile, axis=2) == 0).mean() > 0.4 for tile in drawn)


def test_the_page_says_what_each_column_and_each_step_is(tmp_path):
    write_pixels(tmp_path / "p.zarr", train=6, size=(64, 96))
    recipe = Recipe(augmentation=[{"name": "HorizontalFlip", "p": 0.25}, {"name": "NoOp"}])
    for name in ("a", "b"):
        augmented_page(tmp_path / "p.zarr", recipe, "<b>", tmp_path / name, seed=1)
    text = (tmp_path / "a").read_text()
    assert text == (tmp_path / "b").read_text()
    assert re.findall(r'<th scope="col">([^<]+)<', text) == ["as stored", *(f"epoch {n}" for n in range(1, 7))]
    assert re.findall(r"<li>([^<]+)<", text)[:2] == [
        "HorizontalFlip: in 25 % of the samples",
        "NoOp: in 100 % of the samples",
    ]
    assert "Augmentation of &lt;b&gt;" in text
    assert text.count("data:image/jpeg") == 4 * 7


# Arguments that transforms cannot do without, or with which they change the size
ARGUMENTS = {
    **{name: [{"height": 20, "width": 30}] for name in GIVEN if "height" in GIVEN[name]},
    "RandomResizedCrop": [{"size": [20, 30]}],
    "RandomSizedCrop": [{"size": [20, 30], "min_max_height": [10, 20]}],
    "Crop": [{"x_min": 2, "y_min": 2, "x_max": 32, "y_max": 22}],
    "CropAndPad": [{"px": 4}, {"px": -4}, {"percent": 0.2}],
    "GridElasticDeform": [{"num_grid_xy": [2, 2], "magnitude": 2}],
    "PadIfNeeded": [{"min_height": 40, "min_width": 40}, {"min_height": 32, "min_width": 48}, {}],
    **{name: [{"max_size": 40}] for name in ("LongestMaxSize", "SmallestMaxSize")},
    **{name: [{"padding": 3}] for name in ("Pad", "Pad3D")},
}


def sizes_seen(step, size, draws=12):
    """The sizes that albumentations itself makes, in some draws; nothing in between refuses them."""
    transform = build_transform([step])._compose
    image, mask = sample(size)
    seen = set()
    for number in range(draws):
        transform.set_random_seed(number)
        seen.add(transform(image=image, mask=mask)["image"].shape[:2])
    return seen


@pytest.mark.parametrize("name", sorted(set(transforms()) - set(CHOICES) - UNUSABLE))
def test_what_every_transform_does_to_the_size_is_known(name):
    size = (32, 48)
    for arguments in ARGUMENTS.get(name, [{}]):
        variants = [{"name": name, "p": 1, **arguments}]
        for switch in ("fit_output", "keep_size", "crop_border", "pad_if_needed", "keep_ratio", "balanced_scale"):
            if switch in transforms()[name]:
                variants += [{**variants[0], switch: value} for value in (True, False)]
        for step in variants:
            if name in ("Affine", "Perspective"):
                step |= {"scale": [0.1, 0.2]}
            with warnings.catch_warnings(action="ignore"):
                seen = sizes_seen(step, size)
            predicted = _sizes_after([step], {size})
            assert seen <= predicted or None in predicted, (step, seen)
            assert (seen == {size}) == (predicted == {size}), (step, seen, predicted)


@pytest.mark.parametrize("name", sorted(UNUSABLE))
def test_transforms_that_need_more_than_an_image_cannot_be_used(name):
    step = {"name": name, "p": 1}
    if "font_path" not in transforms()[name]:
        given = {"height": 20, "width": 30, "size": [8, 20, 30], "padding": 2, "min_zyx": [8, 40, 50]}
        step |= {key: value for key, value in given.items() if key in transforms()[name]}
        with pytest.raises(ValueError, match="fails on"):
            build_transform([step])(*sample(planes=1), seed=1)
    assert f"{name} needs more than an image and its mask" in next(augmentation_problems([step]))


def test_odds_that_a_recipe_does_not_say_are_those_of_the_library():
    for name in ("CenterCrop", "CropNonEmptyMaskIfExists", "RandomCrop", "Resize", "RandomSizedCrop", "PadIfNeeded"):
        assert inspect.signature(getattr(albumentations, name)).parameters["p"].default == 1
    for name in ("OneOf", "Sequential"):
        assert inspect.signature(getattr(albumentations, name)).parameters["p"].default == 0.5
    assert all(name in transforms() for name in VARYING_WITH)


CROP = {"name": "RandomCrop", "height": 20, "width": 30}
BACK = {"name": "Resize", "height": 32, "width": 48}
TURN = {"name": "Transpose"}


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([], None),
        (FLIPS, None),
        ([CROP], "step 1: RandomCrop makes 20x30 of 32x48; end with {name: Resize, height: 32, width: 48}"),
        ([*FLIPS, CROP, FLIPS[0]], "step 3: RandomCrop makes 20x30"),
        ([CROP, BACK], None),
        ([CROP, BACK, TURN], "step 3: Transpose makes 48x32"),
        ([{**CROP, "p": 0.5}, BACK], None),
        ([CROP, {**BACK, "p": 0.5}], "step 1: RandomCrop makes 20x30"),
        ([{**TURN, "p": 0}], None),
        ([{"name": "RandomScale"}], "step 1: RandomScale makes another size of 32x48"),
        ([{"name": "Rotate", "crop_border": True}], "step 1: Rotate makes another size"),
        ([{"name": "PadIfNeeded", "min_height": 32, "min_width": 32}], None),
        ([{"name": "OneOf", "transforms": [FLIPS[0], TURN]}], "step 1: Transpose"),
        ([{"name": "OneOf", "transforms": [FLIPS[0], {**TURN, "p": 0}]}], None),
        ([{"name": "OneOf", "transforms": [{"name": "Sequential", "p": 0.1, "transforms": [CROP, BACK]}]}], None),
        ([{"name": "OneOf", "transforms": [{"name": "OneOf", "transforms": [TURN]}]}], "step 1: Transpose"),
        ([{"name": "Sequential", "transforms": [CROP]}, BACK], None),
        ([{"name": "Sequential", "transforms": [CROP]}], "step 1: RandomCrop"),
        ([{"name": "SomeOf", "n": 1, "transforms": [CROP, FLIPS[0]]}], "step 1: RandomCrop"),
        ([{**CROP, "height": 40}, BACK], "step 1: RandomCrop is larger than the image that it gets"),
        ([CROP, CROP | {"width": 31}, BACK], "step 1: RandomCrop is larger"),
        ([{**CROP, "height": 40, "pad_if_needed": True}, BACK], None),
    ],
)
def test_a_change_of_size_is_found_without_an_image(steps, problem):
    found = size_problem(steps, (32, 48))
    assert (found is None) == (problem is None)
    assert found is None or problem in found
    if problem is None:
        for number in range(20):
            build_transform(steps)(*sample(), seed=number)
    else:
        with pytest.raises(ValueError, match=r"take transforms that keep size|fails on"):
            for number in range(200):
                build_transform(steps)(*sample(), seed=number)


def test_the_kit_of_the_forum_keeps_the_size_of_its_canvas():
    assert size_problem(FROG, (700, 1050)) is None
    assert "step 3: RandomCrop is larger" in size_problem(FROG, (320, 480))
