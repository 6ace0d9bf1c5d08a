"""How long a run will still take."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from cloudseg.terminal import expected_seconds


@dataclasses.dataclass(frozen=True)
class Running:
    """A job that runs or waits in a queue: for how long it has run, and how long it says that it will."""

    rule: str
    wildcards: Mapping[str, str]
    seconds: float
    left: float | None


def seconds_left(
    planned: Mapping[str, int],
    finished: Mapping[str, Sequence[float]],
    running: Sequence[Running],
    elapsed: float,
    threads: Mapping[str, int],
) -> float | None:
    """Return about how many seconds a run will still take.

    What is left, job by job, is divided by how many jobs ran at once so far. A job takes what those of its rule took
    that have ended; while there is none, what is expected of one core, divided by the threads of the rule.

    Parameters
    ----------
    planned : jobs of each rule in the whole run.
    finished : seconds of the jobs of each rule that have ended.
    running : jobs that run.
    elapsed : seconds since the run began.
    threads : of a job of each rule, as far as they are known.

    Returns
    -------
    float : None while some rule's time is not known, or nothing has been done yet.

    Examples
    --------
    >>> running = [Running("train", {}, 30.0, 30.0), Running("train", {}, 30.0, None)]
    >>> seconds_left({"train": 5}, {"train": [60.0]}, running, 60.0, {})
    90.0
    """

    def usual(rule: str, wildcards: Mapping[str, str]) -> float | None:
        if rule in finished:
            return statistics.median(finished[rule])
        seconds = expected_seconds(rule, wildcards)
        return None if seconds is None else seconds / threads.get(rule, 1)

    lefts: list[float | None] = []
    for job in running:
        whole = usual(job.rule, job.wildcards)
        lefts.append(job.left if job.left is not None else None if whole is None else max(0.0, whole - job.seconds))
    waiting = {rule: count - len(finished.get(rule, ())) for rule, count in planned.items()}
    for job in running:
        waiting[job.rule] = waiting.get(job.rule, 1) - 1
    usually = {rule: usual(rule, {}) for rule, count in waiting.items() if count > 0}
    spent = sum(map(sum, finished.values())) + sum(job.seconds for job in running)
    if None in lefts or None in usually.values() or not spent:
        return None
    total = sum(lefts) + sum(waiting[rule] * seconds for rule, seconds in usually.items())
    return max(total / max(1.0, spent / elapsed), *lefts, 0.0)
