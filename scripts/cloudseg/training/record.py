"""The record of a finished training, ``run.json``: what it was, what it took, on what it ran. Imports no torch."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, ValidationError

from cloudseg.config.fields import Model
from cloudseg.config.fold_names import Fold
from cloudseg.storage import files

# Nothing said so in the first records, and this was the number then
FIRST_CODE = 1
# Keys of a recipe that change nothing in a training: the initial weights are a file, and prediction has the views
NOT_TRAINED_BY = {"start", "tta"}


class _Part(Model):
    # Another version of this code may record more
    model_config = ConfigDict(extra="ignore")


class Weights(_Part):
    """The file of initial weights."""

    path: str
    sha256: str


class Images(_Part):
    """How many images there were."""

    train: int
    valid: int


class Batch(_Part):
    """How the images of a batch were shared out."""

    images: int
    devices: int
    at_once: int
    """Images that a device saw at once."""
    pieces: int
    """Parts of a batch whose gradients a device summed."""
    too_much: list[int]
    """What was tried before as `at_once` and did not fit in the memory."""


class Epochs(_Part):
    """How the epochs went."""

    run: int
    best: int
    """From 1."""
    resumed: list[dict[str, int]]
    """After which epoch, of how many, earlier processes stopped."""


class Averaged(_Part):
    """The mean of the networks of some epochs."""

    epochs: list[int]
    """Those that take part, from 1."""
    valid: dict[str, float]
    """What it is worth on the validation fold, by the columns of ``history.tsv``."""


class Device(_Part):
    """One of the devices."""

    device: str
    name: str
    peak_memory_mib: int
    busy: float | None
    """Share of the epochs' seconds in which it had work; None where no epoch was trained."""


class RunRecord(_Part):
    """All that ``run.json`` says.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     files.write_text(f"{folder}/run.json", '{"seed": 1}\\n')
    ...     RunRecord.read(f"{folder}/run.json")
    Traceback (most recent call last):
    ...
    cloudseg.errors.DamagedFileError: ...run.json: not the record of a training (encoder: Field required); ...
    """

    encoder: str
    decoder: str
    fold: Fold
    recipe: dict[str, Any]
    """What the training went by, with all defaults; without `start`, which `weights` tells, and `tta`, which prediction
    goes by. Another version of this code may know other keys.
    """
    seed: int
    threads: int
    code: int = FIRST_CODE
    loss_size: list[int] | None = None
    """(height, width) of the grid of the loss where it is that of the submission."""
    workers: int
    pixels: str
    canvas_pixels: str | None
    folds: str
    weights: Weights
    data: str
    """Digest of the images, their labels and the split."""
    images: Images
    parameters: int
    """Of the network."""
    precision: str
    deterministic: bool | None = None
    """False where the fastest algorithms were taken; None, as in earlier records, where the bits are repeatable."""
    batch: Batch
    epochs: Epochs
    average: Averaged | None = None
    """None where the recipe averages no epochs."""
    sha256: dict[str, str]
    """Of the checkpoints: ``best``, ``last`` and, where the recipe has one, ``average``."""
    seconds: float
    images_per_second: float | None
    """Training images; None where the process that finished the training trained none."""
    devices: list[Device]
    versions: dict[str, str]
    commit: str | None
    processor: str | None = None
    """What decides last bits: the model of the GPU, the instruction set of the CPU; earlier records do not say."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a record.

        Raises
        ------
        OSError : if there is none.
        DamagedFileError : if the file is not as a training wrote it.
        """
        try:
            return cls.model_validate(files.read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            reason = f"{where}: {first['msg']}" if where else first["msg"]
            raise files.damaged(path, f"not the record of a training ({reason})") from error

    def write(self, path: str | Path) -> None:
        """Write the record; what came later and is not there is left out."""
        absent = {name for name in ("average", "deterministic") if getattr(self, name) is None}
        plain = self.model_dump(mode="json", exclude=absent)
        files.write_text(path, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
