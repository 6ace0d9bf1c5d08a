"""How many images a device sees at once: the arithmetic of batches, devices and gradient accumulation."""

LEAST = 2  # images that a network in training sees at once: of one, the norms of several decoders have no variance


def pieces(images: int, ranks: int, most: int) -> int:
    """Return in how many pieces each of several devices takes its share of a batch.

    Shares, and the pieces of a share, differ by one image at most.

    Parameters
    ----------
    images : in the batch.
    ranks : devices.
    most : images that a device takes at once.

    Returns
    -------
    int : 0 when a piece would have fewer than ``LEAST`` images.

    Examples
    --------
    >>> pieces(16, 2, 8), pieces(16, 2, 3), pieces(5, 1, 2)  # 2 + 2 + 1
    (1, 3, 0)
    """
    count = -(-images // (ranks * most))
    return count if count and images // ranks // count >= LEAST else 0


def smaller(batch: int, ranks: int, most: int) -> int | None:
    """Return the next smaller number of images that a device takes at once, about half; None when there is none.

    Examples
    --------
    >>> smaller(16, 1, 16), smaller(6, 1, 3), smaller(16, 1, 2), smaller(5, 1, 3)
    (8, 2, None, None)
    """
    half = -(-most // 2)
    return half if half < most and pieces(batch, ranks, half) else None


def images_at_once(batch: int, devices: int, micro_batch: int | None) -> int:
    """Return how many images of a batch each of several devices sees at once.

    Parameters
    ----------
    batch : images in a batch, over all devices.
    devices : that share it.
    micro_batch : most that a device takes at once, if there is such a limit.

    Examples
    --------
    >>> images_at_once(16, 2, None), images_at_once(16, 2, 3)
    (8, 3)
    """
    share = -(-batch // devices)
    return min(share, micro_batch or share)
