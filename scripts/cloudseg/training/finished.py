"""The files of a finished training, kept until another has taken its place.

Snakemake removes the outputs of a job before it starts, and again when it fails: a recipe that was edited, and then
fails or is taken back, would cost a training that had been finished. So each training that finishes leaves hard links
to its files in a folder of their own beside them, which is no output of the rule. They take no room on the disk until
the training is replaced. Nothing here imports torch or zarr, since it is read whenever Snakemake parses.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloudseg.config.fold_names import ALL, Fold
from cloudseg.config.recipe import Recipe
from cloudseg.storage import files
from cloudseg.training.all_images import SET_BY_FOLDS
from cloudseg.training.record import NOT_TRAINED_BY, RunRecord

FOLDER = "finished"
STATE = "training.state"
# Links share their bytes with the outputs: what damages one damages the other
DIGESTS = "digests.json"


class FinishedTraining:
    r"""One training by what decides its result, and the folder where its files are kept once it has finished.

    Parameters
    ----------
    outputs : paths of ``best``, ``last``, ``history`` and ``run``, all in the folder of the run, and of ``average`` if
        the recipe has one.
    decides : what decides the result, as :func:`decisive` returns it.

    Examples
    --------
    A training that is begun again, after its outputs were removed, is there at once:

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     outputs = {name: Path(folder, name) for name in ("best", "last", "history", "run")}
    ...     training = FinishedTraining(outputs, {"recipe": {"epochs": 4}})
    ...     for path in outputs.values():
    ...         _ = path.write_text("{}\n")
    ...     training.keep()
    ...     for path in outputs.values():
    ...         path.unlink()
    ...     training.restore(), sorted(path.name for path in Path(folder).iterdir() if path.is_file())
    (True, ['best', 'history', 'last', 'run'])
    """

    def __init__(self, outputs: Mapping[str, str | Path], decides: Mapping[str, Any]) -> None:
        self.outputs = {name: Path(path) for name, path in outputs.items()}
        self.run = self.outputs["run"].parent
        self.kept = self.run / FOLDER / files.digest(dict(decides))[:16]

    def keep(self) -> None:
        """Link the files of this training, which has just finished, and drop those of the one that it replaces."""
        new = self.kept.with_name(f".{self.kept.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        state = [self.run / STATE] if (self.run / STATE).is_file() else []
        for path in (*self.outputs.values(), *state):
            _link(path, new / path.name)
        digests = {path.name: files.sha256(path) for path in self.outputs.values()}
        files.write_text(new / DIGESTS, json.dumps(digests, indent=2) + "\n")
        shutil.rmtree(self.kept, ignore_errors=True)
        new.rename(self.kept)
        for other in self.kept.parent.iterdir():
            if other != self.kept:
                shutil.rmtree(other)

    def restore(self) -> bool:
        """Put the files of this training back if it has finished before; return whether they are whole and there."""
        if not self.kept.is_dir() or not _is_whole(self.kept, self.outputs):
            return False
        if (self.kept / STATE).is_file():
            _link(self.kept / STATE, self.run / STATE)
        for path in self.outputs.values():
            _link(self.kept / path.name, path)
            os.utime(path)  # Snakemake asks for outputs that are newer than their inputs
        return True


def decisive(
    *,
    encoder: str,
    decoder: str,
    fold: Fold,
    recipe: Recipe,
    seed: int,
    threads: int,
    code: int,
    loss_size: Sequence[int] | None,
    data: str,
    weights: str,
) -> dict[str, Any]:
    """Return what decides the result of a training, wherever it runs.

    Parameters
    ----------
    encoder, decoder, fold, recipe, seed, threads, code : as of :class:`cloudseg.training.job.TrainingJob`; what stands
        at its default in the recipe does not count, so that a key that comes later changes nothing.
    loss_size : (height, width) of the grid of the loss where it is that of the submission, else None.
    data, weights : digests of the images with their labels and folds, and of the initial weights.
    """
    return {
        "encoder": encoder,
        "decoder": decoder,
        "fold": fold,
        "seed": seed,
        "threads": threads,
        "code": code,
        "recipe": recipe.canonical(),
        "loss_size": loss_size and list(loss_size),
        "data": data,
        "weights": weights,
    }


def decisive_of_record(record: RunRecord) -> dict[str, Any]:
    """Return what decided a training, from its ``run.json``."""
    return decisive(
        encoder=record.encoder,
        decoder=record.decoder,
        fold=record.fold,
        recipe=Recipe(**record.recipe),
        seed=record.seed,
        threads=record.threads,
        code=record.code,
        loss_size=record.loss_size,
        data=record.data,
        weights=record.weights.sha256,
    )


def keep_finished(run: Path) -> None:
    """Keep the files of a training that finished before trainings did so themselves."""
    outputs = {
        "best": run / "best.safetensors",
        "last": run / "last.safetensors",
        "history": run / "history.tsv",
        "run": run / "run.json",
    }
    if (run / FOLDER).is_dir() or not all(path.is_file() for path in outputs.values()):
        return
    with contextlib.suppress(ValueError):  # no record of a training
        record = RunRecord.read(outputs["run"])
        if record.average is not None:
            outputs["average"] = run / "average.safetensors"
        if _is_whole(run, outputs):  # else the jobs, or rule verify, will say so
            FinishedTraining(outputs, decisive_of_record(record)).keep()


def finished_record(run: Path) -> RunRecord | None:
    """Return the record of the training that finished last in a run's folder, be its outputs there or removed."""
    for path in (run / "run.json", *sorted(run.glob(f"{FOLDER}/*/run.json"))):
        with contextlib.suppress(OSError, ValueError):
            return RunRecord.read(path)
    return None


