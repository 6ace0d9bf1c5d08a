"""Write the finished runs of a folder of results for one tracker."""

import importlib
import shutil
from pathlib import Path
from types import ModuleType

from cloudseg.errors import ConfigError
from cloudseg.storage import files
from cloudseg.trackers.run import find_runs

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny", "wandb": "wandb"}
"""The trackers, and the packages on PyPI that write their files."""


def export(tracker: str, results: str | Path, folder: str | Path) -> int:
    """Write a folder for a tracker, which takes its name when it is whole; return how many runs are in it.

    Parameters
    ----------
    tracker : a key of `PACKAGES`.
    results : such as ``results/demo``.
    folder : the folder to write; what was there is replaced.

    Raises
    ------
    ConfigError : if no training has finished, or the tracker is not installed.
    """
    module = exporter(tracker)
    runs = find_runs(results, finished=True)
    if not runs:
        raise ConfigError(f"{results}: no training has finished yet; call this again when one has")
    folder = Path(folder)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    files.make_folder(part)
    module.write(runs, part, final=folder, project=Path(results).name)
    files.sync_tree(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
    files.sync(folder.parent)
    return len(runs)


def exporter(tracker: str) -> ModuleType:
    """Return the module that writes for a tracker.

    Raises
    ------
    ConfigError : if the tracker's own package is not installed, with how to install it.
    """
    try:
        return importlib.import_module(f"cloudseg.trackers.{tracker}")
    except ImportError as error:
        raise ConfigError(f"{tracker}: {error}; type: pip install {PACKAGES[tracker]}") from error
