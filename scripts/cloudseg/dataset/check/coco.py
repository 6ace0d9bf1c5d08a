"""Check a COCO file: that its entries name images, classes and each other."""

from collections.abc import Sequence

from cloudseg.config.names import nearest
from cloudseg.dataset.check import rules
from cloudseg.dataset.check.report import Finding, Report
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.coco import CocoAnnotations, index_coco, load_coco
from cloudseg.dataset.labels.interface import LabelError


def check_coco(
    folder: ContestFolder, names: Sequence[str], classes: Sequence[str], report: Report
) -> CocoAnnotations | None:
    """Check the entries of a COCO file; the outlines are checked with their images.

    Parameters
    ----------
    folder : the data set.
    names : of the training images.
    classes : names of the classes.
    report : gets the findings.

    Returns
    -------
    CocoAnnotations or None : of these images; None if the file is missing or cannot be read.
    """
    shown = folder.layout.labels_name
    if not folder.labels.is_file():
        report.findings.append(Finding(rules.of_layout(rules.NO_SUCH_FILE, folder.layout), shown, "no such file"))
        return None
    try:
        content = load_coco(folder.labels, shown)
    except LabelError as error:
        report.findings.append(Finding(rules.BAD_COCO, shown, error.reason))
        return None
    if not content["images"]:
        report.findings.append(Finding(rules.BAD_COCO, shown, "no image in its list `images`"))
        return None
    annotations, problems = index_coco(content, names, classes, folder.list_images("test"))
    kinds = {
        "entry": rules.BAD_ENTRY,
        "twice": rules.SAME_COCO_ID,
        "image": rules.of_layout(rules.NO_SUCH_IMAGE, folder.layout),
        "class": rules.NO_SUCH_CATEGORY,
        "id": rules.NO_SUCH_ID,
        "other class": rules.OTHER_CATEGORY,
    }
    categories = [str(each.get("name")) for each in content["categories"] if isinstance(each, dict)]
    for kind, got in problems:
        if kind == "image" and not names:
            continue  # an empty folder is a finding of its own
        said = got + (nearest(got, categories) if kind == "class" else "")
        report.findings.append(Finding(kinds[kind], shown, said))
    return annotations
