# The plan of the whole run, and what every rule file shares.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

HOME = Path(str(workflow.current_basedir)).parent
# Before an installed copy: jobs and parsing must use the code beside this Snakefile.
sys.path.insert(0, str(HOME / "scripts"))

from cloudseg import terminal
from cloudseg.commands import remember_words
from cloudseg.config.messages import refuse
from cloudseg.config_files import repeated_keys
from cloudseg.dataset.fetch import refuse_foreign_images
from cloudseg.ensemble.publish import is_of_another_config
from cloudseg.report.hints import next_commands
from cloudseg.report.params import page_params
from cloudseg.report.summary import leaderboard_summary, verdicts
from cloudseg.runtime import retries
from cloudseg.runtime.gpus.granted import refuse_missing_devices
from cloudseg.runtime.processes import import_from
from cloudseg.training.finished import keep_finished
from cloudseg.workflow import notices
from cloudseg.workflow.code import CODE
from cloudseg.workflow.costs import Estimates, machine_megabytes
from cloudseg.workflow.leaderboard import (
    leaderboard_ensembles,
    leaderboard_rows,
    leaderboard_work,
)
from cloudseg.workflow.plan import Plan
from cloudseg.workflow.targets import target_problems, typed_targets

import_from(HOME / "scripts")

try:
    if workflow.is_main_process:
        refuse(repeated_keys(workflow.configfiles))
    PLAN = Plan(config, HOME)
    if workflow.is_main_process:
        notices.refuse_targets(PLAN, typed_targets())
        notices.refuse_values(PLAN)
except ValueError as error:
    raise WorkflowError(str(error)) from None

# So that a message of a job can end with a command that fits this call.
remember_words(
    workflow.config_settings.configfiles, workflow.config_settings.config_args
)
ESTIMATES = Estimates(on_cpu=PLAN.on_cpu(here=workflow.local_exec))


def ask(find):
    """Return what asks the object that a job's wildcards name: `of_run("start")` is `PLAN.run(**wildcards).start`."""

    def of_object(attribute):
        def value(wildcards):
            return getattr(find(**dict(wildcards.items())), attribute)

        return value

    return of_object


of_dataset = ask(lambda: PLAN.dataset)
of_images = ask(PLAN.images)
of_pixel_store = ask(PLAN.pixel_store)
of_recipe = ask(PLAN.recipe)
of_initial_weights = ask(PLAN.initial_weights)
of_run = ask(PLAN.run)
of_prediction = ask(PLAN.prediction)
of_ensemble = ask(PLAN.ensemble)
of_blend = ask(PLAN.blend)


def expected_seconds(rule, wildcards):
    """Return the seconds of one core that a job takes; without wildcards those of a usual job of the rule."""
    jobs = [wildcards] if wildcards else PLAN.jobs.get(rule, [])
    return 0.0 if rule == "all" else ESTIMATES.expected_seconds(rule, jobs)


# An encoder that all share tells nothing about a job
terminal.register(expected_seconds, PLAN.sheet.constant_columns & {"encoder"})


pathvars:
    **PLAN.folders,


RESULTS, LOGS, RUNS = (
    Path(workflow.pathvars.apply(folder))
    for folder in ("<results>", "<logs>", "<results>/runs")
)

# Snakemake removes what a rule will make, and another workflow may have moved <results> onto a folder of the user's.
if PLAN.dataset.is_made:
    try:
        refuse_foreign_images(Path(workflow.pathvars.apply(PLAN.dataset.raw)))
    except ValueError as error:
        raise WorkflowError(str(error)) from None

if workflow.is_main_process:
    warned = notices.warnings(PLAN) + notices.replaced_trainings(PLAN, str(RESULTS))
    if workflow.local_exec:
        # Jobs that run here share this machine's memory, as its cores; --resources mem_mb=... says otherwise.
        if "mem_mb" not in workflow.global_resources:
            workflow.register_resource("mem_mb", machine_megabytes())
        warned += notices.too_large_trainings(
            PLAN, ESTIMATES, workflow.global_resources["mem_mb"].value
        )
    for line in warned:
        logger.warning(line)
    if not workflow.dryrun:
        retries.forget(LOGS, RUNS)


wildcard_constraints:
    **PLAN.wildcards,


def everything(wildcards):
    """Return every output of the plan: `all` asks for what lies in between, too, so that what is lost is made again."""
    return [
        path
        for rule, jobs in PLAN.jobs.items()
        for job in jobs
        for path in expand(getattr(rules, rule).output, **job)
    ]


def submitted(wildcards):
    """Return the config's submission, and have it published where another config's lies in the working directory.

    Snakemake takes that one for done: it compares the params of a job only when all its outputs are there.
    """
    root = PLAN.final_submissions.get("root")
    if (
        workflow.is_main_process
        and root
        and is_of_another_config(root, RESULTS / "submission.csv")
    ):
        workflow.dag.forcefiles.add(root)
    return f"<ensembles>/{PLAN.config.submission}/submission.csv"


def verified(wildcards):
    """Return the outputs in the results: the submission in the working directory may be edited, or another config's."""
    root = PLAN.final_submissions.get("root")
    return [path for path in everything(wildcards) if path != root]
