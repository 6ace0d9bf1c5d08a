"""An ensemble that predicts images in memory: networks, blend, presence and decision, without a store between them.

The bytes are those of the workflow's stores: networks take the same images at once, and blends, evidence and masks come
from the same functions.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cloudseg.config.recipe import Recipe
from cloudseg.dataset.black import find_black
from cloudseg.dataset.resizing import resize_image
from cloudseg.ensemble.blending import votes
from cloudseg.ensemble.masking import Evidence, ImageRule
from cloudseg.inference.predictor import Predictor
from cloudseg.postprocess import blend, plane_histograms
from cloudseg.runtime import devices
from cloudseg.storage.stores import Spec


@dataclasses.dataclass(frozen=True)
class Network:
    """A checkpoint, and how it predicts.

    Parameters
    ----------
    checkpoint : safetensors file.
    recipe : its views, normalisation, arithmetic and batch.
    size : height and width of the images that it sees.
    network : ``encoder`` and ``decoder`` that the checkpoint must be of.
    """

    checkpoint: str | Path
    recipe: Recipe
    size: tuple[int, int]
    network: Mapping[str, str]

    @property
    def batch(self) -> int:
        """Images that the network takes at once."""
        return self.recipe.micro_batch or self.recipe.batch


class Share(NamedTuple):
    """What a network adds to a blend.

    Parameters
    ----------
    network : its number.
    weight : not normalised.
    levels : of each class the level that makes a vote of a probability; None of an ensemble without votes.
    """

    network: int
    weight: float
    levels: Sequence[int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnsembleSettings:
    """What makes masks of images.

    Parameters
    ----------
    networks : all that take part.
    where : what is blended into the planes that become masks.
    whether : what is blended to say whether a class is there; None where the planes themselves do.
    heads : the classification heads that say so, too.
    classes : names of the planes.
    size : height and width of the masks.
    rule : how planes become masks.
    sharpen : the power that probabilities are raised to before they are averaged; None for the plain mean.
    grey : pixels of images that are at most so bright have no probability; None leaves all.
    threads : numerical threads; others give other last bits.
    """

    networks: Sequence[Network]
    where: Sequence[Share]
    whether: Sequence[Share] | None
    heads: Sequence[Share]
    classes: Sequence[str]
    size: tuple[int, int]
    rule: ImageRule
    sharpen: float | None
    grey: int | None
    threads: int

    @functools.cached_property
    def images_at_once(self) -> int:
        """How many images the workflow's stores have in a shard, whose batches begin anew."""
        return Spec((10**9, len(self.classes), *self.size), "uint8", ("image", "class", "y", "x")).shard

    @functools.cached_property
    def image_sizes(self) -> list[tuple[int, int]]:
        """The sizes at which networks see images."""
        return sorted({network.size for network in self.networks})


class Views(NamedTuple):
    """An image as an ensemble needs it.

    Parameters
    ----------
    images : by size, uint8 (height, width, 3).
    black : uint8 (height, width) of the masks, 1 where the image is black; None where that does not count.
    """

    images: Mapping[tuple[int, int], np.ndarray]
    black: np.ndarray | None

    @classmethod
    def of(cls, image: np.ndarray, settings: EnsembleSettings) -> "Views":
        """Return those of an image, uint8 (H, W, 3) RGB."""
        images = {size: resize_image(image, size) for size in settings.image_sizes}
        return cls(images, None if settings.grey is None else find_black(image, settings.grey, settings.size))


class Segmentation(NamedTuple):
    """What an ensemble says of images.

    Parameters
    ----------
    probabilities : uint8 (N, C, H, W), 255 is certainty.
    evidence : what says whether a class is there; None where the planes do.
    """

    probabilities: np.ndarray
    evidence: Evidence | None


class EnsemblePredictor:
    """The networks of an ensemble on a device.

    Parameters
    ----------
    settings : what makes masks of images.
    device : where to compute.

    Raises
    ------
    UserError : if a file is no checkpoint of its network, or is of other classes.
    """

    def __init__(self, settings: EnsembleSettings, device: str | torch.device = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)
        self._halvings = 0
        devices.set_determinism(settings.threads, self.device)
        self._predictors = [
            Predictor(
                each.checkpoint,
                each.recipe,
                size=settings.size,
                device=self.device,
                classes=settings.classes,
                network=each.network,
            )
            for each in settings.networks
        ]

    def segment(self, views: Sequence[Views]) -> Segmentation:
        """Return what the ensemble says of at most ``images_at_once`` images.

        Where the device has no memory for the batches of its networks, these are halved from then on, as in stores.
        """
        devices.set_determinism(self.settings.threads, self.device)  # another ensemble may have asked for others
        while True:
            try:
                return self._segment(views)
            except (RuntimeError, MemoryError) as error:
                at_least = all(self._batch_of(each) == 1 for each in self.settings.networks)
                if at_least or not devices.ran_out_of_memory(error):
                    raise
            self._halvings += 1
            print(f"{self.device} has no memory for these batches: going on with half of them", flush=True)
            torch.cuda.empty_cache()

    def _batch_of(self, network: Network) -> int:
        return max(1, network.batch >> self._halvings)

    def _segment(self, views: Sequence[Views]) -> Segmentation:
        settings = self.settings
        planes, values = self._predicted(views)
        black = None if settings.grey is None else np.stack([each.black for each in views])
        probabilities = self._blend(settings.where, planes, black)
        if settings.whether is None:
            return Segmentation(probabilities, None)
        histograms = plane_histograms(self._blend(settings.whether, planes, black), threads=settings.threads)
        said = self._mean([values[share.network] for share in settings.heads], settings.heads)
        return Segmentation(probabilities, Evidence(histograms.astype(np.uint32), said))

    def _predicted(self, views: Sequence[Views]) -> tuple[list[np.ndarray | None], list[np.ndarray | None]]:
        """Return the planes and the values of each network, None of what it does not give."""
        planes, values = [], []
        for network, predictor in zip(self.settings.networks, self._predictors, strict=True):
            predictor.require_size(network.size, "images")
            images = np.stack([each.images[network.size] for each in views])
            parts = [predictor.quantised(part) for part in _batches(images, self._batch_of(network))]
            joined = [None if some[0] is None else torch.cat(some).cpu().numpy() for some in zip(*parts, strict=True)]
            planes.append(joined[0])
            values.append(joined[1])
        return planes, values

    def _blend(
        self, shares: Sequence[Share], planes: Sequence[np.ndarray | None], black: np.ndarray | None
    ) -> np.ndarray:
        members = [
            planes[share.network] if share.levels is None else votes(planes[share.network], share.levels)
            for share in shares
        ]
        blended = self._mean(members, shares)
        if black is not None:
            blended *= 1 - black[:, None]
        return blended

    def _mean(self, members: Sequence[np.ndarray], shares: Sequence[Share]) -> np.ndarray | None:
        if not members:
            return None
        weights = np.array([share.weight for share in shares], float)
        return blend(members, weights=weights, sharpen=self.settings.sharpen, threads=self.settings.threads)


def _batches(images: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    for first in range(0, len(images), batch):
        yield images[first : first + batch]
