"""Params as Snakemake's report can hold them.

``snakemake --report`` writes the params of jobs whose outputs it shows as JSON into a ``<script>`` element of its page,
and escapes no ``<``: a note with ``</script>`` in it would end the element, and what follows would run.
"""

from typing import Any


class PageText(str):
    """Text that a representation writes without ``<``; Python reads the same text from it.

    Jobs get plain text: it is pickled as such.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return str.__repr__(self).replace("<", r"\x3c")

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def page_params(value: Any) -> Any:
    r"""Return lists and mappings in which each text with a ``<`` is a `PageText`.

    All other params stay as they are, so that Snakemake, which compares representations, makes nothing anew.

    Examples
    --------
    >>> page_params([{"note": "</script>", "folds": 5}, "p > 0.5"])
    [{'note': '\x3c/script>', 'folds': 5}, 'p > 0.5']
    >>> page_params([{"note": "</script>"}]) == [{"note": "</script>"}]
    True
    """
    if isinstance(value, dict):
        return {page_params(key): page_params(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(page_params, value))
    return PageText(value) if isinstance(value, str) and "<" in value else value
