import dataclasses
import json
import multiprocessing
import os
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from cloudseg.errors import StoreError
from cloudseg.storage import stores
from cloudseg.storage.stores import Spec, Writer

IMAGE = Spec((10, 4, 6, 3), "uint8", ("image", "y", "x", "band"))
RAW = dataclasses.replace(IMAGE, compressed=False)
MASK = Spec((10, 4, 6), "uint16", ("image", "y", "x"))
EMPTY = Spec((0, 4, 6, 3), "uint8", ("image", "y", "x", "band"))
GROUP = {"train/image": RAW, "train/mask": MASK, "test/image": EMPTY}


@pytest.fixture(autouse=True)
def three_images_in_a_shard(monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 3 * 4 * 6 * 3)


def values(spec: Spec, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, spec.shape).astype(spec.dtype)


def build(path: Path, arrays=None, attrs=None) -> dict[str, np.ndarray]:
    arrays = GROUP if arrays is None else arrays
    writer = Writer(path, arrays, {"ids": ["a", "b"]} if attrs is None else attrs)
    content = {name: values(spec) for name, spec in arrays.items()}
    for name in arrays:
        for rows in writer.missing(name):
            writer.write(rows, content[name][rows], name)
    writer.finish()
    return content


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_zarr_itself_reads_what_was_written(tmp_path):
    content = build(tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    for name, expected in content.items():
        array = group[name]
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array[:], expected)
        np.testing.assert_array_equal(stores.read_images(array, slice(None)), expected)
    assert group["train/image"].metadata.dimension_names == IMAGE.dims
    assert group.attrs.asdict() == {"ids": ["a", "b"], "complete": group.attrs["complete"], "shards": 4 + 3}


@pytest.mark.parametrize("compressed", [True, False])
def test_our_reader_reads_what_zarr_wrote(tmp_path, compressed):
    """The shard format is the specification's, so a store that Zarr itself wrote must read alike."""
    content = build(tmp_path / "a.zarr", {"": dataclasses.replace(MASK, compressed=compressed)})
    array = zarr.open_array(tmp_path / "a.zarr", mode="r+")
    array[:] = content[""] + 1
    np.testing.assert_array_equal(stores.read_images(tmp_path / "a.zarr", slice(None)), content[""] + 1)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "float32", "float64", "int64"])
def test_every_dtype_comes_back(tmp_path, dtype, compressed):
    content = build(tmp_path / "a.zarr", {"": Spec((5, 2, 3), dtype, ("a", "b", "c"), compressed=compressed)})
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr", mode="r")[:], content[""])
    np.testing.assert_array_equal(stores.read_images(tmp_path / "a.zarr", slice(None)), content[""])


def test_an_array_of_one_axis_is_legal(tmp_path):
    content = build(tmp_path / "a.zarr", {"count": Spec((4,), "int64", ("fold",))})
    array = stores.read(tmp_path / "a.zarr")["count"]
    np.testing.assert_array_equal(stores.read_images(array, slice(None)), content["count"])
    np.testing.assert_array_equal(array[:], content["count"])


@pytest.mark.parametrize("rows", [(0, 1), (2, 7), (9, 10), (3, 6), (5, 5), (8, 99), (-2, None), (7, 3)])
def test_any_range_reads_as_numpy_would(tmp_path, rows):
    content = build(tmp_path / "a.zarr", {"": IMAGE})
    np.testing.assert_array_equal(
        stores.read_images(stores.read(tmp_path / "a.zarr"), slice(*rows)), content[""][slice(*rows)]
    )


def test_a_step_is_refused(tmp_path):
    build(tmp_path / "a.zarr", {"": IMAGE})
    with pytest.raises(ValueError, match="without a step"):
        stores.read_images(tmp_path / "a.zarr", slice(0, 4, 2))


@pytest.mark.parametrize(
    ("spec", "codec"),
    [
        (IMAGE, {"name": "zstd", "configuration": {"level": 3, "checksum": True}}),
        (RAW, {"name": "crc32c"}),
    ],
)
def test_the_layout_on_disk(tmp_path, spec, codec):
    build(tmp_path / "a.zarr", {"train/image": spec})
    metadata = json.loads((tmp_path / "a.zarr/train/image/zarr.json").read_text())
    (sharding,) = metadata["codecs"]
    assert sharding["name"] == "sharding_indexed"
    inner, index = (sharding["configuration"][name] for name in ("codecs", "index_codecs"))
    assert [codec["name"] for codec in index] == ["bytes", "crc32c"]
    assert [inner[0]["name"], *inner[1:]] == ["bytes", codec]
    assert sharding["configuration"]["chunk_shape"] == [1, 4, 6, 3]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [3, 4, 6, 3]
    shards = sorted(file for file in files(tmp_path / "a.zarr/train/image") if file != "zarr.json")
    assert shards == [f"c/{shard}/0/0/0" for shard in range(4)]


