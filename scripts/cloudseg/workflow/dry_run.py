"""Let a dry run say how many hours its jobs will take, beside how many there are.

Snakemake calls no hook of a workflow on a dry run, and a message of the rule `all` would be there for that target
alone. But it logs the table of job counts when it knows what is to be made, whatever the target.
"""

import functools
import logging
from collections.abc import Callable


class BesideJobCounts(logging.Filter):
    """A filter of Snakemake's logger that lets every record pass, and logs a text before each table of job counts.

    Parameters
    ----------
    logger : Snakemake's.
    text : what to log, asked for once, when the jobs are known; nothing where it is empty.
    """

    TABLES = 2  # a dry run logs one at its beginning and one at its end

    def __init__(self, logger: logging.Logger, text: Callable[[], str]) -> None:
        super().__init__()
        self._logger, self._text, self._left = logger, functools.cache(text), self.TABLES
        logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass."""
        if self._left and getattr(getattr(record, "event", None), "value", None) == "run_info":
            self._left -= 1
            if text := self._text():
                self._logger.info(text)
            if not self._left:
                self._logger.removeFilter(self)
        return True
