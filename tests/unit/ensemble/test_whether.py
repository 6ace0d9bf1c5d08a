"""What the members that say whether a class is there leave of their blend, against NumPy and fractions."""

import shutil
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import patient
from small_stores import CLASSES, SIZE, expected_blend, member, planes, write

from cloudseg.ensemble.blended import Blended
from cloudseg.ensemble.blending import StoreBlend, blend_stores
from cloudseg.ensemble.masking import Evidence, ImageRule, PlaneRule, Presence
from cloudseg.ensemble.parts import Part
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.ensemble.whether import whether_digest, write_whether
from cloudseg.errors import ConfigError, StoreError
from cloudseg.postprocess import NOTHING, Cut
from cloudseg.storage import stores
from cloudseg.storage.class_values import DIMS

OPTIONS = {"folds": None, "classes": CLASSES, "size": SIZE}
FIVE = list("abcde")


def write_values(path, values, ids, **attrs):
    writer = stores.Writer(
        path,
        {"": stores.Spec(values.shape, "uint8", DIMS)},
        {"ids": ids, "classes": CLASSES, "run": path.name, **attrs},
    )
    for rows in writer.missing():
        writer.write(rows, values[rows])
    writer.finish()
    return path


def values_of(seed, count, classes=2):
    return np.random.default_rng(seed).integers(0, 256, (count, classes)).astype(np.uint8)


def read(path):
    group = stores.read(path)
    return {name: stores.read_images(group[name], slice(None)) for name in group.array_keys()}


def counts(block):
    """Return how many pixels of each plane have each value, (N, C, 256)."""
    return np.array([[np.bincount(plane.ravel(), minlength=256) for plane in image] for image in block])


def files_of(path):
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("how", [{}, {"sharpen": 0.5}, {"levels": [[90, 128], [200, 30], [0, 256]]}])
@pytest.mark.parametrize("shard", [1, 2 * 20 * 30 * 2, 2**25])
def test_histograms_are_those_of_the_blend_that_is_not_kept(tmp_path, monkeypatch, how, shard):
    monkeypatch.setattr(stores, "SHARD_BYTES", shard)
    monkeypatch.setattr("cloudseg.ensemble.blending.BLOCK_BYTES", 3000)
    blocks = [planes(seed, 5) for seed in range(3)]
    paths = [write(tmp_path / f"{number}.zarr", block, FIVE) for number, block in enumerate(blocks)]
    members = [member(f"{number}", 0, weight) for number, weight in enumerate([1, 2, 0.5])]
    blend_stores(paths, members, tmp_path / "blend.zarr", **OPTIONS, **how)
    write_whether(paths, members, tmp_path / "whether.zarr", threads=2, **OPTIONS, **how)
    blend = stores.read_images(tmp_path / "blend.zarr", slice(None))
    made = read(tmp_path / "whether.zarr")
    assert list(made) == ["histogram"]
    assert made["histogram"].dtype == np.uint32
    assert np.array_equal(made["histogram"], counts(blend))
    ours, theirs = (stores.read(tmp_path / f"{name}.zarr").attrs for name in ("whether", "blend"))
    assert [ours[key] for key in ("ids", "classes", "fold")] == [theirs[key] for key in ("ids", "classes", "fold")]


@patient
@given(data=st.data())
def test_values_are_averaged_by_weight_and_rounded_once(data):
    members, classes = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 4, 64]))
    blocks = [values_of(data.draw(st.integers(0, 2**32 - 1)), 3, classes) for _ in range(members)]
    weights = data.draw(st.lists(st.sampled_from([1, 2, 0.5, 3]), min_size=members, max_size=members))
    part = Part(None, list("abc"), [None] * members, blocks, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "read_images", lambda array, rows: array[rows])
        blended = StoreBlend([part], list(range(classes)), ()).images(slice(0, 3))
        roots = StoreBlend([part], list(range(classes)), (), sharpen=0.5).images(slice(1, 3))
    assert np.array_equal(blended, expected_blend(blocks, weights))
    exact = sum(w * np.sqrt(block[1:] / 255) for w, block in zip(weights, blocks, strict=True)) / sum(weights)
    assert np.abs(roots - 255 * exact).max() <= 0.5 + 1e-3


