"""Tables in Markdown that a person reads in a terminal, too, and that show foreign text as text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

# What Markdown (that of GitHub, with its formulas) or HTML would take for more than a character.
SPECIAL = {ord(mark): f"\\{mark}" for mark in "\\|`[]~$"} | {ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;"}

# Emphasis begins and ends with these: not within a word, and the tables' own mark at the end of a cell has no partner.
EMPHASIS = re.compile(r"\*(?!\)$)|(?<![^\W_])_|_(?![^\W_])")


def escaped(text: Any) -> str:
    """Return text of a sheet, config or file as Markdown and HTML show it: on one line, no mark, tag or link.

    Examples
    --------
    >>> print(escaped("a|b\\n<script>[x](y) tu-tf_efficientnet"))
    a\\|b &lt;script&gt;\\[x\\](y) tu-tf_efficientnet
    """
    printable = "".join(mark if mark.isprintable() else " " for mark in str(text))
    return EMPHASIS.sub(r"\\\g<0>", printable.strip().translate(SPECIAL))


def markdown_table(columns: Mapping[str, Sequence[Any]], digits: int = 4) -> str:
    """Write a table, without the columns that are empty in every row.

    Parameters
    ----------
    columns : per head its cells: text, which is escaped, numbers, or None and NaN for nothing.
    digits : behind the point of a float.

    Examples
    --------
    >>> print(markdown_table({"name": ["a|b", "c"], "Dice": [0.5, None], "LB": [None, None]}))
    | name |   Dice |
    | :--- | -----: |
    | a\\|b | 0.5000 |
    | c    |        |
    """
    written = []
    for head, cells in columns.items():
        words = [_cell(cell, digits) for cell in cells]
        numbers = all(isinstance(cell, int | float) or _absent(cell) for cell in cells)
        if any(words):
            width = max(3, *map(len, (head, *words)))
            rule = f"{'-' * (width - 1)}:" if numbers else f":{'-' * (width - 1)}"
            side = str.rjust if numbers else str.ljust
            written.append([side(head, width), rule, *(side(word, width) for word in words)])
    return "\n".join(f"| {' | '.join(row)} |" for row in zip(*written, strict=True))


def _cell(cell: Any, digits: int) -> str:
    if _absent(cell):
        return ""
    if isinstance(cell, float):
        return f"{cell:,.{digits}f}"
    return f"{cell:,}" if isinstance(cell, int) else escaped(cell)


def _absent(cell: Any) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell)
