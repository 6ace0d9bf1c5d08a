"""Choose runs by a query, and refuse every query that is more than comparisons."""

import ast

import pandas as pd

from cloudseg.schema import nearest

# What a query may be made of. Anything else, a call, an attribute, `@`, could do more than compare.
ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn),
    *(ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple),
)

LONGEST = 2000  # characters; Python and pandas give up on deeper nesting than a person can read


def select(table: pd.DataFrame, query: str) -> pd.DataFrame:
    """Return the rows of `table` for which `query` holds.

    Parameters
    ----------
    table : one row per run; its columns are the names that a query may use.
    query : comparisons joined by ``and``, ``or``, ``not``, such as ``decoder == 'fpn' and fold < 2``.

    Raises
    ------
    ValueError : when the query is not made of comparisons, names an unknown column, or selects nothing.

    Examples
    --------
    >>> runs = pd.DataFrame({"decoder": ["fpn", "unet"], "fold": [0, 0]})
    >>> select(runs, "decoder == 'fpn'")["decoder"].tolist()
    ['fpn']
    >>> select(runs, "decoder == fpn")
    Traceback (most recent call last):
    ValueError: query `decoder == fpn`: no column 'fpn'; text needs quotes: 'fpn'. Columns: decoder, fold
    """
    if len(query) > LONGEST:
        raise ValueError(f"query `{query[:60]}...`: {len(query)} characters, too long to read (at most {LONGEST})")
    where = f"query `{query}`"
    try:
        tree = ast.parse(query.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        hint = " (equality is ==)" if "=" in query and "==" not in query else ""
        raise ValueError(f"{where}: not a comparison{hint}") from error
    for node in ast.walk(tree):
        if not isinstance(node, ALLOWED):
            kind = type(node).__name__.lower()
            raise ValueError(f"{where}: {kind} is not allowed; only comparisons, and, or, not, in, and literals")
        if isinstance(node, ast.Name) and node.id not in table.columns:
            raise ValueError(
                f"{where}: no column {node.id!r}{nearest(node.id, table.columns)}; text needs quotes: "
                f"'{node.id}'. Columns: {', '.join(table.columns)}"
            )
    _require_comparisons(tree.body, where)
    try:
        chosen = table.query(query.strip(), local_dict={}, global_dict={}, engine="python")
    except (TypeError, ValueError, NotImplementedError, KeyError) as error:
        raise ValueError(f"{where}: {error}") from error
    if chosen.empty:
        values = {
            node.id: sorted({str(value) for value in table[node.id]})
            for node in ast.walk(tree)
            if isinstance(node, ast.Name)
        }
        there = "; ".join(f"{name} is one of {', '.join(words)}" for name, words in values.items())
        raise ValueError(f"{where}: selects no run. In the sheet {there}")
    return chosen


def _require_comparisons(node: ast.expr, where: str) -> None:
    """Refuse what pandas would take bitwise or otherwise than it reads: a bare column, `in` a text, an odd `not`."""
    match node:
        case ast.BoolOp():
            for part in node.values:
                _require_comparisons(part, where)
        case ast.UnaryOp(op=ast.Not()):
            _require_comparisons(node.operand, where)
        case ast.Compare():
            if not any(isinstance(part, ast.Name) for part in ast.walk(node)):
                raise ValueError(f"{where}: each comparison must compare a column, such as decoder == 'fpn'")
            for operator, right in zip(node.ops, node.comparators, strict=True):
                if isinstance(operator, ast.In | ast.NotIn) and not isinstance(right, ast.List | ast.Tuple):
                    raise ValueError(f"{where}: behind `in` a list must stand, such as decoder in ['fpn', 'unet']")
            if any(isinstance(part, ast.Constant) and part.value is None for part in ast.walk(node)):
                raise ValueError(f"{where}: None is no value of a column; empty cells are ''")
        case _:
            raise ValueError(f"{where}: each part must compare a column, such as decoder == 'fpn'")
