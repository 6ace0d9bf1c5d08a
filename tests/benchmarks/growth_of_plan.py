"""Measure how the plan grows with the trainings of a sheet: is it linear, and can every job of a cluster pay for it?

    python tests/benchmarks/growth_of_plan.py [--trainings 100 1000 10000]

Three things are measured in processes of their own, in seconds of CPU and in MiB at the most: `Plan()` with its list of
jobs, `snakemake -n`, and the start of one job where another machine runs it, which reads the Snakefile anew up to the
script. That `-n` lists every training, and the start one, is asserted first. The bars: ten times the trainings take at
most ten times the seconds beyond those of a plan of one experiment, give or take a quarter and 0.3 s, and the start of
a job takes at most 1 s more at the largest number of trainings than at the smallest.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).parents[2]
ENCODERS = ["resnet18", "resnet34", "resnet50", "resnet101", *(f"efficientnet-b{number}" for number in range(6))]
DECODERS = ["unet", "fpn", "linknet", "pspnet"]
SIZES = ["64x96", "96x144", "320x480", "x4", "x5"]
RECIPES = {f"epochs{number}": {"epochs": number, "batch": 4, "start": "none"} for number in range(10, 20)}
FOLDS = 5
ROOM = 1.25
NOISE = 0.3  # seconds
MOST_FOR_A_JOB = 1.0  # seconds
PLANNED = """
import json, resource, sys, time
from cloudseg.workflow.plan import Plan
begun = time.process_time()
jobs = Plan(json.load(open(sys.argv[1])), ".").jobs
print(json.dumps({"seconds": time.process_time() - begun, "jobs": sum(map(len, jobs.values()))}))
"""


class Used(NamedTuple):
    """What a process took."""

    seconds: float
    mebibytes: float


class Row(NamedTuple):
    """What plans of one number of trainings take."""

    trainings: int
    jobs: int
    plan: Used
    dry_run: Used
    start: Used


def main(words: Sequence[str] | None = None) -> bool:
    """Print the table and what the bars say of it; return whether they are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, nargs="+", default=[100, 1_000, 10_000])
    numbers = sorted(parser.parse_args(words).trainings)
    least = measure(FOLDS)
    print("| trainings | jobs | Plan(): s | MiB | snakemake -n: s | MiB | start of a job: s | MiB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows = []
    for number in numbers:
        rows.append(row := measure(number))
        cells = [cell for used in row[2:] for cell in (f"{used.seconds:.2f}", f"{used.mebibytes:.0f}")]
        print(f"| {row.trainings:,} | {row.jobs:,} | {' | '.join(cells)} |", flush=True)
    lines = [*too_steep(least, rows), *slow_start(rows)]
    print("\n".join(lines) or "all of it is linear, and a job starts in time")
    return not lines


def measure(trainings: int) -> Row:
    """Return what plans of so many trainings take."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_config(folder, trainings // FOLDS)
        plan, found = run([sys.executable, "-c", PLANNED, "config.json"], folder)
        inner = json.loads(found)
        dry_run, listed = run(snakemake("--dry-run", "--workflow-profile", str(REPO / "profiles/default")), folder)
        assert count(listed, "train") == trainings // FOLDS * FOLDS, listed[-2000:]
        start, started = run(snakemake(*job_words(folder), "--dry-run"), folder)
        assert count(started, "train") == count(started, "total") == 1, started[-2000:]
    return Row(trainings, inner["jobs"], Used(inner["seconds"], plan.mebibytes), dry_run, start)


def write_config(folder: Path, experiments: int) -> None:
    """Write a config, and a sheet of so many experiments, spread evenly over all that there may be."""
    known = list(itertools.product(ENCODERS, DECODERS, SIZES, RECIPES))
    if experiments > len(known):
        raise SystemExit(f"--trainings: expected at most {FOLDS * len(known):,}, got {FOLDS * experiments:,}")
    chosen = [known[number * len(known) // experiments] for number in range(experiments)]
    lines = ["\t".join(["encoder", "decoder", "size", "recipe", "folds"])]
    lines += ["\t".join([*experiment, str(FOLDS)]) for experiment in chosen]
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    config = {
        "name": "grown",
        "dataset": {"source": "demo"},
        "folds": {"count": FOLDS},
        "recipes": RECIPES,
        "experiments": "sheet.tsv",
        "decision": {"threshold": 0.5, "min_size": 5000},
        "ensembles": {"one": {"members": f"encoder == '{chosen[0][0]}' and recipe == '{chosen[0][3]}'"}},
        "submission": "one",
    }
    (folder / "config.json").write_text(json.dumps(config))


def snakemake(*words: str) -> list[str]:
    """Return a call of the workflow with the config of this folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPO / "Snakefile"), *words]
    return [*command, "--configfile", "config.json"]


def job_words(folder: Path) -> list[str]:
    """Return what an executor adds to the call that a machine of a cluster gets, of the sheet's first training."""
    encoder, decoder, size, recipe, _ = (folder / "sheet.tsv").read_text().splitlines()[1].split("\t")
    job = f"train:encoder={encoder},decoder={decoder},size={size},recipe={recipe},fold=0"
    words = ["--target-jobs", job, "--allowed-rules", "train", "--cores", "all", "--force", "--nolock", "--no-hooks"]
    words += ["--target-files-omit-workdir-adjustment", "--max-inventory-time", "0", "--ignore-incomplete"]
    return [*words, "--workflow-profile", "none", "--mode", "remote"]


def run(command: list[str], folder: Path) -> tuple[Used, str]:
    """Run a command in a folder; return what it took, and what it printed."""
    environment = os.environ | {"PYTHONPATH": str(REPO / "scripts")}
    with (folder / "printed").open("w+") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        file.seek(0)
        printed = file.read()
    assert process.returncode == 0, printed[-2000:]
    return Used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), printed


def count(printed: str, rule: str) -> int:
    """Return how many jobs of a rule the table of a dry run counts."""
    found = re.search(rf"^{rule} +(\d+)$", printed, flags=re.MULTILINE)
    return int(found[1]) if found else 0


def too_steep(least: Row, rows: Sequence[Row]) -> list[str]:
    """Say what takes more than in proportion from one number of trainings to the next."""
    lines = []
    for name in ("plan", "dry_run", "start"):
        for before, after in itertools.pairwise(rows):
            grown = [getattr(row, name).seconds - getattr(least, name).seconds for row in (before, after)]
            most = ROOM * max(grown[0], 0.0) * after.trainings / before.trainings + NOISE
            if grown[1] > most:
                lines.append(
                    f"{name}: {before.trainings:,} to {after.trainings:,} trainings take {grown[0]:.2f} and "
                    f"{grown[1]:.2f} s beyond those of one experiment; expected at most {most:.2f}"
                )
    return lines


def slow_start(rows: Sequence[Row]) -> list[str]:
    """Say whether the plan of many trainings holds up the start of a job."""
    more = rows[-1].start.seconds - rows[0].start.seconds
    many, few = rows[-1].trainings, rows[0].trainings
    found = f"start: {more:.2f} s more at {many:,} trainings than at {few:,}; expected at most {MOST_FOR_A_JOB}"
    return [found] if more > MOST_FOR_A_JOB else []


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
