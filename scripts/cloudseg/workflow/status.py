"""How far a plan is: what has become of its trainings and predictions, read from their files and nothing else.

All of it is safe beside a call of Snakemake that runs, and on another machine that sees the files.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cloudseg.config.fold_names import ALL
from cloudseg.runtime.job_progress import SUFFIX
from cloudseg.runtime.job_state import Job, State, read_job
from cloudseg.training.finished import STATE
from cloudseg.training.history import FILE, Epoch, read_history
from cloudseg.training.record import RunRecord
from cloudseg.workflow.durations import Durations
from cloudseg.workflow.notices import recipe_differences
from cloudseg.workflow.plan import Plan
from cloudseg.workflow.run import Prediction, Run
from cloudseg.workflow.sheet import RunKey


@dataclass(frozen=True)
class RunStatus:
    """What has become of a run."""

    key: RunKey
    training: Job
    epochs: list[Epoch]
    """As far as they are written: the one that is trained is not among them."""
    total_epochs: int
    images_per_second: float | None
    seconds: float | None
    """What is left of a training that runs; what a finished one took."""
    predictions: dict[str, Job] = field(default_factory=dict)
    """By split; those that the plan asks for."""
    resumes: bool = False
    """Whether a training that was stopped goes on after its last epoch."""
    replaced: bool = False
    """Whether what has finished is of another recipe than the config's now."""

    @property
    def jobs(self) -> list[Job]:
        """All jobs of the run."""
        return [self.training, *self.predictions.values()]

    @property
    def done_epochs(self) -> float:
        """The epochs that are done."""
        progress = self.training.progress
        told = progress.done if progress and progress.unit == "epochs" else 0
        return max(told, len(self.epochs))

    @property
    def last_dice(self) -> float | None:
        """Dice of the last epoch; None where none is counted."""
        return _known(self.epochs[-1].dice) if self.epochs else self._fact("dice")

    @property
    def best(self) -> Epoch | None:
        """The epoch of the best Dice."""
        counted = [epoch for epoch in self.epochs if _known(epoch.dice) is not None]
        return max(counted, key=lambda epoch: epoch.dice, default=None)

    @property
    def best_dice(self) -> float | None:
        """The best Dice."""
        return self.best.dice if self.best else self._fact("best_dice")

    def _fact(self, name: str) -> float | None:
        return self.training.progress.facts.get(name) if self.training.progress else None


@dataclass(frozen=True)
class Status:
    """What has become of all runs of a plan."""

    results: Path
    runs: list[RunStatus]
    others: list[Job]
    """Jobs of other rules that run, or have failed."""

    def count(self, jobs: Iterable[Job], state: State) -> int:
        """Return how many of some jobs are in a state."""
        return sum(job.state == state for job in jobs)

    @property
    def trainings(self) -> list[Job]:
        """The trainings."""
        return [run.training for run in self.runs]

    @property
    def predictions(self) -> list[Job]:
        """The predictions."""
        return [job for run in self.runs for job in run.predictions.values()]

    @property
    def unfinished(self) -> list[tuple[str, dict[str, str]]]:
        """Rule and wildcards of each training and prediction that is not done."""
        trainings = [("train", run.key.wildcards) for run in self.runs if run.training.state != State.DONE]
        return trainings + [
            ("predict", run.key.wildcards | {"split": split})
            for run in self.runs
            for split, job in run.predictions.items()
            if job.state != State.DONE
        ]


def read_status(plan: Plan, durations: Durations, logs: Path, now: float | None = None) -> Status:
    """Return what has become of the runs of a plan.

    Parameters
    ----------
    plan : the plan.
    durations : how long its jobs take; they know the folder of the results.
    logs : the folder that ``<logs>`` stands for.
    now : seconds since the epoch.
    """
    now = time.time() if now is None else now
    splits: dict[RunKey, list[str]] = {}
    for job in plan.predictions:
        run = {name: value for name, value in job.items() if name != "split"}
        splits.setdefault(plan.run(**run).key, []).append(job["split"])
    runs = [_run_status(plan, durations, key, splits.get(key, []), now) for key in plan.sheet.keys]
    return Status(durations.results, runs, _other_jobs(logs, now))


