"""The tables beside a config: the experiment sheet, and the scores that the contest gave."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from cloudseg.config.checkpoint_header import start_problem
from cloudseg.config.decoders import DECODERS
from cloudseg.config.encoders import encoders
from cloudseg.config.fold_names import experiment_words
from cloudseg.config.messages import problems, refuse
from cloudseg.config.model import Config, ExperimentRow
from cloudseg.config.names import nearest
from cloudseg.config.network_checks import known_pixels, network_problems
from cloudseg.config.recipe import Recipe
from cloudseg.config.size import OriginalSizes, Size, division_problem
from cloudseg.config.transforms import size_problem
from cloudseg.errors import ConfigError

KEY = ["encoder", "decoder", "size", "recipe"]  # what tells experiments apart, but for the seed of a replicate
RESERVED = {"fold", "line"}  # columns that other tables add to those of the sheet
SCORES = ("best", "last", "single")  # columns of the table of contest scores
Rows = dict[int, ExperimentRow]  # by line number


@dataclass(frozen=True)
class ExperimentSheet:
    """An experiment sheet that has been checked."""

    columns: tuple[str, ...]
    """In their order."""
    rows: tuple[ExperimentRow, ...]


def read_sheet(path: Path, config: Config, originals: Callable[[], OriginalSizes] = dict) -> ExperimentSheet:
    """Read an experiment sheet.

    Parameters
    ----------
    path : the sheet.
    config : what its rows may name.
    originals : returns the original sizes of the images, as far as they are known; asked where a row divides them.

    Raises
    ------
    ConfigError : all its problems, with their lines.
    """
    columns, cells = _read_cells(path)
    rows: Rows = {}
    lines = []
    for number, record in cells.items():
        try:
            rows[number] = row = ExperimentRow.model_validate(record)
            found = _row_problems(row, config, originals)
        except ValidationError as error:
            found = problems(error, ExperimentRow)
        lines += [f"{path}, line {number}: {problem}" for problem in found]
    refuse(lines)
    repeated = [*_repetitions(path, rows), *_repeated_full(path, rows)]
    refuse([*repeated, *_start_problems(path, rows, config), *_clashes(rows, config)])
    extra = [] if "note" in columns else ["note"]
    return ExperimentSheet(tuple(dict.fromkeys([*columns, *extra])), tuple(rows.values()))


def experiment_name(experiment: Iterable[str], folds: int, *checkpoint: str) -> str:
    """Return the name of a row of the sheet; with a checkpoint, the name of the ensemble of itself that is scored.

    Parameters
    ----------
    experiment : encoder, decoder, size and recipe, and the seed of a replicate.
    folds : how many folds the row trains.
    checkpoint : best or last, if it is given.

    Examples
    --------
    >>> experiment = ("tu-test_resnet", "fpn", "x4", "quick")
    >>> experiment_name(experiment, 2), experiment_name((*experiment, "seed7"), 2, "best")
    ('tu-test-resnet-fpn-x4-quick-2', 'tu-test-resnet-fpn-x4-quick-seed7-2-best')
    """
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, [*experiment, folds, *checkpoint])))


def read_public_scores(path: Path, config: str, names: Iterable[str]) -> dict[str, dict[str, float]]:
    """Read the table of scores that the contest gave.

    Parameters
    ----------
    path : table separated by tabs with the columns config, name, best, last, single; empty cells are no score.
    config : the rows of this config count.
    names : the experiments and ensembles that there are.

    Returns
    -------
    dict : name to the scores `best`, `last` (one file per checkpoint) and `single` (one file), those there are.

    Raises
    ------
    ConfigError : all problems of the table, with their lines.
    """
    lines, scores = [], {}
    known = list(names)
    for number, row in enumerate(_read_table(path), start=2):
        if missing := [name for name in ("config", "name", *SCORES) if row.get(name) is None]:
            lines.append(
                f"{path}, line {number}: no {', '.join(missing)}; the columns are config, name, best, last, single"
            )
        elif row["config"].strip() == config:
            name, cells = row["name"].strip(), {score: row[score].strip() for score in SCORES if row[score].strip()}
            if name not in known:
                lines.append(f"{path}, line {number}: no experiment or ensemble {name!r}{nearest(name, known)}")
            wrong = [cell for cell in cells.values() if not re.fullmatch(r"0?\.\d+|[01](\.0*)?", cell)]
            if wrong:
                lines.append(f"{path}, line {number}: expected a score from 0 to 1, got {wrong[0]!r}")
            else:
                scores[name] = {score: float(cell) for score, cell in cells.items()}
    refuse(lines)
    return scores


def _read_table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: not a table of text ({error}); save it as UTF-8, tab-separated") from None


def _read_cells(path: Path) -> tuple[list[str], dict[int, dict[str, str]]]:
    """Return the header of a sheet and the cells of its rows, by line; blank rows are left out."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error}); save the table as UTF-8, tab-separated") from None
    header = [cell.strip() for cell in lines[0].rstrip().split("\t")] if lines else []
    refuse([f"{path}, line 1: {problem}" for problem in _header_problems(header)])
    rows = {}
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.rstrip().split("\t")]
        if len(cells) > len(header):
            raise ConfigError(f"{path}, line {number}: expected {len(header)} cells (the header), got {len(cells)}")
        if any(cells):
            cells += [""] * (len(header) - len(cells))
            rows[number] = dict(zip(header, cells, strict=True))
    if not rows:
        raise ConfigError(f"{path}: no experiments; each row below the header is one")
    return header, rows


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    yield from [f"the column {name!r} is there twice" for name in twice[:1]]
    required = [name for name, field in ExperimentRow.model_fields.items() if field.is_required()]
    if missing := [name for name in required if name not in header]:
        yield f"the columns {', '.join(missing)} are missing (tab-separated; got {', '.join(header)})"
    if reserved := RESERVED & set(header):
        yield f"the column {', '.join(sorted(reserved))} has a meaning of its own; rename it"


