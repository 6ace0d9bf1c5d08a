"""Every key of a config and of an experiment sheet: its type, its default, its bounds and what it means.

``config/README.md`` and ``config/schema.json`` are made from these models, and configs are read into them.
The keys of a recipe are in :mod:`cloudseg.config.recipe`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Tag, model_validator

from cloudseg.config.classes import MOST_CLASSES
from cloudseg.config.decision import Area, DecisionEntry
from cloudseg.config.fields import (
    BY_FORM,
    PIXELS,
    UNIQUE,
    Bool,
    FrozenDict,
    Model,
    Pattern,
    Positive,
    Scalar,
    Share,
    expected,
    left_out,
)
from cloudseg.config.fold_names import experiment_words
from cloudseg.config.job import JobConfig
from cloudseg.config.label_presets import PRESETS
from cloudseg.config.labels import CLOUDS, PARTS, InRoot, LabelsEntry, Layout
from cloudseg.config.recipe import Recipe
from cloudseg.config.size import Size

NAME = r"[a-z0-9]+(-[a-z0-9]+)*"
ConfigName = Annotated[str, Pattern(NAME, "a name of lower-case letters, digits and hyphens, such as my-clouds")]
EnsembleName = Annotated[str, Pattern(NAME, "a name of lower-case letters, digits and hyphens, such as all-folds")]
RecipeName = Annotated[
    str,
    Pattern(
        r"[a-z0-9]+([_-][a-z0-9]+)*",
        "a name of lower-case letters and digits, joined by hyphens or underscores, such as flips_gray",
    ),
]
ClassName = Annotated[
    str,
    Pattern(
        r"[A-Za-z0-9][A-Za-z0-9 ._-]*",
        "a name of letters, digits, blanks, full stops, hyphens and underscores, such as Fish",
    ),
]
Competition = Annotated[
    str,
    Pattern(r"[a-z0-9][a-z0-9_-]*", "the contest's name in its address, such as understanding_cloud_organization"),
]
Folder = Annotated[
    str,
    Pattern(r"[^{}<>*?]+", "a folder without any of {}<>*? in its name"),
    AfterValidator(lambda path: Path(path).as_posix()),
]
ImagesFile = Annotated[str, Pattern(r"[^{}<>*?]+", "a file without any of {}<>*? in its name")]
EncoderName = Annotated[
    str, Pattern(r"[a-z0-9][a-z0-9_.-]*", "the name of an encoder, such as resnet34 or tu-tf_efficientnet_lite0")
]
SubmissionSize = Annotated[Size, Pattern(PIXELS, "height x width in pixels, such as 350x525")]
TrainingSize = Annotated[
    str,
    Pattern(
        rf"{PIXELS}|x[1-9][0-9]?",
        "height x width in pixels, such as 384x576, or xN, the original size divided by N, such as x4",
    ),
]
Seed = Annotated[int, Scalar(ge=0, le=2**32 - 1)]
LabelForm = Annotated[
    Annotated[Literal[tuple(PRESETS)], Tag("<string>")] | Annotated[LabelsEntry, Tag("<object>")],  # type: ignore[valid-type]
    BY_FORM,
    expected(f"a contest ({', '.join(PRESETS)}) or a mapping such as {{format: rle, order: rows}}"),
]


class Dataset(Model):
    """The images and labels."""

    source: Literal["demo", "path", "kaggle"]
    """`demo` makes synthetic scenes, `path` reads the folder `root`, `kaggle` uses the contest's files in `root`, and
    downloads them first when `root` is a new or empty folder. Nothing that lies in `root` is ever changed or removed.
    """
    root: Folder = "data/clouds"
    """Folder in the contest's layout: `train_images/`, `test_images/`, `train.csv`, `sample_submission.csv` (not used
    by `demo`). For `path` the last may be missing, and then all test images have rows, or both of the test: then
    nothing is submitted.
    """
    competition: Competition = "understanding_cloud_organization"
    """The contest's name in its Kaggle address (`kaggle` only)."""
    classes: Annotated[tuple[ClassName, ...], Field(min_length=1, max_length=MOST_CLASSES), *UNIQUE] = (
        "Fish",
        "Flower",
        "Gravel",
        "Sugar",
    )
    """The class names, as they stand behind the image name in `Image_Label`."""
    train: Annotated[int, Scalar(ge=4)] = 100
    """Training images that `demo` makes; for `kaggle`, how many to expect (disk estimates before the download)."""
    test: Annotated[int, Scalar(ge=1)] = 30
    """Test images, likewise."""
    shift: Share = 0
    """Opacity of a haze over the `demo`'s test images, so that adversarial validation (rule `shift`) has something to
    find.
    """
    scenes: Annotated[int, Scalar(ge=2)] | None = None
    """Cut the `demo`'s images out of so many larger scenes for each split, several of a scene, which overlap; in
    their names, `scene003_01` is crop 1 of scene 3. Null draws a scene for each image.
    """
    exclude: ImagesFile | None = None
    """Text file of training images to leave out, a name per line, `#` before a comment: they are neither trained on nor
    scored, nor looked at in any other way. The results are those of a folder without them.
    """
    labels: LabelForm | None = None
    """How labels are written (`path` only): the name of a contest, whose folders, tables and classes then are the
    defaults of the other keys here, or a mapping. Null is the form of `understanding-clouds`.
    """
    submission: LabelForm | None = None
    """How the sample submission and the submission are written, where that is not as `labels`: keys of `rle`."""
    train_images: InRoot | None = None
    """Folder of the training images in `root`. Null is `train_images`, or that of the contest that `labels` names."""
    test_images: InRoot | None = None
    """Folder of the test images, likewise `test_images`."""
    train_table: InRoot | None = None
    """Table of the labels, likewise `train.csv`."""
    sample_submission: InRoot | None = None
    """Table of the rows that a submission must have, likewise `sample_submission.csv`."""

    @model_validator(mode="before")
    @classmethod
    def _with_classes_of_contest(cls, value: Any) -> Any:
        """Take the classes of the contest that `labels` names, where the config names none."""
        named = value.get("labels") if isinstance(value, dict) else None
        if isinstance(named, str) and named in PRESETS and "classes" not in value:
            return {**value, "classes": PRESETS[named]["classes"]}
        return value

    @property
    def layout(self) -> Layout:
        """Where its parts are and in which form, with the defaults of the contest that `labels` names."""
        preset = PRESETS.get(self.labels, {}) if isinstance(self.labels, str) else {}
        parts = {name: given for name in PARTS if (given := getattr(self, name) or preset.get(name)) is not None}
        labels = _entry(self.labels)
        submission = _entry(self.submission) if self.submission is not None else labels
        if submission.format != "rle":  # such labels have no table whose form a submission could take
            submission = CLOUDS
        return Layout(labels=labels, submission=submission, **parts)


