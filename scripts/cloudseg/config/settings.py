"""Read a config and its experiment sheet, and say everything that is wrong with them."""

import csv
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cloudseg.config import schema
from cloudseg.config.batching import LEAST, images_at_once, pieces
from cloudseg.config.checkpoint_header import start_problem
from cloudseg.config.decoders import DECODERS
from cloudseg.config.encoders import encoders
from cloudseg.config.names import nearest
from cloudseg.config.recipe import FOR_ALL_EPOCHS, Recipe
from cloudseg.config.size import CONTEST_IMAGE, Size
from cloudseg.config.transforms import augmentation_problems, size_problem
from cloudseg.config.views import smallest_side, variants_of

KEY = ["encoder", "decoder", "size", "recipe"]
RESERVED = {"fold", "line"}  # columns that the table of runs adds to the sheet's
# Class names that are columns of the images table, or stand for the mean over classes.
NO_CLASS = {"all", "digest", "height", "image", "labels", "split", "width"}
SILENT_LOSSES = {"dice", "tversky"}  # 0 for a class of which a batch has no pixel
POSTED = ("best", "last", "single")
# What contest notebooks chose from, and `how: grid` does.
GRID = {"thresholds": [n / 20 for n in range(20)], "min_sizes": [0, 100, 1200, 5000, 10000]}
SMOKE_IMAGES = {"train": 24, "test": 8}
SMOKE_RECIPE = {"epochs": 3, "batch": 4, "micro_batch": None, "warmup": 0.5, "compile": False}
SMOKE_SHRINKS = (8, 4, 2)  # what sizes are divided by, the first that leaves the decoders enough
DEEPEST = 50  # levels of a config: some twenty steps of an augmentation within each other
MOST_ENTRIES = 1_000_000  # of a config; a YAML alias within an alias can stand for many more
# The contest's submission, and what its notebooks chose from: the defaults of `demo` and `kaggle`
CONTEST_SIZE = "350x525"
CONTEST_MIN_SIZE = 5000
CONTEST_MIN_AREA = 0.025  # of a recipe's validation, as a share of the image: about CONTEST_MIN_SIZE
CONTEST_MIN_SIZES = [
    *(0, 250, 500, 1000, 2000, 3000, 4000, 5000, 6000, 8000, 10000, 12500, 15000, 17500, 20000, 25000, 30000)
]
EXPERIMENT = schema.load("experiments")


def read_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with its defaults, its smoke version if that is asked for, checked against its schema.

    Raises
    ------
    ValueError : all problems of the config, one line each.
    """
    known = schema.load("config")
    refuse(list(nesting_problems(config)))
    settings = schema.typed(json.loads(json.dumps(config, default=str)), known)
    refuse(schema.problems(settings, known))
    settings = schema.with_defaults(_spelled_out(settings), known)
    lines = []
    dataset = settings["dataset"]
    dataset["root"] = Path(dataset["root"]).as_posix()
    if dataset["source"] == "path" and not Path(dataset["root"]).is_dir():
        lines.append(f"dataset.root: {dataset['root']!r} is no folder; give the one that holds train.csv")
    for name in sorted(NO_CLASS & set(dataset["classes"])):
        lines.append(f"dataset.classes: {name!r} has a meaning of its own in the tables; call the class otherwise")
    for name, recipe in settings["recipes"].items():
        lines += [f"recipes.{name}.{line}" for line in _recipe_problems(recipe)]
    for place, decision in _decisions(settings):
        lines += [f"{place}.{line}" for line in _per_class_problems(decision, dataset["classes"])]
    lines += _fill_sizes(settings)
    lines += _rate_problems(settings)
    refuse(lines)
    return smoke_settings(settings) if settings["smoke"] else settings


def nesting_problems(config: dict[str, Any]) -> Iterator[str]:
    """Yield what cannot even be read: a config that is nested too deeply or too large, keys that are no text."""
    found: list[tuple[Any, tuple[Any, ...]]] = [(config, ())]
    for count in itertools.count(1):
        if not found:
            return
        value, place = found.pop()
        if len(place) > DEEPEST or count > MOST_ENTRIES:
            what = f"nested more than {DEEPEST} levels deep" if len(place) > DEEPEST else "too large to read"
            yield f"{'.'.join(map(str, place[:8]))}: {what}; is an alias (*) or a list within itself by mistake?"
            return
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            if isinstance(key, str | int | float | bool):
                found.append((child, (*place, key)))
            else:
                yield f"{'.'.join(map(str, (*place, key)))}: a key must be text; put it in quotes"


def _spelled_out(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which a view or a query that is one word stands as the mapping that it means."""
    for recipe in settings["recipes"].values():
        if isinstance(recipe.get("tta"), list):
            recipe["tta"] = [{"view": view} if isinstance(view, str) else view for view in recipe["tta"]]
    for wish in settings["ensembles"].values():
        if isinstance(wish["members"], list):
            wish["members"] = [{"query": one} if isinstance(one, str) else one for one in wish["members"]]
    return settings


