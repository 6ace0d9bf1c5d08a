"""A real Slurm for a test: one node of this machine with two fake GPUs, everything inside one folder.

`Slurm` starts this file as a program, the keeper, which starts the daemons and ends them, and every process of every
job, when its standard input closes. So nothing of a cluster outlives the test, not even a test that was killed.

What each setting is for stands beside it. GPUs are device files that do what /dev/null does: Slurm hands them out and
sets CUDA_VISIBLE_DEVICES like for real ones.
"""

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

PROGRAMS = "munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "setpriv"
SBIN = "/usr/sbin"  # not on the PATH of everybody
GPUS = 2
MARK = "CLOUDSEG_TEST_SLURM"  # in the environment of all that belongs to a cluster; Slurm hands it on to the jobs
PATIENCE = 60  # seconds, for what takes one

CONFIGURATION = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd
# no cgroups: a container may have none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
# the witnesses: what slurmd says of each job, and what each step of it sees
Prolog={folder}/bin/witness-start
TaskProlog={folder}/bin/witness-step
Epilog={folder}/bin/witness-end
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
# squeue shows ended jobs for so long
MinJobAge=3600
KillWait=5
InactiveLimit=0
Waittime=0
ReturnToService=2
PropagateResourceLimits=NONE
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# more processors than there are: the GPUs alone shall be scarce
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=64 RealMemory=256000 Gres=gpu:{gpus}
PartitionName=gpu Nodes=n0 Default=YES MaxTime=08:00:00 DefMemPerCPU=200
"""

# $SLURM_JOB_GPUS of slurmd and $CUDA_VISIBLE_DEVICES of the job are two voices; `-` stands for none.
WITNESS = """#!/bin/sh
echo "{event} $SLURM_JOB_ID ${{{variable}:--}}" >> {folder}/witness
"""

# slurm-jobstep takes all SLURM_* variables, and so SLURM_CONF, from its srun.
SRUN = """#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""


class Job(NamedTuple):
    """A job as Slurm remembers it."""

    number: str
    state: str
    comment: str  # the executor's: rule_NAME_wildcards_...
    minutes: str  # its time limit
    asked: str  # gres


class Event(NamedTuple):
    """What a witness saw."""

    what: str  # start of a job, step of it, end
    number: str
    gpus: str  # numbers with commas between, or `-`


class Slurm:
    """A cluster that is up inside a `with` block.

    Parameters
    ----------
    folder : a new folder with a short path (it holds a socket) on a file system that allows device files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", ""), SBIN])
        # Of whoever submits, so that the jobs inherit it
        own = {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf"), MARK: str(folder)}
        self.environment = clean_environment() | own

    def __enter__(self) -> "Slurm":
        self.keeper = subprocess.Popen(
            [sys.executable, __file__, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the test alone
        )
        try:
            if (said := self.keeper.stdout.readline().strip()) != "ready":
                raise RuntimeError(f"Slurm did not start: {said}; its logs are in {self.folder}/log")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.keeper.stdin.close()
        self.keeper.wait(2 * PATIENCE)
        self.keeper.stdout.close()

    def ask(self, *words: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout

    def jobs(self) -> list[Job]:
        """Return all jobs, those that have ended too, in the order of their numbers."""
        lines = self.ask("squeue", "-h", "-t", "all", "-o", "%i|%T|%k|%l|%b").splitlines()
        return sorted((Job(*line.split("|")) for line in lines), key=lambda job: int(job.number))

    def events(self) -> list[Event]:
        """Return what the witnesses wrote, in the order in which it happened."""
        return [Event(*line.split()) for line in (self.folder / "witness").read_text().splitlines()]


def clean_environment() -> dict[str, str]:
    """Return an environment without what configures Snakemake, a scheduler or devices."""
    prefixes = "SNAKEMAKE_", "SLURM_", "SBATCH_", "SRUN_", "CUDA_"
    return {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}


def why_not() -> str:
    """Return why no Slurm can be started here; empty when it can."""
    path = os.pathsep.join([os.environ.get("PATH", ""), SBIN])
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return f"no {', '.join(absent)}: install the packages of tests/apt.txt"
    return "" if os.geteuid() == 0 else "starting Slurm's daemons and making device files takes root"


def processes(marked: Path) -> list[int]:
    """Return the ids of all processes of the cluster in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{MARK}={marked}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


