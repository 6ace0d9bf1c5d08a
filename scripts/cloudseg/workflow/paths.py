"""Where files lie that more than one rule or module names, with Snakemake's path variables unresolved."""

FOLDS = "<results>/dataset/folds.tsv"
TRAIN_IMAGES = "<results>/dataset/train.tsv"
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


def pixel_store(split: str, size: str) -> str:
    """Return the store of the images of a split (train or test) at a size."""
    return f"<results>/dataset/{split}/{size}.zarr"


def weights_file(encoder: str, start: str) -> str:
    """Return the file of an encoder's initial weights."""
    return f"<results>/weights/{encoder}/{start}.safetensors"


def ensemble_file(ensemble: str, file: str) -> str:
    """Return a file, or store, of an ensemble."""
    return f"<ensembles>/{ensemble}/{file}"


def black_store(split: str, grey: int) -> str:
    """Return the store of what is black in the images of a split (train or test), up to a grey value."""
    return f"<results>/dataset/black-{split}-{grey}.zarr"
