from decimal import Decimal, localcontext
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import ORDERS, lay_out, patient

from cloudseg.postprocess import blend

HALF = Fraction(1, 2)


@st.composite
def members(draw, most=9):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(1,), (63,), (64,), (65,), (255,), (256,), (257,), (3, 41), (2, 3, 5, 7), (600,)]))
    top = draw(st.sampled_from([2, 256]))
    values = rng.integers(0, top, (draw(st.integers(1, most)), *shape)).astype(np.uint8)
    return values * np.uint8(255) if top == 2 else values


def rational(values, weights):
    """Return the weighted mean of each column of values (M, ...) as fractions."""
    weights = [Fraction(w) for w in weights]
    flat = values.reshape(len(values), -1).T.tolist()
    return [sum(w * v for w, v in zip(weights, column, strict=True)) / sum(weights) for column in flat]


@patient
@given(members(), st.floats(1e-300, 1e300), st.integers(1, 3))
def test_equal_weights_are_exact(values, weight, threads):
    expected = [floor(mean + HALF) for mean in rational(values, [1] * len(values))]
    for weights in (None, [weight] * len(values)):
        mean = blend(values, weights=weights, threads=threads)
        assert mean.dtype == np.uint8
        assert mean.shape == values.shape[1:]
        assert mean.ravel().tolist() == expected


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 8, 12, 13, 64, 100, 255, 256, 257, 300])
def test_every_sum_of_any_number_of_members(count):
    sums = np.arange(255 * count + 1)
    rows = np.stack([(sums + i) // count for i in range(count)]).astype(np.uint8)
    assert (rows.sum(0, dtype=np.int64) == sums).all()
    assert (blend(rows) == (2 * sums + count) // (2 * count)).all()


@patient
@given(members(), st.data())
def test_any_weights_are_within_one_level(values, data):
    weights = data.draw(st.lists(st.floats(0, 1e6), min_size=len(values), max_size=len(values)).filter(any))
    got = blend(list(values), weights=weights).ravel().tolist()
    assert all(abs(g - floor(mean + HALF)) <= 1 for g, mean in zip(got, rational(values, weights), strict=True))
    assert blend(list(values), weights=weights, threads=3).ravel().tolist() == got


@patient
@given(members(3), st.sampled_from([0.5, 0.25, 1.0, 2.0, 0.3, 5.5]), st.booleans(), st.data())
def test_sharpened(values, power, equal, data):
    count = len(values)
    drawn = data.draw(st.lists(st.floats(0.01, 100), min_size=count, max_size=count))
    weights = [1.0] * count if equal else drawn
    got = blend(values, weights=weights, sharpen=power).ravel().tolist()
    with localcontext(prec=40):
        table = [Fraction((Decimal(v) / 255) ** Decimal(power)) * 255 for v in range(256)]
    columns = values.reshape(count, -1).T.tolist()
    total = sum(map(Fraction, weights))
    for g, column in zip(got, columns, strict=True):
        mean = sum(Fraction(w) * table[v] for w, v in zip(weights, column, strict=True)) / total
        error = abs(g - mean)
        assert error <= (Fraction(501, 1000) if equal else 1), (g, float(mean))


def test_sharpened_keeps_the_ends_and_the_ties():
    for count in range(1, 20):
        rows = (np.arange(count + 1) > np.arange(count)[:, None]).astype(np.uint8) * np.uint8(255)
        sums = 255 * np.arange(count + 1)
        for power in (0.5, 0.7, 3.0):
            assert (blend(rows, sharpen=power) == (2 * sums + count) // (2 * count)).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("settings", [{}, {"weights": [1, 2, 3]}, {"sharpen": 0.5}, {"sharpen": 0.9}])
def test_memory_orders_and_out(order, settings):
    values = np.random.default_rng(1).integers(0, 256, (3, 4, 33, 35), np.uint8)
    expected = blend(values, **settings)
    mixed = [values[0], lay_out(values[1], order), values[2]]
    assert (blend([lay_out(v, order) for v in values], **settings) == expected).all()
    assert (blend(lay_out(values, order), **settings) == expected).all()
    assert (blend(mixed, **settings) == expected).all()
    if order != "read-only":
        out = lay_out(np.zeros_like(values[0]), order)
        assert blend(mixed, out=out, **settings) is out
        assert (out == expected).all()


def test_out_may_be_a_member():
    values = np.random.default_rng(1).integers(0, 256, (3, 5000), np.uint8)
    expected = blend(values)
    assert (blend(values, out=values[1]) == expected).all()


@pytest.mark.parametrize("settings", [{}, {"weights": [1, 2, 0.5]}, {"sharpen": 0.5}, {"sharpen": 0.9}])
def test_threads_change_nothing(settings):
    values = np.random.default_rng(1).integers(0, 256, (3, 400_001), np.uint8)
    once = blend(values, **settings)
    for threads in (2, 5):
        assert (blend(values, threads=threads, **settings) == once).all()


def test_weight_of_zero_leaves_a_member_out():
    values = np.random.default_rng(1).integers(0, 256, (3, 999), np.uint8)
    assert (blend(values, weights=[2, 0, 2]) == blend(values[::2])).all()


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_nothing_to_blend(shape):
    assert blend(np.zeros((2, *shape), np.uint8)).shape == shape


A = np.zeros((2, 3), np.uint8)


@pytest.mark.parametrize(
    ("members", "settings", "error", "match"),
    [
        ([], {}, ValueError, "at least one"),
        ([A, A.astype(float)], {}, TypeError, r"members\[1\].*float64"),
        ([A, A[:1]], {}, ValueError, r"members\[1\].*\(2, 3\).*\(1, 3\)"),
        ([A, [1]], {}, TypeError, "list"),
        ([A, A], {"weights": [1]}, ValueError, "expected 2"),
        ([A, A], {"weights": [1, -1]}, ValueError, "-1"),
        ([A, A], {"weights": [0, 0]}, ValueError, "not all 0"),
        ([A, A], {"weights": [1, float("nan")]}, ValueError, "nan"),
        ([A, A], {"weights": [1, float("inf")]}, ValueError, "inf"),
        ([A, A], {"sharpen": 0}, ValueError, "above 0"),
        ([A, A], {"sharpen": float("nan")}, ValueError, "nan"),
        ([A, A], {"sharpen": "x"}, TypeError, "'x'"),
        ([A, A], {"out": A[:1]}, ValueError, "out"),
        ([A, A], {"out": A.astype(float)}, TypeError, "float64"),
        ([A, A], {"threads": 0}, ValueError, "threads"),
    ],
)
def test_wrong_arguments(members, settings, error, match):
    with pytest.raises(error, match=match):
        blend(members, **settings)


def test_read_only_out():
    out = A.copy()
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        blend([A, A], out=out)
