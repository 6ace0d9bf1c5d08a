"""Samples for training, by (epoch, index): images with masks, augmented, resized, and what becomes of their bits."""

import bisect
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from cloudseg.config.fold_names import ALL, Fold
from cloudseg.dataset.folds import read_folds
from cloudseg.dataset.resizing import resize_bitmask, resize_image, resize_soft_mask
from cloudseg.errors import ConfigError
from cloudseg.runtime.memory import keep_freed_memory
from cloudseg.storage.per_image import Ids
from cloudseg.training.data.augment import Augmentation
from cloudseg.training.data.images import Images, bits_to_soft
from cloudseg.training.data.sampler import Key

Sample = tuple[torch.Tensor, torch.Tensor]


class SegmentationDataset(Dataset):
    """Images with masks, augmented and at one size, by (epoch, index).

    Samples stay in bytes, a quarter of what floats would take between processes and to the device. There
    :func:`cloudseg.models.preprocessing.normalise` and :func:`planes_of` make them into what networks and losses
    take.

    Parameters
    ----------
    images : with their masks, such as :class:`cloudseg.training.data.images.LabelledImages`.
    transform : applied to each sample, or None.
    seed : of the draws of ``transform``, which depend on (seed, epoch, index) and nothing else.
    size : (height, width) that a sample is resized to after ``transform``, images as the dataset's are and masks
        by :func:`resize_bitmask`; None leaves it at the size of the store.
    soft_classes : the number of classes, to have masks as :func:`bits_to_soft` makes them; None leaves them bits.

    Examples
    --------
    ``samples[epoch, index]`` is a pair of tensors: the image (H, W, 3) and the mask (H, W, B), both uint8;
    bit ``c % 8`` of byte ``c // 8`` of a mask pixel says whether class ``c`` covers it. A soft mask is (H, W, C),
    how much each class covers in 255ths.
    """

    def __init__(
        self,
        images: Images,
        *,
        transform: Augmentation | None = None,
        seed: int = 0,
        size: tuple[int, int] | None = None,
        soft_classes: int | None = None,
    ) -> None:
        self._images = images
        self._size = size if size != images.size else None
        self._transform = transform
        self._seed = seed
        self._soft_classes = soft_classes

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    @property
    def nbytes(self) -> int:
        """The bytes of one sample."""
        height, width = self._size or self._images.size
        return height * width * (3 + (self._soft_classes or self._images.mask_bytes))

    def name(self, index: int) -> str:
        """Return the store and the name of the image at an index, for messages."""
        return self._images.name(index)

    def __getitem__(self, key: Key) -> Sample:
        """Return the image and mask at an index, as augmented in one epoch."""
        epoch, index = key
        image, mask = self._images[index]
        if self._transform is not None:
            image, mask = self._transform(image, mask, sample_seed(self._seed, epoch, index))
        if self._size is not None:
            resize = resize_soft_mask if self._images.is_soft else resize_bitmask
            image, mask = resize_image(image, self._size), resize(mask, self._size)
        if self._soft_classes is not None and not self._images.is_soft:
            mask = bits_to_soft(mask, self._soft_classes)
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(np.ascontiguousarray(mask))


class StagedDataset(Dataset):
    """Samples that are made in another way from some epoch on, by (epoch, index).

    Parameters
    ----------
    stages : per first epoch of a stage its samples, of the same images; the epochs before the second stage are all the
        first one's.

    Examples
    --------
    >>> samples = StagedDataset({1: {(2, 0): "small"}, 3: {(3, 0): "large"}})
    >>> samples[2, 0], samples[3, 0]
    ('small', 'large')
    """

    def __init__(self, stages: Mapping[int, Any]) -> None:
        _, *self._changes = sorted(stages)
        self._stages = [stages[first] for first in sorted(stages)]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._stages[0])

    @property
    def nbytes(self) -> int:
        """The bytes of a sample of the stage whose samples are the largest."""
        return max(samples.nbytes for samples in self._stages)

    def name(self, index: int) -> str:
        """Return the store and the name of the image at an index, for messages."""
        return self._stages[0].name(index)

    def __getitem__(self, key: Key) -> Sample:
        """Return the image and mask at an index, as the stage of the epoch has them."""
        epoch, _ = key
        return self._stages[bisect.bisect_right(self._changes, epoch)][key]


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed, 0 to 2**32 - 1, of the augmentation of one sample in one epoch.

    Examples
    --------
    >>> sample_seed(2019, 3, 14) == sample_seed(2019, 3, 14), sample_seed(2019, 3, 14) == sample_seed(2019, 14, 3)
    (True, False)
    """
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


def planes_of(mask: torch.Tensor, classes: int, *, soft: bool) -> torch.Tensor:
    """Return the planes of masks of either form.

    Parameters
    ----------
    mask : (N, H, W, classes) uint8 in 255ths when ``soft``, else bits as of :func:`bits_to_planes`.
    classes : number of planes.
    soft : which form it is; a recipe's ``soft_targets`` says so for training, and masks for validation are bits.

    Returns
    -------
    Tensor : (N, classes, H, W) float32, 0..1.

    Examples
    --------
    >>> planes_of(torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8), classes=3, soft=True).flatten()
    tensor([0.0000, 0.2000, 1.0000])
    """
    return torch.stack(mask.unbind(-1), dim=1).float() / 255 if soft else bits_to_planes(mask, classes)


def bits_to_planes(mask: torch.Tensor, classes: int) -> torch.Tensor:
    """Spread the bits of masks over planes.

    Parameters
    ----------
    mask : (N, H, W, B) uint8, bit ``c % 8`` of byte ``c // 8`` for class ``c``.
    classes : at most 8 B.

    Returns
    -------
    Tensor : (N, classes, H, W) float32, 0 or 1.

    Examples
    --------
    >>> bits_to_planes(torch.tensor([[[[5]]]], dtype=torch.uint8), classes=4).flatten()
    tensor([1., 0., 1., 0.])
    """
    planes = [(mask[..., number // 8] >> (number % 8)) & 1 for number in range(classes)]
    return torch.stack(planes, dim=1).float()


def quiet_worker(worker: int) -> None:
    """Keep OpenCV to one thread in a loader worker, since its pool hangs after a fork; leave signals to the parent.

    What a sample frees is kept for the next one.
    """
    cv2.setNumThreads(0)
    keep_freed_memory()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def fold_images(folds: str | Path, fold: Fold, ids: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return where the training and the validation images of a fold lie in a pixel store.

    Parameters
    ----------
    folds : table with the columns ``image`` and ``fold``.
    fold : its images validate, all others train; of ``"all"`` there are none, so that all images train.
    ids : the names of the store's training images, in its order.

    Returns
    -------
    (list of int, list of int) : positions in the store, both in the order of the table. No image is in both.

    Raises
    ------
    ValueError : if the table has no such fold, is cut short, or does not hold each image of the store once.
    """
    table = read_folds(folds, ids)
    positions = Ids.of(ids).rows_of(table["image"])
    if fold != ALL and fold not in set(table["fold"]):
        raise ConfigError(f"{folds}: has the folds {sorted(set(table['fold']))}, no fold {fold}")
    validates = (table["fold"] == fold).to_numpy(bool)
    train, valid = positions[~validates].tolist(), positions[validates].tolist()
    assert not set(train) & set(valid), "an image both trains and validates"
    return train, valid
