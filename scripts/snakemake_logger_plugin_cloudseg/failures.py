"""What is shown of a job that failed: which it is, where its log lies and how that ends."""

from collections.abc import Sequence
from logging import LogRecord
from pathlib import Path

from snakemake_logger_plugin_cloudseg.board import Job

LINES = 60  # of a log, the last ones
BYTES = 100_000  # of a log that are read


def job_failure(record: LogRecord, job: Job | None, *, with_logs: bool) -> str:
    """Return the text for a job that failed."""
    name = f": {job.name}" if job is not None and job.name != record.rule_name else ""
    lines = [f"Error in rule {record.rule_name}{name}"]
    if record.rule_msg:
        lines.append(f"    message: {record.rule_msg}")
    lines += [f"    log: {path}" for path in record.log]
    lines += [f"    {what}: {value}" for what, value in record.aux.items()]
    if record.shellcmd:
        lines.append(f"    shell: {record.shellcmd.strip()}")
    return "\n".join(lines + (ends_of(record.log) if with_logs else []))


def group_failure(record: LogRecord, jobs: Sequence[Job | None], *, with_logs: bool) -> str:
    """Return the text for a group job that failed; those of its jobs that are to blame follow by themselves."""
    names = ", ".join(job.name for job in jobs if job is not None)
    lines = [f"Error in group {record.groupid}: {names}", *(f"    log: {path}" for path in record.aux_logs)]
    if number := getattr(record, "external_jobid", None):
        lines.append(f"    external_jobid: {number}")
    return "\n".join(lines + (ends_of(record.aux_logs) if with_logs else []))


def ends_of(paths: Sequence[str]) -> list[str]:
    """Return the last lines of logs, between two rules."""
    lines = []
    for path in map(Path, paths):
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            lines.append(f"Logfile {path} is not there.")
            continue
        found = text.rstrip().splitlines()
        if not found:
            lines.append(f"Logfile {path} is empty.")
            continue
        cut = len(found) > LINES or size > BYTES
        head = f"Logfile {path}{f' ends in these {LINES} lines; the rest is in the file' if cut else ''}:"
        rule = "=" * min(80, max(map(len, [head, *found[-LINES:]])))
        lines += [head, rule, *found[-LINES:], rule]
    return lines
