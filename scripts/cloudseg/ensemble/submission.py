"""Write submission.csv from blended test probabilities, and read it back before anybody believes it."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cloudseg.dataset.contest import HEADER
from cloudseg.errors import MachineError, StoreError
from cloudseg.postprocess import Cut, decode_rle, segment
from cloudseg.runtime.job_progress import counting
from cloudseg.storage import files, stores

BLOCK = 8  # images that a thread holds in memory at once


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a submission holds."""

    rows: int
    filled: int  # rows with a mask


def write_submission(
    blend: str | Path,
    cuts: Mapping[str, Cut],
    sample: Sequence[tuple[str, str]],
    out: str | Path,
    *,
    threads: int = 1,
) -> Summary:
    """Turn blended test probabilities into `submission.csv`, in the order of the sample.

    Every mask is decoded again and compared, and the file read back, before it gets its name.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 with the attributes `ids` and `classes`.
    cuts : per class the level from which a pixel is in, and the minimum size from which a component stays.
    sample : (image, class) of every row, in order.
    out : the file to write.
    threads : the result does not depend on it.

    Raises
    ------
    StoreError : when the sample asks for an image or class that the blend does not hold.
    MachineError : when the file read back differs.
    """
    probabilities = stores.read(blend)
    ids, classes = list(probabilities.attrs["ids"]), list(probabilities.attrs["classes"])
    _refuse_strangers(blend, sample, ids, classes)
    ordered = [cuts[name] for name in classes]
    levels, min_sizes = [cut.level for cut in ordered], [cut.min_size for cut in ordered]

    def masks_of(start: int) -> list[str]:
        planes = stores.read_images(probabilities, slice(start, min(start + BLOCK, len(ids))))
        texts = segment(planes, levels=levels, min_sizes=min_sizes)
        _compare(texts, planes, ordered)
        return texts

    names = [(image, label) for image in ids for label in classes]
    masks: dict[tuple[str, str], str] = {}
    with ThreadPoolExecutor(threads) as pool, counting(len(names), "rows") as done:
        for texts in pool.map(masks_of, range(0, len(ids), BLOCK)):
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


def _compare(texts: Sequence[str], planes: np.ndarray, cuts: Sequence[Cut]) -> None:
    """Hold decoded texts against masks made another way: compared, labelled and filtered plane by plane."""
    text = iter(texts)
    for image in planes:
        for plane, cut in zip(image, cuts, strict=True):
            mask = cut.mask(plane)
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