# The keeper


def keep(folder: Path) -> None:
    """Start the daemons, say so, and end them when standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("SIGTERM"))
    environment = Slurm(folder).environment
    daemons = []
    try:
        write_files(folder)
        for command, ready in commands(folder):
            # Their parent may be killed: then they shall not stay.
            command = ["setpriv", "--pdeathsig", "KILL", *command]
            with (folder / "log/daemons").open("a") as log:
                daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            daemons.append(daemon)
            wait_until(lambda daemon=daemon, ready=ready: is_ready(daemon, ready, environment), " ".join(command))
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        stop(folder, daemons, environment)


def commands(folder: Path) -> list[tuple[list[str], list[str]]]:
    """Return each daemon's command, and the command that tells that it is up."""
    munge = folder / "munge"
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    options = [f"--{option}={munge / file}" for option, file in files.items()]
    configuration = str(folder / "slurm.conf")
    return [
        (["munged", "--foreground", "--force", "--num-threads=2", *options], ["test", "-S", str(munge / "socket")]),
        (["slurmctld", "-D", "-f", configuration], ["scontrol", "ping"]),
        (["slurmd", "-D", "-N", "n0", "-f", configuration], ["sinfo", "-h", "-o", "%T"]),
    ]


def write_files(folder: Path) -> None:
    """Write the configuration, Munge's key, the fake GPUs and the scripts that Slurm calls."""
    for name in ("log", "state", "spool", "bin", "dev", "munge"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o711)
    (folder / "witness").touch()
    values = {"folder": folder, "host": socket.gethostname().partition(".")[0], "gpus": GPUS}
    ports = free_ports(2)
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values, controller_port=ports[0], node_port=ports[1]))
    (folder / "gres.conf").write_text(f"NodeName=n0 Name=gpu File={folder}/dev/gpu[0-{GPUS - 1}]\n")
    for number in range(GPUS):
        os.mknod(folder / f"dev/gpu{number}", 0o20666, os.makedev(1, 3))
    (folder / "munge/key").touch(0o600)
    (folder / "munge/key").write_bytes(secrets.token_bytes(1024))
    scripts = {
        "witness-start": WITNESS.format(folder=folder, event="start", variable="SLURM_JOB_GPUS"),
        "witness-step": WITNESS.format(folder=folder, event="step", variable="CUDA_VISIBLE_DEVICES"),
        "witness-end": WITNESS.format(folder=folder, event="end", variable="SLURM_JOB_GPUS"),
        "srun": SRUN.format(folder=folder, srun=shutil.which("srun")),
    }
    for name, text in scripts.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def is_ready(daemon: subprocess.Popen, question: list[str], environment: Mapping[str, str]) -> bool:
    """Ask whether a daemon is up; raise RuntimeError if it is gone."""
    if daemon.poll() is not None:
        raise RuntimeError(f"{' '.join(daemon.args)} ended with {daemon.returncode}")
    answer = subprocess.run(question, env=environment, capture_output=True, text=True, check=False)
    return answer.returncode == 0 and (question[0] != "sinfo" or answer.stdout.strip() == "idle")


def stop(folder: Path, daemons: list[subprocess.Popen], environment: Mapping[str, str]) -> None:
    """Cancel all jobs, end the daemons, and kill whatever is left of the cluster."""

    def ask(*words: str) -> str:
        try:
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=10)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout

    if len(daemons) == len(commands(folder)):
        ask("scancel", "--user=root")
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not ask("squeue", "-h").strip(), "the end of all jobs", seconds=20)
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    while left := processes(folder):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def wait_until(happened: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Ask again and again whether something has happened; raise TimeoutError when it takes too long."""
    end = time.monotonic() + seconds
    for pause in itertools.chain([0.02] * 20, itertools.repeat(0.2)):
        if happened():
            return
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: nothing in {seconds} seconds")
        time.sleep(pause)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
