"""How much memory and time each job asks for: functions of its images, classes, sizes and attempts.

The constants were measured on the demo (two CPU cores; 100 and 400 images; benchmark files of the rules). A job asks
for `ROOM` times the memory and `PATIENCE` times the seconds, and for as many times that as it has been tried.
"""

import contextlib
import dataclasses
import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOM = 1.5
PATIENCE = 4
LEAST_MINUTES = 10


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a rule's job takes: a fixed part and parts that grow with its work, as measured.

    A mask is one class of one image, its seconds those on a grid of the contest's size, of one core. Megapixels at once
    are those that a network sees, the megabytes of an image those of its masks on the submission grid.
    `mb_for_images` is what the images that are decoded at the same time may take, however large they are: the jobs hold
    to it (:mod:`cloudseg.runtime.memory`).
    """

    mb: float
    mb_per_thread: float = 0
    mb_per_image: float = 0
    mb_per_mask: float = 0
    mb_per_image_megabyte: float = 0
    mb_per_megapixel_at_once: float = 0
    mb_for_images: int = 0
    seconds: float = 5
    seconds_per_image: float = 0
    seconds_per_mask: float = 0
    seconds_per_megapixel: float = 0


@dataclasses.dataclass(frozen=True)
class Work:
    """What a job has to do.

    A mask is `mask_scale` times as large as the contest's, if larger, and `image_megabytes` are those of the masks of
    one image; `megabytes` are those of tables whose size does not grow with the images.
    """

    images: float = 0
    masks: float = 0
    mask_scale: float = 1
    image_megabytes: float = 0
    megapixels: float = 0
    megapixels_at_once: float = 0
    processes: int = 1
    megabytes: float = 0


MASK_FILES = Cost(450, mb_per_thread=40, mb_for_images=3500, seconds_per_image=0.03)
COSTS = {
    "demo": Cost(400, mb_per_thread=170, mb_for_images=3500, seconds_per_image=0.2),
    "fetch": Cost(300, seconds_per_image=0.5),
    "sample": Cost(200, mb_per_image=0.002, mb_per_mask=0.002, seconds_per_image=0.01),
    "describe": Cost(300, mb_for_images=3500, seconds=30),
    "check": Cost(
        200, mb_per_thread=40, mb_per_image=0.01, mb_per_mask=0.002, mb_for_images=3500, seconds_per_image=0.03
    ),
    "folds": Cost(200, mb_per_image=0.005, seconds_per_image=1e-4),
    "pixels": Cost(
        270,
        mb_per_thread=40,
        mb_per_image=0.005,
        mb_for_images=3500,
        seconds_per_image=0.03,
        seconds_per_megapixel=0.03,
    ),
    "truth": Cost(270, mb_per_thread=20, mb_per_image=0.005, mb_for_images=3500, seconds_per_mask=0.003),
    "black": Cost(270, mb_per_thread=40, mb_per_image=0.005, mb_for_images=3500, seconds_per_image=0.06),
    "dataset_sheet": Cost(400),
    "augmented": Cost(600),
    "shift": Cost(900, mb_per_image=0.01, seconds_per_image=0.02, seconds_per_megapixel=0.1),
    "weights": Cost(1000),
    # On a CPU, whose memory holds the activations; an encoder larger than the demo's takes up to half as much again
    "train": Cost(1400, mb_per_image=0.001, mb_per_megapixel_at_once=2700, seconds_per_megapixel=4),
    "train on a GPU": Cost(2000, mb_per_image=0.001, mb_per_thread=300, seconds=60, seconds_per_megapixel=0.15),
    "predict": Cost(
        1000,
        mb_per_image=0.001,
        mb_per_image_megabyte=10,
        mb_per_megapixel_at_once=460,
        seconds_per_mask=0.004,
        seconds_per_megapixel=1.5,
    ),
    "predict on a GPU": Cost(
        2500,
        mb_per_image=0.001,
        mb_per_image_megabyte=10,
        mb_per_thread=300,
        seconds=60,
        seconds_per_mask=0.004,
        seconds_per_megapixel=0.04,
    ),
    "pseudo_labels": Cost(450, mb_per_image=0.004, seconds_per_mask=0.003),
    "blend": Cost(350, mb_per_image=0.002, mb_per_image_megabyte=2, seconds_per_mask=0.001),
    "whether": Cost(350, mb_per_image=0.002, mb_per_image_megabyte=2, seconds_per_mask=0.001),
    "search": Cost(1700, mb_per_image=0.002, seconds_per_mask=0.02),
    "surface": Cost(450, mb_per_image=0.002, mb_per_image_megabyte=4, seconds_per_mask=0.004),
    "decide": Cost(300, mb_per_mask=0.001, mb_per_image_megabyte=7, seconds_per_mask=0.001),
    "compare": Cost(450, mb_per_image=0.015, mb_per_image_megabyte=7, seconds_per_mask=0.005),
    "submit": Cost(350, mb_per_mask=0.0005, mb_per_image_megabyte=5, seconds_per_mask=0.001),
    "submission": Cost(150, mb_per_mask=0.006),
    "masks": Cost(400, mb_per_mask=0.001, seconds=10, seconds_per_mask=0.0002),
    "decision": Cost(520, seconds=10, seconds_per_mask=0.0015),
    "provenance": Cost(450, mb_per_mask=0.006, seconds_per_mask=0.0001),
    "provenance_page": Cost(250),
    "pack": Cost(450, seconds=10),
    "segment_images": Cost(
        1200,
        mb_per_image_megabyte=10,
        mb_per_megapixel_at_once=460,
        mb_for_images=3500,
        seconds_per_image=0.01,
        seconds_per_megapixel=1.5,
    ),
    "segment_images on a GPU": Cost(
        2500,
        mb_per_image_megabyte=10,
        mb_for_images=3500,
        seconds=60,
        seconds_per_image=0.01,
        seconds_per_megapixel=0.04,
    ),
    "gather_masks": Cost(200, seconds_per_mask=1e-5),
    "coco": MASK_FILES,
    "png": MASK_FILES,
    "overlays": MASK_FILES,
    "reproduce": Cost(
        1000, mb_per_image=0.002, mb_per_mask=0.006, mb_per_megapixel_at_once=460, seconds=600, seconds_per_mask=0.03
    ),
    "reproduce on a GPU": Cost(2500, mb_per_image=0.002, mb_per_mask=0.006, seconds=600, seconds_per_mask=0.01),
    "labels": Cost(350, mb_per_image=0.02, mb_per_mask=0.002, seconds=10, seconds_per_mask=0.002),
    "submission_page": Cost(420, mb_per_mask=0.004, seconds_per_mask=0.001),
    "sanity": Cost(420, mb_per_mask=0.004, seconds_per_mask=0.001),
    "leaderboard": Cost(400, mb_per_mask=0.001, seconds_per_mask=0.001),
    "classifiers": Cost(450, mb_per_image=0.01, seconds_per_mask=0.001),
    "explorer": Cost(450, mb_per_image=0.01, mb_for_images=300, seconds=10),
    "tracker": Cost(500),
    "curves": Cost(500),
    "job_times": Cost(400),
    "probe": Cost(300),
    "verify": Cost(500, mb_per_image=0.002, seconds_per_image=0.3),
    "probe_one": Cost(2000, mb_per_megapixel_at_once=2700, seconds=300),  # a training, and the processes that start it
    "ablation": Cost(450, mb_per_mask=0.02, seconds_per_mask=0.001),
    "loading": Cost(10_000, seconds=600),
    "profile": Cost(1000, mb_per_megapixel_at_once=2700, seconds=300),
    "quantising": Cost(2700, seconds=600),
}


def megabytes(cost: Cost, work: Work, threads: int = 1, attempt: int = 1) -> int:
    """Return the memory in MB that a job asks for.

    Examples
    --------
    >>> megabytes(Cost(200, mb_per_image=0.01), Work(images=10_000)), megabytes(Cost(200), Work(), attempt=2)
    (450, 600)
    """
    taken = work.processes * (cost.mb + cost.mb_per_image * work.images) + cost.mb_per_thread * threads
    taken += work.megabytes + cost.mb_per_mask * work.masks + cost.mb_per_megapixel_at_once * work.megapixels_at_once
    taken += cost.mb_per_image_megabyte * work.image_megabytes
    return attempt * (math.ceil(ROOM * taken) + cost.mb_for_images)


def minutes(cost: Cost, work: Work, threads: int = 1, attempt: int = 1) -> int:
    """Return the minutes that a job asks for.

    Examples
    --------
    >>> minutes(Cost(0, seconds_per_image=0.6), Work(images=1000)), minutes(Cost(0, seconds=0), Work(), attempt=2)
    (51, 20)
    """
    return attempt * math.ceil(LEAST_MINUTES + PATIENCE * seconds(cost, work, threads) / 60)


def seconds(cost: Cost, work: Work, threads: int = 1) -> float:
    """Return the seconds that a job is expected to take.

    Examples
    --------
    >>> seconds(Cost(0, seconds=5, seconds_per_image=0.5), Work(images=100), threads=2)
    30.0
    """
    growing = cost.seconds_per_image * work.images + cost.seconds_per_mask * work.masks * work.mask_scale
    growing += cost.seconds_per_megapixel * work.megapixels
    return cost.seconds + growing / threads


def machine_megabytes() -> int:
    """Return the memory in MB that all jobs of this machine share: that of the machine, or of this container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroups, version 2 and 1
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path("/sys/fs/cgroup", name).read_text()))
    return total // 10**6


