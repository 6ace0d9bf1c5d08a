"""The text of `snakemake status`: 120 columns wide at most, a line per run, or per experiment where there are many."""

import statistics
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cloudseg.config.fold_names import ALL
from cloudseg.runtime.job_state import Job, State
from cloudseg.texts import printable, shorten
from cloudseg.workflow.durations import Durations, hours, roughly
from cloudseg.workflow.status import RunStatus, Status

WIDTH = 120
MIN_ENCODER = 8  # characters that an encoder is still known by
MOST_LINES = 40
SILENT_AFTER = 120.0  # seconds without a word after which a line says so
TROUBLE = (State.FAILED, State.KILLED, State.STOPPED)
HEADINGS = ["run", "state", "epoch", "Dice", "best", "images/s", "time", "valid", "test"]
Row = list[str]


def status_page(status: Status, durations: Durations) -> str:
    """Return what a person wants to know of a plan that runs, has run or will run.

    Parameters
    ----------
    status : what has become of its jobs.
    durations : how long those that are left will take.
    """
    begun = [run for run in status.runs if any(job.state != State.NOT_BEGUN for job in run.jobs)]
    by_rank: dict[int, list[RunStatus]] = {0: [], 1: [], 2: []}
    for run in begun:
        by_rank[_rank(run)].append(run)
    active, failed, others = by_rank.values()
    rows = [_row(run) for run in [*active, *failed]]
    note = ""
    if len(begun) <= MOST_LINES:
        rows += [_row(run) for run in others]
    else:
        begun_experiments = {run.key.experiment for run in others}
        rows, note = _with_experiments(rows, [run for run in status.runs if run.key.experiment in begun_experiments])
    parts = [
        _table(rows),
        note,
        *_other_lines(status),
        *_trouble(status, failed + active),
        _replaced(status),
        "\n".join(_totals(status)),
        hours(durations, status.unfinished),
    ]
    return "\n\n".join(part for part in [f"{status.results}", *parts] if part)


def _rank(run: RunStatus) -> int:
    """Return how far up a run stands: what runs, what needs somebody, all else."""
    states = {job.state for job in run.jobs}
    return 0 if State.RUNNING in states else 1 if states & set(TROUBLE) else 2


def name_of(run: RunStatus) -> str:
    """Return the words that name a run."""
    return " ".join([*run.key[:4], f"fold {run.key.fold_name}"])


def shorten_name(name: str, width: int) -> str:
    """Cut the encoder in the name of a run: its other words tell it from its neighbours.

    Examples
    --------
    >>> shorten_name("tu-tf_efficientnet_lite0 fpn x4 quick fold 0", 36)
    'tu-tf_e…et_lite0 fpn x4 quick fold 0'
    """
    encoder, _, others = name.partition(" ")
    room = width - len(others) - 1
    return f"{shorten(encoder, room)} {others}" if room >= MIN_ENCODER else shorten(name, width)


def _row(run: RunStatus) -> Row:
    total, best = run.total_epochs, run.best
    return [
        name_of(run),
        "paused" if run.training.paused else run.training.state.value * (run.training.state != State.NOT_BEGUN),
        f"{run.done_epochs:.3g}/{total}" if run.done_epochs or run.training.state == State.RUNNING else "",
        _number(run.last_dice, ".4f"),
        _number(run.best_dice, ".4f") + (f" ({best.number})" if best else ""),
        _number(run.images_per_second, ".3g"),
        _time(run),
        *(_state(run.predictions[split]) if split in run.predictions else "-" for split in ("valid", "test")),
    ]


def _time(run: RunStatus) -> str:
    """Return what a training took, what is left of it, or since when it says nothing."""
    if _is_silent(run.training):
        return _state(run.training)
    if run.seconds is None or run.training.paused:
        return ""
    return roughly(run.seconds) + " left" * (run.training.state == State.RUNNING)


def _state(job: Job) -> str:
    """Return the state of a job in a word, or how far it is, or since when it says nothing."""
    if job.state == State.NOT_BEGUN:
        return ""
    if job.state != State.RUNNING:
        return job.state.value
    if job.paused:
        return "paused"
    if _is_silent(job):
        return f"no word for {roughly(job.silent)}"
    progress = job.progress
    if progress and progress.unit != "epochs" and progress.total:
        return f"{progress.done / progress.total:.0%}"
    return job.state.value


def _is_silent(job: Job) -> bool:
    return job.state == State.RUNNING and job.silent > SILENT_AFTER and not job.paused


