"""Texts for a terminal: such as fit in a line, and none that gives it orders."""

import unicodedata


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    Examples
    --------
    >>> columns_of("fold 0"), columns_of("雲"), columns_of("e\u0301")
    (6, 2, 1)
    """
    return sum(map(_columns, text))


def printable(text: str) -> str:
    r"""Return a text with `?` in place of what moves a cursor, clears a screen or turns letters round.

    Names of files and cells of tables come from anywhere; line breaks and tabs stay.

    Examples
    --------
    >>> printable("a\tb\n\x1b[2Jc\x9b2J\u202ed\ud800 雲")
    'a\tb\n?[2Jc?2J?d? 雲'
    """
    return (
        text if text.isprintable() else "".join(each if each.isprintable() or each in "\n\t" else "?" for each in text)
    )


def shorten(text: str, columns: int) -> str:
    """Return a text of at most so many columns: what is too much is left out of its middle.

    Parameters
    ----------
    text : one line; characters that would move the cursor are replaced by `?`.
    columns : at least 1.

    Examples
    --------
    >>> shorten("train tu-tf_efficientnet_lite0 fpn 96x144 quick fold 0", 30)
    'train tu-tf_ef…44 quick fold 0'
    >>> shorten("fold 0", 30), shorten("a\\nb", 30)
    ('fold 0', 'a?b')
    """
    text = printable(text).replace("\n", "?").replace("\t", "?")
    if columns_of(text) <= columns:
        return text
    right = _first(text[::-1], columns // 2)[::-1]
    return f"{_first(text, columns - 1 - columns_of(right))}…{right}"


def number_of(number: int, word: str) -> str:
    """Return a number with what it counts.

    Examples
    --------
    >>> number_of(1, "member"), number_of(0, "fault"), number_of(2000, "image")
    ('1 member', '0 faults', '2,000 images')
    """
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def in_words(seconds: float) -> str:
    """Return a duration with its two largest units.

    Examples
    --------
    >>> in_words(0.4), in_words(72.4), in_words(3599.6), in_words(7500), in_words(200_000)
    ('0 s', '1 min 12 s', '1 h 0 min', '2 h 5 min', '2 d 7 h')
    """
    total = max(0, round(seconds))
    for unit, larger, smaller in ((86_400, "d", "h"), (3600, "h", "min"), (60, "min", "s")):
        if total >= unit:
            part = {"d": 3600, "h": 60, "min": 1}[larger]
            return f"{total // unit} {larger} {total % unit // part} {smaller}"
    return f"{total} s"


def _first(text: str, columns: int) -> str:
    taken = ""
    for each in text:
        columns -= _columns(each)
        if columns < 0:
            break
        taken += each
    return taken


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "FW" else 1
