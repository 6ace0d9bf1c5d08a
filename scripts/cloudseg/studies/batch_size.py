"""A batch-size finder: how many images a device sees at once in training, and how long its steps take.

No images and no weights are needed: random ones take as much memory and time. Each trial has a process of its own, so
that none finds what an earlier one left in the allocator, and one that dies for want of memory takes nothing along.
"""

import functools
import statistics
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd
import tabulate
import torch

from cloudseg.config.batching import LEAST, images_at_once, pieces
from cloudseg.config.recipe import Recipe
from cloudseg.config.sheet import KEY
from cloudseg.errors import ConfigError, OutOfMemoryError
from cloudseg.models.preprocessing import CHANNELS
from cloudseg.models.segmenter import build_model
from cloudseg.runtime import devices
from cloudseg.runtime.isolation import available_memory, isolated, memory_limit
from cloudseg.training.data.sampler import BatchSampler
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.trainer import Trainer

MOST = 256  # images; throughput has long levelled off, and a batch of more is another training
SLOW = 5.0  # seconds of a step after which no larger number is tried: a CPU has more memory than patience
TOO_SLOW = 20.0  # seconds that a step of a recipe may take to be tried all the same
TIMED = 0.5  # seconds of steps that are timed, so that the clock and the scheduler do not count
STEPS = 10  # that are timed at most
EXACT = 8  # the largest number is found to one image or to this part of it, whichever is more
OWN_MEMORY = 1500  # MiB that a job which probes holds besides a trial: two processes with torch in them


@dataclass(frozen=True)
class Fitted:
    """The figures of a trial that fitted."""

    seconds_per_step: float
    images_per_second: float
    peak_memory_mib: int

    def __str__(self) -> str:
        """Return one line for a reader."""
        return (
            f"{self.seconds_per_step:.3g} s a step, {self.images_per_second:.3g} images/s, {self.peak_memory_mib} MiB"
        )


@dataclass(frozen=True)
class OutOfMemory:
    """What was said when the memory was not enough for a trial."""

    reason: str

    def __str__(self) -> str:
        """Return one line for a reader."""
        return f"not enough memory ({self.reason})"


Outcome = Fitted | OutOfMemory
Attempt = Callable[[int, int], Outcome]
"""From images, and the number of micro-batches in which they are seen, to the outcome of a trial."""

FIGURES = [field.name for field in fields(Fitted)]


def find_batch_size(
    *,
    encoder: str,
    decoder: str,
    size: Sequence[int],
    classes: int,
    recipe: Recipe,
    device: str | torch.device,
    threads: int = 1,
    submission_size: Sequence[int] | None = None,
    most: int = MOST,
    memory: int | None = None,
) -> list[dict[str, Any]]:
    """Find the largest number of images that a device sees at once in training, and whether a recipe fits.

    Parameters
    ----------
    encoder, decoder : names of smp.
    size : (height, width) of the images, pixels.
    classes : number of planes.
    recipe : by which the network is trained; ``compile`` is off here.
    device : where to train. This process must not have computed on it.
    threads : numerical threads.
    submission_size : (height, width) of the submission grid, for ``loss_grid: submission``.
    most : images at once that are tried at most, >= 2.
    memory : MiB that the training may take; None is all that a CUDA device has, or that the machine has available.
        On the CPU it is a limit of the kernel's on what the process adds to what it holds before (Linux).

    Returns
    -------
    list of dict : one with ``what`` ``tried`` for each number that fitted,

        - ``images``, ``seconds_per_step`` (median), ``images_per_second`` and ``peak_memory_mib``: above what the
          process held before, on the CPU with the pages of libraries that it then came to use;

        and one ``summary`` with the last three of the largest number, and

        - ``device``, ``name``, ``memory_mib`` (the limit), ``precision``;
        - ``largest_batch``: exact below 16, else at most an eighth below what is possible; 0 when two do not fit;
        - ``ended_by``: ``memory``, ``most``, or ``time`` when a step took over 5 s: there is room for more, then;
        - ``batch``, ``gpus``, ``at_once`` of the recipe (its ``micro_batch``, or its share of the batch); ``fits``:
          yes, no, or unknown where a step would take over 20 s; ``micro_batch``: what to write into the recipe,
          ``at_once`` if that fits, None if nothing does;
        - ``recipe_seconds_per_step``, ``recipe_images_per_second``, ``recipe_peak_memory_mib``: of a whole step of one
          device with that ``micro_batch``;
        - ``note``: in words, what to do.

    Raises
    ------
    ValueError : for ``most`` below 2, ``memory`` below 1, a batch that cannot be taken in such pieces, and a network
        that cannot be built.
    MachineError : on the CPU of another system than Linux.
    Exception : whatever else than want of memory a step ends with.

    Notes
    -----
    One process is measured. With ``gpus`` above 1 each also holds a copy of the gradients, for the others.
    """
    if most < LEAST:
        raise ValueError(f"most: expected at least {LEAST} images, got {most}")
    if memory is not None and memory < 1:
        raise ConfigError(f"memory: expected at least 1 MiB, got {memory}; give the job more (`mem_mb`)")
    device = torch.device(device)
    if device.type == "cpu":
        available = available_memory()
        memory = min(memory or available, available)
    settings = {
        "encoder": encoder,
        "decoder": decoder,
        "size": tuple(size),
        "classes": classes,
        "recipe": recipe,
        "device": device,
        "threads": threads,
        "submission_size": submission_size,
        "memory": memory,
    }
    with isolated(trial, **settings) as run:
        attempt = Attempts(run)
        largest, ended_by = search(attempt, most)
        own = _for_recipe(attempt, recipe, largest, ended_by)
    if device.type == "cuda":  # not looked at before: what this process holds of it is missing in the trials
        total = torch.cuda.get_device_properties(device).total_memory // 2**20
        memory = min(memory or total, total)
    fitted = attempt.fitted()
    summary = {
        "device": device.type,
        "name": devices.name(device),
        "memory_mib": memory,
        "precision": str(devices.compute_dtype(recipe.precision, device)).removeprefix("torch."),
        "largest_batch": largest,
        "ended_by": ended_by,
        **(asdict(fitted[largest]) if largest else dict.fromkeys(FIGURES)),
        **own,
    }
    tried = [{"what": "tried", "images": images, **asdict(figures)} for images, figures in fitted.items()]
    return [*tried, {"what": "summary", **summary}]


