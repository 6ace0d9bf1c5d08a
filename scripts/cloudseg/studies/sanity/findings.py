"""What a look at a submission can find, and the verdict as text."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from cloudseg.dataset.labels.tables import HEADER
from cloudseg.texts import number_of

MOST_EXAMPLES = 5
"""Findings of a kind that are kept and shown; the others are counted."""


@dataclass(frozen=True)
class Kind:
    """A way in which a submission can be wrong.

    Parameters
    ----------
    title : of the findings.
    fix : what to do.
    fault : whether it is surely not meant, or makes the contest refuse the file; else it is a warning.
    """

    title: str
    fix: str
    fault: bool = True


ROWS = "<image>_<class>, one row for each row of sample_submission.csv"
RUNS = "`start length` pairs of whole numbers, counted from 1 down the columns, ascending, inside the grid"

EMPTY_FILE = Kind("a file without rows", "write it again: a submission has a header and a row per image and class")
BROKEN = Kind("a file that breaks off", "copy or write it again: what comes after this line cannot be read")
TOO_LARGE = Kind("more text than a submission can have", "look at what the file is: no more of it is read")
NOT_UTF8 = Kind("text that is not UTF-8", "save the table as UTF-8")
NO_HEADER = Kind("no header", f"begin the file with the line {','.join(HEADER)}")
OTHER_HEADER = Kind("another header", f"name the columns {','.join(HEADER)}, in this order")
OTHER_DELIMITER = Kind("columns that no comma parts", "export the table with commas")
BAD_ROW = Kind(
    "rows that are not two cells", "correct the row: a comma too many or too few, or a quotation mark astray"
)
TRAINING_IMAGE = Kind("rows of training images", "predict the test images: the contest knows no such rows")
OTHER_IMAGE = Kind("rows of images that are not test images", f"name the rows {ROWS}")
OTHER_CLASS = Kind("rows of classes that the config does not have", f"name the rows {ROWS}, with a class of the config")
TWICE = Kind("rows that are there twice", "remove one of them: the contest refuses both")
MISSING = Kind("rows that are missing", f"write {ROWS}; a row without a mask has an empty second cell")
NOT_RUNS = Kind("run lengths that cannot be read", f"write {RUNS}")
OUTSIDE = Kind("runs outside the grid", "were the masks made at another size? Resize them before they become text")
UNSORTED = Kind("runs that overlap or do not ascend", f"write {RUNS}")
ALONG_ROWS = Kind("masks counted along the rows", "number the pixels down the columns: transpose each mask first")
OTHER_GRID = Kind("masks counted on another grid", "resize the masks to the submission's grid before they become text")
PLACEHOLDER = Kind("the placeholder of the sample submission", "send the masks: this is the contest's empty form")
VANISHED = Kind("a class that vanishes", "look at the threshold and minimum size of this class, and at its column")
RATE_OFF = Kind(
    "far from the share of masks that training has", "look at thresholds and minimum sizes, and at the code"
)
AREA_OFF = Kind("masks of a very different area than training's", "look at the threshold, and at the size of the masks")
COVERING = Kind("masks that cover everything", "look for inverted masks and for a threshold at 0")
IDENTICAL = Kind("many identical masks", "look whether each image gets its own prediction")
TOO_SMALL_OWN = Kind(
    "components smaller than the decision allows", "write the submission again: it is not what its decision makes"
)

BOM = Kind(
    "a byte order mark", "nothing, or save as UTF-8 without it: some readers take it for a part of the name", False
)
LINE_ENDS = Kind("line ends of Windows", "nothing: readers of CSV accept them", False)
COMPRESSED = Kind("a compressed file", "nothing, if the contest takes it", False)
CUT_OFF = Kind("a last line that does not end", "nothing, if its row is whole", False)
ORDER = Kind("rows in another order than the sample's", "nothing: contests match rows by their names", False)
EMPTY_WORD = Kind("words in place of an empty cell", "leave the cell of a row without a mask empty", False)
RATE = Kind("another share of masks than training has", "look whether thresholds and minimum sizes are meant so", False)
NO_MASK = Kind("no mask in the whole file", "look at thresholds and minimum sizes: nothing is predicted", False)
NEVER_TRAINED = Kind("masks of a class that training never has", "look at the order of the classes", False)
AREA = Kind("masks of another area than training's", "look whether the threshold is meant so", False)
COVERING_SOME = Kind("masks that cover almost everything", "look at these images", False)
IDENTICAL_SOME = Kind("identical masks", "look whether each image gets its own prediction", False)
TOO_SMALL = Kind("small components", "remove them, if the minimum size is meant", False)
FRAGMENTS = Kind(
    "masks in more pieces than training's", "look at some masks: noise is removed by a minimum size", False
)


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be: of which kind, what came, and the line where it shows, or None."""

    kind: Kind
    got: str
    line: int | None = None

    def __str__(self) -> str:
        """Return one line for a reader."""
        return self.got if self.line is None else f"line {self.line}: {self.got}"


@dataclass
class Group:
    """The findings of a kind: the first ones, and how many there are."""

    kind: Kind
    first: list[Finding] = field(default_factory=list)
    count: int = 0

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.count - len(self.first)


class Findings:
    """All findings, by kind; memory does not grow with their number.

    Examples
    --------
    >>> found = Findings()
    >>> for line in range(2, 12):
    ...     found.add(UNSORTED, "pair 2 (5 1)", line)
    >>> [(group.kind.title, group.count, group.more, str(group.first[0])) for group in found.groups()]
    [('runs that overlap or do not ascend', 10, 5, 'line 2: pair 2 (5 1)')]
    >>> found.counts()
    (1, 0)
    """

    def __init__(self) -> None:
        self._groups: dict[Kind, Group] = {}

    def add(self, kind: Kind, got: str, line: int | None = None, count: int = 1) -> None:
        """Keep a finding, which may stand for several."""
        group = self._groups.setdefault(kind, Group(kind))
        group.count += count
        if len(group.first) < MOST_EXAMPLES:
            group.first.append(Finding(kind, got, line))

    def groups(self) -> Iterator[Group]:
        """Yield the findings by kind, faults first, each in the order in which they were found."""
        yield from sorted(self._groups.values(), key=lambda group: not group.kind.fault)

    def counts(self) -> tuple[int, int]:
        """Return how many kinds of faults and of warnings there are."""
        faults = sum(group.kind.fault for group in self._groups.values())
        return faults, len(self._groups) - faults

    def has(self, kind: Kind) -> bool:
        """Return whether there is any of a kind."""
        return kind in self._groups


def verdict(found: Findings) -> str:
    """Return the one line that says how a submission looks.

    Examples
    --------
    >>> verdict(Findings())
    'Nothing odd found.'
    """
    faults, warnings = found.counts()
    if not faults and not warnings:
        return "Nothing odd found."
    return f"{number_of(faults, 'fault')}, {number_of(warnings, 'warning')}."


def as_text(found: Findings, head: str) -> str:
    """Write all findings for a terminal.

    Parameters
    ----------
    found : the findings.
    head : the first line: which file, how many rows.
    """
    lines = [head]
    for group in found.groups():
        lines.append(f"{'FAULT' if group.kind.fault else 'Warning'}: {group.kind.title}")
        lines += [f"    {finding}" for finding in group.first]
        lines += [f"    ... and {group.more:,} more"] if group.more > 0 else []
        lines.append(f"  to do: {group.kind.fix}")
    return "\n".join([*lines, verdict(found)])
