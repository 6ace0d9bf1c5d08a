"""Choose runs by a query: Python reads the text, and only comparisons of columns are ever evaluated."""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cloudseg.config.fold_names import ALL
from cloudseg.config.names import nearest
from cloudseg.errors import ConfigError

LONGEST = 2000  # characters; Python gives up on deeper nesting than a person can read
ORDER = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
MOST_SHOWN = 300  # characters of a query in a message
LARGEST = 2**53  # up to here whole numbers are exact in float64, which a column may be


def select(table: Mapping[str, Any], query: str) -> np.ndarray:
    """Return for each row of `table` whether `query` holds.

    Nothing of the text is executed: its syntax tree is walked, and whatever is not a comparison is refused.

    Parameters
    ----------
    table : columns (n,) of numbers or text by name, such as a DataFrame; a query may use these names. A cell without
        a number is NaN: it equals the empty text ``''`` and nothing else, and is neither less nor more than anything.
        In the column ``fold``, the run on all images is infinity, behind every fold; a query says ``'all'``.
    query : comparisons joined by ``and``, ``or``, ``not``, such as ``decoder == 'fpn' and fold < 2``.

    Returns
    -------
    ndarray : (n,) bool, with at least one True.

    Raises
    ------
    ConfigError : when the query is not made of comparisons, names an unknown column, compares text with numbers, or
        selects nothing.

    Examples
    --------
    >>> runs = {"decoder": ["fpn", "unet"], "fold": [0, 0]}
    >>> select(runs, "decoder == 'fpn'")
    array([ True, False])
    >>> folds = {"fold": [0, 1, 2, math.inf]}
    >>> [select(folds, query).tolist() for query in ("fold < 2", "fold >= 0", "fold != 'all'")]
    [[True, True, False, False], [True, True, True, True], [True, True, True, False]]
    >>> select(runs, "decoder == fpn")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    cloudseg.errors.ConfigError: query `decoder == fpn`: no column 'fpn'; text needs quotes: 'fpn'. ...
    """
    shown = query if query.isprintable() else ascii(query)[1:-1]
    where = f"query `{shown[:MOST_SHOWN]}{'...' * (len(shown) > MOST_SHOWN)}`"
    if len(query) > LONGEST:
        raise ConfigError(f"{where}: expected at most {LONGEST} characters, got {len(query)}")
    try:
        tree = _parsed(query)
        chosen = _condition(tree, table)
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply to read") from None
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    if not chosen.any():
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        there = "; ".join(f"{name} is one of {_values(table[name])}" for name in table if name in used)
        raise ConfigError(f"{where}: selects no run. In the sheet {there}")
    return chosen


def _values(column: Any) -> str:
    """Return the different values of a column in words."""
    words = sorted(set(map(_word, column)))
    return ", ".join(words[:20]) + ", ..." * (len(words) > 20)


