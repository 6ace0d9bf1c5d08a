"""Nothing is read or written outside an array: the pages on both sides of it refuse access."""

import ctypes
import mmap

import numpy as np
import pytest
from postprocess_oracles import cut_mask, large_components, pattern, seeded_components, smooth_plane, text_of

from cloudseg.postprocess import (
    blend,
    decode_rle,
    dice_surface,
    dice_values,
    encode_rle,
    keep_seeded_components,
    plane_histograms,
    remove_small_components,
    segment,
)

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.skipif(not hasattr(libc, "mprotect"), reason="needs mprotect")


class Fenced:
    """Arrays that end (or begin) exactly where a page without access begins (or ends)."""

    def __init__(self):
        self.maps = []

    def copy(self, array, at_end=True):
        pages = -(-array.nbytes // PAGE)
        fenced = mmap.mmap(-1, (pages + 2) * PAGE)
        self.maps.append(fenced)
        address = ctypes.addressof(ctypes.c_char.from_buffer(fenced))
        for page in (0, pages + 1):
            assert libc.mprotect(ctypes.c_void_p(address + page * PAGE), ctypes.c_size_t(PAGE), 0) == 0
        first = PAGE + (pages * PAGE - array.nbytes if at_end else 0)
        copied = np.ndarray(array.shape, array.dtype, fenced, first)
        copied[...] = array
        return copied


@pytest.fixture
def fenced():
    return Fenced()


SHAPES = [(1, 1), (1, 97), (97, 1), (3, 5), (63, 65), (64, 64), (65, 63), (128, 192), (350, 525)]


def layouts(fenced, array):
    """Yield the array fenced in at either end, in row order, column order and others."""
    for at_end in (True, False):
        yield fenced.copy(array, at_end)
        yield fenced.copy(np.ascontiguousarray(array.swapaxes(-1, -2)), at_end).swapaxes(-1, -2)
        yield fenced.copy(np.ascontiguousarray(array[..., ::-1, :]), at_end)[..., ::-1, :]
        yield fenced.copy(np.ascontiguousarray(array[..., ::-1].swapaxes(-1, -2)), at_end).swapaxes(-1, -2)[..., ::-1]
        doubled = np.repeat(array, 2, -1)[..., : 2 * array.shape[-1] - 1]
        yield fenced.copy(np.ascontiguousarray(doubled), at_end)[..., ::2]


@pytest.mark.parametrize("shape", SHAPES)
def test_planes(fenced, shape):
    plane = smooth_plane(np.random.default_rng(shape[0]), shape, 5, 0.3)
    truth = plane > 100
    mask = large_components(plane >= 128, 9)
    surface = dice_surface(plane[None, None], truth[None, None], [0, 9, 90])
    values = dice_values(plane[None, None], truth[None, None], [0, 9, 90], [0, 90, 200])
    for laid, truth_laid in zip(layouts(fenced, plane), layouts(fenced, truth.astype(np.uint8)), strict=True):
        assert segment(laid[None, None], 128 / 255, 9) == [text_of(mask)]
        cut = segment(laid[None, None], levels=128, min_sizes=9, highs=200, top_levels=60, top_areas=plane.size // 3)
        assert cut == [text_of(cut_mask(plane, 128, 9, 200, 60, plane.size // 3))]
        assert (keep_seeded_components(truth_laid, laid, 9) == seeded_components(truth, plane, 9)).all()
        assert plane_histograms(laid[None, None]).tolist() == [[np.bincount(plane.ravel(), minlength=256).tolist()]]
        assert encode_rle(truth_laid) == text_of(truth)
        assert (remove_small_components(truth_laid, 9) == large_components(truth, 9)).all()
        assert (dice_surface(laid[None, None], truth_laid[None, None], [0, 9, 90]) == surface).all()
        assert (dice_values(laid[None, None], truth_laid[None, None], [0, 9, 90], [0, 90, 200]) == values).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["checkerboard", "ones"])
def test_the_most_text(fenced, shape, name):
    mask = pattern(name, *shape)
    for laid in layouts(fenced, mask):
        assert encode_rle(laid) == text_of(mask)
        assert segment(laid[None, None] * np.uint8(255), 0.5, 0) == [text_of(large_components(mask, 0))]


@pytest.mark.parametrize("size", [1, 31, 63, 64, 65, 255, 256, 257, 1000, 4096, 70_000])
@pytest.mark.parametrize("settings", [{}, {"weights": [1, 2, 3]}, {"sharpen": 0.5}, {"sharpen": 0.8}])
def test_blend(fenced, size, settings):
    values = np.random.default_rng(size).integers(0, 256, (3, size), np.uint8)
    expected = blend(values, **settings)
    for at_end in (True, False):
        members = [fenced.copy(v, at_end) for v in values]
        out = fenced.copy(np.zeros(size, np.uint8), at_end)
        assert (blend(members, out=out, **settings) == expected).all()
        assert (blend(fenced.copy(values, at_end), **settings) == expected).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_text_and_back(shape):
    for mask in (pattern("checkerboard", *shape), pattern("ones", *shape)):
        for text in (text_of(mask), text_of(mask) + " ", text_of(mask)[:-1] or "1"):
            try:
                decode_rle(text, shape)
            except ValueError:
                assert text != text_of(mask)
