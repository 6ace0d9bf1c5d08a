"""Blending over small stores, against rational arithmetic."""

import numpy as np
import pytest
from small_stores import CLASSES, SIZE, expected_blend, member, planes, write

from cloudseg.ensemble.blending import blend_stores
from cloudseg.postprocess import level as level_of
from cloudseg.storage import stores
from cloudseg.workflow.decision_rule import blend_threshold


@pytest.mark.parametrize("block_bytes", [1, 3000, 2**27])
def test_test_images_get_one_flat_blend(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr("cloudseg.ensemble.blending.BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(stores, "SHARD_BYTES", 4 * 2 * 20 * 30)
    ids = [f"{number}.jpg" for number in range(7)]
    blocks = [planes(seed, 7) for seed in range(3)]
    paths = [write(tmp_path / f"{n}.zarr", block, ids) for n, block in enumerate(blocks)]
    members = [member("a", 0, 0.5), member("b", 1, 0.5), member("c", 0, 0.5)]
    blend_stores(paths, members, tmp_path / "out.zarr", folds=None, classes=CLASSES, size=SIZE, threads=2)
    made = stores.read(tmp_path / "out.zarr")
    assert list(made.attrs["ids"]) == ids
    assert np.array_equal(stores.read_images(made, slice(0, 7)), expected_blend(blocks, [1, 1, 1]))


def test_out_of_fold_images_are_blended_from_stores_that_never_saw_them(tmp_path):
    ids = {0: ["a.jpg", "d.jpg"], 1: ["b.jpg", "c.jpg", "e.jpg"]}
    blocks, paths, members = {}, [], []
    for fold, names in ids.items():
        for model in "xy":
            blocks[model, fold] = planes(ord(model) + fold, len(names))
            paths.append(write(tmp_path / f"{model}{fold}.zarr", blocks[model, fold], names))
            members.append(member(f"{model}{fold}", fold, {"x": 3.0, "y": 1.0}[model]))
    blend_stores(paths, members, tmp_path / "out.zarr", folds=[0, 1], classes=CLASSES, size=SIZE)
    made = stores.read(tmp_path / "out.zarr")
    assert list(made.attrs["ids"]) == ids[0] + ids[1]
    assert list(made.attrs["fold"]) == [0, 0, 1, 1, 1]
    wanted = np.concatenate([expected_blend([blocks["x", fold], blocks["y", fold]], [3, 1]) for fold in (0, 1)])
    assert np.abs(stores.read_images(made, slice(0, 5)).astype(int) - wanted).max() <= 1


def test_stores_of_other_images_or_classes_are_refused(tmp_path):
    one = write(tmp_path / "a.zarr", planes(0, 2), ["a.jpg", "b.jpg"])
    two = write(tmp_path / "b.zarr", planes(1, 2), ["b.jpg", "a.jpg"])
    with pytest.raises(ValueError, match=r"b\.zarr: holds other images"):
        blend_stores([one, two], [member("a", 0)] * 2, tmp_path / "o.zarr", folds=None, classes=CLASSES, size=SIZE)
    with pytest.raises(ValueError, match="expected the classes"):
        blend_stores([one], [member("a", 0)], tmp_path / "o.zarr", folds=None, classes=["Fish"], size=SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def squashed(values):
    """One sigmoid too many, on uint8 probabilities."""
    return np.floor(255 / (1 + np.exp(-values.astype(float) / 255)) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("kind", ["sigmoid of a sigmoid", "0.5 everywhere", "0.5 cut off"])
def test_squeezed_stores_stop_the_blend_unless_forced(tmp_path, kind):
    good = planes(0, 3)
    values = {"0.5 everywhere": np.full_like(good, 128), "0.5 cut off": np.full_like(good, 127)}
    bad = values.get(kind, squashed(good))
    ids = ["a.jpg", "b.jpg", "c.jpg"]
    paths = [write(tmp_path / "good.zarr", good, ids), write(tmp_path / "bad.zarr", bad, ids)]
    options = {"folds": None, "classes": CLASSES, "size": SIZE, "threads": 2}
    with pytest.raises(ValueError, match=r"bad\.zarr: looks like a sigmoid of a sigmoid .* 100\.00% .*allow_squeezed"):
        blend_stores(paths, [member("a", 0)] * 2, tmp_path / "out.zarr", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zarr", "good.zarr"]
    blend_stores(paths, [member("a", 0)] * 2, tmp_path / "out.zarr", **options, allow_squeezed=True)
    made = stores.read_images(tmp_path / "out.zarr", slice(0, 3))
    assert np.array_equal(made, expected_blend([good, bad], [1, 1]))


@pytest.mark.parametrize(("outside", "stops"), [(3, True), (4, False)])
def test_the_share_that_stops_a_blend_is_of_the_whole_store(tmp_path, outside, stops):
    block = np.full((3, 2, *SIZE), 187, np.uint8)  # 3600 values: a thousandth is 3.6
    block.reshape(-1)[-outside:] = [188, 126, 0, 255][:outside]
    path = write(tmp_path / "a.zarr", block, ["a.jpg", "b.jpg", "c.jpg"])
    options = {"folds": None, "classes": CLASSES, "size": SIZE}
    if stops:
        with pytest.raises(ValueError, match=r"99\.92% of its values lie in 127\.\.187"):
            blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", **options)
    else:
        blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", **options)
    assert (tmp_path / "out.zarr").exists() is not stops


def test_empty_and_two_valued_stores_are_not_squeezed(tmp_path):
    two_valued = (planes(0, 2) // 128) * 255
    options = {"classes": CLASSES, "size": SIZE}
    for name, block in {"none": two_valued[:0], "zero": 0 * two_valued, "two": two_valued}.items():
        path = write(tmp_path / f"{name}.zarr", block, ["a.jpg", "b.jpg"][: len(block)])
        blend_stores([path], [member("a", 0)], tmp_path / f"{name}-out.zarr", folds=None, **options)
        assert np.array_equal(stores.read_images(tmp_path / f"{name}-out.zarr", slice(0, 2)), block)


def test_two_networks_alike_score_the_same_sharpened_and_plain(tmp_path):
    """A blend of one network with itself cuts where the network does, whatever the power that it is blended in."""
    p, ids = planes(9, 4), ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    path = write(tmp_path / "one.zarr", p, ids)
    options = {"folds": [0], "classes": CLASSES, "size": SIZE}
    masks = {}
    for sharpen in (None, 0.5, 2.0):
        out = tmp_path / f"{sharpen}.zarr"
        blend_stores([path, path], [member("a", 0)] * 2, out, sharpen=sharpen, **options)
        level = level_of(blend_threshold(0.5, None, sharpen))
        masks[sharpen] = stores.read_images(stores.read(out), slice(0, 4)) >= level
    for sharpen in (0.5, 2.0):
        differing = p[masks[sharpen] != masks[None]]  # rounding to a byte may part neighbours of the level
        assert len(differing) == 0 or np.abs(differing.astype(int) - 128).max() <= 1


@pytest.mark.parametrize("how", [{}, {"sharpen": 0.5}, {"sharpen": 0.3}, {"levels": [[100, 90], [128, 200], [7, 256]]}])
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.5, 2, 1.25]])
def test_images_too_large_for_memory_are_blended_in_stretches_to_the_same_bytes(tmp_path, monkeypatch, how, weights):
    ids = ["a.jpg", "b.jpg"]
    paths = [write(tmp_path / f"{n}.zarr", planes(n, 2), ids) for n in range(3)]
    members = [member(f"{n}", 0, weight) for n, weight in enumerate(weights)]
    made, asked = [], {"folds": None, "classes": CLASSES, "size": SIZE, "allow_squeezed": True} | how
    for name, bytes_at_once in (("whole", 2**27), ("stretches", 3 * 1000)):  # no stretch but the last is of 256 bytes
        monkeypatch.setattr("cloudseg.ensemble.blending.BLOCK_BYTES", bytes_at_once)
        blend_stores(paths, members, tmp_path / f"{name}.zarr", **asked)
        made.append(stores.read_images(tmp_path / f"{name}.zarr", slice(0, 2)))
    assert made[0].any() and np.array_equal(*made)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".zarr"] * 5
