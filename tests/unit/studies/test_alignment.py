"""A data set whose labels are all moved alike is named; a sound one never is, nor one that tells nothing."""

import cv2
import numpy as np
import pytest

from cloudseg.dataset.labels.order import counted_along_rows
from cloudseg.postprocess import encode_rle
from cloudseg.storage import stores
from cloudseg.studies.alignment import (
    AS_IT_IS,
    TRANSPOSED,
    look_at_images,
    look_at_predictions,
    ways,
)
from cloudseg.studies.label_faults import FLIPS, Pair, coarse

SIZE = (48, 72)
IMAGES = 40


def scenes(seed=0, visible=True):
    """Images in which masks of two classes are rough or bright (or not to be seen), and the masks."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((IMAGES, 2, *SIZE), np.uint8)
    images = rng.integers(60, 120, (IMAGES, *SIZE, 3)).astype(np.uint8)
    for image, planes in zip(images, masks, strict=True):
        for number, plane in enumerate(planes):
            top, left = rng.integers(0, 30), rng.integers(0, 50)
            plane[top : top + rng.integers(10, 25), left : left + rng.integers(10, 30)] = 1
            change = rng.integers(0, 130, SIZE) if number else np.full(SIZE, 70)
            if visible:
                image += (change * plane)[:, :, None].astype(np.uint8)
    return images, masks


def transposed(masks):
    return np.array([[cv2.resize(plane.T.copy(), SIZE[::-1]) for plane in planes] for planes in masks])


def shifted(masks):
    """Masks that lie an eighth of the width too far right."""
    moved = np.zeros_like(masks)
    moved[..., 9:] = masks[..., :-9]
    return moved


FAULTS = {
    AS_IT_IS: lambda masks: masks,
    **{name: lambda masks, flip=flip: masks[:, :, *flip] for name, flip in FLIPS.items()},
    TRANSPOSED: transposed,
}


def write(folder, images, masks):
    ids = [f"{number}.jpg" for number in range(len(images))]
    for path, arrays in (
        (folder / "pixels.zarr", {"image": (images, ("image", "y", "x", "band"))}),
        (folder / "truth.zarr", {"": (np.ascontiguousarray(masks), ("image", "class", "y", "x"))}),
    ):
        specs = {name: stores.Spec(block.shape, "uint8", dims) for name, (block, dims) in arrays.items()}
        writer = stores.Writer(path, specs, {"ids": ids})
        for name, (block, _) in arrays.items():
            for rows in writer.missing(name):
                writer.write(rows, block[rows], name)
        writer.finish()
    return folder / "pixels.zarr", folder / "truth.zarr"


@pytest.mark.parametrize("fault", FAULTS)
def test_images_tell_how_labels_were_moved(fault, tmp_path):
    images, masks = scenes()
    look = look_at_images(*write(tmp_path, images, FAULTS[fault](masks)))
    assert look.best == (None if fault == AS_IT_IS else fault)
    assert look.tells and (fault in look.verdict or fault == AS_IT_IS)


@pytest.mark.parametrize("fault", FAULTS)
def test_predictions_tell_how_labels_were_moved(fault):
    masks = scenes()[1]
    pairs = [
        Pair(0.8 * coarse(255 * prediction, (24, 36)), coarse(255 * label, (24, 36)))
        for prediction, label in zip(masks, FAULTS[fault](masks), strict=True)
    ]
    look = look_at_predictions(pairs)
    assert look.best == (None if fault == AS_IT_IS else fault)


def test_a_shift_is_named_with_its_direction(tmp_path):
    images, masks = scenes()
    look = look_at_images(*write(tmp_path, images, shifted(masks)))
    assert look.best is not None and look.best.endswith("% further left")


def test_nothing_is_named_where_nothing_can_be_seen(tmp_path):
    for seed in range(3):
        folder = tmp_path / str(seed)
        look = look_at_images(*write(folder, *scenes(seed, visible=False)))
        assert look.best is None and not look.tells and "cannot be told" in look.verdict
    assert look_at_predictions([]).verdict == "0 images with a mask are too few to tell from predictions"


def test_few_images_and_empty_labels_tell_nothing(tmp_path):
    images, masks = scenes()
    look = look_at_images(*write(tmp_path / "a", images[:5], masks[:5]))
    assert look.best is None and "too few" in look.verdict
    look = look_at_images(*write(tmp_path / "b", images, masks * 0))
    assert look.best is None and not look.tells


def test_every_way_crops_both_sides_alike():
    planes = np.random.default_rng(0).random((2, 24, 36)).astype(np.float32)
    for way in ways():
        assert way.move(planes).shape == way.crop(planes).shape


@pytest.mark.parametrize("along", [False, True])
def test_the_order_of_pixels_is_told_from_the_run_lengths(along, tmp_path):
    masks = scenes()[1][:6]
    lines = ["Image_Label,EncodedPixels"]
    for number, planes in enumerate(masks):
        for name, plane in zip(["Fish", "Sugar"], planes, strict=True):
            lines.append(f"{number}.jpg_{name},{encode_rle(plane.T.copy() if along else plane)}")
    (tmp_path / "train.csv").write_text("\n".join([*lines, ""]))
    sizes = {f"{number}.jpg": SIZE for number in range(len(masks))}
    assert counted_along_rows(tmp_path, sizes, ["Fish", "Sugar"]) is along
    squares = dict.fromkeys(sizes, (59, 59))
    assert counted_along_rows(tmp_path, squares, ["Fish", "Sugar"]) is None
