import json

import cv2
import numpy as np
import pytest
import torch
from network_fixtures import pixels_of_test, small_training, write_folds, write_pixels, write_store

from cloudseg.dataset.resizing import resize_bitmask
from cloudseg.errors import StoreError
from cloudseg.storage import files, stores
from cloudseg.training.data import images
from cloudseg.training.data.dataset import bits_to_planes, planes_of
from cloudseg.training.data.fold import load_fold
from cloudseg.training.distributed import SINGLE

TRAIN, TEST = 18, 3
CLASSES = ["a", "b"]
SIZE = 48, 64
CANVAS = "96x128"
STILL = {"augmentation": [{"name": "NoOp", "p": 1}]}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_pixels(folder / "pixels.zarr", train=TRAIN, test=TEST, size=SIZE)
    write_pixels(
        folder / "canvas.zarr", train=TRAIN, test=TEST, size=SIZE, enlarged=2, seed=1
    )  # other pixels: see which is read
    write_folds(folder / "folds.tsv", count=TRAIN)
    (folder / "weights.safetensors").write_bytes(b"")
    return folder


def loaded(inputs, folder, *, job=None, **recipe):
    job = small_training(inputs, folder, job=job, **STILL | recipe)
    return load_fold(job, SINGLE, 4)


def samples_of(data, epoch):
    """Return the samples of an epoch, {index: (image, mask)}."""
    data.batches.epoch = epoch
    keys = [index for batch in data.batches for _, index in batch]
    parts = [part for batch in data.train for part in zip(*batch, strict=True)]
    return {index: (image.numpy(), mask.numpy()) for index, (image, mask) in zip(keys, parts, strict=True)}


def stored(path, name="image"):
    return stores.read(path)[name][:]


def test_training_reads_the_canvas_and_validation_the_training_size(inputs, tmp_path):
    job = {"canvas_pixels": inputs / "canvas.zarr"}
    data = loaded(inputs, tmp_path, canvas=CANVAS, job=job)
    canvas, pixels = stored(inputs / "canvas.zarr"), stored(inputs / "pixels.zarr")
    assert (data.n_train, data.n_valid) == (9, 9)
    order = [number for number in range(TRAIN)[::-1] if number % 2]  # write_folds; fold 0 validates
    for index, (image, _) in samples_of(data, 1).items():
        assert np.array_equal(image, canvas[order[index], ::2, ::2])
    valid = torch.cat([batch for batch, _ in data.valid]).numpy()
    assert np.array_equal(valid, pixels[[number for number in range(TRAIN)[::-1] if number % 2 == 0]])


@pytest.mark.parametrize("workers", [0, 2])
def test_each_stage_has_its_own_size_and_augmentation(inputs, tmp_path, workers):
    stages = [
        {"epochs": 2, "size": "32x32"},
        {"epochs": 1, "augmentation": [{"name": "VerticalFlip", "p": 1}]},
        {"epochs": 2, "size": "40x56"},
    ]
    data = loaded(inputs, tmp_path, job={"workers": workers}, epochs=5, stages=stages)
    plain = loaded(inputs, tmp_path).train._samples
    for epoch, size, flipped in ((1, (32, 32), False), (2, (32, 32), False), (3, SIZE, True), (4, (40, 56), False)):
        found = samples_of(data, epoch)
        assert len(found) == 8  # of 9, since a batch of one is left out
        for index, (image, mask) in found.items():
            own_image, own_mask = (part.numpy() for part in plain[1, index])
            if flipped:
                own_image, own_mask = own_image[::-1], own_mask[::-1]
            assert np.array_equal(image, cv2.resize(own_image, size[::-1], interpolation=cv2.INTER_AREA))
            assert np.array_equal(mask, resize_bitmask(own_mask, size))
    assert {image.shape[:2] for image, _ in samples_of(data, 5).values()} == {(40, 56)}
    assert {tuple(image.shape[1:3]) for image, _ in data.valid} == {SIZE}


def test_room_is_made_for_the_largest_stage(inputs, tmp_path):
    sizes = ["32x40", "48x64", "40x32"]
    stages = [{"epochs": 1, "size": size} for size in sizes]
    for mixes, channels in (({}, 3 + 1), ({"mixup": {}, "cutmix": {}}, 3 + 2)):
        data = loaded(inputs, tmp_path, epochs=3, stages=stages, **mixes)
        samples = data.train._samples
        found = [sum(part.nbytes for part in samples[epoch, 0]) for epoch in (1, 2, 3)]
        assert found == [32 * 40 * channels, 48 * 64 * channels, 40 * 32 * channels]
        assert samples.nbytes == max(found)


