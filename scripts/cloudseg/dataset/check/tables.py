"""Check the rows of the tables: that each names an image and a class, once."""

import functools
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cloudseg.config.names import nearest
from cloudseg.dataset.check import rules
from cloudseg.dataset.check.report import Finding, Report
from cloudseg.dataset.contest import ContestFolder, Split
from cloudseg.dataset.labels.rows import LabelRows, Place
from cloudseg.dataset.labels.tables import Columns, Row, RowNames, TableError, scan_table


def check_table(
    folder: ContestFolder, split: Split, names: Sequence[str], classes: Sequence[str], report: Report
) -> LabelRows | None:
    """Check the rows of a table.

    Several rows of one image and class are united in the table of labels, and an error in a sample submission, unless
    its form has a row per object.

    Parameters
    ----------
    folder, split : whose table.
    names : of the images that its rows may name.
    classes : that they may name.
    report : gets the findings.

    Returns
    -------
    LabelRows or None : where the sound rows are; None if the table is missing or cannot be read.
    """
    path, layout = folder.table(split), folder.layout
    if not path.is_file():
        rule = rules.of_layout(rules.NO_SUCH_FILE, layout)
        report.findings.append(Finding(rule, path.name, "no such file"))
        return None
    entry = layout.labels if split == "train" else layout.submission
    columns = Columns.of_training(entry) if split == "train" else Columns.of_submission(entry)
    asks_for_all = split == "test" and entry.sample == "images"
    reader = _RowReader(folder, columns, RowNames(entry, names, classes), names, classes)

    def sound() -> Iterator[tuple[str, str, Place]]:
        for row in scan_table(path, columns):
            checked = reader.check(row, path.name, asks_for_all=asks_for_all)
            if isinstance(checked, Finding):
                report.findings.append(checked)
            elif checked is not None:
                image, label = checked
                yield from ((image, each, row.place) for each in (classes if asks_for_all else (label,)))

    bad_table = rules.of_table(rules.BAD_TABLE, columns)
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 1))
            last = file.read()
        if last not in (b"\n", b"\r"):
            report.findings.append(Finding(rules.CUT_OFF, path.name, "is it whole?"))
        rows = LabelRows(names, classes, sound())
    except TableError as error:
        report.findings.append(Finding(bad_table, path.name, error.reason, error.line))
        return None
    except OSError as error:
        report.findings.append(Finding(bad_table, path.name, str(error.strerror)))
        return None
    for image, label, several in rows.several() if entry.several == "warn" and not asks_for_all else ():
        if split == "train":
            lines = ", ".join(str(row.line) for row in several[:5]) + (", ..." if len(several) > 5 else "")
            got = f"'{image}_{label}' {len(several)} times, lines {lines}"
            report.findings.append(Finding(rules.UNITED, path.name, got))
        for row in () if split == "train" else several[1:]:
            got = f"'{image}_{label}', first in line {several[0].line}"
            report.findings.append(Finding(rules.TWICE, path.name, got, row.line))
    return rows


class _RowReader:
    """Check rows one by one."""

    def __init__(
        self,
        folder: ContestFolder,
        columns: Columns,
        row_names: RowNames,
        names: Sequence[str],
        classes: Sequence[str],
    ) -> None:
        self._row_names, self._names, self._classes = row_names, names, classes
        self._bad_row = rules.of_table(rules.BAD_ROW, columns)
        self._no_such_image = rules.of_layout(rules.NO_SUCH_IMAGE, folder.layout)
        self._alike = functools.cache(lambda: _names_by_likeness(names))

    def check(self, row: Row, file: str, *, asks_for_all: bool) -> Finding | tuple[str, str] | None:
        """Return image and class of a sound row, or what is wrong with it; None where that is reported elsewhere."""
        cell = f"{row.shown!r:.80}"
        if row.swallowed:
            got = f"one cell in quotation marks from here to line {row.last}, beginning with {cell}"
            return Finding(self._bad_row, file, got, row.line)
        if not row.sound:
            return Finding(self._bad_row, file, f"{row.cells} cells, beginning with {cell}", row.line)
        image, label = self._row_names.of(row)
        if image is None:
            # An empty folder is a finding of its own, so its rows are not reported as well.
            got = cell + _what_is_alike(self._row_names.said(row.label, row.class_name)[0], self._alike())
            return Finding(self._no_such_image, file, got, row.line) if self._names else None
        if label not in self._classes and not asks_for_all:
            got = f"{label!r:.40} in {cell}{nearest(label, self._classes)}"
            return Finding(rules.NO_SUCH_CLASS, file, got, row.line)
        return image, label


def _names_by_likeness(names: Sequence[str]) -> dict[str, str]:
    """Return names by their casefolded NFC form, with and without the suffix."""
    alike = {Path(_plain(name)).stem: name for name in reversed(names)}
    return alike | {_plain(name): name for name in reversed(names)}


def _what_is_alike(image: str | None, alike: Mapping[str, str]) -> str:
    """Say which image of the folder an unknown name may mean, and how the two differ."""
    if image is not None and image in alike.values():
        return "; images are named without their suffix here (`suffix: false`)"
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
    rows = check_table(folder, "test", names, classes, report)
    rule = rules.of_layout(rules.NOT_IN_SAMPLE, folder.layout)
    for name, missing in () if rows is None else rows.lacking():
        got = "no row" if missing == rows.classes else f"no row for {', '.join(missing)}"
        report.findings.append(Finding(rule, f"{folder.layout.test_images}/{name}", got))
