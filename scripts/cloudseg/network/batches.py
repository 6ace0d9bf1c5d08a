"""The order in which a training sees its images."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]  # (epoch, place in the data set)


class Batches(Sampler[list[Key]]):
    """The batches of one epoch after another, as lists of keys of :class:`PixelSamples`.

    Parameters
    ----------
    count : images in the data set.
    batch : images in a batch; the last batch holds the rest.
    shuffle_seed : orders the images anew in each epoch, by (seed, epoch) alone; None keeps their order. When
        shuffling, for training, a last batch of one image is left out: BatchNorm has nothing to average.
    drop_last : leave out any last batch that is not full; the images in it are others in each epoch.

    Examples
    --------
    >>> list(Batches(5, 2))
    [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(0, 4)]]
    >>> len(Batches(5, 2, shuffle_seed=1))
    2
    >>> len(Batches(7, 4, drop_last=True))
    1
    """

    def __init__(self, count: int, batch: int, *, shuffle_seed: int | None = None, drop_last: bool = False) -> None:
        """Begin with epoch 0; set ``epoch`` before each pass."""
        self.epoch = 0
        self._count, self._batch, self._seed = count, batch, shuffle_seed
        rest = count % batch
        self._kept = count - rest if drop_last or (shuffle_seed is not None and rest == 1) else count

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-self._kept // self._batch)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield the batches of ``epoch``."""
        places = np.arange(self._count)
        if self._seed is not None:
            places = np.random.default_rng([self._seed, self.epoch]).permutation(self._count)
        for start in range(0, self._kept, self._batch):
            stop = min(start + self._batch, self._kept)
            yield [(self.epoch, int(place)) for place in places[start:stop]]
