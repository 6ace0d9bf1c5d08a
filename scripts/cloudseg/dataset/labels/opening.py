"""Open the labels of a data set, whatever their form."""

from collections.abc import Collection, Sequence

from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.interface import Labels
from cloudseg.dataset.labels.rle import RleLabels


def open_labels(folder: ContestFolder, images: Collection[str], classes: Sequence[str]) -> Labels:
    """Return the labels of some training images of a data set that has passed the dataset check.

    Parameters
    ----------
    folder : the data set.
    images : names of the images; a set makes this fast.
    classes : names of the classes.
    """
    return RleLabels.index(folder.train_table, images, classes, folder.layout.labels)
