"""The samples that a recipe trains on: augmented, resized and mixed as it says, in each of its stages."""

import itertools

from torch.utils.data import Dataset

from cloudseg.config.recipe import Recipe
from cloudseg.training.data.augment import build_transform
from cloudseg.training.data.dataset import SegmentationDataset, StagedDataset
from cloudseg.training.data.images import Images
from cloudseg.training.data.mixing import MixedDataset


def first_epochs(recipe: Recipe) -> list[int]:
    """Return the first epoch, from 1, of each stage of a recipe.

    Examples
    --------
    >>> first_epochs(Recipe(epochs=5, stages=[{"epochs": 2}, {"epochs": 3}])), first_epochs(Recipe())
    ([1, 3], [1])
    """
    stages = recipe.stages or ()
    return [1, *(1 + end for end in itertools.accumulate(stage.epochs for stage in stages[:-1]))]


def training_samples(
    images: Images, recipe: Recipe, *, classes: int, size: tuple[int, int], seed: int
) -> SegmentationDataset | StagedDataset | MixedDataset:
    """Return the samples that a recipe trains on, by (epoch, index), epochs from 1.

    Parameters
    ----------
    images : to train on, with their masks.
    recipe : its augmentation, mixes and stages.
    classes : number of classes of the masks.
    size : (height, width) to train at, where a stage has no size of its own.
    seed : of the training.

    Returns
    -------
    Dataset : pairs of an image (H, W, 3) and its mask, both uint8; masks are (H, W, classes) in 255ths where the recipe
        has soft targets and else bits (:func:`cloudseg.training.data.dataset.planes_of`).
    """

    def of_stage(epoch: int) -> SegmentationDataset:
        own_size = recipe.stage_size(epoch)
        return SegmentationDataset(
            images,
            transform=build_transform(recipe.stage_at(epoch).steps),
            seed=seed,
            size=own_size.pixels if own_size else size,
            soft_classes=classes if recipe.soft_targets else None,
        )

    samples: Dataset = of_stage(1)
    if recipe.stages:
        samples = StagedDataset({first: of_stage(first) for first in first_epochs(recipe)})
    if recipe.cutmix or recipe.mixup:
        samples = MixedDataset(samples, seed=seed, cutmix=recipe.cutmix, mixup=recipe.mixup)
    return samples
