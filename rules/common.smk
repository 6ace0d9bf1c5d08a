# The plan of the whole run, and what every rule file shares.
import functools
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
from cloudseg.provenance.record import SCHEMA_VERSION
from cloudseg.report.hints import next_commands
from cloudseg.report.params import page_params
from cloudseg.report.summary import leaderboard_summary, verdicts
from cloudseg.runtime import retries
from cloudseg.runtime.gpus.granted import refuse_missing_devices
from cloudseg.runtime.processes import import_from
from cloudseg.trackers.run import digest_of_finished
from cloudseg.training.finished import keep_finished
from cloudseg.workflow import notices
from cloudseg.workflow.code import BUNDLE_CODE, CODE
from cloudseg.workflow.costs import COSTS, Estimates, machine_megabytes
from cloudseg.workflow.dry_run import BesideJobCounts
from cloudseg.workflow.durations import Durations, hours
from cloudseg.workflow.plan import VARIANTS, Plan
from cloudseg.workflow.status import read_status
from cloudseg.workflow.status_page import status_page
from cloudseg.workflow.targets import (
    asks_for_report,
    is_status,
    jobs_run_here,
    remove_call_logs,
    target_problems,
    typed_targets,
)

import_from(HOME / "scripts")

try:
    if workflow.is_main_process:
        refuse(repeated_keys(workflow.configfiles))
    PLAN = Plan(config, HOME)
except ValueError as error:
    raise WorkflowError(str(error)) from None

# So that a message of a job can end with a command that fits this call.
remember_words(
    workflow.config_settings.configfiles, workflow.config_settings.config_args
)
# A job asks for what it was started with, so only the call that plans needs to know
JOBS_RUN_HERE = not workflow.is_main_process or jobs_run_here()
ESTIMATES = Estimates(on_cpu=PLAN.on_cpu(here=JOBS_RUN_HERE))


def ask(find):
    """Return what asks the object that a job's wildcards name: `of_run("start")` is `PLAN.run(**wildcards).start`."""

    def of_object(attribute):
        def value(wildcards):
            return getattr(find(**dict(wildcards.items())), attribute)

        return value

    return of_object


# Of the whole plan, asked for when a job is: a job's own call of Snakemake reads the rules anew, and needs one of them
of_plan = ask(lambda **_: PLAN)
of_dataset = ask(lambda **_: PLAN.dataset)
of_sheet = ask(lambda **_: PLAN.sheet)
of_leaderboard = ask(lambda **_: PLAN.leaderboard)
of_heads = ask(lambda **_: PLAN.heads)
of_study_run = ask(lambda **_: PLAN.study_run)
of_images = ask(PLAN.images)
of_pixel_store = ask(PLAN.pixel_store)
of_recipe = ask(PLAN.recipe)
of_initial_weights = ask(PLAN.initial_weights)
of_run = ask(PLAN.run)
of_prediction = ask(PLAN.prediction)
of_ensemble = ask(PLAN.ensemble)
of_blend = ask(PLAN.blend)
of_whether = ask(PLAN.whether)
of_valid_blend = ask(PLAN.valid_blend)
of_black_store = ask(PLAN.black_store)
of_pseudo_labels = ask(PLAN.pseudo_labels)
of_chain = ask(PLAN.chain)


pathvars:
    **PLAN.folders,


RESULTS, LOGS, RUNS = (
    Path(workflow.pathvars.apply(folder))
    for folder in ("<results>", "<logs>", "<results>/runs")
)

DURATIONS = Durations(PLAN, RESULTS, on_cpu=ESTIMATES.on_cpu)


def expected_seconds(rule, wildcards):
    """Return the seconds that a job takes; without wildcards those of a usual job of the rule."""
    if wildcards and (seconds := DURATIONS.expected_seconds(rule, wildcards)):
        return seconds
    if not wildcards:
        return usual_seconds(rule)
    return 0.0 if rule in TARGETS else ESTIMATES.expected_seconds(rule, [wildcards])


@functools.cache
def usual_seconds(rule):
    """Return how long jobs of one kind take on average, which the display asks whenever one begins or ends."""
    jobs = PLAN.jobs.get(rule, [])
    return 0.0 if rule in TARGETS else ESTIMATES.expected_seconds(rule, jobs)


