"""Plans of the demo's config, changed."""

import copy
from pathlib import Path

import yaml

from cloudseg.workflow.plan import Plan

REPO = Path(__file__).parents[3]
DEMO = yaml.safe_load((REPO / "config/config.yaml").read_text())
SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\tnote\n"
ROW = "tu-test_resnet\tfpn\t64x96\tquick\t2\t\n"


def plan(change=None, sheet=None, folder=None):
    """A plan of the demo config with `change` applied, and its sheet replaced."""
    config = copy.deepcopy(DEMO)
    if sheet is not None:
        (folder / "sheet.tsv").write_text(sheet)
        config["experiments"] = str(folder / "sheet.tsv")
        config["ensembles"] = {"all": {"members": "fold >= 0"}}
    if change:
        change(config)
    return Plan(config, REPO)


def quick(plan):
    return plan.run("tu-tf_efficientnet_lite0", "fpn", "96x144", "quick")


def setting(path, value):
    def change(config):
        *parents, key = path.split(".")
        for parent in parents:
            config = config.setdefault(parent, {})
        config[key] = value

    return change
