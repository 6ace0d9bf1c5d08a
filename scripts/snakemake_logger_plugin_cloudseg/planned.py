"""A dry run in a line per kind of job."""

from collections.abc import Sequence

from cloudseg.texts import shorten
from snakemake_logger_plugin_cloudseg.board import Job

COLUMNS = 120


def planned_lines(jobs: Sequence[Job]) -> list[str]:
    """Return a line for each rule: its first job, by the rule's message where it has one, and how many more."""
    by_rule: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.name):
        by_rule.setdefault(job.rule, []).append(job)
    lines = []
    for rule in dict.fromkeys(job.rule for job in jobs):
        first, *others = by_rule[rule]
        more = f" (and {len(others)} more)" if others else ""
        text = " ".join((first.message or first.name).split())
        lines.append(f"  {shorten(text, COLUMNS - 2 - len(more))}{more}")
    return lines