def _run_status(plan: Plan, durations: Durations, key: RunKey, splits: list[str], now: float) -> RunStatus:
    run = plan.run(**key.wildcards)
    folder = durations.folder(run)
    record = _record(folder)
    replaced = record is not None and bool(recipe_differences(plan, run, record))
    training = read_job(folder / "train.log", done=record is not None and not replaced, now=now)
    epochs = [] if replaced and training.state == State.NOT_BEGUN else read_history(folder / FILE)
    done = training.state == State.DONE
    return RunStatus(
        key=key,
        training=training,
        epochs=epochs,
        total_epochs=len(epochs) if done else durations.total_epochs(run),
        images_per_second=record.images_per_second if done and record else _speed(plan, key, training, epochs),
        seconds=record.seconds if done and record else _seconds_left(durations, run, training, now),
        predictions={
            split: _prediction(folder, Prediction(run, split), outdated=replaced, now=now) for split in splits
        },
        resumes=not done and (folder / STATE).is_file(),
        replaced=replaced,
    )


def _known(dice: float) -> float | None:
    """Return a Dice; None of a training on all images, which has none to validate on."""
    return None if math.isnan(dice) else dice


def _record(folder: Path) -> RunRecord | None:
    """Return the record of a training that has finished."""
    try:
        return RunRecord.read(folder / "run.json")
    except (OSError, ValueError):
        return None


def _prediction(folder: Path, prediction: Prediction, *, outdated: bool, now: float) -> Job:
    """Return what has become of a prediction: its stores get their names when they are whole.

    The average of epochs is predicted by a job of its own; of the two the one that tells more.
    """
    of_average = {store: store.startswith("average-") for store in prediction.stores}
    jobs = []
    for average in sorted(set(of_average.values())):
        there = all((folder / store).is_dir() for store, is_its in of_average.items() if is_its == average)
        log = folder / f"predict-{'average-' if average else ''}{prediction.split}.log"
        jobs.append(read_job(log, done=there and not outdated, now=now))
    return min(jobs, key=lambda job: (job.state == State.DONE, job.state == State.NOT_BEGUN))


def _speed(plan: Plan, key: RunKey, training: Job, epochs: list[Epoch]) -> float | None:
    """Return the images per second of a training that runs: as it says, or by its last epoch, validation included."""
    if training.progress and (told := training.progress.facts.get("images_per_second")):
        return told
    if training.state != State.RUNNING or not epochs or not epochs[-1].seconds:
        return None
    dataset = plan.dataset
    share = 1 if key.fold == ALL else 1 - 1 / dataset.folds
    return dataset.counts["train"] * share / epochs[-1].seconds


def _seconds_left(durations: Durations, run: Run, training: Job, now: float) -> float | None:
    if training.state != State.RUNNING:
        return None
    progress = training.progress
    if progress and progress.seconds_left is not None:
        return max(0.0, progress.seconds_left - max(0.0, now - progress.updated))
    return durations.training(run).seconds


def _other_jobs(logs: Path, now: float) -> list[Job]:
    """Return the jobs of other rules that run, or ended without their outputs."""
    marked = [path.with_name(path.name.removesuffix(SUFFIX) + ".log") for path in logs.rglob(f"*{SUFFIX}")]
    marked += [path.with_name(path.name[1:].removesuffix(".note")) for path in logs.rglob(".*.log.note")]
    jobs = [read_job(log, now=now) for log in sorted({*marked, *logs.rglob("*.log")})]
    # A log that ends without an error is no sign of one: rules without outputs leave no record of them
    return [job for job in jobs if job.state in (State.RUNNING, State.FAILED, State.KILLED)]
