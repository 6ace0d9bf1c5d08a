"""Tables and lists of the user's that name images: their groups, a split of one's own, and images to leave out."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cloudseg.config.names import nearest
from cloudseg.errors import ConfigError

Cells = tuple[int, list[str]]  # the line of a row, and its cells
COMMENT = re.compile(r"(?:^|\s)#.*")


def read_column(path: str | Path, column: str) -> dict[str, str]:
    r"""Read what a table says of each image in one of its columns.

    Its cells are parted by tabs if its header has any, else by commas, and may stand in double quotes; blanks around
    them do not count. A row whose cell is empty says nothing, like one that is not there.

    Parameters
    ----------
    path : the table, in UTF-8.
    column : its column; another one is called ``image``.

    Returns
    -------
    dict : image to cell, in the order of the rows.

    Raises
    ------
    ConfigError : for a file that is no such table, and for all of its rows that cannot be used.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "images.csv").write_text("image,day,scene\na.jpg,1,north\nb.jpg,2,\n")
    ...     read_column(f"{folder}/images.csv", "scene")
    {'a.jpg': 'north'}
    """
    header, *rows = _rows(path)
    _refuse_header(path, header, ["image", column])
    image, value = header[1].index("image"), header[1].index(column)
    lines: dict[str, list[int]] = {}
    found = {}
    for line, cells in rows:
        filled = cells + [""] * (len(header[1]) - len(cells))
        lines.setdefault(filled[image], []).append(line)
        if filled[value]:
            found[filled[image]] = filled[value]
    _refuse_rows(path, [*_rows_too_long(header[1], rows), *_repetitions(lines)])
    return found


def read_split(path: str | Path, count: int) -> dict[str, int]:
    r"""Read a split of one's own, a table with the columns ``image`` and ``fold``, as :func:`read_column` does.

    Parameters
    ----------
    path : the table.
    count : how many folds there are.

    Returns
    -------
    dict : image to its fold, 0 to ``count`` - 1.

    Raises
    ------
    ConfigError : as of :func:`read_column`, and for cells that are no fold.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "mine.tsv").write_text("image\tfold\na.jpg\t0\nb.jpg\t1\n")
    ...     read_split(f"{folder}/mine.tsv", 2)
    {'a.jpg': 0, 'b.jpg': 1}
    """
    cells = read_column(path, "fold")
    known = {str(fold): fold for fold in range(count)}
    if strange := [image for image, cell in cells.items() if cell not in known]:
        raise ConfigError(
            f"{path}: expected folds from 0 to {count - 1} (folds.count is {count}), got {cells[strange[0]]!r} for "
            f"{strange[0]}{_more(strange)}"
        )
    return {image: known[cell] for image, cell in cells.items()}


def read_names(path: str | Path) -> dict[str, int]:
    r"""Read a list of images, a name per line.

    Parameters
    ----------
    path : the list, in UTF-8. ``#`` at the beginning of a line, or behind a blank, begins a comment.

    Returns
    -------
    dict : name to its line, the first where it stands there twice.

    Raises
    ------
    ConfigError : if it is no text.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "out.txt").write_text("# doubtful\n\na.jpg  # no label\nb#2.jpg\n")
    ...     read_names(f"{folder}/out.txt")
    {'a.jpg': 3, 'b#2.jpg': 4}
    """
    lines: dict[str, int] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        lines.setdefault(COMMENT.sub("", line).strip(), number)
    return {name: number for name, number in lines.items() if name}


def pattern_problem(pattern: str) -> str | None:
    """Say why a regular expression cannot find the group in the name of an image; None if it may.

    Examples
    --------
    >>> pattern_problem("^(scene[0-9]+)_"), pattern_problem("^(scene")
    (None, "no regular expression: missing ), unterminated subpattern at position 1, in '^(scene'")
    """
    if "/" in pattern:
        return f"expected a regular expression without `/`, which no name of an image holds, got {pattern!r}"
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"no regular expression: {error}, in {pattern!r}"
    return None


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def _rows(path: str | Path) -> list[Cells]:
    """Return the header and the rows of a table; blank ones are left out."""
    text = _text(path)
    delimiter = "\t" if "\t" in text.lstrip().partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: not a row of a table ({error})") from None
    if found := [(line, cells) for line, cells in rows if any(cells)]:
        return found
    raise ConfigError(f"{path}: an empty file; expected a table with a header")


def _refuse_header(path: str | Path, header: Cells, wanted: Sequence[str]) -> None:
    line, columns = header
    for name in wanted:
        if name not in columns:
            got = ", ".join(columns)
            raise ConfigError(f"{path}, line {line}: no column {name!r}{nearest(name, columns)}; got {got}")
        if columns.count(name) > 1:
            raise ConfigError(f"{path}, line {line}: the column {name!r} is there twice")


def _rows_too_long(columns: Sequence[str], rows: Iterable[Cells]) -> Iterator[str]:
    if long := [(line, cells) for line, cells in rows if len(cells) > len(columns)]:
        line, cells = long[0]
        yield f"line {line}: expected {len(columns)} cells (the header), got {len(cells)}{_more(long)}"


def _repetitions(lines: dict[str, list[int]]) -> Iterator[str]:
    if twice := [image for image, found in lines.items() if image and len(found) > 1]:
        where = " and ".join(map(str, lines[twice[0]][:2]))
        yield f"expected each image once, got {twice[0]} in lines {where}{_more(twice)}"


def _refuse_rows(path: str | Path, problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}")


def _more(found: Sequence[object]) -> str:
    """Say how many more than the first there are."""
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
