"""Check one image: decode it and draw its labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from cloudseg.config.labels import Layout
from cloudseg.dataset.check import rules
from cloudseg.dataset.check.report import Finding
from cloudseg.dataset.contest import ContestFolder, Split
from cloudseg.dataset.decoding import ImageError, TurnedError, decode_image, decoding_bytes
from cloudseg.dataset.labels.interface import Encoding, Labels, digest_labels, texts_of
from cloudseg.dataset.resizing import resize_mask
from cloudseg.runtime.memory import MemoryBudget


@dataclass(frozen=True)
class CheckedImage:
    """What the check of one image found.

    Parameters
    ----------
    facts : its row of the images table; None if it cannot be used.
    findings : the rules that it breaks.
    parts : the area of the largest component of each class on the submission grid, where one is asked for.
    """

    facts: dict[str, object] | None
    findings: list[Finding]
    parts: dict[str, int] = field(default_factory=dict)


def check_image(
    folder: ContestFolder,
    split: Split,
    name: str,
    labels: Labels,
    budget: MemoryBudget,
    grid: tuple[int, int] | None,
) -> CheckedImage:
    """Check one image, waiting until there is memory for it.

    Parameters
    ----------
    folder, split, name : where it is.
    labels : of the training images.
    budget : memory that all threads share.
    grid : (height, width) on which the parts of the masks are measured, or None.
    """
    file = f"{folder.images_name(split)}/{name}"
    path = folder.images(split) / name
    needed = decoding_bytes(path)
    if budget.whole is not None and needed > budget.whole:
        got = f"{needed / 1e9:.2f} GB to read it, and {budget.whole / 1e9:.2f} GB for images"
        return CheckedImage(None, [Finding(rules.TOO_LARGE, file, got)])
    with budget.take(needed):
        return _check_image(path, file, split, labels, grid, folder.layout)


def _check_image(
    path: Path, file: str, split: Split, labels: Labels, grid: tuple[int, int] | None, layout: Layout
) -> CheckedImage:
    """Decode an image and draw its labels."""
    name = path.name
    try:
        data = path.read_bytes()
        pixels, colours = decode_image(data)
    except OSError as error:
        gone = path.is_symlink() and not path.exists()
        got = f"a symbolic link to {str(path.readlink())!r:.80}, which is not there" if gone else str(error.strerror)
        return CheckedImage(None, [Finding(rules.BAD_IMAGE, file, got)])
    except ImageError as error:
        rule = rules.TURNED if isinstance(error, TurnedError) else rules.BAD_IMAGE
        return CheckedImage(None, [Finding(rule, file, str(error))])
    findings = []
    if complaint := complaint_about_jpeg(data):
        broken = "premature" in complaint.lower()
        findings.append(Finding(rules.BAD_IMAGE if broken else rules.DAMAGED, file, complaint))
    if colours != "rgb":
        findings.append(Finding(rules.GREY if colours == "grey" else rules.ALPHA, file, ""))
    if not pixels.any():
        findings.append(Finding(rules.ALL_BLACK, file, ""))
    height, width = pixels.shape[:2]
    del pixels  # frees its memory for the masks
    facts: dict[str, object] = {
        "image": name,
        "split": split,
        "height": height,
        "width": width,
        "digest": hashlib.sha256(data).hexdigest(),
        "labels": "",
    }
    parts: dict[str, int] = {}
    if split == "train":
        encodings = labels.read(name)
        facts["labels"] = digest_labels(texts_of(encodings))
        for label, each in encodings.items():
            mask, wrong = _drawn(each, label, name, (height, width), layout)
            findings += [finding for finding in wrong if finding not in findings]
            facts[label] = int(mask.sum())
            if grid is not None:
                parts[label] = _largest_part(resize_mask(mask, grid))
    return CheckedImage(facts, findings, parts)


def _drawn(
    encodings: Sequence[Encoding], label: str, name: str, shape: tuple[int, int], layout: Layout
) -> tuple[np.ndarray, list[Finding]]:
    """Draw the mask of a class, as far as its encodings are sound, and say what is wrong with the others."""
    mask, findings = np.zeros(shape, np.uint8), []
    for encoding in encodings:
        try:
            mask |= encoding.draw(shape)
        except ValueError as error:
            rule = rules.of_label_error(error, layout)
            has_all_classes = rule in (rules.OTHER_SIZE, rules.BAD_MASK)
            whose = name if has_all_classes else f"{name}_{label}"
            got = f"{whose} ({shape[0]}x{shape[1]}): {error}"
            findings.append(Finding(rule, encoding.file, got, encoding.line))
    return mask, findings


def _largest_part(mask: np.ndarray) -> int:
    """Return the area of the largest 8-connected component of a mask, in pixels."""
    if not mask.any():
        return 0
    areas = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    return int(areas.max())


def complaint_about_jpeg(data: bytes) -> str | None:
    """Return libjpeg's complaint about the bytes of a JPEG file, or None.

    Pillow, like OpenCV, silently fills with grey what is missing before an end marker. Decoding at an eighth of the
    size reads all data and saves most of the work.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        return str(error)
    return None
