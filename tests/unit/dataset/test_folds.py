import hashlib
import itertools
import runpy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cloudseg.dataset.folds import make_folds, read_weights
from cloudseg.storage.files import write_table

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
RATES = (0.50, 0.43, 0.53, 0.66)


def simulate(count: int, seed: int, rates=RATES, copies: float = 0.01) -> tuple[pd.DataFrame, list[str]]:
    """Images with the contest's rates, each with at least one class; a few have the bytes of another."""
    rng = np.random.default_rng(seed)
    classes = [f"class{index}" for index in range(len(rates))] if rates != RATES else CLASSES
    holds = rng.random((count, len(rates))) < np.array(rates)
    empty = ~holds.any(axis=1)
    holds[empty, rng.integers(0, len(rates), empty.sum())] = True
    original = np.arange(count)
    copied = rng.random(count) < copies
    original[copied] = rng.integers(0, count, copied.sum())
    images = pd.DataFrame({"image": [f"{index:05}.jpg" for index in range(count)], "split": "train"})
    images["digest"] = [f"digest{index}" for index in original]
    for column, name in enumerate(classes):
        images[name] = holds[original, column] * rng.integers(1, 10**6, count)
    return images, classes


def spread(images: pd.DataFrame, folds: pd.DataFrame, classes: list[str]) -> float:
    held = images[classes].gt(0).groupby(folds["fold"].to_numpy()).mean()
    return float((held.max() - held.min()).max())


@pytest.mark.parametrize(
    ("count", "folds", "most"), [(100, 2, 0.06), (100, 5, 0.16), (1000, 5, 0.02), (5546, 5, 0.005)]
)
def test_class_rates_are_alike(count, folds, most):
    for seed in range(3):
        images, classes = simulate(count, seed)
        split = make_folds(images, classes=classes, count=folds, seed=seed)
        sizes = split["fold"].value_counts()
        assert sorted(sizes.index) == list(range(folds))
        assert sizes.max() - sizes.min() <= 3
        assert spread(images, split, classes) <= most


def test_better_than_scikit_learn_on_many_rare_sets():
    from sklearn.model_selection import StratifiedGroupKFold

    images, classes = simulate(600, 0, rates=tuple(np.linspace(0.01, 0.5, 20)))
    split = make_folds(images, classes=classes, count=5, seed=0)
    sets = images[classes].gt(0).astype(int).astype(str).agg("".join, axis=1)
    sets = sets.where(sets.map(sets.value_counts()) >= 5, "rare")
    other = pd.DataFrame({"fold": np.zeros(len(images), int)})
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for fold, (_, valid) in enumerate(splitter.split(images, sets, images["digest"])):
        other.loc[valid, "fold"] = fold
    assert spread(images, split, classes) < spread(images, other, classes)


def test_label_sets_are_spread_not_only_classes():
    """Half the images hold A and B or neither, half one of them: rates alone could be met by a bad split."""
    rows = list(itertools.product([0, 1], [0, 1])) * 30
    images = pd.DataFrame(rows, columns=["A", "B"])
    images["image"] = images["digest"] = [f"{index}.jpg" for index in range(len(rows))]
    images["split"] = "train"
    split = make_folds(images, classes=["A", "B"], count=3, seed=1)
    table = images.assign(fold=split["fold"]).groupby(["A", "B", "fold"]).size()
    assert (table == 10).all()


@pytest.mark.parametrize("count", [2, 5])
def test_the_same_bytes_land_in_the_same_fold(count):
    images, classes = simulate(200, 3, copies=0.3)
    split = make_folds(images, classes=classes, count=count, seed=0)
    per_picture = split.groupby(images["digest"])["fold"].nunique()
    assert (per_picture == 1).all()
    assert images["digest"].duplicated().sum() > 20


def test_the_seed_decides_and_the_order_of_rows_is_kept():
    images, classes = simulate(100, 0)
    one, again, other = (make_folds(images, classes=classes, count=5, seed=seed) for seed in (7, 7, 8))
    pd.testing.assert_frame_equal(one, again)
    assert not one["fold"].equals(other["fold"])
    assert list(one["image"]) == list(images["image"])
    assert list(one.columns) == ["image", "fold"]


def test_test_images_and_missing_areas_do_not_take_part():
    images, classes = simulate(20, 0)
    test = images.head(5).assign(split="test", image=lambda t: "test" + t["image"], digest="same")
    test[classes] = None
    both = pd.concat([images, test]).astype(dict.fromkeys(classes, "Int64"))
    split = make_folds(both, classes=classes, count=4, seed=0)
    pd.testing.assert_frame_equal(split, make_folds(images, classes=classes, count=4, seed=0))


