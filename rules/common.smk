# The plan of the whole run, and what every rule file shares.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

HOME = Path(str(workflow.current_basedir)).parent
# Before an installed copy: jobs and parsing must use the code beside this Snakefile.
sys.path.insert(0, str(HOME / "scripts"))

from cloudseg.experiments import CODE, Plan
from cloudseg.processes import import_from

import_from(HOME / "scripts")

try:
    PLAN = Plan(config, HOME)
except ValueError as error:
    raise WorkflowError(str(error)) from None


pathvars:
    **PLAN.folders,


wildcard_constraints:
    **PLAN.wildcards,
