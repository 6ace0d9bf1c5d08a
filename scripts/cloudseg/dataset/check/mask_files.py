"""Check which mask files there are: that each is of an image and a class, and alone."""

from collections.abc import Sequence

from cloudseg.dataset.check import rules
from cloudseg.dataset.check.report import Finding, Report
from cloudseg.dataset.contest import ContestFolder
from cloudseg.dataset.labels.mask_files import MaskFiles, list_files


def check_mask_files(
    folder: ContestFolder, names: Sequence[str], classes: Sequence[str], report: Report
) -> MaskFiles | None:
    """Check the names of mask files; what is in them is checked with their images.

    Parameters
    ----------
    folder : the data set.
    names : of the training images.
    classes : names of the classes.
    report : gets the findings.

    Returns
    -------
    MaskFiles or None : the masks of these images; None if their folder is missing.
    """
    shown, entry = folder.layout.labels_name, folder.layout.labels
    if not folder.labels.is_dir():
        report.findings.append(Finding(rules.of_layout(rules.NO_SUCH_FILE, folder.layout), shown, "no such folder"))
        return None
    masks, others = list_files(folder.labels)
    files = MaskFiles(entry, names, classes, masks)
    report.findings += [Finding(rules.NO_MASK, f"{shown}/{name}", "") for name in others]
    for file in files.strangers if names else ():
        wanted = f"{shown}/{files.key(names[0], classes[0])}.png"
        got = f"the mask of {names[0]!r:.80} would be {wanted}"
        report.findings.append(Finding(rules.MASK_WITHOUT_IMAGE, f"{shown}/{file}", got))
    for image, several in files.several():
        got = ", ".join(f"{shown}/{file}" for file in several)
        report.findings.append(Finding(rules.TWO_FORMATS, f"{folder.images_name('train')}/{image}", got))
    return files
