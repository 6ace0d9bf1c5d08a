"""The provenance of a submission, ``provenance.json``: all that it was made from, in a form that is read back typed.

It names no place, person or machine: runs by their names, files by their digests, and no time of a clock, so that the
same inputs give the same bytes. Imports no torch.

One that came with somebody's file is read as well. Of its texts the names of runs, config, ensemble and sizes, and the
digest of the file, become parts of paths, so they are checked here: none leads out of the folder that it is put in.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from cloudseg.config.classes import MOST_CLASSES
from cloudseg.config.fields import UNIQUE, Model, Pattern
from cloudseg.config.fold_names import ALL, Fold, fold_name
from cloudseg.config.model import ClassName, ConfigName, EncoderName, EnsembleName, RecipeName, TrainingSize
from cloudseg.config.recipe import Recipe
from cloudseg.storage import files

SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or goes; a new key alone raises nothing."""
FURTHER_VERSION = 2
"""Of a submission of more than a mean, a level and a minimum size: of roles, votes, a search, black, presence. Code
that knows version 1 alone would take no notice of these, and make other bytes.
"""
RUNS_VERSION = 3
"""Of a submission with replicates, networks that have seen all images, averages of epochs, classification heads, or
labels that networks made of test images: what older code has no names for.
"""

Plain = dict[str, Any]
Role = Literal["where", "whether"]
Checkpoint = Literal["best", "last", "average"]
Digest = Annotated[str, Pattern("[0-9a-f]{64}", "a SHA-256 of 64 digits")]
DecoderName = Annotated[str, Pattern("[a-z0-9_]+", "the name of a decoder, such as fpn")]


class _Part(Model):
    # Another version of this code may record more
    model_config = ConfigDict(extra="ignore")

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, serialise: SerializerFunctionWrapHandler) -> Plain:
        """Leave out what may be missing where it is null: most submissions have no use for it, as those of before."""
        plain = serialise(self)
        required = {name for name, field in type(self).model_fields.items() if field.is_required()}
        return {name: value for name, value in plain.items() if value is not None or name in required}


class Csv(_Part):
    """The file itself."""

    sha256: Digest
    """Of its bytes."""
    content: str
    """Of its names and decoded masks: row order, line ends and the way in which runs are written do not count."""
    names: str
    """Of the names of its rows, in their order."""
    names_sorted: str
    """Of the names of its rows, sorted."""
    rows: int
    filled: int
    """Rows with a mask."""


class Images(_Part):
    """The images and labels."""

    classes: Annotated[list[ClassName], Field(min_length=1, max_length=MOST_CLASSES), *UNIQUE]
    submission_size: Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], Field(min_length=2, max_length=2)]
    """Height and width in pixels."""
    train: list[str]
    """Digests of the training images and labels, by which their stores are known; one, where all sizes are of the same.
    """
    test: list[str]
    """Of the test images, likewise."""
    counts: dict[str, int]
    """How many images each split has."""
    folds: str
    """SHA-256 of the table of folds."""
    tables: dict[Literal["exclude", "table", "file"], Digest] | None = None
    """Digests of what the user's own tables say that decide which images train: `exclude`, and of folds `table` and
    `file`; missing where there are none.
    """


