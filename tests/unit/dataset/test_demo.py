"""The demo data: layout, repeatability, labels, and that the scenes have the light of real ones."""

import csv
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from cloudseg.dataset import demo
from cloudseg.dataset.demo import CLASSES, make_demo

HEIGHT, WIDTH = 140, 210


def read_rows(path):
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["Image_Label", "EncodedPixels"]
    return rows


def files_of(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def paint(rle, height=HEIGHT, width=WIDTH):
    """Decode by the contest's definition, run by run, counting how often each pixel is covered."""
    flat = np.zeros(height * width, np.int64)
    numbers = [int(number) for number in rle.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        assert start >= 1
        assert length >= 1
        assert start - 1 + length <= flat.size
        flat[start - 1 : start - 1 + length] += 1
    return flat.reshape(width, height).T


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "small"
    make_demo(root, train=6, test=3, height=HEIGHT, width=WIDTH)
    return root


def test_layout_and_names(small):
    folders = [small / "train_images", small / "test_images"]
    assert sorted(small.glob("[!.]*")) == sorted([*folders, small / "train.csv", small / "sample_submission.csv"])
    names = [path.name for folder in folders for path in folder.iterdir()]
    assert len(names) == len(set(names)) == 9
    assert all(re.fullmatch(r"[0-9a-f]{7}\.jpg", name) for name in names)
    for path in (path for folder in folders for path in folder.iterdir()):
        assert cv2.imread(str(path)).shape == (HEIGHT, WIDTH, 3)
        assert path.read_bytes()[:3] == b"\xff\xd8\xff"


def test_rows_are_every_image_by_every_class_in_order(small):
    for table, folder in (("train.csv", "train_images"), ("sample_submission.csv", "test_images")):
        names = sorted(path.name for path in (small / folder).iterdir())
        expected = [f"{name}_{label}" for name in names for label in ("Fish", "Flower", "Gravel", "Sugar")]
        assert [row[0] for row in read_rows(small / table)] == expected
    assert {row[1] for row in read_rows(small / "sample_submission.csv")} == {"1 1"}


def test_labels_are_runs_inside_the_image_and_cover_a_field(small):
    areas = []
    for _, rle in read_rows(small / "train.csv"):
        covered = paint(rle)
        assert covered.max() <= 1
        areas.append(covered.mean())
    present = [area for area in areas if area]
    assert 0 < len(present) < len(areas)
    assert min(present) > 0.02
    assert max(present) < 0.95


def test_same_bytes_for_any_number_of_workers_and_images(small, tmp_path):
    make_demo(tmp_path / "again", train=6, test=3, height=HEIGHT, width=WIDTH, workers=5)
    assert files_of(tmp_path / "again") == files_of(small)
    make_demo(tmp_path / "fewer", train=4, test=1, height=HEIGHT, width=WIDTH, workers=1)
    fewer, all_files = files_of(tmp_path / "fewer"), files_of(small)
    images = {name for name in fewer if name.endswith(".jpg")}
    assert len(images) == 5
    assert all(fewer[name] == all_files[name] for name in images)
    all_rows = read_rows(small / "train.csv")
    assert all(row in all_rows for row in read_rows(tmp_path / "fewer" / "train.csv"))


def test_another_seed_gives_other_names_and_scenes(small, tmp_path):
    make_demo(tmp_path / "other", train=6, test=3, seed=7, height=HEIGHT, width=WIDTH)
    assert not {row[0] for row in read_rows(small / "train.csv")} & {
        row[0] for row in read_rows(tmp_path / "other" / "train.csv")
    }
    ours = {rle for _, rle in read_rows(small / "train.csv") if rle}
    assert not ours & {rle for _, rle in read_rows(tmp_path / "other" / "train.csv")}


def test_a_shift_hazes_the_test_images_alone(small, tmp_path):
    make_demo(tmp_path / "shifted", train=6, test=3, height=HEIGHT, width=WIDTH, shift=0.4)
    plain, shifted = files_of(small), files_of(tmp_path / "shifted")
    assert plain.keys() == shifted.keys()
    changed = {name for name in plain if plain[name] != shifted[name]}
    assert changed == {name for name in plain if name.startswith("test_images/")}
    image, hazed = (demo._make_image(2019, "test", 0, HEIGHT, WIDTH, haze)[0] for haze in (0, 0.4))
    expected = image + 0.4 * (demo.HAZE - image)
    black = (image.max(axis=2) == 0).astype(np.uint8)
    at_the_wedge = cv2.dilate(black, np.ones((5, 5))) > 0  # its smooth edge is drawn over the haze
    assert 0 < black.mean() < at_the_wedge.mean() < 0.5
    assert np.abs(hazed - expected)[~at_the_wedge].max() < 2
    assert not hazed[black > 0].any()


def test_no_shift_leaves_the_images_of_version_0_1(tmp_path):
    make_demo(tmp_path / "demo", train=1, test=2, height=64, width=96, shift=0)
    make_demo(tmp_path / "plain", train=1, test=2, height=64, width=96)
    assert files_of(tmp_path / "demo") == files_of(tmp_path / "plain")


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "crops"
    make_demo(root, train=7, test=3, height=HEIGHT, width=WIDTH, scenes=3)
    return root


def test_crops_carry_their_scene_in_their_names_and_no_scene_is_in_both_splits(crops):
    train, test = ([path.name for path in sorted((crops / f"{split}_images").iterdir())] for split in ("train", "test"))
    assert train == [f"scene{n:03}_{k:02}.jpg" for n, k in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1))]
    assert test == ["scene003_00.jpg", "scene004_00.jpg", "scene005_00.jpg"]