def _entry(form: str | LabelsEntry | None) -> LabelsEntry:
    """Return the keys of a form of labels."""
    if isinstance(form, LabelsEntry):
        return form
    return CLOUDS if form is None else LabelsEntry(**PRESETS[form]["labels"])


class Folds(Model):
    """The one split of the training images."""

    count: Annotated[int, Scalar(ge=2, le=100)] = 5
    """Folds in the split; the sheet's `folds` says how many of them are trained."""
    stratify_by: Literal["labels", "shift"] = "labels"
    """What the folds are balanced by, the labels, or also how much an image looks like the test images (rule `shift`).
    """
    groups: Annotated[str, Field(min_length=1)] | None = None
    """What images have in common, such as a scene or a day, that must not be on both sides of the split: with `table`,
    a column of it; without, a regular expression that is searched for in the name of each image, such as
    `^(scene[0-9]+)_`. What its first brackets match is the group, or all that it matches if it has none.
    """
    table: ImagesFile | None = None
    """Table (TSV or CSV) with a column `image` and the column that `groups` names; each training image stands in it
    once.
    """
    file: ImagesFile | None = None
    """A split of your own in place of one that is made: a table (TSV or CSV) with the columns `image` and `fold`, from
    0 to `count` - 1; each training image stands in it once. With `groups`, the log says which of them it parts.
    """


QueryText = Annotated[str, Field(min_length=1)]


class Query(Model):
    """Runs of an ensemble, and what each of their experiments weighs; in a config also the query alone."""

    query: QueryText
    """Comparisons of the sheet's columns and `fold`; the run on all images has the fold 'all', behind every number."""
    weight: Positive = 1
    """Weight of each experiment selected; its folds and checkpoints share it."""


def _query(value: Any) -> Any:
    """Return a query alone as the mapping that it means."""
    return {"query": value} if isinstance(value, str) else value


def _queries(value: Any) -> Any:
    """Return a query alone as a list of one."""
    return [value] if isinstance(value, str) and value else value


