"""A recipe, as the picture of its augmentation needs it."""

import dataclasses
from typing import Any

from cloudseg.config import schema
from cloudseg.report.params import page_params
from cloudseg.workflow import paths
from cloudseg.workflow.dataset import DatasetPlan, estimated_pixels
from cloudseg.workflow.run import RECIPE


@dataclasses.dataclass(frozen=True)
class AugmentedRecipe:
    """A recipe and the images that it augments."""

    dataset: DatasetPlan
    name: str

    @property
    def _recipe(self) -> dict[str, Any]:
        return self.dataset.settings["recipes"][self.name]

    @property
    def store(self) -> str:
        """The store of the images that the recipe augments; of several sizes the largest."""
        experiments = self.dataset.experiments
        sizes = experiments.loc[experiments["recipe"] == self.name, "size"]
        return paths.pixel_store("train", self._recipe["canvas"] or max(sizes, key=estimated_pixels))

    @property
    def augmentation(self) -> dict[str, Any]:
        """What a picture of the augmentation, which Snakemake's report shows, needs of the recipe."""
        needed = {key: self._recipe[key] for key in ("augmentation", "channels")}
        return page_params(schema.canonical(needed, RECIPE))
