"""A small data set of one's own, and a config for it that trains in seconds."""

import shutil

import pytest
import yaml

CONFIG = {
    "name": "tiny",
    "dataset": {"source": "path", "root": "images"},
    "submission_size": "70x105",
    "folds": {"count": 2},
    "recipes": {"tiny": {"start": "none", "epochs": 2, "batch": 4, "tta": [{"view": "identity"}, {"view": "both"}]}},
    "experiments": "sheet.tsv",
    "decision": {"threshold": 0.3, "min_size": 20},
    "min_sizes": [0, 50, 200],
    "ensembles": {"all": {"members": "fold >= 0", "checkpoints": ["best", "last"], "decision": {"how": "tune"}}},
    "submission": "all",
}
SHEET = "encoder\tdecoder\tsize\trecipe\tfolds\ntu-test_resnet\tfpn\t64x96\ttiny\t2\n"


@pytest.fixture(scope="session")
def small_images(tmp_path_factory):
    """Twelve training and four test scenes of 140x210 pixels, in the contest's layout."""
    from cloudseg.dataset.demo import make_demo

    root = tmp_path_factory.mktemp("small") / "images"
    make_demo(root, train=12, test=4, height=140, width=210, workers=1)
    return root


@pytest.fixture
def own_data(workflow, small_images):
    """A working directory with the small data set, a config and a sheet; run with `*own_data.words`."""
    shutil.copytree(small_images, workflow.folder / "images")
    write_config(workflow.folder, CONFIG)
    (workflow.folder / "sheet.tsv").write_text(SHEET)
    workflow.words = ("--configfile", "config.yaml")
    return workflow


def write_config(folder, config):
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