@pytest.mark.parametrize("labels", ["none", "all", "unique"])
def test_odd_labels_still_fill_every_fold(labels):
    images, _ = simulate(7, 0, copies=0)
    holds = {"none": np.zeros((7, 4)), "all": np.ones((7, 4)), "unique": np.eye(7)[:, :4]}[labels]
    images[CLASSES] = holds.astype(int)
    for count in (2, 7):
        split = make_folds(images, classes=CLASSES, count=count, seed=0)
        assert split["fold"].nunique() == count
        assert split["fold"].value_counts().max() <= -(-7 // count)


@pytest.mark.parametrize("count", [-1, 0, 1, 8])
def test_a_count_out_of_range_is_refused(count):
    images, classes = simulate(7, 0, copies=0)
    with pytest.raises(ValueError, match=f"expected 2 to 7, .* got {count}"):
        make_folds(images, classes=classes, count=count, seed=0)


def test_copies_do_not_count_towards_the_number_of_folds():
    images, classes = simulate(4, 0, copies=0)
    images["digest"] = ["a", "a", "b", "b"]
    assert make_folds(images, classes=classes, count=2, seed=0)["fold"].nunique() == 2
    with pytest.raises(ValueError, match=r"different training images \(of 4\), got 3"):
        make_folds(images, classes=classes, count=3, seed=0)


def test_without_weights_the_folds_are_those_of_version_0_1():
    """A split that changes costs every training: the folds of a seed are for ever."""
    content = hashlib.sha256()
    for images, seed, folds in ((100, 0, 5), (37, 1, 2), (600, 2, 5)):
        table, classes = simulate(images, seed)
        content.update(make_folds(table, classes=classes, count=folds, seed=seed).to_csv().encode())
    assert content.hexdigest() == "c587096f87f1d831a81411cda69f9967b466d86cad2f436d49d1786bb1a9f685"


@pytest.mark.parametrize("count", [60, 600])
def test_weights_are_spread_evenly_and_classes_stay_so(count):
    for seed in range(3):
        images, classes = simulate(count, seed)
        weights = dict(zip(images["image"], np.random.default_rng(seed).lognormal(size=count), strict=True))
        third = pd.qcut([weights[image] for image in images["image"]], 3, labels=False)
        split = make_folds(images, classes=classes, count=5, seed=seed, weights=weights)
        counts = pd.crosstab(third, split["fold"].to_numpy())
        assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 2
        plain = pd.crosstab(third, make_folds(images, classes=classes, count=5, seed=seed)["fold"].to_numpy())
        assert (plain.max(axis=1) - plain.min(axis=1)).max() > 2
        assert spread(images, split, classes) <= {60: 0.25, 600: 0.03}[count]
        sizes = split["fold"].value_counts()
        assert sizes.max() - sizes.min() <= 3


def test_equal_weights_say_nothing():
    images, classes = simulate(50, 0)
    split = make_folds(images, classes=classes, count=5, seed=0, weights=dict.fromkeys(images["image"], 1.0))
    pd.testing.assert_frame_equal(split, make_folds(images, classes=classes, count=5, seed=0))


@pytest.mark.parametrize("wrong", [{}, {"00003.jpg": np.nan}])
def test_an_image_without_a_weight_is_named(wrong):
    images, classes = simulate(10, 0)
    weights = {image: 1.0 for image in images["image"] if image != "00003.jpg"} | wrong
    with pytest.raises(ValueError, match=r"no weight for 00003.jpg \(1 of 10 training images\)"):
        make_folds(images, classes=classes, count=2, seed=0, weights=weights)


def test_the_entry_reads_the_weights_of_the_rule_shift(repo, tmp_path):
    images, classes = simulate(30, 0, copies=0)
    scores = images[["image", "split"]].assign(score=0.5, weight=np.arange(30) / 14.5)
    test = pd.DataFrame({"image": ["t.jpg"], "split": "test", "score": 0.5, "weight": None})
    write_table(pd.concat([scores, test]), tmp_path / "scores.tsv")
    weights = read_weights(tmp_path / "scores.tsv")
    assert weights == dict(zip(images["image"], np.arange(30) / 14.5, strict=True))
    write_table(images.assign(height=4, width=4, labels="")[["image", "split", "height", "width", "digest", "labels",
                                                             *classes]], tmp_path / "train.tsv")  # fmt: skip
    for inputs, expected in (({"weights": tmp_path / "scores.tsv"}, weights), ({"weights": []}, None), ({}, None)):
        job = SimpleNamespace(
            log=[str(tmp_path / "job.log")],
            input=type("Input", (dict,), {"images": tmp_path / "train.tsv"})(inputs),
            output=SimpleNamespace(folds=tmp_path / "folds.tsv"),
            params=SimpleNamespace(classes=classes, folds=3, seed=0),
        )
        runpy.run_path(str(repo / "scripts/folds.py"), {"snakemake": job}, "__main__")
        written = pd.read_csv(tmp_path / "folds.tsv", sep="\t")
        pd.testing.assert_frame_equal(
            written, make_folds(images, classes=classes, count=3, seed=0, weights=expected), check_dtype=False
        )


def test_a_table_without_weights_is_refused(tmp_path):
    (tmp_path / "scores.tsv").write_text("image\tsplit\n")
    with pytest.raises(ValueError, match=r"scores\.tsv: has no column weight; run the rule shift again"):
        read_weights(tmp_path / "scores.tsv")
