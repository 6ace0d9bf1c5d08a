"""Pages of HTML that hold all that they show: no address is asked for, and no text of a config or a table is markup."""

import base64
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd

from cloudseg.report.colours import class_colour
from cloudseg.storage import files


def write_page(out: str | Path, template: str, **values: Any) -> None:
    """Fill a template and write the page.

    Parameters
    ----------
    out : the page.
    template : file name in ``templates``, which extends ``base.html``.
    values : what the template names; all text in them is shown as text. ``base.html`` wants a ``title``.

    Raises
    ------
    jinja2.UndefinedError : if the template names a value that is not given.
    """
    text = _environment().get_template(template).render(**values)
    files.write_text(out, "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n") + "\n")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    head : its name.
    cells : text, numbers, or None for nothing; one per row.
    digits : behind the point of a float.
    help : what it means, shown when the head is pointed at, and below the table where there is a glossary.
    best : ``max`` or ``min`` marks the best number of the column; None marks none.
    bar : draw each number as a bar, from 0 to the largest of the column.
    whole : per row, what a cell is short for, shown when it is pointed at.
    """

    head: str
    cells: Sequence[Any]
    digits: int = 4
    help: str = ""
    best: str | None = None
    bar: bool = False
    whole: Sequence[str] = ()

    @functools.cached_property
    def numbers(self) -> list[float | None]:
        """The cells that are numbers; None for the others."""
        return [float(cell) if _is_number(cell) else None for cell in self.cells]

    @property
    def is_number(self) -> bool:
        """Whether the column is of numbers, which stand on the right."""
        return all(_is_number(cell) or _absent(cell) for cell in self.cells) and any(map(_is_number, self.cells))

    @property
    def is_empty(self) -> bool:
        """Whether no row has anything in it."""
        return all(map(_absent, self.cells))

    def text(self, row: int) -> str:
        """Return a cell as it is shown."""
        cell = self.cells[row]
        if _absent(cell):
            return ""
        if isinstance(cell, bool) or not _is_number(cell):
            return str(cell)
        return f"{cell:,}" if isinstance(cell, int) else f"{float(cell):z,.{self.digits}f}"

    def is_long(self, row: int) -> bool:
        """Return whether a cell is a sentence, which a narrow page must not break into a tower of words."""
        return self.text(row).count(" ") > 2

    def sort_key(self, row: int) -> str:
        """Return what the page sorts a row by: the whole number behind a rounded one, else the text."""
        number = self.numbers[row]
        return self.text(row) if number is None else repr(number)

    def is_best(self, row: int) -> bool:
        """Return whether a row has the best number of the column; of a single row, or equal ones, nothing is best."""
        known = {number for number in self.numbers if number is not None}
        if self.best is None or len(known) < 2 or self.numbers[row] is None:
            return False
        return self.numbers[row] == (max(known) if self.best == "max" else min(known))

    def share(self, row: int) -> float:
        """Return a number as a percentage of the largest of the column."""
        largest = max((number for number in self.numbers if number is not None), default=0)
        number = self.numbers[row]
        return 0 if number is None or largest <= 0 else max(0.0, 100 * number / largest)


@dataclass(frozen=True)
class Table:
    """A table that a page shows and sorts; columns without any value are left out.

    Examples
    --------
    >>> table = Table([Column("name", ["a", "b"]), Column("Dice", [0.5, 0.75], best="max"), Column("LB", [None, None])])
    >>> [column.head for column in table.shown], table.shown[1].text(1), table.shown[1].is_best(1)
    (['name', 'Dice'], '0.7500', True)
    """

    columns: Sequence[Column]
    caption: str = ""

    @property
    def shown(self) -> list[Column]:
        """The columns that hold anything."""
        return [column for column in self.columns if not column.is_empty]

    @property
    def rows(self) -> range:
        """The numbers of the rows."""
        return range(len(self.columns[0].cells) if self.columns else 0)


@dataclass(frozen=True)
class Picture:
    """A picture in a page.

    Parameters
    ----------
    data : the bytes of the file.
    alt : what it shows, for those who do not see it.
    caption : below it.
    kind : its type; ``image/jpeg``, ``image/png`` or ``image/svg+xml``.
    """

    data: bytes = field(repr=False)
    alt: str
    caption: str = ""
    kind: str = "image/jpeg"

    @property
    def address(self) -> str:
        """The picture as an address that holds it."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


def script_json(value: Any) -> markupsafe.Markup:
    r"""Return JSON that can stand in a script element: no text in it ends the element or opens a comment.

    Examples
    --------
    >>> print(script_json({"class": "</script>"}))
    {"class": "\u003c/script>"}
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":") if _is_large(value) else None)
    return markupsafe.Markup(text.replace("<", r"\u003c"))  # noqa: S704  # no character of markup is left


def _is_large(value: Any) -> bool:
    return isinstance(value, dict | list) and len(value) > 20


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cloudseg.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script_json"] = script_json
    environment.globals["class_colour"] = class_colour
    return environment


def _is_number(cell: Any) -> bool:
    return not _absent(cell) and hasattr(cell, "__float__")


def _absent(cell: Any) -> bool:
    return bool(pd.isna(cell)) or cell == ""