def test_all_zero_images_are_written_not_left_out(tmp_path):
    writer = Writer(tmp_path / "a.zarr", {"": IMAGE}, {})
    for rows in writer.missing():
        writer.write(rows, np.zeros((rows.stop - rows.start, 4, 6, 3), "uint8"))
    writer.finish()
    assert len([name for name in files(tmp_path / "a.zarr") if name.startswith("c/")]) == 4
    stores.verify(tmp_path / "a.zarr")


def test_a_shard_holds_at_most_its_bytes_but_one_image():
    assert [Spec((100, size), "uint8", ("a", "b")).shard for size in (216, 72, 70, 1)] == [1, 3, 3, 100]
    assert Spec((100, 10**6), "uint8", ("a", "b")).shard == 1
    assert Spec((2, 8), "float64", ("a", "b")).shard == 2


def test_a_shard_may_be_asked_to_hold_fewer_images():
    assert [Spec((100, 70), "uint8", ("a", "b"), most).shard for most in (1, 2, 3, 50)] == [1, 2, 3, 3]
    assert Spec((0, 70), "uint8", ("a", "b"), 2).shard == 1


def test_the_same_content_is_the_same_bytes_whatever_the_threads(tmp_path):
    content = build(tmp_path / "a.zarr")
    writer = Writer(tmp_path / "b.zarr", GROUP, {"ids": ["a", "b"]})
    jobs = [(name, rows) for name in reversed(GROUP) for rows in reversed(writer.missing(name))]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda job: writer.write(job[1], content[job[0]][job[1]], job[0]), jobs))
    writer.finish()
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")


# Resume


def test_nothing_is_at_the_path_before_the_end(tmp_path):
    writer = Writer(tmp_path / "a.zarr", {"": IMAGE}, {})
    writer.write(slice(0, 3), values(IMAGE)[:3])
    assert not (tmp_path / "a.zarr").exists()
    with pytest.raises(StoreError, match=r"lacks images 3 to 5, 6 to 8, 9 to 9"):
        writer.finish()
    assert not (tmp_path / "a.zarr").exists()


def test_a_second_writer_goes_on_where_the_first_stopped(tmp_path):
    content = build(tmp_path / "whole.zarr", {"": IMAGE}, {"seed": 1})
    first = Writer(tmp_path / "a.zarr", {"": IMAGE}, {"seed": 1})
    first.write(slice(3, 6), content[""][3:6])
    inode = (tmp_path / "a.zarr.part/c/1/0/0/0").stat().st_ino
    (tmp_path / "a.zarr.part/c/.0.1234").write_bytes(b"half a shard that a kill left")

    second = Writer(tmp_path / "a.zarr", {"": IMAGE}, {"seed": 1})
    assert second.missing() == [slice(0, 3), slice(6, 9), slice(9, 10)]
    for rows in second.missing():
        second.write(rows, content[""][rows])
    second.finish()
    assert (tmp_path / "a.zarr/c/1/0/0/0").stat().st_ino == inode
    assert files(tmp_path / "a.zarr") == files(tmp_path / "whole.zarr")
    assert not (tmp_path / "a.zarr.part").exists()


