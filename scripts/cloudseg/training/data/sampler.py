"""The order in which a training sees its images, and each device's share of a batch."""

from collections.abc import Iterator

import numpy as np

from cloudseg.config.batching import MIN_MICRO_BATCH, accumulation_steps
from cloudseg.errors import ConfigError

Key = tuple[int, int]  # (epoch, index in the data set)


def epoch_order(n_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order in which an epoch of a training sees its images, (n_samples,) of their indices.

    Examples
    --------
    >>> sorted(epoch_order(3, seed=2019, epoch=1).tolist())
    [0, 1, 2]
    """
    return np.random.default_rng([seed, epoch]).permutation(n_samples)


class BatchSampler:
    """The batches of each epoch, as lists of keys of :class:`cloudseg.training.data.dataset.SegmentationDataset`.

    Parameters
    ----------
    n_samples : images in the data set.
    batch_size : images in a batch; the last batch holds the rest.
    shuffle_seed : orders the images anew in each epoch, by (seed, epoch) alone; None keeps their order. When
        shuffling, for training, the last batch leaves out what would be a micro-batch of fewer than
        ``MIN_MICRO_BATCH`` images.
    drop_last : leave out any last batch that is not full; the images in it are others in each epoch.
    rank, ranks : which share of each batch, of how many; all devices together see what one would see.
    micro_batch_size : images that a device sees at once, at most; None is its whole share.

    Raises
    ------
    ConfigError : when shuffling, for a batch that cannot be parted so.

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
        n_samples: int,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        drop_last: bool = False,
        rank: int = 0,
        ranks: int = 1,
        micro_batch_size: int | None = None,
    ) -> None:
        self.epoch = 0  # set before each pass
        self._n_samples, self._batch_size, self._seed = n_samples, batch_size, shuffle_seed
        self._rank, self._ranks = rank, ranks
        self._micro_batch_size = micro_batch_size or -(-batch_size // ranks)
        rest = n_samples % batch_size
        if shuffle_seed is not None:
            if not accumulation_steps(batch_size, ranks, self._micro_batch_size):
                raise ConfigError(
                    f"a batch of {batch_size} images on {ranks} devices, at most {self._micro_batch_size} at once, "
                    f"leaves one alone; {MIN_MICRO_BATCH} at once are needed"
                )
            while rest and not accumulation_steps(rest, ranks, self._micro_batch_size):
                rest -= 1
        self._kept = n_samples - n_samples % batch_size + (0 if drop_last else rest)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-self._kept // self._batch_size)

    @property
    def n_images(self) -> int:
        """The images of an epoch, over all devices."""
        return self._kept

    def batch_images(self, number: int) -> int:
        """Return how many images all devices together see in a batch of an epoch, from 0."""
        return min(self._batch_size, self._kept - number * self._batch_size)

    def accumulation_steps(self, number: int) -> int:
        """Return in how many micro-batches each device sees its share of a batch of an epoch, from 0."""
        return accumulation_steps(self.batch_images(number), self._ranks, self._micro_batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this device's share of each batch of ``epoch``."""
        indices = np.arange(self._n_samples)
        if self._seed is not None:
            indices = epoch_order(self._n_samples, self._seed, self.epoch)
        for number in range(len(self)):
            first, n_images = number * self._batch_size, self.batch_images(number)
            start, stop = (first + n_images * rank // self._ranks for rank in (self._rank, self._rank + 1))
            yield [(self.epoch, int(index)) for index in indices[start:stop]]
