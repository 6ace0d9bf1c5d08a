"""Measure what the lease adds to a job: to take a free device of four and to give it back.

    python tests/benchmarks/lease.py [--rounds 300] [--starts 15]

In one process, `--rounds` times: with all devices free, with half of them held by other processes, and for a
job that shares its device with another. As whole processes, in turns: a bare Python, one that imports what every
job does (`cloudseg`), one that imports the lease, too, and one with a lease. Medians by the clock; the bar is 50 ms
for what a lease adds to the second.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cloudseg.runtime.gpus.lease import lease
from cloudseg.runtime.gpus.visible import visible_devices

MOST = 0.050  # seconds a job
POOL = ["a", "b", "c", "d"]
LEASE = """
import sys
from cloudseg.runtime.gpus.lease import lease
with lease(1, folder=sys.argv[1]):
    pass
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--starts", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        took = {f"names of this machine's {len(visible_devices())} devices": times(visible_devices, arguments.rounds)}
        took |= within_a_process(Path(folder, "locks"), arguments.rounds)
        whole = whole_processes(Path(folder, "locks"), arguments.starts)
    for name, seconds in (took | whole).items():
        print(f"{name:45} {statistics.median(seconds) * 1e3:8.2f} ms, slowest {max(seconds) * 1e3:8.2f} ms")
    bare, started, imported, leased = (statistics.median(seconds) for seconds in whole.values())
    passed = leased - started <= MOST
    print(
        f"a lease adds {(leased - started) * 1e3:.1f} ms to a job ({(leased - bare) * 1e3:.1f} to a bare Python), of "
        f"which its import {(imported - started) * 1e3:.1f} ms; at most {MOST * 1e3:.0f} ms: "
        f"{'reached' if passed else 'MISSED'}"
    )
    sys.exit(0 if passed else 1)


def within_a_process(folder: Path, rounds: int) -> dict[str, list[float]]:
    def take(jobs_per_device: int = 1) -> None:
        with lease(1, jobs_per_device=jobs_per_device, pool=POOL, folder=folder):
            pass

    took = {}
    with Path(os.devnull).open("w") as null, contextlib.redirect_stdout(null):
        take()  # makes the files
        took["four devices free"] = times(take, rounds)
        with lease(2, pool=POOL, folder=folder):
            took["two of four held"] = times(take, rounds)
        with lease(4, jobs_per_device=2, pool=POOL, folder=folder):
            took["one job on each of four, two may share"] = times(lambda: take(2), rounds)
    return took


def whole_processes(folder: Path, starts: int) -> dict[str, list[float]]:
    ways = {
        "a bare Python": "pass",
        "a process that imports cloudseg": "import cloudseg",
        "a process that imports the lease": "import cloudseg.runtime.gpus.lease",
        "a process with a lease": LEASE,
    }
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(POOL)}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(starts):
        for name, code in ways.items():
            command = [sys.executable, "-c", code, str(folder)]

            def run(command: list[str] = command) -> None:
                subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)

            took[name] += times(run, 1)
    return took


def times(action: Callable[[], object], rounds: int) -> list[float]:
    """Return the seconds of each of ``rounds`` runs of ``action``."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()
