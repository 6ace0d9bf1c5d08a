"""A batch-size finder: how many images a device sees at once in training, and how long its steps take.

No images and no weights are needed: random ones take as much memory and time. Each trial has a process of its own, with
an empty allocator, so that one that runs out of memory ends nothing else.
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

from cloudseg.config.batching import MIN_MICRO_BATCH, accumulation_steps, micro_batch_size
from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.config.recipe import Recipe
from cloudseg.config.sheet import KEY
from cloudseg.errors import ConfigError, OutOfMemoryError
from cloudseg.models.segmenter import model_of
from cloudseg.runtime import devices
from cloudseg.runtime.isolation import available_memory, isolated, memory_limit
from cloudseg.training.data.sampler import BatchSampler
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.trainer import Trainer

MOST = 256  # images; throughput levels off well below, and a larger batch would change the training
SLOW = 5.0  # seconds per step beyond which no larger number is tried: on a CPU, time runs out before memory
TOO_SLOW = 20.0  # seconds per step beyond which the step of a recipe is not tried
TIMED = 0.5  # seconds of steps that are enough for a median
STEPS = 10  # that are timed at most
EXACT = 8  # the search ends within one image of the largest number, or within 1 / EXACT of it if that is more
OWN_MEMORY = 1500  # MiB that a probing job holds besides its trial: two processes that have imported torch


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
    """A trial that ran out of memory, and the words of the error."""

    reason: str

    def __str__(self) -> str:
        """Return one line for a reader."""
        return f"not enough memory ({self.reason})"


Outcome = Fitted | OutOfMemory
Attempt = Callable[[int, int], Outcome]
"""Function of the images of a step and its accumulation steps that returns the outcome of a trial."""

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
    ValueError : for ``most`` below 2, ``memory`` below 1, a batch that cannot be parted so, and a network
        that cannot be built.
    MachineError : on the CPU of another system than Linux.
    Exception : whatever else than want of memory a step ends with.

    Notes
    -----
    One process is measured. With ``gpus`` above 1 each also holds a copy of the gradients, for the others.
    """
    if most < MIN_MICRO_BATCH:
        raise ValueError(f"most: expected at least {MIN_MICRO_BATCH} images, got {most}")
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
        of_recipe = _for_recipe(attempt, recipe, largest, ended_by)
    if device.type == "cuda":  # only now: a CUDA context of this process would take memory from the trials
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
        **of_recipe,
    }
    tried = [{"what": "tried", "images": images, **asdict(figures)} for images, figures in fitted.items()]
    return [*tried, {"what": "summary", **summary}]


