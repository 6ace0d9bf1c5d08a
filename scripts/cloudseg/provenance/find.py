"""Find out which submission of ours a file is, if it is one."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.dataset.labels.tables import HEADER
from cloudseg.ensemble.publish import PROVENANCE, provenance_beside
from cloudseg.provenance.content import Content, has_header, read_content
from cloudseg.provenance.record import Provenance


@dataclasses.dataclass(frozen=True)
class Known:
    """A provenance, and where the results that it tells of should lie.

    Parameters
    ----------
    path : of ``provenance.json``.
    provenance : what it says.
    results : the folder of the config's results, be it there or not.
    """

    path: Path
    provenance: Provenance = dataclasses.field(repr=False)
    results: Path

    @property
    def form(self) -> SubmissionForm:
        """How its submission is written."""
        return SubmissionForm.of_config(self.provenance.config, self.provenance.images.submission_size)

    @property
    def submission(self) -> Path:
        """The submission of the ensemble in the results."""
        return self.results / "ensembles" / self.provenance.ensemble / "submission.csv"


@dataclasses.dataclass(frozen=True)
class Match:
    """The provenance of a file, and how it was found.

    Parameters
    ----------
    known : the provenance.
    by : ``bytes`` are the same; ``content`` is the same, written otherwise; it lies ``beside`` and is of another file.
    """

    known: Known
    by: Literal["bytes", "content", "beside"]


def known_here(results: Path) -> list[Known]:
    """Return the provenance of every submission in a folder of results; what cannot be read is left out.

    The published ones come last, for where that of an ensemble is gone.
    """
    paths = [(path, path.parents[2]) for path in sorted(results.glob(f"*/ensembles/*/{PROVENANCE}"))]
    paths += [(path, path.parent) for path in sorted(results.glob(f"*/{provenance_beside('submission.csv')}"))]
    found = []
    for path, folder in paths:
        with contextlib.suppress(OSError, ValueError):
            found.append(Known(path, Provenance.read(path), folder))
    return found


def beside(submission: Path, results: Path) -> list[Known]:
    """Return the provenance that lies beside a file.

    Raises
    ------
    DamagedFileError : if it is there and cannot be read.
    """
    paths = [provenance_beside(submission), submission.with_name(PROVENANCE)]
    read = [(path, Provenance.read(path)) for path in paths if path.is_file()]
    return [Known(path, provenance, results / provenance.results_name) for path, provenance in read]


def find(submission: Path, content: Content, results: Path) -> Match | None:
    """Return the provenance of a file: that with its bytes, else with its content, else the one beside it.

    Parameters
    ----------
    submission : the file.
    content : what it holds.
    results : the folder with the results of all configs.
    """
    near = beside(submission, results)
    # Those in the results first, since they say where their results are
    here = submission.resolve().parent
    known = sorted(known_here(results), key=lambda each: each.path.resolve().parent != here)
    facts = content.facts
    for by, ours in (("bytes", "sha256"), ("content", "content")):
        for each in [*known, *near]:
            if getattr(each.provenance.csv, ours) == getattr(facts, ours):
                return Match(each, by)
    return Match(near[0], "beside") if near else None


def original(known: Known) -> Content | None:
    """Return the submission that a provenance is of, if it is still in the results."""
    with contextlib.suppress(ValueError):
        content = read_content(known.submission, [known.form])
        return content if content.sha256 == known.provenance.csv.sha256 else None
    return None


def nearest_facts(content: Content, known: Sequence[Known]) -> list[str]:
    """Say what a file that is not ours has in common with those that are."""
    facts = content.facts
    if not has_header(content, [each.form for each in known]):
        headers = sorted({",".join(each.form.header) for each in known}) or [",".join(HEADER)]
        return [f"its columns are {', '.join(content.header)[:80]}; a submission has {' or '.join(headers)}"]
    same_rows = [each for each in known if each.provenance.csv.names_sorted == facts.names_sorted]
    if not same_rows:
        others = sorted({str(each.provenance.csv.rows) for each in known})
        return [f"its {facts.rows} rows are of other images or classes than ours ({', '.join(others) or 'none'} rows)"]
    equal = []
    for each in same_rows:
        with contextlib.suppress(ValueError):
            apart = content.differences(read_content(each.submission, [each.form]))
            equal.append((len(apart), f"nearest: {each.submission}, the same rows; {_differing(apart, facts.rows)}"))
    return [min(equal)[1]] if equal else [f"it has the rows of {same_rows[0].path}"]


def _differing(names: Sequence[str], rows: int) -> str:
    return f"{len(names)} of {rows} masks differ, the first of {names[0]}" if names else "all masks are the same"