class Training(_Part):
    """A training, as its ``run.json`` has it."""

    run: str
    """encoder/decoder/size/recipe/fold, with the seed of a replicate behind it"""
    encoder: EncoderName
    decoder: DecoderName
    size: TrainingSize
    recipe_name: RecipeName
    fold: Fold
    recipe: Plain
    """What it went by, with all defaults; without `start` and `tta`."""
    start: str
    """Name of the file of initial weights."""
    start_sha256: str
    data: str
    """Digest of the images, their labels and the split."""
    seed: int
    threads: int
    code: int
    precision: str
    batch: Plain
    devices: list[str]
    """Kinds and names, such as ``cuda NVIDIA L4``."""
    processor: str | None
    versions: dict[str, str]
    commit: str | None
    parameters: int
    epochs: int
    best_epoch: int
    seconds: float
    checkpoints: dict[Checkpoint, str]
    """SHA-256 of ``best``, ``last`` and, where its recipe has one, ``average``."""
    otherwise: list[str]
    """How it differs from what the config asks for now; empty, where it is what the config asks for."""
    prediction_recipe: Plain
    """What prediction needs of the recipe, without what stands at its default."""
    start_run: str | None = None
    """The run whose last epoch it starts from; missing where it starts from none."""
    epochs_of: list[str] | None = None
    """The runs whose best epochs say for how many it was trained; missing where the recipe does."""
    pseudo: str | None = None
    """The name of the labels of test images that it was trained on, too; missing where it was on none."""

    @model_validator(mode="after")
    def _has_the_name_of_its_parts(self) -> Self:
        experiment = f"{self.encoder}/{self.decoder}/{self.size}/{self.recipe_name}"
        plain, replicate = (f"{experiment}/fold{fold_name(self.fold, seed)}" for seed in (None, self.seed))
        if self.run not in (plain, replicate):
            raise ValueError(f"expected the run {plain}, got {self.run}")
        return self

    @property
    def own_recipe(self) -> Recipe:
        """The recipe of its predictions, where `auto` means what this machine computes in."""
        return Recipe(**self.prediction_recipe)

    def recipe_of(self, prediction: "Prediction") -> Recipe:
        """Return the recipe of a prediction, with the arithmetic and the batch that it had."""
        if prediction.device is None:
            return self.own_recipe
        words = {"torch.float32": "float32", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
        then = {"precision": words[prediction.precision], "micro_batch": prediction.batch}
        return self.own_recipe.model_copy(update=then)

    @property
    def is_replicate(self) -> bool:
        """Whether it has a seed of its own."""
        return self.run.endswith(f"/fold{fold_name(self.fold, self.seed)}")


class Prediction(_Part):
    """Probabilities of one checkpoint for the images of a split."""

    settings: str
    """Digest of all that decides them besides the checkpoint, as the store has it."""
    device: str | None
    """``cpu`` or ``cuda``, with the two below found by that digest; null where no known settings have it."""
    precision: Literal["torch.float32", "torch.bfloat16", "torch.float16"] | None
    batch: Annotated[int, Field(ge=1)] | None
    made_with: Plain | None
    """Number of the code, versions, processor; null: not recorded then."""


class Member(_Part):
    """One store of probabilities that is blended."""

    run: str
    fold: Fold
    checkpoint: Checkpoint
    sha256: str
    """Of the checkpoint, as it was when it predicted."""
    weight: Annotated[float, Field(ge=0)] | None
    """Among the stores that are blended for a test image, not normalised; null where a search chose it for none."""
    valid_weight: float | None
    """Likewise for an out-of-fold image; null where its fold does not count, or a search did not choose it for it."""
    predictions: dict[str, Prediction]
    """By split, test and valid, where it is blended for it."""
    role: Role | None = None
    """Whether it says where a class is or whether it is there; missing where all members say both."""
    levels: dict[str, list[int]] | None = None
    """By split the level of each class that makes a vote of a probability; missing where members do not vote."""
    gives: Literal["values"] | None = None
    """`values` of the classification head, one per image and class; missing where it gives planes."""

    @model_validator(mode="after")
    def _weighs_what_it_predicts(self) -> Self:
        weights = {"test": self.weight, "valid": self.valid_weight}
        for split in self.predictions:
            if weights.get(split) is None:
                raise ValueError(f"expected a weight of the predictions of {split}, got none")
            if self.levels is not None and split not in self.levels:
                raise ValueError(f"expected the levels of the votes of {split}, got none")
        return self

    def in_blend(self, split: str) -> Plain:
        """Return name, fold and weight of its store of a split, as blends are made from them."""
        weight = self.weight if split == "test" else self.valid_weight
        plain = {"store": f"{self.run}/{self.checkpoint}", "fold": self.fold, "weight": weight}
        return plain if self.gives is None else plain | {"gives": self.gives}


class Teacher(_Part):
    """One store of probabilities that labels of test images were made of."""

    run: str
    fold: Fold
    checkpoint: Checkpoint
    sha256: str
    """Of the checkpoint, as it was when it predicted."""
    weight: float
    """Not normalised."""
    prediction: Prediction


class PseudoLabels(_Part):
    """Labels that networks of one fold made of test images, for trainings of that fold."""

    ensemble: EnsembleName
    """Whose members of that fold made them."""
    recipe: RecipeName
    """That asks for them."""
    size: TrainingSize
    fold: Annotated[int, Field(ge=0)]
    settings: Plain
    """How they were chosen and made, as the recipe has it."""
    min_area: float
    """The smallest area of a component, as a share of the image, where these do not say it."""
    run: str
    """Digest of what decides them, as their store has it."""
    images: int
    """How many test images were sure enough."""
    members: list[Teacher]

    @property
    def name(self) -> str:
        """What they are called among those of all ensembles."""
        return f"{self.ensemble}/{self.recipe}/{self.size}/fold{self.fold}"


class BlendFacts(_Part):
    """A blend of the members' stores."""

    run: str
    """Digest of the members, their weights and their checkpoints, as the store has it."""
    images: int


class SearchFacts(_Part):
    """How members and their weights were found among those that the config names."""

    sha256: str
    """Of selection.yaml."""
    plain: Plain
    """What selection.yaml holds."""
    asked: Plain
    """What was asked for: steps, powers."""


class BlackFacts(_Part):
    """Where the blends were set to 0."""

    grey: Annotated[int, Field(ge=0, le=254)]
    """A pixel is black when all its bands are at most this."""
    data: dict[str, str]
    """By split, digest of the images that were looked at, as the store has it."""


class DecisionFacts(_Part):
    """How the blend becomes masks."""

    sha256: str
    """Of decision.yaml."""
    plain: Plain
    """What decision.yaml holds."""
    rule: Plain
    """What was asked for: how, thresholds, minimum sizes; of a search, with thresholds of p itself."""
    min_sizes: list[int]
    """Of the surface that it was chosen from."""


class Score(_Part):
    """The score to expect."""

    dice: float | None
    """Mean over images, classes and folds; null where no image is out of fold."""
    how: Literal["fixed", "nested", "on itself", "none"]
    """Decided by fixed numbers; chosen on the other folds; chosen on the images that are scored; not scored."""
    optimistic: list[str]
    """Why it is too good, if it is."""
    images: int
    folds: list[int]
    expected: float | None
    """At the config's `class_rates`, if it has them."""


class Writer(_Part):
    """What wrote this record, and made a sample of blends and masks again to compare."""

    commit: str | None
    codes: dict[str, int]
    versions: dict[str, str]


class Provenance(_Part):
    """All that ``provenance.json`` says.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     files.write_text(f"{folder}/provenance.json", '{"schema_version": 4}\\n')
    ...     Provenance.read(f"{folder}/provenance.json")
    Traceback (most recent call last):
    ...
    cloudseg.errors.DamagedFileError: ...provenance.json: written by a later version of this code (schema_version 4, ...
    """

    schema_version: int
    config_name: ConfigName
    ensemble: EnsembleName
    smoke: bool
    csv: Csv
    score: Score
    decision: DecisionFacts
    sharpen: Annotated[float, Field(gt=0)] | None
    """The power of p that is averaged: asked for, or found by a search."""
    allow_squeezed: bool
    blends: dict[str, BlendFacts]
    """By split."""
    members: list[Member]
    trainings: list[Training]
    prediction_threads: Annotated[int, Field(ge=1, le=1024)]
    images: Images
    config: Plain
    """As it was read, with all defaults; without the keys that only say where jobs run, and with folders by name."""
    sheet: list[Plain]
    """The rows of the experiment sheet that are used."""
    written_by: Writer
    whether: dict[str, BlendFacts] | None = None
    """By split, what the members with this role say; missing where none has one."""
    search: SearchFacts | None = None
    """Missing where all members that the config names are blended."""
    black: BlackFacts | None = None
    """Missing where it does not count whether an image is black."""
    earlier: list[Training] | None = None
    """The trainings, of no member, that those of the members go back to; missing where they go back to none."""
    pseudo: list[PseudoLabels] | None = None
    """The labels of test images that any of the trainings took; missing where none did."""

    @model_validator(mode="after")
    def _knows_the_runs_of_its_members(self) -> Self:
        unknown = next((each.run for each in self.members if each.run not in self.run_names), None)
        if unknown is not None:
            raise ValueError(f"expected a training of each member's run, got none of {unknown}")
        return self

    @model_validator(mode="after")
    def _knows_what_its_trainings_go_back_to(self) -> Self:
        trained = {training.run for training in self.all_trainings}
        labels = {labels.name for labels in self.pseudo or ()}
        for training in self.all_trainings:
            named = [*filter(None, [training.start_run]), *(training.epochs_of or ())]
            if unknown := [run for run in named if run not in trained]:
                raise ValueError(f"expected the training of {unknown[0]}, which {training.run} goes back to, got none")
            if training.pseudo not in (None, *labels):
                raise ValueError(f"expected the labels {training.pseudo}, which {training.run} took, got none")
        for teacher in (teacher for labels in self.pseudo or () for teacher in labels.members):
            if teacher.run not in trained:
                raise ValueError(f"expected the training of {teacher.run}, which labels test images, got none")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a record.

        Raises
        ------
        OSError : if there is none.
        DamagedFileError : if the file is not as it was written, or of a later version.
        """
        return cls._of_plain(files.read_json(path), path)

    @classmethod
    def parse_text(cls, text: str, path: str | Path) -> Self:
        """Return the record that a text holds, as :meth:`read` does; `path` says where the text came from."""
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise files.damaged(path, f"not whole JSON ({error})") from error
        return cls._of_plain(plain, path)

    @classmethod
    def _of_plain(cls, plain: Any, path: str | Path) -> Self:
        version = plain.get("schema_version") if isinstance(plain, dict) else None
        if isinstance(version, int) and version > RUNS_VERSION:
            reason = f"written by a later version of this code (schema_version {version}, known: {RUNS_VERSION})"
            raise files.damaged(path, reason)
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            first = error.errors()[0]
            raise files.damaged(path, f"no provenance ({'.'.join(map(str, first['loc']))}: {first['msg']})") from error

    def write(self, path: str | Path) -> None:
        """Write the record."""
        plain = self.model_dump(mode="json")
        files.write_text(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    @property
    def results_name(self) -> str:
        """The folder in ``results`` that the config's results lie in."""
        return self.config_name + ("-smoke" if self.smoke else "")

    @property
    def run_names(self) -> list[str]:
        """The runs, in the order of the trainings."""
        return [training.run for training in self.trainings]

    @property
    def all_trainings(self) -> list[Training]:
        """The trainings of the members, and those that these go back to."""
        return [*self.trainings, *(self.earlier or ())]

    @property
    def all_predictions(self) -> list[Prediction]:
        """The predictions of the members, and those that labels of test images were made of."""
        taught = [teacher.prediction for labels in self.pseudo or () for teacher in labels.members]
        return [each for member in self.members for each in member.predictions.values()] + taught

    @property
    def unscored(self) -> str | None:
        """How many of the members on test images have no out-of-fold score, having seen all images; None for none."""
        tested = {(member.run, member.checkpoint): member.fold for member in self.predicted("test")}  # of any role
        unscored = sum(fold == ALL for fold in tested.values())
        return f"{unscored} of {len(tested)}" if unscored else None

    def predicted(self, split: str) -> list[Member]:
        """Return the members that predict a split."""
        return [member for member in self.members if split in member.predictions]

    def blended(self, split: str, role: Role = "where") -> list[Member]:
        """Return the members whose planes are blended for a split, in their order.

        Without a role they say where a class is.
        """
        own = [member for member in self.predicted(split) if (member.role or "where") == role]
        return [member for member in own if member.gives is None]

    def classifiers(self, split: str) -> list[Member]:
        """Return the members whose classification heads say of a split whether a class is there, in their order."""
        return [member for member in self.predicted(split) if member.gives == "values"]

    def levels(self, split: str) -> list[list[int]] | None:
        """Return the levels by which the members that are blended for a split vote; None where they do not."""
        levels = [member.levels[split] for member in self.blended(split) if member.levels is not None]
        return levels or None
