import collections

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from network_fixtures import write_folds, write_pixels

from cloudseg.training.data import dataset
from cloudseg.training.data.augment import build_transform
from cloudseg.training.data.images import LabelledImages
from cloudseg.training.data.loader import Loader
from cloudseg.training.data.sampler import BatchSampler

STEPS = [
    {"name": "HorizontalFlip", "p": 0.5},
    {"name": "RandomBrightnessContrast", "p": 1},
    {"name": "Affine", "rotate": [-30, 30], "p": 1},
]


def epochs_of(store, workers, count=3):
    """Return each epoch's batches, as {place: bytes of the image}."""
    data = dataset.SegmentationDataset(LabelledImages(store, [0] * 12), transform=build_transform(STEPS), seed=7)
    batches = BatchSampler(len(data), 5, shuffle_seed=7)
    loader = Loader(data, batches, workers, "cpu")
    for epoch in range(count):
        batches.epoch = epoch
        yield [image.numpy().tobytes() for images, _ in loader for image in images]


def test_draws_are_all_different_and_do_not_depend_on_the_workers(tmp_path):
    write_pixels(tmp_path / "p.zarr", train=1)
    alone = list(epochs_of(tmp_path / "p.zarr", workers=0))
    assert len({image for epoch in alone for image in epoch}) == 36  # one image, 36 draws
    assert list(epochs_of(tmp_path / "p.zarr", workers=2)) == alone


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_draws_nothing_from_the_state_that_dropout_uses(tmp_path, workers):
    write_pixels(tmp_path / "p.zarr", train=4)
    data = dataset.SegmentationDataset(LabelledImages(tmp_path / "p.zarr", range(4)))
    loader = Loader(data, BatchSampler(4, 2), workers, "cpu")
    state = torch.get_rng_state()
    for _ in range(2):
        assert [len(image) for image, _ in loader] == [2, 2]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sample_is_what_the_store_holds(tmp_path):
    blocks = write_pixels(tmp_path / "p.zarr")
    data = dataset.SegmentationDataset(LabelledImages(tmp_path / "p.zarr", [4, 9]))
    assert len(data) == 2
    image, mask = data[0, 1]
    assert data.name(1) == f"{tmp_path / 'p.zarr'}, image train9.jpg"
    assert np.array_equal(image.numpy(), blocks["image"][9])
    assert np.array_equal(mask.numpy()[..., 0], blocks["mask"][9])


@pytest.mark.parametrize(
    ("dtype", "classes"), [("uint8", 1), ("uint8", 8), ("uint16", 11), ("uint32", 32), ("uint64", 64)]
)
def test_masks_unpack_to_their_classes(tmp_path, dtype, classes):
    blocks = write_pixels(tmp_path / "p.zarr", train=2, classes=[f"c{i}" for i in range(classes)], dtype=dtype)
    _, mask = dataset.SegmentationDataset(LabelledImages(tmp_path / "p.zarr", [0, 1]))[0, 1]
    planes = dataset.bits_to_planes(mask[None], classes)[0]
    packed = blocks["mask"][1]
    assert planes.dtype == torch.float32
    assert planes.shape == (classes, 32, 48)
    for number in range(classes):
        bit = (packed >> packed.dtype.type(number)) & packed.dtype.type(1)
        assert np.array_equal(planes[number].numpy(), bit.astype(np.float32))


@pytest.mark.parametrize(("dtype", "classes"), [("uint8", 4), ("uint16", 11)])
def test_a_canvas_is_resized_after_augmentation(tmp_path, dtype, classes):
    names = [f"c{number}" for number in range(classes)]
    plain = write_pixels(tmp_path / "p.zarr", train=2, classes=names, dtype=dtype)
    write_pixels(tmp_path / "canvas.zarr", train=2, classes=names, dtype=dtype, enlarged=2)
    shapes = []

    def mirror(image, mask, draw):
        shapes.append(image.shape)
        return image[:, ::-1], mask[:, ::-1]

    images = LabelledImages(tmp_path / "canvas.zarr", [0, 1])
    data = dataset.SegmentationDataset(images, transform=mirror, size=(32, 48))
    image, mask = data[0, 1]
    assert shapes == [(64, 96, 3)]
    assert np.array_equal(image.numpy(), plain["image"][1][:, ::-1])
    assert np.array_equal(mask.numpy().view(dtype)[..., 0], plain["mask"][1][:, ::-1])


