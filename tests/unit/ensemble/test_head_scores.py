"""How well heads and planes say whether a class is there, against ranks and counts in plain NumPy."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import patient
from small_stores import CLASSES, SIZE, planes, write
from test_whether import write_values

from cloudseg.ensemble.head_scores import Head, head_scores, measures
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.errors import StoreError

TOP = 57  # of 600 pixels


def auc_by_ranks(has, scores):
    """The rank sum of Mann and Whitney, with mean ranks of ties."""
    ranks = np.array([(scores < one).sum() + ((scores == one).sum() + 1) / 2 for one in scores])
    positives = has.sum()
    return (ranks[has].sum() - positives * (positives + 1) / 2) / (positives * (~has).sum())


def ap_by_hand(has, scores):
    """The step sum of precision over recall, threshold by threshold."""
    total, before = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        called = scores >= threshold
        recall = (called & has).sum() / has.sum()
        total += (recall - before) * (called & has).sum() / called.sum()
        before = recall
    return total


@patient
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=40))
def test_auc_and_average_precision_are_those_of_ranks_and_counts(drawn):
    has, scores = (np.array(column) for column in zip(*drawn, strict=True))
    found = measures(has[:, None], scores[:, None], np.zeros(len(has), int))
    if has.all() or not has.any():
        assert all(np.isnan(cells).all() for cells in found.values())
        return
    assert found["auc"] == pytest.approx([auc_by_ranks(has, scores)] * 2)
    assert found["ap"] == pytest.approx([ap_by_hand(has, scores)] * 2)
    assert np.isnan(found["auc_sd"]).all()  # of a single fold


@pytest.fixture
def made(tmp_path):
    """Truth of eleven images, and what two networks say of their folds of six and five, in an order of their own."""
    random = np.random.default_rng(1)
    ids = [f"{number}.jpg" for number in range(11)]
    truth = np.zeros((11, 2, *SIZE), np.uint8)
    truth[[0, 2, 3, 7, 8], 0, 4:6, 5] = 1
    truth[[1, 2, 5, 9], 1, 0, 0] = 1
    write(tmp_path / "truth.zarr", truth, ids)
    folds = [[5, 0, 3, 1, 2, 4], [10, 7, 6, 8, 9]]
    values = [random.integers(0, 5, (len(fold), 2)).astype(np.uint8) for fold in folds]
    blocks = [planes(number, len(fold)) for number, fold in enumerate(folds)]
    for number, fold in enumerate(folds):
        named = [ids[row] for row in fold]
        write_values(tmp_path / f"values{number}.zarr", values[number], named)
        write(tmp_path / f"planes{number}.zarr", blocks[number], named)
    return tmp_path, truth.any(axis=(2, 3)), folds, values, blocks


def measured(folder, *, with_planes=True, **more):
    stores = {name: [folder / f"{name}{fold}.zarr" for fold in (0, 1)] for name in ("values", "planes")}
    head = Head({"decoder": "fpn", "folds": 2}, stores["values"], stores["planes"] if with_planes else [])
    return head_scores(
        [head], folder / "truth.zarr", score=lambda pixels: PlaneScore("top", TOP * pixels // 600), **more
    )


def test_folds_are_pooled_and_their_spread_is_that_of_each_alone(made):
    folder, has, folds, values, blocks = made
    table = measured(folder).set_index("class")
    tops = [np.sort(block.reshape(*block.shape[:2], -1))[:, :, -TOP:].mean(axis=2) for block in blocks]
    every = np.concatenate(folds)
    for number, name in enumerate(CLASSES):
        for prefix, said in (("", values), ("plane_", tops)):
            for measure, oracle in (("auc", auc_by_ranks), ("ap", ap_by_hand)):
                pooled = oracle(has[every, number], np.concatenate(said)[:, number])
                alone = [oracle(has[fold, number], one[:, number]) for fold, one in zip(folds, said, strict=True)]
                assert table.loc[name, f"{prefix}{measure}"] == pytest.approx(pooled)
                assert table.loc[name, f"{prefix}{measure}_sd"] == pytest.approx(np.std(alone, ddof=1))
    assert table.loc[CLASSES, "positives"].tolist() == [5, 4]
    assert table.loc["Fish", "prevalence"] == pytest.approx(5 / 11)
    assert table.loc["all", "auc"] == pytest.approx(table.loc[CLASSES, "auc"].mean())
    assert set(table["remark"]) == {""}
    assert set(table["decoder"]) == {"fpn"}
    pd.testing.assert_frame_equal(measured(folder, threads=3).set_index("class"), table)


def test_a_network_without_planes_has_no_figures_of_any(made):
    folder, *_ = made
    table = measured(folder, with_planes=False)
    assert table[["plane_auc", "plane_auc_sd", "plane_ap", "plane_ap_sd"]].isna().all(axis=None)
    pd.testing.assert_series_equal(table["auc"], measured(folder)["auc"])


def test_where_there_is_nothing_to_tell_apart_it_is_said(made):
    folder, _, folds, *_ = made
    truth = np.zeros((11, 2, *SIZE), np.uint8)
    truth[folds[0][:2], 1, 0, 0] = 1
    write(folder / "another.zarr", truth, [f"{number}.jpg" for number in range(11)])
    (folder / "truth.zarr").rename(folder / "first.zarr")
    (folder / "another.zarr").rename(folder / "truth.zarr")
    table = measured(folder).set_index("class")
    assert np.isnan(table.loc["Fish", "auc"])
    assert table.loc["Fish", "remark"] == "no image has it"
    assert table.loc["Flower", "remark"] == "1 of 2 folds have both kinds of images"
    assert np.isnan(table.loc["Flower", "auc_sd"])
    assert table.loc["all", "auc"] == table.loc["Flower", "auc"]


def test_planes_of_other_images_are_refused(made):
    folder, *_ = made
    (folder / "planes0.zarr").rename(folder / "first.zarr")
    (folder / "planes1.zarr").rename(folder / "planes0.zarr")
    (folder / "first.zarr").rename(folder / "planes1.zarr")
    with pytest.raises(StoreError, match="holds other images than"):
        measured(folder)


def test_an_image_without_truth_is_refused(made):
    folder, *_ = made
    write_values(folder / "values2.zarr", np.zeros((1, 2), np.uint8), ["unknown.jpg"])
    head = Head({}, [folder / "values2.zarr"])
    with pytest.raises(StoreError, match=r"has no truth for unknown\.jpg"):
        head_scores([head], folder / "truth.zarr", score=lambda pixels: PlaneScore("top", 1))
