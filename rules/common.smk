# The plan of the whole run, and what every rule file shares.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

HOME = Path(str(workflow.current_basedir)).parent
# Before an installed copy: jobs and parsing must use the code beside this Snakefile.
sys.path.insert(0, str(HOME / "scripts"))

from cloudseg import retries
from cloudseg.config_files import repeated_keys
from cloudseg.costs import Estimates, machine_megabytes
from cloudseg.dataset.fetch import refuse_foreign_images
from cloudseg.experiments import CODE, Plan
from cloudseg.network.finished import keep_finished
from cloudseg.network.granted import refuse_missing_devices
from cloudseg.processes import import_from
from cloudseg.report.hints import next_commands
from cloudseg.settings import refuse
from cloudseg.targets import target_problems, typed_targets

import_from(HOME / "scripts")

try:
    if workflow.is_main_process:
        refuse(repeated_keys(workflow.configfiles))
    PLAN = Plan(config, HOME)
    if workflow.is_main_process:
        PLAN.refuse_targets(typed_targets())
        PLAN.refuse_values()
except ValueError as error:
    raise WorkflowError(str(error)) from None


if workflow.is_main_process:
    for line in PLAN.warnings():
        logger.warning(line)


ESTIMATES = Estimates(PLAN, runs_here=workflow.local_exec)
# Jobs that run here share this machine's memory, as they share its cores; --resources mem_mb=... says otherwise.
if workflow.is_main_process and workflow.local_exec:
    if "mem_mb" not in workflow.global_resources:
        workflow.register_resource("mem_mb", machine_megabytes())
    for line in ESTIMATES.too_large(workflow.global_resources["mem_mb"].value):
        logger.warning(line)


pathvars:
    **PLAN.folders,


# Snakemake removes what a rule will make, and another workflow may have moved <results> onto a folder of the user's.
if PLAN.makes_images:
    try:
        refuse_foreign_images(Path(workflow.pathvars.apply(PLAN.raw)))
    except ValueError as error:
        raise WorkflowError(str(error)) from None


if workflow.is_main_process:
    if not workflow.dryrun:
        retries.forget(
            *map(Path, map(workflow.pathvars.apply, ("<logs>", "<results>/runs")))
        )
    for line in PLAN.replaced_trainings(workflow.pathvars.apply("<results>")):
        logger.warning(line)


wildcard_constraints:
    **PLAN.wildcards,