OneQuery = Annotated[
    Query,
    BeforeValidator(_query, json_schema_input_type=QueryText | Query),
    expected('"a query" or a query with a weight, such as "fold == 0" or {query: "fold == 0", weight: 2}'),
]
ListOfQueries = Annotated[tuple[OneQuery, ...], Field(min_length=1)]
Queries = Annotated[
    ListOfQueries,
    BeforeValidator(_queries, json_schema_input_type=QueryText | ListOfQueries),
    expected(
        '"a query" or a list of queries, such as "decoder == \'fpn\'" or [{query: "fold == 0", weight: 2}, "fold == 1"]'
    ),
]


class SearchEntry(Model):
    """How an ensemble is searched for: member after member, the one that helps most, also one that is in already."""

    steps: Annotated[int, Scalar(ge=1, le=1000)] = 30
    """Most members that are added, one that is added twice counted twice."""
    least_gain: Annotated[float, Scalar(ge=0, le=1)] = 0.0001
    """The search ends when the best next member adds less Dice than this."""
    sharpen: Annotated[tuple[Positive, ...], Field(min_length=1), *UNIQUE] = (1, 0.5)
    """Powers of p that may be averaged; 1 is p itself."""
    reduce: Annotated[int, Scalar(ge=1, le=64)] | None = None
    """Search on images whose sides are divided by this; null is as much as fits into 1 GiB."""


class EnsembleEntry(Model):
    """An ensemble of a config."""

    note: str = ""
    """Free text, shown in the leaderboard."""
    reference: Annotated[float, Scalar()] | None = None
    """A contest score to show beside ours, such as the one that the diary had for its own ensemble."""
    members: Queries = left_out()
    """A query over the runs, such as `decoder == 'fpn' and fold < 2`, or a list of queries with weights."""
    where: Queries | None = None
    """In place of `members`, beside `whether`: the runs that say where a class is. Their blend becomes masks."""
    whether: Queries | None = None
    """The runs that say whether a class is there: the score of `decision.presence` is that of their blend."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), *UNIQUE] | None = None
    """Make an ensemble for each of these seeds, `NAME-seed7`, of those members alone that were trained with it (column
    `seed`); rule `ablation` shows how far they spread.
    """
    search: SearchEntry | None = None
    """Choose among `members` and `checkpoints`, and their weights, by what they say out of fold; nothing is trained.
    Each fold is blended as the other folds choose, so that its score is honest.
    """
    checkpoints: Annotated[tuple[Literal["best", "last", "average"], ...], Field(min_length=1), *UNIQUE] = ("best",)
    """Which checkpoints of each run take part; `average` of recipes that keep one."""
    allow_squeezed: Bool = False
    """Blend stores, too, whose probabilities look like a sigmoid of a sigmoid."""
    sharpen: Positive | None = None
    """Average p to this power in place of p (temperature sharpening; 0.5 in the diary). Thresholds stay probabilities:
    they are raised to the power, too.
    """
    blend: Literal["mean", "vote"] | None = None
    """`mean`, the default, averages probabilities; `vote` the masks of members, each at the level of its own decision,
    so that a threshold of 0.5 is the majority.
    """
    decision: DecisionEntry = left_out()
    """How this ensemble's probabilities become masks."""