def _word(value: Any) -> str:
    """Return a value of a column as a query writes it."""
    if value != value:  # NaN differs from itself
        return "''"
    if value == math.inf:
        return f"'{ALL}'"
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _parsed(query: str) -> ast.expr:
    """Return the syntax tree of a query."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python, about odd escapes
            return ast.parse(query.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError) as error:
        equality = "=" in query and "==" not in query
        reason = "equality is ==" if equality else getattr(error, "msg", "") or str(error) or "nested too deeply"
        raise ConfigError(f"not a comparison ({reason})") from None


def _condition(node: ast.expr, table: Mapping[str, Any]) -> np.ndarray:
    """Return for each row whether a comparison holds, or comparisons joined by and, or, not."""
    match node:
        case ast.BoolOp():
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return join.reduce([_condition(part, table) for part in node.values])
        case ast.UnaryOp(op=ast.Not()):
            return ~_condition(node.operand, table)
        case ast.Compare():
            sides = [node.left, *node.comparators]
            pairs = zip(sides, node.ops, node.comparators, strict=False)  # 0 < fold <= 1 is two comparisons
            return np.logical_and.reduce([_comparison(left, op, right, table) for left, op, right in pairs])
        case ast.Name() | ast.Constant():
            raise ConfigError("each part must compare a column, such as decoder == 'fpn'")
    raise _refusal(node)


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, table: Mapping[str, Any]) -> np.ndarray:
    """Return for each row whether one comparison of two sides holds."""
    listed = isinstance(right, ast.List | ast.Tuple)
    if isinstance(op, ast.In | ast.NotIn) and not listed:
        raise ConfigError("behind `in` a list must stand, such as decoder in ['fpn', 'unet']")
    value = _operand(left, table)
    others = [_operand(part, table) for part in right.elts] if listed else [_operand(right, table)]
    if any(isinstance(side, ast.Name) and side.id == "fold" for side in (left, right)):
        value, *others = [math.inf if isinstance(each, str) and each == ALL else each for each in (value, *others)]
    if listed and type(op) in ORDER:
        raise ConfigError("a list can stand behind `in` only, such as decoder in ['fpn', 'unet']")
    if listed and any(map(np.ndim, others)):
        raise ConfigError("a list holds values, not columns, such as decoder in ['fpn', 'unet']")
    if not any(map(np.ndim, [value, *others])):
        raise ConfigError("each comparison must compare a column, such as decoder == 'fpn'")
    try:
        if type(op) in ORDER:
            return _ordered(ORDER[type(op)], value, others[0])
        # As in pandas, == with a list means `in`
        equal = _among(value, others) if listed else _equal(value, others[0])
    except TypeError:
        text = ast.unparse(ast.Compare(left, [op], [right]))
        raise ConfigError(f"`{text}` compares text with numbers; text stands in quotes, numbers do not") from None
    if isinstance(op, ast.Eq | ast.In):
        return equal
    if isinstance(op, ast.NotEq | ast.NotIn):
        return ~equal
    raise _refusal(op)


def _operand(node: ast.expr, table: Mapping[str, Any]) -> Any:
    """Return a column (n,) of numbers or of objects, a number, or text."""
    match node:
        case ast.Name(id=name):
            if name not in table:
                near, columns = nearest(name, table), ", ".join(table)
                raise ConfigError(f"no column {name!r}{near}; text needs quotes: '{name}'. Columns: {columns}")
            column = np.asarray(table[name])
            return column if column.dtype.kind in "iuf" else column.astype(object)
        case ast.Constant(value=str() as text):
            return text
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if abs(number) > LARGEST:
                raise ConfigError(f"a number beyond {LARGEST} is no value of a column")
            return number
        case ast.Constant(value=None):
            raise ConfigError("None is no value of a column; empty cells are ''")
        case ast.Constant(value=other):
            raise ConfigError(f"{other!r} is no value of a column; these are numbers, and text in quotes")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            if not _is_number(value := _operand(operand, table)):
                raise ConfigError("a minus can stand before a number only")
            return -value
    raise _refusal(node)


def _equal(one: Any, other: Any) -> np.ndarray:
    """Return where two operands are equal; numbers and text are not compared, but for empty cells."""
    if _is_number(one) == _is_number(other):
        return np.asarray(one == other, dtype=bool)
    column, text = (one, other) if _is_number(one) else (other, one)
    if not np.ndim(column) or not isinstance(text, str):
        raise TypeError
    empty = np.isnan(column)
    if text and not empty.all():
        raise TypeError
    return empty & (text == "")


def _among(column: Any, values: list[Any]) -> np.ndarray:
    """Return where a column has one of some values."""
    return np.logical_or.reduce([np.zeros(np.shape(column), bool), *(_equal(column, value) for value in values)])


def _ordered(compare: Callable[[Any, Any], Any], one: Any, other: Any) -> np.ndarray:
    """Return where one operand is less, or more, than the other; an empty cell is neither."""
    if _is_number(one) != _is_number(other):
        column = one if _is_number(one) else other
        if not np.ndim(column) or not np.isnan(column).all():
            raise TypeError
        return np.zeros(np.shape(column), bool)
    return np.asarray(compare(one, other), dtype=bool)


def _is_number(value: Any) -> bool:
    """Return whether an operand is a number or a column of numbers."""
    return value.dtype.kind in "iuf" if isinstance(value, np.ndarray) else not isinstance(value, str)


def _refusal(node: ast.AST) -> ConfigError:
    """Return the error for what is more than a comparison."""
    kind = type(node).__name__.lower()
    joins = {ast.BitAnd: "and", ast.BitOr: "or", ast.Invert: "not"}
    hint = f" (write `{joins[type(node.op)]}`)" if type(getattr(node, "op", None)) in joins else ""
    return ConfigError(f"{kind} is not allowed{hint}; only comparisons, and, or, not, in, and literals")