# Rules that ask for the files of others
TARGETS = ["all", "bundle", "tensorboard", "mlflow", "wandb", "predictions"]
# What our rules are called here: as a module of another workflow, which has rules of its own
OUR_RULES = {
    workflow.modifier.modify_rulename(name): VARIANTS.get(name, name)
    for name in [*COSTS, *TARGETS, *VARIANTS]
}
if len(OUR_RULES) == 1:  # `use rule train from cloudseg as mine` calls them all alike
    OUR_RULES = {}
# An encoder that all share tells nothing about a job
terminal.register(
    expected_seconds,
    PLAN.sheet.constant_columns & {"encoder"},
    OUR_RULES,
)

if workflow.is_main_process:
    try:
        # Here it takes no lock, and no file has been touched
        if workflow.main_snakefile == str(HOME / "Snakefile") and is_status(
            typed_targets()
        ):
            print(status_page(read_status(PLAN, DURATIONS, LOGS), DURATIONS))
            remove_call_logs(workflow.logger_manager.get_logfile())
            raise SystemExit(0)
        notices.refuse_targets(PLAN, typed_targets())
        notices.refuse_values(PLAN)
    except ValueError as error:
        raise WorkflowError(str(error)) from None

# Snakemake removes what a rule will make, and another workflow may have moved <results> onto a folder of the user's.
if PLAN.dataset.is_made:
    try:
        refuse_foreign_images(Path(workflow.pathvars.apply(PLAN.dataset.raw)))
    except ValueError as error:
        raise WorkflowError(str(error)) from None

if workflow.is_main_process:
    warned = notices.warnings(PLAN) + notices.replaced_trainings(PLAN, str(RESULTS))
    if JOBS_RUN_HERE:
        # Jobs that run here share this machine's memory, as its cores; --resources mem_mb=... says otherwise.
        if "mem_mb" not in workflow.global_resources:
            workflow.register_resource("mem_mb", machine_megabytes())
        warned += notices.too_large_trainings(
            PLAN, ESTIMATES, workflow.global_resources["mem_mb"].value
        )
    for line in warned:
        logger.warning(line)
    if not workflow.output_settings.dryrun:
        retries.forget(LOGS, RUNS)


wildcard_constraints:
    **PLAN.wildcards,


def excluded(file):
    """Return the user's list of images to leave out as an input, if the config has one: what is in it decides."""
    return {"exclude": ancient(file)} if PLAN.config.dataset.exclude else {}


def outputs_of(jobs):
    """Return the outputs of each job, given by rule and wildcards."""
    return [
        expand(getattr(rules, rule).output, **job)
        for rule, each in jobs.items()
        for job in each
    ]


def everything(wildcards):
    """Return every output of the plan: `all` asks for what lies in between, too, so that what is lost is made again.

    A report shows what is there. Snakemake refuses one of a file that is not, so then `all` asks for the jobs alone
    whose outputs all are, and for those of them that one runs by name, too.
    """
    made = outputs_of(PLAN.jobs)
    if asks_for_report():
        jobs = made + outputs_of(PLAN.on_demand)
        made = [
            paths
            for paths in jobs
            if all(Path(workflow.pathvars.apply(str(path))).exists() for path in paths)
        ]
    return [path for paths in made for path in paths]


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
    roots = [PLAN.final_submissions.get(name) for name in ("root", "root_provenance")]
    return [path for path in everything(wildcards) if path not in roots]


def hours_to_come():
    """Return how long the jobs that are to be made will take."""
    jobs = [
        (OUR_RULES.get(job.rule.name, job.rule.name), job.wildcards_dict)
        for job in workflow.dag.needrun_jobs()
    ]
    cores = workflow.resource_settings.cores  # none where other machines run the jobs
    if ESTIMATES.on_cpu:
        return hours(DURATIONS, jobs, cores and ("cores", cores))
    gpus = workflow.global_resources.get("gpu")
    return hours(DURATIONS, jobs, gpus and ("gpu", gpus.value))


def digest_of_runs(wildcards):
    """Return a digest of the runs that have finished: no input, which would have the others trained."""
    return digest_of_finished(RESULTS)
