"""How long the trainings and predictions that are still to be made will take, and what that is known from.

The best source that there is counts: epochs that this experiment has finished, on whatever fold; else the table of the
rule ``probe``; else the size of the network, which is a guess.
"""

import csv
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cloudseg.config.encoder_work import NetworkWork, encoder_work
from cloudseg.config.fold_names import ALL
from cloudseg.runtime.job_progress import progress_path, read_progress
from cloudseg.training.all_images import epochs_on_all_images
from cloudseg.training.finished import FOLDER, STATE
from cloudseg.training.history import FILE, read_history
from cloudseg.workflow.dataset import estimated_pixels
from cloudseg.workflow.plan import Plan
from cloudseg.workflow.run import Prediction, Run

EPOCHS, PREDICTIONS, PROBE, SIZE = (
    "finished epochs",
    "finished predictions",
    "the probe",
    "network size: a guess",
)
SOURCES = (EPOCHS, PREDICTIONS, PROBE, SIZE)

# What decoders add to the work of an encoder: medians over seven encoders, without what depends on those
DECODER_WORK = {
    "unet": NetworkWork(46, 66),
    "unetplusplus": NetworkWork(120, 110),
    "manet": NetworkWork(63, 78),
    "linknet": NetworkWork(3, 60),
    "fpn": NetworkWork(31, 37),
    "pspnet": NetworkWork(0, 0),  # it leaves out as much of the encoder as it adds
    "deeplabv3": NetworkWork(250, 270),
    "deeplabv3plus": NetworkWork(39, 85),
    "pan": NetworkWork(32, 35),
    "upernet": NetworkWork(200, 59),
    "segformer": NetworkWork(23, 101),
    "dpt": NetworkWork(490, 350),
    "classifier": NetworkWork(0, 0),
}
# Each with its seconds, and the seconds from which on the next one is read more easily
UNITS = (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600), ("days", 86_400, math.inf))
FORWARD = 1 / 3  # of the seconds of a training step
FOLDS = "fold[0-9]*"  # the folders of the runs of an experiment and of its replicates, but for those on all images


class Speed(NamedTuple):
    """What a kind of device takes."""

    start_training: float
    """Seconds of a training outside its epochs: Python, its packages, the weights, the files at its end."""
    start_prediction: float
    """Seconds of a prediction, likewise."""
    per_image: float
    """Seconds to read and augment an image that is trained on."""
    per_step: float
    """Seconds of a training step, however little it computes."""
    per_multiplication: float
    """Seconds of a training step for 10^9 multiplications of its forward pass."""
    per_value: float
    """Seconds of a training step for 10^6 values that its layers write in the forward pass."""
    per_mask: float
    """Seconds of a prediction for one class of an image, beside the network: it is resized and packed."""


# One thread of a CPU with AVX512_BF16: twelve networks, which it meets within 0.62 to 1.29 times what they took
ON_CPU = Speed(
    start_training=6,
    start_prediction=4,
    per_image=0.003,
    per_step=0.044,
    per_multiplication=0.017,
    per_value=0.0045,
    per_mask=0.004,
)
# A GPU that does 30 TFLOP/s and moves 1 TB/s in practice: of its data sheet, nothing of it was measured
ON_GPU = Speed(
    start_training=20,
    start_prediction=15,
    per_image=0.002,
    per_step=0.03,
    per_multiplication=2e-4,
    per_value=1e-4,
    per_mask=0.004,
)


class Expected(NamedTuple):
    """How long a job will take."""

    seconds: float
    source: str
    """One of `SOURCES`."""


class Pace(NamedTuple):
    """How fast an experiment trains."""

    seconds_per_epoch: float
    epochs: float
    """That a training is expected to run: fewer than the recipe says where it stops early."""
    source: str
    start: float
    """Seconds of a training outside its epochs."""


