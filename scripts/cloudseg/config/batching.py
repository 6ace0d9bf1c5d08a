"""The arithmetic of batches, devices, micro-batches and gradient accumulation."""

MIN_MICRO_BATCH = 2  # images; BatchNorm fails on one in training where a decoder pools to 1x1, such as DeepLab or PAN


def accumulation_steps(batch: int, ranks: int, micro_batch: int) -> int:
    """Return in how many micro-batches each device sees its share of a batch.

    Shares, and the micro-batches of a share, differ by one image at most.

    Parameters
    ----------
    batch : images in the batch, over all devices.
    ranks : number of devices.
    micro_batch : images that a device sees at once, at most.

    Returns
    -------
    int : 0 if a micro-batch would have fewer than ``MIN_MICRO_BATCH`` images.

    Examples
    --------
    >>> accumulation_steps(16, 2, 8), accumulation_steps(16, 2, 3), accumulation_steps(5, 1, 2)  # 2 + 2 + 1
    (1, 3, 0)
    """
    steps = -(-batch // (ranks * micro_batch))
    return steps if steps and batch // ranks // steps >= MIN_MICRO_BATCH else 0


def halved(batch: int, ranks: int, micro_batch: int) -> int | None:
    """Return half of a micro-batch, rounded up; None if it is not smaller or the batch cannot be taken so.

    Examples
    --------
    >>> halved(16, 1, 16), halved(6, 1, 3), halved(16, 1, 2), halved(5, 1, 3)
    (8, 2, None, None)
    """
    half = -(-micro_batch // 2)
    return half if half < micro_batch and accumulation_steps(batch, ranks, half) else None


def micro_batch_size(batch: int, ranks: int, limit: int | None) -> int:
    """Return how many images of a batch a device sees at once.

    Parameters
    ----------
    batch : images in the batch, over all devices.
    ranks : number of devices.
    limit : images that a device sees at once at most, if there is a limit.

    Examples
    --------
    >>> micro_batch_size(16, 2, None), micro_batch_size(16, 2, 3)
    (8, 3)
    """
    share = -(-batch // ranks)
    return min(share, limit or share)
