"""A bundle whose networks are in memory, for Python: image in, probabilities and masks out."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cloudseg.bundle.bundle import Bundle
from cloudseg.errors import DamagedFileError, DeviceError
from cloudseg.inference.ensemble import EnsemblePredictor, Views


class Prediction(NamedTuple):
    """What an ensemble says of one image, on the grid of its masks.

    Parameters
    ----------
    probabilities : uint8 (classes, height, width), 255 is certainty.
    masks : bool (classes, height, width).
    """

    probabilities: np.ndarray
    masks: np.ndarray


class LoadedBundle:
    """The networks of a bundle on a device.

    Parameters
    ----------
    bundle : what they are of.
    device : where to compute.
    threads : numerical threads of the CPU; None is as many as then, which gives the same bits.

    Raises
    ------
    UserError : for networks that cannot be loaded.

    Attributes
    ----------
    predictor : what images are shown to.
    """

    def __init__(self, bundle: Bundle, device: torch.device, threads: int | None = None) -> None:
        self.bundle = bundle
        try:
            with bundle.unpacked(device, threads) as settings:
                self.predictor = EnsemblePredictor(settings, device)
        except DamagedFileError as error:  # its networks lie in a temporary folder while they are read
            raise bundle.archive.damaged_by(error) from None

    @property
    def classes(self) -> list[str]:
        """The names of the planes."""
        return self.bundle.classes

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the masks."""
        return self.bundle.size

    def predict(self, image: np.ndarray) -> Prediction:
        """Return the probabilities and the masks of an image.

        Parameters
        ----------
        image : uint8 (H, W, 3), RGB, of any size.

        Raises
        ------
        TypeError : for any other array.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise TypeError(f"expected an image (H, W, 3) of uint8, RGB, got {image.shape} of {image.dtype}")
        said = self.predictor.segment([Views.of(image, self.predictor.settings)])
        masks = self.predictor.settings.rule.masks(said.probabilities[0], said.evidence)
        return Prediction(said.probabilities[0], masks.astype(bool))


def load(path: str | Path, device: str = "auto", threads: int | None = None) -> LoadedBundle:
    """Load a bundle.

    Parameters
    ----------
    path : the file that `snakemake bundle` packed.
    device : ``auto`` takes a CUDA device where torch sees one, else the CPU.
    threads : numerical threads of the CPU; None is as many as when the submission was made, which gives the same bits.

    Raises
    ------
    FileNotFoundError : if there is no such file.
    UserError : if it is no bundle, or there is no such device.
    """
    return LoadedBundle(Bundle.read(path), _device(device), threads)


def _device(word: str) -> torch.device:
    if word not in ("auto", "cuda", "cpu"):
        raise DeviceError(f"device: expected auto, cuda or cpu, got {word!r}")
    if word == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device: cuda, but torch sees no CUDA device; check `nvidia-smi`, or take auto or cpu")
    return torch.device("cpu" if word == "cpu" or not torch.cuda.is_available() else "cuda")
