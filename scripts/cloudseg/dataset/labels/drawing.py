"""Draw the masks of an image from the texts of its rows."""

from collections.abc import Sequence

import numpy as np

from cloudseg.postprocess import decode_rle


def draw_mask(texts: Sequence[str], shape: tuple[int, int]) -> np.ndarray:
    """Draw the union of the masks of one image and class.

    Parameters
    ----------
    texts : at least one run-length text.
    shape : (height, width) of the image.

    Returns
    -------
    uint8 (height, width) of 0 and 1.

    Examples
    --------
    >>> draw_mask(["1 1", "1 2"], (2, 2))
    array([[1, 0],
           [1, 0]], dtype=uint8)
    """
    mask = decode_rle(texts[0], shape)
    for text in texts[1:]:
        mask = mask | decode_rle(text, shape)
    return mask
