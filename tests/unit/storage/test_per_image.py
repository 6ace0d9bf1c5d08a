import json

import numpy as np
import pytest
import zarr

from cloudseg.errors import StoreError
from cloudseg.storage import per_image, stores
from cloudseg.storage.per_image import Ids
from cloudseg.storage.stores import Spec, Writer

NAMES = ["b.jpg", "a.jpg", "Wolken 雲.png", "", "a.jpg.jpg"]
FOLDS = [0, 0, 1, None, 0]


@pytest.fixture
def four_are_few(monkeypatch):
    monkeypatch.setattr(per_image, "FEW", 4)


def write(path, names=NAMES, folds=FOLDS, *, group=False):
    spec = Spec((len(names), 2, 3), "uint8", ("image", "y", "x"))
    writer = Writer(path, {"a" if group else "": spec}, {"ids": names, "fold": folds, "run": "x"})
    name = "a" if group else ""
    for rows in writer.missing(name):
        writer.write(rows, np.full((rows.stop - rows.start, 2, 3), 7, "uint8"), name)
    writer.finish()
    return stores.read(path)


@pytest.mark.parametrize("group", [True, False])
def test_names_and_folds_come_back_from_attributes_and_from_a_file(tmp_path, monkeypatch, group):
    few = write(tmp_path / "few.zarr", group=group)
    monkeypatch.setattr(per_image, "FEW", 4)
    many = write(tmp_path / "many.zarr", group=group)
    for store in (few, many):
        assert list(per_image.ids(store)) == NAMES
        assert per_image.folds(store) == FOLDS
        assert per_image.image_count(store.attrs) == len(NAMES)
    assert few.attrs["ids"] == NAMES and few.attrs["fold"] == FOLDS
    assert not (tmp_path / "few.zarr" / per_image.FILE).exists()
    assert per_image.same_ids(few, many) and per_image.same_ids(many, many)
    assert np.load(tmp_path / "many.zarr" / per_image.FILE)[0] == b"b.jpg"


def test_attributes_of_a_large_store_do_not_grow_with_its_images(tmp_path):
    sizes = []
    for count in (11_000, 55_000):
        names = [f"{number:06}.jpg" for number in range(count)]
        store = write(tmp_path / f"{count}.zarr", names, [number * 3 // count for number in range(count)])
        sizes.append((tmp_path / f"{count}.zarr" / "zarr.json").stat().st_size)
        assert list(per_image.ids(store)) == names
        assert per_image.folds(store) == [number * 3 // count for number in range(count)]
    assert max(sizes) < 2500


@pytest.mark.usefixtures("four_are_few")
def test_stores_of_other_images_are_told_apart_without_their_names(tmp_path):
    one = write(tmp_path / "one.zarr")
    for number, names in enumerate([NAMES[::-1], [*NAMES, "d.jpg"], [*NAMES[:-1], "d.jpg"]]):
        other = write(tmp_path / f"{number}.zarr", names, [0] * len(names))
        (tmp_path / f"{number}.zarr" / per_image.FILE).unlink()
        assert not per_image.same_ids(one, other)


@pytest.mark.usefixtures("four_are_few")
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_damaged_names_are_found(tmp_path, how):
    write(tmp_path / "a.zarr")
    file = tmp_path / "a.zarr" / per_image.FILE
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    if how == "gone":
        file.unlink()
        with pytest.raises(StoreError, match=r"ids\.npy.*missing"):
            stores.read(tmp_path / "a.zarr")
        return
    file.write_bytes(data if how == "flipped" else data[:-3])
    with pytest.raises(StoreError, match=r"ids\.npy: the names of the images cannot be read"):
        stores.verify(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match=r"verify --config remove=true"):
        per_image.ids(stores.read(tmp_path / "a.zarr"))


@pytest.mark.usefixtures("four_are_few")
def test_a_killed_writer_is_resumed_only_for_the_same_names(tmp_path):
    spec = {"": Spec((5, 2, 3), "uint8", ("image", "y", "x"), most=2)}
    attrs = {"ids": NAMES, "run": "x"}
    writer = Writer(tmp_path / "a.zarr", spec, attrs)
    writer.write(slice(0, 2), np.zeros((2, 2, 3), "uint8"))
    stores.writer_lock.unlock(writer.part)
    assert stores.begun(tmp_path / "a.zarr", attrs)
    assert not stores.begun(tmp_path / "a.zarr", attrs | {"ids": NAMES[::-1]})
    again = Writer(tmp_path / "a.zarr", spec, attrs)
    assert [rows.start for rows in again.missing()] == [2, 4]
    stores.writer_lock.unlock(again.part)
    other = Writer(tmp_path / "a.zarr", spec, attrs | {"ids": NAMES[::-1]})
    assert [rows.start for rows in other.missing()] == [0, 2, 4]
    for rows in other.missing():
        other.write(rows, np.zeros((rows.stop - rows.start, 2, 3), "uint8"))
    other.finish()
    assert list(per_image.ids(stores.read(tmp_path / "a.zarr"))) == NAMES[::-1]


def test_a_large_store_of_before_is_read_as_it_is(tmp_path, monkeypatch):
    write(tmp_path / "before.zarr")
    before = (tmp_path / "before.zarr" / "zarr.json").read_bytes()
    monkeypatch.setattr(per_image, "FEW", 4)
    store = stores.read(tmp_path / "before.zarr")
    assert list(per_image.ids(store)) == NAMES and per_image.folds(store) == FOLDS
    assert per_image.same_ids(store, write(tmp_path / "now.zarr"))
    stores.verify(tmp_path / "before.zarr")
    assert (tmp_path / "before.zarr" / "zarr.json").read_bytes() == before


@pytest.mark.usefixtures("four_are_few")
def test_zarr_reads_a_store_of_many_images_whose_shards_lie_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 2 * 3)
    write(tmp_path / "a.zarr")
    names = {file.name for file in (tmp_path / "a.zarr").iterdir()}
    assert names == {"zarr.json", "ids.npy", "c.0.0.0", "c.1.0.0", "c.2.0.0"}
    assert zarr.open(tmp_path / "a.zarr", mode="r")[:].sum() == 7 * 6 * 5
    said = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]["ids"]
    assert (said["file"], said["count"]) == ("ids.npy", 5)


def test_ids_are_a_sequence_of_texts():
    ids = Ids.of(NAMES)
    assert len(ids) == len(NAMES) and [ids[row] for row in range(-1, 4)] == [NAMES[row] for row in range(-1, 4)]
    assert list(ids[1:4]) == NAMES[1:4] and ids.index("a.jpg") == 1 and "d.jpg" not in ids
    assert ids == NAMES and ids != NAMES[:-1] and ids != [*NAMES[:-1], "longer than all.jpg"] and ids == Ids.of(ids)
    assert list(Ids.joined([ids[:2], ids[2:]])) == NAMES and list(Ids.joined([])) == [] == list(Ids.of([]))
    with pytest.raises(ValueError, match="names of files"):
        Ids.of(["a\0"])


def test_rows_are_those_of_a_dict():
    rng = np.random.default_rng(0)
    names = [f"{number}.jpg" for number in rng.permutation(3000)]
    wanted = [f"{number}.jpg" for number in rng.integers(0, 4000, 500)]
    row_of = {name: row for row, name in enumerate(names)}
    assert Ids.of(names).rows_of(wanted).tolist() == [row_of.get(name, -1) for name in wanted]
    assert Ids.of(names).rows_of(names).tolist() == list(range(3000))
    assert Ids.of([]).rows_of(["a"]).tolist() == [-1] and Ids.of(names).rows_of([]).tolist() == []
