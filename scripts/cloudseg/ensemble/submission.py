"""Write submission.csv from blended test probabilities, and read it back before anybody believes it."""

import csv
import dataclasses
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cloudseg.config.labels import CLOUDS, LabelsEntry
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.ensemble.blended import Blended
from cloudseg.ensemble.masking import Evidence, ImageRule
from cloudseg.errors import MachineError, StoreError
from cloudseg.postprocess import decode_rle
from cloudseg.postprocess.arguments import in_order
from cloudseg.runtime.job_progress import counting
from cloudseg.storage import files
from cloudseg.storage.some_images import pieces


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a submission holds."""

    rows: int
    filled: int  # images and classes with a mask


def write_submission(
    blend: str | Path,
    rule: ImageRule,
    sample: Iterable[tuple[str, str]],
    out: str | Path,
    *,
    whether: str | Path | None = None,
    form: LabelsEntry = CLOUDS,
    threads: int = 1,
) -> Summary:
    """Turn blended test probabilities into `submission.csv`, in the order of the sample.

    Every mask is decoded again and compared, and the file read back, before it gets its name. The texts wait on the
    disk, in an unnamed file beside `out` that is as large, so that memory takes a few numbers per image and no text.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 with the attributes `ids` and `classes`.
    rule : how the planes of an image become masks.
    sample : (image, class) of every row, in order.
    out : the file to write.
    whether : what tells whether a class is there, as :class:`cloudseg.ensemble.blended.Blended` reads it.
    form : how it is written.
    threads : the result does not depend on it.

    Raises
    ------
    StoreError : when the sample asks for an image or class that the blend does not hold.
    MachineError : when the file read back differs.
    """
    blended = Blended(blend, whether)
    written_as = SubmissionForm(form, blended.store.shape[2:])
    planes = _planes_of(sample, blended)
    with files.atomic(out) as temporary, tempfile.TemporaryFile(dir=temporary.parent) as spool:
        ends = np.fromiter(_write_texts(blended, rule, spool, threads), np.int64)
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(_rows(blended, planes, spool, ends, written_as))
        with temporary.open(newline="", encoding="utf-8") as file:
            written = itertools.zip_longest(csv.reader(file), _rows(blended, planes, spool, ends, written_as))
            rows = -1  # without the header
            for got, expected in written:
                if got != expected:
                    raise MachineError(f"{out}: what was written does not read back; is the disk full or failing?")
                rows += 1
    return Summary(rows, int(np.count_nonzero(np.diff(ends, prepend=0)[planes])))


def _planes_of(sample: Iterable[tuple[str, str]], blended: Blended) -> np.ndarray:
    """Return the plane of each row of the sample, int64: all classes of the first image of the blend come first."""
    row_of = {image: row for row, image in enumerate(blended.ids)}
    number_of = {label: number for number, label in enumerate(blended.classes)}
    strangers = []

    def planes() -> Iterator[int]:
        for image, label in sample:
            if image in row_of and label in number_of:
                yield row_of[image] * len(number_of) + number_of[label]
            else:
                strangers.append(f"{image}_{label}")
                yield -1

    found = np.fromiter(planes(), np.int64)
    if strangers:
        raise StoreError(
            f"{blended.path}: holds no probabilities for {strangers[0]} of the sample submission "
            f"({len(strangers)} of {len(found)} rows): the dataset changed; run the workflow again"
        )
    return found


def _write_texts(blended: Blended, rule: ImageRule, spool: BinaryIO, threads: int) -> Iterator[int]:
    """Write the texts of all planes, one after the other, and yield where each ends."""

    def texts_of(rows: slice) -> list[str]:
        planes, evidence = blended.planes(rows), blended.evidence(rows)
        texts = rule.texts(planes, evidence)
        _compare(texts, planes, rule, evidence)
        return texts

    end = 0
    with counting(len(blended.ids) * len(blended.classes), "rows") as done:
        for texts in in_order(texts_of, pieces(blended.store), threads):
            for text in texts:
                end += spool.write(text.encode())
                yield end
            done(len(texts))


def _rows(
    blended: Blended, planes: np.ndarray, spool: BinaryIO, ends: np.ndarray, form: SubmissionForm
) -> Iterator[list[str]]:
    """Yield the rows of the submission, the header first."""
    yield form.header
    for plane in planes.tolist():
        row, number = divmod(plane, len(blended.classes))
        first = ends[plane - 1] if plane else 0
        spool.seek(first)
        runs = spool.read(ends[plane] - first).decode()
        yield from form.rows(blended.ids[row], blended.classes[number], runs)


def _compare(texts: Sequence[str], planes: np.ndarray, rule: ImageRule, evidence: Evidence | None) -> None:
    """Hold decoded texts against masks made another way: compared, labelled and filtered plane by plane."""
    text = iter(texts)
    for number, image in enumerate(planes):
        for mask in rule.masks(image, evidence and evidence.of_image(number)):
            if not np.array_equal(decode_rle(next(text), mask.shape), mask):
                raise ValueError("a mask does not decode to what it was made from: a fault of the post-processing core")
