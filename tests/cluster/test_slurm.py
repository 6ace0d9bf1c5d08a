"""The workflow through a real Slurm: GPUs are shared, what is cancelled or takes too long is finished."""

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from own_data import contents, settle
from slurm_here import GPUS, Slurm, clean_environment, processes, wait_until, why_not
from small_run import REPO, SmallRun, write_experiment

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

FOLDS = {"fpn": 2, "unet": 1}  # three trainings want two GPUs
START_UP = 600  # seconds, on a busy machine
PLACES = [Path(place) for place in ("/etc/slurm", "/etc/munge", "/run", "/var/lib", "/var/log", "/var/spool")]


class Story:
    """What happened to the run, told by Slurm and its witnesses."""

    def __init__(self, run, slurm, frozen, cancelled):
        self.run, self.cancelled = run, cancelled
        self.frozen, self.limit = frozen  # the number of a job, and its time limit
        self.jobs, self.events = {job.number: job for job in slurm.jobs()}, slurm.events()

    def rule(self, number):
        return re.match(r"rule_([a-z]+)", self.jobs[number].comment)[1]

    def attempts(self, number):
        """Return the states and time limits of the jobs that did the same as one."""
        jobs = [job for job in self.jobs.values() if job.comment == self.jobs[number].comment]
        return [job.state for job in jobs], [minutes(job.minutes) for job in jobs]


@pytest.fixture(scope="module")
def local(tmp_path_factory, finished_run):
    """The same experiment without Slurm: a finished run of its first row, and the other rows."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(finished_run.folder, folder, dirs_exist_ok=True)
    write_experiment(folder, FOLDS)
    return SmallRun(folder)


@pytest.fixture(scope="module")
def story(tmp_path_factory, small_images, local):
    run = SmallRun(tmp_path_factory.mktemp("cluster"))
    settle(run.folder, small_images)
    write_experiment(run.folder, FOLDS)
    before = files(PLACES)
    with Slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        with run.started("slurm", *overrides(), environment=slurm.environment) as snakemake:
            frozen = hold_up(slurm, snakemake, run)
            cancelled = call_off(slurm, snakemake, {frozen[0]})
            with local.started("default", environment=clean_environment()) as reference:
                pass
            assert reference.returncode == 0, local.printed.read_text()
        assert snakemake.returncode == 0, run.printed.read_text()
        story = Story(run, slurm, frozen, cancelled)
    story.left = processes(slurm.folder)
    story.written = files(PLACES) - before
    return story


def overrides():
    """Return what this Slurm and a run on the CPU that wants GPUs need beside the profile."""
    # --set-resources on the command line replaces the profile's
    resources = yaml.safe_load((REPO / "profiles/slurm/config.yaml").read_text())["set-resources"]
    for rule in ("train", "predict"):
        resources[rule] |= {"gpu": 1}  # `device=cpu` asks for none
    pairs = [f"{rule}:{name}={value}" for rule, values in resources.items() for name, value in values.items()]
    accounting = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"]
    return ["--set-resources", *pairs, *accounting]


def hold_up(slurm, snakemake, run):
    """Stop a training after its first epoch and let its job's time end now: it looks like one that is too slow."""
    number, process = training(slurm, snakemake, set())
    (job,) = [job for job in slurm.jobs() if job.number == number]
    state = run_folder(run, job.comment) / "training.state"
    while not state.exists():  # in small steps, so that the next epochs cannot be over as well
        os.kill(process, signal.SIGCONT)
        time.sleep(0.01)
        os.kill(process, signal.SIGSTOP)
    slurm.ask("scontrol", "update", f"JobId={number}", "EndTime=now")
    return number, minutes(job.minutes)


def call_off(slurm, snakemake, others):
    """Cancel the job of a training that runs."""
    number, _ = training(slurm, snakemake, others)
    slurm.ask("scancel", number)
    return number


def training(slurm, snakemake, others):
    """Wait for a training to run; return the number of its job and the id of its process."""
    found = []

    def look():
        assert snakemake.poll() is None, "Snakemake ended before a training began"
        for process in sorted(processes(slurm.folder)):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                text = Path(f"/proc/{process}/environ").read_bytes()
                number = re.search(rb"(?:^|\0)SLURM_JOB_ID=(\d+)", text)
                script = any(word.endswith(b".train.py") for word in words[1:2])  # `python .../tmpX.train.py`
                if script and number and number[1].decode() not in others:
                    found.append((number[1].decode(), process))
        return found

    wait_until(look, "a training's process", seconds=START_UP)
    return found[0]


