"""The whole workflow on real images of the contest, where they are at hand."""

import csv
import os
from pathlib import Path

import pytest
import yaml

DATA = os.environ.get("CLOUDSEG_REAL_DATA")


@pytest.mark.skipif(DATA is None, reason="CLOUDSEG_REAL_DATA does not name the folder of understanding-clouds-mini")
def test_real_images_to_submission(workflow):
    root = Path(DATA).resolve() / "understanding-clouds-mini"
    config = {
        "name": "real",
        "dataset": {"source": "path", "root": str(root)},
        "submission_size": "350x525",
        "folds": {"count": 2},
        "recipes": {"brief": {"epochs": 3, "batch": 2}},
        "experiments": "sheet.tsv",
        "ensembles": {"all": {"members": "fold >= 0", "checkpoints": ["best", "last"]}},
        "decision": {"threshold": 0.4, "min_size": 1000},
        "submission": "all",
    }
    (workflow.folder / "config.yaml").write_text(yaml.safe_dump(config))
    row = "tu-tf_efficientnet_lite0\tfpn\t{}\tbrief\t2\n"
    (workflow.folder / "sheet.tsv").write_text(
        "encoder\tdecoder\tsize\trecipe\tfolds\n" + row.format("96x144") + row.format("x10")
    )
    workflow.run("--configfile", "config.yaml")
    with (workflow.folder / "submission.csv").open(newline="") as file:
        rows = [row[0] for row in csv.reader(file)]
    with (root / "sample_submission.csv").open(newline="") as file:
        assert rows == [row[0] for row in csv.reader(file)]
