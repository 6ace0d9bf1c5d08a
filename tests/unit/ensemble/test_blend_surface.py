"""The surface of a blend: the Dice of every level and minimum size, against OpenCV."""

import numpy as np
import pytest
from small_stores import CLASSES, SIZE, dice_by_hand, member, planes, write

from cloudseg.ensemble import blended
from cloudseg.ensemble.blended import Blended, OutOfFold
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


@pytest.mark.parametrize("images", [1, 3])
def test_no_more_images_are_read_at_once_than_their_bytes_allow(tmp_path, monkeypatch, images):
    ids = [f"{number}.jpg" for number in range(9)]
    block = planes(3, 9)
    valid = write(tmp_path / "valid.zarr", block, ids, fold=[0] * 2 + [1] * 7)
    truth = write(tmp_path / "truth.zarr", planes(4, 9)[::-1] // 128, ids[::-1])
    write_surface(valid, truth, tmp_path / "whole.zarr", folds=[1, 0], min_sizes=[0, 10])
    bytes_of_image = 2 * len(CLASSES) * SIZE[0] * SIZE[1]  # and of its truth
    monkeypatch.setattr(blended, "BLOCK_BYTES", (images + 1) * bytes_of_image - 1)
    read = list(OutOfFold(Blended(valid), truth).blocks([1, 0]))
    assert max(len(each.planes) for each in read) == images
    assert [each.fold for each in read] == sorted((each.fold for each in read), reverse=True)
    assert np.array_equal(np.concatenate([each.planes for each in read]), block[[*range(2, 9), 0, 1]])
    assert np.array_equal(np.concatenate([each.truth for each in read]), (planes(4, 9) // 128)[[*range(2, 9), 0, 1]])
    write_surface(valid, truth, tmp_path / "few.zarr", folds=[1, 0], min_sizes=[0, 10])
    whole, few = (read_surface(tmp_path / f"{name}.zarr") for name in ("whole", "few"))
    assert whole[1].tolist() == few[1].tolist() == [7, 2]
    np.testing.assert_allclose(few[0], whole[0], rtol=0, atol=1e-12)
