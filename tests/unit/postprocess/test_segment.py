import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import (
    ORDERS,
    PATTERNS,
    cut_mask,
    large_components,
    large_components_by_opencv,
    lay_out,
    patient,
    pattern,
    planes,
    smooth_plane,
    text_of,
)

from cloudseg.postprocess import NOTHING, Cut, level, segment


def expected(probabilities, levels, min_sizes):
    return [
        text_of(large_components(plane >= least, size))
        for image in probabilities
        for plane, least, size in zip(image, levels, min_sizes, strict=True)
    ]


@patient
@given(planes(), st.integers(0, 255), st.integers(0, 300), st.sampled_from(ORDERS))
def test_one_plane(plane, least, min_size, order):
    probabilities = lay_out(plane[None, None], order)
    assert segment(probabilities, least / 255, min_size) == expected([[plane]], [least], [min_size])


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (63, 70), (64, 64), (65, 63), (192, 129)])
@pytest.mark.parametrize("order", ["C", "Fortran"])
def test_hard_patterns(name, shape, order):
    plane = pattern(name, *shape) * np.uint8(200)
    for min_size in (0, 2, int(np.count_nonzero(plane)), plane.size + 1):
        got = segment(lay_out(plane[None, None], order), 0.5, min_size)
        assert got == expected([[plane]], [128], [min_size])


def test_every_level_of_a_plane():
    plane = smooth_plane(np.random.default_rng(1), (65, 63), noise=0.1)
    plane.flat[:256] = np.arange(256)
    probabilities = np.broadcast_to(plane, (1, 256, *plane.shape))
    thresholds = np.arange(256) / 255
    assert [level(t) for t in thresholds] == list(range(256))
    wanted = expected(probabilities, range(256), [v % 30 for v in range(256)])
    assert segment(probabilities, thresholds, np.arange(256) % 30) == wanted
    assert segment(probabilities, levels=np.arange(256), min_sizes=np.arange(256) % 30) == wanted
    assert [text_of(Cut(v, v % 30).mask(plane)) for v in range(256)] == wanted


BYTES, AREAS = st.integers(0, 255), st.integers(0, 300)


@patient
@given(planes(), BYTES, AREAS, BYTES, BYTES, st.integers(0, 5000), st.sampled_from(ORDERS))
def test_the_text_of_a_plane_is_that_of_its_cut(plane, least, min_size, high, top_level, top_area, order):
    probabilities = lay_out(plane[None, None], order)
    got = segment(probabilities, levels=least, min_sizes=min_size, highs=high, top_levels=top_level, top_areas=top_area)
    assert got == [text_of(cut_mask(plane, least, min_size, high, top_level, top_area))]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (63, 70), (64, 64), (65, 63), (192, 129)])
