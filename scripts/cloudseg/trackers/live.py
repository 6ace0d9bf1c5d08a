"""Follow the trainings of a folder of results in TensorBoard while they run.

    python -m cloudseg.trackers.live results/demo
    tensorboard --logdir results/demo/trackers/live

It reads each run's ``history.tsv`` and writes into ``trackers/live`` alone, so it may run beside Snakemake, and on
another machine that sees the files. Ctrl-C ends it; called again, it goes on where it was.
"""

import argparse
import fcntl
import os
import sys
import time
from pathlib import Path
from typing import IO

from cloudseg.errors import ConfigError, UserError
from cloudseg.storage.files import make_folder
from cloudseg.trackers.export import exporter
from cloudseg.trackers.run import TrackedRun, history_files, metrics, read_run

FOLDER = "trackers/live"
EVERY = 5.0  # seconds
PREFIX = "events.out.tfevents."


class Follower:
    """The event files of one folder of results.

    Parameters
    ----------
    results : such as ``results/demo``.

    Raises
    ------
    ConfigError : if there is no such folder, TensorBoard is not installed, or another follower is at work on it.
    """

    def __init__(self, results: str | Path) -> None:
        exporter("tensorboard")
        self.results = Path(results)
        if not self.results.is_dir():
            raise ConfigError(f"{results}: no such folder; expected one of results, such as results/demo")
        self.folder = self.results / FOLDER
        self._lock = _locked(self.folder)
        self._seen: dict[Path, tuple[float, int]] = {}
        self._written: dict[str, list[dict[str, float]]] = {}

    def update(self) -> int:
        """Append the epochs that are new; return how many there were."""
        count = 0
        for path in history_files(self.results):
            try:
                status = path.stat()
            except OSError:  # Snakemake removes the history of a training that begins anew
                continue
            stamp = status.st_mtime, status.st_size
            if self._seen.get(path) != stamp and (run := read_run(path.parent, self.results)):
                count += self._append(run)
                self._seen[path] = stamp
        return count

    def close(self) -> None:
        """Let others follow."""
        self._lock.close()

    def _append(self, run: TrackedRun) -> int:
        """Append the new epochs of a run; of one that was trained anew all of them, into a file of their own."""
        from cloudseg.trackers import events

        folder = self.folder / run.name
        paths = sorted(folder.glob(f"{PREFIX}*"))
        if run.name not in self._written:
            self._written[run.name] = _read(paths[-1]) if paths else []
        written = self._written[run.name]
        wanted = [_rounded(metrics(epoch)) for epoch in run.epochs]
        first = []
        if wanted[: len(written)] != written:
            paths.append(folder / f"{PREFIX}{len(paths):04d}")
            first, written = [events.restart(run.begun)], []
        new = len(wanted) - len(written)
        if new:
            path = paths[-1] if paths else folder / f"{PREFIX}0000"
            events.append(path, [*first, *events.epoch_events(run, after=len(written))])
        self._written[run.name] = wanted
        return new


def _read(path: Path) -> list[dict[str, float]]:
    """Return the numbers of the epochs in an event file, and cut off an event that a killed writer left half."""
    from cloudseg.trackers import events

    found = list(events.read(path))
    whole = found[-1][1] if found else 0
    if whole < path.stat().st_size:
        os.truncate(path, whole)
    summaries = [event.summary for event, _ in found if event.HasField("summary")]
    return [{value.tag: value.simple_value for value in summary.value} for summary in summaries]


def _rounded(values: dict[str, float]) -> dict[str, float]:
    """Return numbers as an event holds them, in float32."""
    from cloudseg.trackers import events

    return {value.tag: value.simple_value for value in events.summary_of(values).value}


def _locked(folder: Path) -> IO[str]:
    """Return the open file whose lock keeps a second follower out; the kernel frees it however this process ends."""
    make_folder(folder)
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError(f"{folder}: another process follows these trainings already") from error
    return lock


def main(words: list[str] | None = None) -> None:
    """Follow until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m cloudseg.trackers.live", description=__doc__.partition("\n")[0])
    parser.add_argument("results", help="folder of results, such as results/demo")
    parser.add_argument("--every", type=float, default=EVERY, metavar="SECONDS", help="how often to look")
    parser.add_argument("--once", action="store_true", help="write what there is, and end")
    arguments = parser.parse_args(words)
    try:
        follower = Follower(arguments.results)
    except UserError as error:
        sys.exit(f"Error: {error}")
    print(f"look at it with: tensorboard --logdir {follower.folder}", flush=True)
    try:
        while True:
            if count := follower.update():
                print(f"{time.strftime('%H:%M:%S')}: {count} new epochs", flush=True)
            if arguments.once:
                return
            time.sleep(arguments.every)
    except KeyboardInterrupt:
        print("ended; call this again to go on")
    finally:
        follower.close()


if __name__ == "__main__":
    main()
