"""Runs as Weights & Biases reads them: offline files, which `wandb sync` sends when somebody wants that."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import wandb

from cloudseg.trackers.run import TrackedRun, metrics

HOMES = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR")


def write(runs: Sequence[TrackedRun], folder: Path, *, final: Path, project: str) -> None:
    """Write a folder per run, about one in a second.

    Parameters
    ----------
    runs : finished.
    folder : where to write; `final` is its name later.
    project : the name of the project.
    """
    with _own_folders(folder):
        for run in runs:
            _write_run(run, folder, project)
        wandb.teardown()
    for path in (folder / "wandb").iterdir():
        if path.is_symlink() or path.is_file():  # names of the last run's folder and logs
            path.unlink()
            continue
        shutil.rmtree(path / "logs", ignore_errors=True)
        shutil.rmtree(path / "tmp", ignore_errors=True)
        path.rename(folder / path.name)
    (folder / "wandb").rmdir()
    print(f"send it to a server with: wandb sync {final}/offline-run-*")


def _write_run(run: TrackedRun, folder: Path, project: str) -> None:
    settings = wandb.Settings(
        mode="offline",
        root_dir=str(folder),
        project=project,
        run_id=hashlib.sha256(f"{project}/{run.name}".encode()).hexdigest()[:12],
        run_name=run.name,
        run_group=run.name.rpartition("/")[0],
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    with wandb.init(settings=settings, config=run.hyperparameters) as tracked:
        for epoch, end in zip(run.epochs, run.ends, strict=True):
            tracked.log(metrics(epoch) | {"_timestamp": end}, step=epoch.number)
        tracked.summary.update(run.best_values)


@contextlib.contextmanager
def _own_folders(folder: Path) -> Iterator[None]:
    """Keep what wandb writes beside its runs out of the user's home, and it from asking for an account."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".wandb.") as own:
        os.environ |= dict.fromkeys(HOMES, own) | {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
