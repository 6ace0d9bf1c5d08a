"""Arrays as text that a page holds and its browser unpacks: lossless, and small where neighbours are alike.

All are deflated (zlib) and then base64, little end first. The other side is ``templates/explorer.js``.
"""

import base64
import zlib

import numpy as np

FULL = 2**31  # what stands for a Dice of 1: to a share of 2^-32, and whole 32nds are exact


def packed_planes(planes: np.ndarray) -> str:
    """Pack planes as what is left of each pixel when its neighbours have predicted it.

    The prediction is the median of the pixel to the left, the one above, and left + above - corner (Martucci, 1990; as
    in JPEG-LS). Probabilities of the demo take 9 % of their bytes then.

    Parameters
    ----------
    planes : uint8 (C, H, W).

    Examples
    --------
    >>> import zlib
    >>> text = packed_planes(np.array([[[7, 7, 9], [7, 7, 9]]], np.uint8))
    >>> list(zlib.decompress(base64.b64decode(text)))
    [7, 0, 2, 0, 0, 0]
    """
    values = np.pad(planes.astype(np.int16), ((0, 0), (1, 0), (1, 0)))
    left, above, corner = values[:, 1:, :-1], values[:, :-1, 1:], values[:, :-1, :-1]
    predicted = np.clip(left + above - corner, np.minimum(left, above), np.maximum(left, above))
    return _deflated((values[:, 1:, 1:] - predicted).astype(np.uint8))


def packed_masks(masks: np.ndarray) -> str:
    """Pack masks as bits, the first pixel in the highest bit of a byte.

    Parameters
    ----------
    masks : uint8 (C, H, W), any non-zero value is in; no class begins a byte of its own.
    """
    return _deflated(np.packbits(masks.ravel() != 0))


def packed_dice(dice: np.ndarray) -> str:
    """Pack Dice as 31-bit fractions: the differences from level to level, the lowest bytes of all first.

    Parameters
    ----------
    dice : float64 (C, 256, K), in 0..1. What the page reads differs by 2.4e-10 at most.
    """
    fractions = np.rint(dice * FULL).astype(np.int64)
    steps = np.diff(fractions, axis=1, prepend=0) % 2**32
    return _deflated(np.ascontiguousarray(steps.astype("<u4").reshape(-1, 1).view(np.uint8).T))


def _deflated(array: np.ndarray) -> str:
    # With Z_RLE, deflate looks for runs alone: it is as small as with all matches, in a seventh of the seconds
    deflate = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return base64.b64encode(deflate.compress(array.tobytes()) + deflate.flush()).decode()
