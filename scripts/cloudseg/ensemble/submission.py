"""Write submission.csv from blended test probabilities, and read it back before anybody believes it."""

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cloudseg import files, stores
from cloudseg.postprocess import decode_rle, remove_small_components, segment

HEADER = ["Image_Label", "EncodedPixels"]
BLOCK = 32  # images in memory at once


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a submission holds."""

    rows: int
    filled: int  # rows with a mask


def write_submission(
    blend: str | Path,
    decision: Mapping[str, Mapping[str, Any]],
    sample: Sequence[tuple[str, str]],
    out: str | Path,
    *,
    threads: int = 1,
) -> Summary:
    """Turn blended test probabilities into `submission.csv`, in the order of the sample.

    The file is read back before it gets its name: every row present, every mask the one that the decision gives.

    Parameters
    ----------
    blend : store (image, class, y, x) uint8 with the attributes `ids` and `classes`.
    decision : per class the `level` from which a pixel is in, and the `min_size` from which a component stays.
    sample : (image, class) of every row, in order.
    out : the file to write.
    threads : the result does not depend on it.

    Raises
    ------
    ValueError : when the sample asks for an image or class that the blend does not hold, or the file read back differs.
    """
    probabilities = stores.read(blend)
    ids, classes = list(probabilities.attrs["ids"]), list(probabilities.attrs["classes"])
    _refuse_strangers(blend, sample, ids, classes)
    thresholds = [decision[name]["level"] / 255 for name in classes]
    min_sizes = [decision[name]["min_size"] for name in classes]
    masks: dict[tuple[str, str], str] = {}
    for names, block in _blocks(probabilities, ids):
        texts = segment(block, thresholds, min_sizes, threads=threads)
        masks.update(zip(((image, label) for image in names for label in classes), texts, strict=True))
    with files.atomic(out) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows([f"{image}_{label}", masks[image, label]] for image, label in sample)
        _read_back(temporary, sample, probabilities, decision)
    return Summary(len(sample), sum(bool(masks[row]) for row in sample))


def _blocks(probabilities: Any, ids: list[str]) -> Iterator[tuple[list[str], np.ndarray]]:
    with tqdm(total=len(ids), unit=" images", disable=None) as bar:
        for start in range(0, len(ids), BLOCK):
            names = ids[start : start + BLOCK]
            yield names, stores.images(probabilities, slice(start, start + len(names)))
            bar.update(len(names))


def _refuse_strangers(
    blend: str | Path, sample: Sequence[tuple[str, str]], ids: Sequence[str], classes: Sequence[str]
) -> None:
    known = {(image, label) for image in ids for label in classes}
    if strangers := [f"{image}_{label}" for image, label in sample if (image, label) not in known]:
        raise ValueError(
            f"{blend}: holds no probabilities for {strangers[0]} of the sample submission "
            f"({len(strangers)} of {len(sample)} rows): the dataset changed; run the workflow again"
        )


def _read_back(
    file: Path,
    sample: Sequence[tuple[str, str]],
    probabilities: Any,
    decision: Mapping[str, Mapping[str, Any]],
) -> None:
    """Compare the masks in `file` with masks made another way: compared, labelled and filtered plane by plane."""
    with file.open(newline="", encoding="utf-8") as text:
        rows = list(csv.reader(text))
    if rows[0] != HEADER or [row[0] for row in rows[1:]] != [f"{image}_{label}" for image, label in sample]:
        raise ValueError(f"{file}: the rows read back are not those of the sample submission")
    written = dict(zip(sample, (row[1] for row in rows[1:]), strict=True))
    classes = list(probabilities.attrs["classes"])
    for names, block in _blocks(probabilities, list(probabilities.attrs["ids"])):
        for image, planes in zip(names, block, strict=True):
            for label, plane in zip(classes, planes, strict=True):
                if (image, label) in written:
                    mask = (plane >= decision[label]["level"]).view(np.uint8)
                    mask = remove_small_components(mask, decision[label]["min_size"])
                    if not np.array_equal(decode_rle(written[image, label], mask.shape), mask):
                        raise ValueError(f"{file}: the mask of {image}_{label} does not read back as it was written")