@pytest.mark.parametrize("order", ["C", "Fortran"])
def test_hard_patterns_with_seeds(name, shape, order):
    plane = pattern(name, *shape) * np.uint8(200)
    plane[:: max(shape[0] // 5, 1), :: max(shape[1] // 3, 1)] += 50  # on the pattern and beside it
    got = segment(lay_out(plane[None, None], order), levels=200, min_sizes=2, highs=250)
    assert got == [text_of(cut_mask(plane, 200, 2, 250))]
    area = int((plane >= 200).sum())
    got = [segment(lay_out(plane[None, None], order), levels=50, top_levels=200, top_areas=area + n) for n in (0, 1)]
    assert got == [[text_of(plane > 0)], [""]]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("threads", [None, 3])
def test_each_plane_has_its_level_and_each_class_its_cut(order, threads):
    rng = np.random.default_rng(6)
    probabilities = np.stack([[smooth_plane(rng, (70, 90), 3, 0.2) for _ in range(3)] for _ in range(25)])
    levels = rng.choice([0, 1, 60, 128, 255, NOTHING], (25, 3))
    rules = {"min_sizes": [3, 0, 40], "highs": [200, 0, 150], "top_levels": [0, 180, 255], "top_areas": [0, 900, 0]}
    got = segment(lay_out(probabilities, order), levels=levels, threads=threads, **rules)
    each = list(zip(*rules.values(), strict=True))
    assert got == [text_of(cut_mask(probabilities[n, c], levels[n, c], *each[c])) for n in range(25) for c in range(3)]


@pytest.mark.parametrize("shape", [(350, 525), (1400, 2100), (3200, 3200)])
@pytest.mark.parametrize("order", ["C", "Fortran"])
@pytest.mark.parametrize("noise", [0, 0.2])
def test_planes_of_many_digits(shape, order, noise):
    plane = smooth_plane(np.random.default_rng(shape[0]), shape, 20, noise)
    mask = large_components_by_opencv(plane >= 128, 50)
    assert segment(lay_out(plane[None, None], order), 0.5, 50) == [text_of(mask)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("threads", [None, 1, 2, 7])
def test_many_images_and_classes(order, threads):
    rng = np.random.default_rng(5)
    probabilities = np.stack([[smooth_plane(rng, (70, 90), 3, 0.2) for _ in range(3)] for _ in range(9)])
    got = segment(lay_out(probabilities, order), [0.5, 0.3, 0.7], [3, 0, 40], threads=threads)
    assert got == expected(probabilities, [128, 77, 179], [3, 0, 40])


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (2, 0, 5, 6), (2, 3, 0, 6), (2, 3, 6, 0)])
def test_nothing_to_segment(shape):
    assert segment(np.zeros(shape, np.uint8), 0.5, 0) == [""] * (shape[0] * shape[1])


def test_level():
    assert [level(v / 255) for v in range(256)] == list(range(256))
    for t in np.arange(0, 1001) / 1000:
        exact = -(-255 * round(t * 1000) // 1000)
        assert level(float(t)) == exact
    assert level(np.float32(0.5)) == 128
    assert isinstance(level(0.3), int)


P = np.zeros((2, 3, 4, 5), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((P.astype(np.float32), 0.5, 0), TypeError, "uint8.*float32"),
        ((P[0], 0.5, 0), ValueError, r"\(3, 4, 5\)"),
        ((P.tolist(), 0.5, 0), TypeError, "list"),
        ((P, float("nan"), 0), ValueError, "nan"),
        ((P, 1.01, 0), ValueError, "1.01"),
        ((P, -0.1, 0), ValueError, "-0.1"),
        ((P, "0.5", 0), TypeError, "'0.5'"),
        ((P, [0.5, 0.5], 0), ValueError, "3 .one per class.*2"),
        ((P, 0.5, -1), ValueError, "-1"),
        ((P, 0.5, 2.5), TypeError, "2.5"),
        ((P, 0.5, [1, 2]), ValueError, "3 .one per class.*2"),
        ((P, 0.5, [[1, 2, 3]]), ValueError, r"\(1, 3\)"),
        ((P, [[0.5] * 3], 0), ValueError, r"\(1, 3\)"),
        ((np.broadcast_to(np.uint8(0), (1, 1, 50000, 50000)), 0.5, 0), ValueError, "too large"),
    ],
)
def test_wrong_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        segment(*arguments)
    with pytest.raises(ValueError, match="threads"):
        segment(P, 0.5, 0, threads=0)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({}, TypeError, "either thresholds or levels, got neither"),
        ({"thresholds": 0.5, "levels": 128}, TypeError, "either thresholds or levels, got both"),
        ({"levels": 0.5}, TypeError, "levels: expected a whole number, got 0.5"),
        ({"levels": 256}, ValueError, "levels: expected whole numbers in 0..255, got 256"),
        ({"levels": [128, -1, 0]}, ValueError, "-1"),
        ({"levels": [128, 127]}, ValueError, "levels.*3 .one per class.*2"),
        ({"levels": np.full((3, 2), 128)}, ValueError, r"levels: expected shape \(2, 3\), one per plane, got \(3, 2\)"),
        ({"levels": np.full((2, 3), 257)}, ValueError, "levels: expected whole numbers in 0..256, got 257 to 257"),
        ({"levels": np.full((2, 3), -1)}, ValueError, "levels: expected whole numbers in 0..256, got -1 to -1"),
        ({"levels": np.full((2, 3), 0.5)}, TypeError, "levels: expected whole numbers, got dtype float64"),
        ({"levels": 128, "highs": 256}, ValueError, "highs: expected whole numbers in 0..255, got 256"),
        ({"levels": 128, "highs": [1, 2]}, ValueError, "highs.*3 .one per class.*2"),
        ({"levels": 128, "top_levels": -1}, ValueError, "top_levels: expected at least 0, got -1"),
        ({"levels": 128, "top_areas": 0.5}, TypeError, "top_areas: expected a whole number, got 0.5"),
    ],
)
def test_wrong_levels(settings, error, match):
    with pytest.raises(error, match=match):
        segment(P, **settings)


@pytest.mark.parametrize(
    ("level", "min_size", "error", "match"),
    [
        (0.5, 0, TypeError, "level: expected a whole number, got 0.5"),
        (256, 0, ValueError, "level: expected a whole number in 0..255, got 256"),
        (-1, 0, ValueError, "level: expected at least 0, got -1"),
        (128, -1, ValueError, "min_size: expected at least 0, got -1"),
        (128, None, TypeError, "min_size: expected a whole number, got None"),
    ],
)
def test_wrong_cuts(level, min_size, error, match):
    with pytest.raises(error, match=match):
        Cut(level, min_size)


PROCESS = """
import numpy as np
from cloudseg.postprocess import segment
from cloudseg.postprocess.segment import segment_planes
plane = np.arange(70 * 80, dtype=np.uint32).reshape(1, 1, 70, 80) * 2654435761 >> 24
print(hash(tuple(segment(plane.astype(np.uint8), 0.6, 2))), segment_planes.cache_misses())
"""


def test_jobs_that_start_at_once_share_one_compilation(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": "0"}

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    first = [start() for _ in range(4)]
    answers = [process.communicate(timeout=300) for process in first]
    assert [process.returncode for process in first] == [0] * 4, answers
    results, misses = zip(*(out.split() for out, _ in answers), strict=True)
    assert len(set(results)) == 1
    assert sorted(misses) == ["0", "0", "0", "1"]
    later = start()
    assert later.communicate(timeout=300)[0].split() == [results[0], "0"]
