"""Look at a submission: read it, hold it against training, and return all that a page or a terminal shows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudseg.dataset.contest import ContestFolder, Root
from cloudseg.ensemble.decision import Decision
from cloudseg.studies.sanity import findings
from cloudseg.studies.sanity.findings import Findings
from cloudseg.studies.sanity.judging import judge
from cloudseg.studies.sanity.submission import Form, Submission, read_submission
from cloudseg.studies.sanity.training import Training, read_training


@dataclass(frozen=True)
class Sanity:
    """What a look at a submission found.

    Parameters
    ----------
    path : the file.
    submission, training : what was read.
    findings : what is odd.
    seconds : that the look took.
    """

    path: str
    submission: Submission
    training: Training
    findings: Findings
    seconds: float

    @property
    def is_sane(self) -> bool:
        """Whether there is no fault; warnings do not count."""
        return self.findings.counts()[0] == 0

    @property
    def head(self) -> str:
        """One line that says what there is."""
        rows, filled = len(self.submission.rows), len(self.submission.filled)
        trained = self.training.present.mean() if self.training.present.size else 0.0
        share = f" ({100 * filled / rows:.1f} %; training has {100 * trained:.1f} %)" if rows else ""
        return f"{self.path}: {rows:,} rows, {filled:,} with a mask{share}"

    @property
    def verdict(self) -> str:
        """How many faults and warnings there are."""
        return findings.verdict(self.findings)

    def __str__(self) -> str:
        """Return the text for a terminal."""
        return findings.as_text(self.findings, f"{self.head}, read in {self.seconds:.1f} s")


def look_at(path: str | Path, form: Form, training: Training, *, own: bool, threads: int = 1) -> Sanity:
    """Look at a submission.

    Parameters
    ----------
    path : the file, ours or not.
    form : what a submission to this data set must be.
    training : the masks of training.
    own : whether it must be as the config's decision makes it.
    threads : masks are measured by so many threads; the result does not depend on it.

    Raises
    ------
    DatasetError : if there is no such file.
    """
    started = time.perf_counter()
    found = Findings()
    submission = read_submission(path, form, found, threads=threads)
    judge(submission, training, found, own=own)
    return Sanity(str(path), submission, training, found, time.perf_counter() - started)


def look_at_own(
    path: str | Path,
    decision: Decision,
    *,
    images: str | Path,
    truth: str | Path,
    root: Root,
    grid: tuple[int, int],
    threads: int = 1,
) -> Sanity:
    """Look at the submission that a decision of ours made; the other arguments are those of `data_set`."""
    cuts = decision.cuts
    form, training = data_set(
        list(cuts), grid, [cut.min_size for cut in cuts.values()], images=images, truth=truth, root=root
    )
    return look_at(path, form, training, own=True, threads=threads)


def data_set(
    classes: Sequence[str],
    grid: tuple[int, int],
    min_sizes: Sequence[int],
    *,
    images: str | Path,
    truth: str | Path,
    root: Root,
) -> tuple[Form, Training]:
    """Return what a submission to a data set must be, and what its training masks are like.

    Parameters
    ----------
    classes : names of the classes.
    grid : (height, width) of the masks.
    min_sizes : per class, in pixels.
    images : the table of the training images that the dataset check wrote.
    truth : store (image, class, y, x) uint8 0/1.
    root : the folder in the contest's layout.
    """
    training = read_training(images, truth, classes, min_sizes)
    folder = ContestFolder.of(root)
    rows = list(folder.submission_rows(classes))
    form = Form(rows, training.names, list(classes), grid, list(min_sizes), folder.layout.submission)
    return form, training
