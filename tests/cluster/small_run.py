"""A small experiment with the workflow's own rules, through any profile."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from own_data import CONFIG, sheet_of, write_config

REPO = Path(__file__).parents[2]
# Decided by one threshold, so that some masks are filled whatever the networks learn
FIXED = {"ensembles": {"all": {"members": "fold >= 0", "checkpoints": ["best", "last"]}}}


def write_experiment(folder: Path, folds: Mapping[str, int]) -> None:
    """Train other folds, as many as `folds` says for each decoder, in a folder that `own_data.settle` has filled."""
    write_config(folder, CONFIG | FIXED)
    (folder / "sheet.tsv").write_text(sheet_of(folds))


class SmallRun:
    """A run in a folder that `own_data.settle` has filled; whatever an earlier run left there is gone on with."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.results = folder / "results/tiny"
        self.printed = folder / "printed"

    @contextlib.contextmanager
    def started(self, profile: str, *words: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen]:
        """Make the submission while the block runs; whatever comes, Snakemake has ended after it."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPO / "Snakefile"), "submission.csv"]
        command += ["--workflow-profile", str(REPO / "profiles" / profile), "--configfile", "config.yaml", *words]
        command += ["--config", "device=cpu"]
        with self.printed.open("w") as file:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=file, stderr=file, start_new_session=True
            )
            try:
                yield process
            except BaseException:
                process.kill()
                raise
            finally:
                process.wait()