class Durations:
    """How long the jobs of a plan will take, by what has been measured of each experiment.

    Parameters
    ----------
    plan : the plan.
    results : the folder that ``<results>`` stands for.
    on_cpu : whether networks compute on the CPU.
    """

    def __init__(self, plan: Plan, results: Path, *, on_cpu: bool) -> None:
        self.plan, self.results, self.on_cpu = plan, results, on_cpu
        self.speed = ON_CPU if on_cpu else ON_GPU
        self._paces: dict[tuple[str, ...], Pace] = {}

    def expected_seconds(self, rule: str, wildcards: Mapping[str, str]) -> float | None:
        """Return the seconds that a job will take from now on; None for rules that nothing is known of.

        Parameters
        ----------
        rule : train or predict.
        wildcards : of the job.
        """
        expected = self.expected(rule, wildcards)
        return expected and expected.seconds

    def expected(self, rule: str, wildcards: Mapping[str, str]) -> Expected | None:
        """Return the seconds that a job will take, and their source."""
        if rule == "train":
            return self.training(self.plan.run(**wildcards))
        return self.prediction(self.plan.prediction(**wildcards)) if rule == "predict" else None

    def training(self, run: Run) -> Expected:
        """Return what is left of a training: one that was stopped goes on after its last epoch."""
        pace = self.pace(run)
        epochs, seconds = pace.epochs, pace.seconds_per_epoch
        if run.key.fold == ALL:
            epochs, seconds = self.total_epochs(run), seconds * self._longer_on_all
        left = max(0.0, epochs - self._finished_epochs(run))
        return Expected(pace.start + left * seconds, pace.source)

    def total_epochs(self, run: Run) -> int:
        """Return how many epochs a training may take: of one on all images as its folds say, once they do."""
        try:
            records = [self.folder(self.plan.run(**key.wildcards)) / "run.json" for key in run.folds_before]
            return epochs_on_all_images(run.recipe, records) if records else run.recipe.epochs
        except (OSError, ValueError):
            return run.recipe.epochs

    def prediction(self, prediction: Prediction) -> Expected:
        """Return what a prediction takes: by those of other folds, else by how fast its network trains."""
        found = [self._measured(prediction.run, split) for split in (prediction.split, "valid", "test")]
        if measured := next(filter(None, found), None):
            return Expected(self.speed.start_prediction + measured * prediction.images, PREDICTIONS)
        pace = self.pace(prediction.run)
        trained, validated = self._images
        per_image = FORWARD * pace.seconds_per_epoch / (trained + FORWARD * validated)
        work = prediction.work
        views = work.megapixels / work.images / _megapixels(prediction.run.key.size) if work.images else 0
        seconds = work.images * per_image * views + work.masks * self.speed.per_mask
        # Where trainings begin slowly, so do predictions
        start = self.speed.start_prediction * pace.start / self.speed.start_training
        return Expected(start + seconds, pace.source)

    def pace(self, run: Run) -> Pace:
        """Return how fast an experiment and its replicates train, by the best source."""
        experiment = run.key[:4]
        if experiment not in self._paces:
            self._paces[experiment] = self._by_epochs(run) or self._by_probe(run) or self._by_size(run)
        return self._paces[experiment]

    def folder(self, run: Run) -> Path:
        """Return the folder of a run."""
        return Path(run.key.folder.replace("<results>", str(self.results)))

    @cached_property
    def _images(self) -> tuple[float, float]:
        """About how many images a training sees, and how many validate it."""
        dataset = self.plan.dataset
        images = dataset.counts["train"]
        return images - images / dataset.folds, images / dataset.folds

    @property
    def _longer_on_all(self) -> float:
        """How many times as long an epoch on all images takes, which has none to validate on."""
        trained, validated = self._images
        return self.plan.dataset.counts["train"] / (trained + FORWARD * validated)

    def _finished_epochs(self, run: Run) -> float:
        """Return after which epoch a training that was stopped, or runs, goes on."""
        folder = self.folder(run)
        progress = read_progress(progress_path(folder / "train.log"))
        done = progress.done if progress and progress.unit == "epochs" else 0.0
        kept = not (folder / "run.json").is_file() and (folder / STATE).is_file()
        return max(done, len(read_history(folder / FILE)) if kept else 0)

    def _by_epochs(self, run: Run) -> Pace | None:
        """Return the median of all epochs of all folds."""
        experiment = self.folder(run).parent
        paths = sorted(experiment.glob(f"{FOLDS}/{FILE}")) or sorted(experiment.glob(f"{FOLDS}/{FOLDER}/*/{FILE}"))
        folds = [read_history(path) for path in paths]
        seconds = [epoch.seconds for fold in folds for epoch in fold]
        if not seconds:
            return None
        stopped = [len(fold) for fold in folds if run.recipe.patience and _has_stopped(fold, run.recipe.patience)]
        epochs = min(run.recipe.epochs, statistics.mean(stopped)) if stopped else run.recipe.epochs
        starts = [start for path in paths if (start := _start_of(path.parent)) > 0]
        start = statistics.median(starts) if starts else self.speed.start_training
        return Pace(statistics.median(seconds), epochs, EPOCHS, start)

    def _by_probe(self, run: Run) -> Pace | None:
        """Return what the steps of the recipe took that the rule `probe` measured."""
        path = self.results / "probe" / f"{'/'.join(run.key[:4])}.tsv"
        summary = next((row for row in _rows(path) if row["what"] == "summary"), {})
        try:
            per_step = float(summary["recipe_seconds_per_step"])
        except (KeyError, ValueError):  # not made, or not one step fitted
            return None
        trained, validated = self._images
        seconds = per_step * (trained + FORWARD * validated) / run.recipe.batch
        return Pace(seconds + self._reading, run.recipe.epochs, PROBE, self.speed.start_training)

    def _by_size(self, run: Run) -> Pace:
        """Return a guess."""
        speed, recipe = self.speed, run.recipe
        work = encoder_work(run.key.encoder) + DECODER_WORK[run.key.decoder]
        megapixels = math.prod(run.pixels_size) / 1e6
        network = megapixels * (work.multiplications * speed.per_multiplication + work.values * speed.per_value)
        trained, validated = self._images
        share = 1 / self.plan.threads if self.on_cpu else 1 / recipe.gpus
        seconds = share * network * (trained + FORWARD * validated)
        return Pace(
            seconds + self._reading + speed.per_step * trained / recipe.batch, recipe.epochs, SIZE, speed.start_training
        )

    @property
    def _reading(self) -> float:
        """Seconds of an epoch in which the network waits for images: loaders of their own read beside it."""
        trained, _ = self._images
        return 0 if self.plan.config.workers else self.speed.per_image * trained

    def _measured(self, run: Run, split: str) -> float | None:
        """Return the seconds for each image that a prediction of this experiment and split took, if there is one."""
        fold = run.key._replace(fold=0)  # a run on all images has no images to validate on
        images = self.plan.prediction(split=split, **fold.wildcards).images
        benchmarks = sorted(self.folder(run).parent.glob(f"fold*/predict-{split}.benchmark.tsv"))
        seconds = [found for path in benchmarks if (found := _benchmark(path))]
        if not seconds:
            return None
        return max(0.0, statistics.median(seconds) - self.speed.start_prediction) / max(1.0, images)


