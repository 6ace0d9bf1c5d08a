"""What a network was trained on, as one digest. Imports no torch."""

from pathlib import Path

from cloudseg.storage import files, stores


def data_digest(
    pixels: str | Path, folds: str | Path, *, test: str | Path | None = None, pseudo: str | Path | None = None
) -> str:
    """Return a digest of the images, their labels and the split, and of what else trains.

    Parameters
    ----------
    pixels : store of the training images at the training size.
    folds : table of folds.
    test : store of the test images, where these train, too.
    pseudo : store of the labels that networks made of them, where there is one.
    """
    data = {"pixels": stores.read(pixels).attrs.asdict(), "folds": Path(folds).read_text(encoding="utf-8")}
    # What does not train is no part of it: a training of before is known by its digest of before
    further = {"test": test, "pseudo": pseudo}
    data |= {name: stores.read(path).attrs.asdict() for name, path in further.items() if path is not None}
    return files.digest(data)