def run_folder(run, comment):
    decoder, fold = re.search(r"run-tu-test_resnet-(\w+)-64x96-tiny-(\d)_", comment).groups()
    return run.results / f"runs/tu-test_resnet/{decoder}/64x96/tiny/fold{fold}"


def files(places):
    """Return what of Slurm's and Munge's lies in folders of the system."""
    found = {path for place in places for path in place.rglob("*")}
    return {path for path in found if "slurm" in str(path) or "munge" in str(path)}


def minutes(text):
    """Return the minutes of a time limit that Slurm writes as 30:00 or 1:00:00."""
    seconds = 0
    for part in text.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds / 60


def test_the_submission_is_the_local_one_byte_for_byte(story, local):
    made, wanted = contents(story.run.folder), contents(local.folder)
    assert [name for name in made if made[name] != wanted[name]] == []
    checkpoints = [name for name in made if re.search(r"/fold\d/(best|last)\.safetensors$", name)]
    assert len(checkpoints) == 2 * sum(FOLDS.values())
    with (story.run.folder / "submission.csv").open(newline="") as file:
        filled = [bool(row["EncodedPixels"]) for row in csv.DictReader(file)]
    assert any(filled)  # else the same would mean nothing


def test_jobs_hold_all_gpus_and_each_another(story):
    holds, most = {}, 0
    for event in story.events:
        if event.what == "start" and event.gpus != "-":
            assert event.gpus.isdigit(), f"job {event.number} holds {event.gpus}"
            assert event.gpus not in holds.values(), f"job {event.number} shares {event.gpus}: {holds}"
            holds[event.number] = event.gpus
            most = max(most, len(holds))
        elif event.what == "end":
            holds.pop(event.number, None)
    assert not holds
    assert most == GPUS


def test_jobs_see_the_gpu_that_slurm_gave_them_and_no_other(story):
    given, seen = {}, defaultdict(set)
    for event in story.events:
        if event.what == "start":
            given[event.number] = event.gpus
        elif event.what == "step":
            seen[event.number].add(event.gpus)
    assert seen == {number: {gpus} for number, gpus in given.items()}
    wants = {number for number in given if story.rule(number) in ("run", "predict")}
    assert {number for number, gpus in given.items() if gpus != "-"} == wants


def test_what_runs_where(story):
    count = defaultdict(int)
    for job in story.jobs.values():
        count[story.rule(job.number)] += job.state == "COMPLETED"
    runs = sum(FOLDS.values())
    # no weights, no submission: these run where one types; a run predicts its own fold in the job of its training
    twice = {"check": 2, "pixels": 2}  # of train and of test
    assert count == {"folds": 1, "truth": 1, "run": runs, "predict": runs, "ensemble": 1} | twice


def test_a_cancelled_training_is_done_again(story):
    states, _ = story.attempts(story.cancelled)
    assert states == ["CANCELLED", "COMPLETED"]


def test_a_training_over_its_time_gets_more_and_goes_on_where_it_was(story):
    states, limits = story.attempts(story.frozen)
    assert states == ["TIMEOUT", "COMPLETED"]
    assert limits[1] == 2 * story.limit
    log = run_folder(story.run, story.jobs[story.frozen].comment) / "train.log"
    assert "going on after epoch" in log.read_text()


def test_slurms_logs_of_the_jobs_that_failed_are_kept(story):
    logs = {path.stem for path in (story.run.folder / ".snakemake/slurm_logs").rglob("*.log")}
    assert logs == {story.frozen, story.cancelled}


def test_nothing_is_left_and_nothing_written_elsewhere(story):
    assert story.left == []
    assert not story.written


HOLDER = """
import signal, sys, time
from pathlib import Path
from slurm_here import clean_environment, Slurm
signal.signal(signal.SIGINT, signal.default_int_handler)  # which what a shell starts in the background ignores
with Slurm(Path(sys.argv[1])) as slurm:
    slurm.ask("sbatch", "--output", sys.argv[1] + "/job", "--wrap", "kill -STOP $$")
    while not any(event.what == "step" for event in slurm.events()):
        time.sleep(0.1)
    print("runs", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_cluster_ends_with_the_test_that_started_it(tmp_path, how):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"runs\n"
        assert len(processes(tmp_path)) > 3  # the daemons, and a job that stopped itself
        holder.send_signal(how)
    wait_until(lambda: processes(tmp_path) == [], "the end of the cluster")
