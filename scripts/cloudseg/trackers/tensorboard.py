"""Runs as TensorBoard reads them: event files of scalars, and their hyperparameters for its HParams page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from cloudseg.trackers import events
from cloudseg.trackers.run import Plain, TrackedRun

FILE = "events.out.tfevents.cloudseg"
SHOWN = ("dice/mean", "best/dice", "loss/valid")


def write(runs: Sequence[TrackedRun], folder: Path, *, final: Path, project: str) -> None:
    """Write a folder for ``tensorboard --logdir``.

    Parameters
    ----------
    runs : finished.
    folder : where to write; `final` is its name later.
    project : what the runs belong to.
    """
    for run in runs:
        events.append(folder / run.name / FILE, [*_session(run), *events.epoch_events(run), _last(run)])
    begun = min(run.begun for run in runs)
    events.append(folder / FILE, [Event(wall_time=begun, summary=_experiment(runs, project))])
    print(f"look at it with: tensorboard --logdir {final}")


def _experiment(runs: Sequence[TrackedRun], project: str) -> Summary:
    """Return which hyperparameters and metrics the HParams page shows."""
    names = sorted({name for run in runs for name in run.hyperparameters})
    experiment = api_pb2.Experiment(
        description=project,
        hparam_infos=[api_pb2.HParamInfo(name=name) for name in names],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in SHOWN],
    )
    return _hparams("experiment", HParamsPluginData(experiment=experiment))


def _session(run: TrackedRun) -> list[Event]:
    """Return what the HParams page knows of a run."""
    start = SessionStartInfo(start_time_secs=run.begun)
    for name, value in run.hyperparameters.items():
        _set(start.hparams[name], value)
    end = SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=run.ends[-1])
    return [
        Event(wall_time=run.begun, summary=_hparams("session_start_info", HParamsPluginData(session_start_info=start))),
        Event(wall_time=run.ends[-1], summary=_hparams("session_end_info", HParamsPluginData(session_end_info=end))),
    ]


def _set(field: Any, value: Plain) -> None:
    """Give a field of any type a value."""
    if isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, str):
        field.string_value = value
    else:
        field.number_value = value


def _hparams(name: str, content: HParamsPluginData) -> Summary:
    """Return what the plugin reads, which is no number."""
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    return Summary(value=[Summary.Value(tag=f"_hparams_/{name}", metadata=SummaryMetadata(plugin_data=plugin))])


def _last(run: TrackedRun) -> Event:
    """Return what is known of a run when it has finished."""
    return Event(wall_time=run.ends[-1], step=run.epochs[-1].number, summary=events.summary_of(run.best_values))