def test_a_stage_too_small_for_the_decoder_is_refused(inputs, tmp_path):
    stages = [{"epochs": 1, "size": "16x24"}, {"epochs": 2}]
    with pytest.raises(ValueError, match=r"stages\.0\.size: images of 16x24; linknet takes at least 32x32"):
        loaded(inputs, tmp_path, stages=stages)


@pytest.mark.parametrize("mixes", [{"mixup": {"p": 0.5}}, {"mixup": {"p": 0.3}, "cutmix": {"p": 0.3}}])
def test_with_mixup_all_masks_of_the_training_are_soft_and_those_of_the_validation_are_bits(inputs, tmp_path, mixes):
    plain = samples_of(loaded(inputs, tmp_path), 1)
    data = loaded(inputs, tmp_path, **mixes)
    found = samples_of(data, 1)
    same = 0
    for index, (image, mask) in found.items():
        assert mask.shape == (*SIZE, 2)
        if np.array_equal(image, plain[index][0]):
            same += 1
            planes = planes_of(torch.from_numpy(mask)[None], 2, soft=True)
            assert torch.equal(planes, bits_to_planes(torch.from_numpy(plain[index][1])[None], 2))
    assert 0 < same < len(found)
    assert {tuple(mask.shape[1:]) for _, mask in data.valid} == {(*SIZE, 1)}


def test_soft_planes_are_255ths_and_others_are_bits():
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8))
    wanted = np.moveaxis(mask.numpy().astype(np.float32) / np.float32(255), -1, 1)
    assert np.array_equal(planes_of(mask, 3, soft=True).numpy(), wanted)
    assert planes_of(mask, 3, soft=True).dtype == torch.float32
    assert torch.equal(planes_of(mask, 20, soft=False), bits_to_planes(mask, 20))


def luma_above(image, level):
    """Return where the luma is above a level; it has three decimals, which float64 holds."""
    return np.round(image.astype(np.float64) @ [0.299, 0.587, 0.114], 3) > level


def test_brightness_trains_on_training_and_test_images_and_validates_on_the_fold(inputs, tmp_path):
    level, test = 111, pixels_of_test(inputs / "pixels.zarr")
    flip = [{"name": "HorizontalFlip", "p": 1}, {"name": "RandomBrightnessContrast", "p": 1}]
    data = loaded(inputs, tmp_path, job={"test_pixels": test}, brightness=level, augmentation=flip)
    assert data.classes == ["brightness"]
    assert (data.n_train, data.n_valid) == (9 + TEST, 9)
    pixels = stored(inputs / "pixels.zarr")
    trained = [pixels[number] for number in range(TRAIN)[::-1] if number % 2] + list(stored(test))
    samples = samples_of(data, 1)
    assert sorted(samples) == list(range(12))
    for index, (image, mask) in samples.items():
        assert not np.array_equal(image, trained[index][:, ::-1])  # the augmentation changed how bright it is
        assert np.array_equal(mask[..., 0], luma_above(trained[index], level)[:, ::-1])
    for image, mask in (pair for batch in data.valid for pair in zip(*batch, strict=True)):
        assert np.array_equal(mask.numpy()[..., 0], luma_above(image.numpy(), level))


def test_brightness_of_a_canvas_is_that_of_the_canvas(inputs, tmp_path):
    canvas, test = inputs / "canvas.zarr", pixels_of_test(inputs / "canvas.zarr")
    job = {"canvas_pixels": canvas, "test_canvas_pixels": test}
    data = loaded(inputs, tmp_path, job=job, brightness=111, canvas=CANVAS)
    whole = images.bright_mask(stored(test)[-1], 111)
    assert np.array_equal(samples_of(data, 1)[11][1], whole[::2, ::2])  # each pixel of the canvas stands twice


