import io
import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from resize_oracle import resize_by_fractions

from cloudseg.dataset import pixels
from cloudseg.dataset.check import check_dataset
from cloudseg.dataset.decoding import load_image
from cloudseg.dataset.pixels import build_pixels, build_truth, common_size
from cloudseg.dataset.resizing import resize_image
from cloudseg.postprocess import decode_rle, encode_rle
from cloudseg.storage import stores

CLASSES = ["Fish", "Flower", "Sugar"]


def test_the_common_size_is_there_only_if_all_share_it():
    images = pd.DataFrame({"height": [40, 40], "width": [60, 60]})
    assert common_size(images) == (40, 60)
    images.loc[1, "width"] = 61
    assert common_size(images) is None


# Stores


class Folder:
    """A checked data set of random pictures and masks."""

    def __init__(self, root: Path, train: int = 5, test: int = 3, shapes=((40, 60),), classes=CLASSES) -> None:
        self.root, self.classes = root, classes
        rng = np.random.default_rng(0)
        self.masks = {}
        tables = {"train": ["Image_Label,EncodedPixels"], "test": ["Image_Label,EncodedPixels"]}
        for split, count in (("train", train), ("test", test)):
            (root / f"{split}_images").mkdir(parents=True)
            for index in range(count):
                name, shape = f"{split}{index}.jpg", shapes[index % len(shapes)]
                picture = cv2.resize(rng.integers(0, 256, (5, 7, 3), np.uint8), shape[::-1])
                file = io.BytesIO()
                Image.fromarray(picture).save(file, "jpeg")
                (root / f"{split}_images" / name).write_bytes(file.getvalue())
                for label in classes:
                    mask = np.zeros(shape, np.uint8)
                    if rng.random() < 0.6:
                        y, x = rng.integers(0, 20, 2)
                        mask[y : y + 17, x : x + 23] = 1
                    text = encode_rle(mask) if split == "train" else "1 1"
                    tables[split].append(f"{name}_{label},{text}")
                    self.masks[name, label] = mask
        (root / "train.csv").write_text("\n".join(tables["train"]))
        (root / "sample_submission.csv").write_text("\n".join(tables["test"]))
        self.check()

    def check(self) -> None:
        self.images, report = check_dataset(self.root, classes=self.classes, size_of_submission=(10, 15), workers=1)
        report.raise_for_errors()

    def build(self, out: Path, size: str = "16x24", threads: int = 2, split: str = "train"):
        build_pixels(self.images, self.root, out, split=split, size=size, classes=self.classes, threads=threads)
        return stores.read(out)

    def build_truth(self, out: Path, size: tuple[int, int] = (10, 15), threads: int = 2):
        build_truth(self.images, self.root, out, classes=self.classes, size=size, threads=threads)
        return stores.read(out)


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path / "clouds")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 16 * 24 * 3)


def files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("test", 3)])
def test_the_store_holds_every_image(folder, tmp_path, split, count):
    group = folder.build(tmp_path / "a.zarr", split=split)
    names = [f"{split}{index}.jpg" for index in range(count)]
    attrs = group.attrs.asdict()
    assert (attrs["ids"], attrs["classes"], attrs["size"]) == (names, CLASSES, "16x24")
    assert ("mask" in group) == (split == "train")
    array = stores.read_images(group["image"], slice(None))
    for row, name in enumerate(names):
        expected = resize_image(load_image(folder.root / f"{split}_images" / name), (16, 24))
        np.testing.assert_array_equal(array[row], expected)


def test_the_store_holds_every_mask(folder, tmp_path):
    group = folder.build(tmp_path / "a.zarr")
    masks = stores.read_images(group["mask"], slice(None))
    assert masks.dtype == np.uint8
    for row, name in enumerate(group.attrs["ids"]):
        for bit, label in enumerate(CLASSES):
            expected = resize_by_fractions(folder.masks[name, label], (16, 24))
            np.testing.assert_array_equal(masks[row] >> bit & 1, expected)
    assert not (masks >> len(CLASSES)).any()


