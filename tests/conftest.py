"""Shared by all tests: the workflow as a user runs it, and the minutes that each part of the tests took."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

REPO = Path(__file__).parents[1]


class Workflow:
    """Snakemake on this checkout, in a working directory of its own."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(self, *words: str, check: bool = True, environment: dict[str, str] | None = None) -> str:
        """Run ``snakemake WORDS`` and return all that it printed."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPO / "Snakefile"), "--directory"]
        command += [str(self.folder), "--workflow-profile", str(REPO / "profiles/default"), *words]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("KAGGLE_", "SNAKEMAKE_"))}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=clean | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout
        assert check or done.returncode != 0, done.stdout
        return done.stdout

    def log(self) -> str:
        """Return Snakemake's own log of the last call, which names every job that was started, with its files."""
        return max((self.folder / ".snakemake/log").glob("*.log")).read_text()

    def planned(self, *words: str) -> dict[str, int]:
        """Return how many jobs of each rule a dry run plans."""
        return self.counted(self.run("-n", *words))

    @staticmethod
    def counted(printed: str) -> dict[str, int]:
        """Read the table of job counts that a dry run prints; empty when there is nothing to do."""
        table = printed.partition("Job stats:")[2].partition("total")[0]
        return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


@pytest.fixture
def workflow(tmp_path):
    return Workflow(tmp_path)


@pytest.fixture(scope="session")
def make_workflow():
    return Workflow


@pytest.fixture(scope="session")
def repo():
    return REPO


@pytest.fixture(scope="session")
def small_images(tmp_path_factory):
    """Twelve training and four test scenes of 140x210 pixels, in the contest's layout."""
    from cloudseg.dataset.demo import make_demo

    root = tmp_path_factory.mktemp("small") / "images"
    make_demo(root, train=12, test=4, height=140, width=210, workers=1)
    return root


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, make_workflow, small_images):
    """The folder of a whole run on these images; to be copied with its file times before anything in it changes."""
    from own_data import settle

    # With `pytest -n 2`, what has been made in one process is there for the other
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    workflow = make_workflow(folder / "finished")
    printed = folder / "finished.txt"
    with FileLock(folder / "finished.lock"):
        if not printed.is_file():
            workflow.folder.mkdir()
            settle(workflow.folder, small_images)
            printed.write_text(workflow.run("--cores", "2", "--configfile", "config.yaml"))
    workflow.printed = printed.read_text()
    return workflow


@pytest.fixture(autouse=True)
def denormal_numbers():
    """Training flushes denormal numbers to zero for the whole thread, which hypothesis cannot live with."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


# Minutes that the tests of each part may take, added up, and its files; all others are "lint and unit".
BUDGET = {
    "set-up": 3,
    "lint and unit": 8,
    "smoke and bad input": 5,
    "diary subset": 4,
    "winners subset": 4,
    "ways to train": 4,
    "Slurm": 4,
    "kills and damage": 5,
    "submissions and status": 2,
    "decisions": 2,
    "splits": 3,
    "labels and bundles": 3,
}
PARTS = {
    "Slurm": ["test_slurm.py", "test_generic.py"],
    "diary subset": ["test_diary.py"],
    "winners subset": ["test_winners.py"],
    "ways to train": ["test_trainings.py"],
    "kills and damage": ["test_damage.py", "test_kills.py", "test_two_ranks.py"],
    "submissions and status": ["test_provenance.py", "test_sanity_rule.py", "test_status_call.py"],
    "decisions": ["test_decisions.py", "test_decide_blend.py"],
    "splits": ["test_split_rule.py"],
    "labels and bundles": ["test_label_forms.py", "test_bundle.py"],
    "smoke and bad input": [
        *("test_own_data.py", "test_smoke.py", "test_bad_input.py", "test_contest_folder.py", "test_module.py"),
        *("test_real_data.py", "test_report_page.py"),
    ],
}
STARTED = time.time()


def part_of(file: Path) -> str:
    """Return the part that a test file belongs to."""
    whole_runs = {"workflow", "cluster"} & set(file.parts)
    return next((part for part, names in PARTS.items() if whole_runs and file.name in names), "lint and unit")


def pytest_collection_modifyitems(items):
    """Begin with the parts that take longest, so that none is last."""
    order = [*PARTS, "lint and unit"]
    items.sort(key=lambda item: order.index(part_of(item.path)))


def pytest_terminal_summary(terminalreporter):
    """Print the minutes of each part beside its budget; `.ci/run` says when the set-up began."""
    seconds = dict.fromkeys(BUDGET, 0.0)
    seconds["set-up"] = STARTED - float(os.environ.get("CI_STARTED", STARTED))
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                seconds[part_of(Path(report.nodeid.split("::")[0]))] += report.duration
    terminalreporter.section("minutes, of all processes together")
    for part, spent in seconds.items():
        terminalreporter.write_line(f"{spent / 60:6.1f} of {BUDGET[part]}  {part}")