def test_brightness_asks_for_the_test_images_that_it_reads(inputs, tmp_path):
    test = pixels_of_test(inputs / "pixels.zarr")
    canvas = {"canvas_pixels": inputs / "canvas.zarr"}
    for job, recipe, message in (
        ({}, {"brightness": 9}, r"expected test_pixels \(brightness is 9, canvas None\), got none"),
        ({"test_pixels": test}, {}, r"expected none \(brightness is None, canvas None\), got test_pixels"),
        (
            canvas | {"test_pixels": test},
            {"brightness": 9, "canvas": CANVAS},
            "test_canvas_pixels .*, got test_pixels",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            small_training(inputs, tmp_path, job=job, **recipe)


def test_fold_all_trains_on_all_images_and_validates_on_none(inputs, tmp_path):
    data = loaded(inputs, tmp_path, job={"fold": "all"})
    assert (data.n_train, data.n_valid, len(data.valid), list(data.valid)) == (TRAIN, 0, 0, [])
    assert sorted(samples_of(data, 1)) == list(range(TRAIN))


def test_the_digest_of_the_data_knows_what_else_trains_and_is_as_before_without(inputs, tmp_path):
    digests = [small_training(inputs, tmp_path).data_digest()]
    for number in range(2):
        test = tmp_path / f"test{number}.zarr"
        write_store(test, {"image": np.zeros((1, *SIZE, 3), np.uint8)}, [f"{number}.jpg"], ["a", "b"])
        digests.append(small_training(inputs, tmp_path, job={"test_pixels": test}, brightness=9).data_digest())
    assert len(set(digests)) == 3
    attributes = json.loads((inputs / "pixels.zarr" / "zarr.json").read_text())["attributes"]
    table = (inputs / "folds.tsv").read_text()
    assert digests[0] == files.digest({"pixels": attributes, "folds": table})


@pytest.fixture
def pseudo_labels(tmp_path):
    """Test images 2 and 0 with labels, as bits and as 255ths; the job's inputs for either."""
    images = np.random.default_rng(1).integers(0, 256, (TEST, *SIZE, 3), np.uint8)
    write_store(tmp_path / "test.zarr", {"image": images}, [f"test{number}.jpg" for number in range(TEST)], CLASSES)
    masks = {
        "hard": np.random.default_rng(2).integers(0, 4, (2, *SIZE), np.uint8),
        "soft": np.random.default_rng(3).integers(0, 256, (2, *SIZE, 2), np.uint8),
    }
    for name, mask in masks.items():
        write_store(tmp_path / f"{name}.zarr", {"mask": mask}, ["test2.jpg", "test0.jpg"], CLASSES)
    jobs = {name: {"test_pixels": tmp_path / "test.zarr", "pseudo": tmp_path / f"{name}.zarr"} for name in masks}
    return images[[2, 0]], masks, jobs


def test_test_images_train_by_their_labels_beside_the_training_images(inputs, tmp_path, pseudo_labels):
    images, masks, jobs = pseudo_labels
    data = loaded(inputs, tmp_path, job=jobs["hard"], pseudo={"ensemble": "all"})
    plain = samples_of(loaded(inputs, tmp_path), 1)
    assert (data.n_train, data.n_valid) == (9 + 2, 9)
    found = samples_of(data, 1) | samples_of(data, 2)
    for index in found.keys() & plain.keys():
        assert all(np.array_equal(*pair) for pair in zip(found[index], plain[index], strict=True))
    for number, index in enumerate((9, 10)):
        assert np.array_equal(found[index][0], images[number])
        assert np.array_equal(found[index][1][..., 0], masks["hard"][number])


@pytest.mark.parametrize("size", [None, "32x40"])
def test_soft_labels_train_beside_masks_that_are_certain(inputs, tmp_path, pseudo_labels, size):
    _, masks, jobs = pseudo_labels
    stages = {"stages": [{"epochs": 1, "size": size}, {"epochs": 1}], "epochs": 2} if size else {}
    data = loaded(inputs, tmp_path, job=jobs["soft"], pseudo={"ensemble": "all", "soft": True}, **stages)
    found = samples_of(data, 1)
    for index, (_, mask) in found.items():
        if index >= 9:
            label = masks["soft"][index - 9]
            shrunk = cv2.resize(label, (40, 32), interpolation=cv2.INTER_AREA) if size else label
            assert np.array_equal(mask, shrunk)
        elif size is None:
            assert set(np.unique(mask)) <= {0, 255}
    assert data.n_train == 11


def test_labels_that_are_not_of_these_images_are_refused(inputs, tmp_path, pseudo_labels):
    _, masks, jobs = pseudo_labels
    for name, ids, mask, message in (
        ("other", ["test2.jpg", "test9.jpg"], masks["hard"], r"other\.zarr: labels of test9\.jpg, which .* has not"),
        ("small", ["test2.jpg", "test0.jpg"], masks["hard"][:, ::2], r"small\.zarr: labels at 24x64, images at 48x64"),
    ):
        write_store(tmp_path / f"{name}.zarr", {"mask": mask}, ids, CLASSES)
        job = jobs["hard"] | {"pseudo": tmp_path / f"{name}.zarr"}
        with pytest.raises(StoreError, match=message):
            loaded(inputs, tmp_path, job=job, pseudo={"ensemble": "all"})
    with pytest.raises(ValueError, match="its labels are None; give both"):
        small_training(inputs, tmp_path, job=jobs["hard"] | {"pseudo": None}, pseudo={"ensemble": "all"})
