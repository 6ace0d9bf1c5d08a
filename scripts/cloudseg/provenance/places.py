"""Texts of a config without the places of a machine, which may name a person."""

import re
from typing import Any

# A path from the root or a home of at least two parts; addresses on the net, and fractions, are none
PATH = re.compile(r"(?:(?<=file:)|(?<![\w.:/~]))(?:~[\w.-]*/|\.\./|/[^/\s:'\"]+/)(?:[^/\s:'\"]+/)*([^/\s:'\"]*)")


def without_places(value: Any) -> Any:
    """Return plain values in which each path that leads elsewhere is its last part alone.

    Paths within the working directory stay: they mean the same on every machine.

    Examples
    --------
    >>> without_places({"root": "/home/jo/my clouds", "start": "file:/data/a.pt", "note": "p/q, see ~jo/x.txt"})
    {'root': 'my clouds', 'start': 'file:a.pt', 'note': 'p/q, see x.txt'}
    >>> without_places(["data/clouds", "../../jo/clouds", "https://host/a/b", 0.5])
    ['data/clouds', 'clouds', 'https://host/a/b', 0.5]
    """
    if isinstance(value, dict):
        return {without_places(key): without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    return _without_places(value) if isinstance(value, str) else value


def _without_places(text: str) -> str:
    path = text.removeprefix("file:")
    if re.match(r"/|~[\w.-]*/|\.\./", path) and "\n" not in path:  # as a whole, blanks in it included
        return text[: len(text) - len(path)] + re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return PATH.sub(r"\1", text)
