"""Write submission.csv from blended test probabilities, and read it back before anybody believes it."""

import csv
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cloudseg.dataset.contest import HEADER
from cloudseg.ensemble.blended import Blended
from cloudseg.ensemble.masking import Evidence, ImageRule
from cloudseg.errors import MachineError, StoreError
from cloudseg.postprocess import decode_rle
from cloudseg.runtime.job_progress import counting
from cloudseg.storage import files

BLOCK = 8  # images that a thread holds in memory at once


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a submission holds."""

    rows: int
    filled: int  # rows with a mask


def write_submission(
    blend: str | Path,
    rule: ImageRule,
    sample: Sequence[tuple[str, str]],
    out: str | Path,
    *,
    whether: str | Path | None = None,
    threads: int = 1,
) -> Summary:
    """Turn blended test probabilities into `submission.csv`, in the order of the sample.

    Every mask is decoded again and compared, and the file read back, before it gets its name.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 with the attributes `ids` and `classes`.
    rule : how the planes of an image become masks.
    sample : (image, class) of every row, in order.
    out : the file to write.
    whether : what tells whether a class is there, as :class:`cloudseg.ensemble.blended.Blended` reads it.
    threads : the result does not depend on it.

    Raises
    ------
    StoreError : when the sample asks for an image or class that the blend does not hold.
    MachineError : when the file read back differs.
    """
    blended = Blended(blend, whether)
    _refuse_strangers(blend, sample, blended.ids, blended.classes)

    def masks_of(start: int) -> list[str]:
        rows = slice(start, min(start + BLOCK, len(blended.ids)))
        planes, evidence = blended.planes(rows), blended.evidence(rows)
        texts = rule.texts(planes, evidence)
        _compare(texts, planes, rule, evidence)
        return texts

    names = [(image, label) for image in blended.ids for label in blended.classes]
    masks: dict[tuple[str, str], str] = {}
    with ThreadPoolExecutor(threads) as pool, counting(len(names), "rows") as done:
        for texts in pool.map(masks_of, range(0, len(blended.ids), BLOCK)):
            masks.update(zip(names[len(masks) : len(masks) + len(texts)], texts, strict=True))
            done(len(texts))
    rows = [HEADER, *([f"{image}_{label}", masks[image, label]] for image, label in sample)]
    with files.atomic(out) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        with temporary.open(newline="", encoding="utf-8") as file:
            if list(csv.reader(file)) != rows:
                raise MachineError(f"{out}: what was written does not read back; is the disk full or failing?")
    return Summary(len(sample), sum(bool(masks[row]) for row in sample))


def _compare(texts: Sequence[str], planes: np.ndarray, rule: ImageRule, evidence: Evidence | None) -> None:
    """Hold decoded texts against masks made another way: compared, labelled and filtered plane by plane."""
    text = iter(texts)
    for number, image in enumerate(planes):
        for mask in rule.masks(image, evidence and evidence.of_image(number)):
            if not np.array_equal(decode_rle(next(text), mask.shape), mask):
                raise ValueError("a mask does not decode to what it was made from: a fault of the post-processing core")


def _refuse_strangers(
    blend: str | Path, sample: Sequence[tuple[str, str]], ids: Sequence[str], classes: Sequence[str]
) -> None:
    known = {(image, label) for image in ids for label in classes}
    if strangers := [f"{image}_{label}" for image, label in sample if (image, label) not in known]:
        raise StoreError(
            f"{blend}: holds no probabilities for {strangers[0]} of the sample submission "
            f"({len(strangers)} of {len(sample)} rows): the dataset changed; run the workflow again"
        )