def test_images_of_a_fold_have_the_histograms_and_values_of_its_members(tmp_path):
    ids = {0: ["a.jpg", "d.jpg"], 1: ["b.jpg", "c.jpg", "e.jpg"]}
    paths, value_paths = [], []
    for fold, names in ids.items():
        for model in (0, 1):
            paths.append(write(tmp_path / f"{fold}{model}.zarr", planes(10 * fold + model, len(names)), names))
        for head in (0, 1, 2):
            values = values_of(10 * fold + head, len(names))
            value_paths.append(write_values(tmp_path / f"{fold}{head}-values.zarr", values, names))
    members = [member(f"{number}", number // 2) for number in range(4)]
    value_members = [member(f"{number}", number // 3, [2, 1, 1][number % 3]) for number in range(6)]
    heads = {"value_paths": value_paths, "value_members": value_members}
    write_whether(paths, members, tmp_path / "out.zarr", **heads, **OPTIONS | {"folds": [1, 0]})
    made = read(tmp_path / "out.zarr")
    attrs = stores.read(tmp_path / "out.zarr").attrs
    assert (attrs["ids"], attrs["fold"]) == (ids[1] + ids[0], [1, 1, 1, 0, 0])
    blends = [
        expected_blend([planes(10 * fold + model, len(ids[fold])) for model in (0, 1)], [1, 1]) for fold in (1, 0)
    ]
    assert np.array_equal(made["histogram"], counts(np.concatenate(blends)))
    values = [
        expected_blend([values_of(10 * fold + n, len(ids[fold])) for n in range(3)], [2, 1, 1]) for fold in (1, 0)
    ]
    assert np.array_equal(made["value"], np.concatenate(values))


def test_a_decision_reads_presence_from_it(tmp_path):
    where, asked, said = planes(1, 5), planes(2, 5), values_of(3, 5)
    blend = write(tmp_path / "blend.zarr", where, FIVE)
    path = write(tmp_path / "a.zarr", asked, FIVE)
    heads = write_values(tmp_path / "v.zarr", said, FIVE)
    write_whether(
        [path], [member("a", 0)], tmp_path / "w.zarr", value_paths=[heads], value_members=[member("v", 0)], **OPTIONS
    )
    evidence = Blended(blend, tmp_path / "w.zarr").evidence(slice(1, 4))
    score = PlaneScore("top", 60, Fraction(1))
    rule = ImageRule({name: PlaneRule(Cut(100, 0), Presence(score, score.at_least(0.7, 600))) for name in CLASSES})
    tops = np.sort(asked.reshape(5, 2, -1), axis=2)[..., -60:].astype(int)
    scores = [
        [(Fraction(int(said[i, c]), 255) + Fraction(int(tops[i, c].sum()), 60 * 255)) / 2 for c in (0, 1)]
        for i in (1, 2, 3)
    ]
    present = [[each >= Fraction(7, 10) for each in image] for image in scores]
    assert np.array_equal(rule.levels(evidence) != NOTHING, present)
    assert 0 < np.sum(present) < 6
    alone = Evidence.of(asked[1:4])
    assert np.array_equal(alone.histograms, evidence.histograms)


def large(seed):
    return planes(seed, 5).repeat(2, axis=2).repeat(2, axis=3)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_killed_call_goes_on_with_what_it_has_and_with_nothing_of_another(tmp_path, monkeypatch, after):
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 2 * 40 * 60)  # two images, or the histograms of four
    path = write(tmp_path / "a.zarr", large(0), FIVE, settings="1")
    heads = write_values(tmp_path / "v.zarr", values_of(0, 5), FIVE)
    real, written = stores.Writer.write, []

    def whether(out, **options):
        how = OPTIONS | {"size": (40, 60), "value_paths": [heads], "value_members": [member("v", 0)]} | options
        write_whether([path], [member("a", 0)], tmp_path / out, **how)

    def fail(writer, rows, block, name=""):
        if len(written) == after:
            raise OSError("no space left on device")
        written.append((name, rows))
        real(writer, rows, block, name)

    whether("whole.zarr")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(stores.Writer, "write", fail)
        whether("cut.zarr")
    assert not (tmp_path / "cut.zarr").exists()
    for name in ("other", "predicted_anew"):
        shutil.copytree(tmp_path / "cut.zarr.part", tmp_path / f"{name}.zarr.part")
    made = []
    monkeypatch.setattr(stores.Writer, "write", lambda *each: (made.append((each[3], each[1])), real(*each)))
    whether("cut.zarr")
    every = [("value", slice(0, 5)), *(("histogram", rows) for rows in (slice(0, 2), slice(2, 4), slice(4, 5)))]
    assert made == every[after:]
    assert files_of(tmp_path / "cut.zarr") == files_of(tmp_path / "whole.zarr")
    made.clear()
    whether("other.zarr", sharpen=0.5)
    assert made == every
    made.clear()
    shutil.rmtree(path)
    monkeypatch.setattr(stores.Writer, "write", real)
    write(path, large(9), FIVE, settings="2")  # by the same checkpoint, in other views
    whether("predicted_anew.zarr")
    assert np.array_equal(read(tmp_path / "predicted_anew.zarr")["histogram"], counts(large(9)))


def test_its_digest_tells_all_that_it_is_made_of(tmp_path):
    paths = [write(tmp_path / f"{name}.zarr", planes(0, 1), ["a.jpg"]) for name in "ab"]
    heads = [write_values(tmp_path / f"{name}-values.zarr", values_of(0, 1), ["a.jpg"]) for name in "ab"]
    one, two = member("m", 0), member("m", 0, 2.0)
    digests = [
        whether_digest(paths[:1], [one]),
        whether_digest(paths[1:], [one]),
        whether_digest(paths[:1], [two]),
        whether_digest(paths[:1], [one], sharpen=0.5),
        whether_digest(paths[:1], [one], levels=[[1, 2]]),
        whether_digest(paths[:1], [one], levels=[[1, 3]]),
        whether_digest(paths[:1], [one], heads[:1], [one]),
        whether_digest(paths[:1], [one], heads[1:], [one]),
        whether_digest(paths[:1], [one], heads[:1], [two]),
        whether_digest(paths[:1], [one], heads, [one, one]),
    ]
    assert len(set(digests)) == len(digests)
    write_whether(paths[:1], [one], tmp_path / "w.zarr", value_paths=heads, value_members=[one, one], **OPTIONS)
    assert stores.read(tmp_path / "w.zarr").attrs["run"] == digests[-1]


def test_values_of_other_images_or_classes_are_refused(tmp_path):
    path = write(tmp_path / "a.zarr", planes(0, 2), ["a.jpg", "b.jpg"])
    swapped = write_values(tmp_path / "swapped.zarr", values_of(0, 2), ["b.jpg", "a.jpg"])
    fewer = write_values(tmp_path / "fewer.zarr", values_of(0, 1), ["a.jpg"])
    named = write_values(tmp_path / "named.zarr", values_of(0, 2), ["a.jpg", "b.jpg"], classes=["Flower", "Fish"])
    good = write_values(tmp_path / "good.zarr", values_of(0, 2), ["a.jpg", "b.jpg"])

    def refused(match, heads, members=(0,), error=StoreError, **options):
        how = OPTIONS | {"value_paths": heads, "value_members": [member("v", fold) for fold in members]} | options
        with pytest.raises(error, match=match):
            write_whether([path], [member("a", 0)], tmp_path / "out.zarr", **how)

    before = sorted(each.name for each in tmp_path.iterdir())
    refused(r"swapped\.zarr: holds other images than .*a\.zarr \(2 and 2\)", [swapped])
    refused(r"fewer\.zarr: holds other images than .*a\.zarr \(1 and 2\)", [fewer])
    refused(r"fewer\.zarr: holds other images than .*good\.zarr", [good, fewer], members=(0, 0))
    refused(
        r"named\.zarr: expected the classes \['Fish', 'Flower'\] at \(\), got \['Flower', 'Fish'\] at \(\)", [named]
    )
    refused(r"a\.zarr: expected the classes .* at \(\), got .* at \(20, 30\)", [path])
    refused(r"nothing to blend for the images of fold 0: .* none among 1", [good], members=(1,), folds=[0])
    refused("sharpen: expected none beside `blend: vote`", [good], error=ConfigError, sharpen=2.0, levels=[[1, 1]])
    assert sorted(each.name for each in tmp_path.iterdir()) == before


def test_members_of_other_images_and_squeezed_ones_are_refused(tmp_path):
    one = write(tmp_path / "a.zarr", planes(0, 2), ["a.jpg", "b.jpg"])
    two = write(tmp_path / "b.zarr", planes(1, 2), ["b.jpg", "a.jpg"])
    bad = write(tmp_path / "bad.zarr", np.full_like(planes(1, 2), 128), ["a.jpg", "b.jpg"])
    for other, match in (
        (two, r"b\.zarr: holds other images than .*a\.zarr"),
        (bad, r"bad\.zarr: looks like a sigmoid"),
    ):
        with pytest.raises(StoreError, match=match):
            write_whether([one, other], [member("m", 0)] * 2, tmp_path / "out.zarr", **OPTIONS)
    assert not any(tmp_path.glob("out*"))
    write_whether([bad], [member("m", 0)], tmp_path / "out.zarr", allow_squeezed=True, **OPTIONS)
    assert (read(tmp_path / "out.zarr")["histogram"][..., 128] == 600).all()


@pytest.mark.parametrize("folds", [[], [0]])
def test_no_images_make_an_empty_group(tmp_path, folds):
    path = write(tmp_path / "a.zarr", planes(0, 1)[:0], [])
    heads = write_values(tmp_path / "v.zarr", values_of(0, 0), [])
    write_whether(
        [path],
        [member("a", 0)],
        tmp_path / "out.zarr",
        value_paths=[heads],
        value_members=[member("v", 0)],
        **OPTIONS | {"folds": folds},
    )
    made = read(tmp_path / "out.zarr")
    assert (made["histogram"].shape, made["value"].shape) == ((0, 2, 256), (0, 2))
    blend_stores([path], [member("a", 0)], tmp_path / "blend.zarr", **OPTIONS | {"folds": folds})
    assert Blended(tmp_path / "blend.zarr", tmp_path / "out.zarr").evidence(slice(0, 0)).values.shape == (0, 2)


def test_there_may_be_64_classes(tmp_path):
    names = [f"class {number}" for number in range(64)]
    block = np.random.default_rng(0).integers(0, 256, (2, 64, 3, 5)).astype(np.uint8)
    path = write(tmp_path / "a.zarr", block, ["a.jpg", "b.jpg"], classes=names)
    heads = write_values(tmp_path / "v.zarr", values_of(0, 2, 64), ["a.jpg", "b.jpg"], classes=names)
    how = {"value_paths": [heads], "value_members": [member("v", 0)], "folds": None, "classes": names, "size": (3, 5)}
    write_whether([path], [member("a", 0)], tmp_path / "out.zarr", **how)
    made = read(tmp_path / "out.zarr")
    assert np.array_equal(made["histogram"], counts(block))
    assert np.array_equal(made["value"], values_of(0, 2, 64))
