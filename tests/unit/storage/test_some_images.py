import numpy as np
import pytest

from cloudseg.errors import StoreError
from cloudseg.storage import stores
from cloudseg.storage.some_images import pieces, read_rows
from cloudseg.storage.stores import Spec, Writer

IMAGE_BYTES = 4 * 6


@pytest.fixture(params=[True, False])
def store(tmp_path, monkeypatch, request):
    monkeypatch.setattr(stores, "SHARD_BYTES", 3 * IMAGE_BYTES)
    content = np.random.default_rng(0).integers(0, 256, (10, 4, 6), dtype=np.uint8)
    writer = Writer(
        tmp_path / "a.zarr", {"": Spec((10, 4, 6), "uint8", ("image", "y", "x"), compressed=request.param)}, {}
    )
    for rows in writer.missing():
        writer.write(rows, content[rows])
    writer.finish()
    return stores.read(tmp_path / "a.zarr"), content


@pytest.mark.parametrize("rows", [[7, 0, 9, 3, 3, 8], range(2, 7), [], np.arange(10)[::-1]])
def test_rows_in_any_order_read_as_numpy_would(store, rows):
    array, content = store
    np.testing.assert_array_equal(read_rows(array, rows), content[np.asarray(rows, int)])


def test_each_shard_is_opened_once(store, monkeypatch):
    array, _ = store
    opened = []
    real = stores.shards.read_shard
    monkeypatch.setattr(stores.shards, "read_shard", lambda path, *more: opened.append(path.name) or real(path, *more))
    read_rows(array, [9, 0, 4, 1, 3, 2])
    assert len(opened) == 3


@pytest.mark.parametrize("row", [-1, 10])
def test_a_row_of_no_image_is_refused(store, row):
    with pytest.raises(IndexError, match=f"numbers of 10 images, got {row}"):
        read_rows(store[0], [0, row])


def test_the_image_of_a_flipped_byte_is_named(store):
    array, _ = store
    shard = stores.layout.shard_file(array, 1)
    data = bytearray(shard.read_bytes())
    data[5] ^= 1  # of the first of its images
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=r"c/1/0/0: image 3 cannot be read"):
        read_rows(array, [9, 3, 5])
    np.testing.assert_array_equal(read_rows(array, [5, 4]), store[1][[5, 4]])


@pytest.mark.parametrize("most", [1, IMAGE_BYTES, 3 * IMAGE_BYTES + 1, 10**9])
def test_pieces_are_all_images_in_order_and_small_enough(store, most):
    for rows in (slice(None), slice(2, 9), slice(4, 4)):
        found = list(pieces(store[0], rows, most=most))
        assert [row for piece in found for row in range(piece.start, piece.stop)] == list(range(10)[rows])
        assert all(0 < piece.stop - piece.start <= max(1, most // IMAGE_BYTES) for piece in found)