def _recipe_problems(recipe: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a recipe beyond its schema."""
    kind, _, source = recipe["start"].partition(":")
    if kind == "file" and not Path(source).is_file():
        yield f"start: {source!r} is no file"
    silent = SILENT_LOSSES - ({"dice"} if recipe["dice_over"] == "all" else set())
    if set(recipe["loss"]) <= silent:
        yield (
            f"loss: {' and '.join(recipe['loss'])} alone says nothing about a class that a batch lacks, so the network "
            "never learns to leave one empty; add a loss per pixel, such as {bce: 1, dice: 1}"
        )
    found = [f"augmentation: {line}" for line in augmentation_problems(recipe["augmentation"])]
    yield from found or _view_problems(recipe)
    yield from _batch_problems(recipe)
    yield from _schedule_problems(recipe)


def _per_class_problems(decision: dict[str, Any], classes: list[str]) -> Iterator[str]:
    """Give the numbers in a list of a decision to the classes in their order; yield where they do not fit."""
    for key in ("threshold", "min_size"):
        if isinstance(decision[key], list) and len(decision[key]) == len(classes):
            decision[key] = dict(zip(classes, decision[key], strict=True))
        if isinstance(decision[key], list):
            yield f"{key}: expected {len(classes)} numbers, one per class ({', '.join(classes)}), got {decision[key]}"
        elif isinstance(decision[key], dict) and set(decision[key]) != set(classes):
            yield f"{key}: expected one number per class ({', '.join(classes)}), got {', '.join(decision[key])}"


def _fill_sizes(settings: dict[str, Any]) -> list[str]:
    """Fill in the sizes that are the contest's for its images and others for one's own; list what must be said."""
    own = settings["dataset"]["source"] == "path"
    if own and settings["submission_size"] is None:
        return [
            "submission_size: the key is missing; write the height x width of the masks in your submission, such as "
            "`submission_size: 512x512` (the size of the images, unless a contest asks for another): all "
            "probabilities, minimum sizes and scores are of that grid"
        ]
    settings["submission_size"] = settings["submission_size"] or CONTEST_SIZE
    if settings["min_sizes"] is None:
        height, width = Size.parse(settings["submission_size"]).pixels
        contest = math.prod(Size.parse(CONTEST_SIZE).pixels)
        settings["min_sizes"] = sorted({size * height * width // contest for size in CONTEST_MIN_SIZES})
    for _, decision in _decisions(settings):
        if decision["min_size"] is None:
            decision["min_size"] = 0 if own else CONTEST_MIN_SIZE
    for recipe in settings["recipes"].values():
        if recipe["validation"]["min_area"] is None:
            recipe["validation"]["min_area"] = 0 if own else CONTEST_MIN_AREA
    return []


def folder_problems(results: Path) -> list[str]:
    """Look for a file where a folder of results should be, and for folders that cannot be written to."""
    parts = ("dataset", "weights", "runs", "ensembles", "report", "logs")
    folders = [Path(), results.parent, results, *(results / part for part in parts)]
    in_the_way = [folder for folder in folders if folder.exists() and not folder.is_dir()]
    locked = [folder for folder in folders if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK)]
    return [
        *(f"{folder}: a file is where the results' folder should be; move it away" for folder in in_the_way),
        *(f"{folder.resolve()}: not writable; results are written below the working directory" for folder in locked),
    ]


def _view_problems(recipe: dict[str, Any]) -> list[str]:
    try:
        variants_of(Recipe(**recipe))
    except ValueError as error:
        return [f"tta: {error}"]
    return []


def _batch_problems(recipe: dict[str, Any]) -> list[str]:
    batch, gpus = recipe["batch"], recipe["gpus"]
    at_once = images_at_once(recipe)
    if pieces(batch, gpus, at_once):
        return []
    return [
        f"batch: {batch} images on {gpus} device(s), at most {at_once} at once, leave fewer than "
        f"{LEAST} in a piece; choose a multiple of {gpus * max(LEAST, min(at_once, batch // gpus))}"
    ]


def _schedule_problems(recipe: dict[str, Any]) -> Iterator[str]:
    """Yield that a training would be stopped before its schedule has brought the learning rate down."""
    if recipe["patience"] and recipe["schedule"] in FOR_ALL_EPOCHS:
        yield (
            f"patience: expected 0, got {recipe['patience']}: a training that stops before the end of `schedule: "
            f"{recipe['schedule']}` leaves its last network unfinished, at a high learning rate; take "
            "`schedule: plateau` to stop early"
        )


def _rate_problems(settings: dict[str, Any]) -> list[str]:
    rates, classes = settings["class_rates"], settings["dataset"]["classes"]
    if rates is None or set(rates) == set(classes):
        return []
    return [f"class_rates: expected one number per class ({', '.join(classes)}), got {', '.join(rates) or 'none'}"]


def _decisions(settings: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    own = [
        (f"ensembles.{name}.decision", wish["decision"])
        for name, wish in settings["ensembles"].items()
        if "decision" in wish
    ]
    return [("decision", settings["decision"]), *own]


def fixed_min_sizes(settings: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return the minimum size of each class in every decision that takes the numbers of the config, by its place."""
    classes = settings["dataset"]["classes"]
    sizes = {}
    for place, decision in _decisions(settings):
        given = decision["min_size"]
        if decision["how"] == "fixed":
            sizes[place] = dict(given) if isinstance(given, dict) else dict.fromkeys(classes, given)
    return {place: given for place, given in sizes.items() if any(given.values())}


def smoke_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run of minutes: few images and epochs, and the demo's images for the contest's."""
    dataset = settings["dataset"]
    dataset |= {"source": "path" if dataset["source"] == "path" else "demo"} | SMOKE_IMAGES
    settings["recipes"] = {
        name: recipe | SMOKE_RECIPE | {"batch": max(SMOKE_RECIPE["batch"], LEAST * recipe["gpus"])}
        for name, recipe in settings["recipes"].items()
    }
    return settings


def smoke_size(size: str, smallest: int) -> str:
    """Return the size at which images of a smoke run are stored under the name of `size`.

    Parameters
    ----------
    size : `HxW`, or `xN` of the demo's originals.
    smallest : height and width in pixels that must be left.

    Examples
    --------
    >>> smoke_size("640x960", 32), smoke_size("64x96", 32), smoke_size("96x144", 64), smoke_size("x4", 32)
    ('80x120', '32x48', '96x144', 'x32')
    """
    full = Size.parse(size)
    height, width = full.of(CONTEST_IMAGE)
    for shrink in SMOKE_SHRINKS:
        if min(height, width) // shrink >= smallest:
            divisor = shrink * full.divisor
            return str(Size(divisor=divisor) if divisor else Size(height // shrink, width // shrink))
    return size


def read_sheet(path: Path, settings: dict[str, Any]) -> pd.DataFrame:
    """Read an experiment sheet; its rows keep the line they stand on, in the column `line`.

    Raises
    ------
    ValueError : all problems of the sheet, with their lines.
    """
    records = _sheet_rows(path)
    rows, lines = [], []
    for record in records:
        row = schema.with_defaults(schema.typed(record, EXPERIMENT), EXPERIMENT)
        found = schema.problems(row, EXPERIMENT) or list(_row_problems(row, settings))
        lines += [f"{path}, line {row['line']}: {problem}" for problem in found]
        rows.append(row)
    refuse(lines)
    table = pd.DataFrame(rows)
    names = table.apply(lambda row: experiment_name(row, "best"), axis=1)
    for line, first in zip(table["line"][names.duplicated()], names[names.duplicated()], strict=True):
        earlier = table[names == first].iloc[0]
        same = (table[table["line"] == line].iloc[0][KEY] == earlier[KEY]).all()
        what = "the same experiment as" if same else "differs only in punctuation from"
        lines.append(f"{path}, line {line}: {what} line {earlier['line']} (encoder, decoder, size, recipe, folds)")
    lines += _start_problems(path, table, settings)
    for name in set(settings["ensembles"]) & {experiment_name(row, mark) for row in rows for mark in ("best", "last")}:
        lines.append(f"ensembles.{name}: the name of an experiment; choose another")
    refuse(lines)
    for name in table.columns.difference([*EXPERIMENT["properties"], "line"]):
        numbers = pd.to_numeric(table[name].replace("", None), errors="coerce")
        if (numbers.notna() == table[name].ne("")).all():
            table[name] = numbers
    return table


def _sheet_rows(path: Path) -> list[dict[str, Any]]:
    """Read the cells of a sheet, with the `line` of each row; blank rows are left out."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); save the table as UTF-8, tab-separated") from None
    header = [cell.strip() for cell in lines[0].rstrip().split("\t")] if lines else []
    problems = [f"the column {name!r} is there twice" for name in header if name and header.count(name) > 1][:1]
    if missing := [name for name in EXPERIMENT["required"] if name not in header]:
        problems.append(f"the columns {', '.join(missing)} are missing (tab-separated; got {', '.join(header)})")
    if reserved := RESERVED & set(header):
        problems.append(f"the column {', '.join(sorted(reserved))} has a meaning of its own; rename it")
    refuse([f"{path}, line 1: {problem}" for problem in problems])
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.rstrip().split("\t")]
        if len(cells) > len(header):
            raise ValueError(f"{path}, line {number}: {len(cells)} cells, the header has {len(header)}")
        if any(cells):
            cells += [""] * (len(header) - len(cells))
            rows.append({"line": number} | dict(zip(header, cells, strict=True)))
    if not rows:
        raise ValueError(f"{path}: no experiments; each row below the header is one")
    return rows


