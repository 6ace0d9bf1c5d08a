import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from cloudseg.dataset import pixels
from cloudseg.dataset.black import Black, build_black, find_black
from cloudseg.dataset.check import check_dataset
from cloudseg.dataset.decoding import decode_image
from cloudseg.storage import stores

GRID = (10, 15)
CLASSES = ["Fish", "Sugar"]


def find_by_overlaps(image: np.ndarray, grey: int, size: tuple[int, int]) -> np.ndarray:
    """The definition by another way: whole overlaps of the pixels of two grids, as integer matrices."""

    def overlaps(old: int, new: int) -> np.ndarray:
        i, j = np.arange(old), np.arange(new)[:, None]
        return (np.minimum((j + 1) * old, (i + 1) * new) - np.maximum(j * old, i * new)).clip(0)

    dark = (image.max(axis=2) <= grey).astype(np.int64)
    covered = overlaps(dark.shape[0], size[0]) @ dark @ overlaps(dark.shape[1], size[1]).T
    return 2 * covered >= dark.size


# Of one image

sides = st.tuples(st.integers(1, 9), st.integers(1, 9))
images = sides.flatmap(lambda size: arrays(np.uint8, (*size, 3), elements=st.integers(0, 5)))


@given(image=images, grey=st.integers(0, 6), size=sides)
@settings(deadline=None)
def test_a_pixel_of_the_grid_is_black_where_half_of_its_area_is(image, grey, size):
    found = find_black(image, grey, size)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, find_by_overlaps(image, grey, size))


def test_the_level_itself_is_black_and_the_brightest_band_decides():
    image = np.array([[[2, 2, 2], [3, 0, 0], [0, 3, 0], [0, 0, 3]]], np.uint8)
    np.testing.assert_array_equal(find_black(image, 2, (1, 4)), [[1, 0, 0, 0]])


def test_dark_blue_sea_is_not_black_though_its_luma_is():
    sea = np.full((8, 8, 3), (0, 0, 21), np.uint8)
    assert np.array(Image.fromarray(sea).convert("L")).max() == 2
    assert not find_black(sea, 2, (2, 2)).any()


def test_a_swath_is_found_in_a_jpeg_but_for_the_blocks_of_its_edges():
    scene = np.random.default_rng(0).integers(40, 250, (80, 120, 3), np.uint8)
    scene[:, 40:88] = 0
    file = io.BytesIO()
    Image.fromarray(scene).save(file, "jpeg", quality=85)
    found = find_black(np.asarray(Image.open(file)), 2, (20, 30))
    assert found[:, 12:20].all()
    assert not found[:, :10].any()
    assert not found[:, 22:].any()


# Stores


class Folder:
    """A checked data set of pictures of several sizes and kinds, with a black swath of their own in some."""

    def __init__(self, root: Path, pictures: dict[str, tuple[str, np.ndarray]]) -> None:
        self.root = root
        names = {split: [name for name in pictures if name.startswith(split)] for split in ("train", "test")}
        for split, own in names.items():
            (root / f"{split}_images").mkdir(parents=True)
            for name in own:
                mode, picture = pictures[name]
                self.write(split, name, Image.fromarray(picture).convert(mode))
        for table, split in (("train.csv", "train"), ("sample_submission.csv", "test")):
            rows = [f"{name}_{label},1 1" for name in names[split] for label in CLASSES]
            (root / table).write_text("\n".join(["Image_Label,EncodedPixels", *rows, ""]))
        self.images, report = check_dataset(root, classes=CLASSES, size_of_submission=GRID, workers=1)
        report.raise_for_errors()

    def write(self, split: str, name: str, picture: Image.Image) -> None:
        picture.save(self.root / f"{split}_images" / name, "png" if name.endswith("png") else "jpeg")

    def build(self, out: Path, split: str = "train", grey: int = 2, threads: int = 2, memory: int | None = None):
        build_black(
            self.images, self.root, out, split=split, grey=grey, size=GRID, threads=threads, code=1, memory=memory
        )
        return stores.read(out)


