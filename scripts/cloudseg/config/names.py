"""Refuse a name that is not known, with the nearest that are."""

import difflib
from collections.abc import Iterable


def require(name: str, known: Iterable[str], kind: str) -> None:
    """Raise unless a name is among those known.

    Parameters
    ----------
    name : what came.
    known : the names that exist.
    kind : what the name is of, for the message.

    Raises
    ------
    ValueError : with the three nearest names, or with all of them when none is near and they are few.

    Examples
    --------
    >>> require("fnp", ["fpn", "unet"], "decoder")
    Traceback (most recent call last):
    ...
    ValueError: no decoder is called 'fnp'; nearest: fpn
    """
    names = list(known)
    if name in names:
        return
    if near := difflib.get_close_matches(str(name), names, n=3, cutoff=0.5):
        raise ValueError(f"no {kind} is called {name!r}; nearest: {', '.join(near)}")
    listed = f"known: {', '.join(names)}" if len(names) <= 20 else "none of the known names is like it"
    raise ValueError(f"no {kind} is called {name!r}; {listed}")
