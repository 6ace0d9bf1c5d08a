import itertools
import os
import random
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postprocess_oracles import ORDERS, PATTERNS, lay_out, patient, pattern, planes, text_of

from cloudseg.postprocess import decode_rle, encode_rle


@patient
@given(planes(), st.sampled_from(ORDERS), st.booleans())
def test_text_is_that_of_numpy(plane, order, as_bool):
    mask = plane >= 128 if as_bool else np.where(plane >= 128, plane, 0).astype(np.uint8)
    assert encode_rle(lay_out(mask, order)) == text_of(mask)


@patient
@given(planes())
def test_a_mask_comes_back(plane):
    mask = plane >= 128
    back = decode_rle(encode_rle(mask), mask.shape)
    assert back.dtype == np.uint8
    assert (back == mask).all()


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (64, 65), (127, 128)])
def test_patterns_there_and_back(name, shape):
    mask = pattern(name, *shape)
    assert encode_rle(mask) == text_of(mask)
    assert (decode_rle(text_of(mask), shape) == mask).all()


@pytest.mark.parametrize("shape", [(1400, 2100), (2100, 1400), (1000, 1000), (999, 1001), (3200, 3200)])
def test_every_number_of_digits(shape):
    mask = np.random.default_rng(shape[0]).random(shape) < 0.01
    mask[-1, ::3] = mask[0, 1::3] = True  # runs that go on in the next column
    mask[:, 70:75] = True
    text = encode_rle(mask)
    assert text == text_of(mask)
    assert (decode_rle(text, shape) == mask).all()


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0)])
def test_a_plane_without_pixels(shape):
    assert encode_rle(np.zeros(shape, np.uint8)) == ""
    assert decode_rle("", shape).shape == shape


@st.composite
def separated_runs(draw):
    """Draw ascending runs of a (height, width) plane, some of which touch, and the mask that they cover."""
    shape = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    size = shape[0] * shape[1]
    bounds = sorted(draw(st.sets(st.integers(0, size), max_size=40)))
    pairs = [(a, b) for a, b in pairwise(bounds) if draw(st.booleans())]
    flat = np.zeros(size, np.uint8)
    for a, b in pairs:
        flat[a:b] = 1
    return shape, pairs, flat.reshape(shape, order="F")


@patient
@given(separated_runs(), st.lists(st.sampled_from([" ", "  ", "\n", "\t", "\r\n", "\x0b", "\x0c"]), min_size=1))
def test_any_white_space_touching_runs_and_leading_zeros(drawn, blanks):
    shape, pairs, mask = drawn
    words = [f"{number:0{1 + i % 9}d}" for i, (a, b) in enumerate(pairs) for number in (a + 1, b - a)]
    text = "".join(word + blanks[i % len(blanks)] for i, word in enumerate(words))
    for spaced in (text, " " + text, text.strip()):
        assert (decode_rle(spaced, shape) == mask).all()
    assert decode_rle(encode_rle(mask), shape).tolist() == mask.tolist()


@pytest.mark.parametrize(
    ("rle", "pair", "why"),
    [
        ("1", 1, "no length"),
        ("1 2 5", 2, "no length"),
        ("1 2 a 5", 2, "'a'"),
        ("1 2 5 x7", 2, "'x7'"),
        ("-1 2", 1, "'-1'"),
        ("+1 2", 1, r"'\+1'"),
        ("1.0 2", 1, "'1.0'"),
        ("1_0 2", 1, "'1_0'"),
        ("1 \uff12", 1, r"'\\uff12'"),
        ("1 2\u00a05 1", 1, "2"),
        ("1\x1c2", 1, "1"),
        ("1\x002", 1, "1"),
        ("0 2", 1, "at least 1"),
        ("1 0", 1, "at least 1"),
        ("1 2 2 1", 2, "before"),
        ("5 2 1 1", 2, "before"),
        ("5 2 5 2", 2, "before"),
        ("100 1", None, None),
        ("100 2", 1, "past the end"),
        ("101 1", 1, "past the end"),
        ("1 1 1000000000000000000", 2, "18 digits"),
        ("1 99999999999999999999999999", 1, "18 digits"),
        ("999999999999999999 999999999999999999", 1, "past the end"),
        ("0000000000000000001 1", 1, "18 digits"),
    ],
)
def test_errors_name_the_pair(rle, pair, why):
    if pair is None:
        assert decode_rle(rle, (10, 10)).sum() == 1
        return
    with pytest.raises(ValueError, match=rf"pair {pair}\b.*{why}"):
        decode_rle(rle, (10, 10))


