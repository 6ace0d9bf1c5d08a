"""A trained network that takes images and gives probabilities: for whole stores, for studies, or for one new image."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.config.decoders import demands
from cloudseg.config.recipe import Recipe
from cloudseg.config.views import Variant, smallest_side, variants_of
from cloudseg.errors import ConfigError
from cloudseg.inference.views import Probabilities, mean_of_variants
from cloudseg.models.checkpoint_file import load_strictly, read_state
from cloudseg.models.mixed_precision import autocast
from cloudseg.models.preprocessing import Preprocessing
from cloudseg.models.probabilities import quantise
from cloudseg.models.resize import resize
from cloudseg.models.segmenter import Segmenter, model_of
from cloudseg.runtime import devices


class Predictor:
    """The network of a checkpoint with what comes before and after it: images in, probabilities out.

    Bytes are normalised, shown to the network in the views of ``tta``, and the probabilities of the views are inverted,
    averaged, resized to the wanted grid and rounded to bytes.

    Parameters
    ----------
    checkpoint : ``best.safetensors`` or ``last.safetensors`` of a training.
    recipe : its recipe, of which ``tta``, ``normalise`` and ``precision`` count (and, where ``tta`` is ``recipe``,
        ``augmentation`` and ``canvas``); ``run.json`` beside the checkpoint has all but ``tta``.
    size : height and width of the probabilities in pixels; None gives them at the size of the images.
    device : where to compute.
    classes : names that the planes of the network must have; None takes any.
    network : ``encoder`` and ``decoder`` that the checkpoint must be of; None takes any.
    previous : a predictor that is not needed any more. When its network is of the same kind, that one gets the weights,
        which saves building it again.

    Attributes
    ----------
    header : what the checkpoint says of its network, such as the names of its classes.
    model : the network in evaluation mode, on the device.

    Raises
    ------
    UserError : if the file is not a checkpoint, or one of other classes or of another network than expected.

    Examples
    --------
    A checkpoint, here of a network that has not learned anything:

    >>> from tempfile import TemporaryDirectory
    >>> from cloudseg.models.checkpoint_file import write_state
    >>> folder = TemporaryDirectory()
    >>> checkpoint = f"{folder.name}/best.safetensors"
    >>> header = NetworkHeader("tu-test_resnet", "fpn", classes=("Fish", "Sugar"))
    >>> write_state(model_of(header).network.state_dict(), checkpoint, header.metadata)

    Predict a new image, shrunk to the size that the network was trained at; level 128 is a probability of 0.5:

    >>> image = np.zeros((64, 96, 3), np.uint8)
    >>> predictor = Predictor(checkpoint, Recipe(), size=(350, 525))
    >>> probabilities = predictor(image[None])
    >>> masks = dict(zip(predictor.header.classes, probabilities[0] >= 128, strict=True))
    >>> probabilities.shape, probabilities.dtype, masks["Sugar"].shape
    ((1, 2, 350, 525), dtype('uint8'), (350, 525))
    >>> folder.cleanup()
    """

    def __init__(
        self,
        checkpoint: str | Path,
        recipe: Recipe,
        *,
        size: tuple[int, int] | None = None,
        device: str | torch.device = "cpu",
        classes: Sequence[str] | None = None,
        network: Mapping[str, str] | None = None,
        previous: "Predictor | None" = None,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = devices.compute_dtype(recipe.precision, self.device)
        self.variants = variants_of(recipe)
        state, metadata = read_state(checkpoint)
        self.header = NetworkHeader.of(metadata, checkpoint)
        self.header.require(checkpoint, classes, network)
        model = _network_like(self.header, previous)
        load_strictly(model.network, state, checkpoint)
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)
        self._size = size
        self._preprocessing = Preprocessing(recipe.normalise.mean, recipe.normalise.std, self.header.channels)
        self._intensities = self._preprocessing.intensities(self.device)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities of images as they are stored.

        Parameters
        ----------
        images : (N, H, W, 3) uint8, RGB. Another N gives other last bits.

        Returns
        -------
        ndarray : (N, classes, height, width) uint8, floor(255 p + 0.5).

        Raises
        ------
        ConfigError : if a view makes the images smaller than the decoder takes them, or the network is a classifier
            alone, whose values :meth:`quantised` gives.
        TypeError : if the images have another shape or type.
        """
        self._require_masks()
        return self.quantised(images).planes.cpu().numpy()

    def quantised(self, images: np.ndarray) -> Probabilities:
        """Return what prediction stores, uint8 on the device, without waiting for the device.

        The planes are what a call returns, None of a classifier alone. The values of a network with a classification
        head are rounded likewise.
        """
        mean = self._mean(images, self.variants)
        values = None if mean.values is None else quantise(mean.values)
        if mean.planes is None:
            return Probabilities(None, values)
        # Rounded image by image, so that the float planes of a whole batch are never in memory at once
        planes = torch.cat([quantise(plane) for plane in self._resized(mean.planes, images)])
        return Probabilities(planes, values)

    def probabilities(self, images: np.ndarray, variants: Sequence[Variant] | None = None) -> torch.Tensor:
        """Return the probabilities of images before they are rounded.

        Parameters
        ----------
        images : (N, H, W, 3) uint8, RGB.
        variants : other views than those of the recipe.

        Returns
        -------
        Tensor : (N, classes, height, width) float32, 0 to 1, on the device.

        Raises
        ------
        ConfigError : as of a call.
        """
        self._require_masks()
        mean = self._mean(images, self.variants if variants is None else variants)
        return torch.cat(list(self._resized(mean.planes, images)))

    def require_size(self, size: tuple[int, int], source: str | Path) -> None:
        """Raise if images are, in one of the views, smaller than the decoder takes them.

        Parameters
        ----------
        size : height and width of the images.
        source : where they come from, for the message.
        """
        side, minimum = smallest_side(self.variants, size), demands(self.header.decoder, self.header.options).minimum
        if side < minimum:
            raise ConfigError(
                f"{source}: expected sides of at least {minimum} pixels in all views for {self.header.decoder}, "
                f"got {side} from {size[0]}x{size[1]}; raise the `scale` of the view in `tta`"
            )

    def _require_masks(self) -> None:
        if not self.header.has_masks:
            raise ConfigError(f"a {self.header.decoder} says which classes are in an image, and gives no planes")

    def _mean(self, images: np.ndarray, variants: Sequence[Variant]) -> Probabilities:
        """Return the mean of the views at the size of the images."""
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise TypeError(f"expected images (N, H, W, 3) of uint8, got {images.shape} of {images.dtype}")
        self.require_size(images.shape[1:3], "images")
        normalised = self._preprocessing(torch.from_numpy(images).to(self.device))
        with autocast(self.device, self.dtype), devices.resizing_natively(self.device):
            return mean_of_variants(self.model, normalised, variants, self._intensities)

    def _resized(self, planes: torch.Tensor, images: np.ndarray) -> Iterator[torch.Tensor]:
        """Yield the planes (1, classes, height, width) of one image after the other, in the wanted size."""
        # Image by image, which on a CPU takes half the time of resizing the large planes of a whole batch
        for image in planes.split(1):
            with devices.resizing_natively(self.device):
                resized = resize(image, self._size or images.shape[1:3])
            yield resized


def _network_like(header: NetworkHeader, previous: Predictor | None) -> Segmenter:
    """Return the network that a checkpoint is of: that of a predictor when it is of the same kind, else a new one."""
    if previous is not None and header.is_like(previous.header):
        return previous.model
    return model_of(header)
