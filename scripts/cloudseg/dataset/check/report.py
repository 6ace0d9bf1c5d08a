"""What a dataset check found, and the report of it as text."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloudseg.dataset.check.rules import CheckRule
from cloudseg.errors import DatasetError


@dataclass(frozen=True)
class Finding:
    """Say which rule is broken where: in a file below the root, in a line of it (or None), and what is there."""

    rule: CheckRule
    file: str
    got: str
    line: int | None = None

    def __str__(self) -> str:
        """Return one line for a reader."""
        where = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{where}: {self.got}" if self.got else where


@dataclass
class Report:
    """Collect the findings of a check, and counts of what it read.

    Parameters
    ----------
    root : the data set.
    seen : lines that say what there is.
    findings : errors and warnings, in the order in which they were found.

    Examples
    --------
    >>> from cloudseg.dataset.check.rules import TWICE
    >>> report = Report(Path("clouds"), ["6 train images"])
    >>> print(report)
    Dataset check of clouds
      6 train images
    No problems found.
    >>> report.findings.append(Finding(TWICE, "train.csv", "a.jpg_Fish, first in line 2", 7))
    >>> print(report)
    Dataset check of clouds
      6 train images
    ERROR: rows that are there twice (1)
      expected: one row per image and class
      to fix:   remove one of them
        train.csv, line 7: a.jpg_Fish, first in line 2
    1 error, 0 warnings.
    """

    root: Path
    seen: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop the workflow."""
        return [finding for finding in self.findings if finding.rule.error]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that are legal, and may well be a mistake."""
        return [finding for finding in self.findings if not finding.rule.error and not finding.rule.harmless]

    @property
    def notes(self) -> list[Finding]:
        """The findings that are unusual and do no harm."""
        return [finding for finding in self.findings if finding.rule.harmless]

    def render(self, most: int | None = 8) -> str:
        """Write the report as text, errors first and what is harmless last, findings grouped by their rule.

        Parameters
        ----------
        most : findings shown of each rule, a quarter as many of a warning's, and what is harmless in one
            line; None shows all.
        """
        by_rule: dict[CheckRule, list[Finding]] = defaultdict(list)
        for finding in self.errors + self.warnings + self.notes:
            by_rule[finding.rule].append(finding)
        lines = [f"Dataset check of {self.root}", *(f"  {line}" for line in self.seen)]
        for rule, findings in by_rule.items():
            if rule.harmless:
                such = f"{'such as ' if len(findings) > 1 else ''}{findings[0]}"
                lines.append(f"Note: {rule.title} ({len(findings)}), {such}: {rule.fix}")
                lines += [f"    {finding}" for finding in findings] if most is None else []
                continue
            shown = len(findings) if most is None else most if rule.error else max(1, most // 4)
            lines += [
                f"{'ERROR' if rule.error else 'Warning'}: {rule.title} ({len(findings)})",
                f"  expected: {rule.expected}",
                f"  to fix:   {rule.fix}",
                *(f"    {finding}" for finding in findings[:shown]),
            ]
            if len(findings) > shown:
                lines.append(f"    ... and {len(findings) - shown} more")
        if self.findings:
            notes = f", {_count(self.notes, 'note')}" if self.notes else ""
            lines.append(f"{_count(self.errors, 'error')}, {_count(self.warnings, 'warning')}{notes}.")
        else:
            lines.append("No problems found.")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the text that fits a screen."""
        return self.render()

    def raise_for_errors(self) -> None:
        """Raise if there is any error.

        Raises
        ------
        DatasetError : with the count and the first error; the report has the others.
        """
        if self.errors:
            first = self.errors[0]
            raise DatasetError(
                f"{self.root}: the dataset check found {_count(self.errors, 'error')}. The first: "
                f"{first} (expected {first.rule.expected})."
            )


def _count(findings: Sequence[Finding], word: str) -> str:
    return f"{len(findings)} {word}{'' if len(findings) == 1 else 's'}"
