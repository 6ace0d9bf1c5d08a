"""Turn satellite images and run-length labels into a segmentation submission."""

from typing import TYPE_CHECKING

from cloudseg.runtime.logs import logged

if TYPE_CHECKING:
    from cloudseg.bundle.loaded import LoadedBundle

__all__ = ["__version__", "load", "logged"]

__version__ = "0.1.0"


def load(path: str, device: str = "auto", threads: int | None = None) -> "LoadedBundle":
    """Load a bundle: `cloudseg.load("bundle.zip").predict(image)` gives the probabilities and masks of an image.

    As :func:`cloudseg.bundle.loaded.load`, which brings torch.
    """
    from cloudseg.bundle import loaded

    return loaded.load(path, device, threads)
