"""Say which known names are like one that is not known."""

import difflib
from collections.abc import Iterable

from cloudseg.errors import ConfigError


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (nearest: a, b)`` for the known names most like `name`, or an empty string.

    Examples
    --------
    >>> nearest("epoch", ["epochs", "batch"])
    ' (nearest: epochs)'
    """
    near = _matches(name, known)
    return f" (nearest: {', '.join(near)})" if near else ""


def require(name: str, known: Iterable[str], kind: str) -> None:
    """Raise unless a name is among those known.

    Parameters
    ----------
    name : the name to look up.
    known : the names that exist.
    kind : what is named, such as ``decoder``, for the message.

    Raises
    ------
    ConfigError : with the three nearest names, or with all of them when none is near and they are few.

    Examples
    --------
    >>> require("fnp", ["fpn", "unet"], "decoder")
    Traceback (most recent call last):
    ...
    cloudseg.errors.ConfigError: no decoder is called 'fnp'; nearest: fpn
    """
    names = list(known)
    if name in names:
        return
    if near := _matches(name, names):
        raise ConfigError(f"no {kind} is called {name!r}; nearest: {', '.join(near)}")
    listed = f"known: {', '.join(names)}" if len(names) <= 20 else "none of the known names is like it"
    raise ConfigError(f"no {kind} is called {name!r}; {listed}")


def _matches(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(str(name), [str(one) for one in known], n=3, cutoff=0.5)
