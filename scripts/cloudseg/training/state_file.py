"""The state of a training between two epochs, so that one that was killed goes on as if nothing had happened.

It lies beside the run's outputs and is no output of the rule: Snakemake deletes what a failed job has made.
"""

import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from cloudseg.runtime.background import BackgroundWriter
from cloudseg.runtime.devices import compute_dtype
from cloudseg.runtime.watchdog import STUCK_AFTER
from cloudseg.storage import files
from cloudseg.training.finished import STATE
from cloudseg.training.job import TrainingJob
from cloudseg.training.signals import ignoring_signals

WRITE_EVERY = 10  # seconds; written after each, epochs of a second or two would take a tenth longer


class StateFile:
    """The one file that holds the state of a training.

    The training thread only copies what the next epoch will change; another thread writes the copy, beside the file,
    and then gives it its name. Of epochs that follow each other within `WRITE_EVERY` the last is kept in memory, and
    written with :meth:`close`: a training that is stopped loses no epoch, and one that is killed loses those of the
    last `WRITE_EVERY` seconds and the one that was being written.

    Parameters
    ----------
    path : of the file.
    digest : of everything that decides the result of an epoch. A file of another digest is ignored.
    stuck_after : seconds after which a write counts as stuck.
    """

    def __init__(self, path: str | Path, digest: str, *, stuck_after: float = STUCK_AFTER) -> None:
        self.path, self._digest = Path(path), digest
        self._writing = BackgroundWriter(1, stuck_after=stuck_after, name="state")
        self._kept: dict[str, Any] | None = None  # of an epoch that is not written yet
        self._written = -float("inf")  # when the last write began

    def read(self, say: Callable[[str], None] = print) -> dict[str, Any] | None:
        """Return the state, or None when there is none that belongs to this training and is whole; ``say`` why.

        Raises
        ------
        OSError, MemoryError : if it cannot be read, though it may be whole.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                if broken := archive.testzip():  # torch.load skips the checksums
                    raise zipfile.BadZipFile(f"{broken} fails its checksum")
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (OSError, MemoryError):  # the file may be whole: days of work must not be given up for that
            raise
        except Exception as error:  # torch names no class for a file that was cut short
            say(f"{self.path}: not a whole state ({type(error).__name__}); training from the beginning")
            return None
        if state.pop("digest") != self._digest:
            say(f"{self.path}: of another recipe, other data or other code; training from the beginning")
            return None
        return state

    def keep(self, state: Mapping[str, Any], unchanging: Mapping[str, Any] | None = None) -> bool:
        """Keep a state, and write it while training goes on unless the last write was just now.

        Parameters
        ----------
        state : tensors and plain values, which are copied before this returns.
        unchanging : more of them, that nobody will change and that need no copy.

        Returns
        -------
        bool : whether it is being written.

        Raises
        ------
        Exception : of the write before, as of :meth:`cloudseg.runtime.background.BackgroundWriter.submit`, with the
            path.
        """
        self._kept = _copied(state) | dict(unchanging or {}) | {"digest": self._digest}
        if time.monotonic() - self._written < WRITE_EVERY:
            return False
        self._write_kept()
        return True

    def _write_kept(self) -> None:
        if self._kept is not None:
            self._writing.submit(str(self.path), self._write, self._kept)
            self._kept, self._written = None, time.monotonic()

    def _write(self, state: dict[str, Any]) -> None:
        with files.atomic(self.path) as temporary:
            torch.save(state, temporary)

    def close(self) -> None:
        """Write what is kept and finish, whatever signals come."""
        with ignoring_signals():
            try:
                self._write_kept()
            finally:
                self._writing.close()


def state_file_of(job: TrainingJob, device: torch.device) -> StateFile:
    """Return the file of a training's state, which knows by a digest of all that decides an epoch what is its own.

    Parameters
    ----------
    device : its type counts, and the precision that it computes in. Of the recipe all but ``epochs`` and ``stages``
        counts, which a state knows by itself: later epochs may be others.
    """
    decides = job.identity | {"recipe": job.recipe.model_dump(mode="json", exclude={"epochs", "stages"})}
    decides |= {"data": job.data_digest(), "weights": files.sha256(job.weights)}
    decides |= {"loss_size": job.loss_size, "device": device.type}
    decides |= {"precision": str(compute_dtype(job.recipe.precision, device)), "torch": torch.__version__}
    return StateFile(Path(job.outputs["last"]).with_name(STATE), files.digest(decides))


def _copied(value: Any) -> Any:
    """Return a copy on the CPU whose tensors share no memory with those of the training."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value
