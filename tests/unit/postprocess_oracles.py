"""Planes to try, ways to lay them out in memory, and slow, obvious versions of what the core computes."""

import cv2
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from scipy import ndimage

ORDERS = ("C", "Fortran", "every other", "backwards", "channels last", "read-only")
patient = settings(deadline=None)  # the first call compiles
SIDES = (1, 2, 3, 7, 31, 63, 64, 65, 100, 127, 128, 129)


def lay_out(array, order):
    """Return an equal array whose memory is laid out in another way."""
    if order == "Fortran":
        return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    if order == "every other":
        wide = np.zeros((*array.shape[:-2], 2 * array.shape[-2], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2, ::2] = array
        return wide[..., ::2, ::2]
    if order == "backwards":
        return np.ascontiguousarray(array[..., ::-1, ::-1])[..., ::-1, ::-1]
    if order == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0)
    copied = np.ascontiguousarray(array)
    copied.flags.writeable = order != "read-only"
    return copied


def smooth_plane(rng, shape, sigma=4.0, noise=0.0):
    """Return blobs as a network would draw them: blurred noise through a sigmoid."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    field = field / (field.std() + 1e-12) + noise * rng.standard_normal(shape)
    return np.floor(255 / (1 + np.exp(np.clip(-3 * field, -50, 50))) + 0.5).astype(np.uint8)


def spiral(height, width):
    """Return a one-pixel snake that winds inwards, with one empty pixel between its turns."""
    mask = np.zeros((height, width), np.uint8)
    top, bottom, left, right = 0, height - 1, 0, width - 1
    while top <= bottom and left <= right:
        mask[top, max(left - 2, 0) : right + 1] = 1
        mask[top : bottom + 1, right] = 1
        if bottom > top:
            mask[bottom, left : right + 1] = 1
        if right > left and top + 2 <= bottom:
            mask[top + 2 : bottom + 1, left] = 1
        top, bottom, left, right = top + 2, bottom - 2, left + 2, right - 2
    return mask


def pattern(name, height, width):
    """Return a mask that is hard on a union-find."""
    y, x = np.mgrid[:height, :width]
    if name == "spiral":
        return spiral(height, width)
    if name == "rings":
        return (np.minimum(np.minimum(y, height - 1 - y), np.minimum(x, width - 1 - x)) % 2 == 0).astype(np.uint8)
    if name == "comb":  # teeth that meet only at the far end
        return ((x % 2 == 0) | (y == height - 1)).astype(np.uint8)
    if name == "lying comb":
        return ((y % 2 == 0) | (x == width - 1)).astype(np.uint8)
    if name == "snake":
        return ((y % 4 == 0) | (y % 4 == 2) | ((y % 4 == 1) & (x == width - 1)) | ((y % 4 == 3) & (x == 0))).astype(
            np.uint8
        )
    if name == "checkerboard":
        return ((x + y) % 2).astype(np.uint8)
    if name == "stripes":  # diagonals, joined only through corners
        return ((x + y) % 3 == 0).astype(np.uint8)
    if name == "ones":
        return np.ones((height, width), np.uint8)
    return np.zeros((height, width), np.uint8)


PATTERNS = ("spiral", "rings", "comb", "lying comb", "snake", "checkerboard", "stripes", "ones", "zeros")


@st.composite
def planes(draw, sides=SIDES):
    """Draw a plane of probabilities: smooth, noisy, white noise, two-valued, flat or a hard pattern."""
    shape = draw(st.sampled_from(sides)), draw(st.sampled_from(sides))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(("smooth", "noisy", "white", "two values", "few values", "saturated", *PATTERNS)))
    if kind in PATTERNS:
        low, high = sorted(draw(st.tuples(st.integers(0, 255), st.integers(0, 255))))
        return np.where(pattern(kind, *shape), high, low).astype(np.uint8)
    if kind == "white":
        return rng.integers(0, 256, shape, np.uint8)
    if kind == "two values":
        return np.where(rng.random(shape) < draw(st.floats(0, 1)), 255, 0).astype(np.uint8)
    if kind == "few values":
        return rng.integers(0, draw(st.integers(1, 5)), shape, np.uint8)
    if kind == "saturated":
        plane = smooth_plane(rng, shape, draw(st.floats(1, 10))).astype(int)
        return np.clip(4 * (plane - 128) + 128 + rng.integers(-2, 3, shape), 0, 255).astype(np.uint8)
    return smooth_plane(rng, shape, draw(st.floats(0.5, 10)), 0.3 if kind == "noisy" else 0)


def text_of(mask):
    """Return run-length text by the NumPy idiom."""
    flat = np.concatenate([[0], np.asarray(mask, bool).T.ravel(), [0]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts, ends = edges[::2], edges[1::2]
    return " ".join(f"{start} {end - start}" for start, end in zip(starts, ends, strict=True))


def large_components(mask, min_size, connectivity=8):
    """Return the mask without its small components, by SciPy."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)) if connectivity == 8 else None)
    keep = np.bincount(labels.ravel(), minlength=1) >= min_size
    keep[0] = False
    return keep[labels].astype(np.uint8)


def large_components_by_opencv(mask, min_size, connectivity=8):
    """Return the mask without its small components, by OpenCV."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(mask, np.uint8), connectivity=connectivity
    )
    keep = stats[:, cv2.CC_STAT_AREA] >= min_size
    keep[0] = False
    return keep[labels].astype(np.uint8)


def seeded_components(mask, seeds, min_size, connectivity=8):
    """Return the mask of the large components that hold a seed, by SciPy."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)) if connectivity == 8 else None)
    keep = np.bincount(labels.ravel(), minlength=1) >= min_size
    keep &= np.bincount(labels.ravel(), np.asarray(seeds, bool).ravel(), minlength=1) > 0
    keep[0] = False
    return keep[labels].astype(np.uint8)


def cut_mask(plane, level, min_size, high=0, top_level=0, top_area=0, fill_holes=False):
    """Return the mask of a plane by every condition of a cut, by NumPy and SciPy."""
    if (plane.astype(int) >= top_level).sum() < top_area:
        return np.zeros(plane.shape, np.uint8)
    kept = seeded_components(plane.astype(int) >= level, plane >= high, min_size)
    return ndimage.binary_fill_holes(kept).astype(np.uint8) if fill_holes else kept


def dice(mask, truth):
    """Return the Dice of two masks, 1 when both are empty."""
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(np.logical_and(mask, truth))) / total if total else 1.0
