"""A vote of masks, against rational arithmetic and against the blend of masks that are stored."""

import shutil
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import patient
from small_stores import CLASSES, SIZE, member, planes, write

from cloudseg.ensemble.blending import blend_digest, blend_stores, votes
from cloudseg.errors import ConfigError
from cloudseg.postprocess import blend
from cloudseg.storage import stores

OPTIONS = {"folds": None, "classes": CLASSES, "size": SIZE}


def files_of(path):
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def shares_of_weight(blocks, levels, weights):
    """Return 255 times the share of weight that is for each pixel, rounded half up, in fractions."""
    total = sum(map(Fraction, weights))
    shares = np.zeros(blocks[0].shape, object)
    for block, each, weight in zip(blocks, levels, weights, strict=True):
        in_mask = np.stack([block[:, number] >= level for number, level in enumerate(each)], axis=1)
        shares += np.where(in_mask, Fraction(weight), Fraction(0))
    return np.vectorize(lambda share: int(255 * share / total + Fraction(1, 2)))(shares).astype(np.uint8)


@patient
@given(data=st.data())
def test_a_vote_is_the_share_of_weight_whose_masks_hold_a_pixel(data):
    members, classes = data.draw(st.integers(1, 7)), data.draw(st.sampled_from([1, 2, 64]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    blocks = random.integers(0, 256, (members, 2, classes, 3, 5)).astype(np.uint8)
    levels = random.choice([0, 1, 100, 128, 255, 256], (members, classes)).tolist()
    weights = random.choice([1, 2, 3, 0.5], members).tolist() if data.draw(st.booleans()) else [0.3] * members
    voted = blend([votes(block, each) for block, each in zip(blocks, levels, strict=True)], weights=weights)
    assert np.array_equal(voted, shares_of_weight(blocks, levels, weights))


def test_each_member_votes_with_its_own_level_of_each_class(tmp_path, monkeypatch):
    monkeypatch.setattr("cloudseg.ensemble.blending.BLOCK_BYTES", 3000)
    monkeypatch.setattr(stores, "SHARD_BYTES", 4 * 2 * 20 * 30)
    ids = [f"{number}.jpg" for number in range(7)]
    blocks, levels, weights = [planes(seed, 7) for seed in range(3)], [[90, 200], [128, 128], [150, 60]], [2, 1, 1]
    paths = [write(tmp_path / f"{n}.zarr", block, ids) for n, block in enumerate(blocks)]
    members = [member(f"{n}", 0, weight) for n, weight in enumerate(weights)]
    blend_stores(paths, members, tmp_path / "out.zarr", levels=levels, threads=2, **OPTIONS)
    voted = stores.read_images(tmp_path / "out.zarr", slice(None))
    assert np.array_equal(voted, shares_of_weight(blocks, levels, weights))
    assert set(np.unique(voted)) == {0, 64, 128, 191, 255}
    masks = [write(tmp_path / f"mask{n}.zarr", votes(blocks[n], levels[n]), ids) for n in range(3)]
    blend_stores(masks, members, tmp_path / "masks.zarr", **OPTIONS)
    assert np.array_equal(voted, stores.read_images(tmp_path / "masks.zarr", slice(None)))


def test_images_of_a_fold_are_voted_on_by_the_levels_of_that_fold(tmp_path):
    ids = {0: ["a.jpg", "d.jpg"], 1: ["b.jpg"]}
    levels = {"x0": [100, 100], "y0": [0, 256], "x1": [200, 30], "y1": [256, 0]}
    blocks = {name: planes(number, len(ids[int(name[1])])) for number, name in enumerate(levels)}
    paths = [write(tmp_path / f"{name}.zarr", block, ids[int(name[1])]) for name, block in blocks.items()]
    members = [member(name, int(name[1])) for name in levels]
    options = OPTIONS | {"folds": [1, 0]}
    blend_stores(paths, members, tmp_path / "out.zarr", levels=list(levels.values()), **options)
    expected = [
        shares_of_weight([blocks[f"x{fold}"], blocks[f"y{fold}"]], [levels[f"x{fold}"], levels[f"y{fold}"]], [1, 1])
        for fold in (1, 0)
    ]
    assert np.array_equal(stores.read_images(tmp_path / "out.zarr", slice(None)), np.concatenate(expected))


def test_one_member_votes_for_its_own_mask(tmp_path):
    path = write(tmp_path / "a.zarr", planes(3, 2), ["a.jpg", "b.jpg"])
    blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", levels=[[128, 90]], **OPTIONS)
    assert np.array_equal(stores.read_images(tmp_path / "out.zarr", slice(None)), votes(planes(3, 2), [128, 90]))


def test_a_vote_that_was_begun_with_other_levels_is_begun_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 20 * 30)
    path = write(tmp_path / "a.zarr", planes(3, 4), list("abcd"))
    real, written = stores.Writer.write, []

    def voted(out, levels):
        blend_stores([path], [member("a", 0)], tmp_path / out, levels=levels, **OPTIONS)

    def fail_at_the_third(writer, rows, block, name=""):
        if len(written) == 2:
            raise OSError("no space left on device")
        written.append(rows)
        real(writer, rows, block, name)

    voted("whole.zarr", [[90, 128]])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(stores.Writer, "write", fail_at_the_third)
        voted("cut.zarr", [[90, 128]])
    shutil.copytree(tmp_path / "cut.zarr.part", tmp_path / "other.zarr.part")
    made = []
    monkeypatch.setattr(stores.Writer, "write", lambda *each: (made.append(each[1].start), real(*each)))
    voted("cut.zarr", [[90, 128]])
    voted("other.zarr", [[90, 127]])
    assert made == [2, 3, 0, 1, 2, 3]
    assert files_of(tmp_path / "cut.zarr") == files_of(tmp_path / "whole.zarr")


def test_levels_are_told_by_the_digest_of_a_vote_alone(tmp_path):
    path = write(tmp_path / "a.zarr", planes(3, 1), ["a.jpg"])
    digests = [blend_digest([path], [member("a", 0)], None, levels) for levels in (None, [[1, 2]], [[1, 3]])]
    assert len(set(digests)) == 3
    blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", levels=[(np.int64(1), 3)], **OPTIONS)
    assert stores.read(tmp_path / "out.zarr").attrs["run"] == digests[2]


def test_votes_are_not_sharpened_and_have_a_level_for_each_class_of_each_store(tmp_path):
    path = write(tmp_path / "a.zarr", planes(3, 1), ["a.jpg"])

    def refused(error, match, **options):
        with pytest.raises(error, match=match):
            blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", **OPTIONS | options)

    refused(ConfigError, r"sharpen: expected none beside `blend: vote`, got 0\.5", levels=[[1, 2]], sharpen=0.5)
    refused(ValueError, r"levels: expected 2 levels for each of 1 stores, got \[1\]", levels=[[1]])
    refused(ValueError, r"levels: expected 2 levels for each of 1 stores, got \[2, 2\]", levels=[[1, 2], [1, 2]])
    for strange in (-1, 257, 0.5):
        refused(ValueError, rf"levels: expected whole numbers in 0\.\.256, got {strange}", levels=[[1, strange]])
    assert [each.name for each in tmp_path.iterdir()] == ["a.zarr"]


def test_squeezed_stores_do_not_vote_unless_forced(tmp_path):
    path = write(tmp_path / "a.zarr", planes(0, 2) // 16 + 128, ["a.jpg", "b.jpg"])
    with pytest.raises(ValueError, match=r"a\.zarr: looks like a sigmoid of a sigmoid"):
        blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", levels=[[130, 130]], **OPTIONS)
