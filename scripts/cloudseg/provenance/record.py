"""The provenance of a submission, ``provenance.json``: all that it was made from, in a form that is read back typed.

It names no place, person or machine: runs by their names, files by their digests, and no time of a clock, so that the
same inputs give the same bytes. Imports no torch.

One that came with somebody's file is read as well. Of its texts the names of runs, config, ensemble and sizes, and the
digest of the file, become parts of paths, so they are checked here: none leads out of the folder that it is put in.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, ValidationError, model_validator

from cloudseg.config.fields import Model, Pattern
from cloudseg.config.model import ConfigName, EncoderName, EnsembleName, RecipeName, TrainingSize
from cloudseg.storage import files

SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or goes; a new key alone raises nothing."""

Plain = dict[str, Any]
Digest = Annotated[str, Pattern("[0-9a-f]{64}", "a SHA-256 of 64 digits")]
DecoderName = Annotated[str, Pattern("[a-z0-9_]+", "the name of a decoder, such as fpn")]


class _Part(Model):
    # Another version of this code may record more
    model_config = ConfigDict(extra="ignore")


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

    classes: list[str]
    submission_size: list[int]
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


class Training(_Part):
    """A training, as its ``run.json`` has it."""

    run: str
    """encoder/decoder/size/recipe/fold"""
    encoder: EncoderName
    decoder: DecoderName
    size: TrainingSize
    recipe_name: RecipeName
    fold: int
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
    checkpoints: dict[str, str]
    """SHA-256 of ``best`` and ``last``."""
    otherwise: list[str]
    """How it differs from what the config asks for now; empty, where it is what the config asks for."""
    prediction_recipe: Plain
    """What prediction needs of the recipe, without what stands at its default."""

    @model_validator(mode="after")
    def _has_the_name_of_its_parts(self) -> Self:
        parts = f"{self.encoder}/{self.decoder}/{self.size}/{self.recipe_name}/fold{self.fold}"
        if self.run != parts:
            raise ValueError(f"expected the run {parts}, got {self.run}")
        return self


class Prediction(_Part):
    """Probabilities of one checkpoint for the images of a split."""

    settings: str
    """Digest of all that decides them besides the checkpoint, as the store has it."""
    device: str | None
    """``cpu`` or ``cuda``, with the two below found by that digest; null where no known settings have it."""
    precision: str | None
    batch: int | None
    made_with: Plain | None
    """Number of the code, versions, processor; null: not recorded then."""


class Member(_Part):
    """One store of probabilities that is blended."""

    run: str
    fold: int
    checkpoint: Literal["best", "last"]
    sha256: str
    """Of the checkpoint, as it was when it predicted."""
    weight: float
    """Among the stores that are blended for a test image; not normalised."""
    valid_weight: float | None
    """Likewise for an out-of-fold image; null where its fold does not count."""
    predictions: dict[str, Prediction]
    """By split: test, and valid where its fold counts."""


class BlendFacts(_Part):
    """A blend of the members' stores."""

    run: str
    """Digest of the members, their weights and their checkpoints, as the store has it."""
    images: int


class DecisionFacts(_Part):
    """How the blend becomes masks."""

    sha256: str
    """Of decision.yaml."""
    plain: Plain
    """What decision.yaml holds."""
    rule: Plain
    """What was asked for: how, thresholds, minimum sizes."""
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
    ...     files.write_text(f"{folder}/provenance.json", '{"schema_version": 2}\\n')
    ...     Provenance.read(f"{folder}/provenance.json")
    Traceback (most recent call last):
    ...
    cloudseg.errors.DamagedFileError: ...provenance.json: written by a later version of this code (schema_version 2, ...
    """

    schema_version: int
    config_name: ConfigName
    ensemble: EnsembleName
    smoke: bool
    csv: Csv
    score: Score
    decision: DecisionFacts
    sharpen: float | None
    allow_squeezed: bool
    blends: dict[str, BlendFacts]
    """By split."""
    members: list[Member]
    trainings: list[Training]
    prediction_threads: int
    images: Images
    config: Plain
    """As it was read, with all defaults; without the keys that only say where jobs run, and with folders by name."""
    sheet: list[Plain]
    """The rows of the experiment sheet that are used."""
    written_by: Writer

    @model_validator(mode="after")
    def _knows_the_runs_of_its_members(self) -> Self:
        unknown = next((each.run for each in self.members if each.run not in self.run_names), None)
        if unknown is not None:
            raise ValueError(f"expected a training of each member's run, got none of {unknown}")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a record.

        Raises
        ------
        OSError : if there is none.
        DamagedFileError : if the file is not as it was written, or of a later version.
        """
        plain = files.read_json(path)
        version = plain.get("schema_version") if isinstance(plain, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            reason = f"written by a later version of this code (schema_version {version}, known: {SCHEMA_VERSION})"
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

    def blended(self, split: str) -> list[Member]:
        """Return the members that are blended for a split."""
        return [member for member in self.members if split in member.predictions]

    def blend_members(self, split: str) -> list[dict[str, Any]]:
        """Return name, fold and weight of each store of a split, as blends are made from them."""
        weight = (lambda member: member.weight) if split == "test" else (lambda member: member.valid_weight)
        return [
            {"store": f"{member.run}/{member.checkpoint}", "fold": member.fold, "weight": weight(member)}
            for member in self.blended(split)
        ]
