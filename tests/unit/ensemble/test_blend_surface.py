"""The surface of a blend: the Dice of every level and minimum size, against OpenCV."""

import pytest
from small_stores import CLASSES, SIZE, dice_by_hand, member, planes, write

from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import DecisionRule
from cloudseg.ensemble.surface import read_surface, write_surface
from cloudseg.storage import stores


def test_no_common_fold_makes_an_empty_store_and_an_empty_surface(tmp_path):
    path = write(tmp_path / "a.zarr", planes(0, 2), ["a.jpg", "b.jpg"])
    truth = write(tmp_path / "truth.zarr", planes(0, 2) // 255, ["a.jpg", "b.jpg"])
    blend_stores([path], [member("a", 0)], tmp_path / "out.zarr", folds=[], classes=CLASSES, size=SIZE)
    assert stores.read(tmp_path / "out.zarr").shape == (0, 2, *SIZE)
    write_surface(tmp_path / "out.zarr", truth, tmp_path / "surface.zarr", folds=[], min_sizes=[0, 5])
    sums, _, _, _ = read_surface(tmp_path / "surface.zarr")
    assert sums.shape == (0, 2, 256, 2)
    fixed = {"how": "fixed", "thresholds": [0.5, 0.5], "min_sizes": [5, 5], "tune_min_sizes": [0]}
    decision, scores = decide(*read_surface(tmp_path / "surface.zarr"), classes=CLASSES, rule=DecisionRule(**fixed))
    assert decision.plain()["classes"]["Fish"] == {"level": 128, "threshold": 0.502, "min_size": 5}
    assert scores.empty


def test_surface_is_dice_of_every_level_and_size(surface):
    p, g, path = surface
    sums, counts, min_sizes, folds = read_surface(path)
    assert (counts.tolist(), min_sizes, folds) == ([2, 3], [0, 10, 60], [0, 1])
    for fold, images in enumerate([[0, 1], [2, 3, 4]]):
        for c in range(2):
            for level in (1, 90, 128, 200, 255):
                for k, size in enumerate(min_sizes):
                    wanted = sum(dice_by_hand(p[i, c], g[i, c], level, size) for i in images)
                    assert sums[fold, c, level, k] == pytest.approx(wanted, abs=1e-12)