class Attempts:
    """Trials of one network, each made once and told.

    Parameters
    ----------
    run : makes a trial: (images, micro-batches) to its outcome; it raises OutOfMemoryError where its process died.
    """

    def __init__(self, run: Attempt) -> None:
        self._run = run
        self._outcomes: dict[tuple[int, int], Outcome] = {}

    def __call__(self, images: int, count: int = 1) -> Outcome:
        """Return the outcome of a trial of so many images in so many micro-batches."""
        if (images, count) not in self._outcomes:
            try:
                outcome = self._run(images, count)
            except OutOfMemoryError as error:
                outcome = OutOfMemory(str(error))
            self._outcomes[images, count] = outcome
            print(f"{images} images {f'in {count} pieces' if count > 1 else 'at once'}: {outcome}", flush=True)
        return self._outcomes[images, count]

    def fitted(self) -> dict[int, Fitted]:
        """Return the figures of the trials at once that fitted, by their images, in ascending order."""
        trials = sorted(self._outcomes.items(), key=lambda trial: trial[0])
        return {images: each for (images, count), each in trials if count == 1 and isinstance(each, Fitted)}


def search(attempt: Attempt, most: int, slow: float = SLOW) -> tuple[int, str]:
    """Find the largest number of images that fit, by doubling and then by halving the gap.

    Parameters
    ----------
    attempt : (images, 1) to the outcome of a trial.
    most : where to end, >= 2.
    slow : seconds of a step after which no larger number is tried.

    Returns
    -------
    (int, str) : the number, 0 when two do not fit; and what it ended by, ``memory``, ``most`` or ``time``.

    Examples
    --------
    >>> search(lambda images, _: Fitted(0.1, 10 * images, 300) if images <= 11 else OutOfMemory("full"), most=256)
    (11, 'memory')
    """
    fits, images = 0, LEAST
    while isinstance(outcome := attempt(images, 1), Fitted):
        fits = images
        if fits == most:
            return fits, "most"
        if outcome.seconds_per_step > slow:
            return fits, "time"
        images = min(2 * fits, most)
    while fits and images - fits > max(1, fits // EXACT):
        middle = (fits + images) // 2
        if isinstance(attempt(middle, 1), Fitted):
            fits = middle
        else:
            images = middle
    return fits, "memory"


def _for_recipe(attempt: Attempt, recipe: Recipe, largest: int, ended_by: str) -> dict[str, Any]:
    """Return the part of a summary that is about a recipe: whether its whole step fits, or in which pieces it does."""
    batch, gpus = recipe.batch, recipe.gpus
    share = -(-batch // gpus)
    at_once = images_at_once(batch, gpus, recipe.micro_batch)
    row = {"batch": batch, "gpus": gpus, "at_once": at_once, "fits": "no", "micro_batch": None}
    row |= dict.fromkeys(f"recipe_{name}" for name in FIGURES)
    if not largest:
        return row | {
            "note": f"not even {LEAST} images fit ({attempt(LEAST, 1).reason}): choose a smaller size or network"
        }
    seconds = share / attempt(largest, 1).images_per_second
    if ended_by == "time" and seconds > TOO_SLOW:
        return row | {"fits": "unknown", "note": f"not tried: a step of the recipe takes about {seconds:.0f} s here"}
    # The gradients of the first piece are there while the next is seen, so the search does not know what fits
    own = BatchSampler(batch, batch, shuffle_seed=0, ranks=gpus, most=at_once).pieces(0)
    counts = {own: at_once}
    for fewer in range(min(largest, at_once - 1), LEAST - 1, -1):
        if count := pieces(batch, gpus, fewer):
            counts.setdefault(count, fewer)
    for count, most in counts.items():
        # But what is further off than the search's last gap does not
        too_many = ended_by == "memory" and -(-share // count) > largest + max(1, largest // EXACT)
        if too_many or not isinstance(outcome := attempt(share, count), Fitted):
            continue
        row |= {"fits": "yes" if most == at_once else "no", "micro_batch": most}
        row |= {f"recipe_{name}": value for name, value in asdict(outcome).items()}
        return row | {"note": "" if most == at_once else f"set micro_batch: {most}"}
    return row | {"note": "no micro_batch of this batch fits: choose a smaller size or network, or another batch"}


def trial(
    images: int,
    count: int,
    *,
    encoder: str,
    decoder: str,
    size: tuple[int, int],
    classes: int,
    recipe: Recipe,
    device: torch.device,
    threads: int,
    submission_size: Sequence[int] | None,
    memory: int | None,
) -> Outcome:
    """Make a few steps with a new network, in this process.

    Parameters
    ----------
    images : of one device in a step.
    count : pieces in which it sees them.
    encoder, decoder, size, classes, recipe, device, threads, submission_size, memory : as of :func:`find_batch_size`.

    Returns
    -------
    Fitted, or OutOfMemory when torch said so.
    """
    devices.set_determinism(threads, device)
    torch.ones(2**20).sum()  # starts the threads, whose stacks no training has to pay for
    held = devices.peak_memory(device)
    try:
        with memory_limit(device, memory):
            torch.manual_seed(0)
            model = build_model(encoder, decoder, classes, channels=CHANNELS[recipe.channels])
            grid = tuple(submission_size) if recipe.loss_grid == "submission" else None
            uncompiled = recipe.model_copy(update={"compile": False})
            trainer = Trainer(model, uncompiled, classes, ProcessGroup(0, 1, device), grid)
            image = torch.randint(256, (images, *size, 3), dtype=torch.uint8)
            mask = torch.randint(256, (images, *size, -(-classes // 8)), dtype=torch.uint8)
            step = functools.partial(trainer.train_step, image, mask, rate=recipe.learning_rate, pieces=count)
            seconds = _median_seconds(step, device)
    except Exception as error:
        if not devices.ran_out_of_memory(error):
            raise
        said = str(error).partition("\n")[0].rpartition("err == 0. ")[2]
        return OutOfMemory(textwrap.shorten(said or type(error).__name__, 100, placeholder=" ..."))
    return Fitted(
        seconds_per_step=float(f"{seconds:.4g}"),
        images_per_second=float(f"{images / seconds:.4g}"),
        peak_memory_mib=round((devices.peak_memory(device) - held) / 2**20),
    )


def _median_seconds(step: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of a step; the first, in which memory is taken and kernels are chosen, does not count."""
    seconds: list[float] = []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
        if len(seconds) > 1 and sum(seconds[1:]) >= TIMED:
            break
    return statistics.median(seconds[1:])


def join(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the summaries of several experiments, a row per experiment, sorted by it.

    Parameters
    ----------
    tables : rows of :func:`find_batch_size`, each with ``encoder``, ``decoder``, ``size`` and ``recipe`` before them.
    """
    rows = pd.concat([table[table["what"] == "summary"] for table in tables])
    rows = rows.drop(columns=["what", "images"], errors="ignore")  # of what was tried; nothing may have fitted
    return rows.convert_dtypes().sort_values(KEY, ignore_index=True)


def page(table: pd.DataFrame) -> str:
    """Write the joined table for the screen.

    Parameters
    ----------
    table : what :func:`join` returns.
    """
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    heads = [*KEY, "device", "MiB", "largest batch", "s/step", "images/s"]
    heads += ["its images at once", "fits", "its s/step", "its images/s", "note"]
    cells = [
        [
            *(row[name] for name in (*KEY, "name", "memory_mib")),
            f"{'' if row['ended_by'] == 'memory' else '>= '}{row['largest_batch']}",
            *(_short(row[name]) for name in ("seconds_per_step", "images_per_second")),
            *(row["at_once"], row["fits"]),
            *(_short(row[name]) for name in ("recipe_seconds_per_step", "recipe_images_per_second")),
            row["note"],
        ]
        for row in rows
    ]
    text = tabulate.tabulate(cells, heads, tablefmt="github", disable_numparse=True, missingval="")
    return (
        f"Images that one device sees at once in training\n\n{text}\n\n"
        f">=: the search ended at its `most` or at a step of over {SLOW:.0f} s, and not at the memory.\n"
        "its: of the recipe, on each device; where that does not fit, with the micro_batch of the note.\n"
    )


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
