"""Turn satellite images and run-length labels into a segmentation submission."""

from cloudseg.runtime.logs import logged

__all__ = ["__version__", "logged"]

__version__ = "0.1.0"
