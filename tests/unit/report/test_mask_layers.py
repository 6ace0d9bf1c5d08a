"""Layers: pixels that are seen are those that are counted, and a large grid is thinned out."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from cloudseg.report import layers
from cloudseg.report.colours import rgb


def values(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_verdict_holds_mask_and_truth_to_the_pixel():
    random = np.random.default_rng(3)
    for _ in range(20):
        mask, truth = random.integers(0, 2, (2, 35, 52), dtype=np.uint8)
        mask, truth = (cv2.dilate(each, np.ones((3, 3), np.uint8), iterations=2) for each in (mask & truth, truth))
        drawn = values(layers.verdict_layer(mask, truth, "#0072b2"))
        assert np.array_equal(np.isin(drawn, layers.KEPT), mask != 0)
        assert np.array_equal(np.isin(drawn, layers.TRUE), truth != 0)


def test_a_mask_is_drawn_as_it_is_in_its_colour_and_nothing_else_is():
    mask = np.zeros((40, 50), np.uint8)
    mask[5:30, 10:40] = 1
    for draw in (layers.mask_layer, layers.outline_layer):
        png = draw(mask, "#d55e00")
        assert np.array_equal(values(png) != layers.OUT, mask != 0)
        seen = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
        assert (seen[mask == 0, 3] == 0).all()
        assert {tuple(pixel) for pixel in seen[mask != 0, :3]} == {rgb("#d55e00")}
        assert (seen[15, 25, 3] < 255) and (seen[5, 10, 3] == 255)


def test_hit_missed_and_added_differ_by_more_than_colour():
    mask, truth = np.zeros((2, 60, 60), np.uint8)
    mask[:, 20:], truth[:, :40] = 1, 1
    seen = np.asarray(Image.open(io.BytesIO(layers.verdict_layer(mask, truth, "#000000"))).convert("RGBA"))[..., 3]
    missed, hit, added = seen[6:-6, 6:14], seen[6:-6, 26:34], seen[6:-6, 46:54]
    assert len(np.unique(hit)) == 1
    assert sorted(np.unique(missed)) == [0, layers.STRIPE]
    assert len(np.unique(added)) == 2
    assert (missed > 0).mean() < 0.2 < (added > layers.FILL).mean() < 0.6


def test_more_probability_covers_more():
    covers = [
        np.asarray(Image.open(io.BytesIO(layers.heat_layer(np.full((8, 8), p, np.uint8), "#009e73"))).convert("RGBA"))
        for p in (0, 15, 16, 128, 255)
    ]
    assert [int(each[0, 0, 3]) for each in covers] == sorted(int(each[0, 0, 3]) for each in covers)
    assert covers[0][0, 0, 3] == 0 and covers[-1][0, 0, 3] > 150


def test_a_large_grid_is_thinned_out():
    assert max(values(layers.mask_layer(np.ones((1400, 2100), np.uint8), "#009e73")).shape) <= layers.MOST_SIDE


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_photos_are_small_jpegs_in_the_shape_of_the_grid(mode):
    file = io.BytesIO()
    Image.new(mode, (2100, 1400)).save(file, "PNG")
    shown = Image.open(io.BytesIO(layers.photo(file.getvalue(), (350, 525), "a.png").data))
    assert (shown.format, shown.size) == ("JPEG", (400, 267))