def test_masks_shrink_by_area_each_class_for_itself():
    rng = np.random.default_rng(0)
    mask = np.stack([cv2.blur(rng.random((60, 90)), (7, 7)) > 0.5 for _ in range(11)])
    packed = np.zeros((60, 90), np.uint16)
    for number, plane in enumerate(mask):
        packed |= plane.astype(np.uint16) << np.uint16(number)
    resized = dataset.resize_bitmask(packed.view(np.uint8).reshape(60, 90, 2), (20, 30))
    planes = dataset.bits_to_planes(torch.from_numpy(resized)[None], 11)[0].numpy()
    covered = mask.reshape(11, 20, 3, 30, 3).sum((2, 4))
    assert np.array_equal(planes, 2 * covered >= 9)


def test_an_epoch_visits_every_image_once_in_its_own_order():
    batches = BatchSampler(23, 4, shuffle_seed=3)
    orders = []
    for epoch in range(3):
        batches.epoch = epoch
        keys = [key for batch in batches for key in batch]
        assert {epoch for epoch, _ in keys} == {epoch}
        orders.append([place for _, place in keys])
        assert sorted(orders[-1]) == list(range(23))
    assert orders[0] != orders[1] != orders[2]
    batches.epoch = 1  # whatever came before
    assert [place for batch in batches for _, place in batch] == orders[1]


@pytest.mark.parametrize("count", range(2, 14))
def test_training_batches_never_hold_a_single_image(count):
    sizes = [len(batch) for batch in BatchSampler(count, 4, shuffle_seed=0)]
    assert min(sizes) >= 2
    assert sum(sizes) == count - (count % 4 == 1)
    assert len(BatchSampler(count, 4, shuffle_seed=0)) == len(sizes)
    assert sum(len(batch) for batch in BatchSampler(count, 4)) == count  # validation keeps all


@pytest.mark.parametrize("count", range(2, 14))
def test_an_incomplete_batch_can_be_dropped(count):
    batches = BatchSampler(count, 4, shuffle_seed=0, drop_last=True)
    left_out = set()
    for batches.epoch in range(30):
        kept = list(batches)
        assert [len(batch) for batch in kept] == [4] * (count // 4) == [4] * len(batches)
        left_out |= set(range(count)) - {place for batch in kept for _, place in batch}
    assert left_out == (set(range(count)) if count % 4 else set())  # not always the same images


def test_folds_follow_the_table(tmp_path):
    table = write_folds(tmp_path / "folds.tsv")
    ids = [f"train{number}.jpg" for number in range(10)]
    train, valid = dataset.fold_images(tmp_path / "folds.tsv", 1, ids)
    assert [ids[at] for at in valid] == list(table["image"][table["fold"] == 1])
    assert [ids[at] for at in train] == list(table["image"][table["fold"] == 0])
    assert collections.Counter(train + valid) == collections.Counter(range(10))


@pytest.mark.parametrize(
    ("rows", "fold", "message"),
    [
        ([("a", 0), ("b", 1)], 2, r"has the folds \[0, 1\], no fold 2"),
        ([("a", 0), ("x", 1)], 0, r"1 images are not in the pixel store \(first: x\)"),
        ([("a", 0), ("b", 1), ("a", 1)], 0, r"1 images are listed twice \(first: a\)"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, rows, fold, message):
    pd.DataFrame(rows, columns=["image", "fold"]).to_csv(tmp_path / "folds.tsv", sep="\t", index=False)
    with pytest.raises(ValueError, match=f"folds.tsv: {message}"):
        dataset.fold_images(tmp_path / "folds.tsv", fold, ["a", "b"])