class Attempts:
    """Trials of one network; each is run once, and its outcome printed.

    Parameters
    ----------
    run : runs a trial: (images, accumulation steps) to its outcome; raises OutOfMemoryError if its process died.
    """

    def __init__(self, run: Attempt) -> None:
        self._run = run
        self._outcomes: dict[tuple[int, int], Outcome] = {}

    def __call__(self, images: int, steps: int = 1) -> Outcome:
        """Return the outcome of a trial of some images in some accumulation steps."""
        if (images, steps) not in self._outcomes:
            try:
                outcome = self._run(images, steps)
            except OutOfMemoryError as error:
                outcome = OutOfMemory(str(error))
            self._outcomes[images, steps] = outcome
            print(f"{images} images {f'in {steps} micro-batches' if steps > 1 else 'at once'}: {outcome}", flush=True)
        return self._outcomes[images, steps]

    def fitted(self) -> dict[int, Fitted]:
        """Return the figures of the trials in one step that fitted, by their images, in ascending order."""
        trials = sorted(self._outcomes.items(), key=lambda trial: trial[0])
        return {images: each for (images, steps), each in trials if steps == 1 and isinstance(each, Fitted)}


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
    fits, tried = 0, MIN_MICRO_BATCH
    while isinstance(outcome := attempt(tried, 1), Fitted):
        fits = tried
        if fits == most:
            return fits, "most"
        if outcome.seconds_per_step > slow:
            return fits, "time"
        tried = min(2 * fits, most)
    fails = tried
    while fits and fails - fits > max(1, fits // EXACT):
        middle = (fits + fails) // 2
        if isinstance(attempt(middle, 1), Fitted):
            fits = middle
        else:
            fails = middle
    return fits, "memory"


def _for_recipe(attempt: Attempt, recipe: Recipe, largest: int, ended_by: str) -> dict[str, Any]:
    """Return the part of a summary that is about a recipe: whether its step fits, or with which micro-batch it does."""
    batch, gpus = recipe.batch, recipe.gpus
    share = -(-batch // gpus)
    wanted = micro_batch_size(batch, gpus, recipe.micro_batch)
    row = {"batch": batch, "gpus": gpus, "at_once": wanted, "fits": "no", "micro_batch": None}
    row |= dict.fromkeys(f"recipe_{name}" for name in FIGURES)
    if not largest:
        reason = attempt(MIN_MICRO_BATCH, 1).reason
        return row | {"note": f"not even {MIN_MICRO_BATCH} images fit ({reason}): choose a smaller size or network"}
    seconds = share / attempt(largest, 1).images_per_second
    if ended_by == "time" and seconds > TOO_SLOW:
        return row | {"fits": "unknown", "note": f"not tried: a step of the recipe takes about {seconds:.0f} s here"}
    # A micro-batch is seen beside the gradients of those before it, so the search does not tell whether it fits
    own_steps = BatchSampler(batch, batch, shuffle_seed=0, ranks=gpus, micro_batch_size=wanted).accumulation_steps(0)
    micro_batches = {own_steps: wanted}  # by accumulation steps, the largest that leads to each number of them
    for micro_batch in range(min(largest, wanted - 1), MIN_MICRO_BATCH - 1, -1):
        if steps := accumulation_steps(batch, gpus, micro_batch):
            micro_batches.setdefault(steps, micro_batch)
    for steps, micro_batch in micro_batches.items():
        # It does tell that no more fit than up to its last gap
        too_many = ended_by == "memory" and -(-share // steps) > largest + max(1, largest // EXACT)
        if too_many or not isinstance(outcome := attempt(share, steps), Fitted):
            continue
        row |= {"fits": "yes" if micro_batch == wanted else "no", "micro_batch": micro_batch}
        row |= {f"recipe_{name}": value for name, value in asdict(outcome).items()}
        return row | {"note": "" if micro_batch == wanted else f"set micro_batch: {micro_batch}"}
    return row | {"note": "no micro_batch of this batch fits: choose a smaller size or network, or another batch"}


def trial(
    images: int,
    steps: int,
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
    """Train a new network for a few steps, in this process.

    Parameters
    ----------
    images : of one device in a step.
    steps : accumulation steps in which it sees them.
    encoder, decoder, size, classes, recipe, device, threads, submission_size, memory : as of :func:`find_batch_size`.

    Returns
    -------
    Fitted, or OutOfMemory when torch said so.
    """
    devices.set_determinism(threads, device)
    torch.ones(2**20).sum()  # starts the threads, so that their stacks do not count as the training's
    before = devices.peak_memory(device)
    try:
        with memory_limit(device, memory):
            torch.manual_seed(0)
            classes = 1 if recipe.brightness is not None else classes
            names = [""] * classes
            model = model_of(NetworkHeader.of_recipe(encoder, decoder, names, recipe))
            grid = tuple(submission_size) if recipe.loss_grid == "submission" else None
            # Weights of classes take no memory, and here they have no names
            timed = recipe.model_copy(update={"compile": False, "class_weights": None})
            trainer = Trainer(model, timed, names, ProcessGroup(0, 1, device), grid, size)
            image = torch.randint(256, (images, *size, 3), dtype=torch.uint8)
            mask_bytes = classes if recipe.soft_targets else -(-classes // 8)
            mask = torch.randint(256, (images, *size, mask_bytes), dtype=torch.uint8)
            step = functools.partial(
                trainer.train_step, image, mask, learning_rate=recipe.learning_rate, accumulation_steps=steps
            )
            seconds = _median_seconds(step, device)
    except Exception as error:
        if not devices.ran_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0].rpartition("err == 0. ")[2]
        return OutOfMemory(textwrap.shorten(reason or type(error).__name__, 100, placeholder=" ..."))
    return Fitted(
        seconds_per_step=float(f"{seconds:.4g}"),
        images_per_second=float(f"{images / seconds:.4g}"),
        peak_memory_mib=round((devices.peak_memory(device) - before) / 2**20),
    )


def _median_seconds(step: Callable[[], Any], device: torch.device) -> float:
    """Return the median seconds of a step, without the first, which allocates memory and chooses kernels."""
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
    rows = rows.drop(columns=["what", "images"], errors="ignore")  # `images` is absent if nothing fitted
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
