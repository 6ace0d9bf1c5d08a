"""Learning curves: losses, validation Dice and learning rate of every run, as a page to choose from and as SVG."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cloudseg.config.fold_names import ALL, parse_fold_name, seed_words
from cloudseg.report.charts import charts_script, write_svg
from cloudseg.report.curve_charts import charts_of, whole_chart
from cloudseg.report.leaderboard import KEYS
from cloudseg.report.page import Column, Table, write_page
from cloudseg.storage.files import read_table
from cloudseg.training.record import RunRecord

EXPERIMENT = [key for key in KEYS if key != "folds"]
MOST = 40  # experiments that the page holds
MOST_VALUES = 200_000  # that it holds, of all curves together
MOST_EPOCHS = 200  # of a run that it draws
PREFIX = "dice_"  # of a class's column in history.tsv


@dataclass(frozen=True)
class Curves:
    """The curves of one run.

    Parameters
    ----------
    fold : that it validates on; "all images" of a training on these, which validates on none.
    best : the epoch that `best` is of.
    resumed : the epochs after which earlier processes stopped.
    history : `history.tsv`, a row per epoch; what nothing validated, or a network without masks has none of, is NaN.
    stages : the epochs that the stages begin with, but for the first.
    average : the validation Dice of the mean of the weights of some epochs; None where there is none.
    """

    fold: int | str
    best: int
    resumed: Sequence[int]
    history: pd.DataFrame = field(repr=False)
    stages: Sequence[int] = ()
    average: float | None = None

    @property
    def classes(self) -> list[str]:
        """The classes, in their order."""
        return [name.removeprefix(PREFIX) for name in self.history.columns if name.startswith(PREFIX)]

    @property
    def drawn(self) -> pd.DataFrame:
        """The epochs that are drawn: of very many some, evenly spread, and always the best and the last."""
        epochs = self.history["epoch"].to_numpy()
        if len(epochs) <= MOST_EPOCHS:
            return self.history
        kept = set(epochs[np.linspace(0, len(epochs) - 1, MOST_EPOCHS).astype(int)]) | {self.best}
        return self.history[self.history["epoch"].isin(kept)]

    def packed(self) -> dict[str, Any]:
        """Return the curves as lists of numbers of four digits, for the page."""
        drawn = self.drawn
        columns = {"rate": "learning_rate", "train": "train_loss", "valid": "valid_loss", "dice": "valid_dice"}
        return {
            "fold": self.fold,
            "best": self.best,
            "epoch": drawn["epoch"].tolist(),
            **{name: list(map(_short, drawn[column])) for name, column in columns.items()},
            "classes": [list(map(_short, drawn[PREFIX + name])) for name in self.classes],
            **({"stages": list(self.stages)} if self.stages else {}),
        }


def read_curves(history: str | Path, run: str | Path) -> Curves:
    """Read the curves of a run.

    Parameters
    ----------
    history, run : its `history.tsv` and `run.json`.
    """
    record = RunRecord.read(run)
    stops = [stop["after"] for stop in record.epochs.resumed]
    # Not "all", which on the page is every fold
    fold = "all images" if record.fold == ALL else record.fold
    ends = itertools.accumulate(stage["epochs"] for stage in record.recipe.get("stages") or ())
    begins = [end + 1 for end in ends if end < record.epochs.run]
    average = record.average.valid.get("valid_dice") if record.average else None
    return Curves(fold, record.epochs.best, stops, read_table(history), begins, average)


def ranked(leaderboard: str | Path) -> list[tuple[str, ...]]:
    """Return the experiments of a leaderboard by encoder, size, decoder, recipe and seed, best first, each once."""
    table = read_table(leaderboard, dtype=str, keep_default_na=False)
    table = table[table["what"] == "experiment"]
    scores = table[["dice_common", "dice_last"]].apply(pd.to_numeric, errors="coerce")
    order = scores.sort_values(["dice_common", "dice_last"], ascending=False, kind="stable").index
    keys = [key for key in (*EXPERIMENT, "seed") if key in table]
    rows = table.loc[order, keys].to_dict("records")
    return list(dict.fromkeys(_key(**row) for row in rows))


def _key(encoder: str, size: str, decoder: str, recipe: str, seed: str = "") -> tuple[str, ...]:
    """Return the words by which the page names an experiment; those without a seed have the config's own."""
    return encoder, size, decoder, recipe, *seed_words(int(seed) if seed else None)


