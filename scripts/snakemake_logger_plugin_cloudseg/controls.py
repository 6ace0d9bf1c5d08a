"""Orders to a terminal, which no text that is shown may hold: of libraries, or in a name of somebody's file."""

import re

SEQUENCES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    r"""Return a text without them; line breaks and tabs stay.

    Examples
    --------
    >>> plain("\x1b[31ma\tb\x1b[0m\n\x9b2Jc\x07")
    'a\tb\nc'
    """
    return SEQUENCES.sub("", text)