class Config(JobConfig):
    """A config: what is trained on which images, and what becomes of it."""

    name: ConfigName
    """Names the folder of everything this config makes, `results/{name}`."""
    smoke: Bool = False
    """Run the whole config in minutes on a CPU: 24 + 8 images (of your own, some of every class and of none; the demo's
    in place of the contest's) in folds without `groups` and `file`, 3 epochs, batches of 4, sizes divided by 8 where
    that leaves 32 pixels or more, random weights for encoders without a file at hand. Results go to
    `results/{name}-smoke`, the submission as well.
    """
    seed: Seed = 2019
    """Seed of the demo images, the folds, the initial weights, the augmentation and the order of the batches."""
    threads: Annotated[int, Scalar(ge=1, le=64)] = 1
    """Numerical threads of a job. One and two threads give different weights, each of them repeatable."""
    workers: Annotated[int, Scalar(ge=0, le=64)] = 0
    """Loader processes of a training, reserved on top of `threads`; the result does not depend on them."""
    probe_memory: Annotated[int, Scalar(ge=1)] | None = None
    """MiB that rule `probe` lets a training have, to see what a smaller device would do; null is all that a GPU has,
    and what the job asks for on the CPU.
    """
    remove: Bool = False
    """Let rule `verify` remove what it finds damaged, so that the next run makes it again."""
    csv: Annotated[str, Field(min_length=1)] | None = None
    """A submission to look at, ours or not, for the rules `sanity`, which without it takes the config's own, and
    `reproduce`. It is only read.
    """
    folder: Folder | None = None
    """Folder of images and labels for rule `describe`, which without it looks at `dataset.root`."""
    images: Folder | None = None
    """Folder of images without labels. With it, nothing is trained, checked or blended: the targets are
    `predictions/NAME/masks.csv` and what is made of it, `coco.json`, `png` and `overlays`.
    """
    bundle: Annotated[str, Field(min_length=1)] | None = None
    """What `images` are predicted with, a file that rule `bundle` packed; null is that of the config's submission."""
    shard: Annotated[int, Scalar(ge=1, le=10**6)] = 4096
    """Most `images` of a job. Another number makes all jobs anew, and last bits of probabilities may differ."""
    train: Bool = False
    """Let rule `reproduce` train what is not there any more; without it, it says what it would have to train."""
    dataset: Dataset
    submission_size: SubmissionSize | None = None
    """Height x width of the masks in `submission.csv`; probabilities, minimum sizes and scores live on this grid. The
    contest's 350x525 for `demo` and `kaggle`; `source: path` must say it.
    """
    folds: Folds = Folds()
    recipes: Annotated[FrozenDict[RecipeName, Recipe], Field(min_length=1)]
    """Training recipes by name; the sheet's `recipe` picks one. Whatever tells two runs apart, besides encoder,
    decoder, size, fold and seed, is in here.
    """
    experiments: Annotated[str, Field(min_length=1)]
    """The experiment sheet (TSV), looked for in the working directory, then beside the Snakefile."""
    decision: DecisionEntry = DecisionEntry()
    """How probabilities become masks; experiments are scored by it, ensembles unless they have their own."""
    min_sizes: Annotated[tuple[Area, ...], Field(min_length=1), *UNIQUE] | None = None
    """Minimum sizes that tuning may choose from, in pixels of the submission grid or as shares of it (`2%`). By default
    seventeen shares, which are 0 to 30000 pixels of 350x525.
    """
    ensembles: FrozenDict[EnsembleName, EnsembleEntry]
    """Ensembles by name; each gets its own out-of-fold score and `submission.csv`."""
    class_rates: FrozenDict[str, Share] | None = None
    """Share of test images that hold each class, if known, one number per class; the leaderboard then shows the score
    to expect at these rates.
    """
    leaderboard: str = "config/leaderboard.tsv"
    """Table of the scores that the contest gave, filled in by hand; looked for like `experiments`, and may be missing.
    """
    baseline: str | None = None
    """The ensemble that rule `ablation` compares the others with, also one with `seeds`; null is that of `submission`.
    """
    submission: str
    """The ensemble that feeds the `submission.csv` at the top."""
    pathvars: FrozenDict[str, Any] = left_out()
    """Snakemake path variables to override, for use as a module."""


def _or_left_out(default: Any) -> BeforeValidator:
    """Take an empty cell for one that is left out."""
    return BeforeValidator(lambda cell: default if cell == "" else cell)


class ExperimentRow(Model):
    """One row of an experiment sheet. Further columns are carried to the tables and can be queried."""

    model_config = ConfigDict(extra="allow")

    encoder: EncoderName
    """Encoder by its name in segmentation-models-pytorch, such as `resnet34` or `tu-tf_efficientnet_lite0`."""
    decoder: str
    """Decoder by its name in segmentation-models-pytorch, such as `unet` or `fpn`."""
    size: TrainingSize
    """Training size, `HxW` in pixels, or `xN`, the original size divided by N, where all images have the same."""
    recipe: str
    """Name of a recipe of the config."""
    folds: Annotated[int, Scalar(ge=1)]
    """How many folds of the split are trained, from the first on."""
    seed: Annotated[Seed | None, _or_left_out(None)] = None
    """Train a replicate: the same folds, with another seed than the config's for all that a training draws. Such rows
    tell how much of a difference is chance.
    """
    full: Annotated[Bool, _or_left_out(False)] = False
    """Train on all images, too, for the median of the folds' best epochs. That run has no out-of-fold score; it joins
    its folds where test images are blended.
    """
    note: str = ""
    """Free text."""

    @property
    def experiment(self) -> tuple[str, ...]:
        """What tells experiments apart: encoder, decoder, size and recipe, and the seed of a replicate."""
        return experiment_words(self.encoder, self.decoder, self.size, self.recipe, self.seed)

    @property
    def cells(self) -> dict[str, Any]:
        """Its cells as plain values; what asks for no replicate and no further run is left out, as in older sheets."""
        off = {"seed": self.seed is None, "full": not self.full}
        return self.model_dump(mode="json", exclude={name for name, is_off in off.items() if is_off})
