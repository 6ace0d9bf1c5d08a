"""What a person sees of a run: Snakemake's `--logger cloudseg`, which the profiles set.

On a terminal, one line per running job that says how far it is, and one for the whole run; a job that has ended leaves
a line above them. Elsewhere (a pipe, CI, nohup), plain lines. Snakemake's log in `.snakemake/log` is as it always is.

snakemake-logger-plugin-rich, which others keep, shows a bar per rule. It knows of jobs, not of what happens in them: a
training of hours is one step. Epochs, Dice and the time left are what is waited for, and jobs write those down
(:mod:`cloudseg.runtime.job_progress`).

Nothing of cloudseg is imported before the first job is known: the Snakefile decides which copy of it is used.
"""

import os
from logging import LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase

from snakemake_logger_plugin_cloudseg.reporter import Reporter

__all__ = ["LogHandler"]


class LogHandler(LogHandlerBase):
    """Hands the records of Snakemake to a :class:`Reporter`; `--quiet` is Snakemake's own filter."""

    def __post_init__(self) -> None:
        """Prepare; what costs time is imported with the first job."""
        self._reporter = Reporter(self.common_settings, self.format)

    def emit(self, record: LogRecord) -> None:
        """Show a record."""
        try:
            self._reporter.handle(record)
        except BrokenPipeError:  # `snakemake -n | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._reporter.stream.fileno())
        except Exception:  # as the handlers of Python do: no run ends because a line could not be shown
            self.handleError(record)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._reporter.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Whether this writes to the terminal."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Whether this writes to a file."""
        return False

    @property
    def has_filter(self) -> bool:
        """Whether this filters records itself."""
        return False

    @property
    def has_formatter(self) -> bool:
        """Whether this formats messages itself."""
        return False

    @property
    def needs_rulegraph(self) -> bool:
        """Whether this asks for the graph of the rules."""
        return False
