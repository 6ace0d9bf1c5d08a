"""Groups of images: where they come from, that no split parts them, and how even it is all the same."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cloudseg.dataset.folds import make_folds, take_split
from cloudseg.dataset.groups import groups_in_names, read_groups, unite
from cloudseg.dataset.split import Split, describe_split
from cloudseg.errors import ConfigError, DatasetError

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
RATES = np.array([0.50, 0.43, 0.53, 0.66])


def simulate(count, scenes, seed, copies=0.02):
    """Images of scenes of unlike size; half of what an image holds is what its scene holds."""
    rng = np.random.default_rng(seed)
    scene = rng.choice(scenes, count, p=rng.dirichlet(np.full(scenes, 2.0)))
    of_scene, own = rng.random((scenes, 4)) < RATES, rng.random((count, 4)) < RATES
    holds = np.where(rng.random((count, 4)) < 0.5, of_scene[scene], own)
    original = np.where(rng.random(count) < copies, rng.integers(0, count, count), np.arange(count))
    images = pd.DataFrame({"image": [f"scene{s:03}_{n:05}.jpg" for n, s in enumerate(scene)], "split": "train"})
    images["digest"] = [f"digest{number}" for number in original]
    images[CLASSES] = holds[original].astype(int) * 1000
    return images, [f"scene{s:03}" for s in scene]


def parted(folds, labels):
    return int((folds["fold"].groupby(np.asarray(labels, str)).nunique() > 1).sum())


def difference(images, fold):
    rates = images[CLASSES].gt(0).groupby(np.asarray(fold)).mean()
    return float((rates.max() - rates.min()).max())


def test_sets_are_the_components_of_the_graph_of_shared_labels():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        kinds = [rng.integers(0, 30, 40).astype(str).tolist() for _ in range(3)]
        nodes = np.concatenate([np.unique(kind, return_inverse=True)[1] + 40 * (k + 1) for k, kind in enumerate(kinds)])
        rows = np.tile(np.arange(40), 3)
        graph = coo_matrix((np.ones(120), (rows, nodes)), shape=(160, 160))
        wanted = connected_components(graph, directed=False)[1][:40]
        found = unite(*kinds)
        assert len(set(zip(wanted, found, strict=True))) == len(set(wanted)) == len(set(found))
        least = {number: min(np.asarray(kinds[0])[found == number]) for number in set(found.tolist())}
        assert [least[number] for number in sorted(least)] == sorted(least.values())


@pytest.mark.parametrize(("count", "scenes", "folds"), [(60, 7, 5), (200, 20, 5), (200, 40, 2), (1000, 100, 10)])
def test_no_group_and_no_picture_is_on_both_sides(count, scenes, folds):
    for seed in range(3):
        images, groups = simulate(count, scenes, seed, copies=0.005)
        split = make_folds(images, classes=CLASSES, count=folds, seed=seed, groups=groups)
        assert parted(split, groups) == parted(split, images["digest"]) == 0
        assert sorted(split["fold"].unique()) == list(range(folds))
        assert list(split["image"]) == list(images["image"])
        plain = make_folds(images, classes=CLASSES, count=folds, seed=seed)
        assert parted(plain, groups) > 0


def test_a_group_of_its_own_for_each_image_changes_nothing():
    images, _ = simulate(150, 10, 0, copies=0.1)
    plain = make_folds(images, classes=CLASSES, count=5, seed=3)
    for groups in (images["image"].tolist(), images["digest"].tolist()):
        pd.testing.assert_frame_equal(make_folds(images, classes=CLASSES, count=5, seed=3, groups=groups), plain)


def test_grouped_folds_are_about_as_even_as_those_of_scikit_learn_and_more_alike_in_size():
    from sklearn.model_selection import StratifiedGroupKFold

    ours, theirs = [], []
    for count, scenes in ((100, 20), (600, 60), (600, 200)):
        for seed in range(4):
            images, groups = simulate(count, scenes, seed, copies=0)
            split = make_folds(images, classes=CLASSES, count=5, seed=seed, groups=groups)["fold"].to_numpy()
            sets = images[CLASSES].gt(0).astype(int).astype(str).agg("".join, axis=1)
            sets = sets.where(sets.map(sets.value_counts()) >= 5, "rare")
            other = np.zeros(count, int)
            splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            for fold, (_, valid) in enumerate(splitter.split(images, sets, groups)):
                other[valid] = fold
            for found, fold in ((ours, split), (theirs, other)):
                sizes = np.bincount(fold)
                found.append([difference(images, fold), (sizes.max() - sizes.min()) / count])
    rates, sizes = np.mean(ours, axis=0) / np.mean(theirs, axis=0)
    assert rates < 1.1
    assert sizes < 0.8


def test_fewer_groups_than_folds_are_refused_and_groups_that_share_a_picture_are_one():
    images, _ = simulate(8, 2, 0, copies=0)
    groups = list("aabbccdd")
    assert make_folds(images, classes=CLASSES, count=4, seed=0, groups=groups)["fold"].nunique() == 4
    with pytest.raises(ConfigError, match=r"folds.count: expected 2 to 4, the number of groups .*\(of 8\), got 5"):
        make_folds(images, classes=CLASSES, count=5, seed=0, groups=groups)
    images.loc[[0, 2], "digest"] = "same"
    with pytest.raises(ConfigError, match=r"expected 2 to 3, the number of groups .* that share no picture"):
        make_folds(images, classes=CLASSES, count=4, seed=0, groups=groups)
    split = make_folds(images, classes=CLASSES, count=3, seed=0, groups=groups)
    assert split["fold"][:4].nunique() == 1


def test_a_pattern_must_find_a_group_in_every_name():
    names = ["scene01_1.jpg", "scene02_1.jpg", "scene02_2.jpg"]
    assert groups_in_names(names, r"scene\d+") == ["scene01", "scene02", "scene02"]
    assert groups_in_names(names, r"_(\d)(\.)") == ["1", "1", "2"]
    with pytest.raises(DatasetError, match=r"'scene02' finds no group in scene01_1.jpg \(1 of 3 training images\)"):
        groups_in_names(names, "scene02")
    for empty in ("x*", "(x)?scene", "()scene"):
        with pytest.raises(DatasetError, match=r"scene01_1.jpg \(3 of 3 training images\).*as `folds.table`"):
            groups_in_names(names, empty)


def test_a_table_must_have_every_training_image(tmp_path):
    path = tmp_path / "images.csv"
    path.write_text("image,scene\nc.jpg,1\na.jpg,2\nb.jpeg,1\ntest.jpg,\n")
    assert read_groups(["a.jpg", "c.jpg"], "scene", path) == ["2", "1"]
    wrong = r"images.csv \(folds.table\): no scene for b.jpg \(nearest: b.jpeg, c.jpg\), 1 of 2 training images: each"
    with pytest.raises(DatasetError, match=wrong):
        read_groups(["a.jpg", "b.jpg"], "scene", path)
    with pytest.raises(DatasetError, match=r"no scene for test.jpg .*, 1 of 1 training image: .* must not be empty"):
        read_groups(["test.jpg"], "scene", path)


def test_ones_own_split_is_taken_as_it_is_or_all_that_lacks_is_said():
    images, _ = simulate(6, 2, 0, copies=0)
    names = images["image"].tolist()
    split = dict(zip(reversed(names), [2, 1, 0, 0, 1, 1], strict=True)) | {"other.jpg": 0}
    test = images.head(1).assign(split="test", image="t.jpg")
    taken = take_split(pd.concat([test, images]), split, count=3, of="mine.tsv")
    assert taken.to_dict("list") == {"image": names, "fold": [1, 1, 0, 0, 1, 2]}
    del split[names[1]], split[names[5]]
    with pytest.raises(DatasetError, match=r"mine.tsv .*no fold for .*, 2 of 6 training images.*; .* none in 2, 3$"):
        take_split(images, split, count=4, of="mine.tsv")


def described(images, fold, groups=None):
    folds = pd.DataFrame({"image": images["image"], "fold": fold})
    return describe_split(images, folds, classes=CLASSES, groups=groups)


def test_how_even_a_split_is_is_counted_from_the_split():
    images, groups = simulate(200, 20, 1, copies=0)
    folds = make_folds(images, classes=CLASSES, count=5, seed=0, groups=groups)
    split = described(images, folds["fold"], groups)
    assert max(map(split.difference, CLASSES)) == pytest.approx(difference(images, folds["fold"]))
    assert split.images == np.bincount(folds["fold"]).tolist()
    assert sum(split.groups) == len(set(groups))
    assert f"{difference(images, folds['fold']):.3f} between folds" in split.summary
    assert split.remarks == []


def test_what_ones_own_split_parts_is_said():
    images, _ = simulate(6, 2, 0, copies=0)
    images.loc[[0, 5], "digest"] = "same"
    a, _, _, _, _, f = images["image"]
    remarks = described(images, [0, 1, 0, 1, 0, 1]).remarks
    assert len(remarks) == 1
    assert remarks[0].startswith(
        f"1 picture is on both sides of the split, {a} and {f} (folds 0, 1): a network has seen"
    )
    remarks = described(images, [0, 0, 1, 1, 2, 0], list("xxyyzz")).remarks
    assert len(remarks) == 1
    assert remarks[0].startswith("1 of 3 groups is on both sides of the split, z (folds 0, 2): ")
    assert len(described(images, [0, 1, 0, 1, 0, 1], list("xxyyzz")).remarks) == 2


def test_a_group_larger_than_a_fold_and_groups_that_are_joined_are_said():
    images, _ = simulate(10, 2, 0, copies=0)
    groups = list("aaaaaabbcd")
    folds = make_folds(images, classes=CLASSES, count=4, seed=0, groups=groups)["fold"]
    assert described(images, folds, groups).remarks == [
        "a holds 6 of 10 images, more than the 3 of an even fold: the folds cannot be of one size"
    ]
    images.loc[[6, 8], "digest"] = "same"
    folds = make_folds(images, classes=CLASSES, count=3, seed=0, groups=groups)["fold"]
    assert described(images, folds, groups).remarks == [
        "groups that share a picture are in one fold: b and c",
        "a holds 6 of 10 images, more than the 4 of an even fold: the folds cannot be of one size",
    ]


def test_the_facts_of_a_split_are_read_as_they_were_written(tmp_path):
    images, groups = simulate(60, 12, 1)
    for given in (groups, None):
        split = described(images, make_folds(images, classes=CLASSES, count=3, seed=0)["fold"], given)
        split.write(tmp_path / "split.json")
        assert Split.read(tmp_path / "split.json") == split
    assert json.loads((tmp_path / "split.json").read_text())["groups"] is None
