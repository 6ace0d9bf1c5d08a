"""The smoke version of a small experiment with the workflow's own rules, through any profile."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

REPO = Path(__file__).parents[2]
CONFIG = {
    "name": "cluster",
    "dataset": {"source": "path", "root": "images"},
    "submission_size": "70x105",
    "folds": {"count": 2},
    "recipes": {"tiny": {"start": "none", "batch": 4}},
    "experiments": "sheet.tsv",
    "decision": {"threshold": 0.34, "min_size": 20},
    "ensembles": {"all": {"members": "fold >= 0", "checkpoints": ["best", "last"]}},
    "submission": "all",
}


class SmallRun:
    """A folder to run it in.

    Parameters
    ----------
    folder : a new folder.
    images : a folder of images in the contest's layout.
    sheet : how many folds to train with each decoder.
    """

    def __init__(self, folder: Path, images: Path, sheet: Mapping[str, int]):
        self.folder = folder
        self.results = folder / "results/cluster-smoke"
        self.printed = folder / "printed"
        shutil.copytree(images, folder / "images")
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        rows = [f"tu-test_resnet\t{decoder}\t64x96\ttiny\t{folds}" for decoder, folds in sheet.items()]
        (folder / "sheet.tsv").write_text("\n".join(["encoder\tdecoder\tsize\trecipe\tfolds", *rows, ""]))

    @contextlib.contextmanager
    def started(self, profile: str, *words: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen]:
        """Make the submission while the block runs; whatever comes, Snakemake has ended after it."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPO / "Snakefile")]
        command += ["results/cluster-smoke/submission.csv"]
        command += ["--workflow-profile", str(REPO / "profiles" / profile), "--configfile", "config.yaml", *words]
        command += ["--config", "smoke=true", "device=cpu"]
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

    def outcome(self) -> dict[str, bytes]:
        """Return the bytes of the submission and of every checkpoint."""
        paths = [self.results / "submission.csv", *sorted(self.results.glob("runs/**/fold*/*.safetensors"))]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}