@pytest.mark.parametrize("spec", [IMAGE, RAW])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "index"])
def test_a_damaged_shard_is_written_anew(tmp_path, damage, spec):
    content = values(spec)
    writer = Writer(tmp_path / "a.zarr", {"": spec}, {})
    for rows in writer.missing():
        writer.write(rows, content[rows])
    shard = tmp_path / "a.zarr.part/c/2/0/0/0"
    data = bytearray(shard.read_bytes())
    match damage:
        case "cut":
            data = data[: len(data) // 2]
        case "flip":
            data[30] ^= 1
        case "empty":
            data = bytearray()
        case "index":
            data[-5] ^= 1
    shard.write_bytes(data)
    again = Writer(tmp_path / "a.zarr", {"": spec}, {})
    assert again.missing() == [slice(6, 9)]
    again.write(slice(6, 9), content[6:9])
    again.finish()
    np.testing.assert_array_equal(stores.read_images(tmp_path / "a.zarr", slice(None)), content)


@pytest.mark.parametrize(
    ("arrays", "attrs"),
    [
        ({"": IMAGE}, {"seed": 2}),
        ({"": Spec((11, 4, 6, 3), "uint8", IMAGE.dims)}, {"seed": 1}),
        ({"": Spec((10, 4, 6, 3), "uint16", IMAGE.dims)}, {"seed": 1}),
        ({"": RAW}, {"seed": 1}),
        ({"": Spec((10, 4, 6, 3), "uint8", ("image", "row", "x", "band"))}, {"seed": 1}),
        ({"other": IMAGE}, {"seed": 1}),
    ],
)
def test_a_part_of_something_else_is_thrown_away(tmp_path, arrays, attrs):
    first = Writer(tmp_path / "a.zarr", {"": IMAGE}, {"seed": 1})
    for rows in first.missing():
        first.write(rows, values(IMAGE)[rows])
    build(tmp_path / "a.zarr", arrays, attrs)
    build(tmp_path / "b.zarr", arrays, attrs)
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"code": 1}, {"code": 2}),
        ({"code": 1, "cv2": "4.12"}, {"code": 1, "cv2": "4.13"}),
        ({"code": 1}, None),
        (None, {"code": 1}),
    ],
)
def test_what_other_code_or_another_library_began_is_begun_anew(tmp_path, first, second):
    one = Writer(tmp_path / "a.zarr", {"": IMAGE}, {"seed": 1}, made_with=first)
    one.write(slice(0, 3), values(IMAGE)[:3])
    assert stores.begun(tmp_path / "a.zarr", {"seed": 1}, first)
    assert not stores.begun(tmp_path / "a.zarr", {"seed": 1}, second)
    assert len(Writer(tmp_path / "a.zarr", {"": IMAGE}, {"seed": 1}, made_with=first).missing()) == 3
    assert len(Writer(tmp_path / "a.zarr", {"": IMAGE}, {"seed": 1}, made_with=second).missing()) == 4


def test_what_another_codec_began_is_begun_anew(tmp_path, monkeypatch):
    writer = Writer(tmp_path / "a.zarr", {"": IMAGE}, {})
    writer.write(slice(0, 3), values(IMAGE)[:3])
    monkeypatch.setattr(stores.numcodecs, "__version__", "99.0.0")
    assert len(Writer(tmp_path / "a.zarr", {"": IMAGE}, {}).missing()) == 4


def test_a_finished_store_does_not_tell_what_made_it(tmp_path):
    """Versions in its attributes would make everything stale that holds a digest of them."""
    for name, made_with in (("a.zarr", {"code": 1}), ("b.zarr", {"code": 2})):
        writer = Writer(tmp_path / name, {"": IMAGE}, {"seed": 1}, made_with=made_with)
        for rows in writer.missing():
            writer.write(rows, values(IMAGE)[rows])
        writer.finish()
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")
    assert set(stores.read(tmp_path / "a.zarr").attrs) == {"seed", "shards", "complete"}


def test_a_second_process_is_told_who_writes_the_store(tmp_path):
    """As two calls of Snakemake with --nolock are; the kernel frees the lock however the first one ends."""
    context = multiprocessing.get_context("spawn")
    writing = context.Event()
    process = context.Process(target=_write_for_ever, args=(tmp_path / "a.zarr", writing))
    process.start()
    assert writing.wait(60)
    with pytest.raises(
        StoreError, match=rf"a\.zarr\.part: process {process.pid} on \S+ \(since .*\) is writing this store"
    ):
        Writer(tmp_path / "a.zarr", {"": IMAGE}, {})
    process.kill()
    process.join(60)
    writer = Writer(tmp_path / "a.zarr", {"": IMAGE}, {})
    assert writer.missing() == [slice(3, 6), slice(6, 9), slice(9, 10)]
    for rows in writer.missing():
        writer.write(rows, values(IMAGE)[rows])
    writer.finish()
    assert [name for name in files(tmp_path) if "/c/" not in name] == ["a.zarr/zarr.json"]
    build(tmp_path / "a.zarr", {"": IMAGE})  # nothing of the lock is left


