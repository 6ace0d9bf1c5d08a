"""Snakemake and its jobs are killed at random moments; what is there in the end is what an undisturbed run leaves.

CLOUDSEG_KILLS=100 python -m pytest tests/workflow/test_kills.py -s
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
from own_data import contents, settle

KILLS = int(os.environ.get("CLOUDSEG_KILLS", "12"))
SEED = int(os.environ.get("CLOUDSEG_SEED", "2019"))
LONGEST = 8  # seconds of a run before it is killed: some jobs of a run of about half a minute


def results(folder):
    """Digest what must be the same: checkpoints, stores, decisions, the CSV, and histories without times."""
    histories = {
        str(path.relative_to(folder)): pd.read_csv(path, sep="\t").drop(columns="seconds").to_dict("list")
        for path in (folder / "results").rglob("history.tsv")
    }
    return contents(folder) | histories


def command(repo, *words):
    plain = [sys.executable, "-m", "snakemake", "--snakefile", str(repo / "Snakefile"), *words]
    return [*plain, "--workflow-profile", str(repo / "profiles/default"), "--configfile", "config.yaml"]


def start(workflow, repo):
    with (workflow.folder / "printed.log").open("a") as log:
        return subprocess.Popen(command(repo, "--cores", "2"), cwd=workflow.folder, stdout=log, stderr=log)


def jobs_of(process):
    """Return the job processes of a running Snakemake."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if any("/scripts/tmp" in word for word in child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def kill_something(process, draw):
    """Kill Snakemake, or one of its jobs; return which."""
    jobs = jobs_of(process)
    if jobs and draw.random() < 0.5:
        victim = draw.choice(jobs)
        name = Path(victim.cmdline()[-1]).name.split(".", 1)[1]
        victim.send_signal(signal.SIGKILL)
        process.wait(120)  # Snakemake ends the others, says what failed, and leaves
        return name
    process.kill()
    process.wait(60)
    _, alive = psutil.wait_procs(jobs, timeout=20)
    assert not alive, "a job outlived its Snakemake"
    return "snakemake"


SLEEPER = """
import sys
import time

sys.path.insert(0, {scripts!r})
from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        print("begun", flush=True)
        time.sleep(600)
"""


def test_a_job_ends_with_its_snakemake(tmp_path, repo):
    """The random kills find only jobs that take longer than their patience."""
    (tmp_path / "Snakefile").write_text('rule sleep:\n    log: "log"\n    script: "sleep.py"\n')
    (tmp_path / "sleep.py").write_text(SLEEPER.format(scripts=str(repo / "scripts")))
    words = [sys.executable, "-m", "snakemake", "--cores", "1"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "log").is_file() or "begun" not in (tmp_path / "log").read_text():
            assert process.poll() is None
            time.sleep(0.1)
        (job,) = jobs_of(process)
        process.kill()
    _, alive = psutil.wait_procs([job], timeout=20)
    assert not alive


def test_random_kills_change_nothing(make_workflow, tmp_path, repo, small_images, finished_run):
    wanted = results(finished_run.folder)

    draw = random.Random(SEED)
    killed, recovered = [], 0
    while len(killed) < KILLS:
        workflow = make_workflow(tmp_path / f"killed{recovered}")
        workflow.folder.mkdir()
        settle(workflow.folder, small_images)
        finished = False
        while not finished:
            process = start(workflow, repo)
            try:
                finished = process.wait(draw.uniform(1, LONGEST) if len(killed) < KILLS else 600) == 0
                assert finished, (workflow.folder / "printed.log").read_text()[-3000:]
            except subprocess.TimeoutExpired:
                killed.append(kill_something(process, draw))
                subprocess.run(command(repo, "--unlock"), cwd=workflow.folder, check=True, capture_output=True)
        found = results(workflow.folder)
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if found[name] != wanted[name]] == []
        left = [path for path in (workflow.folder / "results").rglob("*") if path.name.endswith(".part")]
        assert left == []
        recovered += 1
    victims = ", ".join(sorted(set(killed)))
    print(f"seed {SEED}: {len(killed)} kills ({victims}), runs finished: {recovered}, 0 differences")