def test_crops_of_a_scene_overlap_in_what_is_seen_and_in_what_was_drawn(crops):
    scene, masks = demo._make_image(2019, "train", 0, round(1.5 * HEIGHT), round(1.5 * WIDTH))
    rows = dict(read_rows(crops / "train.csv"))
    covered = np.zeros(scene.shape[:2], int)
    for number in range(3):
        name = f"scene000_{number:02}.jpg"
        seen = cv2.imread(str(crops / "train_images" / name))
        place = cv2.matchTemplate(scene, seen, cv2.TM_SQDIFF)
        top, left = np.unravel_index(place.argmin(), place.shape)
        part = slice(top, top + HEIGHT), slice(left, left + WIDTH)
        assert np.abs(scene[part].astype(int) - seen).mean() < 5  # what JPEG loses
        for label, mask in zip(CLASSES, masks, strict=True):
            assert np.array_equal(paint(rows[f"{name}_{label}"]), mask[part])
        covered[part] += 1
    assert (covered > 1).any()


def test_crops_depend_neither_on_workers_nor_on_how_many_there_are(crops, tmp_path):
    make_demo(tmp_path / "fewer", train=5, test=1, height=HEIGHT, width=WIDTH, scenes=3, workers=4)
    fewer, all_files = files_of(tmp_path / "fewer"), files_of(crops)
    images = {name for name in fewer if name.endswith(".jpg")}
    assert len(images) == 6
    assert all(fewer[name] == all_files[name] for name in images)
    make_demo(tmp_path / "other", train=7, test=3, height=HEIGHT, width=WIDTH, scenes=3, seed=1)
    assert not set(files_of(tmp_path / "other").values()) & {all_files[name] for name in images}


def test_scenes_are_shifted_as_images_are(crops, tmp_path):
    make_demo(tmp_path / "shifted", train=7, test=3, height=HEIGHT, width=WIDTH, scenes=3, shift=0.4)
    plain, shifted = files_of(crops), files_of(tmp_path / "shifted")
    assert plain.keys() == shifted.keys()
    changed = {name for name in plain if plain[name] != shifted[name]}
    assert changed == {name for name in plain if name.startswith("test_images/")}


def test_names_stay_unique_in_large_sets():
    names = {demo._image_name(2019, split, index) for split in ("train", "test") for index in range(20_000)}
    assert len(names) == 40_000


