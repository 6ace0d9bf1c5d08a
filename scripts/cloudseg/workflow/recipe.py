"""A recipe, as the picture of its augmentation needs it."""

import dataclasses
from typing import Any

from cloudseg.config.recipe import Recipe
from cloudseg.report.params import page_params
from cloudseg.workflow import paths
from cloudseg.workflow.dataset import DatasetPlan, estimated_pixels

SHOWN = "augmentation", "channels", "brightness", "cutmix", "mixup", "stages"  # keys that decide the picture


@dataclasses.dataclass(frozen=True)
class AugmentedRecipe:
    """A recipe and the images that it augments."""

    dataset: DatasetPlan
    name: str

    @property
    def _recipe(self) -> Recipe:
        return self.dataset.config.recipes[self.name]

    @property
    def store(self) -> str:
        """The store of the images that the recipe augments; of several sizes the largest."""
        sizes = [row.size for row in self.dataset.experiments if row.recipe == self.name]
        return paths.pixel_store("train", str(self._recipe.canvas or max(sizes, key=estimated_pixels)))

    @property
    def augmentation(self) -> dict[str, Any]:
        """What a picture of the augmentation, which Snakemake's report shows, needs of the recipe."""
        return page_params(self._recipe.canonical(*SHOWN))
