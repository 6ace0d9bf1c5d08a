"""What decides the bytes of a prediction besides its checkpoint, as the digest in its store has it; without torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from cloudseg.config.recipe import Recipe
from cloudseg.config.views import record_of_views
from cloudseg.storage import files


def prediction_settings(
    pixels: Mapping[str, Any], recipe: Recipe, size: Sequence[int], *, precision: str, threads: int, device: str
) -> dict[str, Any]:
    """Return the settings of a prediction, without the batch, which may be halved while it runs.

    Parameters
    ----------
    pixels : attributes of the store of the images.
    recipe : its views and its normalisation count.
    size : height and width of the submission grid.
    precision : the type that the network computes in, such as ``torch.bfloat16``.
    threads : numerical threads.
    device : ``cpu`` or ``cuda``.
    """
    return {
        "pixels": pixels,
        "views": record_of_views(recipe),
        "size": size,
        "normalisation": recipe.normalise.model_dump(),
        "precision": precision,
        "threads": threads,
        "device": device,
    }


def settings_digest(settings: Mapping[str, Any], batch: int) -> str:
    """Return the attribute ``settings`` of a store that was predicted from batches of so many images."""
    return files.digest({**settings, "batch": batch})