def _row_problems(row: ExperimentRow, config: Config, originals: Callable[[], OriginalSizes]) -> Iterator[str]:
    """Yield what is wrong with a row whose cells are each sound."""
    size = Size.parse(row.size)
    sizes = originals() if size.divisor else {}
    unfit = division_problem(size, sizes)
    if unfit:
        yield unfit
    original = None if unfit else next(iter(sizes), None)
    if row.recipe not in config.recipes:
        yield f"no recipe {row.recipe!r}{nearest(row.recipe, config.recipes)}"
    if row.encoder not in encoders():
        # Without timm's names with a tag of weights, of which there are many
        models = [name for name in encoders() if "." not in name]
        yield f"no encoder {row.encoder!r}{nearest(row.encoder, models)}"
    elif row.recipe in config.recipes:
        yield from _weights_problems(row, config)
    if row.recipe in config.recipes:
        yield from _augmented_size_problems(row, config, original)
    if row.decoder not in DECODERS:
        yield f"no decoder {row.decoder!r}{nearest(row.decoder, DECODERS)}; known: {', '.join(DECODERS)}"
    elif row.recipe in config.recipes:
        yield from network_problems(row, config.recipes[row.recipe], config, original)
    if row.folds > config.folds.count:
        yield f"folds: expected at most {config.folds.count} (folds.count), got {row.folds}"
    if row.seed == config.seed:
        yield f"seed: {row.seed} is the config's own, which a row without a seed has; leave it out, or take another"
    if row.full and row.recipe in config.recipes:
        yield from (f"full: {problem}" for problem in _full_problems(row.recipe, config.recipes[row.recipe]))


def _full_problems(name: str, recipe: Recipe) -> Iterator[str]:
    """Yield why a recipe cannot train on all images, without images to validate on, for another number of epochs."""
    without = "a training on all images validates on none"
    if recipe.stages is not None:
        yield f"the best epoch of the folds says nothing of the stages of recipe {name}; take one without `stages`"
    if recipe.schedule == "plateau":
        yield f"{without}, and `schedule: plateau` of recipe {name} waits for its validation; take another schedule"
    if recipe.average is not None and recipe.average.of == "best":
        yield f"{without}, so recipe {name} has no best epochs to average; take `average: {{of: last}}`"


def _augmented_size_problems(row: ExperimentRow, config: Config, original: tuple[int, int] | None) -> Iterator[str]:
    """Yield that the augmentation of a row does not keep the size of its images, where that is known.

    A smoke run has smaller images, and is left alone.
    """
    recipe = config.recipes[row.recipe]
    pixels = known_pixels(recipe.canvas or Size.parse(row.size), original)
    if pixels is None or config.smoke:
        return
    if problem := size_problem(recipe.steps, pixels):
        yield f"recipes.{row.recipe}.augmentation: {problem}"


