"""Decides what becomes of each record of Snakemake: a line, a change of the board, or nothing."""

import logging
import re
import sys
from collections.abc import Callable
from logging import LogRecord
from typing import TYPE_CHECKING, Any

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_cloudseg.controls import plain

if TYPE_CHECKING:
    from snakemake_logger_plugin_cloudseg.board import Board, Job
    from snakemake_logger_plugin_cloudseg.screen import Lines, Screen

# What Snakemake says of itself in every run
CHATTER = (
    "Assuming unrestricted shared filesystem usage",
    "Using shell: ",
    "Select jobs to execute...",
    "Conda environments: ignored",
    "Group jobs: inactive",
    "Singularity containers: ignored",
    "Reasons:\n",
    "Some jobs were triggered by provenance information",
)
# What it says again whenever a job ends
ONCE = "Will exit after finishing currently running jobs"
# Of snakemake-executor-plugin-cluster-generic and -slurm
SUBMITTED = re.compile(
    r"(?:Submitted (?:group )?job|Job) ([\w-]+) (?:with external jobid|has been submitted with SLURM jobid) '?(\w+)"
)
AGAIN = re.compile(r"Trying to restart job ([\w-]+)\.")
DETAILS = {LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO, LogEvent.JOB_STARTED}


class Reporter:
    """What is shown of the records of a run.

    Parameters
    ----------
    settings : Snakemake's, for all loggers.
    written : Snakemake's own words for a record.

    Attributes
    ----------
    stream : where all of it is written.
    """

    def __init__(self, settings: Any, written: Callable[[LogRecord], str]) -> None:
        self._settings, self._written = settings, written
        self._details = settings.printshellcmds or settings.verbose
        quiet = {level.name for level in settings.quiet or ()}
        # Without the records of jobs that begin or end, there is nothing to keep a board of
        self._on_board = not quiet & {"RULES", "PROGRESS", "ALL"}
        self.stream = sys.stdout if settings.stdout else sys.stderr
        self._screen: Screen | Lines | None = None
        self._board: Board | None = None
        self._planned: list[Job] | None = None  # of a dry run
        self._ending = False
        self._groups: dict[str, list[str]] = {}  # jobs that are submitted as one
        self._handlers = {
            LogEvent.RUN_INFO: self._run_info,
            LogEvent.GROUP_INFO: self._group_info,
            LogEvent.JOB_INFO: self._job_info,
            LogEvent.JOB_FINISHED: self._job_finished,
            LogEvent.PROGRESS: self._progress,
            LogEvent.JOB_ERROR: self._job_error,
            LogEvent.GROUP_ERROR: self._group_error,
            LogEvent.SHELLCMD: self._shell_command,
            LogEvent.RULEGRAPH: lambda record: None,
        }

    def handle(self, record: LogRecord) -> None:
        """Show a record, or keep what it says."""
        event = getattr(record, "event", None)
        if event in DETAILS and not self._details:
            return
        self._handlers.get(event, self._message)(record)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._screen is not None:
            self._screen.close()

    def _print(self, text: str, level: int = logging.INFO) -> None:
        if self._screen is not None:
            self._screen.print(text, level)
        elif text:
            self.stream.write(_coloured(plain(text), level, self._colours()) + "\n")
            self.stream.flush()

    def _colours(self) -> bool:
        return not self._settings.nocolor and self.stream.isatty()

    def _message(self, record: LogRecord) -> None:
        text = self._written(record)
        if text in (None, "", "None") or (self._is_chatter(text) and not self._details):
            return
        if text.startswith(ONCE):
            if self._ending and not self._details:
                return
            self._ending = True
        if jobs := self._jobs_named(AGAIN.match(text)):
            text = f"{_names(jobs)}: failed, and is tried again"
        elif jobs := self._jobs_named(match := SUBMITTED.match(text)):
            for job in jobs:
                job.queued_as = match[2]
            if not self._details:
                return
        self._print(text, record.levelno)

    def _jobs_named(self, match: re.Match | None) -> "list[Job]":
        """Return the jobs of a group, or the one, that a message names."""
        if not match or not self._board:
            return []
        numbers = self._groups.get(match[1], [match[1]])
        return [job for number in numbers if number.isdecimal() and (job := self._board.job(int(number)))]

    def _group_info(self, record: LogRecord) -> None:
        numbers = [str(job.jobid) for job in record.jobs]
        # What executors call the group is the name of one of its jobs, which the record does not tell
        self._groups |= {job.uuid(): numbers for job in record.jobs}
        if self._details:
            self._print(self._written(record))

    def _is_chatter(self, text: str) -> bool:
        # That a script failed is said by the error of its job, where that is shown; that it was killed is not
        failed = text.startswith("RuleException:\nCalledProcessError") and "returned non-zero exit status" in text
        return text.startswith(CHATTER) or (failed and self._on_board)

    def _run_info(self, record: LogRecord) -> None:
        stats = {rule: count for rule, count in record.stats.items() if rule != "total"}
        if not self._settings.dryrun:
            self._print(self._written(record))
            if self._on_board:
                self._begin(stats)
        elif self._planned is None:
            self._print(self._written(record))
            self._planned = []
        else:  # once more, after the jobs
            from snakemake_logger_plugin_cloudseg.planned import planned_lines

            for line in planned_lines(self._planned):
                self._print(line)

    def _begin(self, stats: dict[str, int]) -> None:
        from snakemake_logger_plugin_cloudseg.board import Board
        from snakemake_logger_plugin_cloudseg.screen import screen_for

        self._board = Board(stats)
        self._screen = screen_for(self.stream, self._board, colours=self._colours())

    def _job_info(self, record: LogRecord) -> None:
        from snakemake_logger_plugin_cloudseg.board import Job

        job = Job.of(record)
        if self._details:
            self._print(self._written(record))
        elif self._planned is not None:
            self._planned.append(job)
        elif self._board is None:  # nobody will say when it has ended
            self._print(job.name)
        if self._board is not None:
            self._board.add(job)
            self._screen.refresh()

    def _job_finished(self, record: LogRecord) -> None:
        if self._board is None:
            return
        if line := self._board.finish(record.job_id):
            self._print(line)
        self._screen.refresh()

    def _progress(self, record: LogRecord) -> None:
        if self._board is None:
            self._print(self._written(record))
        else:
            self._board.count(record.done, record.total)

    def _job_error(self, record: LogRecord) -> None:
        from snakemake_logger_plugin_cloudseg.failures import job_failure

        job = self._board.fail(record.jobid) if self._board else None
        if getattr(record, "indent", False) and job is not None and not job.is_to_blame:
            return  # of a group, and it ended well or never began
        self._print(job_failure(record, job, with_logs=self._settings.show_failed_logs), logging.ERROR)

    def _group_error(self, record: LogRecord) -> None:
        from snakemake_logger_plugin_cloudseg.failures import group_failure

        jobs = [self._board.job(each["jobid"]) for each in record.job_error_info] if self._board else []
        self._print(group_failure(record, jobs, with_logs=self._settings.show_failed_logs), logging.ERROR)

    def _shell_command(self, record: LogRecord) -> None:
        if command := getattr(record, "shellcmd", None) or getattr(record, "cmd", None):
            self._print(command)


def _names(jobs: "list[Job]") -> str:
    others = f" and {len(jobs) - 1} more in its group" if len(jobs) > 1 else ""
    return f"{jobs[0].name}{others}"


def _coloured(text: str, level: int, colours: bool) -> str:
    code = 31 if level >= logging.ERROR else 33 if level >= logging.WARNING else None
    return f"\033[{code}m{text}\033[0m" if colours and code else text
