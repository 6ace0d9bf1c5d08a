"""Tell by the shapes of masks in which order their pixels were counted."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from cloudseg.dataset.contest import ContestFolder, Root
from cloudseg.dataset.labels.opening import open_labels


def counted_along_rows(
    root: Root, sizes: Mapping[str, tuple[int, int]], classes: Sequence[str], images: int = 20
) -> bool | None:
    """Tell whether the labels of a table count pixels along the rows in place of down the columns.

    A shape goes on in the next column, so its run lengths resemble themselves one column later.

    Parameters
    ----------
    root : the folder in the contest's layout.
    sizes : (height, width) of the training images by name.
    classes : names of the classes.
    images : that are looked at, evenly spread.

    Returns
    -------
    bool or None : None where it cannot be told, such as for square images and labels that are no run lengths.
    """
    folder = ContestFolder.of(root)
    if folder.layout.labels.format != "rle":
        return None
    flat_order: Literal["C", "F"] = "F" if folder.layout.labels.order == "columns" else "C"
    names = [name for name, (height, width) in sizes.items() if height != width]
    chosen = [names[row] for row in np.unique(np.linspace(0, len(names) - 1, min(images, len(names))).astype(int))]
    labels = open_labels(folder, set(chosen), classes)
    down = along = area = 0
    for name in chosen:
        for encodings in labels.read(name).values():
            for encoding in {each.text: each for each in encodings}.values():
                flat = encoding.draw(sizes[name]).reshape(-1, order=flat_order)
                down, along = (
                    total + continued(flat, step) for total, step in zip((down, along), sizes[name], strict=True)
                )
                area += int(np.count_nonzero(flat))
    if not area or max(down, along) < 0.85 * area or abs(down - along) < 0.1 * area:
        return None
    return along > down


def continued(flat: np.ndarray, step: int) -> int:
    """Return how many pixels of a flat mask have another one `step` pixels later.

    Examples
    --------
    >>> continued(np.array([1, 1, 0, 1], np.uint8), 2)
    1
    """
    return int(np.count_nonzero(flat[step:] & flat[:-step])) if 0 < step < flat.size else 0
