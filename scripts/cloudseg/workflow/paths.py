"""Where files lie that more than one rule or module names, with Snakemake's path variables unresolved."""

import re
from collections.abc import Collection

FOLDS = "<results>/dataset/folds.tsv"
SPLIT_FACTS = "<results>/dataset/split.json"
TRAIN_IMAGES = "<results>/dataset/train.tsv"
TEST_IMAGES = "<results>/dataset/test.tsv"
SHIFT_SCORES = "<results>/report/shift/scores.tsv"


def path_variables(name: str) -> dict[str, str]:
    """Return Snakemake's path variables for the results of a config.

    Examples
    --------
    >>> path_variables("demo")["results"]
    'results/demo'
    """
    return {
        "results": f"results/{name}",
        "logs": "<results>/logs",
        "ensembles": "<results>/ensembles",
        "run": "<results>/runs/{encoder}/{decoder}/{size}/{recipe}/fold{fold}",
    }


def run_folder(encoder: str, decoder: str, size: str, recipe: str, fold: int | str) -> str:
    """Return the folder of a run; `fold` may be that of a replicate, or all.

    Examples
    --------
    >>> run_folder("resnet34", "fpn", "x4", "quick", 0), run_folder("resnet34", "fpn", "x4", "quick", "0-seed7")
    ('<results>/runs/resnet34/fpn/x4/quick/fold0', '<results>/runs/resnet34/fpn/x4/quick/fold0-seed7')
    """
    return f"<results>/runs/{encoder}/{decoder}/{size}/{recipe}/fold{fold}"


def runs_of(decoders: Collection[str] | None = None, recipes: Collection[str] | None = None) -> str:
    """Return the folder of runs of some decoders and recipes alone, as the pattern of an output; None takes any.

    Constraints stand in the path: Snakemake does not apply those of a rule to wildcards within a path variable.

    Examples
    --------
    >>> runs_of(["fpn", "unet"], [])
    '<results>/runs/{encoder}/{decoder,fpn|unet}/{size}/{recipe,(?!)}/fold{fold}'
    """
    wildcards = "{decoder" + _among(decoders) + "}", "{recipe" + _among(recipes) + "}"
    return "<results>/runs/{{encoder}}/{}/{{size}}/{}/fold{{fold}}".format(*wildcards)


def _among(names: Collection[str] | None) -> str:
    """Return the constraint of a wildcard to some names; of none, nothing matches."""
    return "" if names is None else f",{'|'.join(map(re.escape, sorted(names))) or '(?!)'}"


def pixel_store(split: str, size: str) -> str:
    """Return the store of the images of a split (train or test) at a size."""
    return f"<results>/dataset/{split}/{size}.zarr"


def weights_file(encoder: str, start: str) -> str:
    """Return the file of an encoder's initial weights."""
    return f"<results>/weights/{encoder}/{start}.safetensors"


def ensemble_file(ensemble: str, file: str) -> str:
    """Return a file, or store, of an ensemble."""
    return f"<ensembles>/{ensemble}/{file}"


def pseudo_labels(ensemble: str, recipe: str, size: str, fold: int | str) -> str:
    """Return the store of the labels that an ensemble makes of test images for the trainings of a fold."""
    return ensemble_file(ensemble, f"pseudo/{recipe}/{size}-fold{fold}.zarr")


def black_store(split: str, grey: int) -> str:
    """Return the store of what is black in the images of a split (train or test), up to a grey value."""
    return f"<results>/dataset/black-{split}-{grey}.zarr"