def test_the_truth_holds_every_mask_from_the_original_in_one_step(folder, tmp_path):
    array = folder.build_truth(tmp_path / "truth.zarr")
    truth = stores.read_images(array, slice(None))
    assert truth.shape == (5, 3, 10, 15)
    assert array.metadata.dimension_names == ("image", "class", "y", "x")
    assert array.attrs["ids"] == [f"train{index}.jpg" for index in range(5)]
    assert array.attrs["classes"] == CLASSES
    for row, name in enumerate(array.attrs["ids"]):
        for column, label in enumerate(CLASSES):
            expected = resize_by_fractions(folder.masks[name, label], (10, 15))
            np.testing.assert_array_equal(truth[row, column], expected)


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(1, "uint8"), (8, "uint8"), (9, "uint16"), (17, "uint32"), (33, "uint64"), (64, "uint64")],
)
def test_masks_take_the_smallest_integer_with_a_bit_per_class(tmp_path, count, dtype):
    folder = Folder(tmp_path / "clouds", 4, 1, classes=[f"class_{index}" for index in range(count)])
    masks = folder.build(tmp_path / "a.zarr", "40x60")["mask"]
    assert masks.dtype == dtype
    values = stores.read_images(masks, slice(None))
    for bit, label in enumerate(folder.classes):
        one = values[0] >> np.uint64(bit) & np.uint64(1) if count > 32 else values[0] >> bit & 1
        np.testing.assert_array_equal(one, folder.masks["train0.jpg", label])


def test_mixed_sizes_take_height_times_width_but_no_divisor(tmp_path):
    folder = Folder(tmp_path / "clouds", shapes=((40, 60), (30, 50), (50, 75)))
    group = folder.build(tmp_path / "a.zarr", "20x30")
    masks = stores.read_images(group["mask"], slice(None))
    expected = resize_by_fractions(folder.masks["train1.jpg", "Fish"], (20, 30))
    np.testing.assert_array_equal(masks[1] & 1, expected)
    with pytest.raises(ValueError, match="'x4' divides the original size, but the images have several sizes"):
        folder.build(tmp_path / "b.zarr", "x4")
    assert [path.name for path in tmp_path.glob("*.zarr*")] == ["a.zarr"]


def test_a_divisor_is_that_of_the_original(folder, tmp_path):
    assert folder.build(tmp_path / "a.zarr", "x4").attrs["size"] == "10x15"


def test_the_bytes_do_not_depend_on_threads(folder, tmp_path):
    folder.build(tmp_path / "a.zarr", threads=1)
    folder.build(tmp_path / "b.zarr", threads=4)
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")
    folder.build_truth(tmp_path / "c.zarr", threads=1)
    folder.build_truth(tmp_path / "d.zarr", threads=4)
    assert files(tmp_path / "c.zarr") == files(tmp_path / "d.zarr")


def test_several_rows_of_an_image_and_a_class_are_united(folder, tmp_path):
    one, two = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    one[:10, :10], two[5:20, 5:30] = 1, 1
    table = folder.root / "train.csv"
    rows = [row for row in table.read_text().splitlines() if not row.startswith("train0.jpg_Fish,")]
    table.write_text("\n".join([*rows, *(f"train0.jpg_Fish,{encode_rle(mask)}" for mask in (one, two)), ""]))
    folder.check()
    masks = stores.read_images(folder.build(tmp_path / "a.zarr", "40x60")["mask"], slice(0, 1))
    np.testing.assert_array_equal(masks[0] & 1, one | two)
    truth = stores.read_images(folder.build_truth(tmp_path / "truth.zarr", (40, 60)), slice(0, 1))
    np.testing.assert_array_equal(truth[0, 0], one | two)


def test_little_memory_changes_no_byte(folder, tmp_path):
    folder.build(tmp_path / "a.zarr", threads=4)
    build_pixels(
        folder.images,
        folder.root,
        tmp_path / "b.zarr",
        split="train",
        size="16x24",
        classes=CLASSES,
        threads=4,
        memory=1,
    )
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")


def test_an_interrupted_build_goes_on(folder, tmp_path, monkeypatch):
    folder.build(tmp_path / "whole.zarr")
    decoded = []

    def stop_at_the_fourth(data):
        decoded.append(data)
        if len(decoded) == 4:
            raise RuntimeError("stopped")
        return decode(data)

    decode = pixels.decode_image
    monkeypatch.setattr(pixels, "decode_image", stop_at_the_fourth)
    with pytest.raises(RuntimeError, match="stopped"):
        folder.build(tmp_path / "a.zarr", threads=1)
    assert not (tmp_path / "a.zarr").exists()
    decoded.clear()
    monkeypatch.setattr(pixels, "decode_image", lambda data: decoded.append(data) or decode(data))
    folder.build(tmp_path / "a.zarr", threads=1)
    assert len(decoded) == 5 - 2  # the first shard of two images was kept
    assert files(tmp_path / "a.zarr") == files(tmp_path / "whole.zarr")


