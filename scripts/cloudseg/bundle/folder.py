"""Segment the images of a folder: read and shrunk on threads while networks compute, in groups that stay small."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from pathlib import Path

import numpy as np

from cloudseg.config.labels import CLOUDS
from cloudseg.dataset.decoding import ImageError, decode_image, decoding_bytes
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.ensemble.submission import Summary, proven_texts, write_rows
from cloudseg.errors import DatasetError
from cloudseg.inference.ensemble import EnsemblePredictor, EnsembleSettings, Segmentation, Views
from cloudseg.runtime.job_progress import counting
from cloudseg.runtime.memory import OVERHEAD, MemoryBudget

DECODED_BYTES = 3500 * 10**6
"""What images that are decoded at the same time may take, as jobs ask for (`mb_for_images`); a larger one is alone."""


def write_masks(
    predictor: EnsemblePredictor,
    images: str | Path,
    names: Sequence[str],
    out: str | Path,
    rows: Iterable[tuple[str, str]] | None = None,
    form: SubmissionForm | None = None,
    *,
    readers: int = 1,
) -> Summary:
    """Write the masks of images as a submission.

    Parameters
    ----------
    predictor : the ensemble.
    images : the folder.
    names : of the images, sorted.
    out : the file to write.
    rows : image and class of each row; None is each class of each image.
    form : how they are written; None is the form of the clouds' contest.
    readers : threads that read and shrink images.
    """
    settings = predictor.settings
    texts = texts_of_images(predictor, images, names, readers)
    wanted = product(names, settings.classes) if rows is None else rows
    form = form or SubmissionForm(CLOUDS, settings.size)
    return write_rows(texts, wanted, out, ids=names, classes=settings.classes, form=form, source=images)


def segment_images(
    predictor: EnsemblePredictor, folder: str | Path, names: Sequence[str], threads: int = 1
) -> Iterator[Segmentation]:
    """Yield what an ensemble says of images of a folder, some at a time, in their order.

    Parameters
    ----------
    predictor : the ensemble.
    folder : with the images.
    names : of the images.
    threads : that read and shrink images; the result does not depend on it.

    Raises
    ------
    DatasetError : naming an image that cannot be used.
    """
    settings = predictor.settings
    views = _read_ahead(settings, Path(folder), names, threads)
    with counting(len(names), "images") as done:
        while group := list(islice(views, settings.images_at_once)):
            yield predictor.segment(group)
            done(len(group))


def texts_of_images(
    predictor: EnsemblePredictor, folder: str | Path, names: Sequence[str], threads: int = 1
) -> Iterator[str]:
    """Yield the run-length texts of images of a folder: of all classes of the first image, of the second, and so on.

    They are made, and compared with their masks, while networks compute the next images.
    """
    rule = predictor.settings.rule
    with ThreadPoolExecutor(1) as pool:
        before = None
        for said in segment_images(predictor, folder, names, threads):
            under_way = pool.submit(proven_texts, rule, said.probabilities, said.evidence)
            if before is not None:
                yield from before.result()
            before = under_way
        if before is not None:
            yield from before.result()


def _read_ahead(settings: EnsembleSettings, folder: Path, names: Sequence[str], threads: int) -> Iterator[Views]:
    """Yield the images as the networks see them; those of the next group are read while one is computed."""
    waiting, budget = iter(names), MemoryBudget(OVERHEAD + DECODED_BYTES)

    def read(name: str) -> Views:
        with budget.take(decoding_bytes(folder / name)):
            return Views.of(_load(folder / name), settings)

    with ThreadPoolExecutor(threads) as pool:
        ahead = deque(pool.submit(read, name) for name in islice(waiting, settings.images_at_once + threads))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(read, name) for name in islice(waiting, 1))


def _load(path: Path) -> np.ndarray:
    try:
        return decode_image(path.read_bytes())[0]
    except (ImageError, OSError) as error:
        raise DatasetError(f"{path}: cannot be used ({error}); replace or remove it") from None