def _weights_problems(row: ExperimentRow, config: Config) -> Iterator[str]:
    """Yield that an encoder cannot have the initial weights of its recipe."""
    kind, _, file = config.recipes[row.recipe].start.partition(":")
    if kind == "imagenet" and not encoders()[row.encoder] and not config.smoke:
        yield f"there are no ImageNet weights for {row.encoder}; set recipes.{row.recipe}.start to none or file:PATH"
    if kind == "file" and (problem := start_problem(file, row.encoder)):
        yield f"recipes.{row.recipe}.start: {problem}"


def _repetitions(path: Path, rows: Rows) -> Iterator[str]:
    """Yield the rows that would have the files of an earlier one."""
    first: dict[str, int] = {}
    for number, row in rows.items():
        earlier = first.setdefault(experiment_name(row.experiment, row.folds), number)
        if earlier != number:
            same = row.experiment == rows[earlier].experiment
            what = "the same experiment as" if same else "differs only in punctuation from"
            yield f"{path}, line {number}: {what} line {earlier} (encoder, decoder, size, recipe, seed, folds)"


def _repeated_full(path: Path, rows: Rows) -> Iterator[str]:
    """Yield the rows whose training on all images an earlier row has, perhaps for other folds' number of epochs."""
    first: dict[tuple[str, ...], int] = {}
    for number, row in rows.items():
        if row.full and (earlier := first.setdefault(row.experiment, number)) != number:
            yield f"{path}, line {number}: full: line {earlier} trains this experiment on all images; one of them can"


def starting_seed(encoder: str, source: str, seed: int | None, trained: Container[tuple[str, ...]]) -> int | None:
    """Return the seed of the run that another one starts from (`start: run:SOURCE` or `network:SOURCE`).

    Parameters
    ----------
    encoder, seed : of the run that starts.
    source : DECODER/SIZE/RECIPE.
    trained : the experiments of the sheet.

    Examples
    --------
    A replicate starts from the replicate with its seed where the sheet trains that, else from the run without a seed:

    >>> trained = {("resnet34", "fpn", "x8", "quick"), ("resnet34", "fpn", "x8", "quick", "seed7")}
    >>> [starting_seed("resnet34", "fpn/x8/quick", seed, trained) for seed in (None, 7, 8)]
    [None, 7, None]
    """
    return seed if experiment_words(encoder, *source.split("/"), seed) in trained else None


def _start_problems(path: Path, rows: Rows, config: Config) -> Iterator[str]:
    """Yield the rows whose recipe starts from a run that the sheet does not train."""
    folds: dict[tuple[str, ...], int] = {}
    for row in rows.values():
        folds[row.experiment] = max(row.folds, folds.get(row.experiment, 0))
    full = {row.experiment for row in rows.values() if row.full}
    for number, row in rows.items():
        if problem := _start_problem(row, config, folds, full):
            yield f"{path}, line {number}: recipe {row.recipe} {problem}"


def _start_problem(
    row: ExperimentRow, config: Config, folds: Mapping[tuple[str, ...], int], full: Container[tuple[str, ...]]
) -> str | None:
    """Return why a row cannot start from the run that its recipe names, if it names one and cannot."""
    kind, _, source = config.recipes[row.recipe].start.partition(":")
    if kind not in ("run", "network"):
        return None
    seed = starting_seed(row.encoder, source, row.seed, folds)
    experiment = experiment_words(row.encoder, *source.split("/"), seed)
    named = "/".join(experiment)
    if experiment == row.experiment:
        return "starts from the run itself"
    if folds.get(experiment, 0) < row.folds:
        return f"starts from {named}, which the sheet does not train for all {row.folds} folds"
    if row.full and experiment not in full:
        return f"starts from {named}, which the sheet does not train on all images, as this row; give it `full`, too"
    if kind == "network" and experiment[1] != row.decoder:
        return f"starts from the network {named}; expected one with the decoder {row.decoder}, or start from its `run:`"
    return None


def _clashes(rows: Rows, config: Config) -> Iterator[str]:
    """Yield the ensembles that have the name of an experiment."""
    checkpoints = ("best", "last")
    names = {experiment_name(row.experiment, row.folds, name) for row in rows.values() for name in checkpoints}
    for name in set(config.ensembles) & names:
        yield f"ensembles.{name}: the name of an experiment; choose another"