def test_wrong_arguments():
    with pytest.raises(TypeError, match="int64"):
        encode_rle(np.zeros((2, 2), int))
    with pytest.raises(ValueError, match=r"\(2, 2, 2\)"):
        encode_rle(np.zeros((2, 2, 2), bool))
    with pytest.raises(TypeError, match="list"):
        encode_rle([[1]])
    with pytest.raises(TypeError, match="bytes"):
        decode_rle(b"1 1", (2, 2))
    with pytest.raises(ValueError, match="-1"):
        decode_rle("", (-1, 2))
    with pytest.raises(ValueError, match="shape"):
        decode_rle("", (1, 2, 3))
    with pytest.raises(ValueError, match="too large"):
        decode_rle("", (10**6, 10**6))


def reference(rle, shape):
    """Read run-length text with Python's own tools; None when it is wrong."""
    if not re.fullmatch(r"[0-9 \t\n\r\x0b\x0c]*", rle):
        return None
    words = rle.split()
    if len(words) % 2 or any(len(word) > 18 for word in words):
        return None
    mask, last = bytearray(shape[0] * shape[1]), 0
    for start, length in zip(map(int, words[::2]), map(int, words[1::2]), strict=True):
        if start <= last or length < 1 or start + length - 1 > len(mask):
            return None
        last = start + length - 1
        mask[start - 1 : last] = b"\1" * length
    return bytes(mask)


def test_strings_raise_nothing_but_value_error():
    """A million of them: CLOUDSEG_STRINGS=1000000 python -m pytest tests/unit/postprocess/test_rle.py."""
    total = int(os.environ.get("CLOUDSEG_STRINGS", "50000"))
    draw = random.Random(3)
    everything = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    right = 0
    for alphabet, share in (
        ("1234567890 ", 0.3),
        ("123   ", 0.3),
        ("0123456789 \n\t+-_.e", 0.2),
        (everything, 0.1),
        (["1 ", "2 ", "3 ", "10 ", "\u0661", "\ud800", " "], 0.1),
    ):
        for _ in range(round(total * share)):
            text = "".join(draw.choices(alphabet, k=draw.randrange(24)))
            expected = reference(text, (7, 19))
            try:
                mask = decode_rle(text, (7, 19))
            except ValueError:
                assert expected is None, ascii(text)
            else:
                assert mask.tobytes(order="F") == expected, ascii(text)
                right += 1
    assert right > total / 12


# Other orders and starts


@pytest.mark.parametrize("order", ["columns", "rows"])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("relative", [False, True])
def test_texts_of_any_order_and_start_are_read(order, first, relative):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 5), (40, 60)):
        mask = (rng.random(shape) < 0.4).astype(np.uint8)
        words, end = [], 0
        flat = (mask.T if order == "columns" else mask).ravel().tolist()
        for value, group in itertools.groupby(enumerate(flat), key=lambda pixel: pixel[1]):
            places = [place for place, _ in group]
            if value:
                words += [places[0] - (end if relative else 0) + first, len(places)]
                end = places[-1] + 1
        text = " ".join(map(str, words))
        np.testing.assert_array_equal(decode_rle(text, shape, order=order, first=first, relative=relative), mask)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("0 1", {}, r"pair 1 \(0 1\): start and length must be at least 1"),
        ("0 0", {"first": 0}, r"pair 1 \(0 0\): a start must be at least 0, and a length 1"),
        ("5 2", {"first": 0}, r"pair 1 \(5 2\) goes past the end of 6 pixels"),
        ("2 2 3 1", {"first": 0, "relative": True}, r"pair 2 \(3 1\) goes past the end of 6 pixels"),
        ("2 2 4 1", {"relative": True}, r"pair 2 \(4 1\) goes past the end of 6 pixels"),
        ("1 2 0 1", {"relative": True}, r"pair 2 \(0 1\): start and length must be at least 1"),
        ("x 2", {"first": 0, "relative": True}, "pair 1 has 'x'"),
        ("1 2 0", {"first": 0}, "pair 2 has a start, 0, and no length"),
    ],
)
def test_wrong_pairs_of_any_start_are_named(text, options, message):
    with pytest.raises(ValueError, match=message):
        decode_rle(text, (2, 3), **options)


def test_the_last_pixel_is_inside_with_any_start():
    for text, options in (("5 2", {}), ("4 2", {"first": 0}), ("2 2 1 1", {"first": 0, "relative": True})):
        assert decode_rle(text, (2, 3), **options)[-1, -1] == 1