def _write_for_ever(path: Path, writing) -> None:
    stores.SHARD_BYTES = 3 * 4 * 6 * 3
    writer = Writer(path, {"": IMAGE}, {})
    writer.write(slice(0, 3), values(IMAGE)[:3])
    writing.set()
    threading.Event().wait()


def test_an_existing_store_or_file_is_replaced(tmp_path):
    build(tmp_path / "a.zarr", {"old": IMAGE})
    (tmp_path / "b.zarr").write_text("not a folder")
    for name in ("a.zarr", "b.zarr"):
        build(tmp_path / name)
        stores.check(tmp_path / name)
        assert not (tmp_path / name / "old").exists()


def test_the_part_of_a_killed_process_is_taken_up(tmp_path):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_write_one_shard_and_die, args=(tmp_path / "a.zarr",))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    writer = Writer(tmp_path / "a.zarr", {"": Spec((4, 10), "uint8", ("a", "b"))}, {})
    assert len(writer.missing()) == 0
    writer.finish()


def _write_one_shard_and_die(path: Path) -> None:
    writer = Writer(path, {"": Spec((4, 10), "uint8", ("a", "b"))}, {})
    writer.write(slice(0, 4), np.ones((4, 10), "uint8"))
    os.kill(os.getpid(), 9)


# Wrong use