def _start_of(folder: Path) -> float:
    """Return the seconds of a finished training outside its epochs; 0 where they are not known."""
    epochs = sum(epoch.seconds for epoch in read_history(folder / FILE))
    seconds = _benchmark(folder / "train.benchmark.tsv") if (folder / "run.json").is_file() else None
    return max(0.0, (seconds or 0) - epochs)


def _benchmark(path: Path) -> float | None:
    """Return the seconds of a job by Snakemake's benchmark file; None where there is none."""
    try:
        return float(_rows(path)[0]["s"])
    except (LookupError, ValueError):
        return None


def hours(
    durations: Durations,
    jobs: Iterable[tuple[str, Mapping[str, str]]],
    available: tuple[str, int] | None = None,
) -> str:
    """Return how long jobs will take, a line for trainings and one for predictions; empty where there are none.

    Parameters
    ----------
    durations : how long each takes.
    jobs : rule and wildcards of all that are to be made.
    available : what the call of Snakemake has of what jobs ask for: ``("gpu", 4)`` or ``("cores", 2)``.
    """
    lines = []
    jobs = list(jobs)
    for rule, kind in (("train", "trainings"), ("predict", "predictions")):
        of_rule = [wildcards for name, wildcards in jobs if name == rule]
        if not of_rule:
            continue
        expected = [durations.expected(rule, wildcards) for wildcards in of_rule]
        seconds = [each.seconds for each in expected]
        line = f"{kind}: about {roughly(sum(seconds))} one after another ({_sources(each.source for each in expected)})"
        if available:
            resource, count = available
            asked = [_asked(durations.plan, rule, resource, wildcards) for wildcards in of_rule]
            together = _together(seconds, asked, count)
            line += f"; with {resource}={count} about {roughly(together)}" if together < 0.9 * sum(seconds) else ""
            idle = count - sum(asked)
            if rule == "train" and resource == "cores" and idle >= sum(asked):
                # Said, not done: the machine would decide the bits of a result
                threads = durations.plan.threads + idle // len(asked)
                line += f"; {idle} cores would stay idle, and `threads: {threads}` would train with them"
        lines.append(line)
    return "\n".join(lines)


def roughly(seconds: float) -> str:
    """Write a duration with two digits.

    Examples
    --------
    >>> [roughly(seconds) for seconds in (0.4, 54.2, 170, 700, 11_500, 40_000, 300_000)]
    ['0 s', '54 s', '2.8 min', '12 min', '3.2 h', '11 h', '3.5 days']
    """
    unit, length = next((unit, length) for unit, length, end in UNITS if seconds < end)
    return f"{round(seconds / length, 0 if unit == 's' or seconds >= 9.95 * length else 1):g} {unit}"


def _together(seconds: Sequence[float], asked: Sequence[int], available: int) -> float:
    """Return how long jobs take side by side: as long as their sum allows, or as the longest."""
    if not available:
        return sum(seconds)
    shares = (each * min(1, wanted / available) for each, wanted in zip(seconds, asked, strict=True))
    return max(sum(shares), max(seconds))


def _asked(plan: Plan, rule: str, resource: str, wildcards: Mapping[str, str]) -> int:
    """Return how much of a resource a job takes."""
    if rule == "predict":
        return plan.threads if resource == "cores" else 1
    run = plan.run(**wildcards)
    return run.training_cores if resource == "cores" else run.recipe.gpus


def _sources(sources: Iterable[str]) -> str:
    counts = Counter(sources)
    return ", ".join(f"{counts[source]} by {source}" for source in SOURCES if counts[source])


def _has_stopped(epochs: Sequence[Any], patience: int) -> bool:
    """Return whether so many epochs were no better than the best by Dice, which most recipes stop by.

    Networks without masks have none, and stop by their loss.
    """

    def value(index: int) -> float:
        dice = epochs[index].dice
        return -epochs[index].values["valid_loss"] if math.isnan(dice) else dice

    best = max(range(len(epochs)), key=value, default=0)
    return len(epochs) - 1 - best >= patience


def _megapixels(size: str) -> float:
    return math.prod(estimated_pixels(size)) / 1e6


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a small table; none where there is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))
    except (OSError, ValueError):
        return []
