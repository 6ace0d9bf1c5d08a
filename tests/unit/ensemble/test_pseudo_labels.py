"""Labels of test images by the networks of one fold, against plain NumPy."""

import numpy as np
import pytest
from scipy import ndimage
from small_stores import CLASSES, SIZE, expected_blend, member, planes, write

from cloudseg.config.recipe_parts import Pseudo
from cloudseg.ensemble.pseudo_labels import BlendLabels, write_pseudo_labels
from cloudseg.errors import DatasetError, StoreError
from cloudseg.postprocess import level
from cloudseg.storage import stores

IDS = [f"{letter}.jpg" for letter in "abcdefgh"]


@pytest.fixture
def made(tmp_path):
    """Make the labels of two members of fold 1 by a recipe's numbers, and return the group."""
    blocks = [planes(seed, len(IDS)) for seed in (1, 2)]
    # Surer from image to image
    for row, share in enumerate(np.linspace(0.0, 0.9, len(IDS))):
        for block in blocks:
            block[row, :, : round(share * SIZE[0])] = 255
    paths = [write(tmp_path / f"{number}.zarr", block, IDS) for number, block in enumerate(blocks)]
    members = [member(f"m{number}", fold=1, weight=weight) for number, weight in enumerate((1, 3))]

    def make(name="out.zarr", *, size=SIZE, folds=(1, 1), min_area=0.0, **pseudo):
        asked = [one | {"fold": fold} for one, fold in zip(members, folds, strict=True)]
        how = {"classes": CLASSES, "grid": SIZE, "size": size, "min_area": min_area}
        labels = BlendLabels.of(paths, asked, Pseudo(ensemble="all", **pseudo), **how)
        write_pseudo_labels(labels, tmp_path / name)
        return stores.read(tmp_path / name)

    make.blend = expected_blend(blocks, [1, 3])
    return make


def masks_of(group):
    packed = stores.read_images(group["mask"], slice(None))
    return np.stack([packed >> bit & 1 for bit in range(len(CLASSES))], axis=1)


def test_the_share_of_images_with_most_certain_pixels_is_taken(made):
    certain = ((made.blend < level(0.1)) | (made.blend >= level(0.7))).mean(axis=(1, 2, 3))
    group = made(share=0.375)
    assert group.attrs["ids"] == [IDS[row] for row in sorted(np.argsort(-certain, kind="stable")[:3])]


def test_masks_are_those_of_the_blend_without_small_components(made):
    expected = np.zeros_like(made.blend)
    least = 0.05 * SIZE[0] * SIZE[1]
    for row, image in enumerate(made.blend):
        for number, plane in enumerate(image):
            labels, count = ndimage.label(plane >= level(0.6), np.ones((3, 3)))
            areas = ndimage.sum_labels(np.ones_like(labels), labels, range(1, count + 1))
            expected[row, number] = np.isin(labels, 1 + np.flatnonzero(areas >= least))
    group = made(share=1, threshold=0.6, min_area=0.05)
    assert (masks_of(group) == expected).all()


def test_soft_labels_are_the_blend(made):
    group = made(share=1, soft=True)
    assert (stores.read_images(group["mask"], slice(None)) == made.blend.transpose(0, 2, 3, 1)).all()


def test_labels_come_at_the_size_of_the_images_that_will_train(made):
    half = SIZE[0] // 2, SIZE[1] // 2
    assert made(size=half)["mask"].shape[1:] == half
    assert made("soft.zarr", size=half, soft=True)["mask"].shape[1:] == (*half, len(CLASSES))


def test_an_image_whose_classes_may_or_may_not_be_there_is_left_out(made):
    top = round(0.095 * SIZE[0] * SIZE[1])
    scores = np.sort(made.blend.reshape(*made.blend.shape[:2], -1))[..., -top:].mean(-1) / 255
    low, high = 0.05, 0.999
    sure = ((scores < low) | (scores >= high)).all(axis=1)
    assert 0 < sure.sum() < len(IDS)
    assert made(share=1, presence=(low, high)).attrs["ids"] == [IDS[row] for row in np.flatnonzero(sure)]


def test_no_image_that_is_sure_enough_is_said(made):
    with pytest.raises(DatasetError, match="none of the 8 test images is sure enough to train on"):
        made(share=0.05)


def test_members_of_another_fold_are_refused(made):
    with pytest.raises(StoreError, match=r"expected members of one fold, got those of the folds \[1, 2\]"):
        made(folds=(1, 2))


def test_other_numbers_are_other_labels_by_their_digest(made):
    runs = [
        made(f"out{number}.zarr", **how).attrs["run"] for number, how in enumerate(({}, {"share": 1}, {"soft": True}))
    ]
    assert len(set(runs)) == 3
