"""Write the masks of a folder of images with a bundle."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from cloudseg.bundle.folder import write_masks
from cloudseg.bundle.loaded import load
from cloudseg.dataset.contest import sample_rows
from cloudseg.dataset.folder import list_images
from cloudseg.dataset.labels.submission import SubmissionForm
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
    summary = write_masks(loaded.predictor, images, names, out, rows, form, readers=os.cpu_count() or 1)
    yield f"{out}: {summary.rows} rows, {summary.filled} with a mask, in {in_words(time.perf_counter() - began)}"
