"""CutMix and MixUp: samples into which another sample of the epoch is pasted or blended."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from cloudseg.config.recipe_parts import CutMix, MixUp
from cloudseg.runtime.background import with_context
from cloudseg.training.data.dataset import Sample
from cloudseg.training.data.sampler import Key, epoch_order

# Tells these draws from those of the augmentation; not 0, by which numpy's seeds would be the same
MIXING = 1


class MixedDataset(Dataset):
    """Samples of which some are mixed with another one, by (epoch, index).

    A sample is mixed with the one that follows it in the order of the epoch (the last with the first), as that one is
    augmented in this epoch by itself, before it is mixed. Both are then made once, since the next sample of a batch is
    the partner of the one before. What is drawn depends on (seed, epoch, index) and nothing else, and what it is drawn
    for is augmented as it would be without.

    Parameters
    ----------
    samples : as :class:`cloudseg.training.data.dataset.SegmentationDataset` has them, at least two; with ``mixup`` of
        soft masks.
    seed : of the order of an epoch, as of :class:`cloudseg.training.data.sampler.BatchSampler`, and of the draws.
    cutmix : odds and alpha of CutMix (Yun and others, 2019, https://arxiv.org/abs/1905.04899), or None.
    mixup : odds and alpha of MixUp (Zhang and others, 2018, https://arxiv.org/abs/1710.09412), or None. A sample is
        mixed by one of them at most, so the odds of both sum to 1 at most.

    Examples
    --------
    ``samples[epoch, index]`` is a pair of tensors: the image (H, W, 3) and the mask of the form that ``samples`` have,
    both uint8.
    """

    def __init__(self, samples: Any, *, seed: int, cutmix: CutMix | None = None, mixup: MixUp | None = None) -> None:
        self._samples, self._seed = samples, seed
        self._cutmix, self._mixup = cutmix, mixup
        self._ahead: tuple[Key, Sample] | None = None  # the last partner, which a batch asks for next
        self._epoch: int | None = None
        self._following = np.empty(0, np.int64)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._samples)

    @property
    def nbytes(self) -> int:
        """The bytes of one sample."""
        return self._samples.nbytes

    def name(self, index: int) -> str:
        """Return the store and the name of the image at an index, for messages."""
        return self._samples.name(index)

    def __getitem__(self, key: Key) -> Sample:
        """Return the image and mask at an index, as augmented and mixed in one epoch."""
        sample = self._unmixed(key)
        rng = np.random.default_rng([self._seed, *key, MIXING])
        cutmix, mixup = (mix.p if mix else 0 for mix in (self._cutmix, self._mixup))
        draw = rng.random()
        if draw < cutmix:
            return paste(sample, self._partner(key), cutmix_box(sample[0].shape[:2], self._cutmix.alpha, rng))
        if draw < cutmix + mixup:
            return blend(sample, self._partner(key), mixup_share(self._mixup.alpha, rng))
        return sample

    def _unmixed(self, key: Key) -> Sample:
        if self._ahead is None or self._ahead[0] != key:
            return self._samples[key]
        (_, sample), self._ahead = self._ahead, None  # let go, since it may be pasted over now
        return sample

    def _partner(self, key: Key) -> Sample:
        epoch, index = key
        if epoch != self._epoch:
            self._epoch, self._following = epoch, following(epoch_order(len(self), self._seed, epoch))
        partner = int(self._following[index])
        try:
            self._ahead = (epoch, partner), self._samples[epoch, partner]
        except Exception as error:
            raise with_context(f"mixed with {self.name(partner)}", error) from error
        return self._ahead[1]


def following(order: np.ndarray) -> np.ndarray:
    """Return which number comes after each one in an order of 0 to n - 1, the first after the last.

    Examples
    --------
    >>> following(np.array([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    after = np.empty_like(order)
    after[order] = np.roll(order, -1)
    return after


def cutmix_box(size: tuple[int, int], alpha: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """Draw the rectangle that CutMix pastes.

    Its share of the image is 1 - lambda, lambda of Beta(alpha, alpha); it has the image's proportions and its centre
    lies anywhere, so a part of it may fall outside, which is left out (Yun and others, 2019, section 3.1).

    Parameters
    ----------
    size : (height, width) of the image.
    alpha : above 0; at 1 every share is as likely.
    rng : drawn from three times.

    Returns
    -------
    (slice, slice) : rows and columns, either of which may be empty.

    Examples
    --------
    >>> cutmix_box((320, 480), 1, np.random.default_rng(7))
    (slice(..., ..., None), slice(..., ..., None))
    """
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    return tuple(_span(length, side * length, rng.uniform(0, length)) for length in size)


def _span(length: int, side: float, centre: float) -> slice:
    """Return the pixels of 0 to ``length`` - 1 that a side around a centre covers, to the nearest border."""
    return slice(round(max(0, centre - side / 2)), round(min(length, centre + side / 2)))


def paste(sample: Sample, partner: Sample, box: tuple[slice, slice]) -> Sample:
    """Overwrite a rectangle of an image and its mask with the same rectangle of others, in place.

    Parameters
    ----------
    sample, partner : image (H, W, 3) and mask (H, W, B), uint8.
    box : rows and columns.

    Returns
    -------
    (Tensor, Tensor) : ``sample``.

    Examples
    --------
    >>> ours, theirs = (tuple(torch.full((1, 3, 1), value) for _ in range(2)) for value in (1, 2))
    >>> paste(ours, theirs, (slice(0, 1), slice(1, 3)))[1].flatten()
    tensor([1, 2, 2])
    """
    for own, other in zip(sample, partner, strict=True):
        own.numpy()[box] = other.numpy()[box]  # torch would wake its threads, which takes longer than the copy
    return sample


def mixup_share(alpha: float, rng: np.random.Generator) -> int:
    """Draw how much of a sample MixUp keeps, in 255ths: lambda of Beta(alpha, alpha), rounded.

    Parameters
    ----------
    alpha : above 0.
    rng : drawn from once.

    Examples
    --------
    >>> 0 <= mixup_share(0.4, np.random.default_rng(7)) <= 255
    True
    """
    return round(255 * rng.beta(alpha, alpha))


def blend(sample: Sample, partner: Sample, share: int) -> Sample:
    """Blend an image and its soft mask with others, (share a + (255 - share) b) / 255 rounded to the nearest byte.

    Parameters
    ----------
    sample, partner : image (H, W, 3) and mask (H, W, C), uint8.
    share : of ``sample``, in 255ths, so that images and masks are blended by the same number.

    Returns
    -------
    (Tensor, Tensor) : new ones of the same shapes, uint8. A mask of 0 and 255 comes out without rounding.

    Examples
    --------
    >>> ours, theirs = (tuple(torch.full((1, 1, 1), value, dtype=torch.uint8) for _ in range(2)) for value in (255, 0))
    >>> [part.item() for part in blend(ours, theirs, 102)]
    [102, 102]
    """
    return tuple(_blended(own.numpy(), other.numpy(), share) for own, other in zip(sample, partner, strict=True))


def _blended(own: np.ndarray, other: np.ndarray, share: int) -> torch.Tensor:
    total = own * np.uint16(share) + other * np.uint16(255 - share)  # at most 255 * 255
    return torch.from_numpy(((total + np.uint16(127)) // np.uint16(255)).astype(np.uint8))
