"""Random access to the images and masks of a pixel store, for training and prediction."""

import signal
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from cloudseg.dataset.folds import read_folds
from cloudseg.dataset.pixels import resize_image, resize_mask
from cloudseg.errors import ConfigError
from cloudseg.storage import stores
from cloudseg.training.data.augment import Augmentation
from cloudseg.training.data.sampler import Key


class SegmentationDataset(Dataset):
    """Images with masks out of a pixel store of training images, by (epoch, index).

    Samples stay in bytes, a quarter of what floats would take between processes and to the device. There
    :func:`cloudseg.models.preprocessing.normalise` and :func:`bits_to_planes` make them into what networks and losses
    take.

    Parameters
    ----------
    store : a pixel store, read when asked: nothing is kept in memory.
    images : positions in the store of the images of this data set.
    transform : applied to each sample, or None.
    seed : of the draws of ``transform``, which depend on (seed, epoch, index) and nothing else.
    size : (height, width) that a sample is resized to after ``transform``, images as the dataset's are and masks
        by :func:`resize_bitmask`; None leaves it at the size of the store.

    Examples
    --------
    ``samples[epoch, index]`` is a pair of tensors: the image (H, W, 3) and the mask (H, W, B), both uint8;
    bit ``c % 8`` of byte ``c // 8`` of a mask pixel says whether class ``c`` covers it.
    """

    def __init__(
        self,
        store: str | Path,
        images: Sequence[int],
        *,
        transform: Augmentation | None = None,
        seed: int = 0,
        size: tuple[int, int] | None = None,
    ) -> None:
        group = stores.read(store)
        self._store, self._names = store, group.attrs.asdict()["ids"]
        self._image, self._mask = group["image"], group["mask"]
        self._size = size if size != self._image.shape[1:3] else None
        self._images = list(images)
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    @property
    def nbytes(self) -> int:
        """The bytes of one sample."""
        height, width = self._size or self._image.shape[1:3]
        return height * width * (3 + self._mask.dtype.itemsize)

    def name(self, index: int) -> str:
        """Return the store and the name of the image at an index, for messages."""
        return f"{self._store}, image {self._names[self._images[index]]}"

    def mask(self, index: int) -> np.ndarray:
        """Return the mask at an index as the store has it, (H, W, B) uint8."""
        packed = stores.read_images(self._mask, self._row(index))[0]
        return packed.view(np.uint8).reshape(*packed.shape, -1)

    def _row(self, index: int) -> slice:
        return slice(self._images[index], self._images[index] + 1)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the image and mask at an index, as augmented in one epoch."""
        epoch, index = key
        image, mask = stores.read_images(self._image, self._row(index))[0], self.mask(index)
        if self._transform is not None:
            image, mask = self._transform(image, mask, sample_seed(self._seed, epoch, index))
        if self._size is not None:
            image, mask = resize_image(image, self._size), resize_bitmask(mask, self._size)
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(np.ascontiguousarray(mask))


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed, 0 to 2**32 - 1, of the augmentation of one sample in one epoch.

    Examples
    --------
    >>> sample_seed(2019, 3, 14) == sample_seed(2019, 3, 14), sample_seed(2019, 3, 14) == sample_seed(2019, 14, 3)
    (True, False)
    """
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


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


def resize_bitmask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask of many classes, each by area: in where at least half of a new pixel was covered.

    Parameters
    ----------
    mask : (H, W, B) uint8, bit ``c % 8`` of byte ``c // 8`` for class ``c``.
    size : (height, width) to make, in pixels.

    Returns
    -------
    ndarray : (height, width, B) uint8.

    Examples
    --------
    >>> resize_bitmask(np.array([[[3], [1], [2], [0]]], np.uint8), (1, 2))  # the second class: half of either pixel
    array([[[3],
            [2]]], dtype=uint8)
    """
    resized = np.zeros((*size, mask.shape[2]), np.uint8)
    for byte in range(mask.shape[2]):
        present = int(np.bitwise_or.reduce(mask[..., byte], axis=None))
        for bit in range(8):
            if present >> bit & 1:
                resized[..., byte] |= resize_mask(mask[..., byte] >> bit & 1, size) << bit
    return resized


def quiet_worker(worker: int) -> None:
    """Keep OpenCV to one thread in a loader worker, since its pool hangs after a fork; leave signals to the parent."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def fold_images(folds: str | Path, fold: int, ids: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return where the training and the validation images of a fold lie in a pixel store.

    Parameters
    ----------
    folds : table with the columns ``image`` and ``fold``.
    fold : its images validate, all others train.
    ids : the names of the store's training images, in its order.

    Returns
    -------
    (list of int, list of int) : positions in the store, both in the order of the table. No image is in both.

    Raises
    ------
    ValueError : if the table has no such fold, is cut short, or does not hold each image of the store once.
    """
    table = read_folds(folds, ids)
    positions = {name: position for position, name in enumerate(ids)}
    if fold not in set(table["fold"]):
        raise ConfigError(f"{folds}: has the folds {sorted(set(table['fold']))}, no fold {fold}")
    validates = table["fold"] == fold
    train = [positions[name] for name in table["image"][~validates]]
    valid = [positions[name] for name in table["image"][validates]]
    assert not set(train) & set(valid), "an image both trains and validates"
    return train, valid
