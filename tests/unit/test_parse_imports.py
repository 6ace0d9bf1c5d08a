"""What is imported when a workflow is parsed, and before a job has its devices, takes no second to import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "scripts/cloudseg"
SCRIPT = """
import importlib, json, sys
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
print(json.dumps(sorted(set(json.loads(sys.argv[2])) & set(sys.modules))))
"""


@pytest.mark.parametrize(
    ("folder", "slow"),
    [
        ("config", ["torch", "cv2", "albumentations", "pandas", "jsonschema", "numpy"]),
        ("workflow", ["torch", "cv2", "albumentations", "jsonschema"]),
    ],
)
def test_every_module_of_a_folder_is_imported_without(folder, slow):
    modules = [f"cloudseg.{folder}.{path.stem}" for path in sorted((PACKAGE / folder).glob("*.py"))]
    assert len(modules) > 10
    words = [sys.executable, "-c", SCRIPT, json.dumps(modules), json.dumps(slow)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, json.loads(done.stdout or "0")) == (0, "", [])