class Estimates:
    """What jobs ask for, by rule, as resources: ``**ESTIMATES.of("train", of_run("training_work"))``.

    Parameters
    ----------
    on_cpu : whether networks compute on the CPU, whose memory then holds their activations.

    Examples
    --------
    >>> asked = Estimates(on_cpu=True).of("folds", Work(images=10_000))
    >>> {name: function(None, threads=1, attempt=2) for name, function in asked.items()}
    {'mem_mb': 750, 'runtime': 22}
    """

    def __init__(self, *, on_cpu: bool) -> None:
        self.on_cpu = on_cpu
        self._work: dict[str, Work | Callable[[Any], Work]] = {}

    def of(self, rule: str, work: Work | Callable[[Any], Work]) -> dict[str, Callable[..., int]]:
        """Return the functions of a rule's ``mem_mb`` and ``runtime``.

        Parameters
        ----------
        rule : a key of ``COSTS``.
        work : what each job of the rule has to do, or a function of its wildcards that says it.
        """
        cost = self.cost(rule)
        self._work[rule] = work

        def mem_mb(wildcards: Any, threads: int, attempt: int) -> int:
            return megabytes(cost, work(wildcards) if callable(work) else work, threads, attempt)

        def runtime(wildcards: Any, threads: int, attempt: int) -> int:
            return minutes(cost, work(wildcards) if callable(work) else work, threads, attempt)

        return {"mem_mb": mem_mb, "runtime": runtime}

    def expected_seconds(self, rule: str, jobs: Sequence[Mapping[str, str]]) -> float | None:
        """Return how long one core takes for a job of a rule, the mean over jobs; None for a rule without a cost.

        Parameters
        ----------
        rule : one that :meth:`of` was asked for.
        jobs : their wildcards.

        Examples
        --------
        >>> estimates = Estimates(on_cpu=True)
        >>> _ = estimates.of("folds", Work(images=10_000))
        >>> estimates.expected_seconds("folds", [{}]), estimates.expected_seconds("another", [{}])
        (6.0, None)
        """
        work = self._work.get(rule)
        if work is None or not jobs:
            return None
        return statistics.mean(seconds(self.cost(rule), work(job) if callable(work) else work) for job in jobs)

    def cost(self, rule: str) -> Cost:
        """Return what a job of a rule costs here."""
        return COSTS[rule] if self.on_cpu else COSTS.get(f"{rule} on a GPU", COSTS[rule])