def picture(seed: int, shape: tuple[int, int] = (40, 60), swath: float = 0.3) -> np.ndarray:
    """Draw noise of grey levels, of which a share of the columns, on the left, is black but for a little noise."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(30, 255, (*shape, 3), np.uint8)
    columns = round(swath * shape[1])
    noise[:, :columns] = rng.integers(0, 5, (shape[0], columns, 3), np.uint8)
    return noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    pictures = {
        "train0.png": ("RGB", picture(0)),
        "train1.png": ("L", picture(1, (33, 71))),
        "train2.png": ("RGBA", picture(2, (7, 9))),
        "train3.jpg": ("RGB", picture(3, (50, 75), swath=0.6)),
        "train4.png": ("RGB", picture(4, swath=0)),
        "train5.png": ("RGB", np.zeros((30, 20, 3), np.uint8)),
        "test0.jpg": ("RGB", picture(6)),
    }
    return Folder(tmp_path_factory.mktemp("black") / "clouds", pictures)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 4 * GRID[0] * GRID[1])


def files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("test", 1)])
def test_the_store_holds_what_is_black_in_every_image_whatever_its_size_and_kind(folder, tmp_path, split, count):
    array = folder.build(tmp_path / "a.zarr", split)
    assert (array.shape, array.dtype) == ((count, *GRID), np.uint8)
    assert array.metadata.dimension_names == ("image", "y", "x")
    assert array.attrs["grey"] == 2
    assert array.attrs["ids"] == folder.images.loc[folder.images["split"] == split, "image"].tolist()
    values = stores.read_images(array, slice(None))
    for name, found in zip(array.attrs["ids"], values, strict=True):
        image, _ = decode_image((folder.root / f"{split}_images" / name).read_bytes())
        np.testing.assert_array_equal(found, find_by_overlaps(image, 2, GRID))


def test_a_higher_level_finds_more(folder, tmp_path):
    low, high = (folder.build(tmp_path / f"{grey}.zarr", grey=grey) for grey in (2, 4))
    low, high = (stores.read_images(array, slice(None)) for array in (low, high))
    assert (high >= low).all()
    assert high.sum() > low.sum()


def test_the_bytes_do_not_depend_on_threads_nor_on_memory(folder, tmp_path):
    folder.build(tmp_path / "a.zarr", threads=1)
    folder.build(tmp_path / "b.zarr", threads=4)
    folder.build(tmp_path / "c.zarr", threads=4, memory=1)
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr") == files(tmp_path / "c.zarr")


def test_an_interrupted_build_goes_on(folder, tmp_path, monkeypatch):
    folder.build(tmp_path / "whole.zarr")
    decoded = []

    def stop_at_the_sixth(data):
        decoded.append(data)
        if len(decoded) == 6:
            raise RuntimeError("stopped")
        return decode_image(data)

    monkeypatch.setattr(pixels, "decode_image", stop_at_the_sixth)
    with pytest.raises(RuntimeError, match="stopped"):
        folder.build(tmp_path / "a.zarr", threads=1)
    assert not (tmp_path / "a.zarr").exists()
    folder.build(tmp_path / "a.zarr", threads=1)
    assert len(decoded) == 6 + 2  # the first shard of four images was kept
    assert files(tmp_path / "a.zarr") == files(tmp_path / "whole.zarr")


@pytest.mark.parametrize(("split", "name"), [("train", "train3.jpg"), ("test", "test0.jpg")])
def test_an_image_that_changed_since_the_check_is_refused(tmp_path, split, name):
    folder = Folder(tmp_path / "clouds", {name: ("RGB", picture(0)) for name in ("train3.jpg", "test0.jpg")})
    folder.write(split, name, Image.fromarray(picture(1)))
    with pytest.raises(ValueError, match=rf"{name}: not the file that was checked; run the dataset check again"):
        folder.build(tmp_path / "a.zarr", split)
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("grey", [-1, 255])
def test_a_level_at_which_nothing_or_all_is_black_is_refused(folder, tmp_path, grey):
    with pytest.raises(ValueError, match=f"expected a level of grey from 0 to 254, got {grey}"):
        folder.build(tmp_path / "a.zarr", grey=grey)
    assert list(tmp_path.iterdir()) == []


def test_no_test_images_give_an_empty_array(tmp_path):
    folder = Folder(tmp_path / "clouds", {"train0.png": ("RGB", picture(0)), "test0.png": ("RGB", picture(1))})
    folder.images = folder.images[folder.images["split"] == "train"]
    assert folder.build(tmp_path / "a.zarr", "test").shape == (0, *GRID)
    Black(tmp_path / "a.zarr").clear(np.empty((0, 2, *GRID), np.uint8), [])


# Planes


@pytest.fixture
def store(folder, tmp_path) -> Black:
    folder.build(tmp_path / "train.zarr")
    return Black(tmp_path / "train.zarr")


def test_an_image_may_be_black_nowhere_or_everywhere(store):
    assert not store.of("train4.png").any()
    assert store.of("train5.png").all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_planes_are_zero_where_their_image_is_black_and_untouched_elsewhere(store, dtype):
    ids = ["train5.png", "train0.png", "train4.png", "train3.jpg", "train0.png"]
    planes = np.random.default_rng(0).integers(0, 256, (5, 3, *GRID)).astype(dtype)
    before = planes.copy()
    store.clear(planes, ids)
    for image, own, was in zip(ids, planes, before, strict=True):
        np.testing.assert_array_equal(own, np.where(store.of(image) == 1, 0, was))
    assert not planes[0].any()
    assert store.grey == 2


def test_some_rows_of_a_block_are_cleared_in_place(store):
    block = np.full((4, 2, *GRID), 200, np.uint8)
    store.clear(block[1:3], ["train5.png", "train4.png"])
    assert block.sum(axis=(1, 2, 3)).tolist() == [2 * 150 * 200, 0, 2 * 150 * 200, 2 * 150 * 200]


def test_an_image_that_the_store_does_not_hold_is_named(store):
    with pytest.raises(ValueError, match=r"train\.zarr: does not hold test0\.jpg \(it holds 6 images\)"):
        store.clear(np.zeros((1, 2, *GRID), np.uint8), ["test0.jpg"])


def test_planes_of_another_grid_are_refused(store):
    with pytest.raises(ValueError, match=r"train\.zarr: expected the grid \(20, 30\), got \(10, 15\)"):
        store.clear(np.zeros((1, 2, 20, 30), np.uint8), ["train0.png"])


# The contest's images


def test_real_images_have_one_swath_or_two_at_their_border(tmp_path):
    parent = os.environ.get("CLOUDSEG_REAL_DATA")
    if not parent:
        pytest.skip("CLOUDSEG_REAL_DATA does not name the folder that holds understanding-clouds-mini")
    root, size = Path(parent) / "understanding-clouds-mini", (350, 525)
    images, _ = check_dataset(root, classes=["Fish", "Flower", "Gravel", "Sugar"], size_of_submission=size, workers=2)
    for split in ("train", "test"):
        out = tmp_path / f"{split}.zarr"
        build_black(images, root, out, split=split, grey=2, size=size, threads=2)
        for image in stores.read_images(out, slice(None)):
            assert 0.02 < image.mean() < 0.15
            labels, count = ndimage.label(image)
            border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
            sizes = np.bincount(labels.ravel(), minlength=count + 1)
            assert sizes[border[border > 0]].sum() > 0.99 * image.sum()
            assert (sizes[1:] > 100).sum() in (1, 2)
