"""What a run ends with on the terminal: the leaderboard and the verdicts of studies, in lines that fit."""

import csv
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloudseg.texts import columns_of, shorten

COLUMNS = 120
LONGEST_DECISION = 40  # columns
GAP = "  "
MOST_ROWS = 15  # of a table; the page has all
WITHOUT_DICE = (
    "not ranked: {} of the experiments, which say where, not whether: `where` members of an ensemble, without a Dice "
    "of their own"
)
PRINTED_WHOLE = "profile.md"  # a table that fits a screen
STUDIES = ("loading.md", "profile.md", "quantising.md", "ablation.md")

Row = Mapping[str, str]


def leaderboard_summary(table: str | Path) -> str:
    """Write the experiments and ensembles of a leaderboard, best first, in at most 120 columns.

    Parameters
    ----------
    table : ``leaderboard.tsv``.
    """
    with Path(table).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    parts = {
        "experiment": [_experiment(row) for row in _ranked(rows, "experiment", "dice_last") if not _says_where(row)],
        "ensemble": [_ensemble(row) for row in _ranked(rows, "ensemble", "dice")],
    }
    lines = [line for cells in parts.values() if cells for line in [*_table(cells), ""]]
    marked = any("*" in line for line in lines)
    if unranked := sum(map(_says_where, rows)):
        lines += textwrap.wrap(WITHOUT_DICE.format(unranked), COLUMNS)
    return "\n".join([*lines, *(["* optimistic: chosen by the images that it is scored on"] if marked else [])])


def verdicts(folder: str | Path, *, since: float) -> list[str]:
    """Return a sentence for each study that was made after a moment, in lines of at most 120 columns.

    Parameters
    ----------
    folder : of the report.
    since : seconds since the epoch.
    """
    folder, found = Path(folder), {}
    for path in (folder / "shift/shift.json", *(folder / name for name in STUDIES)):
        if path.is_file() and path.stat().st_mtime > since:
            text = path.read_text(encoding="utf-8")
            found[path.stem] = json.loads(text)["verdict"] if path.suffix == ".json" else verdict_of(text)
    lines = [line for name, text in found.items() for line in textwrap.wrap(f"{name}: {text}", COLUMNS)]
    page = folder / PRINTED_WHOLE
    if page.stem in found:
        lines += [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return lines


def verdict_of(page: str) -> str:
    """Return the sentence that stands below the title of a study's page.

    Examples
    --------
    >>> verdict_of("# Title\\n\\nOne is faster.\\n\\nMore.\\n")
    'One is faster.'
    """
    return page.split("\n\n", 2)[1].strip()


def _ranked(rows: Sequence[Row], what: str, dice: str) -> list[Row]:
    """Sort as the page does: by the folds that all have in common, where there are any, then by its own."""
    own = [row for row in rows if row["what"] == what]
    folds = {row["folds"] for row in rows if row["what"] != "baseline"}
    order = ["dice_common", dice] if len(folds) > 1 else [dice]
    return sorted(own, key=lambda row: [_or_least(row[name]) for name in order], reverse=True)


def _says_where(row: Row) -> bool:
    """Return whether a row is of an experiment whose own masks are no measure of it."""
    return row["what"] == "experiment" and bool(row.get("says_where_only"))


def _experiment(row: Row) -> dict[str, str]:
    name = " ".join(row[key] for key in ("decoder", "encoder", "size", "recipe"))
    name += f" seed {row['seed']}" if row.get("seed") else ""
    marked = _number(row["dice_best"]) + (" *" if row["dice_best"] else "")
    cells = {"experiment": name, "folds": row["folds"], "Dice": _number(row["dice_last"]), "best": marked}
    if "dice_average" in row:
        cells["average"] = _number(row["dice_average"])
    if "replicate_spread" in row:
        cells["sd of replicates"] = _number(row["replicate_spread"])
    return cells


def _ensemble(row: Row) -> dict[str, str]:
    gain = ""
    if row["gain"]:
        gain = "{:+.4f} ({:+.4f}..{:+.4f})".format(*(float(row[key]) for key in ("gain", "gain_low", "gain_high")))
    marked = _number(row["dice"]) + (" *" if row["dice"] and row["optimistic"] else "")
    decided = f"{row['how']} {_range(row['threshold'])}, min. {_range(row['min_size'])}"
    cells = {"ensemble": row["name"], "folds": row["folds"], "Dice": marked, "gain": gain}
    return cells | {"decided": shorten(decided, LONGEST_DECISION)}


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Write a table whose first column, of names, gets what the others leave of the line."""
    shown = [list(rows[0]), *(list(row.values()) for row in rows[:MOST_ROWS])]
    ranks = ["#", *map(str, range(1, len(shown)))]
    names, *others = zip(*shown, strict=True)
    columns = [_column(cells) for cells in (ranks, *others)]
    room = COLUMNS - sum(columns_of(column[0]) for column in columns) - len(GAP) * len(columns)
    columns.insert(1, _column([shorten(name, room) for name in names]))
    more = [f"and {len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else []
    return [*(GAP.join(cells).rstrip() for cells in zip(*columns, strict=True)), *more]


def _column(cells: Sequence[str]) -> list[str]:
    """Fill cells up to the width of the widest."""
    width = max(map(columns_of, cells))
    return [cell + " " * (width - columns_of(cell)) for cell in cells]


def _range(cell: str) -> str:
    """Say of the numbers of several classes from where to where they go; one number, or words, stay as they are.

    Examples
    --------
    >>> _range("0.50/0.25/0.40"), _range("0.50"), _range("by plane")
    ('0.25..0.50', '0.50', 'by plane')
    """
    values = cell.split("/")
    if len(values) == 1:
        return cell
    values.sort(key=float)
    return f"{values[0]}..{values[-1]}"


def _number(cell: str) -> str:
    return f"{float(cell):.4f}" if cell else ""


def _or_least(cell: str) -> float:
    return float(cell) if cell else float("-inf")