def differences(record: RunRecord, wanted: Mapping[str, Any]) -> list[str]:
    """Say how a finished training differs from what is asked for now.

    Parameters
    ----------
    record : of the training.
    wanted : the `recipe` (with or without its defaults), `seed`, `threads`, `code`, and `start`, the name of the file
        of initial weights. Of a training on all images the folds say for how many epochs, not the recipe.

    Returns
    -------
    list of str : one text per key, ``learning_rate 0.002 -> 0.001``.
    """
    was = _flat(record.recipe) | {"seed": record.seed, "threads": record.threads, "code": record.code}
    was["start"] = Path(record.weights.path).stem
    now = _flat(wanted["recipe"]) | {name: wanted[name] for name in ("seed", "threads", "code", "start")}
    if record.fold == ALL:
        now |= {name: was.get(name) for name in SET_BY_FOLDS}
    return [f"{name} {was.get(name)} -> {now.get(name)}" for name in now if was.get(name) != now.get(name)]


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a recipe that count for training, with their defaults."""
    try:
        return Recipe(**recipe).model_dump(mode="json", exclude=NOT_TRAINED_BY)
    except ValueError:  # the record of another version
        return dict(recipe)


def _is_whole(folder: Path, outputs: Mapping[str, Path]) -> bool:
    """Return whether all files are there, as the training left them."""
    try:
        digests = _digests(folder, outputs)
        found = {path.name: files.sha256(folder / path.name) for path in outputs.values()}
    except (OSError, ValueError):
        return False
    return all(found[name] == digest for name, digest in digests.items())


def _digests(folder: Path, outputs: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, by its name.

    Folders of the time before there were `DIGESTS` have those of the checkpoints alone, in the record.
    """
    if (folder / DIGESTS).is_file():
        digests = files.read_json(folder / DIGESTS)
        if not isinstance(digests, dict) or digests.keys() != {path.name for path in outputs.values()}:
            raise files.damaged(folder / DIGESTS, "not the digests of a training's files")
        return digests
    files.read_table(folder / outputs["history"].name)
    record = RunRecord.read(folder / outputs["run"].name)
    return {outputs[name].name: digest for name, digest in record.sha256.items() if name in outputs}


def _link(source: Path, target: Path) -> None:
    """Make `target` another name of a file, or a copy where the file system has no such names."""
    with _replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    temporary = target.with_name(f".{target.name}.link")
    temporary.unlink(missing_ok=True)
    yield temporary
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # it stays where both are names of one file
