"""Write the masks of a folder of images with a bundle."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

from cloudseg.bundle.folder import texts_of_images
from cloudseg.bundle.loaded import LoadedBundle, load
from cloudseg.config.labels import CLOUDS
from cloudseg.dataset.contest import sample_rows
from cloudseg.dataset.folder import list_images
from cloudseg.dataset.labels.submission import SubmissionForm
from cloudseg.ensemble.submission import Summary, write_rows
from cloudseg.errors import ConfigError
from cloudseg.texts import in_words, number_of


def predict_folder(
    bundle: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    sample: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Iterator[str]:
    """Write `submission.csv` for a folder of images, and yield what there is to say.

    Parameters
    ----------
    bundle : the file.
    images : the folder.
    out : the file to write.
    sample : a CSV with the rows of a submission, in their order; None is every class of every image, sorted by name.
    device, threads : as of :func:`cloudseg.bundle.loaded.load`.

    Raises
    ------
    UserError : for a file that is no bundle, an image that cannot be used, and a sample that asks for other images.
    """
    if Path(out).is_dir():
        raise ConfigError(f"{out}: expected the CSV to write, got a folder")
    names = list_images(images)
    loaded = load(bundle, device, threads)
    classes, networks = loaded.classes, number_of(len(loaded.predictor.settings.networks), "network")
    yield f"{bundle}: {loaded.bundle.provenance.ensemble}, {networks} on {loaded.predictor.device}"
    form = SubmissionForm.of_config(loaded.bundle.provenance.config, loaded.size)
    rows = None if sample is None else sample_rows(sample, form.entry, images, names, classes)
    began = time.perf_counter()
    summary = write_masks(loaded, images, names, out, rows, form, readers=os.cpu_count() or 1)
    yield f"{out}: {summary.rows} rows, {summary.filled} with a mask, in {in_words(time.perf_counter() - began)}"


def write_masks(
    loaded: LoadedBundle,
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
    loaded : the ensemble.
    images : the folder.
    names : of the images, sorted.
    out : the file to write.
    rows : image and class of each row; None is each class of each image.
    form : how they are written; None is the form of the clouds' contest.
    readers : threads that read and shrink images.
    """
    texts = texts_of_images(loaded.predictor, images, names, readers)
    wanted = product(names, loaded.classes) if rows is None else rows
    form = form or SubmissionForm(CLOUDS, loaded.size)
    return write_rows(texts, wanted, out, ids=names, classes=loaded.classes, form=form, source=images)
