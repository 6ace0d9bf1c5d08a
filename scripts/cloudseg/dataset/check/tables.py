"""Check the rows of the tables: that each names an image and a class, once."""

import functools
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cloudseg.config.names import nearest
from cloudseg.dataset.check import rules
from cloudseg.dataset.check.report import Finding, Report
from cloudseg.dataset.contest import ContestFolder, Row, TableError, scan_table, split_label
from cloudseg.dataset.label_rows import LabelRows, Place


def check_table(
    path: Path, names: Sequence[str], classes: Sequence[str], report: Report, *, unite: bool
) -> LabelRows | None:
    """Check the rows of a table.

    Parameters
    ----------
    path : the table.
    names : of the images that its rows may name.
    classes : that they may name.
    report : gets the findings.
    unite : whether several rows of one image and class are a warning, since their masks are united, or an error.

    Returns
    -------
    LabelRows or None : where the sound rows are; None if the table is missing or cannot be read.
    """
    if not path.is_file():
        report.findings.append(Finding(rules.NO_SUCH_FILE, path.name, "no such file"))
        return None
    known = set(names)
    alike = functools.cache(lambda: _names_by_likeness(names))

    def sound() -> Iterator[tuple[str, str, Place]]:
        for row in scan_table(path):
            checked = _check_row(row, path.name, known, alike, classes)
            if isinstance(checked, Finding):
                report.findings.append(checked)
            elif checked is not None:
                yield *checked, row.place

    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 1))
            last = file.read()
        if last not in (b"\n", b"\r"):
            report.findings.append(Finding(rules.CUT_OFF, path.name, "is it whole?"))
        rows = LabelRows(names, classes, sound())
    except TableError as error:
        report.findings.append(Finding(rules.BAD_TABLE, path.name, error.reason, error.line))
        return None
    except OSError as error:
        report.findings.append(Finding(rules.BAD_TABLE, path.name, str(error.strerror)))
        return None
    for image, label, several in rows.several():
        if unite:
            lines = ", ".join(str(row.line) for row in several[:5]) + (", ..." if len(several) > 5 else "")
            got = f"'{image}_{label}' {len(several)} times, lines {lines}"
            report.findings.append(Finding(rules.UNITED, path.name, got))
        for row in () if unite else several[1:]:
            got = f"'{image}_{label}', first in line {several[0].line}"
            report.findings.append(Finding(rules.TWICE, path.name, got, row.line))
    return rows


def _check_row(
    row: Row,
    file: str,
    known: set[str],
    alike: Callable[[], Mapping[str, str]],
    classes: Sequence[str],
) -> Finding | tuple[str, str] | None:
    """Return the image and class of a sound row, or what is wrong with it; None where that is reported elsewhere."""
    cell = f"{row.label!r:.80}"
    if row.swallowed:
        got = f"one cell in quotation marks from here to line {row.last}, beginning with {cell}"
        return Finding(rules.BAD_ROW, file, got, row.line)
    if row.cells != 2:
        return Finding(rules.BAD_ROW, file, f"{row.cells} cells, beginning with {cell}", row.line)
    image, label = split_label(row.label, known, classes)
    if image is None or image not in known:
        # An empty folder is a finding of its own, so its rows are not reported as well.
        return Finding(rules.NO_SUCH_IMAGE, file, cell + _what_is_alike(image, alike()), row.line) if known else None
    if label not in classes:
        return Finding(rules.NO_SUCH_CLASS, file, f"{label!r:.40} in {cell}{nearest(label, classes)}", row.line)
    return image, label


def _names_by_likeness(names: Sequence[str]) -> dict[str, str]:
    """Return names by their casefolded NFC form, with and without the suffix."""
    alike = {Path(_plain(name)).stem: name for name in reversed(names)}
    return alike | {_plain(name): name for name in reversed(names)}


def _what_is_alike(image: str | None, alike: Mapping[str, str]) -> str:
    """Say which image of the folder an unknown name may mean, and how the two differ."""
    plain = _plain((image or "").replace("\\", "/").rpartition("/")[2])
    name = alike.get(plain) or alike.get(Path(plain).stem)
    if image is None or name is None:
        return ""
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", image):
        return "; the folder has it in another Unicode form (NFC or NFD)"
    return f"; the folder has {name!r:.80}"


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def check_sample(folder: ContestFolder, names: Sequence[str], classes: Sequence[str], report: Report) -> None:
    """Check that the sample submission has a row for each test image and class, where there is one."""
    if not folder.has_sample:
        report.findings.append(Finding(rules.NO_SAMPLE, folder.sample_submission.name, "no such file"))
        return
    rows = check_table(folder.sample_submission, names, classes, report, unite=False)
    for name, missing in () if rows is None else rows.lacking():
        got = "no row" if missing == rows.classes else f"no row for {', '.join(missing)}"
        report.findings.append(Finding(rules.NOT_IN_SAMPLE, f"test_images/{name}", got))
