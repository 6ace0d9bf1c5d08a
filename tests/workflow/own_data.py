"""A config and a sheet for a small data set of one's own, which trains in seconds."""

import shutil

import yaml

CONFIG = {
    "name": "tiny",
    "dataset": {"source": "path", "root": "images"},
    "submission_size": "210x315",
    "folds": {"count": 2},
    "recipes": {"tiny": {"start": "none", "epochs": 4, "batch": 4, "tta": [{"view": "identity"}, {"view": "both"}]}},
    "experiments": "sheet.tsv",
    "decision": {"threshold": 0.3, "min_size": 20},
    "min_sizes": [0, 50, 200],
    "ensembles": {"all": {"members": "fold >= 0", "checkpoints": ["best", "last"], "decision": {"how": "tune"}}},
    "submission": "all",
}
SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\ntu-test_resnet\tfpn\t64x96\ttiny\t2\n"


def settle(folder, images):
    """Put the images, the config and the sheet into a working directory."""
    shutil.copytree(images, folder / "images")
    write_config(folder, CONFIG)
    (folder / "sheet.tsv").write_text(SHEET)


def write_config(folder, config):
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
