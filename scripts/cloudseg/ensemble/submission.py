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
    texts = _texts_of(blended, rule, threads)
    written_as = SubmissionForm(form, blended.store.shape[2:])
    ids, classes = blended.ids, blended.classes
    return write_rows(texts, sample, out, ids=ids, classes=classes, form=written_as, source=blended.path)


def write_rows(
    texts: Iterable[str],
    sample: Iterable[tuple[str, str]],
    out: str | Path,
    *,
    ids: Sequence[str],
    classes: Sequence[str],
    form: SubmissionForm,
    source: str | Path,
) -> Summary:
    """Write the run-length texts of images as `submission.csv`, in the order of the sample.

    Parameters
    ----------
    texts : of all classes of the first image, of the second, and so on; they are asked for one by one.
    sample : (image, class) of every row, in order.
    out : the file to write.
    ids, classes : names, in the order of the texts.
    form : how it is written.
    source : what the texts are of, for a message.

    Raises
    ------
    StoreError : when the sample asks for an image or class that there is no text of.
    MachineError : when the file read back differs.
    """
    rows = _Rows(ids, classes, form)
    planes = rows.planes_of(sample, source)
    with files.atomic(out) as temporary, tempfile.TemporaryFile(dir=temporary.parent) as spool:
        ends = np.fromiter(_write_texts(texts, spool), np.int64)
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows.of(planes, spool, ends))
        with temporary.open(newline="", encoding="utf-8") as file:
            written = itertools.zip_longest(csv.reader(file), rows.of(planes, spool, ends))
            count = -1  # without the header
            for got, expected in written:
                if got != expected:
                    raise MachineError(f"{out}: what was written does not read back; is the disk full or failing?")
                count += 1
    return Summary(count, int(np.count_nonzero(np.diff(ends, prepend=0)[planes])))


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows of a submission; a plane is known by its number, all classes of the first image coming first."""

    ids: Sequence[str]
    classes: Sequence[str]
    form: SubmissionForm

    def planes_of(self, sample: Iterable[tuple[str, str]], source: str | Path) -> np.ndarray:
        """Return the plane of each row of the sample, int64."""
        row_of = {image: row for row, image in enumerate(self.ids)}
        number_of = {label: number for number, label in enumerate(self.classes)}
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
                f"{source}: holds no probabilities for {strangers[0]} of the sample submission "
                f"({len(strangers)} of {len(found)} rows): the dataset changed; run the workflow again"
            )
        return found

    def of(self, planes: np.ndarray, spool: BinaryIO, ends: np.ndarray) -> Iterator[list[str]]:
        """Yield the rows of the submission, the header first."""
        yield self.form.header
        for plane in planes.tolist():
            row, number = divmod(plane, len(self.classes))
            first = ends[plane - 1] if plane else 0
            spool.seek(first)
            runs = spool.read(ends[plane] - first).decode()
            yield from self.form.rows(self.ids[row], self.classes[number], runs)


def _texts_of(blended: Blended, rule: ImageRule, threads: int) -> Iterator[str]:
    def of_some(rows: slice) -> list[str]:
        return proven_texts(rule, blended.planes(rows), blended.evidence(rows))

    with counting(len(blended.ids) * len(blended.classes), "rows") as done:
        for texts in in_order(of_some, pieces(blended.store), threads):
            yield from texts
            done(len(texts))


def _write_texts(texts: Iterable[str], spool: BinaryIO) -> Iterator[int]:
    """Write texts one after the other, and yield where each ends."""
    end = 0
    for text in texts:
        end += spool.write(text.encode())
        yield end


def proven_texts(rule: ImageRule, planes: np.ndarray, evidence: Evidence | None) -> list[str]:
    """Return the run-length text of each mask of some images, once each has been decoded and compared.

    They are held against masks made another way: compared, labelled and filtered plane by plane.

    Parameters
    ----------
    rule : how planes become masks.
    planes : uint8 (N, C, H, W).
    evidence : of these images; None is that of the planes themselves.

    Raises
    ------
    ValueError : when a text is not that of its mask.
    """
    texts = rule.texts(planes, evidence)
    text = iter(texts)
    for number, image in enumerate(planes):
        for mask in rule.masks(image, evidence and evidence.of_image(number)):
            if not np.array_equal(decode_rle(next(text), mask.shape), mask):
                raise ValueError("a mask does not decode to what it was made from: a fault of the post-processing core")
    return texts