def test_class_rates_are_those_of_the_contest():
    present = np.zeros((100, len(CLASSES)))
    areas = []
    for index in range(len(present)):
        drawn = demo._choose_classes(2019, "train", index)
        rng = np.random.default_rng(index)
        masks = demo._annotate(rng, demo._place_regions(rng, drawn), 70, 105)
        present[index] = masks.any((1, 2))
        areas += [mask.mean() for mask in masks if mask.any()]
    assert np.abs(present.mean(0) - (0.50, 0.43, 0.53, 0.68)).max() < 0.1
    assert 0.44 <= 1 - present.mean() <= 0.56
    assert 0.2 < np.median(areas) < 0.35


def test_a_failure_leaves_no_folder(tmp_path, monkeypatch):
    encode = demo.encode_rle
    calls = []

    def fail_late(mask):
        calls.append(1)
        if len(calls) > 6:
            raise RuntimeError("disk on fire")
        return encode(mask)

    threads = cv2.getNumThreads()
    monkeypatch.setattr(demo, "encode_rle", fail_late)
    with pytest.raises(RuntimeError, match="disk on fire"):
        make_demo(tmp_path / "demo", train=3, test=1, height=64, width=96)
    assert list(tmp_path.iterdir()) == []
    assert cv2.getNumThreads() == threads


def test_an_empty_root_and_a_stale_part_are_replaced(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo.part" / "train_images").mkdir(parents=True)
    (tmp_path / "demo.part" / "train_images" / "stale.jpg").touch()
    make_demo(tmp_path / "demo", train=1, test=1, height=64, width=96)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert not (tmp_path / "demo" / "train_images" / "stale.jpg").exists()


def test_a_root_with_files_is_refused_and_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="not an empty folder"):
        make_demo(tmp_path, train=1, test=1, height=64, width=96)
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "wrong", [{"train": 0}, {"test": 0}, {"workers": 0}, {"scenes": 0}, {"height": 8}, {"seed": -1}]
)
def test_numbers_out_of_range_are_named(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected at least"):
        make_demo(tmp_path / "demo", **wrong)


@pytest.mark.parametrize("shift", [-0.1, 1.1, float("nan")])
def test_a_shift_out_of_range_is_named(tmp_path, shift):
    with pytest.raises(ValueError, match=f"shift: expected a number from 0 .*, got {shift}"):
        make_demo(tmp_path / "demo", shift=shift)


@pytest.mark.parametrize("shape", [(32, 32), (33, 97), (300, 100)])
def test_any_shape_can_be_drawn(shape):
    image, masks = demo._make_image(1, "train", 3, *shape)
    assert image.shape == (*shape, 3)
    assert masks.shape == (len(CLASSES), *shape)


def light(image):
    """Mean blue, green and red; shares of black, dark and bright pixels; contrast from a pixel to the next."""
    grey = image.mean(2)
    means = image.mean((0, 1))
    return *means, (grey < 6).mean(), (grey < 80).mean(), (grey > 180).mean(), np.abs(np.diff(grey)).mean()


@pytest.fixture(scope="module")
def scenes():
    return np.array([light(demo._make_image(2019, "train", index, 1400, 2100)[0]) for index in range(6)])


def test_light_is_that_of_real_images(scenes):
    # Ten real images have blue 63-102, green 51-91, red 45-87, black 0.03-0.14, dark 0.45-0.80, bright 0.05-0.19
    # and contrast 7-15 each; six scenes must keep near that on average.
    blue, green, red, black, dark, bright, contrast = scenes.mean(0)
    assert 60 < blue < 105
    assert 45 < green < 95
    assert 40 < red < 90
    assert blue > green > red
    assert 0.01 < black < 0.2
    assert 0.5 < dark < 0.9
    assert 0.03 < bright < 0.2
    assert 4 < contrast < 20


def test_light_overlaps_with_the_real_images_at_hand(scenes):
    folder = os.environ.get("CLOUDSEG_REAL_DATA")
    if not folder:
        pytest.skip("CLOUDSEG_REAL_DATA names no folder with real images")
    real = np.array([light(cv2.imread(str(path))) for path in sorted(Path(folder).rglob("*.jpg"))])
    assert np.all(scenes.mean(0) > 0.8 * real.min(0))
    assert np.all(scenes.mean(0) < 1.25 * real.max(0))