def _row_problems(row: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    lines = []
    if row["recipe"] not in settings["recipes"]:
        lines.append(f"no recipe {row['recipe']!r}{nearest(row['recipe'], settings['recipes'])}")
    if row["encoder"] not in encoders():
        models = [
            name for name in encoders() if "." not in name
        ]  # not the names of each set of weights, which are many
        lines.append(f"no encoder {row['encoder']!r}{nearest(row['encoder'], models)}")
    elif row["recipe"] in settings["recipes"]:
        lines += _weights_problems(row["encoder"], row["recipe"], settings)
    lines += _augmented_size_problems(row, settings)
    if row["decoder"] not in DECODERS:
        known = ", ".join(DECODERS)
        lines.append(f"no decoder {row['decoder']!r}{nearest(row['decoder'], DECODERS)}; known: {known}")
    elif "x" in row["size"][1:]:
        smallest, size = DECODERS[row["decoder"]].minimum, Size.parse(row["size"]).pixels
        if min(size) < smallest:
            lines.append(f"{row['decoder']} takes images of at least {smallest}x{smallest}, got {row['size']}")
        elif row["recipe"] in settings["recipes"] and not settings["smoke"]:
            side = smallest_side(variants_of(Recipe(**settings["recipes"][row["recipe"]])), size)
            if side < smallest:
                lines.append(
                    f"{row['decoder']} takes images of at least {smallest}x{smallest}, and a view of recipe "
                    f"{row['recipe']} makes {row['size']} {side} pixels small (recipes.{row['recipe']}.tta)"
                )
    if row["folds"] > settings["folds"]["count"]:
        lines.append(f"folds: expected at most {settings['folds']['count']} (folds.count), got {row['folds']}")
    return lines


def _augmented_size_problems(row: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Look whether the augmentation of a row keeps the size of its images, where that is known.

    A smoke run has smaller images, and is left alone; the size of `xN` of a user's own images is not known here.
    """
    recipe = settings["recipes"].get(row["recipe"])
    if recipe is None or settings["smoke"]:
        return []
    text = recipe["canvas"] or row["size"]
    size = Size.parse(text)
    if size.divisor and settings["dataset"]["source"] == "path":
        return []
    problem = size_problem(recipe["augmentation"], size.of(CONTEST_IMAGE))
    return [f"recipes.{row['recipe']}.augmentation: {problem}"] if problem else []


def _weights_problems(encoder: str, recipe: str, settings: dict[str, Any]) -> list[str]:
    """Look whether an encoder can have the initial weights of a recipe."""
    start = settings["recipes"][recipe]["start"]
    if start == "imagenet" and not encoders()[encoder] and not settings["smoke"]:
        return [f"there are no ImageNet weights for {encoder}; set recipes.{recipe}.start to none or file:PATH"]
    problem = start_problem(start.removeprefix("file:"), encoder) if start.startswith("file:") else None
    return [f"recipes.{recipe}.start: {problem}"] if problem else []


def _start_problems(path: Path, table: pd.DataFrame, settings: dict[str, Any]) -> list[str]:
    """Look up the runs that recipes with `start: run:DECODER/SIZE/RECIPE` begin from."""
    lines = []
    trained = {tuple(row[name] for name in KEY): row["folds"] for row in table.to_dict("records")}
    for row in table.to_dict("records"):
        start = settings["recipes"][row["recipe"]]["start"]
        if start.startswith("run:"):
            source = (row["encoder"], *start.removeprefix("run:").split("/"))
            if source == tuple(row[name] for name in KEY):
                lines.append(f"{path}, line {row['line']}: recipe {row['recipe']} starts from the run itself")
            elif trained.get(source, 0) < row["folds"]:
                lines.append(
                    f"{path}, line {row['line']}: recipe {row['recipe']} starts from {'/'.join(source)}, "
                    f"which the sheet does not train for all {row['folds']} folds"
                )
    return lines


def experiment_name(row: dict[str, Any], *checkpoint: str) -> str:
    """Return the name of a row of the sheet; with a checkpoint, the name of the ensemble of itself that is scored.

    Examples
    --------
    >>> row = {"encoder": "tu-test_resnet", "decoder": "fpn", "size": "x4", "recipe": "quick", "folds": 2}
    >>> experiment_name(row), experiment_name(row, "best")
    ('tu-test-resnet-fpn-x4-quick-2', 'tu-test-resnet-fpn-x4-quick-2-best')
    """
    words = [*(row[name] for name in KEY), row["folds"], *checkpoint]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, words)))


def read_posted(path: Path, config: str, names: Iterable[str]) -> dict[str, dict[str, float]]:
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
    ValueError : all problems of the table, with their lines.
    """
    lines, posted = [], {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a table of text ({error}); save it as UTF-8, tab-separated") from None
    known = list(names)
    for number, row in enumerate(rows, start=2):
        if missing := [name for name in ("config", "name", *POSTED) if row.get(name) is None]:
            lines.append(
                f"{path}, line {number}: no {', '.join(missing)}; the columns are config, name, best, last, single"
            )
        elif row["config"].strip() == config:
            name, cells = row["name"].strip(), {mark: row[mark].strip() for mark in POSTED if row[mark].strip()}
            if name not in known:
                lines.append(f"{path}, line {number}: no experiment or ensemble {name!r}{nearest(name, known)}")
            wrong = [cell for cell in cells.values() if not re.fullmatch(r"0?\.\d+|[01](\.0*)?", cell)]
            if wrong:
                lines.append(f"{path}, line {number}: {wrong[0]!r} is no score from 0 to 1")
            else:
                posted[name] = {mark: float(cell) for mark, cell in cells.items()}
    refuse(lines)
    return posted


def refuse(lines: list[str]) -> None:
    """Raise a ValueError with all problems found, if there are any."""
    if lines:
        many = f"{len(lines)} problems" if len(lines) > 1 else "1 problem"
        raise ValueError("\n".join([f"{many} to mend before anything runs:", *(f"  - {line}" for line in lines)]))