def write_curves(
    leaderboard: str | Path,
    histories: Sequence[str | Path],
    runs: Sequence[str | Path],
    page: str | Path,
    charts: str | Path,
) -> None:
    """Write the page of the best experiments' curves, and those of each as `ENCODER/DECODER/SIZE/RECIPE.svg`.

    Those of a replicate are in `RECIPE.seed7.svg`: no recipe has a full stop in its name.

    Parameters
    ----------
    leaderboard : `leaderboard.tsv`, which says what is best.
    histories, runs : `history.tsv` and `run.json` of every run, in its folder ENCODER/DECODER/SIZE/RECIPE/foldN.
    page : to write.
    charts : folder for the SVG files.
    """
    files: dict[tuple[str, ...], list[tuple[str | Path, str | Path]]] = {}
    for history, run in zip(histories, runs, strict=True):
        encoder, decoder, size, recipe, folder = Path(history).parts[-6:-1]
        _, seed = parse_fold_name(folder.removeprefix("fold"))
        key = _key(encoder, size, decoder, recipe, "" if seed is None else str(seed))
        files.setdefault(key, []).append((history, run))
    on_leaderboard = [key for key in ranked(leaderboard) if key in files]
    # It is of masks, which some networks do not make
    order = on_leaderboard + sorted(set(files) - set(on_leaderboard))
    shown: dict[tuple[str, ...], list[Curves]] = {}
    values = 0
    for key in order[:MOST]:
        curves = [read_curves(*pair) for pair in files[key]]
        values += sum(len(one.drawn) * (5 + len(one.classes)) for one in curves)
        if shown and values > MOST_VALUES:
            break
        shown[key] = sorted(curves, key=lambda one: (isinstance(one.fold, str), one.fold))
    Path(charts).mkdir(parents=True, exist_ok=True)
    for (encoder, size, decoder, *words), curves in shown.items():
        whole = _whole(tuple(curves[0].classes), staged=any(one.stages for one in curves))
        write_svg(
            {**whole, "datasets": rows_of(curves)}, Path(charts, encoder, decoder, size, f"{'.'.join(words)}.svg")
        )
    _write_page(shown, len(order), page, unranked=len(order) > len(on_leaderboard))


@functools.cache
def _whole(classes: tuple[str, ...], *, staged: bool) -> dict[str, Any]:
    return whole_chart(classes, staged=staged).specification


def rows_of(curves: Sequence[Curves]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that the charts of an experiment show, as `curves.js` makes them of the packed curves."""
    epochs, losses, classes = [], [], []
    for one in curves:
        packed = one.packed()
        fold = f"fold {one.fold}"
        for number, epoch in enumerate(packed["epoch"]):
            at = {"fold": fold, "epoch": epoch, "best": epoch == one.best}
            epochs.append(at | {"rate": packed["rate"][number], "dice": packed["dice"][number]})
            losses += [at | {"set": name, "loss": packed[name][number]} for name in ("train", "valid")]
            classes += [
                at | {"class": name, "dice": values[number]}
                for name, values in zip(one.classes, packed["classes"], strict=True)
            ]
    begins = sorted({epoch for one in curves for epoch in one.stages})
    stages = {"stages": [{"epoch": epoch - 0.5, "first": epoch} for epoch in begins]} if begins else {}
    return {"epochs": epochs, "losses": losses, "classes": classes, **stages}


def run_table(experiments: Mapping[str, Sequence[Curves]]) -> Table:
    """Return a row per run: how long it went, and where it ended."""
    runs = [(name, one) for name, curves in experiments.items() for one in curves]
    most = "max" if len({tuple(one.classes) for _, one in runs}) == 1 else None  # brightness is another task
    best = [one.history[one.history["epoch"] == one.best].head(1) for _, one in runs]
    last = [one.history.tail(1) for _, one in runs]

    def cells(rows: Sequence[pd.DataFrame], column: str) -> list[float | None]:
        return [float(row[column].iloc[0]) if column in row and row[column].notna().any() else None for row in rows]

    return Table(
        [
            Column("experiment", [name for name, _ in runs]),
            Column("fold", [one.fold for _, one in runs]),
            Column("epochs", [len(one.history) for _, one in runs]),
            Column("best epoch", [one.best for _, one in runs]),
            Column("its validation Dice", cells(best, "valid_dice"), best=most),
            Column(
                "of planes with truth",
                cells(best, "valid_dice_nonempty"),
                help="Mean over the validation planes that hold truth, by which the epoch was chosen",
            ),
            Column("last validation Dice", cells(last, "valid_dice"), best=most),
            Column(
                "average's Dice",
                [one.average for _, one in runs],
                help="Validation Dice of the mean of the weights of some epochs, the third checkpoint",
            ),
            Column("last train loss", cells(last, "train_loss")),
            Column("last valid loss", cells(last, "valid_loss")),
            Column("s/epoch", [float(one.history["seconds"].median()) for _, one in runs], digits=1),
            Column("went on after epoch", [", ".join(map(str, one.resumed)) for _, one in runs]),
        ]
    )


def _write_page(
    shown: Mapping[tuple[str, ...], Sequence[Curves]], count: int, page: str | Path, *, unranked: bool
) -> None:
    names = {f"{rank}. {' '.join(key)}": curves for rank, (key, curves) in enumerate(shown.items(), start=1)}
    first = next(iter(shown.values()))
    classes = list(dict.fromkeys(name for curves in shown.values() for one in curves for name in one.classes))
    thinned = any(len(one.drawn) < len(one.history) for curves in shown.values() for one in curves)
    write_page(
        page,
        "curves.html",
        title="Learning curves",
        names=list(names),
        count=count,
        unranked=unranked,
        thinned=thinned,
        classes=classes,
        data=[[_packed(one, classes) for one in curves] for curves in names.values()],
        charts=charts_of(
            rows_of(first), classes, staged=any(one.stages for curves in shown.values() for one in curves)
        ),
        runs=run_table(names),
        charts_script=charts_script(),
    )


def _packed(one: Curves, classes: Sequence[str]) -> dict[str, Any]:
    """Return the curves of a run, with its classes where they are not the page's: brightness is one of its own."""
    return one.packed() | ({} if one.classes == classes else {"names": one.classes})


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