def test_changed_data_does_not_mix_with_an_old_part(folder, tmp_path, monkeypatch):
    writer = stores.Writer.finish
    monkeypatch.setattr(stores.Writer, "finish", lambda self: None)
    build_pixels(folder.images, folder.root, tmp_path / "a.zarr", split="train", size="16x24", classes=CLASSES)
    monkeypatch.setattr(stores.Writer, "finish", writer)
    source, target = folder.root / "test_images/test0.jpg", folder.root / "train_images/train0.jpg"
    target.write_bytes(source.read_bytes())
    folder.check()
    group = folder.build(tmp_path / "a.zarr")
    expected = resize_image(load_image(target), (16, 24))
    np.testing.assert_array_equal(stores.read_images(group["image"], slice(0, 1))[0], expected)


@pytest.mark.parametrize("file", ["train_images/train1.jpg", "test_images/test2.jpg"])
def test_an_image_that_changed_since_the_check_is_an_error(folder, tmp_path, file):
    (folder.root / file).write_bytes((folder.root / "train_images/train0.jpg").read_bytes())
    with pytest.raises(ValueError, match=f"{file}: not the file that was checked"):
        folder.build(tmp_path / "a.zarr", split=file.partition("_")[0])
    assert not (tmp_path / "a.zarr").exists()


def test_an_image_that_is_gone_is_named(folder, tmp_path):
    (folder.root / "train_images/train1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="train1"):
        folder.build(tmp_path / "a.zarr")


def test_labels_that_changed_since_the_check_are_an_error(folder, tmp_path):
    table = folder.root / "train.csv"
    lines = table.read_text().splitlines()
    lines[2] = "train0.jpg_Flower,7 7"
    table.write_text("\n".join(lines))
    message = r"train\.csv: the labels of 'train0\.jpg' are not those that were checked"
    for build in (folder.build, folder.build_truth):
        with pytest.raises(ValueError, match=message):
            build(tmp_path / "a.zarr")


def test_no_test_images_give_an_empty_array(folder, tmp_path):
    folder.images = folder.images[folder.images["split"] == "train"]
    assert folder.build(tmp_path / "a.zarr", split="test")["image"].shape == (0, 16, 24, 3)


def test_opencv_gets_its_threads_back(folder, tmp_path):
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        folder.build(tmp_path / "a.zarr")
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def _die_after_two_shards(images, root, out, classes):
    written = []
    write = stores.Writer.write

    def counted(self, *arguments):
        write(self, *arguments)
        written.append(1)
        if len(written) == 2:
            os.kill(os.getpid(), 9)

    stores.SHARD_BYTES = 2 * 16 * 24 * 3
    stores.Writer.write = counted
    build_pixels(images, root, out, split="train", size="16x24", classes=classes)


def test_a_killed_build_goes_on_to_the_same_bytes(folder, tmp_path):
    folder.build(tmp_path / "whole.zarr")
    process = multiprocessing.get_context("spawn").Process(
        target=_die_after_two_shards, args=(folder.images, folder.root, tmp_path / "a.zarr", CLASSES)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -9
    assert len(list((tmp_path / "a.zarr.part/image/c").iterdir())) == 2
    folder.build(tmp_path / "a.zarr")
    assert files(tmp_path / "a.zarr") == files(tmp_path / "whole.zarr")


def test_real_data(tmp_path, monkeypatch):
    parent = os.environ.get("CLOUDSEG_REAL_DATA")
    if not parent:
        pytest.skip("CLOUDSEG_REAL_DATA does not name the folder that holds understanding-clouds-mini")
    monkeypatch.setattr(stores, "SHARD_BYTES", 2**21)
    root = Path(parent) / "understanding-clouds-mini"
    classes = ["Fish", "Flower", "Gravel", "Sugar"]
    images, _ = check_dataset(root, classes=classes, size_of_submission=(350, 525), workers=2)
    build_pixels(images, root, tmp_path / "x4.zarr", split="train", size="x4", classes=classes, threads=2)
    build_truth(images, root, tmp_path / "truth.zarr", classes=classes, size=(350, 525), threads=2)
    truth = stores.read_images(tmp_path / "truth.zarr", slice(None))
    masks = stores.read_images(stores.read(tmp_path / "x4.zarr")["mask"], slice(None))
    bits = masks[:, None] >> np.arange(4, dtype=np.uint8)[:, None, None] & 1
    np.testing.assert_array_equal(bits, truth)  # x4 of 1400x2100 is the size of the submission
    table = pd.read_csv(root / "train.csv", keep_default_na=False).set_index("Image_Label")["EncodedPixels"]
    for row, name in enumerate(images["image"][:6]):
        for column, label in enumerate(classes):
            full = decode_rle(table[f"{name}_{label}"], (1400, 2100)).reshape(350, 4, 525, 4)
            np.testing.assert_array_equal(truth[row, column], full.sum(axis=(1, 3)) >= 8)
