"""Open the labels of a data set, whatever their form."""

from collections.abc import Collection, Sequence

from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.coco import CocoAnnotations, CocoLabels, index_coco, load_coco
from cloudseg.dataset.labels.interface import LabelIndex, Labels
from cloudseg.dataset.labels.mask_files import MaskFiles, list_files
from cloudseg.dataset.labels.masks import MaskLabels
from cloudseg.dataset.labels.rle import RleLabels
from cloudseg.dataset.labels.rows import LabelRows


def open_labels(folder: ContestFolder, images: Collection[str], classes: Sequence[str]) -> Labels:
    """Return the labels of some training images of a data set that has passed the dataset check.

    Parameters
    ----------
    folder : the data set.
    images : names of the images; a set makes this fast.
    classes : names of the classes.
    """
    entry, shown = folder.layout.labels, folder.layout.labels_name
    if entry.format == "rle":
        return RleLabels.index(folder.train_table, images, classes, entry)
    if entry.format == "masks":
        return labels_of(folder, MaskFiles(entry, images, classes, list_files(folder.labels)[0]))
    return labels_of(folder, index_coco(load_coco(folder.labels, shown), list(images), classes, ())[0])


def labels_of(folder: ContestFolder, index: LabelIndex) -> Labels:
    """Return the labels that an index of them finds."""
    if isinstance(index, MaskFiles):
        return MaskLabels(folder.labels, folder.layout.labels_name, index)
    if isinstance(index, CocoAnnotations):
        return CocoLabels(folder.layout.labels_name, index)
    assert isinstance(index, LabelRows)
    return RleLabels(folder.train_table, index, folder.layout.labels)
