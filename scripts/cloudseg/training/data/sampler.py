"""The order in which a training sees its images, and each device's share of a batch."""

from collections.abc import Iterator

import numpy as np

from cloudseg.config.batching import MIN_MICRO_BATCH, accumulation_steps
from cloudseg.errors import ConfigError

Key = tuple[int, int]  # (epoch, place in the data set)


class BatchSampler:
    """The batches of each epoch, as lists of keys of :class:`cloudseg.training.data.dataset.SegmentationDataset`.

    Parameters
    ----------
    count : images in the data set.
    batch : images in a batch; the last batch holds the rest.
    shuffle_seed : orders the images anew in each epoch, by (seed, epoch) alone; None keeps their order. When
        shuffling, for training, the last batch leaves out what would be a piece of less than ``MIN_MICRO_BATCH`` images.
    drop_last : leave out any last batch that is not full; the images in it are others in each epoch.
    rank, ranks : which share of each batch, of how many; all devices together see what one would see.
    most : images that a device takes at once; None takes its share whole.

    Raises
    ------
    ConfigError : when shuffling, for a batch that cannot be shared and taken in pieces so.

    Examples
    --------
    >>> list(BatchSampler(5, 2))
    [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(0, 4)]]
    >>> len(BatchSampler(5, 2, shuffle_seed=1))
    2
    >>> len(BatchSampler(7, 4, drop_last=True))
    1
    >>> [list(BatchSampler(4, 4, rank=rank, ranks=2)) for rank in (0, 1)]
    [[[(0, 0), (0, 1)]], [[(0, 2), (0, 3)]]]
    """

    def __init__(
        self,
        count: int,
        batch: int,
        *,
        shuffle_seed: int | None = None,
        drop_last: bool = False,
        rank: int = 0,
        ranks: int = 1,
        most: int | None = None,
    ) -> None:
        self.epoch = 0  # set before each pass
        self._count, self._batch, self._seed = count, batch, shuffle_seed
        self._rank, self._ranks, self._most = rank, ranks, most or -(-batch // ranks)
        rest = count % batch
        if shuffle_seed is not None:
            if not accumulation_steps(batch, ranks, self._most):
                raise ConfigError(
                    f"a batch of {batch} images on {ranks} devices, at most {self._most} at once, leaves one alone in "
                    f"a piece; {MIN_MICRO_BATCH} are needed"
                )
            while rest and not accumulation_steps(rest, ranks, self._most):
                rest -= 1
        self._kept = count - count % batch + (0 if drop_last else rest)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-self._kept // self._batch)

    @property
    def n_images(self) -> int:
        """The images of an epoch, over all devices."""
        return self._kept

    def images(self, number: int) -> int:
        """Return how many images all devices together see in a batch of an epoch, from 0."""
        return min(self._batch, self._kept - number * self._batch)

    def pieces(self, number: int) -> int:
        """Return in how many pieces each device takes its share of a batch of an epoch, from 0."""
        return accumulation_steps(self.images(number), self._ranks, self._most)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this device's share of each batch of ``epoch``."""
        places = np.arange(self._count)
        if self._seed is not None:
            places = np.random.default_rng([self._seed, self.epoch]).permutation(self._count)
        for number in range(len(self)):
            images = self.images(number)
            start, stop = (number * self._batch + images * rank // self._ranks for rank in (self._rank, self._rank + 1))
            yield [(self.epoch, int(place)) for place in places[start:stop]]
