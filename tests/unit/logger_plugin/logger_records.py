"""Records as Snakemake makes them, and the logger that they are handed to."""

import io
import logging
from types import SimpleNamespace

from snakemake.logging import DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_cloudseg import LogHandler


class Run:
    """A logger and what it wrote, on a stream that is no terminal unless another is given."""

    def __init__(self, monkeypatch=None, *, stats=None, quiet=None, **settings):
        self.stream = io.StringIO()
        if monkeypatch:
            monkeypatch.setattr("sys.stderr", self.stream)
            monkeypatch.setattr("sys.stdout", self.stream)
        usual = {"printshellcmds": False, "verbose": False, "nocolor": False, "stdout": False, "dryrun": False}
        self.settings = SimpleNamespace(**usual | {"show_failed_logs": True, "debug_dag": False} | settings)
        self.settings.quiet = quiet
        self.handler = LogHandler(self.settings, None)
        self.handler.setFormatter(DefaultFormatter(quiet, self.settings.show_failed_logs))
        shown = [getattr(self.settings, name) for name in ("debug_dag", "verbose", "dryrun", "printshellcmds")]
        self.handler.addFilter(DefaultFilter(quiet, *shown))
        if stats:
            self.say("Job stats:\n", LogEvent.RUN_INFO, stats=stats | {"total": sum(stats.values())})

    def say(self, text, event=None, level=logging.INFO, **facts):
        record = logging.LogRecord("snakemake.logging", level, __file__, 1, text, None, None)
        record.__dict__.update(facts)
        if event is not None:
            record.event = event
        self.handler.handle(record)

    def start(self, number, rule, log=(), output=("made",), local=True, message=None, **wildcards):
        facts = {"local": local, "rule_msg": message, "rule_name": rule, "wildcards": wildcards, "threads": 1}
        facts |= {"jobid": number, "input": ["given"], "output": list(output), "log": [str(path) for path in log]}
        facts |= {"reason": "Missing output files", "resources": {"mem_mb": 7}, "priority": 0, "benchmark": None}
        self.say(f"Rule: {rule}", LogEvent.JOB_INFO, is_checkpoint=False, shellcmd=None, indent=False, **facts)

    def finish(self, number):
        self.say("Finished", LogEvent.JOB_FINISHED, job_id=number)

    def error(self, number, rule, log=(), message=None, indent=False, **aux):
        facts = {"rule_name": rule, "rule_msg": message, "jobid": number, "input": [], "output": [], "aux": aux}
        facts |= {"log": [str(path) for path in log], "shellcmd": None, "conda_env": None, "indent": indent}
        self.say("Error", LogEvent.JOB_ERROR, level=logging.ERROR, **facts)

    def board(self):
        return self.handler._reporter._board

    def close(self):
        self.handler.close()

    @property
    def lines(self):
        return self.stream.getvalue().splitlines()
