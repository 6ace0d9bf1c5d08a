"""Runs as MLflow reads them: its file store, which takes no server and no database."""

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

# Read when mlflow is imported, or by its store: no word to its makers, and the file store, which newer versions want
# to be asked for
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from cloudseg.trackers.run import TrackedRun, metrics

AT_ONCE = 1000  # metrics that the store takes in one call; it takes 100 parameters
AT_ONCE_PARAMS = 100
DEFAULT = "0"  # the experiment that every store begins with


def write(runs: Sequence[TrackedRun], folder: Path, *, final: Path, project: str) -> None:
    """Write a file store.

    Parameters
    ----------
    runs : finished.
    folder : where to write; `final` is its name later, which the store's own files name.
    project : the name of the MLflow experiment.
    """
    client = MlflowClient(tracking_uri=folder.resolve().as_uri())
    experiment = client.create_experiment(project, artifact_location=(final.resolve() / "artifacts").as_uri())
    for run in runs:
        _write_run(client, experiment, run)
    shutil.rmtree(folder / DEFAULT, ignore_errors=True)
    shutil.rmtree(folder / ".trash", ignore_errors=True)
    print(f"look at it with: MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {final}")


def safe(name: str) -> str:
    """Return a name that MLflow takes for a metric, which is a path in its store.

    Examples
    --------
    >>> safe("dice/Fish"), safe("dice/../a"), safe("dice/Рыба")
    ('dice/Fish', 'dice/_/a-618124', 'dice/____-882552')
    """
    kept = "/".join(_part(part) for part in name.split("/"))
    return kept if kept == name else f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _part(part: str) -> str:
    return "_" if part.strip(". ") == "" else re.sub(r"[^A-Za-z0-9 ._-]", "_", part)


def _write_run(client: MlflowClient, experiment: str, run: TrackedRun) -> None:
    created = client.create_run(experiment, start_time=_milliseconds(run.begun), run_name=run.name)
    identity = created.info.run_id
    names = {name: safe(name) for epoch in run.epochs for name in metrics(epoch)}
    rows = [
        Metric(names[name], value, _milliseconds(end), epoch.number)
        for epoch, end in zip(run.epochs, run.ends, strict=True)
        for name, value in metrics(epoch).items()
    ]
    if best := run.best:
        rows.append(Metric("best/dice", best.dice, _milliseconds(run.ends[run.epochs.index(best)]), best.number))
    for start in range(0, len(rows), AT_ONCE):
        client.log_batch(identity, metrics=rows[start : start + AT_ONCE])
    params = [Param(name, str(value)) for name, value in run.hyperparameters.items()]
    for start in range(0, len(params), AT_ONCE_PARAMS):
        client.log_batch(identity, params=params[start : start + AT_ONCE_PARAMS])
    renamed = [RunTag(key, name) for name, key in names.items() if key != name]
    client.log_batch(identity, tags=renamed)
    client.set_terminated(identity, "FINISHED", end_time=_milliseconds(run.ends[-1]))


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