def _with_experiments(rows: list[Row], runs: Sequence[RunStatus]) -> tuple[list[Row], str]:
    """Return rows of single runs and one per experiment of others: as many as fit, best first."""
    experiments: dict[tuple[str, ...], list[RunStatus]] = {}
    for run in runs:
        experiments.setdefault(run.key.experiment, []).append(run)

    def dice(folds: list[RunStatus]) -> float:
        return statistics.mean([run.last_dice for run in folds if run.last_dice is not None] or [0.0])

    ranked = sorted(experiments.values(), key=dice, reverse=True)
    room = max(MOST_LINES - len(rows), 10)
    rows = rows[:MOST_LINES] + [_experiment_row(folds) for folds in ranked[:room]]
    more = [f"{len(ranked) - room} more experiments, which are below these"] if len(ranked) > room else []
    return rows, "means over the folds of each experiment" + "".join(f"; {text}" for text in more)


def _experiment_row(folds: list[RunStatus]) -> Row:
    def mean(value: Callable[[RunStatus], float | None], form: str) -> str:
        values = [found for run in folds if (found := value(run)) is not None]
        return _number(statistics.mean(values), form) if values else ""

    seconds = [run.seconds for run in folds if run.seconds is not None]
    return [
        " ".join(folds[0].key.experiment),
        f"{_count([run.training for run in folds])} {'runs' if any(run.key.fold == ALL for run in folds) else 'folds'}",
        mean(lambda run: run.done_epochs, ".3g"),
        mean(lambda run: run.last_dice, ".4f"),
        mean(lambda run: run.best_dice, ".4f"),
        mean(lambda run: run.images_per_second, ".3g"),
        roughly(statistics.mean(seconds)) if seconds else "",
        *(
            _count([run.predictions[split] for run in folds if split in run.predictions]) or "-"
            for split in ("valid", "test")
        ),
    ]


def _count(jobs: Sequence[Job]) -> str:
    return f"{sum(job.state == State.DONE for job in jobs)}/{len(jobs)}" if jobs else ""


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _table(rows: list[Row]) -> str:
    """Lay rows out; the first column gives up what is too wide."""
    if not rows:
        return ""
    columns = list(zip(HEADINGS, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    lines = []
    for row in [HEADINGS, *rows]:
        cells = [shorten_name(row[0], widths[0]).ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _other_lines(status: Status) -> Iterable[str]:
    running = [job for job in status.others if job.state == State.RUNNING]
    lines = [f"{_log_name(status, job)}: {_state(job)}" for job in running]
    yield "\n".join(shorten(line, WIDTH) for line in lines[:MOST_LINES])


def _trouble(status: Status, runs: Sequence[RunStatus]) -> Iterable[str]:
    """Yield why jobs failed, each with its log."""
    jobs = [(job, run) for run in runs for job in run.jobs]
    jobs += [(job, None) for job in status.others]
    jobs = [(job, run) for job, run in jobs if job.state in TROUBLE or job.paused or _is_silent(job)]
    for job, run in jobs[:MOST_LINES]:
        reason = _reason(job)
        if run and run.resumes and job is run.training and job.state in TROUBLE and "goes on after" not in reason:
            reason += "; the next call goes on after its last epoch"
        state = job.state if job.state in TROUBLE else _state(job)
        head = printable(f"{state}: {name_of(run) if run else _log_name(status, job)}: {reason}")
        yield "\n".join([*textwrap.wrap(head, WIDTH, subsequent_indent="  "), printable(f"  log: {job.log}")])
    if len(jobs) > MOST_LINES:
        yield f"and {len(jobs) - MOST_LINES} more"


def _reason(job: Job) -> str:
    """Return what is known of why a job does not run, or says nothing."""
    if job.paused:
        return f"a signal has stopped its process {job.process}; `kill -CONT {job.process}` lets it go on"
    if _is_silent(job) and job.process is not None:
        return f"its process {job.process} is there, but has written nothing since"
    if _is_silent(job):
        return f"the last word was from {job.host}; if nothing runs there any more, it was killed"
    if job.reason:
        return job.reason
    return "its process is gone, without a word: it was killed, with its Snakemake or because the memory was not enough"


def _log_name(status: Status, job: Job) -> str:
    """Return the name of a job of another rule: that of its log below the folder of the logs."""
    logs = status.results / "logs"
    path: Path = job.log.relative_to(logs) if job.log.is_relative_to(logs) else job.log
    return path.with_suffix("").as_posix()


def _replaced(status: Status) -> str:
    count = sum(run.replaced for run in status.runs)
    return f"{count} finished training(s) are of another recipe than the config's now and count as not begun" * bool(
        count
    )


def _totals(status: Status) -> Iterable[str]:
    for kind, jobs in (("trainings", status.trainings), ("predictions", status.predictions)):
        counts = {state: status.count(jobs, state) for state in State}
        words = [f"{counts[State.DONE]} of {len(jobs)} done"]
        words += [f"{count} {state}" for state, count in counts.items() if count and state != State.DONE]
        yield f"{kind}: {', '.join(words)}"
