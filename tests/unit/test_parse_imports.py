"""What is imported when a workflow is parsed, and before a job has its devices, takes no second to import."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PACKAGE = REPO / "scripts/cloudseg"
SCRIPT = """
import importlib, json, sys
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
print(json.dumps(sorted(set(json.loads(sys.argv[2])) & set(sys.modules))))
"""


def imported_of(modules, slow):
    """Return which of some slow packages come with modules of this package."""
    words = [sys.executable, "-c", SCRIPT, json.dumps(modules), json.dumps(slow)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("folder", "slow"),
    [
        ("config", ["torch", "cv2", "albumentations", "pandas", "jsonschema", "numpy"]),
        ("workflow", ["torch", "cv2", "albumentations", "numba", "zarr", "jsonschema"]),
    ],
)
def test_every_module_of_a_folder_is_imported_without(folder, slow):
    modules = [f"cloudseg.{folder}.{path.stem}" for path in sorted((PACKAGE / folder).glob("*.py"))]
    assert len(modules) > 10
    assert imported_of(modules, slow) == []


def test_what_rules_import_comes_without_what_only_jobs_need():
    """Every call of Snakemake waits for it: `-n`, each Slurm job."""
    rules = [REPO / "Snakefile", *(REPO / "rules").glob("*.smk")]
    lines = [line for path in rules for line in path.read_text(encoding="utf-8").splitlines()]
    found = [re.match(r"(?:from|import) (cloudseg[\w.]*)", line) for line in lines]
    modules = sorted({match[1] for match in found if match})
    assert len(modules) > 10
    assert imported_of(modules, ["torch", "cv2", "albumentations", "numba", "zarr", "jsonschema"]) == []
