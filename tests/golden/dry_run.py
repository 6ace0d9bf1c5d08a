"""Print every job that Snakemake plans for a config, as JSON: python dry_run.py SNAKEFILE CONFIG FOLDER [KEY=VALUE].

This asks Snakemake, not cloudseg, so that no name of cloudseg stands here: a dry run by Snakemake's own command line,
whose jobs are read when it is done. What depends on the machine is fixed: 64 cores, 1 TB of memory, no CUDA device.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import snakemake.cli
from snakemake.workflow import Workflow

# `all`, and what is asked for by name alone
TARGETS = ["all", "verify", "probe", "shift", "loading", "quantising"]
# Snakemake adds others that follow from these
RESOURCES = ("gpu", "mem_mb", "runtime", "disk_mb")
# Those that say how a path is treated, not where it lies
FLAGS = ("ancient", "directory", "report", "temp", "protected", "touch", "update")


def main(snakefile: str, config: str, folder: str, *settings: str) -> None:
    workflow = dry_run(snakefile, config, folder, settings)
    jobs = sorted(workflow.dag.jobs, key=lambda job: (job.rule.name, tuple(job.wildcards)))
    home = str(Path(snakefile).parent)
    plan = {
        "config": workflow.globals["config"],
        "jobs": [described(job, workflow) for job in jobs],
        "table": planned_by_default(workflow),
    }
    text = json.dumps(plan)
    if home in text or folder in text:
        raise SystemExit(f"{config}: a job holds a path of this machine")
    print(text)


def dry_run(snakefile: str, config: str, folder: str, settings: tuple[str, ...]) -> Workflow:
    """Run ``snakemake -n`` in this process and return its workflow."""
    ran = []
    execute = Workflow.execute

    def remember(self, *args, **kwargs):
        ran.append(self)
        return execute(self, *args, **kwargs)

    Workflow.execute = remember
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    words = [*TARGETS, "-n", "--quiet", "all", "--snakefile", snakefile, "--configfile", config, "--directory", folder]
    words += ["--cores", "64", "--resources", "mem_mb=1000000", "--workflow-profile", "none"]
    words += ["--config", *settings] if settings else []
    sys.argv = ["snakemake", *words]  # where the workflow looks for the targets that were typed
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        snakemake.cli.main(words)
    except SystemExit as error:
        if error.code:
            raise
    finally:
        sys.stdout = out
    return ran[0]


def described(job, workflow) -> dict:
    """Return what a job is and asks for. Its params are the text that Snakemake compares with that of the last run."""
    params = {name: text(value, workflow) for name, value in named(job.params).items()}
    compared = workflow.persistence._params(job)
    return {
        "rule": job.rule.name,
        "script": script(job.rule, workflow),
        "wildcards": dict(job.wildcards_dict),
        "params": params | ({} if compared == sorted(params.values()) else {"compared": repr(compared)}),
        "input": {name: paths(value) for name, value in named(job.input).items()},
        "output": {name: paths(value) for name, value in named(job.output).items()},
        "log": [str(path) for path in job.log],
        "benchmark": [str(job.benchmark)] if job.benchmark else [],
        "threads": job.threads,
        "priority": job.rule.priority,
        "local": job.rule.name in workflow._localrules,
        "resources": {name: job.resources[name] for name in RESOURCES if name in dict(job.resources.items())},
    }


def script(rule, workflow) -> str | None:
    """Return the file that a rule runs, from the folder of the Snakefile."""
    if not rule.script:
        return None
    home = Path(workflow.main_snakefile).parent
    return str((Path(str(rule.basedir)) / rule.script).resolve().relative_to(home))


def named(values) -> dict:
    """Return the values of a Namedlist by name; those without one by their place."""
    spans = {}
    for name, (first, end) in values._get_names():
        spans[name] = values[first] if end is None else values[first:end]
    held = sum(1 if end is None else end - first for _, (first, end) in values._get_names())
    return spans if held else {str(place): value for place, value in enumerate(values)}


def text(value, workflow) -> str:
    written = workflow.persistence._serialize_param(value)
    return written if isinstance(written, str) else f"Snakemake does not compare a {type(value).__name__}"


def paths(value) -> str | list[str]:
    return flagged(value) if isinstance(value, str) else [flagged(path) for path in value]


def flagged(path) -> str:
    flags = [name for name in FLAGS if getattr(path, "flags", {}).get(name)]
    return "".join(f"{name}:" for name in flags) + str(path)


def planned_by_default(workflow) -> dict[str, int]:
    """Count the jobs of each rule that a call without targets runs."""
    dag = workflow.dag
    ahead = [job for job in dag.jobs if job.rule.name == "all"]
    found = set(ahead)
    while ahead:
        new = set(dag.dependencies[ahead.pop()]) - found
        found |= new
        ahead += new
    return dict(sorted(Counter(job.rule.name for job in found if dag.needrun(job)).items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