@pytest.mark.parametrize(
    ("rows", "block", "message"),
    [
        (slice(0, 2), np.zeros((2, 4, 6, 3), "uint8"), "a whole shard of 3 images, got"),
        (slice(1, 4), np.zeros((3, 4, 6, 3), "uint8"), "a whole shard of 3 images, got"),
        (slice(0, 6), np.zeros((6, 4, 6, 3), "uint8"), "a whole shard of 3 images, got"),
        (slice(12, 15), np.zeros((3, 4, 6, 3), "uint8"), "a whole shard of 3 images, got"),
        (slice(0, 3), np.zeros((3, 4, 6), "uint8"), r"uint8 \(3, 4, 6, 3\), got uint8 \(3, 4, 6\)"),
        (slice(0, 3), np.zeros((3, 6, 4, 3), "uint8"), r"expected uint8 \(3, 4, 6, 3\)"),
        (slice(0, 3), np.zeros((3, 4, 6, 3), "float32"), "got float32"),
        (slice(0, 3), np.zeros((3, 4, 6, 3), "int8"), "got int8"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(tmp_path, rows, block, message):
    writer = Writer(tmp_path / "a.zarr", {"": IMAGE}, {})
    with pytest.raises(ValueError, match=message):
        writer.write(rows, block)
    assert len(writer.missing()) == 4


@pytest.mark.parametrize("arrays", [{}, {"": IMAGE, "b": IMAGE}])
def test_arrays_that_are_no_store_are_refused(tmp_path, arrays):
    with pytest.raises(ValueError, match="arrays: expected one named"):
        Writer(tmp_path / "a.zarr", arrays, {})
    assert not list(tmp_path.iterdir())


def test_the_writers_own_attributes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="complete"):
        Writer(tmp_path / "a.zarr", {"": IMAGE}, {"complete": True})


@pytest.mark.parametrize(("shape", "dims"), [((3, 4), ("a",)), ((), ()), ((3, 0, 4), ("a", "b", "c"))])
def test_specs_that_cannot_be_stored_are_refused(shape, dims):
    with pytest.raises(ValueError, match="one name per axis"):
        Spec(shape, "uint8", dims)


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "results").write_text("x")
    with pytest.raises(OSError, match="results"):
        Writer(tmp_path / "results" / "a.zarr", {"": IMAGE}, {})


# Belief


def test_check_wants_a_store(tmp_path):
    with pytest.raises(StoreError, match=r"a\.zarr: no store there"):
        stores.check(tmp_path / "a.zarr")


def test_check_wants_complete(tmp_path):
    build(tmp_path / "a.zarr")
    zarr.open_group(tmp_path / "a.zarr", mode="r+").attrs.update({"complete": False})
    with pytest.raises(StoreError, match=r"a\.zarr: not complete"):
        stores.check(tmp_path / "a.zarr")
    Writer(tmp_path / "b.zarr", {"": IMAGE}, {})
    with pytest.raises(StoreError, match=r"b\.zarr\.part: not complete"):
        stores.read(tmp_path / "b.zarr.part")


def test_check_names_a_missing_shard(tmp_path):
    build(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/train/mask/c/1/0/0").unlink()
    with pytest.raises(StoreError, match=r"train/mask/c/1/0/0: this shard is missing"):
        stores.check(tmp_path / "a.zarr")


def test_check_counts_shards(tmp_path):
    build(tmp_path / "a.zarr")
    shutil.rmtree(tmp_path / "a.zarr/train/mask")
    with pytest.raises(StoreError, match="expected 7 shards, got 4 in its arrays"):
        stores.check(tmp_path / "a.zarr")


@pytest.mark.parametrize("content", ["", "{", '{"zarr_format": 3, "node_type": "tree"}'])
def test_check_names_metadata_that_cannot_be_read(tmp_path, content):
    build(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/zarr.json").write_text(content)
    with pytest.raises(StoreError, match=r"a\.zarr: its metadata cannot be read"):
        stores.check(tmp_path / "a.zarr")


def test_the_time_stamp_that_snakemake_adds_is_ignored(tmp_path):
    build(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/.snakemake_timestamp").touch()
    warnings.simplefilter("error")  # pytest takes it back after the test
    stores.check(tmp_path / "a.zarr")
    stores.verify(tmp_path / "a.zarr")


def test_verify_names_the_file_and_the_image_of_a_flipped_byte(tmp_path):
    build(tmp_path / "a.zarr")
    shard = tmp_path / "a.zarr/train/mask/c/1/0/0"
    data = bytearray(shard.read_bytes())
    data[-16 * 4 - 4 - 1] ^= 1  # the last byte of the last chunk; a shard of masks holds four
    shard.write_bytes(data)
    stores.check(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match=r"train/mask/c/1/0/0: image 7 cannot be read"):
        stores.verify(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match=r"a\.zarr"):
        stores.read_images(stores.read(tmp_path / "a.zarr")["train/mask"], slice(6, 8))


@pytest.mark.parametrize("compressed", [True, False])
def test_no_flipped_bit_ever_comes_back_as_other_data(tmp_path, compressed):
    smooth = Spec((3, 16, 16), "uint8", ("image", "y", "x"), compressed=compressed)
    writer = Writer(tmp_path / "a.zarr", {"": smooth}, {})
    content = (np.indices(smooth.shape).sum(0) // 3).astype("uint8")
    for rows in writer.missing():
        writer.write(rows, content[rows])
    writer.finish()
    array = stores.read(tmp_path / "a.zarr")
    shard = tmp_path / "a.zarr/c/0/0/0"
    data = shard.read_bytes()
    caught = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(flipped)
        try:
            np.testing.assert_array_equal(stores.read_images(array, slice(None)), content)
        except StoreError:
            caught += 1
    # A few bits of a zstd header say nothing about the data
    assert caught > 0.98 * 8 * len(data) if compressed else caught == 8 * len(data)


def test_a_shard_that_vanishes_after_the_check_is_an_error_not_zeros(tmp_path):
    build(tmp_path / "a.zarr", {"": IMAGE})
    array = stores.read(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/c/0/0/0/0").unlink()
    with pytest.raises(StoreError, match=r"c/0/0/0/0: image 0 cannot be read"):
        stores.read_images(array, slice(0, 1))


def test_a_chunk_that_is_absent_is_an_error_not_zeros(tmp_path):
    build(tmp_path / "a.zarr", {"": IMAGE})
    with zarr.config.set({"array.write_empty_chunks": False}):
        array = zarr.open_array(tmp_path / "a.zarr", mode="r+")
        array[1] = 0
    with pytest.raises(StoreError, match=r"image 1 cannot be read \(it has no such chunk"):
        stores.verify(tmp_path / "a.zarr")


def test_arrays_read_alike_in_threads_and_in_forked_workers(tmp_path):
    content = build(tmp_path / "a.zarr", {"": IMAGE})[""]
    array = stores.read(tmp_path / "a.zarr")
    with ThreadPoolExecutor(4) as pool:
        for index, image in enumerate(pool.map(lambda i: stores.read_images(array, slice(i, i + 1)), range(10))):
            np.testing.assert_array_equal(image[0], content[index])
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply(stores.read_images, (array, slice(4, 8))), content[4:8])
